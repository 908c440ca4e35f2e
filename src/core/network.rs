//! Networks of addresses, in CIDR notation (RFC 4632, RFC 4291 section 2.3), and which addresses one client may have.

use core::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// The addresses whose first bits are the same. IPv4 addresses that are mapped into IPv6 count as IPv4, in a network as well as
/// among the addresses that are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address: all other bits are zero.
    address: IpAddr,
    /// At most 32 or 128.
    prefix_bits: u8,
}

impl Network {
    /// Whether `address` is one of the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix_bits) == self.address
    }
}

/// What stands for the client at `address`: whoever has one IPv6 address mostly has the 64 bits below as well, so its first 64
/// bits do. A loopback address stands for itself.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => masked(address.into(), 64),
        address => address,
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is neither an address nor a network such as 10.0.0.0/8 or fd00::/8");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits: u8 = prefix.map_or(Ok(widest), str::parse).map_err(|_| bad())?;
        if widest < prefix_bits {
            return Err(format!("`{text}`: the prefix of such an address has at most {widest} bits"));
        }
        let first = masked(address, prefix_bits);
        if first != address {
            return Err(format!("`{text}`: the network is {first}/{prefix_bits}"));
        }
        match (address.to_canonical(), prefix_bits.checked_sub(96)) {
            (mapped @ IpAddr::V4(_), Some(prefix_bits)) if address.is_ipv6() => {
                Ok(Self { address: mapped, prefix_bits })
            }
            _ => Ok(Self { address, prefix_bits }),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, prefix_bits } = self;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        if *prefix_bits == widest { address.fmt(f) } else { write!(f, "{address}/{prefix_bits}") }
    }
}

/// `address` with all but its first bits zero.
fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_stands_for_a_client() {
        let check = |address: &str, expected: &str| {
            let found = client_network(address.parse().expect("an address"));
            assert_eq!(found.to_string(), expected, "{address}");
        };
        check("203.0.113.7", "203.0.113.7");
        check("::ffff:203.0.113.7", "203.0.113.7");
        check("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::");
        check("::1", "::1");
    }
}
