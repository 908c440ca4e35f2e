//! Redis Streams: topics whose log is kept by the broker, for all hubs, across their restarts.
//!
//! A topic of a class with `log = "redis-stream"` is the stream whose key is `redis.stream_prefix` and the topic's name;
//! its events have the ids that Redis gave. Four threads, four connections. The *reader* ([`start_reader`]) loads the
//! newest part of a stream into the hub's log when the topic gets its first listener, and follows with `XREAD BLOCK`
//! from there; the *probe* interrupts that wait when listeners come and go, and proves at the same time that what is
//! added to a stream arrives. The *writer* ([`start_writer`]) adds what is published at this hub. The *archive*
//! ([`start_archive`]) reads events older than the hub's own log, for clients that resume from an older id. On a cluster one thread reads
//! from all masters ([`cluster`]), and asks instead of waiting ([`shard`]); each master has an archive and a writer.
//!
//! An entry has the field `data`, the payload, and may have the field `type`, the event's. An entry without `data`, as
//! other programs add them, is an event whose payload is a JSON object of all its fields.
//!
//! Publishing is one script (`append.lua`). It marks the streams that it makes, and those it holds to the class's history:
//! about so many events (`MAXLEN ~`; no bound if that is 0), none older (`MINID ~`), about so many bytes, and the whole
//! stream expires when nothing was published for as long as an event is kept (`PEXPIRE`). Streams of other applications
//! are read and added to, and never trimmed.
//!
//! Nothing is lost silently. A lost connection is none of the readers' business: reading goes on after the last id. What
//! was trimmed before it was read, and what cannot be delivered, is reported as a gap; a stream that was deleted, or
//! lost entries in a failover, begins anew, with a gap that says so.

mod archive;
mod arrival;
mod catalog;
mod check;
mod cluster;
mod cluster_archive;
mod cluster_source;
mod config;
mod deliver;
mod encoder;
mod entry;
mod interest;
mod link;
mod load;
mod position;
mod probe;
mod reader;
mod shard;
mod shared_link;
mod source;
mod streams;
mod turn;
mod waker;

use archive::{ArchiveHandle, start_archive};
use catalog::StreamCatalog;
pub(super) use cluster_source::ClusterStreamSource;
pub(crate) use config::RedisStreamConfig;
use encoder::start_writer;
use reader::{ReaderHandle, start_reader};
pub(super) use source::StreamSource;

use crate::bus::SourceName;

/// What the configuration and the API call a log that is a stream.
pub(crate) const STREAM_LOG: &str = "redis-stream";

pub(crate) const STREAM_SOURCE: SourceName = SourceName("redis_stream");

#[cfg(test)]
mod tests;
