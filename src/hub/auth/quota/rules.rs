//! Quota rules: tenants, topics and limits.

use core::{fmt, net::IpAddr, str::FromStr};

use crate::{
    network::Network,
    share::Limit,
    topic::{Pattern, Topic},
};

use super::super::Identity;

/// One `[[quota]]` table. It applies to each tenant by itself: with `who = "role:sensor"` each subject of the role has the whole
/// limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaRule {
    /// Its name in refusals and metrics.
    pub name: String,
    /// The tenants it applies to.
    pub who: TenantSelector,
    /// The topics that it applies to. Empty: all.
    pub topics: Vec<Pattern>,
    /// By [`Limit`], the limits. 0: no limit.
    pub limits: [usize; Limit::ALL.len()],
}

/// The tenants that a rule applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TenantSelector {
    /// Every tenant: subjects, API keys, and the addresses of anonymous clients.
    #[default]
    Everybody,
    /// The tokens of one subject.
    Subject(Box<str>),
    /// The subjects and API keys of one role.
    Role(Box<str>),
    /// One API key, by its name.
    ApiKey(Box<str>),
    /// Each address of a network, whatever the client's identity. An IPv6 address stands for its /64 network.
    Address(Network),
}

impl QuotaRule {
    /// The most rules: each is a bit of a word, and one bit is for the defaults.
    pub(crate) const COUNT_MAX: usize = 63;

    pub(super) fn concerns_topic(&self, topic: &Topic) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|pattern| pattern.matches(topic))
    }

    /// Its value for `limit`, if it sets one.
    pub(super) fn limit(&self, limit: Limit) -> Option<usize> {
        Some(self.limits[limit as usize]).filter(|most| *most != 0)
    }
}

impl TenantSelector {
    /// Whether the rule applies to a client with this identity and address.
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

impl FromStr for TenantSelector {
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

impl fmt::Display for TenantSelector {
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
