//! Reading streams from a cluster: one thread, and on it a reader for each master that has slots.
//!
//! Here it is known who listens and which master has which slots. A topic whose slot moves is handed from one reader to the other, with the
//! position up to which it was read: the stream moves with the slot, so nothing is missing, and no gap is told. What of a stream was lost
//! with a master, because its replica had not got it yet, the new reader finds out as any other change of the stream.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::{
    sync::Notify,
    task::{JoinHandle as Task, LocalSet},
};
use tracing::{info, warn};

use super::{
    STREAM_SOURCE,
    config::RedisStreamConfig,
    interest::{follow_interest, take_left},
    link::LEAST_VERSION,
    shard::Shard,
    streams::{FollowedStream, FollowedStreams, StreamTable},
    turn::{StreamPlace, StreamReader},
};
use crate::{
    bus::{Bus, Interest, Wake},
    clock::{Clock, Moment},
    source::{
        SourceStatus,
        redis::{ClusterPlace, ClusterStatus, ClusterView, Directory, NodeAddress, RedisConfig, SlotMap, slot_of_key},
    },
    topic::Topic,
};

/// How long the end may take.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// How long nothing may be looked at, whatever is missed.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Owns the thread.
#[derive(Debug)]
pub(super) struct ClusterReaderHandle {
    waker: Arc<ThreadWaker>,
    /// Disconnected when the thread has ended.
    ended: Receiver<()>,
    thread: JoinHandle<()>,
}

/// Wakes the thread from any other one, and tells it to end.
#[derive(Debug, Default)]
struct ThreadWaker {
    notify: Notify,
    is_stopped: AtomicBool,
}

impl Wake for ThreadWaker {
    fn wake(&self) {
        self.notify.notify_one();
    }
}

/// The thread's state.
struct ClusterReader {
    redis: RedisConfig,
    config: RedisStreamConfig,
    directory: Directory,
    bus: Arc<Bus>,
    clock: Clock,
    view: Arc<ClusterView>,
    status: Arc<ClusterStatus>,
    waker: Arc<ThreadWaker>,
    interest: Receiver<Interest>,
    shards: BTreeMap<NodeAddress, ShardReader>,
    /// Topics in slots that no node has.
    unplaced: FollowedStreams,
    map: Arc<SlotMap>,
    /// Of the view, when it was last followed.
    version: Option<u64>,
}

/// The reader of one master.
struct ShardReader {
    streams: StreamTable,
    status: Arc<SourceStatus>,
    notify: Arc<Notify>,
    task: Task<()>,
}

impl Drop for ShardReader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ClusterReaderHandle {
    /// Starts the thread. Fails if `redis` names files that cannot be used.
    pub(super) fn start(
        redis: RedisConfig,
        config: RedisStreamConfig,
        bus: Arc<Bus>,
        clock: Clock,
        view: Arc<ClusterView>,
        status: Arc<ClusterStatus>,
    ) -> io::Result<Self> {
        let waker = Arc::new(ThreadWaker::default());
        // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
        let (changes, interest) = crossbeam_channel::unbounded();
        view.set_reader(Arc::clone(&waker) as Arc<dyn Wake>);
        let reader = ClusterReader {
            directory: redis.directory()?.with_least_version(LEAST_VERSION),
            unplaced: FollowedStreams::new(redis.linger),
            redis,
            config,
            bus: Arc::clone(&bus),
            clock,
            view,
            status,
            waker: Arc::clone(&waker),
            interest,
            shards: BTreeMap::new(),
            map: Arc::default(),
            version: None,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        bus.watch_interest(STREAM_SOURCE, changes, Arc::clone(&waker) as Arc<dyn Wake>);
        let (end, ended): (Sender<()>, _) = bounded(0);
        let thread = std::thread::Builder::new().name("stream-reader".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, reader.run());
            // A thread that connects may still wait for its server.
            runtime.shutdown_background();
            drop(end);
        })?;
        Ok(Self { waker, ended, thread })
    }

    /// Closes the connections and waits for the thread to end. Topics stay as they are: the hub is going down.
    pub(super) fn stop(self) {
        self.waker.is_stopped.store(true, Ordering::Release);
        self.waker.wake();
        // Nothing is ever sent; this waits for the end.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
        if self.thread.is_finished() && self.thread.join().is_err() {
            warn!("the thread of the Redis Streams reader had panicked");
        }
    }
}

