//! What should be subscribed, what is, and what each topic is to be told about it. No I/O: commands out as values,
//! confirmations in.
//!
//! LIFECYCLE of a topic: wanted → *queued* → *asked* → *confirmed* → (unwanted, and `linger` passed) → left. A lost
//! connection takes everything back to *queued*; an access rule takes one topic to *denied* until it is wanted anew.
//! A topic that a configured pattern covers is never subscribed by itself, or its messages would come twice.
//!
//! Two rules keep the promise that nothing is lost in silence. A topic whose delivery was interrupted reports the loss
//! once, when delivery is whole again: a listener that fetches its state anew at that moment misses nothing, while one
//! told at the moment of the interruption would miss what came after its fetch. And a topic that is given up reports a
//! loss when it is left, since its log has a hole from there on for whoever resumes later.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::{
    Config,
    patterns::{Patterns, Phase},
};
use crate::{clock::Moment, topic::Topic};

/// The most channels in one command: a longer one would hold up the server's other clients.
pub(super) const BATCH_CHANNELS_MAX: usize = 512;

/// All subscriptions of one source.
#[derive(Debug)]
pub(super) struct Subscriptions {
    interest: bool,
    linger: Duration,
    always: Vec<Topic>,
    patterns: Patterns,
    topics: HashMap<Topic, Entry, foldhash::fast::RandomState>,
    connected: bool,
    /// Topics to subscribe to; one that its entry does not say to be queued is passed over.
    queue: VecDeque<Topic>,
    /// The same, each in a command of its own, because a command with others was refused.
    alone: VecDeque<Topic>,
    leaving: VecDeque<Topic>,
    lingering: VecDeque<(Moment, Topic)>,
    /// Topics that no pattern covers.
    direct: usize,
    confirmed: usize,
    denied: usize,
    notices: Vec<Notice>,
}

/// What the bus is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// The topic is delivered from here on.
    Live(Topic),
    /// The topic is not delivered at present.
    Stale(Topic),
    /// Events of the topic may be missing before this place.
    Lost(Topic),
    /// The topic was given up in good order: its log has a hole from here on.
    Left(Topic),
    /// The same, of every topic that the pattern at this index [carried](Patterns::carried).
    LostUnder(usize),
    /// The server's access rules forbid this channel or pattern.
    Denied(String),
}

/// One command to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Batch {
    /// `SUBSCRIBE`
    Topics(Vec<Topic>),
    /// `PSUBSCRIBE`, by index.
    Patterns(Vec<usize>),
    /// `UNSUBSCRIBE`
    Leave(Vec<Topic>),
}

/// How the numbers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) struct Tally {
    pub(in crate::source) wanted: usize,
    pub(in crate::source) confirmed: usize,
    pub(in crate::source) denied: usize,
    /// Whether all that the configuration names is confirmed.
    pub(in crate::source) settled: bool,
}

#[derive(Debug)]
struct Entry {
    /// The pattern its messages come in through; then `phase` says nothing.
    cover: Option<usize>,
    phase: Phase,
    always: bool,
    /// Since when nobody wants it.
    unwanted: Option<Moment>,
    /// Whether it stands in the queue of those that linger.
    lingers: bool,
    /// Its delivery was interrupted, and that is not reported yet.
    interrupted: bool,
}

impl Subscriptions {
    pub(super) fn new(config: &Config) -> Self {
        let mut subscriptions = Self {
            interest: config.interest,
            linger: config.linger,
            always: config.always.clone(),
            patterns: Patterns::new(&config.subscribe),
            topics: HashMap::default(),
            connected: false,
            queue: VecDeque::new(),
            alone: VecDeque::new(),
            leaving: VecDeque::new(),
            lingering: VecDeque::new(),
            direct: 0,
            confirmed: 0,
            denied: 0,
            notices: Vec::new(),
        };
        for topic in &config.always {
            subscriptions.insert(topic.clone(), true);
        }
        subscriptions
    }

    /// The configured patterns.
    pub(super) fn patterns(&self) -> &Patterns {
        &self.patterns
    }

    /// Somebody listens to `topic`.
    pub(super) fn want(&mut self, topic: Topic) {
        let Some(entry) = self.topics.get_mut(&topic) else { return self.insert(topic, false) };
        entry.unwanted = None;
        // The bus may have forgotten the topic meanwhile, and with it that it is live.
        if is_live(&self.patterns, entry) {
            self.notices.push(Notice::Live(topic));
        } else if entry.cover.is_none() && entry.phase == Phase::Denied {
            entry.phase = Phase::Queued;
            self.denied -= 1;
            self.alone.push_back(topic);
        }
    }

