//! What endpoints read of topics: their figures, pages in the order of their names, parts of their histories.

use std::{
    ops::Bound,
    sync::{Arc, atomic::Ordering},
};

use super::{Bus, Class, TopicState, topics::lock};
use crate::{
    clock::Moment,
    event::{Event, EventId, Position, Start},
    gap::Gap,
    topic::Topic,
};

/// The figures of a topic, as the APIs show them.
#[derive(Clone, Debug)]
pub struct TopicSummary {
    /// The topic.
    pub topic: Topic,
    /// Subscriptions over all reactors.
    pub subscriber_count: usize,
    /// Events that a new subscriber can get: all that the log holds, or none if the class keeps no history.
    pub retained: usize,
    /// The size of the log in bytes, including events kept only for subscribers that are behind.
    pub retained_bytes: usize,
    /// The id of the oldest event that a new subscriber can get.
    pub oldest: Option<EventId>,
    /// The id of the newest retained event.
    pub newest: Option<EventId>,
    /// Its class.
    pub class: Class,
    /// What the API calls its log, after who keeps it.
    pub log_word: &'static str,
}

/// A part of a topic's history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The events, oldest first.
    pub events: Vec<Arc<Event>>,
    /// The events missing between the requested id and the first of `events`.
    pub gap: Option<Gap>,
    /// The id after which the next page begins, if there is more.
    pub next: Option<EventId>,
}

/// Topics read under one lock of the table: a few microseconds.
pub(super) const SLICE: usize = 256;

impl Bus {
    /// The figures of every topic. Time and memory grow with the number of topics: not for a reactor's thread.
    pub fn summaries(&self, now: Moment) -> Vec<TopicSummary> {
        self.topics().map(|state| self.summary_of(&state, now)).collect()
    }

    /// The first `most` topics from `from` on, in the order of their names. Takes no topic's lock.
    pub(crate) fn topics_from(&self, from: Bound<&str>, most: usize) -> Vec<Arc<TopicState>> {
        self.topics.page(from, most)
    }

    /// The number of subscriptions of `topic` over all reactors, 0 if it does not exist. Takes no topic's lock.
    pub fn subscriber_count(&self, topic: &Topic) -> usize {
        self.topics.find(topic).map_or(0, |state| state.subscriber_count.load(Ordering::Relaxed))
    }

    /// Calls `visit` with the topics whose names begin with `prefix`, 256 at a time, until a call fails.
    pub(crate) fn visit_topics<E>(
        &self,
        prefix: &str,
        mut visit: impl FnMut(Vec<Topic>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut from = Bound::Included(prefix.to_owned());
        loop {
            let page = self.topics.page(from.as_ref().map(String::as_str), SLICE);
            let under = page.iter().map(|state| &state.topic).take_while(|topic| topic.as_str().starts_with(prefix));
            let topics: Vec<_> = under.cloned().collect();
            let last = topics.last().filter(|_| topics.len() == SLICE).map(|topic| topic.as_str().to_owned());
            visit(topics)?;
            match last {
                Some(last) => from = Bound::Excluded(last),
                None => return Ok(()),
            }
        }
    }

    /// The figures of `topic`, if it exists.
    pub fn summary(&self, topic: &Topic, now: Moment) -> Option<TopicSummary> {
        Some(self.summary_of(&*self.topics.find(topic)?, now))
    }

    /// The figures of the topic that `state` is.
    pub(crate) fn summary_of(&self, state: &TopicState, now: Moment) -> TopicSummary {
        let mut log = lock(&state.log);
        log.history.trim_within(&state.class.retention, self.budget(), now);
        self.count_log(&mut log);
        let oldest = log.history.first_for_newcomers(&state.class.retention.history);
        TopicSummary {
            topic: state.topic.clone(),
            subscriber_count: state.subscriber_count.load(Ordering::Relaxed),
            retained: (log.history.next() - oldest) as usize,
            retained_bytes: log.history.bytes(),
            oldest: log.history.event(oldest).map(|event| event.id),
            newest: log.history.event(log.history.next() - 1).map(|event| event.id),
            class: state.class.clone(),
            log_word: self.log_word(&state.class),
        }
    }

    /// At most `limit` events of `topic` from `start` on, oldest first. If the log does not join on to `start`, the page has a gap,
    /// and its events begin with the oldest retained. `None`: the topic does not exist.
    pub fn history(&self, topic: &Topic, start: Start, limit: usize, now: Moment) -> Option<HistoryPage> {
        let state = self.topics.find(topic)?;
        let log = lock(&state.log);
        let history = &log.history;
        let placed = history.start_position(start, &state.class.retention.history, now);
        let (from, gap) = placed.map_or_else(|gap| (history.oldest(), Some(gap)), |from| (from, None));
        let events: Vec<_> = history.events_from(from).take(limit).cloned().collect();
        let behind = from + events.len() as Position;
        let next = (behind < history.next()).then(|| history.id_before(behind));
        Some(HistoryPage { events, gap, next })
    }

    /// Every topic, in the order of names. The table is locked for one slice at a time, so a topic that begins or ends meanwhile
    /// may be missing or present.
    pub fn topics(&self) -> impl Iterator<Item = Arc<TopicState>> {
        self.topics_behind(Bound::Unbounded)
    }

    fn topics_behind(&self, from: Bound<String>) -> impl Iterator<Item = Arc<TopicState>> {
        let slice = self.topics.page(from.as_ref().map(String::as_str), SLICE);
        std::iter::successors(Some(slice), |slice| {
            let last = slice.last().filter(|_| slice.len() == SLICE)?;
            Some(self.topics.page(Bound::Excluded(last.topic.as_str()), SLICE))
        })
        .flatten()
    }
}
