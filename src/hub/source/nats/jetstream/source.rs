//! JetStream as a [`Source`]: a reader, a writer, and an archive of what lies beyond the hub's own logs.

use std::sync::Arc;

use super::{
    JETSTREAM_LOG, JETSTREAM_SOURCE,
    api::Api,
    archive::{ArchiveHandle, start_archive},
    catalog::SubjectCatalog,
    config::{JetStreamConfig, StreamSpec},
    quiet::QuietTopics,
    reader::{ReaderHandle, start_reader},
    writer::{WriterHandle, start_writer},
};
use crate::{
    bus::{BrokerLog, Bus, SourcePort},
    metrics::SourceHealth,
    source::{
        LogCatalog, Source, SourceSetup, SourceStatus,
        nats::{
            Connector, NatsConfig,
            publication_queue::{Publisher, queue},
        },
    },
};

/// The source of topics whose class has `log = "jetstream"`: each class is a stream.
#[derive(Debug)]
pub(in crate::source::nats) struct JetStreamSource {
    nats: NatsConfig,
    config: JetStreamConfig,
    specs: Vec<StreamSpec>,
    /// One for each of `specs`.
    quiet: Vec<Arc<QuietTopics>>,
    setup: SourceSetup,
    connector: Connector,
    status: Arc<SourceStatus>,
    publisher: Publisher,
    writer: WriterHandle,
    archive: ArchiveHandle,
    reader: Option<ReaderHandle>,
}

impl JetStreamSource {
    /// Fails if the configuration names files that cannot be used, or a class that cannot have a stream.
    pub(in crate::source::nats) fn open(
        nats: &NatsConfig,
        config: &JetStreamConfig,
        setup: &SourceSetup,
    ) -> Result<Self, String> {
        let explain = |error: std::io::Error| format!("nats: {error}");
        let specs = StreamSpec::of_classes(&setup.classes, config, nats);
        let specs = specs.map_err(|(key, why)| format!("{key}: {why}"))?;
        let connector = Connector::new(nats).map_err(explain)?;
        let (status, waker) = (Arc::new(SourceStatus::new(JETSTREAM_SOURCE)), Arc::default());
        let (publisher, queued) = queue(nats, setup.clock, Arc::clone(&status), Arc::clone(&waker));
        let (api, own) = (Api::new(&config.domain), connector.clone());
        let writer = start_writer(nats, api, &specs, own, queued, setup.clock, Arc::clone(&status), waker);
        let writer = writer.map_err(explain)?;
        let quiet: Vec<_> = specs.iter().map(|_| Arc::new(QuietTopics::new(config.quiet_topics))).collect();
        let archive =
            start_archive(nats, config, &specs, &quiet, setup.classes.clone(), connector.clone(), setup.clock);
        let archive = archive.map_err(explain)?;
        let (nats, config, setup) = (nats.clone(), config.clone(), setup.clone());
        Ok(Self { nats, config, specs, quiet, setup, connector, status, publisher, writer, archive, reader: None })
    }
}

impl Source for JetStreamSource {
    fn port(&self) -> Option<SourcePort> {
        let sink = Some(Box::new(self.publisher.clone()) as Box<_>);
        let log = Some(BrokerLog { word: JETSTREAM_LOG, archive: Box::new(self.archive.queue()) });
        Some(SourcePort { name: JETSTREAM_SOURCE, is_default: false, sink, log })
    }

    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        Some(Arc::clone(&self.status) as Arc<dyn SourceHealth>)
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let (connector, status) = (self.connector.clone(), Arc::clone(&self.status));
        let reader =
            start_reader(&self.nats, &self.config, &self.specs, &self.quiet, connector, bus, &self.setup, status);
        self.reader = Some(reader.map_err(|error| format!("nats: {error}"))?);
        Ok(())
    }

    fn log_catalog(&self) -> Option<Result<Box<dyn LogCatalog>, String>> {
        let catalog = SubjectCatalog::new(Api::new(&self.config.domain), &self.specs, self.connector.clone());
        Some(catalog.map(|catalog| Box::new(catalog) as Box<_>).map_err(|error| format!("nats: {error}")))
    }

    fn stop(self: Box<Self>) {
        self.reader.into_iter().for_each(ReaderHandle::stop);
        self.writer.stop();
        self.archive.stop();
    }
}
