//! The topics a reactor has subscribers for: its own copy of each log, and the subscribers.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use serde_json::value::RawValue;

use super::{connection::Subscription, engine::PendingSubscribe, net::Token};
use crate::{
    budget::{Budget, Charge},
    bus::{LogKind, LogSnapshot, TopicKey, TopicState},
    clock::Moment,
    event::{Event, EventId, Position},
    index::TopicIndex,
    log::{Policy, Ring, Start, SubscriberRing},
    topic::Topic,
};

/// A topic on this reactor.
#[derive(Debug)]
pub(super) struct LocalTopic {
    pub(super) state: Arc<TopicState>,
    /// The same events at the same positions as in the shared history.
    pub(super) ring: Ring,
    pub(super) subscribers: SubscriberRing,
    /// Whether it stands in a run queue or cools down.
    pub(super) queued: bool,
    /// Whether events have come that the round under way does not bring to every subscriber.
    pub(super) news: bool,
    /// The head when the round under way began: it brings every subscriber up to here, at least.
    pub(super) round_head: Position,
    /// What the round has taken so far.
    pub(super) spent: Duration,
    /// No round begins before.
    pub(super) cooldown_until: Moment,
    /// Topics whose events the round has brought along, to connections that listen to them as well.
    pub(super) carried: Vec<TopicIndex>,
    /// Whether the source has confirmed it.
    pub(super) live: bool,
    /// Every subscriber that could be served has been served up to here.
    pub(super) completed: Position,
    /// Connections that wait for it to become live.
    pub(super) waiting: VecDeque<Waiter>,
    /// How many connections replay it from the archive, and will listen to it then.
    pub(super) replaying: u32,
    /// With the policy `latest`: the newest event of each key.
    newest: Option<NewestByKey>,
    /// What it holds of the memory budget.
    _charge: Charge,
}

/// What a topic without events is taken to weigh on each reactor that has subscribers of it, in bytes. Its name is the bus's.
const LOCAL_TOPIC_BYTES: usize = 512;

/// The most topics that a round is taken to carry: a list of all could be as long as the table.
pub(super) const CARRIED_MAX: usize = 16;

type NewestByKey = HashMap<Box<str>, Position, foldhash::fast::RandomState>;

/// A connection that waits for a topic to become live.
#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) token: Token,
    pub(super) since: Moment,
    /// Where it wants to begin.
    pub(super) start: Start,
    pub(super) reason: SubscribeReason,
    /// What it holds of the memory budget.
    pub(super) _charge: Charge,
}

/// Why a connection subscribes.
#[derive(Debug)]
pub(super) enum SubscribeReason {
    /// Its URL names the topic: until it is live, the whole connection is held back.
    Opening,
    /// A `subscribe` command, to be acknowledged with this reference.
    Command(Option<Box<RawValue>>),
    /// A client of the session has asked for it.
    Client(Box<PendingSubscribe>),
}

impl LocalTopic {
    fn new(snapshot: LogSnapshot, charge: Charge) -> Self {
        let (state, live) = (Arc::clone(&snapshot.state), snapshot.live);
        let newest = (state.class.policy == Policy::Latest).then(HashMap::default);
        let head = snapshot.next;
        let mut topic = Self {
            state,
            ring: Ring::new(head, EventId::default()),
            subscribers: SubscriberRing::new(),
            queued: false,
            news: false,
            round_head: head,
            spent: Duration::ZERO,
            cooldown_until: Moment::default(),
            carried: Vec::new(),
            live,
            completed: head,
            waiting: VecDeque::new(),
            replaying: 0,
            newest,
            _charge: charge,
        };
        topic.load(snapshot);
        topic
    }

    /// Takes over the shared log as it is now. It has no subscriber here yet.
    pub(super) fn load(&mut self, snapshot: LogSnapshot) {
        let LogSnapshot { events, next, floor, epoch: (epoch, epoch_at), .. } = snapshot;
        let from = next - events.len() as Position;
        self.ring = match self.state.class.log {
            LogKind::Memory => Ring::new(from, floor),
            LogKind::Broker => Ring::sparse(from, floor),
        };
        self.ring.note_epoch(epoch, epoch_at);
        events.into_iter().for_each(|event| self.push(event));
        self.round_head = self.ring.next();
        self.completed = self.ring.next();
    }

    fn push(&mut self, event: Arc<Event>) {
        if let (Some(newest), Some(key)) = (&mut self.newest, &event.key) {
            match newest.get_mut(key) {
                Some(position) => *position = event.position,
                None => drop(newest.insert(key.clone(), event.position)),
            }
        }
        self.ring.push(event);
    }

    /// Where `subscription`, which is to this topic, stands: the position of the next event to write.
    pub(super) fn cursor(&self, subscription: &Subscription) -> Position {
        let subscriber = &self.subscribers.all()[subscription.subscriber.get()];
        if subscriber.format.is_several() { subscription.cursor } else { subscriber.cursor }
    }

    /// Moves `subscription`, which is to this topic.
    pub(super) fn set_cursor(&mut self, subscription: &mut Subscription, cursor: Position) {
        let subscriber = self.subscribers.at(subscription.subscriber);
        if subscriber.format.is_several() {
            subscription.cursor = cursor;
        } else {
            subscriber.cursor = cursor;
        }
    }

