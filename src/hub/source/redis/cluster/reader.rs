//! The reader of a cluster: one thread, one connection to each master that has slots.
//!
//! A topic belongs to the master of its slot. When the slot moves, its topics are handed from one link's subscriptions to another's,
//! with the report that their delivery was interrupted: Pub/Sub delivers at most once, and nobody can prove that nothing was published
//! in between. Topics in slots that no node has wait in subscriptions without a server.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use crossbeam_channel::Receiver;
use mio::{Poll, Token};
use tracing::{info, warn};

use super::{
    slots::{SlotMap, slot_of},
    status::ClusterStatus,
    view::{ClusterPlace, ClusterView},
};
use crate::{
    bus::{Bus, Interest, Wake},
    clock::{Clock, Moment},
    source::{
        processor::claim_processor,
        redis::{
            Directory, NodeAddress, RedisConfig,
            pubsub::{LinkKind, PUBSUB_SOURCE, ReaderLink, ReaderWaker, Subscriptions},
        },
        subscriptions::{MovingTopic, report_notices},
    },
    topic::Topic,
};

const WAKER: Token = Token(0);
/// The first of the links.
const FIRST_LINK: usize = 1;

/// Owns the reader thread.
#[derive(Debug)]
pub(super) struct ClusterReaderHandle {
    waker: Arc<ReaderWaker>,
    thread: JoinHandle<()>,
}

/// The reader thread's state.
struct ClusterReader {
    config: RedisConfig,
    directory: Directory,
    bus: Arc<Bus>,
    clock: Clock,
    view: Arc<ClusterView>,
    status: Arc<ClusterStatus>,
    poll: Poll,
    waker: Arc<ReaderWaker>,
    interest: Receiver<Interest>,
    shards: Vec<ShardLink>,
    next_token: usize,
    /// Topics in slots that no node has.
    unplaced: Subscriptions,
    /// How many there were when that was reported.
    unplaced_count: usize,
    map: Arc<SlotMap>,
    /// Whether each slot has a master.
    is_complete: bool,
    /// Of the view, when it was last followed.
    versions: (u64, u64),
}

/// The link to one master.
struct ShardLink {
    node: NodeAddress,
    token: Token,
    link: ReaderLink,
}

impl ClusterReaderHandle {
    /// Starts the thread. Fails if `config` names files that cannot be used.
    pub(super) fn start(
        config: RedisConfig,
        bus: Arc<Bus>,
        clock: Clock,
        view: Arc<ClusterView>,
        status: Arc<ClusterStatus>,
        pin: Option<core_affinity::CoreId>,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(ReaderWaker::new(mio::Waker::new(poll.registry(), WAKER)?));
        // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
        let (changes, interest) = crossbeam_channel::unbounded();
        view.set_reader(Arc::clone(&waker) as Arc<dyn Wake>);
        let mut reader = ClusterReader {
            directory: config.directory()?,
            unplaced: Subscriptions::new(&config),
            bus: Arc::clone(&bus),
            clock,
            view,
            status,
            poll,
            waker: Arc::clone(&waker),
            interest,
            shards: Vec::new(),
            next_token: FIRST_LINK,
            unplaced_count: 0,
            map: Arc::default(),
            is_complete: false,
            versions: (0, 0),
            // Links get their topics from here.
            config: RedisConfig { always: Vec::new(), ..config },
        };
        bus.watch_interest(PUBSUB_SOURCE, changes, Arc::clone(&waker) as Arc<dyn Wake>);
        let thread = std::thread::Builder::new().name("redis-reader".to_owned()).spawn(move || {
            claim_processor("the Redis reader", pin, true);
            reader.run();
        })?;
        Ok(Self { waker, thread })
    }

    /// Closes the connections and waits for the thread to end. Topics stay as they are: the hub is going down.
    pub(super) fn stop(self) {
        self.waker.stop();
        if self.thread.join().is_err() {
            warn!("the Redis reader thread had panicked");
        }
    }
}

impl ClusterReader {
    /// Runs until the waker is stopped.
    fn run(&mut self) {
        let mut events = mio::Events::with_capacity(64);
        let mut edges = Vec::new();
        while !self.waker.is_stopped() {
            if let Err(error) = self.poll.poll(&mut events, self.poll_timeout())
                && error.kind() != io::ErrorKind::Interrupted
            {
                // Only our own contradiction could cause it; readiness fails when no proof comes any more.
                return warn!("the Redis reader ends: poll: {error}");
            }
            edges.clear();
            edges.extend(events.iter().map(mio::event::Event::token));
            self.turn(&edges, self.clock.now());
        }
    }

    /// How long the poll may wait.
    fn poll_timeout(&self) -> Option<Duration> {
        let now = self.clock.now();
        let deadlines = self.shards.iter().map(|shard| shard.link.deadline().unwrap_or(now));
        deadlines.chain(self.unplaced.deadline()).min().map(|deadline| deadline.since(now))
    }

