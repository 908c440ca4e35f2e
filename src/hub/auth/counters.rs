//! Attempts and failures per key within a window, in bounded memory.

use std::{collections::HashMap, hash::Hash, time::Duration};

use crate::clock::Moment;

/// Keys that one table remembers. Each failure has cost the hub a password hash or a signature, so no attacker fills the table
/// with failures within a window: at 5 ms a hash a thread makes 12,000 of them a minute, at 100 µs a reactor checks 10,000
/// signatures a second.
const KEYS_MAX: usize = 16_384;

/// Counts per key. A key's window begins with its first try and ends [`Self::window`] later, whatever came in between.
#[derive(Debug)]
pub(super) struct Counters<K> {
    window: Duration,
    counts: HashMap<K, Count>,
}

/// The counts of one key within its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count {
    since: Moment,
    /// Attempts that failed, or whose outcome is not known yet.
    pub(super) failures: usize,
    /// All attempts that were checked or are waiting.
    pub(super) tries: usize,
}

impl<K: Hash + Eq> Counters<K> {
    pub(super) fn new(window: Duration) -> Self {
        Self { window, counts: HashMap::new() }
    }

    /// The counts of `key` in its present window.
    pub(super) fn get(&self, key: &K, now: Moment) -> Count {
        let known = self.counts.get(key).filter(|count| now.since(count.since) < self.window);
        known.copied().unwrap_or(Count { since: now, failures: 0, tries: 0 })
    }

    /// Counts an attempt, as failed until the caller corrects it. Returns the attempts of this window.
    pub(super) fn add(&mut self, key: K, now: Moment) -> usize {
        let count = self.get(&key, now);
        if !self.counts.contains_key(&key) {
            self.make_room(now);
        }
        let tries = count.tries + 1;
        self.counts.insert(key, Count { failures: count.failures + 1, tries, ..count });
        tries
    }

    /// Adds the counts of `from` to those of `to`.
    pub(super) fn copy(&mut self, from: &K, to: K, now: Moment) {
        let count = self.get(from, now);
        if 0 < count.tries {
            self.make_room(now);
            self.counts.insert(to, count);
        }
    }

    /// Changes the counts of `key`, if it has any. A key without attempts is forgotten.
    pub(super) fn correct(&mut self, key: &K, change: impl FnOnce(&mut Count)) {
        if let Some(count) = self.counts.get_mut(key) {
            change(count);
            if count.tries == 0 {
                self.counts.remove(key);
            }
        }
    }

    /// The time until the window of `count` is over.
    pub(super) fn left(&self, count: Count, now: Moment) -> Duration {
        self.window.saturating_sub(now.since(count.since))
    }

    /// Forgets keys whose window is over. If that makes no room, forgets the half of all keys with the fewest failures, the
    /// oldest first among equals. Hence keys that an attacker tries once do not displace the one that has reached a limit.
    fn make_room(&mut self, now: Moment) {
        if self.counts.len() < KEYS_MAX {
            return;
        }
        let window = self.window;
        self.counts.retain(|_, count| now.since(count.since) < window);
        if self.counts.len() < KEYS_MAX {
            return;
        }
        let worth = |count: &Count| (count.failures, count.since);
        let mut all: Vec<(usize, Moment)> = self.counts.values().map(worth).collect();
        let (_, median, _) = all.select_nth_unstable(KEYS_MAX / 2);
        let median = *median;
        let before = self.counts.len();
        self.counts.retain(|_, count| median < worth(count));
        debug_assert!(self.counts.len() < before);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }
}
