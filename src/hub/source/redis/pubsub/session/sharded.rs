//! Sharded Pub/Sub on a node of a cluster: each channel is in a slot, and the node has some of the slots.
//!
//! A command names channels of one slot, so each has one channel. A node that has not, or no longer, the slot answers `MOVED` with the
//! node that has it; one that loses a slot ends the subscriptions in it by itself (`sunsubscribe`).

use super::{Batch, ExpectedReply, Incoming, PubSubSession, Subscriptions};
use crate::{
    clock::Moment,
    protocol::resp::{Reply, key_slot},
    source::redis::{
        RedisConfig,
        error_codes::Moved,
        pubsub::{fault::Fault, session::greeting::hello_field},
    },
};

/// The first version with sharded Pub/Sub.
const LEAST_VERSION: u64 = 7;

/// The commands of one kind of Pub/Sub.
pub(super) struct Words {
    pub(super) subscribe: &'static [u8],
    pub(super) unsubscribe: &'static [u8],
    pub(super) publish: &'static [u8],
}

/// What a session on a node of a cluster knows besides.
#[derive(Debug, Default)]
pub(super) struct Sharding {
    news: SlotNews,
    /// The probe has no channel in a slot of this node.
    has_lost_probe: bool,
}

/// What a node has told of slots.
#[derive(Debug, Default)]
pub(in crate::source::redis) struct SlotNews {
    /// Slots that other nodes have.
    pub(in crate::source::redis) moved: Vec<Moved>,
    /// It has told nothing of where a slot is that it has no more: the cluster is to be asked.
    pub(in crate::source::redis) is_outdated: bool,
}

impl SlotNews {
    pub(in crate::source::redis::pubsub) fn merge(&mut self, newer: Self) {
        self.moved.extend(newer.moved);
        self.is_outdated |= newer.is_outdated;
    }
}

impl PubSubSession {
    /// As [`PubSubSession::open`], for sharded channels. `tag` is a key in a slot of this node, for the probe.
    pub(in crate::source::redis::pubsub) fn open_sharded(
        config: &RedisConfig,
        tag: Option<&str>,
        probe_seed: u64,
        now: Moment,
    ) -> Self {
        let mut session = Self::open(config, probe_seed, now);
        match tag {
            Some(tag) => session.probe.move_to(tag),
            None => session.probe.switch(false),
        }
        session.sharding = Some(Sharding { has_lost_probe: tag.is_none(), ..Sharding::default() });
        session
    }

    /// What the node has told of slots since the last call.
    pub(in crate::source::redis::pubsub) fn take_slot_news(&mut self) -> SlotNews {
        self.sharding.as_mut().map(|sharding| std::mem::take(&mut sharding.news)).unwrap_or_default()
    }

    /// `tag` is a key in a slot of this node: if the probe has lost its own slot, it moves there.
    pub(in crate::source::redis::pubsub) fn offer_probe_tag(&mut self, tag: &str) {
        let is_ready = self.is_ready();
        let Some(sharding) = self.sharding.as_mut().filter(|sharding| is_ready && sharding.has_lost_probe) else {
            return;
        };
        sharding.has_lost_probe = false;
        self.probe.move_to(tag);
        self.subscribe_probe();
    }

    pub(super) fn words(&self) -> Words {
        match &self.sharding {
            None => Words { subscribe: b"SUBSCRIBE", unsubscribe: b"UNSUBSCRIBE", publish: b"PUBLISH" },
            Some(_) => Words { subscribe: b"SSUBSCRIBE", unsubscribe: b"SUNSUBSCRIBE", publish: b"SPUBLISH" },
        }
    }

