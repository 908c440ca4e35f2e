//! The proxies whose account of their clients is trusted.

use core::{fmt, net::IpAddr, str::FromStr};

use crate::network::Network;

/// A list of trusted peers. Empty by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trusted(pub Vec<TrustedPeer>);

impl Trusted {
    /// Whether `peer` is trusted. `None`: a peer at a unix socket.
    pub fn contains(&self, peer: Option<IpAddr>) -> bool {
        self.0.iter().any(|trusted| trusted.matches(peer))
    }
}

/// One entry of the list: an address, a network such as `10.0.0.0/8`, or `unix`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrustedPeer {
    /// Peers with one of these addresses.
    Network(Network),
    /// Peers at a unix socket.
    Unix,
}

impl TrustedPeer {
    fn matches(self, peer: Option<IpAddr>) -> bool {
        match (self, peer) {
            (Self::Network(network), Some(peer)) => network.contains(peer),
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
        text.parse().map(Self::Network).map_err(|why: String| format!("{why}; a peer at a unix socket is `unix`"))
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(network) => network.fmt(f),
            Self::Unix => f.write_str("unix"),
        }
    }
}
