//! When a topic's laps begin: one goes round every listener once, and what arrives meanwhile makes another follow.
//!
//! After a long round the topic *rests* for as long as the round took, so that one topic takes half of a reactor at most
//! and what arrives meanwhile is written together. Without it, a topic whose rounds take almost as long as its events are
//! apart would spend the whole reactor on rounds of one event each, and have nothing left when more arrive. A topic whose
//! events are further apart never notices: by the time the next one comes, the rest is over.

use std::time::Duration;

use super::{Reactor, net::Net};
use crate::clock::Moment;

/// A round that took less is no burden, and the poll's timeout is no finer than a millisecond.
const ROUND_TIME_MIN: Duration = Duration::from_micros(200);
/// The longest rest: after the round of a huge topic, news is not held back for as long again.
const REST_MAX: Duration = Duration::from_millis(2);

impl<N: Net> Reactor<N> {
    /// The topic at `place` has news.
    pub(super) fn announce(&mut self, place: u32) {
        let Some(topic) = self.topics.at(place) else { return };
        topic.news = true;
        if topic.queued {
            return;
        }
        topic.queued = true;
        if self.now < topic.rest_until {
            self.resting.push((topic.rest_until, place));
        } else {
            self.begin_round(place);
        }
    }

    /// Lets go on the topics that have rested.
    pub(super) fn end_rests(&mut self) {
        let mut index = 0;
        while index < self.resting.len() {
            if self.resting[index].0 <= self.now {
                let (_, place) = self.resting.swap_remove(index);
                self.begin_round(place);
            } else {
                index += 1;
            }
        }
    }

    /// How long until a topic has rested.
    pub(super) fn next_rest(&self) -> Option<Duration> {
        self.resting.iter().map(|(until, _)| until.since(self.now)).min()
    }

    /// After a slice of the topic at `place` that began at `began`: its round goes on, or ends.
    pub(super) fn end_slice(&mut self, place: u32, began: Moment) {
        let Some(topic) = self.topics.at(place) else { return };
        topic.spent += self.now.since(began);
        if topic.lap.is_pending() {
            return self.ongoing.push(topic.state.class.priority, place);
        }
        for event in topic.ring.events_from(topic.completed).take_while(|event| event.position < topic.round_head) {
            self.metrics.on_last_subscriber(self.now.since(event.accepted));
        }
        topic.completed = topic.round_head;
        if ROUND_TIME_MIN <= topic.spent {
            topic.rest_until = self.now + topic.spent.min(REST_MAX);
        }
        topic.queued = false;
        if topic.news {
            self.announce(place);
        }
    }

    fn begin_round(&mut self, place: u32) {
        let Some(topic) = self.topics.at(place) else { return };
        topic.lap.extend();
        topic.news = false;
        topic.round_head = topic.ring.next();
        topic.spent = Duration::ZERO;
        self.fresh.push(topic.state.class.priority, place);
    }
}
