//! What the bus tells of its topics: figures, pages in the order of their names, parts of their histories.

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

/// A topic's figures, for whoever asks from outside.
#[derive(Clone, Debug)]
pub struct TopicSummary {
    /// Its name.
    pub topic: Topic,
    /// Subscriptions over all reactors.
    pub subscriber_count: usize,
    /// Events a newcomer may ask for: all that the log holds, or none if it keeps no history.
    pub retained: usize,
    /// What the log weighs, in bytes, with what is kept for those who are behind.
    pub retained_bytes: usize,
    /// The id of the oldest event a newcomer may ask for.
    pub oldest: Option<EventId>,
    /// The newest retained event's id.
    pub newest: Option<EventId>,
    /// Its class.
    pub class: Class,
    /// What the API calls its log, after who keeps it.
    pub log_word: &'static str,
}

/// A part of a topic's history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// Oldest first.
    pub events: Vec<Arc<Event>>,
    /// What is missing ahead of them, after the id that was asked for.
    pub gap: Option<Gap>,
    /// The id behind which to ask for the rest, if these are not all there is.
    pub next: Option<EventId>,
}

/// Topics looked at under one lock of the table: a few microseconds.
pub(super) const SLICE: usize = 256;

impl Bus {
    /// The figures of every topic. Work and memory grow with all that the hub holds: not for a reactor's thread.
    pub fn summaries(&self, now: Moment) -> Vec<TopicSummary> {
        self.topics().map(|state| self.summary_of(&state, now)).collect()
    }

    /// The first `most` topics from `from` on, in the order of their names. Takes no topic's lock.
    pub fn topics_from(&self, from: Bound<&str>, most: usize) -> Vec<Arc<TopicState>> {
        self.topics.page(from, most)
    }

    /// Subscriptions of `topic` over all reactors; none if there is no such topic. Takes no topic's lock.
    pub fn subscriber_count(&self, topic: &Topic) -> usize {
        self.topics.find(topic).map_or(0, |state| state.subscriber_count.load(Ordering::Relaxed))
    }

    /// Calls `visit` with the topics whose names begin with `prefix`, [`SLICE`] at a time, until one call is refused.
    pub fn visit_topics<E>(&self, prefix: &str, mut visit: impl FnMut(Vec<Topic>) -> Result<(), E>) -> Result<(), E> {
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

    /// The figures of a topic.
    pub fn summary_of(&self, state: &TopicState, now: Moment) -> TopicSummary {
        let mut core = lock(&state.core);
        core.history.trim_within(&state.class.retention, self.budget(), now);
        self.count_log(&mut core);
        let oldest = core.history.first_for_newcomers(&state.class.retention.history);
        TopicSummary {
            topic: state.topic.clone(),
            subscriber_count: state.subscriber_count.load(Ordering::Relaxed),
            retained: (core.history.next() - oldest) as usize,
            retained_bytes: core.history.bytes(),
            oldest: core.history.event(oldest).map(|event| event.id),
            newest: core.history.event(core.history.next() - 1).map(|event| event.id),
            class: state.class.clone(),
            log_word: self.log_word(&state.class),
        }
    }

    /// The events of `topic` from `start` on, at most `limit`, oldest first; what is missing if the log does not join on to
    /// it: then from the oldest retained on. `None`: there is no such topic.
    pub fn history(&self, topic: &Topic, start: Start, limit: usize, now: Moment) -> Option<HistoryPage> {
        let state = self.topics.find(topic)?;
        let core = lock(&state.core);
        let history = &core.history;
        let placed = history.start_position(start, &state.class.retention.history, now);
        let (from, gap) = placed.map_or_else(|gap| (history.oldest(), Some(gap)), |from| (from, None));
        let events: Vec<_> = history.events_from(from).take(limit).cloned().collect();
        let behind = from + events.len() as Position;
        let next = (behind < history.next()).then(|| history.id_before(behind));
        Some(HistoryPage { events, gap, next })
    }

    /// Every topic, in the order of their names. The table is looked into now and then, and locked for a moment each time, so
    /// a topic that comes or goes meanwhile may be among them or not.
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
