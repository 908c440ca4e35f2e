//! Sources: what brings events in from outside the hub, and takes publications out. One folder for each engine.
//!
//! A source implements [`Source`]; the registry, [`Sources`], opens those that the configuration asks for, and `server.rs` walks
//! the registry without knowing which they are. An engine is a folder here and three lines in this file: its module, its field in
//! [`SourcesConfig`], and its row in [`ENGINES`]. If its broker keeps logs, it adds a row to [`LOG_WORDS`].
//!
//! A topic's class names its source ([`Class::source`]) and, apart from that, who keeps the log ([`Class::log`]). Topics whose class
//! names no source belong to the default one ([`SourcePort::is_default`]); without one, events are published in the hub alone.

mod archive_cache;
mod archive_queue;
mod backoff;
mod channel_names;
mod closing_queue;
pub(crate) mod credentials;
pub(crate) mod generator;
mod log_rate_limiter;
mod log_refusals;
pub(crate) mod nats;
mod processor;
mod read_buffer;
pub(crate) mod redis;
mod refusals;
mod registry;
mod status;
mod subscriptions;
mod tls;

use std::{fmt, sync::Arc, time::Duration};

pub(crate) use backoff::Backoff;
pub(crate) use log_rate_limiter::LogRateLimiter;
use read_buffer::{Filled, ReadBuffer};
pub(crate) use registry::Sources;
use status::SourceStatus;
pub(crate) use tls::trusted_certificates;

use crate::{
    bus::{Bus, Class, Generators, LogKind, SourceName, SourcePort},
    clock::{Clock, Moment},
    event::EventId,
    metrics::SourceHealth,
    topic::{Pattern, Topic},
};

/// A source that the hub has opened.
///
/// It exists before the bus does, because the bus is built from its [port](Source::port); [`Source::start`] connects the two.
pub(crate) trait Source: Send + fmt::Debug {
    /// What the bus is built from: the source's name, where it takes publications, and the archive of what its broker keeps.
    /// `None`: classes of topics cannot name it, and it publishes as any client does.
    fn port(&self) -> Option<SourcePort> {
        None
    }

    /// What `/ready`, `/stats` and `/metrics` report of it: readiness, degraded topics, losses, and its other figures. `None`: there
    /// is no broker that could be away.
    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        None
    }

    /// Takes requests to generate events, if it does that.
    fn generators(&self) -> Option<Box<dyn Generators>> {
        None
    }

    /// Begins to bring events in. From here on it follows the interest in its topics ([`Bus::watch_interest`]), marks each as live
    /// or stale, and reports what it may have lost (`report_loss` and `report_gap` of [`Feed`](crate::bus::Feed)). A broker that
    /// cannot be reached is no error: its health says so, and the source tries again. Called once.
    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String>;

    /// Begins to ask the broker for the lease called `name`, which lasts so long unless it is asked for again. `None`: the broker
    /// keeps none. Fails if the configuration names files that cannot be used.
    fn lease(&self, _name: &str, _lasts: Duration) -> Option<Result<Box<dyn Lease>, String>> {
        None
    }

    /// Takes a lease, if the source makes events up that one hub of a fleet shall publish. Called before [`Source::start`].
    fn use_lease(&mut self, _lease: Box<dyn Lease>) {}

    /// Answers questions about the logs that the source's broker keeps. `None`: it keeps none. Fails if the configuration names
    /// files that cannot be used.
    fn log_catalog(&self) -> Option<Result<Box<dyn LogCatalog>, String>> {
        None
    }

    /// The configuration was read anew: takes over the credentials in `config` if they differ from those in `former`. Connections
    /// that are open stay open.
    fn reload_credentials(&self, _former: &SourcesConfig, _config: &SourcesConfig) {}

    /// Ends its threads and answers every publication. Waits for a broker, but no longer than the source's timeouts say.
    fn stop(self: Box<Self>);
}

/// What one process has at a time, of all that ask the same broker for it. Dropping it gives it back.
pub(crate) trait Lease: Send + fmt::Debug {
    /// Whether this process has it at `now`. False while the broker cannot be asked for too long.
    fn is_held(&self, now: Moment) -> bool;
}

/// Answers a bridge's questions about the logs that a broker keeps. Each call may block for as long as the source's timeouts say;
/// an error says in words why there is no answer at present.
pub(crate) trait LogCatalog: Send {
    /// The topics under `patterns` that have a log.
    fn topics(&mut self, patterns: &[Pattern]) -> Result<Vec<Topic>, String>;

    /// How far the log `origin` was carried into the log of `topic` ([`Carried`](crate::bus::Carried)). `None`: as far as anybody
    /// can tell, it was not carried at all.
    fn carried(&mut self, topic: &Topic, origin: &str) -> Result<Option<CarriedUpto>, String>;

    /// Remembers how far the log `origin`, of this broker, was carried into the log of `target` at another one, which may forget its
    /// newest events. No effect at a broker that has no place for it.
    fn remember(&mut self, _target: &Topic, _origin: &str, _upto: EventId) -> Result<(), String> {
        Ok(())
    }

