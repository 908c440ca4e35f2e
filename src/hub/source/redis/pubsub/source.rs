//! Redis Pub/Sub as a [`Source`]: a reader and a writer, each with a thread and a connection.

use std::{sync::Arc, time::Duration};

use super::{PUBSUB_SOURCE, ReaderHandle, start_reader, start_writer};
use crate::{
    bus::{Bus, SourcePort},
    metrics::SourceHealth,
    source::{
        Lease, Source, SourceSetup, SourceStatus, SourcesConfig,
        redis::{RedisConfig, RedisLease, ServerView, WriterHandle},
    },
};

/// The default source: topics whose class names none are channels of their names.
#[derive(Debug)]
pub(in crate::source::redis) struct PubSubSource {
    config: RedisConfig,
    setup: SourceSetup,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
    writer: WriterHandle,
    reader: Option<ReaderHandle>,
}

impl PubSubSource {
    pub(in crate::source::redis) fn open(config: &RedisConfig, setup: &SourceSetup) -> std::io::Result<Self> {
        let config = RedisConfig { always: setup.always(PUBSUB_SOURCE), ..config.clone() };
        let status = Arc::new(SourceStatus::new(PUBSUB_SOURCE));
        let view = Arc::new(ServerView::default());
        let writer = start_writer(config.clone(), setup.clock, Arc::clone(&status), Arc::clone(&view))?;
        Ok(Self { config, setup: setup.clone(), status, view, writer, reader: None })
    }
}

impl Source for PubSubSource {
    fn port(&self) -> Option<SourcePort> {
        let sink = Some(Box::new(self.writer.publisher()) as Box<_>);
        Some(SourcePort { name: PUBSUB_SOURCE, is_default: self.setup.is_default(PUBSUB_SOURCE), sink, log: None })
    }

    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        Some(Arc::clone(&self.status) as Arc<dyn SourceHealth>)
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let (config, status, view) = (self.config.clone(), Arc::clone(&self.status), Arc::clone(&self.view));
        let reader = start_reader(config, bus, self.setup.clock, status, view, self.setup.core, true);
        self.reader = Some(reader.map_err(|error| format!("redis: {error}"))?);
        Ok(())
    }

    fn lease(&self, name: &str, lasts: Duration) -> Option<Result<Box<dyn Lease>, String>> {
        let lease = RedisLease::start(&self.config, self.setup.clock, name, lasts);
        Some(lease.map(|lease| Box::new(lease) as Box<_>).map_err(|error| format!("redis: {error}")))
    }

    /// Also for Redis Streams, which share the logins.
    fn reload_credentials(&self, former: &SourcesConfig, config: &SourcesConfig) {
        if let (Some(redis), Some(former)) = (&config.redis, &former.redis) {
            redis.replace_login(former);
        }
    }

    fn stop(self: Box<Self>) {
        self.reader.into_iter().for_each(ReaderHandle::stop);
        self.writer.stop();
    }
}
