//! Networks of addresses, in CIDR notation (RFC 4632, RFC 4291 section 2.3), and which addresses one client may have.

use core::{fmt, net::IpAddr, str::FromStr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// An address or a network of addresses. IPv4 addresses that are mapped into IPv6 (`::ffff:10.0.0.1`) count as IPv4, in a network
/// as well as among the addresses that are looked up in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether `address` is one of the network.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// The address that a client at `address` is counted under: the /64 network of an IPv6 address, since one customer mostly has all
/// of it. A loopback address is counted as it is.
pub fn client_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) if !address.is_loopback() => Ipv6Net::new_assert(address, 64).network().into(),
        address => address,
    }
}

impl FromStr for Network {
    type Err = String;

    /// `IpNet` alone would refuse an address without a prefix, and accept one with bits behind its prefix.
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is neither an address nor a network such as 10.0.0.0/8 or fd00::/8");
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let single = IpNet::from(address);
        let prefix_bits: u8 = prefix.map_or_else(|| Ok(single.max_prefix_len()), str::parse).map_err(|_| bad())?;
        let network = IpNet::new(address, prefix_bits).map_err(|_| {
            format!("`{text}`: the prefix of such an address has at most {} bits", single.max_prefix_len())
        })?;
        if network.network() != address {
            return Err(format!("`{text}`: the network is {}", network.trunc()));
        }
        Ok(Self(unmapped(network)))
    }
}

/// The IPv4 network that `network` maps into IPv6, if it does.
fn unmapped(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(mapped), Some(prefix_bits)) if network.max_prefix_len() == 128 => {
            Ipv4Net::new_assert(mapped, prefix_bits).into()
        }
        _ => network,
    }
}

/// As it is parsed: a single address without its prefix.
impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(network) = self;
        if network.prefix_len() == network.max_prefix_len() { network.addr().fmt(f) } else { network.fmt(f) }
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
