//! The bus: how events change threads. The home of locks.
//!
//! Publishing takes the topic's own short lock, assigns the id, appends to the topic's history, and puts the shared event
//! into the inbox of each reactor *with interest*. One lock per topic means that every reactor sees the same order.
//! An inbox is bounded. When it is full, the topic is marked for *resync* on that reactor, which then copies what it lacks from
//! the history, as it does for a first subscriber. So a source never waits for a reactor.

mod archive;
mod attach;
mod follower;
mod generators;
mod hub_commands;
mod idempotency;
mod inbox;
mod listing;
mod publish;
mod reactors;
mod retired;
mod sink;
mod sources;
mod sweep;
mod sync;
mod table;
mod topic;
mod topics;

use std::{fmt, sync::Arc, time::Duration};

use crate::{budget::Budget, log, topic::Pattern};

pub use archive::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest};
pub use attach::LogSnapshot;
pub(crate) use follower::Follower;
pub(crate) use generators::{GeneratorAction, GeneratorCallback, GeneratorFailed, GeneratorRequest, Generators};
pub(crate) use hub_commands::{HUB_COMMANDS, HubCommands, is_hub_command, losses_payload, losses_topic};
pub(crate) use inbox::ControlMessage;
pub use inbox::{EventMessage, Inbox, Notifier, Wake};
pub use listing::{HistoryPage, TopicSummary};
pub use publish::{Feed, PublishRefused};
pub use reactors::{REACTORS_MAX, ReactorSet};
pub use sink::{Bridged, Carried, EventSink, Publication, PublishFailed, Receipt, ReceiptCallback, Refusal};
pub use sources::{BrokerLog, Interest, SourcePort};
pub use topic::{TopicKey, TopicState};
pub use topics::Bus;

/// The configuration of the bus.
#[derive(Clone, Debug)]
pub struct Config {
    /// The number of reactors, at most [`REACTORS_MAX`].
    pub reactors: usize,
    /// The major part of ids that this hub gives ([`crate::event::new_epoch`]).
    pub epoch: u64,
    /// The largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// The class of topics that no listed class matches.
    pub default_class: Class,
    /// Classes in order. The first whose pattern matches a topic decides.
    pub classes: Vec<(Pattern, Class)>,
    /// The memory budget.
    pub budget: Arc<Budget>,
    /// How long an idempotency key is remembered.
    pub idempotency_window: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reactors: 1,
            epoch: 1000,
            payload_bytes_max: 1024 * 1024,
            default_class: Class::default(),
            classes: Vec::new(),
            budget: Arc::new(Budget::unlimited()),
            idempotency_window: Duration::from_secs(300),
        }
    }
}

/// The settings of a class of topics.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// How much of the log is retained.
    pub retention: log::Retention,
    /// What happens to a reader that falls off the log.
    pub policy: log::Policy,
    /// For `latest`: the pointer to the key in a JSON payload (RFC 6901). `None`: the event's type is the key.
    pub key: Option<Arc<str>>,
    /// The priority of laps: lower goes first.
    pub priority: i8,
    /// The source of its events; `None`: the [default](SourcePort::is_default) one, if there is one.
    pub source: Option<SourceName>,
    /// Who keeps the log, whatever the source is.
    pub log: LogKind,
}

/// A source's name, as classes of topics, `/ready`, `/stats` and the label of metrics have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceName(pub &'static str);

/// Who keeps a topic's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogKind {
    /// The hub, in memory. Positions are dense and ids are the hub's own.
    #[default]
    Memory,
    /// The broker of the topic's source. The hub holds a copy of the newest part; ids are the broker's.
    Broker,
}

impl LogKind {
    /// The word for a log in memory, in the configuration and the API. A source gives the word for its broker's logs
    /// ([`BrokerLog::word`]).
    pub const MEMORY_WORD: &'static str = "memory";
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

#[cfg(test)]
mod tests;