    /// Nobody listens to `topic` any more.
    pub(super) fn unwant(&mut self, topic: &Topic, now: Moment) {
        let Some(entry) = self.topics.get_mut(topic).filter(|entry| !entry.always) else { return };
        if entry.cover.is_some() {
            return self.leave(topic.clone());
        }
        entry.unwanted = Some(now);
        if !entry.lingers {
            entry.lingers = true;
            self.lingering.push_back((now + self.linger, topic.clone()));
        }
    }

    /// When [`Self::expire`] has something to do next.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.lingering.front().map(|(deadline, _)| *deadline)
    }

    /// Leaves the topics that nobody wanted for `linger`.
    pub(super) fn expire(&mut self, now: Moment) {
        while let Some((_, topic)) = self.lingering.pop_front_if(|(deadline, _)| *deadline <= now) {
            self.expire_topic(topic, now);
        }
    }

    /// The connection can take commands: everything is to be asked for.
    pub(super) fn on_connected(&mut self) {
        self.connected = true;
        let direct = self.topics.iter().filter(|(_, entry)| entry.cover.is_none());
        self.queue = direct.map(|(topic, _)| topic.clone()).collect();
    }

    /// The connection is gone, or was never made.
    pub(super) fn on_disconnected(&mut self) {
        for (topic, entry) in &mut self.topics {
            if is_live(&self.patterns, entry) {
                entry.interrupted = true;
                self.notices.push(Notice::Stale(topic.clone()));
            }
            entry.phase = Phase::Queued;
        }
        self.patterns.on_disconnected();
        // Every pattern is hoped for again, so it covers its topics again.
        for (topic, entry) in &mut self.topics {
            entry.cover = self.patterns.covering(topic);
        }
        self.direct = self.topics.values().filter(|entry| entry.cover.is_none()).count();
        self.connected = false;
        self.queue.clear();
        self.alone.clear();
        self.leaving.clear();
        (self.confirmed, self.denied) = (0, 0);
    }

    /// The next command to send. Whoever takes it reports its confirmations or its refusal.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        if !self.connected {
            return None;
        }
        let patterns = self.patterns.ask();
        if !patterns.is_empty() {
            return Some(Batch::Patterns(patterns));
        }
        // Before the topics: one of them may be a topic that was left and is wanted again.
        if !self.leaving.is_empty() {
            let count = self.leaving.len().min(BATCH_CHANNELS_MAX);
            return Some(Batch::Leave(self.leaving.drain(..count).collect()));
        }
        self.next_topics().map(Batch::Topics)
    }

    /// The server confirmed `topic`.
    pub(super) fn on_subscribed(&mut self, topic: &Topic) {
        let Some(entry) = self.topics.get_mut(topic).filter(|entry| entry.phase == Phase::Asked) else { return };
        entry.phase = Phase::Confirmed;
        self.confirmed += 1;
        if std::mem::take(&mut entry.interrupted) {
            self.notices.push(Notice::Lost(topic.clone()));
        }
        self.notices.push(Notice::Live(topic.clone()));
    }

    /// The server confirmed the pattern at `index`.
    pub(super) fn on_pattern_subscribed(&mut self, index: usize) {
        if !self.patterns.on_confirmed(index) {
            return;
        }
        self.confirmed += 1;
        let all_lost = self.patterns.take_interruption(index);
        if all_lost {
            self.notices.push(Notice::LostUnder(index));
        }
        for (topic, entry) in self.topics.iter_mut().filter(|(_, entry)| entry.cover == Some(index)) {
            let lost = std::mem::take(&mut entry.interrupted);
            if lost && !(all_lost && self.patterns.carried(index, topic)) {
                self.notices.push(Notice::Lost(topic.clone()));
            }
            self.notices.push(Notice::Live(topic.clone()));
        }
    }

    /// The server refused a whole command. One channel in it may be the cause: each is asked for alone, and what is
    /// refused alone is denied.
    pub(super) fn on_refused(&mut self, batch: &Batch) {
        match batch {
            Batch::Topics(topics) => match topics.as_slice() {
                [topic] => self.deny_topic(topic),
                topics => self.part_topics(topics),
            },
            Batch::Patterns(indices) => match indices.as_slice() {
                [index] => self.deny_pattern(*index),
                indices => self.patterns.part(indices),
            },
            // Nothing subscribed is nothing to leave.
            Batch::Leave(_) => {}
        }
    }

    /// Takes what the bus is to be told, in order.
    pub(super) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(super) fn tally(&self) -> Tally {
        let is_confirmed = |topic| self.topics.get(topic).is_some_and(|entry| is_live(&self.patterns, entry));
        Tally {
            wanted: self.patterns.len() + self.direct,
            confirmed: self.confirmed,
            denied: self.denied,
            settled: self.patterns.all_confirmed() && self.always.iter().all(is_confirmed),
        }
    }

    fn insert(&mut self, topic: Topic, always: bool) {
        let cover = self.patterns.covering(&topic);
        if cover.is_none() && !always && !self.interest {
            return;
        }
        match cover {
            Some(index) if self.patterns.is_confirmed(index) => self.notices.push(Notice::Live(topic.clone())),
            Some(_) => {}
            None => {
                self.direct += 1;
                // Without a connection the queue is not drained; it is filled from the table when there is one.
                if self.connected {
                    self.queue.push_back(topic.clone());
                }
            }
        }
        let phase = Phase::Queued;
        self.topics.insert(topic, Entry { cover, phase, always, unwanted: None, lingers: false, interrupted: false });
    }

    fn expire_topic(&mut self, topic: Topic, now: Moment) {
        let Some(entry) = self.topics.get_mut(&topic) else { return };
        entry.lingers = false;
        let Some(unwanted) = entry.unwanted else { return };
        // While a confirmation is on the way the topic stays: with an `UNSUBSCRIBE` and a second `SUBSCRIBE` behind the
        // first, its confirmation would be taken for theirs.
        let deadline = if entry.phase == Phase::Asked { now + self.linger } else { unwanted + self.linger };
        if now < deadline {
            entry.lingers = true;
            self.lingering.push_back((deadline, topic));
        } else {
            self.leave(topic);
        }
    }

    fn leave(&mut self, topic: Topic) {
        let Some(entry) = self.topics.remove(&topic) else { return };
        let is_live = is_live(&self.patterns, &entry);
        if is_live {
            self.notices.push(Notice::Stale(topic.clone()));
        }
        match entry.cover {
            // The pattern goes on delivering it, and if it owes a report, that includes the topic.
            Some(index) if self.patterns.is_interrupted(index) => {}
            None if is_live => self.notices.push(Notice::Left(topic.clone())),
            _ if entry.interrupted => self.notices.push(Notice::Lost(topic.clone())),
            _ => {}
        }
        if entry.cover.is_none() {
            self.direct -= 1;
            self.confirmed -= usize::from(is_live);
            self.denied -= usize::from(entry.phase == Phase::Denied);
            if is_live {
                self.leaving.push_back(topic);
            }
        }
    }

    fn next_topics(&mut self) -> Option<Vec<Topic>> {
        while let Some(topic) = self.alone.pop_front() {
            if self.ask(&topic) {
                return Some(vec![topic]);
            }
        }
        let mut batch = Vec::new();
        while batch.len() < BATCH_CHANNELS_MAX
            && let Some(topic) = self.queue.pop_front()
        {
            if self.ask(&topic) {
                batch.push(topic);
            }
        }
        (!batch.is_empty()).then_some(batch)
    }

    /// Marks `topic` as asked for, if it still is to be.
    fn ask(&mut self, topic: &Topic) -> bool {
        let is_due = |entry: &&mut Entry| entry.phase == Phase::Queued && entry.cover.is_none();
        let Some(entry) = self.topics.get_mut(topic).filter(is_due) else { return false };
        entry.phase = Phase::Asked;
        true
    }

    fn part_topics(&mut self, topics: &[Topic]) {
        for topic in topics {
            if let Some(entry) = self.topics.get_mut(topic) {
                entry.phase = Phase::Queued;
                self.alone.push_back(topic.clone());
            }
        }
    }

    fn deny_topic(&mut self, topic: &Topic) {
        if let Some(entry) = self.topics.get_mut(topic) {
            entry.phase = Phase::Denied;
            self.denied += 1;
            self.notices.push(Notice::Denied(topic.to_string()));
        }
    }

    /// The topics it covered go through the next pattern that covers them, or by themselves.
    fn deny_pattern(&mut self, index: usize) {
        self.patterns.deny(index);
        self.denied += 1;
        self.notices.push(Notice::Denied(self.patterns.text(index).to_owned()));
        if self.patterns.take_interruption(index) {
            self.notices.push(Notice::LostUnder(index));
        }
        let covered = self.topics.extract_if(|_, entry| entry.cover == Some(index));
        for (topic, entry) in covered.collect::<Vec<_>>() {
            self.move_topic(topic, &entry);
        }
    }

    /// Takes `topic` in anew, with its linger and the report that it still owes.
    fn move_topic(&mut self, topic: Topic, old: &Entry) {
        self.insert(topic.clone(), old.always);
        let mut is_owed = old.interrupted;
        if let Some(entry) = self.topics.get_mut(&topic) {
            (entry.unwanted, entry.lingers) = (old.unwanted, old.lingers);
            entry.interrupted = is_owed && !is_live(&self.patterns, entry);
            is_owed &= !entry.interrupted;
        }
        if is_owed {
            self.notices.push(Notice::Lost(topic));
        }
    }
}

fn is_live(patterns: &Patterns, entry: &Entry) -> bool {
    match entry.cover {
        Some(index) => patterns.is_confirmed(index),
        None => entry.phase == Phase::Confirmed,
    }
}
