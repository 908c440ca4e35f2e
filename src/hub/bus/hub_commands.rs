//! Hub commands: what hubs on one broker ask each other to do. They travel as events of topics that no client can read.

use std::fmt;

use bytes::Bytes;

use super::Bus;
use crate::{clock::Moment, topic::Topic};

/// The prefix of topics whose events are hub commands.
pub(crate) const HUB_COMMANDS: &str = "fanfare.orders.";

/// Whether the events of `topic` are hub commands.
pub(crate) fn is_hub_command(topic: &Topic) -> bool {
    topic.as_str().starts_with(HUB_COMMANDS)
}

/// Executes hub commands.
pub(crate) trait HubCommands: Send + Sync + fmt::Debug {
    /// Takes an event of `topic`, which anybody with access to the broker may have published. Called on a source's thread, so it
    /// never blocks.
    fn take(&self, topic: &Topic, kind: Option<&str>, data: Bytes, bus: &Bus, now: Moment);
}
