//! Which topics should be subscribed, which are, and what the bus is to know of each. No I/O: commands out as values, confirmations
//! in.
//!
//! Lifecycle of a topic: wanted → *queued* → *asked* → *confirmed* → (unwanted, and `linger` passed) → left. A lost
//! connection takes everything back to *queued*; an access rule takes one topic to *denied*, from where it is queued
//! again after a wait that grows up to `backoff_max`.
//! A topic that a configured pattern covers is never subscribed by itself, or its messages would come twice.
//!
//! Two rules ensure that no loss goes unreported. A topic whose delivery was interrupted reports the loss once, when delivery
//! resumes: a listener that fetches its state anew at that moment misses nothing, whereas one notified at the moment of the
//! interruption would miss what came after its fetch. A topic that is unsubscribed reports a loss then, because its log has a hole
//! from there on for a client that resumes later. A refusal may last long: readers are notified when it begins, and when it ends.

mod moving;
mod notices;
mod patterns;
mod refusing;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    time::Duration,
};

pub(in crate::source) use self::{moving::MovingTopic, notices::report_notices, patterns::Admission};
use self::{
    patterns::{Patterns, SubscriptionPhase},
    refusing::notify_refusal,
};
use crate::{
    clock::Moment,
    source::{Backoff, refusals::Refused, status::SubscriptionCounts},
    topic::Topic,
};

/// A pattern over the broker's channels, as the broker matches it.
pub(in crate::source) trait ChannelPattern: fmt::Debug {
    /// The pattern as it was configured.
    fn as_str(&self) -> &str;

    /// Whether it covers `channel`.
    fn matches(&self, channel: &[u8]) -> bool;

    /// Whether a refusal with the text `text` says that the broker lets the hub subscribe to nothing.
    fn is_of_every(text: &str) -> bool;
}

/// What the configuration says of a source's subscriptions.
#[derive(Debug)]
pub(in crate::source) struct SubscriptionSettings<P> {
    /// Whether a topic with readers is subscribed.
    pub(in crate::source) interest: bool,
    /// How long a topic stays subscribed without readers.
    pub(in crate::source) linger: Duration,
    /// Topics that stay subscribed.
    pub(in crate::source) always: Vec<Topic>,
    /// Patterns that stay subscribed.
    pub(in crate::source) patterns: Vec<P>,
    /// The most subscriptions in one batch.
    pub(in crate::source) batch_max: usize,
    /// The wait before what is refused is asked for again: the first one.
    pub(in crate::source) backoff_min: Duration,
    /// The longest one.
    pub(in crate::source) backoff_max: Duration,
}

/// All subscriptions of one source.
#[derive(Debug)]
pub(in crate::source) struct Subscriptions<P> {
    interest: bool,
    linger: Duration,
    batch_max: usize,
    always: Vec<Topic>,
    patterns: Patterns<P>,
    topics: HashMap<Topic, TopicSubscription, foldhash::fast::RandomState>,
    connected: bool,
    /// Topics to subscribe to; one that its entry does not say to be queued is passed over.
    queue: VecDeque<Topic>,
    /// The same, each in a command of its own, because a command with others was refused.
    alone: VecDeque<Topic>,
    /// Topics that the server does not take at present.
    postponed: Vec<Topic>,
    leaving: VecDeque<Topic>,
    lingering: VecDeque<(Moment, Topic)>,
    /// Topics that no pattern covers.
    direct: usize,
    confirmed: usize,
    /// Topics that the server refuses, also while they are asked for again.
    refused: BTreeMap<Topic, Refused>,
    /// Set while the server lets the hub subscribe to nothing.
    every_refused: Option<Refused>,
    has_new_refusals: bool,
    /// When what is refused is asked for again.
    retry: Option<Moment>,
    backoff: Backoff,
    /// The server does not let the hub in.
    source_refused: bool,
    notices: Vec<Notice>,
}

/// What the server refuses: some of it by name, how much there is, and whether it is everything.
pub(in crate::source) type RefusalReport = (Vec<(String, Refused)>, usize, Option<Refused>);

/// What the bus is to be notified of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Notice {
    /// The topic is delivered from here on.
    Live(Topic),
    /// The topic is not delivered at present.
    Stale(Topic),
    /// Events of the topic may be missing before this place.
    Lost(Topic),
    /// The topic was given up in good order: its log has a hole from here on.
    Left(Topic),
    /// The same, of every topic that the pattern at this index [carried](Patterns::carried), but for those that were
    /// delivered otherwise meanwhile.
    LostUnder { index: usize, kept: Vec<Topic> },
    /// The server will not deliver the topic until somebody changes something there. It may not be news, but the bus may
    /// have forgotten it.
    Refused { topic: Topic, is_news: bool, was_delivered: bool },
    /// The server's access rules forbid this channel or pattern.
    Denied(String),
}