    /// Fails if the answer to `HELLO` says that the server is too old.
    pub(super) fn check_sharding(&self, hello: &Reply<'_>) -> Result<(), Fault> {
        let version = hello_field(hello, b"version").map(String::from_utf8_lossy);
        let Some(version) = version.filter(|_| self.sharding.is_some()) else { return Ok(()) };
        match version.split('.').next().and_then(|major| major.parse::<u64>().ok()) {
            Some(major) if major < LEAST_VERSION => Err(Fault::TooOld(format!("this server is {version}"))),
            _ => Ok(()),
        }
    }

    /// A subscription has ended: because the hub left the channel, or because the node lost the slot.
    pub(super) fn on_sharded_end(&mut self, channel: &[u8], subscriptions: &mut Subscriptions) {
        let is_left = |reply: &ExpectedReply| match reply {
            ExpectedReply::Batch { batch: Batch::Leave(topics), .. } => topics[0].as_str().as_bytes() == channel,
            _ => false,
        };
        if self.expected.front().is_some_and(is_left) {
            self.expected.pop_front();
            return;
        }
        let Some(sharding) = &mut self.sharding else { return };
        if channel == self.probe.channel().as_bytes() {
            self.probe.switch(false);
            (sharding.has_lost_probe, sharding.news.is_outdated) = (true, true);
        } else if subscriptions.on_ended(channel) {
            sharding.news.is_outdated = true;
        }
    }

    /// Another node has the slot of the command that this answers. If no command of that slot is due, it answers the leaving of a
    /// channel whose subscription the node had ended by itself just before; then it is no news.
    pub(super) fn on_moved(&mut self, moved: Moved, subscriptions: &mut Subscriptions) -> Incoming<'static> {
        let probe_slot = key_slot(self.probe.channel().as_bytes());
        let Some(sharding) = &mut self.sharding else { return Incoming::Answer };
        match self.expected.front() {
            Some(ExpectedReply::Batch { batch: Batch::Topics(topics), .. })
                if key_slot(topics[0].as_str().as_bytes()) == moved.slot =>
            {
                subscriptions.postpone(&topics[0]);
            }
            Some(ExpectedReply::Batch { batch: Batch::Leave(topics), .. })
                if key_slot(topics[0].as_str().as_bytes()) == moved.slot => {}
            Some(
                ExpectedReply::ProbeSubscription | ExpectedReply::ProbePublication | ExpectedReply::PublishingRetry,
            ) if probe_slot == moved.slot => {
                self.probe.switch(false);
                sharding.has_lost_probe = true;
            }
            _ => return Incoming::Answer,
        }
        self.expected.pop_front();
        sharding.news.moved.push(moved);
        Incoming::Answer
    }

    /// The node does not serve the slot of a channel at present, and does not say who does.
    pub(super) fn on_unserved(&mut self, batch: &Batch, subscriptions: &mut Subscriptions) {
        if let Batch::Topics(topics) = batch {
            topics.iter().for_each(|topic| subscriptions.postpone(topic));
        }
        if let Some(sharding) = &mut self.sharding {
            sharding.news.is_outdated = true;
        }
    }

    /// Whether the probe waits for a key in a slot of this node.
    pub(in crate::source::redis::pubsub) fn has_lost_probe(&self) -> bool {
        self.sharding.as_ref().is_some_and(|sharding| sharding.has_lost_probe)
    }

    pub(super) fn is_sharded(&self) -> bool {
        self.sharding.is_some()
    }
}

/// The same as commands of one channel each.
pub(super) fn part(batch: Batch) -> impl Iterator<Item = Batch> {
    let (topics, patterns, is_leave) = match batch {
        Batch::Topics(topics) => (topics, Vec::new(), false),
        Batch::Leave(topics) => (topics, Vec::new(), true),
        Batch::Patterns(patterns) => (Vec::new(), patterns, false),
    };
    let of_topic = move |topic| if is_leave { Batch::Leave(vec![topic]) } else { Batch::Topics(vec![topic]) };
    let of_patterns = (!patterns.is_empty()).then_some(Batch::Patterns(patterns));
    topics.into_iter().map(of_topic).chain(of_patterns)
}
