//! A bounded queue in which senders with the fewest attempts come first.

use std::time::Duration;

use super::throttle::AdmittedLogin;
use crate::clock::Moment;

/// Waiting work in two lanes: known pairs of user and address, and strangers. While both lanes have work, each gets every other
/// turn and half of the room. Within a lane the lowest rank comes first, then the oldest.
///
/// A sender's first attempt within a window has rank 1, the second rank 2, and so on. So a quiet sender waits at most for the
/// first attempts of others, and never for a flood. Searches are linear: the queue is short, and each item takes milliseconds.
#[derive(Debug)]
pub(super) struct FairQueue<T> {
    waiting: Vec<Waiting<T>>,
    most: usize,
    next_number: u64,
    /// Which lane had the last turn.
    served_known: bool,
}

#[derive(Debug)]
struct Waiting<T> {
    admitted: AdmittedLogin,
    number: u64,
    since: Moment,
    item: T,
}

/// The outcome of [`FairQueue::push`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pushed<T> {
    /// There was room.
    Queued,
    /// Queued in place of this item, which had a higher rank.
    Displaced(T),
    /// The queue is full of items that come first.
    Refused(T),
}

impl<T> FairQueue<T> {
    /// A queue of at most `most` items.
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: Vec::new(), most, next_number: 0, served_known: false }
    }

    pub(super) fn push(&mut self, item: T, admitted: AdmittedLogin, now: Moment) -> Pushed<T> {
        let displaced = if self.waiting.len() < self.most {
            None
        } else {
            match self.find_worse(admitted) {
                Some(index) => Some(self.waiting.swap_remove(index).item),
                None => return Pushed::Refused(item),
            }
        };
        self.waiting.push(Waiting { admitted, number: self.next_number, since: now, item });
        self.next_number += 1;
        displaced.map_or(Pushed::Queued, Pushed::Displaced)
    }

    /// The next item to work on.
    pub(super) fn pop(&mut self) -> Option<T> {
        let wanted = !self.served_known;
        let is_known = if self.lane_len(wanted) == 0 { !wanted } else { wanted };
        let order = |index: &usize| (self.waiting[*index].admitted.rank, self.waiting[*index].number);
        let index = self.lane(is_known).min_by_key(order)?;
        self.served_known = is_known;
        Some(self.waiting.swap_remove(index).item)
    }

    /// Removes an item that has waited for `wait_max`.
    pub(super) fn pop_expired(&mut self, now: Moment, wait_max: Duration) -> Option<T> {
        let index = self.waiting.iter().position(|waiting| wait_max <= now.since(waiting.since))?;
        Some(self.waiting.swap_remove(index).item)
    }

    /// The item that a full queue gives up for a new one, if any.
    fn find_worse(&self, newcomer: AdmittedLogin) -> Option<usize> {
        let share = if newcomer.is_known { self.most.div_ceil(2) } else { self.most / 2 };
        let has_share = share <= self.lane_len(newcomer.is_known);
        let lane = if has_share { newcomer.is_known } else { !newcomer.is_known };
        let order = |index: &usize| (self.waiting[*index].admitted.rank, self.waiting[*index].number);
        let worst = self.lane(lane).max_by_key(order)?;
        (!has_share || newcomer.rank < self.waiting[worst].admitted.rank).then_some(worst)
    }

    fn lane(&self, is_known: bool) -> impl Iterator<Item = usize> {
        (0..self.waiting.len()).filter(move |index| self.waiting[*index].admitted.is_known == is_known)
    }

    fn lane_len(&self, is_known: bool) -> usize {
        self.lane(is_known).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes, each with its lane and rank (`k1`: known, first try), then pops all; what was displaced or refused stands
    /// before `|`.
    #[track_caller]
    fn check(most: usize, pushed: &str, expected: &str) {
        let mut queue = FairQueue::new(most);
        let (mut out, mut popped) = (Vec::new(), Vec::new());
        for (index, name) in pushed.split(' ').enumerate() {
            let admitted =
                AdmittedLogin { is_known: name.starts_with('k'), rank: name[1..2].parse().expect("a digit") };
            match queue.push(name, admitted, Moment(index as u64)) {
                Pushed::Queued => {}
                Pushed::Displaced(item) | Pushed::Refused(item) => out.push(item),
            }
        }
        while let Some(item) = queue.pop() {
            popped.push(item);
        }
        assert_eq!(format!("{} | {}", out.join(" "), popped.join(" ")), expected, "{pushed}");
    }

    #[test]
    fn who_has_asked_least_comes_first() {
        check(9, "s1a s2a s3a s1b", " | s1a s1b s2a s3a");
        check(9, "s3 s2 s1", " | s1 s2 s3");
        // The lanes take turns, and one alone takes all.
        check(9, "s1a s1b s1c k5 k6", " | k5 s1a k6 s1b s1c");
        check(9, "k1 k2", " | k1 k2");
        // A full queue lets go what has asked most, and nobody for an equal.
        check(2, "s1a s2a s1b", "s2a | s1a s1b");
        check(2, "s1a s1b s1c s9", "s1c s9 | s1a s1b");
        // However quiet the strangers are, a half of the room is for those who are known, and the other way round.
        check(4, "s1a s1b s1c s1d k1 k2 k3", "s1d s1c k3 | k1 s1a k2 s1b");
        check(4, "k1a k1b k1c k1d s9 s8 s7", "k1d k1c s9 | k1a s7 k1b s8");
        check(1, "s1 k1 s1", "s1 s1 | k1");
    }

    #[test]
    fn nothing_waits_for_ever() {
        let mut queue = FairQueue::new(4);
        let admitted = AdmittedLogin { is_known: false, rank: 1 };
        for (index, item) in ["early", "late"].into_iter().enumerate() {
            assert_eq!(queue.push(item, admitted, Moment(index as u64 * 10)), Pushed::Queued);
        }
        let wait_max = Duration::from_nanos(15);
        assert_eq!(queue.pop_expired(Moment(14), wait_max), None);
        assert_eq!(queue.pop_expired(Moment(15), wait_max), Some("early"));
        assert_eq!(queue.pop_expired(Moment(15), wait_max), None);
    }
}
