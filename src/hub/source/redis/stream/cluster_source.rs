//! Redis Streams on a Redis Cluster as a [`Source`].

use std::{io, sync::Arc};

use super::{
    STREAM_LOG, STREAM_SOURCE, cluster::ClusterReaderHandle, cluster_archive::ClusterArchive,
    config::RedisStreamConfig, encoder::StreamEncoder,
};
use crate::{
    bus::{BrokerLog, Bus, SourcePort},
    clock::Clock,
    metrics::SourceHealth,
    source::{
        Source, SourceSetup,
        redis::{ClusterNodes, ClusterPubSub, RedisConfig},
    },
};

/// The source of topics whose class has `log = "redis-stream"`, where a cluster keeps the streams.
#[derive(Debug)]
pub(in crate::source::redis) struct ClusterStreamSource {
    redis: RedisConfig,
    config: RedisStreamConfig,
    clock: Clock,
    nodes: ClusterNodes,
    archive: ClusterArchive,
    reader: Option<ClusterReaderHandle>,
}

impl ClusterStreamSource {
    /// Begins to ask the cluster which node has which slots, and to publish. Fails if `redis` names files that cannot be used.
    pub(in crate::source::redis) fn open(
        redis: &RedisConfig,
        config: &RedisStreamConfig,
        setup: &SourceSetup,
    ) -> io::Result<Self> {
        let (redis, config, clock, classes) = (redis.clone(), config.clone(), setup.clock, setup.classes.clone());
        let encoder = Arc::new(StreamEncoder {
            config: config.clone(),
            classes: classes.clone(),
            idempotency_window: redis.idempotency_window,
            is_in_cluster: true,
        });
        // A stream is read from the master of its slot, whatever Pub/Sub is used.
        let reads = ClusterPubSub::Sharded;
        let nodes = ClusterNodes::open(&redis, STREAM_SOURCE, reads, &config.prefix, encoder, clock)?;
        let archive = ClusterArchive::new(redis.clone(), config.clone(), classes, clock, Arc::clone(&nodes.view))?;
        Ok(Self { redis, config, clock, nodes, archive, reader: None })
    }
}

impl Source for ClusterStreamSource {
    fn port(&self) -> Option<SourcePort> {
        let sink = Some(Box::new(self.nodes.publisher()) as Box<_>);
        let log = Some(BrokerLog { word: STREAM_LOG, archive: Box::new(self.archive.clone()) });
        Some(SourcePort { name: STREAM_SOURCE, is_default: false, sink, log })
    }

    fn health(&self) -> Option<Arc<dyn SourceHealth>> {
        Some(Arc::clone(&self.nodes.status) as Arc<dyn SourceHealth>)
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let (view, status) = (Arc::clone(&self.nodes.view), Arc::clone(&self.nodes.status));
        let (redis, config) = (self.redis.clone(), self.config.clone());
        let reader = ClusterReaderHandle::start(redis, config, bus, self.clock, view, status);
        self.reader = Some(reader.map_err(|error| format!("redis: {error}"))?);
        Ok(())
    }

    fn stop(self: Box<Self>) {
        self.nodes.signal_stop();
        self.reader.into_iter().for_each(ClusterReaderHandle::stop);
        self.nodes.stop();
        self.archive.stop();
    }
}
