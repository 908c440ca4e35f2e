//! Redis Streams as a [`Source`]: a reader, a writer, and an archive of what lies beyond the hub's own logs.

use std::{io, sync::Arc};

use super::{
    ArchiveHandle, ReaderHandle, STREAM_LOG, STREAM_SOURCE, StreamCatalog, link::LEAST_VERSION, start_archive,
    start_reader, start_writer,
};
use crate::{
    bus::{BrokerLog, Bus, SourcePort},
    clock::Clock,
    metrics::SourceHealth,
    source::{
        LogCatalog, Source, SourceSetup, SourceStatus,
        redis::{RedisConfig, RedisStreamConfig, WriterHandle},
    },
};

/// The source of topics whose class has `log = "redis-stream"`: each is a stream, whose entries' ids are the events' ids.
#[derive(Debug)]
pub(in crate::source::redis) struct StreamSource {
    redis: RedisConfig,
    config: RedisStreamConfig,
    clock: Clock,
    status: Arc<SourceStatus>,
    writer: WriterHandle,
    archive: ArchiveHandle,
    reader: Option<ReaderHandle>,
}

impl StreamSource {
    pub(in crate::source::redis) fn open(
        redis: &RedisConfig,
        config: &RedisStreamConfig,
        setup: &SourceSetup,
    ) -> io::Result<Self> {
        let (redis, config, clock, classes) = (redis.clone(), config.clone(), setup.clock, &setup.classes);
        let status = Arc::new(SourceStatus::new(STREAM_SOURCE));
        let directory = redis.directory()?.with_least_version(LEAST_VERSION);
        let archive = start_archive(directory, redis.clone(), config.clone(), classes.clone(), clock, None)?;
        let writer =
            start_writer(redis.clone(), config.clone(), classes.clone(), clock, Arc::clone(&status), Arc::default())?;
        Ok(Self { redis, config, clock, status, writer, archive, reader: None })
    }
}

impl Source for StreamSource {
    fn port(&self) -> Option<SourcePort> {
        let sink = Some(Box::new(self.writer.publisher()) as Box<_>);
        let log = Some(BrokerLog { word: STREAM_LOG, archive: Box::new(self.archive.archivist()) });
        Some(SourcePort { name: STREAM_SOURCE, is_default: false, sink, log })
    }

    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        Some(Arc::clone(&self.status) as Arc<dyn SourceHealth>)
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let (redis, config, status) = (self.redis.clone(), self.config.clone(), Arc::clone(&self.status));
        let reader = start_reader(redis, config, bus, self.clock, status);
        self.reader = Some(reader.map_err(|error| format!("redis: {error}"))?);
        Ok(())
    }

    fn log_catalog(&self) -> Option<Result<Box<dyn LogCatalog>, String>> {
        let catalog = StreamCatalog::new(&self.redis, &self.config);
        Some(catalog.map(|catalog| Box::new(catalog) as Box<_>).map_err(|error| format!("redis: {error}")))
    }

    fn stop(self: Box<Self>) {
        self.reader.into_iter().for_each(ReaderHandle::stop);
        self.writer.stop();
        self.archive.stop();
    }
}
