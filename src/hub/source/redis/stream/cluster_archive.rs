//! The archive on a cluster: a thread for each master, so that one that hangs holds up the clients of its own topics alone.

use std::{
    collections::HashMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::warn;

use super::{
    archive::{ArchiveHandle, start_archive},
    config::RedisStreamConfig,
    link::LEAST_VERSION,
};
use crate::{
    bus::{Archive, ArchiveFailed, ArchiveRequest},
    clock::Clock,
    source::{
        TopicClasses,
        redis::{ClusterPlace, ClusterView, Directory, NodeAddress, RedisConfig, slot_of_key},
    },
};

/// Hands each request to the thread of the master that has the topic's slot. Starts a thread when the first request for its master comes.
#[derive(Clone, Debug)]
pub(super) struct ClusterArchive {
    directory: Arc<Directory>,
    redis: RedisConfig,
    config: RedisStreamConfig,
    classes: TopicClasses,
    clock: Clock,
    view: Arc<ClusterView>,
    workers: Arc<Mutex<HashMap<NodeAddress, ArchiveHandle>>>,
}

impl ClusterArchive {
    /// Fails if `redis` names files that cannot be used.
    pub(super) fn new(
        redis: RedisConfig,
        config: RedisStreamConfig,
        classes: TopicClasses,
        clock: Clock,
        view: Arc<ClusterView>,
    ) -> io::Result<Self> {
        let directory = Arc::new(redis.directory()?.with_least_version(LEAST_VERSION));
        Ok(Self { directory, redis, config, classes, clock, view, workers: Arc::default() })
    }

    /// Lets the threads end as soon as they have answered.
    pub(super) fn stop(&self) {
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        workers.into_values().for_each(ArchiveHandle::stop);
    }

    fn start(&self, node: &NodeAddress) -> io::Result<ArchiveHandle> {
        let directory = self.directory.in_cluster(ClusterPlace::Node(node.clone()));
        let redis = RedisConfig { url: self.redis.url.at(node), ..self.redis.clone() };
        let shard = Some((node.clone(), Arc::clone(&self.view)));
        start_archive(directory, redis, self.config.clone(), self.classes.clone(), self.clock, shard)
    }
}

impl Archive for ClusterArchive {
    fn fetch(&self, request: ArchiveRequest) {
        let map = self.view.map();
        let Some(node) = map.owner(slot_of_key(&self.config.prefix, &request.topic)) else {
            return (request.reply)(Err(ArchiveFailed::Unavailable));
        };
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if !workers.contains_key(node) {
            let masters = map.masters();
            workers.extract_if(|known, _| !masters.contains(&known)).for_each(|(_, worker)| worker.stop());
            match self.start(node) {
                Ok(worker) => drop(workers.insert(node.clone(), worker)),
                Err(error) => warn!("older events of {node} cannot be read: {error}"),
            }
        }
        let archivist = workers.get(node).map(ArchiveHandle::archivist);
        drop(workers);
        match archivist {
            Some(archivist) => archivist.fetch(request),
            None => (request.reply)(Err(ArchiveFailed::Unavailable)),
        }
    }
}
