//! The bridge: events of one source's topics go out through another source, under the same names or other ones.
//!
//! A bridge is a hub with two sources. It follows the topics that its maps name ([`Follower`](crate::bus::Follower)), as a reactor
//! follows those of its subscribers, and publishes each event to the sink of the other source. So connecting, logging in, proofs of
//! delivery, `/ready`, metrics and drain are those of any hub.
//!
//! **What it promises** of what is in no log. Both brokers deliver at most once, and so does the bridge; each event of a topic goes
//! out in order. What may be missing is told on the other side by a hub command ([`losses_payload`](crate::bus::losses_payload)): each
//! hub there makes a gap `source_lost` in the topics that it has. The bridge says so when it begins, when its source may have lost
//! something, when the log has passed it because the other side was away for too long, and when a publication failed or its outcome is
//! unknown. Where the other side's broker keeps logs, each topic's log tells of it itself: the bridge adds a gap to it
//! ([`Bridged`](crate::bus::Bridged)), and asks the broker for the topics that have a log when the loss concerns all.
//!
//! **Logs are carried whole** ([`logs`]), each event once and in order, from where the other side says that it got
//! ([`Carried`](crate::bus::Carried)).
//!
//! **Nothing goes round in circles.** Each message on NATS, and each entry of a stream, that a bridge has brought says so, and bridges leave
//! it there, unless they are told to be one more link of a chain. Redis Pub/Sub has no place for such a mark: what a bridge has brought
//! there goes back once, and no further.
//!
//! **Several bridges of the same maps do not double.** One of them has a [lease](crate::source::Lease), which a source keeps whose
//! broker can; the others stand by, and drop what they read. Whoever takes over begins with a loss, or, with logs, where the other
//! one ended.

mod catalog;
mod classes;
mod logs;
mod logs_thread;
mod map;
mod relay;
mod status;
mod thread;

pub(crate) use map::TopicMap;
pub(crate) use thread::{BridgeEnds, BridgeHandle, BridgePlan};

use std::time::Duration;

use crate::topic::Pattern;

/// The configuration of a bridge.
#[derive(Clone, Debug)]
pub struct BridgeConfig {
    /// The engine that events come from, by the name of its default source.
    pub from: String,
    /// The engine that they go to.
    pub to: String,
    /// Which topics, and what they are called on the other side. The first that matches decides. Empty: there is no bridge.
    pub maps: Vec<TopicMap>,
    /// How long the lease lasts that keeps other bridges from doing the same; zero: there are no others.
    pub lease: Duration,
    /// Whether what another bridge has brought is carried on.
    pub chain: bool,
    /// How often a bridge that carries logs looks for new topics under its maps.
    pub topics_interval: Duration,
    /// Publications that may be on their way.
    pub in_flight_max: usize,
}

impl Default for BridgeConfig {
    fn default() -> Self {
        Self {
            from: "redis".to_owned(),
            to: "nats".to_owned(),
            maps: Vec::new(),
            lease: Duration::from_secs(5),
            chain: false,
            topics_interval: Duration::from_secs(1),
            in_flight_max: 4096,
        }
    }
}

impl BridgeConfig {
    /// The patterns of the topics that it carries.
    pub(crate) fn patterns(&self) -> Vec<Pattern> {
        self.maps.iter().map(|map| map.from().clone()).collect()
    }
}
