//! The peers that may say who somebody else is.

use core::{
    fmt,
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

/// A list of peers. By default it is empty: nobody is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted(pub Vec<TrustedPeer>);

impl Trusted {
    /// Whether what this peer says of others is believed. `None` is a peer at a unix socket.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        self.0.iter().any(|trusted| trusted.matches(peer))
    }
}

/// One entry of the list: an address, a network such as `10.0.0.0/8`, or `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// The addresses whose first `prefix_bits` are those of `address`. An IPv4 address is never one within IPv6.
    Network {
        /// The first of them: all other bits are zero.
        address: IpAddr,
        /// At most 32 or 128.
        prefix_bits: u8,
    },
    /// Whoever connects through a unix socket.
    Unix,
}

impl TrustedPeer {
    fn matches(self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Self::Network { address, prefix_bits }, Some(peer)) => {
                address.is_ipv4() == peer.is_ipv4() && masked(peer, prefix_bits) == address
            }
            (Self::Unix, None) => true,
            _ => false,
        }
    }
}

impl FromStr for TrustedPeer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "unix" {
            return Ok(Self::Unix);
        }
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
        let address: IpAddr = address.parse().map_err(|_| bad_peer(text))?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits: u8 = prefix.map_or(Ok(widest), str::parse).map_err(|_| bad_peer(text))?;
        if widest < prefix_bits {
            return Err(format!("`{text}`: the prefix of such an address has at most {widest} bits"));
        }
        let first = masked(address, prefix_bits);
        if first != address {
            return Err(format!("`{text}`: the network is {first}/{prefix_bits}"));
        }
        Ok(canonical(address, prefix_bits))
    }
}

fn bad_peer(text: &str) -> String {
    format!("`{text}` is neither an address, nor a network such as 10.0.0.0/8 or fd00::/8, nor `unix`")
}

/// Peers are known by their IPv4 address where they have one, so networks of mapped addresses are, too.
fn canonical(address: IpAddr, prefix_bits: u8) -> TrustedPeer {
    match (address.to_canonical(), prefix_bits.checked_sub(96)) {
        (mapped @ IpAddr::V4(_), Some(prefix_bits)) if address.is_ipv6() => {
            TrustedPeer::Network { address: mapped, prefix_bits }
        }
        _ => TrustedPeer::Network { address, prefix_bits },
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network { address: IpAddr::V4(address), prefix_bits: 32 } => address.fmt(f),
            Self::Network { address: IpAddr::V6(address), prefix_bits: 128 } => address.fmt(f),
            Self::Network { address, prefix_bits } => write!(f, "{address}/{prefix_bits}"),
            Self::Unix => f.write_str("unix"),
        }
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
