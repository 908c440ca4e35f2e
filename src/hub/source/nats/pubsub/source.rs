//! Core NATS as a [`Source`].

use std::{io, sync::Arc, time::Duration};

use super::{
    PUBSUB_SOURCE,
    thread::{ThreadHandle, start_thread},
};
use crate::{
    bus::{Bus, SourcePort},
    metrics::SourceHealth,
    source::{
        Lease, Source, SourceSetup, SourceStatus, SourcesConfig,
        nats::{
            Connector, NatsConfig, NatsLease, ThreadWaker,
            publication_queue::{PublicationQueue, Publisher, queue},
        },
    },
};

/// The default source: topics whose class names none are subjects of their names.
#[derive(Debug)]
pub(in crate::source::nats) struct PubSubSource {
    config: NatsConfig,
    setup: SourceSetup,
    connector: Connector,
    status: Arc<SourceStatus>,
    waker: Arc<ThreadWaker>,
    publisher: Publisher,
    /// Until the thread has it.
    queue: Option<PublicationQueue>,
    thread: Option<ThreadHandle>,
}

impl PubSubSource {
    /// Fails if `config` names files that cannot be used.
    pub(in crate::source::nats) fn open(config: &NatsConfig, setup: &SourceSetup) -> io::Result<Self> {
        let config = NatsConfig { always: setup.always(PUBSUB_SOURCE), ..config.clone() };
        let connector = Connector::new(&config)?;
        let (status, waker) = (Arc::new(SourceStatus::new(PUBSUB_SOURCE)), Arc::new(ThreadWaker::default()));
        let (publisher, queue) = queue(&config, setup.clock, Arc::clone(&status), Arc::clone(&waker));
        let setup = setup.clone();
        Ok(Self { config, setup, connector, status, waker, publisher, queue: Some(queue), thread: None })
    }
}

impl Source for PubSubSource {
    fn port(&self) -> Option<SourcePort> {
        let sink = Some(Box::new(self.publisher.clone()) as Box<_>);
        Some(SourcePort { name: PUBSUB_SOURCE, is_default: self.setup.is_default(PUBSUB_SOURCE), sink, log: None })
    }

    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        Some(Arc::clone(&self.status) as Arc<dyn SourceHealth>)
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let Some(queue) = self.queue.take() else { return Ok(()) };
        let (connector, status, waker) = (self.connector.clone(), Arc::clone(&self.status), Arc::clone(&self.waker));
        let thread = start_thread(&self.config, connector, queue, bus, &self.setup, status, waker);
        self.thread = Some(thread.map_err(|error| format!("nats: {error}"))?);
        Ok(())
    }

    fn lease(&self, name: &str, lasts: Duration) -> Option<Result<Box<dyn Lease>, String>> {
        let lease = NatsLease::start(&self.config, self.connector.clone(), self.setup.clock, name, lasts);
        Some(lease.map(|lease| Box::new(lease) as Box<_>).map_err(|error| format!("nats: {error}")))
    }

    fn reload_credentials(&self, former: &SourcesConfig, config: &SourcesConfig) {
        if let (Some(nats), Some(former)) = (&config.nats, &former.nats) {
            nats.replace_login(former);
        }
    }

    fn stop(self: Box<Self>) {
        self.thread.into_iter().for_each(ThreadHandle::stop);
    }
}
