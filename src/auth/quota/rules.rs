//! Rules: whom a quota concerns, which topics, and how much.

use core::{fmt, net::IpAddr, str::FromStr};

use crate::{
    share::Limit,
    topic::{Pattern, Topic},
};

use super::super::Identity;

/// One `[[quota]]` table. It holds for each tenant that it concerns by itself: with `who = "role:sensor"` each subject of the
/// role has all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaRule {
    /// What refusals and metrics call it.
    pub name: String,
    /// Whom it concerns.
    pub who: Who,
    /// The topics it concerns; empty: all.
    pub topics: Vec<Pattern>,
    /// By [`Limit`], the most; 0: any number.
    pub limits: [usize; Limit::ALL.len()],
}

/// Whom a rule concerns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Who {
    /// Every tenant: subjects, API keys, and the addresses of those who do not say who they are.
    #[default]
    Everybody,
    /// The tokens of one subject.
    Subject(Box<str>),
    /// The subjects and API keys of one role.
    Role(Box<str>),
    /// One API key, by its name.
    ApiKey(Box<str>),
    /// Each address of a network, whoever they say they are. An IPv6 address stands for the 64 bits below its prefix.
    Address(Network),
}

/// The addresses whose first bits are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Whether `address` is one of it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix_bits) == self.address
    }
}

impl QuotaRule {
    /// The most rules: one bit of a word each, and one for the default.
    pub const COUNT_MAX: usize = 63;

    pub(super) fn concerns_topic(&self, topic: &Topic) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// What it allows of `limit`, if it says.
    pub(super) fn limit(&self, limit: Limit) -> Option<usize> {
        Some(self.limits[limit as usize]).filter(|most| *most != 0)
    }
}

impl Who {
    /// Whether somebody known as `identity`, at `address`, is among them.
    pub(super) fn concerns(&self, identity: Option<&Identity>, address: Option<IpAddr>) -> bool {
        match (self, identity) {
            (Self::Everybody, _) => true,
            (Self::Subject(name), Some(identity)) => !identity.is_api_key && identity.subject == *name,
            (Self::ApiKey(name), Some(identity)) => identity.is_api_key && identity.subject == *name,
            (Self::Role(name), Some(identity)) => identity.role.as_ref() == Some(name),
            (Self::Address(network), _) => address.is_some_and(|address| network.contains(address)),
            (_, None) => false,
        }
    }
}

impl FromStr for Who {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "*" {
            return Ok(Self::Everybody);
        }
        match text.split_once(':').filter(|(_, name)| !name.is_empty()) {
            Some(("sub", name)) => Ok(Self::Subject(name.into())),
            Some(("role", name)) => Ok(Self::Role(name.into())),
            Some(("api_key", name)) => Ok(Self::ApiKey(name.into())),
            Some(("address", network)) => network.parse().map(Self::Address),
            _ => Err(format!(
                "`{text}` names nobody: write \"sub:NAME\", \"role:NAME\", \"api_key:NAME\", \"address:10.0.0.0/8\" or \"*\""
            )),
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everybody => f.write_str("*"),
            Self::Subject(name) => write!(f, "sub:{name}"),
            Self::Role(name) => write!(f, "role:{name}"),
            Self::ApiKey(name) => write!(f, "api_key:{name}"),
            Self::Address(network) => write!(f, "address:{network}"),
        }
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
        Ok(Self { address, prefix_bits })
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
pub(super) fn masked(address: IpAddr, prefix_bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix_bits)).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    }
}
