//! Pub/Sub on a Redis Cluster as a [`Source`].

use std::{io, sync::Arc, time::Duration};

use crossbeam_channel::bounded;

use super::{
    reader::ClusterReaderHandle,
    router::{ClusterPublisher, Router},
    status::ClusterStatus,
    view::{ClusterPlace, ClusterView},
    watch::ClusterWatch,
};
use crate::{
    bus::{Bus, SourcePort},
    metrics::SourceHealth,
    protocol::resp::key_slot,
    source::{
        Lease, Source, SourceSetup, SourcesConfig,
        redis::{
            PublicationIntake, RedisConfig, RedisLease,
            pubsub::{ChannelCommand, ChannelEncoder, PUBSUB_SOURCE},
        },
    },
};

/// The default source: topics whose class names none are channels of their names.
#[derive(Debug)]
pub(in crate::source::redis) struct ClusterSource {
    config: RedisConfig,
    setup: SourceSetup,
    view: Arc<ClusterView>,
    status: Arc<ClusterStatus>,
    publisher: ClusterPublisher,
    watch: ClusterWatch,
    reader: Option<ClusterReaderHandle>,
}

impl ClusterSource {
    /// Begins to ask the cluster which node has which slots, and to publish. Fails if `config` names files that cannot be used.
    pub(in crate::source::redis) fn open(config: &RedisConfig, setup: &SourceSetup) -> io::Result<Self> {
        let config = RedisConfig { always: setup.always.clone(), ..config.clone() };
        let (requests, requested) = bounded(1);
        let view = Arc::new(ClusterView::new(requests));
        let status = Arc::new(ClusterStatus::new(PUBSUB_SOURCE));
        let router = Router::new(config.clone(), setup.clock, Arc::clone(&view), Arc::clone(&status))?;
        let router = Arc::new(router);
        let command = ChannelCommand::PublishSharded;
        let encoder = Arc::new(ChannelEncoder { command, idempotency_window: config.idempotency_window });
        let intake = PublicationIntake::new(&config, encoder, setup.clock, status.publications());
        let publisher = ClusterPublisher { intake, router: Arc::clone(&router) };
        let watch = ClusterWatch::start(
            config.clone(),
            setup.clock,
            Arc::clone(&view),
            Arc::clone(&status),
            router,
            requested,
        )?;
        Ok(Self { config, setup: setup.clone(), view, status, publisher, watch, reader: None })
    }
}

impl Source for ClusterSource {
    fn port(&self) -> Option<SourcePort> {
        let sink = Some(Box::new(self.publisher.clone()) as Box<_>);
        Some(SourcePort { name: PUBSUB_SOURCE, is_default: self.setup.is_default(PUBSUB_SOURCE), sink, log: None })
    }

    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        Some(Arc::clone(&self.status) as Arc<dyn SourceHealth>)
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let (view, status) = (Arc::clone(&self.view), Arc::clone(&self.status));
        let reader =
            ClusterReaderHandle::start(self.config.clone(), bus, self.setup.clock, view, status, self.setup.core);
        self.reader = Some(reader.map_err(|error| format!("redis: {error}"))?);
        Ok(())
    }

    fn lease(&self, name: &str, lasts: Duration) -> Option<Result<Box<dyn Lease>, String>> {
        let view = Arc::clone(&self.view);
        let place = |key: &str| ClusterPlace::Slot(view, key_slot(key.as_bytes()));
        let lease = RedisLease::start_in_cluster(&self.config, self.setup.clock, name, lasts, place);
        Some(lease.map(|lease| Box::new(lease) as Box<_>).map_err(|error| format!("redis: {error}")))
    }

    /// Also for the connections to nodes that are not known yet.
    fn reload_credentials(&self, former: &SourcesConfig, config: &SourcesConfig) {
        if let (Some(redis), Some(former)) = (&config.redis, &former.redis) {
            redis.replace_login(former);
        }
    }

    fn stop(self: Box<Self>) {
        self.watch.signal_stop();
        self.reader.into_iter().for_each(ClusterReaderHandle::stop);
        self.publisher.router.stop();
        self.watch.stop();
    }
}
