//! Which of the topics with news goes first: by the priority of their class, and within one in the order of their coming.

use crate::index::TopicIndex;

/// Topics by priority, lower first. Each time a topic is passed over by one that came later, it comes closer to its turn: after
/// [`PASSES_MAX`] of them the one that has waited longest goes.
///
/// A topic waits at most once. It is taken out from wherever it stands at a constant cost, so that many topics may end at once.
#[derive(Debug, Default)]
pub(super) struct RunQueue {
    /// One queue for each priority in use, by priority.
    levels: Vec<Level>,
    /// By topic: where each one stands.
    links: Vec<Link>,
    /// What the next topic to come will be stamped with.
    stamp: u64,
    /// How often in a row the one that has waited longest was passed over.
    passes: u32,
}

/// The topics of one priority, linked with each other.
#[derive(Clone, Copy, Debug)]
struct Level {
    priority: i8,
    first: TopicIndex,
    last: TopicIndex,
}

/// A topic, linked with the ones ahead of it and behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Link {
    ahead: TopicIndex,
    behind: TopicIndex,
    stamp: u64,
    /// `None` while it does not wait.
    priority: Option<i8>,
}

/// No topic.
const NONE: TopicIndex = TopicIndex::NONE;

const UNLINKED: Link = Link { ahead: NONE, behind: NONE, stamp: 0, priority: None };

/// With this, at most one topic in eight goes ahead of its priority.
const PASSES_MAX: u32 = 7;

impl RunQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.levels.iter().all(|level| level.first == NONE)
    }

    /// Puts the topic behind all others of this priority. It must not wait already.
    pub(super) fn push(&mut self, priority: i8, topic_index: TopicIndex) {
        let index = self.levels.binary_search_by_key(&priority, |level| level.priority).unwrap_or_else(|index| {
            self.levels.insert(index, Level { priority, first: NONE, last: NONE });
            index
        });
        if self.links.len() <= topic_index.get() {
            self.links.resize(topic_index.get() + 1, UNLINKED);
        }
        debug_assert_eq!(self.links[topic_index.get()], UNLINKED, "topic {topic_index} waits already");
        let level = &mut self.levels[index];
        let ahead = std::mem::replace(&mut level.last, topic_index);
        match self.links.get_mut(ahead.get()) {
            Some(link) => link.behind = topic_index,
            None => level.first = topic_index,
        }
        self.links[topic_index.get()] = Link { ahead, behind: NONE, stamp: self.stamp, priority: Some(priority) };
        self.stamp += 1;
    }

    pub(super) fn pop(&mut self) -> Option<TopicIndex> {
        let first = self.levels.iter().position(|level| level.first != NONE)?;
        let stamp = |level: &Level| self.links.get(level.first.get()).map_or(u64::MAX, |link| link.stamp);
        let longest = (first..self.levels.len()).min_by_key(|index| stamp(&self.levels[*index])).unwrap_or(first);
        let chosen = if longest == first || PASSES_MAX <= self.passes { longest } else { first };
        self.passes = if chosen == longest { 0 } else { self.passes + 1 };
        let topic_index = self.levels[chosen].first;
        self.remove(topic_index);
        Some(topic_index)
    }

    /// Takes the topic out, if it waits.
    pub(super) fn remove(&mut self, topic_index: TopicIndex) {
        let Some(link) = self.links.get_mut(topic_index.get()) else { return };
        let Link { ahead, behind, priority, .. } = std::mem::replace(link, UNLINKED);
        let Some(priority) = priority else { return };
        let Ok(index) = self.levels.binary_search_by_key(&priority, |level| level.priority) else { return };
        let level = &mut self.levels[index];
        match self.links.get_mut(ahead.get()) {
            Some(link) => link.behind = behind,
            None => level.first = behind,
        }
        match self.links.get_mut(behind.get()) {
            Some(link) => link.ahead = ahead,
            None => level.last = ahead,
        }
    }

    /// How often `topic_index` stands in it. Goes through all of it: for tests.
    pub(super) fn count(&self, topic_index: TopicIndex) -> usize {
        let follow = |at: &TopicIndex| self.links.get(at.get()).map(|link| link.behind);
        let queue = |level: &Level| std::iter::successors(Some(level.first), follow);
        self.levels.iter().flat_map(queue).filter(|queued| *queued == topic_index).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(topics: &[(i8, usize)]) -> RunQueue {
        let mut queue = RunQueue::default();
        topics.iter().for_each(|(priority, index)| queue.push(*priority, TopicIndex::new(*index)));
        queue
    }

    #[test]
    fn lower_goes_first_and_equals_in_turn() {
        let check = |topics: &[(i8, usize)], expected: &[usize]| {
            let mut queue = queue(topics);
            let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).map(TopicIndex::get).collect();
            assert_eq!(order, expected, "{topics:?}");
            assert!(queue.is_empty());
        };
        check(&[(0, 1), (0, 2), (0, 3)], &[1, 2, 3]);
        check(&[(5, 1), (0, 2), (-3, 3), (0, 4)], &[3, 2, 4, 1]);
    }

    #[test]
    fn no_topic_starves() {
        let mut queue = queue(&[(9, 0)]);
        for index in 1..100 {
            queue.push(0, TopicIndex::new(index));
            if queue.pop() == Some(TopicIndex::new(0)) {
                assert_eq!(index, PASSES_MAX as usize + 1);
                return;
            }
        }
        panic!("never served");
    }

    #[test]
    fn removal() {
        let check = |removed: &[usize], expected: &[usize]| {
            let mut queue = queue(&[(0, 1), (1, 4), (0, 2), (0, 3)]);
            removed.iter().for_each(|index| queue.remove(TopicIndex::new(*index)));
            removed.iter().for_each(|index| assert_eq!(queue.count(TopicIndex::new(*index)), 0));
            assert_eq!(queue.is_empty(), expected.is_empty());
            // A topic that was taken out may come again.
            queue.push(2, TopicIndex::new(9));
            let order: Vec<usize> = std::iter::from_fn(|| queue.pop()).map(TopicIndex::get).collect();
            assert_eq!(order, [expected, &[9]].concat(), "without {removed:?}");
            assert!(queue.is_empty());
        };
        check(&[], &[1, 2, 3, 4]);
        check(&[1], &[2, 3, 4]);
        check(&[2, 2], &[1, 3, 4]);
        check(&[3], &[1, 2, 4]);
        check(&[4, 77], &[1, 2, 3]);
        check(&[9, 2, 1, 3, 4], &[]);
    }

    /// Taking a topic out touches its neighbours and no other, however many wait.
    #[test]
    fn removal_costs_the_same_in_a_long_queue() {
        const TOPICS: usize = 100_000;
        let mut queue = RunQueue::default();
        (0..TOPICS).for_each(|index| queue.push((index % 3) as i8, TopicIndex::new(index)));
        for index in [TOPICS / 2, 0, TOPICS - 1, TOPICS / 3] {
            let before = queue.links.clone();
            queue.remove(TopicIndex::new(index));
            let changed = before.iter().zip(&queue.links).filter(|(before, after)| before != after).count();
            assert!(changed <= 3, "{changed} of {TOPICS} links have changed");
        }
        (0..TOPICS).for_each(|index| queue.remove(TopicIndex::new(index)));
        assert!(queue.is_empty());
    }
}