impl ClusterReader {
    async fn run(mut self) {
        while !self.waker.is_stopped.load(Ordering::Acquire) {
            let wait = self.turn(self.clock.now());
            // Woken or not, the loop looks at everything.
            let _ = tokio::time::timeout(wait, self.waker.notify.notified()).await;
        }
    }

    /// Follows the map and who listens; returns how long nothing is to be done.
    fn turn(&mut self, now: Moment) -> Duration {
        self.follow_map(now);
        self.follow_interest(now);
        let is_settled = self.map.is_complete() && self.shards.values().all(|shard| shard.status.ready(now).is_ok());
        self.view.set_unsettled(!is_settled);
        let tables = self.shards.values().map(|shard| shard.streams.lock().deadline());
        let deadline = tables.chain([self.unplaced.deadline()]).flatten().min();
        let wait = if is_settled { LONGEST_WAIT } else { self.redis.cluster_refresh.min(LONGEST_WAIT) };
        deadline.map_or(wait, |due| due.since(now).min(wait))
    }

    fn follow_interest(&mut self, now: Moment) {
        let mut left = take_left(&mut self.unplaced, &self.bus, &self.status.common(), now);
        for shard in self.shards.values() {
            left.extend(take_left(&mut shard.streams.lock(), &self.bus, &shard.status, now));
        }
        let changes: Vec<Interest> = self.interest.try_iter().collect();
        for change in changes {
            let (Interest::Wanted(topic) | Interest::Unwanted(topic)) = &change;
            match self.owner(topic).and_then(|owner| self.shards.get(owner)) {
                Some(shard) => {
                    follow_interest(&mut shard.streams.lock(), change, &left, &self.config, &self.bus, now);
                    shard.notify.notify_one();
                }
                None => follow_interest(&mut self.unplaced, change, &left, &self.config, &self.bus, now),
            }
        }
        let (unplaced, _) = self.unplaced.counts();
        self.status.set_unplaced(unplaced);
    }

    fn owner(&self, topic: &Topic) -> Option<&NodeAddress> {
        self.map.owner(slot_of_key(&self.config.prefix, topic))
    }

    /// Follows the map, if it has changed: opens and closes readers, and hands each topic to the reader of its slot.
    fn follow_map(&mut self, now: Moment) {
        let (version, _) = self.view.versions();
        if self.version.replace(version) == Some(version) {
            return;
        }
        self.map = self.view.map();
        let map = Arc::clone(&self.map);
        let masters = map.masters();
        for node in &masters {
            if !self.shards.contains_key(*node) {
                let shard = self.open(node);
                self.shards.insert((*node).clone(), shard);
            }
        }
        let prefix = &self.config.prefix;
        let mut moving: Vec<(Topic, FollowedStream)> = Vec::new();
        for (node, shard) in &self.shards {
            let mut streams = shard.streams.lock();
            let released = streams.release(|topic| map.owner(slot_of_key(prefix, topic)) != Some(node));
            released.iter().for_each(|(topic, _)| streams.refused.remove(topic, &shard.status));
            moving.extend(released);
        }
        if !moving.is_empty() {
            info!("{}: {} streams have another node", self.redis.url, moving.len());
        }
        moving.extend(self.unplaced.release(|topic| map.owner(slot_of_key(prefix, topic)).is_some()));
        for (topic, stream) in moving {
            match self.owner(&topic).and_then(|owner| self.shards.get(owner)) {
                Some(shard) => {
                    shard.streams.lock().adopt(topic, stream.due_at(now));
                    shard.notify.notify_one();
                }
                None => self.unplaced.adopt(topic, stream),
            }
        }
        self.shards.retain(|node, _| masters.contains(&node));
    }

    /// Starts the reader of a master.
    fn open(&self, node: &NodeAddress) -> ShardReader {
        let (status, notify) = (self.status.shard(node), Arc::new(Notify::new()));
        let streams = StreamTable::new(self.redis.linger);
        let shard = Shard::new(node.clone(), Arc::clone(&self.view), Arc::clone(&notify), self.config.poll);
        let reader = StreamReader::new(
            RedisConfig { url: self.redis.url.at(node), ..self.redis.clone() },
            self.config.clone(),
            Arc::new(self.directory.in_cluster(ClusterPlace::Node(node.clone()))),
            StreamPlace::Shard(shard),
            streams.clone(),
            Arc::clone(&self.bus),
            self.clock,
            Arc::clone(&status),
        );
        ShardReader { streams, status, notify, task: tokio::task::spawn_local(reader.run()) }
    }
}