    /// Whether a newer event of the same key follows the one at `position`.
    pub(super) fn is_superseded(&self, position: Position) -> bool {
        let newest = self.newest.as_ref().zip(self.ring.event(position).and_then(|event| event.key.as_ref()));
        newest.is_some_and(|(newest, key)| newest.get(key).is_some_and(|newest| position < *newest))
    }

    /// Whether readers that are behind get the newest event of each key only.
    pub(super) fn conflates(&self) -> bool {
        self.newest.is_some()
    }

    /// Whether no connection listens to it, or is about to.
    pub(super) fn is_unused(&self) -> bool {
        self.subscribers.is_empty() && self.waiting.is_empty() && self.replaying == 0
    }

    /// Drops what is beyond its bounds.
    fn trim(&mut self, budget: &Budget, now: Moment) {
        self.ring.trim_within(&self.state.class.retention, budget, now);
        if let Some(newest) = &mut self.newest
            && 2 * self.ring.len() + KEYS_SPARED < newest.len()
        {
            let oldest = self.ring.oldest();
            newest.retain(|_, position| oldest <= *position);
        }
    }

    /// Takes `event`, unless a resync has brought it already. True if it is news.
    pub(super) fn take(&mut self, event: Arc<Event>, budget: &Budget, now: Moment) -> bool {
        if event.position < self.ring.next() {
            return false;
        }
        self.push(event);
        self.trim(budget, now);
        true
    }

    /// Takes what a resync brought. True if it is news, be it only that events are lost.
    pub(super) fn take_missed(&mut self, missed: LogSnapshot, budget: &Budget, now: Moment) -> bool {
        let head = self.ring.next();
        self.ring.skip_to(missed.next - missed.events.len() as Position, missed.floor);
        self.ring.note_epoch(missed.epoch.0, missed.epoch.1);
        for event in missed.events {
            self.take(event, budget, now);
        }
        head < self.ring.next()
    }
}

/// Keys kept of events that are no longer retained, before they are looked over.
const KEYS_SPARED: usize = 64;

/// All topics with subscribers here. A topic keeps its index while it has any.
#[derive(Debug, Default)]
pub(super) struct TopicTable {
    topics: Vec<Option<LocalTopic>>,
    free: Vec<TopicIndex>,
    by_name: HashMap<Topic, TopicIndex, foldhash::fast::RandomState>,
    by_key: HashMap<TopicKey, TopicIndex, foldhash::fast::RandomState>,
}

impl TopicTable {
    /// The topic, to be looked at.
    #[inline]
    pub(super) fn get(&self, topic_index: TopicIndex) -> Option<&LocalTopic> {
        self.topics.get(topic_index.get())?.as_ref()
    }

    #[inline]
    pub(super) fn at(&mut self, topic_index: TopicIndex) -> Option<&mut LocalTopic> {
        self.topics.get_mut(topic_index.get())?.as_mut()
    }

    pub(super) fn find(&self, topic: &Topic) -> Option<TopicIndex> {
        self.by_name.get(topic).copied()
    }

    #[inline]
    pub(super) fn find_key(&self, key: TopicKey) -> Option<TopicIndex> {
        self.by_key.get(&key).copied()
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (TopicIndex, &LocalTopic)> {
        self.topics.iter().enumerate().filter_map(|(index, topic)| Some((TopicIndex::new(index), topic.as_ref()?)))
    }

    /// Takes in a topic that the bus has just attached.
    pub(super) fn insert(&mut self, snapshot: LogSnapshot, budget: &Arc<Budget>) -> TopicIndex {
        let (topic, key) = (snapshot.state.topic.clone(), snapshot.state.key);
        let topic_index = self.free.pop().unwrap_or_else(|| {
            self.topics.push(None);
            TopicIndex::new(self.topics.len() - 1)
        });
        self.topics[topic_index.get()] = Some(LocalTopic::new(snapshot, budget.charge(LOCAL_TOPIC_BYTES)));
        self.by_name.insert(topic, topic_index);
        self.by_key.insert(key, topic_index);
        topic_index
    }

    pub(super) fn remove(&mut self, topic_index: TopicIndex) -> Option<LocalTopic> {
        let topic = self.topics.get_mut(topic_index.get())?.take()?;
        self.by_name.remove(&topic.state.topic);
        self.by_key.remove(&topic.state.key);
        self.free.push(topic_index);
        Some(topic)
    }

    /// Looks at the topics from index `from` on, [`SWEEP_SLICE`] of them: drops what has grown too old. Returns those that
    /// a connection has waited for longer than `timeout` or that no connection wants any more, and where to go on, if anywhere.
    pub(super) fn sweep(
        &mut self,
        from: usize,
        budget: &Budget,
        now: Moment,
        timeout: Duration,
    ) -> (Vec<TopicIndex>, Option<usize>) {
        let mut notable = Vec::new();
        let until = self.topics.len().min(from + SWEEP_SLICE);
        for index in from..until {
            let Some(topic) = &mut self.topics[index] else { continue };
            topic.trim(budget, now);
            let waited = topic.waiting.front().map(|waiter| now.since(waiter.since));
            if waited.map_or_else(|| topic.is_unused(), |waited| timeout < waited) {
                notable.push(TopicIndex::new(index));
            }
        }
        (notable, (until < self.topics.len()).then_some(until))
    }
}

/// Topics looked at in one turn.
const SWEEP_SLICE: usize = 1024;
