//! Which of the topics with news goes first: by the priority of their class, and within one in the order of their coming.

use std::collections::VecDeque;

/// Topics by priority, lower first. Each time a topic is passed over by one that came later, it comes closer to its turn: after
/// [`PASSES_MAX`] of them the one that has waited longest goes.
#[derive(Debug, Default)]
pub(super) struct RunQueue {
    /// One queue for each priority in use, by priority.
    levels: Vec<(i8, VecDeque<Queued>)>,
    /// What the next topic to come will be stamped with.
    stamp: u64,
    /// How often in a row the one that has waited longest was passed over.
    passes: u32,
}

#[derive(Clone, Copy, Debug)]
struct Queued {
    place: u32,
    stamp: u64,
}

/// With this, at most one topic in eight goes ahead of its priority.
const PASSES_MAX: u32 = 7;

impl RunQueue {
    pub(super) fn is_empty(&self) -> bool {
        self.levels.iter().all(|(_, queue)| queue.is_empty())
    }

    pub(super) fn push(&mut self, priority: i8, place: u32) {
        let queued = Queued { place, stamp: self.stamp };
        self.stamp += 1;
        match self.levels.binary_search_by_key(&priority, |(level, _)| *level) {
            Ok(index) => self.levels[index].1.push_back(queued),
            Err(index) => self.levels.insert(index, (priority, VecDeque::from([queued]))),
        }
    }

    pub(super) fn pop(&mut self) -> Option<u32> {
        let waiting = |(_, queue): &(i8, VecDeque<Queued>)| !queue.is_empty();
        let first = self.levels.iter().position(waiting)?;
        let stamp = |index: usize| self.levels[index].1.front().map_or(u64::MAX, |queued| queued.stamp);
        let longest = (first..self.levels.len()).min_by_key(|index| stamp(*index)).unwrap_or(first);
        let chosen = if longest == first || PASSES_MAX <= self.passes { longest } else { first };
        self.passes = if chosen == longest { 0 } else { self.passes + 1 };
        self.levels[chosen].1.pop_front().map(|queued| queued.place)
    }

    pub(super) fn remove(&mut self, place: u32) {
        self.levels.iter_mut().for_each(|(_, queue)| queue.retain(|queued| queued.place != place));
    }

    /// How often `place` stands in it.
    pub(super) fn count(&self, place: u32) -> usize {
        self.levels.iter().flat_map(|(_, queue)| queue).filter(|queued| queued.place == place).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(topics: &[(i8, u32)]) -> RunQueue {
        let mut queue = RunQueue::default();
        topics.iter().for_each(|(priority, place)| queue.push(*priority, *place));
        queue
    }

    #[test]
    fn lower_goes_first_and_equals_in_turn() {
        let check = |topics: &[(i8, u32)], expected: &[u32]| {
            let mut queue = queue(topics);
            let order: Vec<u32> = std::iter::from_fn(|| queue.pop()).collect();
            assert_eq!(order, expected, "{topics:?}");
            assert!(queue.is_empty());
        };
        check(&[(0, 1), (0, 2), (0, 3)], &[1, 2, 3]);
        check(&[(5, 1), (0, 2), (-3, 3), (0, 4)], &[3, 2, 4, 1]);
    }

    #[test]
    fn nobody_starves() {
        let mut queue = queue(&[(9, 0)]);
        for place in 1..100 {
            queue.push(0, place);
            if queue.pop() == Some(0) {
                assert_eq!(place, PASSES_MAX + 1);
                return;
            }
        }
        panic!("never served");
    }

    #[test]
    fn removal() {
        let mut queue = queue(&[(0, 1), (1, 1), (1, 2)]);
        assert_eq!(queue.count(1), 2);
        queue.remove(1);
        assert_eq!((queue.count(1), queue.pop(), queue.pop()), (0, Some(2), None));
    }
}