/// One command to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source) enum Batch {
    /// Subscribe to the channels of these topics.
    Topics(Vec<Topic>),
    /// Subscribe to these patterns, by index.
    Patterns(Vec<usize>),
    /// Unsubscribe from the channels of these topics.
    Leave(Vec<Topic>),
}

#[derive(Debug)]
struct TopicSubscription {
    /// The pattern its messages come in through; then `phase` says nothing.
    cover: Option<usize>,
    phase: SubscriptionPhase,
    always: bool,
    /// When its last listener left; `None`: it has listeners.
    unwanted: Option<Moment>,
    /// Whether it is in the queue `lingering`.
    lingers: bool,
    /// Its delivery was interrupted, and that is not reported yet.
    interrupted: bool,
    /// Its readers have been notified that it is refused.
    notified: bool,
}

impl<P: ChannelPattern> Subscriptions<P> {
    pub(in crate::source) fn new(settings: impl Into<SubscriptionSettings<P>>) -> Self {
        let settings = settings.into();
        let mut subscriptions = Self {
            interest: settings.interest,
            linger: settings.linger,
            batch_max: settings.batch_max,
            always: settings.always.clone(),
            patterns: Patterns::new(settings.patterns),
            topics: HashMap::default(),
            connected: false,
            queue: VecDeque::new(),
            alone: VecDeque::new(),
            postponed: Vec::new(),
            leaving: VecDeque::new(),
            lingering: VecDeque::new(),
            direct: 0,
            confirmed: 0,
            refused: BTreeMap::new(),
            every_refused: None,
            has_new_refusals: false,
            retry: None,
            backoff: Backoff::new(settings.backoff_min, settings.backoff_max),
            source_refused: false,
            notices: Vec::new(),
        };
        for topic in settings.always {
            subscriptions.insert(topic, true);
        }
        subscriptions
    }

    /// The configured patterns.
    pub(in crate::source) fn patterns(&self) -> &Patterns<P> {
        &self.patterns
    }

    /// Somebody listens to `topic`.
    pub(in crate::source) fn want(&mut self, topic: Topic) {
        let Some(entry) = self.topics.get_mut(&topic) else { return self.insert(topic, false) };
        entry.unwanted = None;
        // The bus may have forgotten the topic meanwhile, and with it that it is live.
        if is_live(&self.patterns, entry) {
            self.notices.push(Notice::Live(topic));
            return;
        }
        if entry.notified {
            self.notices.push(Notice::Refused { topic: topic.clone(), is_news: false, was_delivered: false });
        }
        if entry.cover.is_none() && entry.phase == SubscriptionPhase::Denied {
            entry.phase = SubscriptionPhase::Queued;
            self.alone.push_back(topic);
        }
    }

