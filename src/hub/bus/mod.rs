//! The bus: how events change threads. The home of locks.
//!
//! Publishing takes the topic's own short lock, assigns the id, appends to the topic's history, and puts the shared event
//! into the inbox of each reactor *with interest*. One lock per topic means that every reactor sees the same order.
//! An inbox is bounded; when it is full the topic is marked for *resync* on that reactor, which then copies what it lacks
//! from the history, exactly as a first listener does. So a source never waits for a reactor.

mod archive;
mod generators;
mod idempotency;
mod inbox;
mod listing;
mod orders;
mod publish;
mod reactors;
mod retired;
mod sweep;
mod sync;
mod table;
mod topics;

use std::{sync::Arc, time::Duration};

use crate::{budget::Budget, log, topic::Pattern};

pub use archive::{Archive, ArchiveFailed, ArchivePage, ArchiveReply, ArchiveRequest};
pub use generators::{GeneratorAction, GeneratorFailed, GeneratorReply, GeneratorRequest, Generators};
pub use inbox::{ControlMessage, EventMessage, Inbox, Notifier, Wake};
pub use listing::{HistoryPage, TopicSummary};
pub use orders::{ORDERS, Orders, is_order};
pub use publish::{Feed, Outlet, Publication, PublishFailed, PublishRefused, Receipt, Refusal, Reply};
pub use reactors::{REACTORS_MAX, ReactorSet};
pub use topics::{Attachment, Bus, Interest, TopicKey, TopicState};

/// What the bus is built from.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many reactors there are, up to [`REACTORS_MAX`].
    pub reactors: usize,
    /// The major part of in-process ids ([`crate::event::new_epoch`]).
    pub epoch: u64,
    /// The largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// What topics retain unless a class says otherwise.
    pub default_class: Class,
    /// Classes, in order: the first whose pattern matches a topic decides.
    pub classes: Vec<(Pattern, Class)>,
    /// What logs may hold together.
    pub budget: Arc<Budget>,
    /// How long a publication's idempotency key is remembered.
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

/// What all topics of a class have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// What is retained.
    pub retention: log::Retention,
    /// What happens to a reader that falls off the log.
    pub policy: log::Policy,
    /// For `latest`: where in a JSON payload the key stands (RFC 6901); without it, the event's type is the key.
    pub key: Option<Arc<str>>,
    /// Lower goes first.
    pub priority: i8,
    /// Who keeps the log.
    pub log: LogKind,
}

/// Who keeps a topic's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogKind {
    /// The hub; events come from wherever it is told of them, ids are its own.
    #[default]
    Memory,
    /// A Redis Stream; the hub keeps the newest of it, ids are Redis'.
    RedisStream,
}

impl LogKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memory, Self::RedisStream];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::RedisStream => "redis-stream",
        }
    }
}

/// The ways out of the hub: who takes publications, and who keeps more than the hub does.
#[derive(Debug, Default)]
pub struct Outlets {
    /// For topics in memory, a source that all hubs share; without one they are published here.
    pub shared: Option<Box<dyn Outlet>>,
    /// For topics kept in Redis Streams.
    pub stream: Option<Box<dyn Outlet>>,
    /// What those streams hold beyond the hub's own logs.
    pub archive: Option<Box<dyn Archive>>,
}

#[cfg(test)]
mod tests;
