//! Redis Pub/Sub: events of all hubs on one server.
//!
//! Two threads, two connections. The *reader* ([`start_reader`]) subscribes to what the hub's listeners want and hands
//! events to the bus; it has a poll of its own, so that a subscription can be added while it waits. The *writer*
//! ([`start_writer`]) publishes what comes in at this hub, many publications to a round trip; they come back through
//! the reader of every hub, this one included.
//!
//! Redis delivers at most once. A lost connection therefore raises a loss on every topic that was subscribed.

mod buffer;
mod config;
mod connection;
mod delivery;
mod envelope;
mod fault;
mod glob;
mod intake;
mod link;
mod oversize;
mod patterns;
mod probe;
mod publisher;
mod reader;
mod refusals;
mod script;
mod session;
mod status;
mod subscriptions;
mod tls;
mod turn;
mod writer;

pub use super::{BadRedisUrl, LoginFiles, RedisUrl, SentinelLogin};
pub use config::Config;
pub use publisher::Publisher;
pub use reader::{ReaderHandle, start_reader};
pub use status::{Snapshot, SourceStatus};
pub use writer::{WriterHandle, start_writer};

// What Redis Streams have in common with Pub/Sub.
pub(super) use fault::is_of_command;
pub(super) use publisher::Form;
pub(super) use refusals::{NAMED_MAX, Refused};
pub(super) use script::{Request, Script, digest, memory_key};
pub(super) use subscriptions::Tally;
pub(super) use writer::start_writer_of;

#[cfg(test)]
mod tests;
