//! When a topic's laps begin: one goes round every subscriber once, and what arrives meanwhile makes another follow.
//!
//! After a long round the topic *cools down* for as long as the round took, so that one topic takes half of a reactor at most
//! and what arrives meanwhile is written together. Without it, a topic whose rounds take almost as long as its events are
//! apart would spend the whole reactor on rounds of one event each, and have nothing left when more arrive. A topic whose
//! events are further apart never notices: by the time the next one comes, its cooldown is over.

use std::time::Duration;

use super::run_queue::RunQueue;
use crate::{
    clock::Moment,
    index::TopicIndex,
    reactor::{
        Reactor,
        net::Net,
        table::{CARRIED_MAX, LocalTopic},
    },
};

/// A round that took less is no burden, and the poll's timeout is no finer than a millisecond.
const ROUND_TIME_MIN: Duration = Duration::from_micros(200);
/// The longest cooldown: after the round of a huge topic, news is not held back for as long again.
const COOLDOWN_MAX: Duration = Duration::from_millis(2);

/// The topics with news, by whether their rounds may begin.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// Topics whose lap has just become due.
    fresh: RunQueue,
    /// Topics whose lap is under way.
    ongoing: RunQueue,
    /// Topics whose last round was long, and until when they cool down. Few at a time: such rounds take a part of the longest
    /// cooldown, and each carries a bounded number of topics.
    cooling_down: Vec<(Moment, TopicIndex)>,
}

impl Rounds {
    /// How long until a lap goes on.
    pub(super) fn next_wait(&self, now: Moment) -> Option<Duration> {
        if !self.fresh.is_empty() || !self.ongoing.is_empty() {
            return Some(Duration::ZERO);
        }
        self.cooling_down.iter().map(|(until, _)| until.since(now)).min()
    }

    /// The next topic whose lap has just become due.
    pub(super) fn next_fresh(&mut self) -> Option<TopicIndex> {
        self.fresh.pop()
    }

    /// The next topic whose lap is under way.
    pub(super) fn next_ongoing(&mut self) -> Option<TopicIndex> {
        self.ongoing.pop()
    }

    /// The topic is no more.
    pub(super) fn remove(&mut self, topic_index: TopicIndex) {
        self.fresh.remove(topic_index);
        self.cooling_down.retain(|(_, cooling)| *cooling != topic_index);
        self.ongoing.remove(topic_index);
    }

    pub(super) fn is_cooling_down(&self, topic_index: TopicIndex) -> bool {
        self.cooling_down.iter().any(|(_, cooling)| *cooling == topic_index)
    }

    /// In how many of its lists the topic stands. Goes through all of them: for tests.
    pub(super) fn count(&self, topic_index: TopicIndex) -> usize {
        let cooling_down = self.cooling_down.iter().filter(|(_, cooling)| *cooling == topic_index).count();
        self.fresh.count(topic_index) + self.ongoing.count(topic_index) + cooling_down
    }
}

impl<N: Net> Reactor<N> {
    /// The topic has news.
    pub(in crate::reactor) fn announce(&mut self, topic_index: TopicIndex) {
        self.fan_out.frame_batches.batches.note_news();
        let Some(topic) = self.topics.at(topic_index) else { return };
        topic.news = true;
        if topic.queued {
            return;
        }
        topic.queued = true;
        if self.now < topic.cooldown_until {
            self.fan_out.rounds.cooling_down.push((topic.cooldown_until, topic_index));
        } else {
            self.begin_round(topic_index);
        }
    }

    /// Lets go on the topics whose cooldown is over.
    pub(super) fn end_cooldowns(&mut self) {
        let mut index = 0;
        while index < self.fan_out.rounds.cooling_down.len() {
            if self.fan_out.rounds.cooling_down[index].0 <= self.now {
                let (_, topic_index) = self.fan_out.rounds.cooling_down.swap_remove(index);
                self.begin_round(topic_index);
            } else {
                index += 1;
            }
        }
    }

    /// After a slice of the topic that began at `began`: its round goes on, or ends.
    pub(super) fn end_slice(&mut self, topic_index: TopicIndex, began: Moment) {
        let took = self.now.since(began);
        self.count_carried(topic_index, took);
        let Some(topic) = self.topics.at(topic_index) else { return };
        topic.spent += took;
        if topic.subscribers.is_pending() {
            return self.fan_out.rounds.ongoing.push(topic.state.class.priority, topic_index);
        }
        for event in topic.ring.events_from(topic.completed).take_while(|event| event.position < topic.round_head) {
            self.metrics.on_last_subscriber(self.now.since(event.accepted));
        }
        topic.completed = topic.round_head;
        let is_long = ROUND_TIME_MIN <= topic.spent;
        if is_long {
            topic.cooldown_until = self.now + topic.spent.min(COOLDOWN_MAX);
        }
        topic.queued = false;
        let (has_news, cooldown_until) = (topic.news, topic.cooldown_until);
        if is_long && !topic.carried.is_empty() {
            self.each_carried(topic_index, |other| other.cooldown_until = other.cooldown_until.max(cooldown_until));
        }
        if has_news {
            self.announce(topic_index);
        }
    }

    /// A slice of the topic, which took so long, has brought along others that no fewer listen to, or not many
    /// fewer: it was a part of their rounds, too. They cool down with the topic, or each of them in turn would visit the same
    /// connections for a few events. A much smaller topic is not held up by what it shares with a large one.
    fn count_carried(&mut self, topic_index: TopicIndex, took: Duration) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        let brought = &self.fan_out.frame_batches.batches.carried;
        if brought.is_empty() && topic.carried.is_empty() {
            return;
        }
        for other in brought.iter().filter(|other| **other != topic_index) {
            if topic.carried.len() < CARRIED_MAX && !topic.carried.contains(other) {
                topic.carried.push(*other);
            }
        }
        self.each_carried(topic_index, |other| other.spent += took);
    }

    /// Topics that the round of the topic has carried, of those that count.
    fn each_carried(&mut self, topic_index: TopicIndex, act: impl Fn(&mut LocalTopic)) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        let (carried, least) = (std::mem::take(&mut topic.carried), topic.subscribers.len() / 2);
        for other in &carried {
            if let Some(other) = self.topics.at(*other).filter(|other| least <= other.subscribers.len()) {
                act(other);
            }
        }
        if let Some(topic) = self.topics.at(topic_index) {
            topic.carried = carried;
        }
    }

    fn begin_round(&mut self, topic_index: TopicIndex) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        topic.subscribers.extend();
        topic.news = false;
        topic.round_head = topic.ring.next();
        topic.spent = Duration::ZERO;
        topic.carried.clear();
        self.fan_out.rounds.fresh.push(topic.state.class.priority, topic_index);
    }
}
