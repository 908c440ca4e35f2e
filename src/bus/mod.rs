//! The bus: how events change threads. The home of locks.
//!
//! Publishing takes the topic's own short lock, assigns the id, appends to the topic's history, and puts the shared event
//! into the inbox of each reactor *with interest*. One lock per topic means that every reactor sees the same order.
//! An inbox is bounded; when it is full the topic is marked for *resync* on that reactor, which then copies what it lacks
//! from the history, exactly as a first listener does. So a source never waits for a reactor.

mod inbox;
mod publish;
mod reactors;
mod sync;
mod topics;

pub use inbox::{AnswerForm, Doorbell, Inbox, Mail, Note, Waiting, Wake};
pub use publish::{Feed, Outlet, Publication, PublishFailed, PublishRefused, Receipt, Reply};
pub use reactors::{REACTORS_MAX, ReactorSet};
pub use topics::{Attachment, Bus, Interest, TopicKey, TopicState, TopicSummary};

/// What the bus is built from.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many reactors there are, up to [`REACTORS_MAX`].
    pub reactors: usize,
    /// The major part of in-process ids: the hub's start in Unix milliseconds.
    pub epoch_ms: u64,
    /// The largest payload, in bytes.
    pub payload_bytes_max: usize,
    /// What topics retain unless a class says otherwise.
    pub default_class: Class,
    /// Classes, in order: the first whose pattern matches a topic decides.
    pub classes: Vec<(crate::topic::Pattern, Class)>,
}

/// What all topics of a class have in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// What is retained.
    pub retention: crate::log::Retention,
    /// What happens to a reader that falls off the log.
    pub policy: crate::log::Policy,
}

#[cfg(test)]
mod tests;
