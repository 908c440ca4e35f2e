//! What the bridge does with logs that are carried into others: a machine without threads, sockets or clock.

#[cfg(test)]
mod tests;
mod topic;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use self::topic::{LogTopic, Need, Settled};
use super::{BridgeConfig, TopicMap, catalog::CarriedLog, relay::Tally};
use crate::{
    bus::{ArchiveFailed, ArchivePage, EventMessage, Publication, Receipt, TopicKey},
    clock::Moment,
    event::{EventId, Start},
    source::CarriedUpto,
    topic::Topic,
};

/// Publications of one topic that are sent before the next topic has its turn.
const SLICE: usize = 64;

/// Pages that may be asked for at a time.
const PAGES_MAX: usize = 16;

/// Events of all topics that may wait to be sent; beyond that, what comes is read later from the broker.
const QUEUED_MAX: usize = 32_768;

/// How long a topic waits after a failure.
const RETRY: Duration = Duration::from_millis(500);

/// What the machine needs of the world.
pub(super) trait LogIo {
    /// Sends a publication to the other side.
    fn publish(&mut self, publication: Publication);
    /// Asks the archive for a page of `topic`; the answer goes to [`LogRelay::take_page`].
    fn fetch(&mut self, topic: &Topic, asked: PageAsked, start: Start, content: Option<u64>);
    /// Asks how far a log was carried; the answer goes to [`LogRelay::take_place`].
    fn ask_place(&mut self, log: CarriedLog);
    /// Remembers how far a log is carried.
    fn remember(&mut self, log: CarriedLog, upto: EventId);
}

/// A page that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageAsked {
    pub(super) key: TopicKey,
    run: u64,
}

/// The outcome of a publication.
#[derive(Debug)]
pub(super) struct LogOutcome {
    key: TopicKey,
    number: u64,
    receipt: Receipt,
}

/// How an outcome comes back, from whichever thread has it.
pub(super) type LogReport = Arc<dyn Fn(LogOutcome) + Send + Sync>;

/// All logs that a bridge carries.
pub(super) struct LogRelay {
    maps: Vec<TopicMap>,
    /// What the source's logs are called at the other side.
    source: String,
    topics: HashMap<TopicKey, LogTopic>,
    keys: HashMap<Topic, TopicKey>,
    /// Those that may need something, each once.
    turns: VecDeque<TopicKey>,
    has_turn: BTreeSet<u64>,
    /// Those that are to be looked at again at some time.
    waiting: BTreeSet<(Moment, u64)>,
    /// Those that are carried further than is remembered.
    unremembered: BTreeSet<u64>,
    pages_asked: usize,
    queued: usize,
    in_flight: usize,
    in_flight_max: usize,
    /// Whether the other side takes nothing out of turn.
    is_chained: bool,
    /// Whether what another bridge has brought is carried on.
    chains: bool,
    /// Events that were not, for that reason.
    returned: u64,
    report: LogReport,
}

impl LogRelay {
    pub(super) fn new(config: &BridgeConfig, report: LogReport) -> Self {
        Self {
            maps: config.maps.clone(),
            source: config.from.clone(),
            topics: HashMap::new(),
            keys: HashMap::new(),
            turns: VecDeque::new(),
            has_turn: BTreeSet::new(),
            waiting: BTreeSet::new(),
            unremembered: BTreeSet::new(),
            pages_asked: 0,
            queued: 0,
            in_flight: 0,
            in_flight_max: config.in_flight_max,
            is_chained: config.to == "redis_stream",
            chains: config.chain,
            returned: 0,
            report,
        }
    }

    /// The number of topics that are carried.
    pub(super) fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// Events that stayed where they are since the last call, because another bridge had brought them there.
    pub(super) fn take_returned(&mut self) -> u64 {
        std::mem::take(&mut self.returned)
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0
    }

