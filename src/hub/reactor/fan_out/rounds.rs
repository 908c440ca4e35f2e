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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::tests::TestReactor;

    impl Rounds {
        /// Lets the topic cool down.
        pub(in crate::reactor::fan_out) fn cool_down(&mut self, topic_index: TopicIndex) {
            self.cooling_down.push((Moment(u64::MAX), topic_index));
        }
    }

    /// Topics 1 to 3, each in a list of its own.
    fn rounds() -> Rounds {
        let mut rounds = Rounds::default();
        rounds.fresh.push(0, TopicIndex::new(1));
        rounds.ongoing.push(0, TopicIndex::new(2));
        rounds.cooling_down.push((Moment(9), TopicIndex::new(3)));
        rounds
    }

    #[test]
    fn a_topic_that_is_no_more_has_no_round() {
        let mut rounds = rounds();
        for removed in 1..=3 {
            let counts = |rounds: &Rounds| [1, 2, 3].map(|index| rounds.count(TopicIndex::new(index)));
            assert_eq!(counts(&rounds), [1, 2, 3].map(|index| usize::from(removed <= index)));
            rounds.remove(TopicIndex::new(removed));
            assert_eq!(counts(&rounds), [1, 2, 3].map(|index| usize::from(removed < index)));
        }
        assert_eq!(rounds.next_wait(Moment(0)), None);
    }

    #[test]
    fn a_topic_is_counted_in_each_list() {
        let mut rounds = rounds();
        let topic_index = TopicIndex::new(3);
        rounds.fresh.push(0, topic_index);
        rounds.ongoing.push(0, topic_index);
        assert_eq!(rounds.count(topic_index), 3);
        let cooling_down = [1, 2, 3].map(|index| rounds.is_cooling_down(TopicIndex::new(index)));
        assert_eq!(cooling_down, [false, false, true]);
    }

    #[test]
    fn a_topic_with_news_waits_for_the_end_of_its_cooldown() {
        let check = |until_us: u64, news_before: bool, expected: bool| {
            let mut test = TestReactor::new();
            test.open_sse(&["skip.a"]);
            let topic_index = test.topic_index("skip.a");
            let until = test.reactor.now + Duration::from_micros(until_us);
            test.topic("skip.a").cooldown_until = until;
            test.reactor.now = test.reactor.now + Duration::from_micros(100);
            (0..=usize::from(news_before)).for_each(|_| test.reactor.announce(topic_index));
            assert_eq!(test.reactor.fan_out.is_cooling_down(topic_index), expected, "{until_us}");
            assert_eq!(test.reactor.fan_out.waits(topic_index), 1);
        };
        check(99, false, false);
        check(100, false, false);
        check(101, false, true);
        check(101, true, true);
    }

    /// A round of `skip.a` takes so long with so many subscribers, some of which listen to `skip.b` as well: whether each topic cools
    /// down then.
    #[test]
    fn a_long_round_is_followed_by_a_cooldown() {
        let check = |alone: usize, both: usize, write_us: u64, expected: [bool; 2]| {
            let mut test = TestReactor::new();
            (0..alone).for_each(|_| drop(test.open_sse(&["skip.a"])));
            (0..both).for_each(|_| drop(test.open_sse(&["skip.a", "skip.b"])));
            test.clock.write_time.set(Duration::from_micros(write_us));
            ["skip.a", "skip.b"].into_iter().for_each(|topic| test.publish(topic, "1"));
            while test.turn_laps() {}
            let now = test.reactor.now;
            let found = ["skip.a", "skip.b"].map(|topic| now < test.topic(topic).cooldown_until);
            assert_eq!(found, expected, "{alone} and {both}, {write_us} microseconds");
        };
        check(0, 4, 49, [false, false]);
        check(0, 4, 50, [true, true]);
        // Half as many listen to the other topic, and fewer.
        check(4, 4, 50, [true, true]);
        check(5, 4, 50, [true, true]);
        check(6, 4, 50, [true, false]);
        check(16, 4, 20, [true, false]);
    }

    /// What a round carries is remembered once, and not without bound.
    #[test]
    fn a_round_remembers_some_topics() {
        let mut test = TestReactor::new();
        test.open_sse(&["skip.a"]);
        let topic_index = test.topic_index("skip.a");
        let others = |count: usize| (1..=count).map(TopicIndex::new).collect::<Vec<_>>();
        let mut check = |carried: Vec<TopicIndex>, expected: Vec<TopicIndex>| {
            test.reactor.fan_out.frame_batches.batches.carried = carried;
            test.reactor.count_carried(topic_index, Duration::from_micros(1));
            assert_eq!(test.topic("skip.a").carried, expected);
        };
        check(vec![], vec![]);
        check(vec![topic_index], vec![]);
        check(others(3), others(3));
        check(others(4), others(4));
        check(vec![], others(4));
        check(others(CARRIED_MAX + 4), others(CARRIED_MAX));
    }

    /// The time of each slice counts for the topics that the round has carried, also of one that has carried nothing new.
    #[test]
    fn each_slice_counts_for_what_the_round_has_carried() {
        let mut test = TestReactor::new();
        test.open_sse(&["skip.a", "skip.b"]);
        let [first, second] = ["skip.a", "skip.b"].map(|topic| test.topic_index(topic));
        for (carried, expected_us) in [(vec![], 0), (vec![second], 5), (vec![], 10)] {
            test.reactor.fan_out.frame_batches.batches.carried = carried;
            test.reactor.count_carried(first, Duration::from_micros(5));
            assert_eq!(test.topic("skip.b").spent, Duration::from_micros(expected_us));
        }
    }

    /// Events that come while a round is under way are not counted as brought to the last subscriber by it.
    #[test]
    fn a_round_brings_what_was_there_when_it_began() {
        let check = |came: usize, later: usize| {
            let mut test = TestReactor::new();
            test.open_sse(&["skip.a"]);
            (0..came).for_each(|_| test.publish("skip.a", "1"));
            test.reactor.take_inbox();
            (0..later).for_each(|_| test.publish("skip.a", "1"));
            test.reactor.take_inbox();
            test.work();
            let count = test.figure("fanfare_publish_to_last_subscriber_seconds_count");
            assert_eq!(count, (came + later) as u64, "{came} and {later}");
            let topic = test.topic("skip.a");
            assert_eq!(topic.completed, topic.ring.next());
        };
        check(1, 0);
        check(2, 3);
    }

    /// The round of `skip.a` has taken so long, and has carried `skip.b`, whose own round is still to come.
    #[test]
    fn what_a_long_round_has_carried_cools_down_with_it() {
        let check = |spent_us: u64, is_carried: bool, cools_already: bool, expected: bool| {
            let mut test = TestReactor::new();
            test.open_sse(&["skip.a", "skip.b"]);
            let [first, second] = ["skip.a", "skip.b"].map(|topic| test.topic_index(topic));
            let now = test.reactor.now;
            let topic = test.topic("skip.a");
            topic.spent = Duration::from_micros(spent_us);
            topic.carried.extend(is_carried.then_some(second));
            if cools_already {
                topic.cooldown_until = now + Duration::from_micros(10);
            }
            test.reactor.end_slice(first, now);
            let until = test.topic("skip.a").cooldown_until;
            assert_eq!(now < until, 200 <= spent_us || cools_already, "{spent_us}");
            let carried_until = test.topic("skip.b").cooldown_until;
            assert_eq!(now < carried_until && carried_until == until, expected, "{spent_us}, carried: {is_carried}");
        };
        check(199, true, false, false);
        check(200, true, false, true);
        check(200, false, false, false);
        check(50_000, true, false, true);
        // The topic cools down for another one's round. What its own has carried is none of that one's.
        check(199, true, true, false);
    }
}
