//! The subscriptions of this source: channels and Redis's patterns.

use super::glob::Glob;
#[cfg(test)]
pub(super) use crate::source::subscriptions::Notice;
pub(super) use crate::source::subscriptions::{Admission, Batch, report_notices};
use crate::source::{
    redis::{RedisConfig, error_codes::is_of_command},
    subscriptions::{ChannelPattern, SubscriptionSettings},
};

/// The most channels in one command: a longer one would hold up the server's other clients.
pub(super) const BATCH_CHANNELS_MAX: usize = 512;

pub(in crate::source::redis) type Subscriptions = crate::source::subscriptions::Subscriptions<Glob>;

impl ChannelPattern for Glob {
    fn as_str(&self) -> &str {
        self.as_str()
    }

    fn matches(&self, channel: &[u8]) -> bool {
        self.matches(channel)
    }

    fn is_of_every(text: &str) -> bool {
        is_of_command(text)
    }
}

impl From<&RedisConfig> for SubscriptionSettings<Glob> {
    fn from(config: &RedisConfig) -> Self {
        Self {
            interest: config.interest,
            linger: config.linger,
            always: config.always.clone(),
            patterns: config.subscribe.iter().map(|text| Glob::parse(text)).collect(),
            batch_max: BATCH_CHANNELS_MAX,
            backoff_min: config.backoff_min,
            backoff_max: config.backoff_max,
        }
    }
}