    /// Whether `topic` is carried.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.keys.contains_key(topic)
    }

    /// What `topic` is called on the other side. `None`: no map names it, or it cannot have a name there.
    pub(super) fn target_of(&self, topic: &Topic) -> Option<Topic> {
        self.maps.iter().find(|map| map.from().matches(topic))?.translate(topic)
    }

    /// Begins to carry `topic`, which the bus calls `key`, to `target`.
    pub(super) fn add(&mut self, topic: Topic, key: TopicKey, target: Topic, now: Moment) {
        let origin: Arc<str> = format!("{}:{topic}", self.source).into();
        self.keys.insert(topic.clone(), key);
        self.topics.insert(key, LogTopic::new(CarriedLog { topic, origin, target }, self.chains, now));
        self.give_turn(key);
    }

    /// Ends all topics but `wanted`, if nothing of them is under way. Returns them.
    pub(super) fn retain(&mut self, wanted: impl Fn(&Topic) -> bool) -> Vec<TopicKey> {
        let is_left = |topic: &LogTopic| topic.is_idle() && !wanted(&topic.log.topic);
        let left: Vec<TopicKey> = self.topics.iter().filter(|(_, topic)| is_left(topic)).map(|(key, _)| *key).collect();
        for key in &left {
            if let Some(topic) = self.topics.remove(key) {
                self.keys.remove(&topic.log.topic);
            }
        }
        left
    }

    fn give_turn(&mut self, key: TopicKey) {
        if self.has_turn.insert(key.0) {
            self.turns.push_back(key);
        }
    }

    /// Changes a topic, and counts what waits in it.
    fn with<T>(&mut self, key: TopicKey, change: impl FnOnce(&mut LogTopic, bool) -> T) -> Option<T> {
        let is_full = QUEUED_MAX <= self.queued;
        let topic = self.topics.get_mut(&key)?;
        let before = topic.queued_count();
        let outcome = change(topic, is_full);
        self.returned += std::mem::take(&mut topic.returned);
        self.queued = self.queued + topic.queued_count() - before;
        self.give_turn(key);
        Some(outcome)
    }

    /// An event of the hub's copy of a log.
    pub(super) fn take_event(&mut self, message: &EventMessage) {
        self.with(message.key, |topic, is_full| topic.on_event(&message.event, is_full));
    }

    /// The hub's copy of a log has lost the thread, or begins again.
    pub(super) fn unjoin(&mut self, key: TopicKey) {
        self.with(key, |topic, _| topic.unjoin());
    }

    /// Another bridge may carry all of it from here on, or has until now.
    pub(super) fn unplace_all(&mut self) {
        for key in self.topics.keys().copied().collect::<Vec<_>>() {
            self.with(key, |topic, _| topic.unplace());
        }
    }

    /// The answer to the question how far `topic` was carried; `None`: there is none at present.
    pub(super) fn take_place(&mut self, topic: &Topic, answer: Option<Option<CarriedUpto>>, now: Moment) {
        let Some(key) = self.keys.get(topic).copied() else { return };
        let is_chained = self.is_chained;
        self.with(key, |topic, _| match answer {
            Some(carried) => topic.on_placed(carried, is_chained, now),
            None => topic.on_unanswered(now + RETRY),
        });
    }

    /// A page has come, or will not.
    pub(super) fn take_page(&mut self, asked: PageAsked, page: &Result<ArchivePage, ArchiveFailed>, now: Moment) {
        self.pages_asked -= 1;
        self.with(asked.key, |topic, _| match page {
            _ if !topic.awaits_page(asked.run) => {}
            Ok(page) => topic.on_page(page, now),
            Err(_) => topic.on_unanswered(now + RETRY),
        });
    }

    /// The outcome of a publication.
    pub(super) fn settle(&mut self, outcome: LogOutcome, tally: &mut Tally, now: Moment) {
        self.in_flight -= 1;
        let LogOutcome { key, number, receipt } = outcome;
        match self.with(key, |topic, _| topic.settle(number, receipt, now + RETRY)) {
            Some(Settled::Event) => tally.relayed += 1,
            Some(Settled::Gap) => tally.losses += 1,
            Some(Settled::Failed) | None => tally.failed += 1,
        }
        self.unremembered.insert(key.0);
    }

    /// Does what there is to do. True if there is more that can be done at once.
    pub(super) fn run(&mut self, io: &mut impl LogIo, now: Moment) -> bool {
        while let Some((due, key)) = self.waiting.first().copied().filter(|(due, _)| *due <= now) {
            self.waiting.remove(&(due, key));
            self.give_turn(TopicKey(key));
        }
        for _ in 0..self.turns.len() {
            let Some(key) = self.turns.pop_front() else { return false };
            self.has_turn.remove(&key.0);
            if !self.turn(key, io, now) {
                // It is the first again as soon as there is room.
                self.has_turn.insert(key.0);
                self.turns.push_front(key);
                return false;
            }
        }
        !self.turns.is_empty()
    }

    /// The turn of one topic. False if it needs something for which there is no room.
    fn turn(&mut self, key: TopicKey, io: &mut impl LogIo, now: Moment) -> bool {
        for _ in 0..SLICE {
            let is_full = QUEUED_MAX <= self.queued;
            let Some(topic) = self.topics.get_mut(&key) else { return true };
            match topic.need(is_full, now) {
                Need::Nothing => return true,
                Need::Wait(due) => {
                    self.waiting.insert((due, key.0));
                    return true;
                }
                Need::Place => {
                    topic.on_place_asked();
                    io.ask_place(topic.log.clone());
                    return true;
                }
                Need::Send if self.in_flight_max <= self.in_flight => return false,
                Need::Send => {
                    let report = Arc::clone(&self.report);
                    let reply = |number| -> crate::bus::ReceiptCallback {
                        Box::new(move |receipt| report(LogOutcome { key, number, receipt }))
                    };
                    if let Some(publication) = topic.send(reply) {
                        (self.in_flight, self.queued) = (self.in_flight + 1, self.queued - 1);
                        io.publish(publication);
                    }
                }
                Need::Page if PAGES_MAX <= self.pages_asked => return false,
                Need::Page => {
                    let (start, content, run) = topic.ask_page();
                    self.pages_asked += 1;
                    io.fetch(&topic.log.topic, PageAsked { key, run }, start, content);
                    return true;
                }
            }
        }
        self.give_turn(key);
        true
    }

    /// Has the source's broker remember how far each log is carried, where that has changed.
    pub(super) fn remember(&mut self, io: &mut impl LogIo) {
        for key in std::mem::take(&mut self.unremembered) {
            if let Some(topic) = self.topics.get(&TopicKey(key))
                && let Some(upto) = topic.taken_upto()
            {
                io.remember(topic.log.clone(), upto);
            }
        }
    }
}
