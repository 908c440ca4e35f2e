//! Pub/Sub on a Redis Cluster as a [`Source`].

use std::{io, sync::Arc, time::Duration};

use super::{nodes::ClusterNodes, reader::ClusterReaderHandle, view::ClusterPlace};
use crate::{
    bus::{Bus, SourcePort},
    metrics::SourceHealth,
    protocol::resp::key_slot,
    source::{
        Lease, Source, SourceSetup, SourcesConfig,
        redis::{
            ClusterPubSub, RedisConfig, RedisLease,
            pubsub::{ChannelCommand, ChannelEncoder, PUBSUB_SOURCE, ReaderHandle, start_reader_at},
        },
    },
};

/// The default source: topics whose class names none are channels of their names.
#[derive(Debug)]
pub(in crate::source::redis) struct ClusterSource {
    config: RedisConfig,
    setup: SourceSetup,
    nodes: ClusterNodes,
    reader: Option<Reader>,
}

/// Who reads.
#[derive(Debug)]
enum Reader {
    /// From all masters.
    Sharded(ClusterReaderHandle),
    /// From one of them, which gets everything.
    Classic(ReaderHandle),
}

impl ClusterSource {
    /// Begins to ask the cluster which node has which slots, and to publish. Fails if `config` names files that cannot be used.
    pub(in crate::source::redis) fn open(config: &RedisConfig, setup: &SourceSetup) -> io::Result<Self> {
        let config = RedisConfig { always: setup.always.clone(), ..config.clone() };
        let command = match config.cluster_pubsub {
            ClusterPubSub::Sharded => ChannelCommand::PublishSharded,
            ClusterPubSub::Classic => ChannelCommand::PublishInCluster,
        };
        let encoder = Arc::new(ChannelEncoder { command, idempotency_window: config.idempotency_window });
        let nodes = ClusterNodes::open(&config, PUBSUB_SOURCE, config.cluster_pubsub, "", encoder, setup.clock)?;
        Ok(Self { config, setup: setup.clone(), nodes, reader: None })
    }
}

impl ClusterSource {
    fn start_reader(&self, bus: Arc<Bus>) -> io::Result<Reader> {
        let (config, clock, core) = (self.config.clone(), self.setup.clock, self.setup.core);
        if config.cluster_pubsub == ClusterPubSub::Sharded {
            let (view, status) = (Arc::clone(&self.nodes.view), Arc::clone(&self.nodes.status));
            return ClusterReaderHandle::start(config, bus, clock, view, status, core).map(Reader::Sharded);
        }
        let place = ClusterPlace::AnyMaster(Arc::clone(&self.nodes.view), config.url.nodes().to_vec());
        let directory = config.directory()?.in_cluster(place);
        let reader =
            start_reader_at(config, directory, bus, clock, self.nodes.status.common(), Arc::default(), core, true)?;
        Ok(Reader::Classic(reader))
    }
}

impl Source for ClusterSource {
    fn port(&self) -> Option<SourcePort> {
        let sink = Some(Box::new(self.nodes.publisher()) as Box<_>);
        Some(SourcePort { name: PUBSUB_SOURCE, is_default: self.setup.is_default(PUBSUB_SOURCE), sink, log: None })
    }

    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        Some(Arc::clone(&self.nodes.status) as Arc<dyn SourceHealth>)
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let reader = self.start_reader(bus).map_err(|error| format!("redis: {error}"))?;
        self.reader = Some(reader);
        Ok(())
    }

    fn lease(&self, name: &str, lasts: Duration) -> Option<Result<Box<dyn Lease>, String>> {
        let view = Arc::clone(&self.nodes.view);
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
        self.nodes.signal_stop();
        match self.reader {
            Some(Reader::Sharded(reader)) => reader.stop(),
            Some(Reader::Classic(reader)) => reader.stop(),
            None => {}
        }
        self.nodes.stop();
    }
}