    /// What [`LogCatalog::remember`] was told last.
    fn remembered(&mut self, _target: &Topic, _origin: &str) -> Result<Option<EventId>, String> {
        Ok(None)
    }
}

/// How far a log was carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CarriedUpto {
    /// Up to this id of the log.
    pub(crate) id: EventId,
    /// The [digest](crate::event::digest) of the event there, if it is known.
    pub(crate) content: Option<u64>,
}

/// What the configuration says of all sources, one field or more for each engine.
#[derive(Clone, Debug, Default)]
pub struct SourcesConfig {
    /// The Redis server; `None`: there is none.
    pub redis: Option<redis::RedisConfig>,
    /// Redis Streams, for topics of a class that is kept there.
    pub redis_stream: redis::RedisStreamConfig,
    /// The NATS server; `None`: there is none.
    pub nats: Option<nats::NatsConfig>,
    /// JetStream, for topics of a class that is kept there.
    pub jetstream: nats::JetStreamConfig,
    /// Generated events; `None`: there are none.
    pub demo: Option<generator::GeneratorConfig>,
}

/// What sources get of the rest of the hub.
#[derive(Clone, Debug)]
pub(crate) struct SourceSetup {
    pub(crate) clock: Clock,
    pub(crate) classes: TopicClasses,
    /// Topics to subscribe to even while no client listens.
    pub(crate) always: Vec<Topic>,
    /// The processor core to pin the thread to that reads most; `None`: it runs anywhere.
    pub(crate) core: Option<core_affinity::CoreId>,
    /// The source of topics whose class names none, where more than one could be; `None`: there are no two.
    pub(crate) default: Option<String>,
    /// Topics that have a generator from the start, and what their events call the stream.
    pub(crate) generated: Vec<(Topic, &'static str)>,
}

impl SourceSetup {
    /// Whether topics whose class names no source belong to the source `name`, which could be the one.
    fn is_default(&self, name: SourceName) -> bool {
        self.default.as_deref().is_none_or(|default| default == name.0)
    }

    /// The topics that the source `name` subscribes to while no client listens.
    fn always(&self, name: SourceName) -> Vec<Topic> {
        if self.is_default(name) { self.always.clone() } else { Vec::new() }
    }
}

/// The classes of topics, as the bus has them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TopicClasses {
    /// For topics that no pattern matches.
    pub(crate) default: Class,
    /// The first whose pattern matches decides.
    pub(crate) listed: Vec<(Pattern, Class)>,
}

impl TopicClasses {
    /// The class of `topic`.
    fn of(&self, topic: &Topic) -> &Class {
        let listed = self.listed.iter().find(|(pattern, _)| pattern.matches(topic));
        listed.map_or(&self.default, |(_, class)| class)
    }

    /// The class of `topic` at the source `name`. A bridge has the same topic at two of them.
    fn of_source(&self, topic: &Topic, name: SourceName) -> &Class {
        let is_meant = |(pattern, class): &&(Pattern, Class)| class.source == Some(name) && pattern.matches(topic);
        self.listed.iter().find(is_meant).map_or_else(|| self.of(topic), |(_, class)| class)
    }

    /// Whether any class names the source `name`.
    fn name_source(&self, name: SourceName) -> bool {
        self.listed.iter().map(|(_, class)| class).chain([&self.default]).any(|class| class.source == Some(name))
    }
}

/// Opens the sources of one engine; none if the configuration asks for none. Fails if the configuration names files that cannot be
/// used. The error names the engine.
type OpenEngine = fn(&SourcesConfig, &SourceSetup) -> Result<Vec<Box<dyn Source>>, String>;

/// One row for each engine, in the order in which sources start and stop.
const ENGINES: &[OpenEngine] = &[generator::open, redis::open, nats::open];

/// The words for `log` in a class of topics: each stands for a source and for who keeps the log.
pub(crate) const LOG_WORDS: [(&str, Option<SourceName>, LogKind); 3] = [
    (LogKind::MEMORY_WORD, None, LogKind::Memory),
    (redis::STREAM_LOG, Some(redis::STREAM_SOURCE), LogKind::Broker),
    (nats::JETSTREAM_LOG, Some(nats::JETSTREAM_SOURCE), LogKind::Broker),
];

/// The sources of topics whose log is in memory, by the words for them in the configuration.
pub(crate) const PUBSUB_SOURCES: [SourceName; 2] = [redis::PUBSUB_SOURCE, nats::PUBSUB_SOURCE];

/// The name of no source: topics of such a class are published in the hub alone.
pub(crate) const HUB_ALONE: SourceName = SourceName("hub");

/// Whether `key` belongs to the configuration of an engine's server.
pub(crate) fn is_server_key(key: &str) -> bool {
    key.starts_with("redis.") || key.starts_with("nats.")
}
