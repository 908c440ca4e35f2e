//! JetStream: topics whose log is kept by NATS, for all hubs, across their restarts.
//!
//! A class of topics with `log = "jetstream"` is one stream ([`config::StreamSpec`]), which the hub makes if there is none. An event's
//! id is the stream's identity and the message's sequence. The identity is made of the time at which the stream was made and of a
//! word in its description, where NATS 2.9 has room for it: a stream that was deleted and made anew has other ids, and a hub that
//! finds a stream restored from an older copy renews the word, so that no id of what is gone is taken for one of what came since.
//!
//! Three threads, three connections. The *reader* follows each stream of which somebody wants a topic with one consumer, for all
//! topics and clients of the hub, which delivers in order without acknowledgements: a gap in its numbers, or its silence, makes the
//! reader go on with another one where the last one ended. A topic's newest part is loaded when it gets its first listener. The
//! *writer* publishes what comes in at this hub, each publication under a message id, so that it may be sent again until the server
//! has acknowledged it. The *archive* reads events older than the hub's own log, for clients that resume from an older id.
//!
//! Nothing is lost silently. A lost connection is none of the readers' business: reading goes on behind the last sequence. What was
//! removed before it was read, and what cannot be delivered, is reported as a gap.

mod api;
mod archive;
mod catalog;
mod check;
mod config;
mod delivery;
mod link;
mod load;
mod pages;
mod quiet;
mod reader;
mod source;
mod stream;
mod topics;
mod turn;
mod writer;

pub(crate) use config::{JetStreamConfig, check_streams};
pub(super) use source::JetStreamSource;

use crate::bus::SourceName;

/// What the configuration and the API call a log that JetStream keeps.
pub(crate) const JETSTREAM_LOG: &str = "jetstream";

pub(crate) const JETSTREAM_SOURCE: SourceName = SourceName("jetstream");
