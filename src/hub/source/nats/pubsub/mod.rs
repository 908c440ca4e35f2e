//! Core NATS: events of all hubs on one server, or on one cluster of servers.
//!
//! One thread with one connection, in a runtime of its own. It subscribes to what the hub's listeners want, hands
//! events to the bus, and publishes what comes in at this hub; that comes back through the subscriptions of every hub, this one
//! included.
//!
//! NATS says nothing when it takes a subscription or a publication. It does what a connection asks in order, so a *fence* follows: a
//! nonce that the hub publishes to its own inbox. When the nonce is back, everything before it has been taken or refused, and
//! delivery is proven.
//!
//! Core NATS delivers at most once. A lost connection therefore raises a loss on every topic that was subscribed.

mod conversation;
mod delivery;
mod fence;
mod intake;
mod session;
mod source;
mod thread;

pub(super) use source::PubSubSource;

use crate::{bus::SourceName, topic::Topic};

pub(crate) const PUBSUB_SOURCE: SourceName = SourceName("nats");

/// What a subscription is for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// The topic's own subject.
    Topic(Topic),
    /// The configured pattern at this index.
    Pattern(usize),
    /// The hub's inbox.
    Probe,
}

#[cfg(test)]
mod tests;
