//! Redis Pub/Sub: events of all hubs on one server.
//!
//! Two threads, two connections. The *reader* ([`start_reader`]) subscribes to what the hub's listeners want and hands
//! events to the bus; it has a poll of its own, so that a subscription can be added while it waits. The *writer*
//! ([`start_writer`]) publishes what comes in at this hub, many publications to a round trip; they come back through
//! the reader of every hub, this one included.
//!
//! Redis delivers at most once. A lost connection therefore raises a loss on every topic that was subscribed.

mod delivery;
mod encoder;
mod envelope;
mod fault;
mod glob;
mod intake;
mod link;
mod marks;
mod oversize;
mod probe;
mod reader;
mod session;
mod socket;
mod source;
mod subscriptions;
mod tls_socket;
mod turn;
mod waker;

use encoder::start_writer;
pub(super) use encoder::{ChannelCommand, ChannelEncoder};
pub(super) use link::{LinkKind, ReaderLink};
use reader::start_reader;
pub(super) use reader::{ReaderHandle, start_reader_at};

pub(super) use source::PubSubSource;
pub(super) use subscriptions::Subscriptions;
pub(super) use waker::ReaderWaker;

use crate::bus::SourceName;

pub(crate) const PUBSUB_SOURCE: SourceName = SourceName("redis");

#[cfg(test)]
mod tests;