    /// Nobody listens to `topic` any more.
    pub(in crate::source) fn unwant(&mut self, topic: &Topic, now: Moment) {
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

    /// When [`Self::expire`] or [`Self::retry_refused`] has something to do next.
    pub(in crate::source) fn deadline(&self) -> Option<Moment> {
        self.lingering.front().map(|(deadline, _)| *deadline).into_iter().chain(self.retry).min()
    }

    /// What to do with a message that came on `channel` itself.
    pub(in crate::source) fn admit(&self, channel: &[u8]) -> Admission {
        let entry = std::str::from_utf8(channel).ok().and_then(|name| self.topics.get(name));
        match entry {
            Some(entry) if entry.cover.is_some() => Admission::Repeated,
            Some(entry) if entry.phase == SubscriptionPhase::Confirmed => Admission::Wanted,
            _ if self.leaving.is_empty() => Admission::Unasked,
            _ => Admission::Repeated,
        }
    }

    /// Leaves the topics that nobody wanted for `linger`.
    pub(in crate::source) fn expire(&mut self, now: Moment) {
        while let Some((_, topic)) = self.lingering.pop_front_if(|(deadline, _)| *deadline <= now) {
            self.expire_topic(topic, now);
        }
    }

    /// The connection can take commands: everything is to be asked for.
    pub(in crate::source) fn on_connected(&mut self) {
        self.connected = true;
        self.source_refused = false;
        let direct = self.topics.iter().filter(|(_, entry)| entry.cover.is_none());
        self.queue = direct.map(|(topic, _)| topic.clone()).collect();
    }

    /// The connection is gone, or was never made.
    pub(in crate::source) fn on_disconnected(&mut self) {
        for (topic, entry) in &mut self.topics {
            if is_live(&self.patterns, entry) {
                entry.interrupted = true;
                self.notices.push(Notice::Stale(topic.clone()));
            }
            entry.phase = SubscriptionPhase::Queued;
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
        self.postponed.clear();
        self.leaving.clear();
        self.confirmed = 0;
        self.has_new_refusals |= self.refused_count() != 0 || self.every_refused.is_some();
        self.refused.clear();
        (self.every_refused, self.retry) = (None, None);
    }

    /// The next command to send. Whoever takes it reports its confirmations or its refusal.
    pub(in crate::source) fn next_batch(&mut self) -> Option<Batch> {
        if !self.connected {
            return None;
        }
        let patterns = self.patterns.ask(self.batch_max);
        if !patterns.is_empty() {
            return Some(Batch::Patterns(patterns));
        }
        // Before the topics: one of them may be a topic that was left and is wanted again.
        if !self.leaving.is_empty() {
            let count = self.leaving.len().min(self.batch_max);
            return Some(Batch::Leave(self.leaving.drain(..count).collect()));
        }
        self.next_topics().map(Batch::Topics)
    }

    /// The server confirmed `topic`.
    pub(in crate::source) fn on_subscribed(&mut self, topic: &Topic) {
        self.on_command_allowed();
        let Some(entry) = self.topics.get_mut(topic) else {
            // Given up meanwhile.
            return self.leaving.push_back(topic.clone());
        };
        if entry.phase != SubscriptionPhase::Asked {
            return;
        }
        if entry.cover.is_some() {
            // A pattern brings it by now.
            entry.phase = SubscriptionPhase::Queued;
            return self.leaving.push_back(topic.clone());
        }
        entry.phase = SubscriptionPhase::Confirmed;
        entry.notified = false;
        self.confirmed += 1;
        if std::mem::take(&mut entry.interrupted) {
            self.notices.push(Notice::Lost(topic.clone()));
        }
        self.notices.push(Notice::Live(topic.clone()));
        self.has_new_refusals |= self.refused.remove(topic).is_some();
    }

    /// The server confirmed the pattern at `index`.
    pub(in crate::source) fn on_pattern_subscribed(&mut self, index: usize) {
        self.on_command_allowed();
        let Some(is_regained) = self.patterns.on_confirmed(index) else { return };
        self.confirmed += 1;
        self.has_new_refusals |= is_regained;
        let kept = if is_regained { self.cover_again(index) } else { Vec::new() };
        let all_lost = self.patterns.take_interruption(index);
        if all_lost {
            self.notices.push(Notice::LostUnder { index, kept });
        }
        for (topic, entry) in self.topics.iter_mut().filter(|(_, entry)| entry.cover == Some(index)) {
            entry.notified = false;
            let lost = std::mem::take(&mut entry.interrupted);
            if lost && !(all_lost && self.patterns.carried(index, topic)) {
                self.notices.push(Notice::Lost(topic.clone()));
            }
            self.notices.push(Notice::Live(topic.clone()));
        }
    }

    /// Takes what the bus is to be notified of, in order.
    pub(in crate::source) fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    pub(in crate::source) fn tally(&self) -> SubscriptionCounts {
        let is_settled = |topic: &Topic| {
            let is_live = |entry| is_live(&self.patterns, entry);
            self.topics.get(topic).is_some_and(is_live) || self.refused.contains_key(topic)
        };
        SubscriptionCounts {
            wanted: self.patterns.len() + self.direct,
            confirmed: self.confirmed,
            denied: self.refused_count(),
            settled: self.patterns.all_settled() && self.always.iter().all(is_settled),
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
        let mut entry = TopicSubscription {
            cover,
            phase: SubscriptionPhase::Queued,
            always,
            unwanted: None,
            lingers: false,
            interrupted: false,
            notified: false,
        };
        if self.source_refused {
            notify_refusal(&topic, &mut entry, &mut self.notices);
        }
        self.topics.insert(topic, entry);
    }

    fn expire_topic(&mut self, topic: Topic, now: Moment) {
        let Some(entry) = self.topics.get_mut(&topic) else { return };
        entry.lingers = false;
        let Some(unwanted) = entry.unwanted else { return };
        // While a confirmation is on the way the topic stays: with an `UNSUBSCRIBE` and a second `SUBSCRIBE` behind the
        // first, its confirmation would be taken for theirs.
        let deadline = if entry.phase == SubscriptionPhase::Asked { now + self.linger } else { unwanted + self.linger };
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
        if is_live || entry.notified {
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
            self.has_new_refusals |= self.refused.remove(&topic).is_some();
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
        while batch.len() < self.batch_max
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
        let is_due = |entry: &&mut TopicSubscription| entry.phase == SubscriptionPhase::Queued && entry.cover.is_none();
        let Some(entry) = self.topics.get_mut(topic).filter(is_due) else { return false };
        entry.phase = SubscriptionPhase::Asked;
        true
    }
}

fn is_live<P: ChannelPattern>(patterns: &Patterns<P>, entry: &TopicSubscription) -> bool {
    match entry.cover {
        Some(index) => patterns.is_confirmed(index),
        None => entry.phase == SubscriptionPhase::Confirmed,
    }
}