    /// Sockets → what nodes told of slots → the map → interest → commands and timers.
    fn turn(&mut self, edges: &[Token], now: Moment) {
        // Before the queues are read: what is put in afterwards wakes the reader again.
        let is_woken = self.waker.take();
        for shard in &mut self.shards {
            shard.link.drive(self.poll.registry(), edges.contains(&shard.token), now);
        }
        self.pass_on_slot_news();
        self.follow_map(now);
        if is_woken {
            self.take_interest();
        }
        for shard in &mut self.shards {
            let is_due = is_woken || shard.link.is_interest_due(now);
            if is_due {
                shard.link.take_interest(std::iter::empty(), now);
            }
            shard.link.converse(now);
            if is_due {
                shard.link.report_to_bus(now);
            }
        }
        if is_woken || self.unplaced.deadline().is_some_and(|due| due <= now) {
            self.unplaced.expire(now);
            self.report_unplaced(now);
        }
        let is_settled = self.is_complete
            && self.shards.iter_mut().all(|shard| shard.link.is_ready() && !shard.link.subscriptions().has_postponed());
        self.view.set_unsettled(!is_settled);
    }

    /// Tells all threads what nodes have told of slots.
    fn pass_on_slot_news(&mut self) {
        for shard in &mut self.shards {
            let news = shard.link.take_slot_news();
            news.moved.iter().for_each(|moved| self.view.redirect(moved, &shard.node));
            if news.is_outdated {
                self.view.request_look();
            }
        }
    }

    /// Changes of the interest go to the link that has the topic's slot.
    fn take_interest(&mut self) {
        let changes: Vec<Interest> = self.interest.try_iter().collect();
        let now = self.clock.now();
        for change in changes {
            match change {
                Interest::Wanted(topic) => self.subscriptions_of(&topic).want(topic),
                Interest::Unwanted(topic) => self.subscriptions_of(&topic).unwant(&topic, now),
            }
        }
    }

    fn subscriptions_of(&mut self, topic: &Topic) -> &mut Subscriptions {
        let owner = self.map.owner(slot_of(topic));
        match self.shards.iter_mut().find(|shard| owner == Some(&shard.node)) {
            Some(shard) => shard.link.subscriptions(),
            None => &mut self.unplaced,
        }
    }

    /// Follows the map, if it has changed, and tries again what waited for it.
    fn follow_map(&mut self, now: Moment) {
        let versions = self.view.versions();
        if versions == self.versions {
            return;
        }
        let is_changed = versions.0 != self.versions.0;
        self.versions = versions;
        if is_changed {
            self.map = self.view.map();
            self.is_complete = self.map.is_complete();
            self.open_links(now);
            self.move_topics(now);
            self.close_links();
            for shard in &mut self.shards {
                shard.link.report_to_bus(now);
            }
        }
        for shard in &mut self.shards {
            shard.link.subscriptions().resume_postponed();
            if (is_changed || shard.link.has_lost_probe())
                && let Some(tag) = self.map.tag_of(&shard.node)
            {
                shard.link.set_probe_tag(&tag);
            }
        }
    }

    /// Opens a link to each master that has none yet.
    fn open_links(&mut self, now: Moment) {
        let map = Arc::clone(&self.map);
        for node in map.masters() {
            if self.shards.iter().any(|shard| shard.node == *node) {
                continue;
            }
            let token = Token(self.next_token);
            self.next_token += 1;
            let link = ReaderLink::new(
                self.config.clone(),
                self.directory.in_cluster(ClusterPlace::Node(node.clone())),
                LinkKind::Shard { node: node.clone(), tag: map.tag_of(node), names: Arc::clone(&self.view) },
                token,
                Arc::clone(&self.bus),
                self.status.shard(node),
                self.view.server(node),
                now,
            );
            self.shards.push(ShardLink { node: node.clone(), token, link });
        }
    }

    /// Hands each topic to the link that has its slot now.
    fn move_topics(&mut self, now: Moment) {
        let map = Arc::clone(&self.map);
        let mut moving: Vec<MovingTopic> = Vec::new();
        for shard in &mut self.shards {
            let is_elsewhere = |topic: &Topic| map.owner(slot_of(topic)) != Some(&shard.node);
            moving.extend(shard.link.subscriptions().release(is_elsewhere));
            // That they are not delivered comes before that they are, by the other link.
            shard.link.report_to_bus(now);
        }
        if !moving.is_empty() {
            info!("{}: {} topics have another node", self.config.url, moving.len());
        }
        moving.extend(self.unplaced.release(|topic| map.owner(slot_of(topic)).is_some()));
        for topic in moving {
            self.subscriptions_of(&topic.topic().clone()).adopt(topic);
        }
    }

    /// Closes the links to nodes that have no slots any more.
    fn close_links(&mut self) {
        let map = Arc::clone(&self.map);
        let masters = map.masters();
        self.shards.retain(|shard| masters.contains(&&shard.node));
    }

    fn report_unplaced(&mut self, now: Moment) {
        let count = self.unplaced.topic_count();
        if std::mem::replace(&mut self.unplaced_count, count) != count {
            self.status.set_unplaced(count);
        }
        let mut feed = self.bus.feed();
        report_notices(&self.bus, &mut feed, &mut self.unplaced, &self.status.common(), now);
    }
}
