//! Whether a reader received each event once and in order, by the sequence numbers in the events.
//!
//! A source (with its sensor, if it names one) numbers its events without gaps. The numbers are tracked for each reader by
//! itself, from the first one it receives, in bounded memory. A smaller number on an event with a later timestamp belongs to
//! a new run of the source, and is neither a duplicate nor late.
//!
//! Events without numbers are identified by `event_id`, or by the transport's id together with the payload.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
};

use foldhash::fast::RandomState;

use super::marks::Marks;

/// The most sources, and the most readers of events without numbers, that are tracked: about 200 bytes each, and 1 KiB.
/// [`Counts::unfollowed`] counts the events of others.
const FOLLOWED_MAX: usize = 65_536;
/// How far behind the newest number of its source an event may be and still be distinguished from a duplicate.
const WINDOW: u64 = 1024;
/// The most events of one reader that are remembered by their names.
const NAMES_MAX: usize = 128;

/// Counts over all readers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Events that were received before.
    pub(super) duplicates: u64,
    /// Events that arrived after a later one of their source.
    pub(super) reordered: u64,
    /// Numbers that were skipped and have not arrived since.
    pub(super) missing: u64,
    /// Events that were not checked because too many sources or readers are tracked already.
    pub(super) unfollowed: u64,
}

/// Tracks the events of all readers.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    courses: HashMap<Key, Course, RandomState>,
    /// The latest names of each reader, hashed.
    names: HashMap<usize, VecDeque<u64>, RandomState>,
    hasher: RandomState,
    counts: Counts,
}

/// A reader, and one of its sources, hashed.
type Key = (usize, u64);

impl Sequences {
    /// The counts so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds an event of `reader` with the transport's `id`, which may be empty. True if it was received before.
    pub(super) fn is_duplicate(&mut self, reader: usize, marks: &Marks<'_>, id: &str, payload: &[u8]) -> bool {
        let before = self.counts.duplicates;
        if let Some((source, sensor, sequence)) = marks.numbered() {
            let key = (reader, self.hasher.hash_one((source, sensor)));
            self.take_number(key, sequence, marks.stamp_ms());
        } else if let Some(event_id) = marks.event_id() {
            self.take_name(reader, self.hasher.hash_one(event_id));
        } else if !id.is_empty() {
            // Not the id alone: a server-sent event without an id has that of the event before.
            self.take_name(reader, self.hasher.hash_one((id, payload)));
        }
        before < self.counts.duplicates
    }

    fn take_number(&mut self, key: Key, sequence: u64, stamp_ms: Option<f64>) {
        if let Some(course) = self.courses.get_mut(&key) {
            course.take(sequence, stamp_ms, &mut self.counts);
        } else if self.courses.len() < FOLLOWED_MAX {
            self.courses.insert(key, Course::new(sequence, stamp_ms));
        } else {
            self.counts.unfollowed += 1;
        }
    }

    fn take_name(&mut self, reader: usize, name: u64) {
        if FOLLOWED_MAX <= self.names.len() && !self.names.contains_key(&reader) {
            self.counts.unfollowed += 1;
            return;
        }
        let names = self.names.entry(reader).or_default();
        if names.contains(&name) {
            self.counts.duplicates += 1;
            return;
        }
        if names.len() == NAMES_MAX {
            names.pop_front();
        }
        names.push_back(name);
    }
}

/// The state of one source at one reader.
#[derive(Debug)]
struct Course {
    /// The first number of this run: earlier ones are not missing.
    first: u64,
    highest: u64,
    /// Of the event with the highest number.
    stamp_ms: Option<f64>,
    /// Which of the last [`WINDOW`] numbers arrived: the bit at `number % WINDOW`.
    seen: [u64; (WINDOW / 64) as usize],
}

impl Course {
    fn new(sequence: u64, stamp_ms: Option<f64>) -> Self {
        let mut course = Self { first: sequence, highest: sequence, stamp_ms, seen: [0; (WINDOW / 64) as usize] };
        course.see(sequence);
        course
    }

    fn take(&mut self, sequence: u64, stamp_ms: Option<f64>, counts: &mut Counts) {
        if self.highest < sequence {
            counts.missing = counts.missing.saturating_add(sequence - self.highest - 1);
            self.advance(sequence);
            self.stamp_ms = stamp_ms;
        } else if self.stamp_ms.zip(stamp_ms).is_some_and(|(latest, now)| latest < now) {
            *self = Self::new(sequence, stamp_ms);
        } else if WINDOW <= self.highest - sequence {
            // Whether it arrived before is forgotten. It stays missing if it was.
            counts.reordered += 1;
        } else if self.see(sequence) {
            counts.duplicates += 1;
        } else {
            counts.reordered += 1;
            counts.missing -= u64::from(self.first < sequence);
        }
    }

    /// Advances to a higher number: those between have not arrived.
    fn advance(&mut self, sequence: u64) {
        if WINDOW <= sequence - self.highest {
            self.seen.fill(0);
        } else {
            (self.highest + 1..sequence).for_each(|number| self.seen[word(number)] &= !bit(number));
        }
        self.seen[word(sequence)] |= bit(sequence);
        self.highest = sequence;
    }

    /// Records a number; true if it had arrived before.
    fn see(&mut self, sequence: u64) -> bool {
        let was_seen = self.seen[word(sequence)] & bit(sequence) != 0;
        self.seen[word(sequence)] |= bit(sequence);
        was_seen
    }
}

fn word(number: u64) -> usize {
    ((number % WINDOW) / 64) as usize
}

fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events as `source number stamp`, the stamp left out where there is none; the counts as `duplicates reordered
    /// missing`.
    #[track_caller]
    fn check(events: &[&str], expected: [u64; 3]) {
        let mut sequences = Sequences::default();
        for event in events {
            let mut words = event.split(' ');
            let (source, number) = (words.next().expect("a source"), words.next().expect("a number"));
            let stamp = words.next().map(|stamp| format!(r#","published_at_ms":{stamp}"#)).unwrap_or_default();
            let payload = format!(r#"{{"source":"{source}","sequence":{number}{stamp}}}"#);
            sequences.is_duplicate(0, &Marks::of(payload.as_bytes()), "", payload.as_bytes());
        }
        let Counts { duplicates, reordered, missing, unfollowed } = sequences.counts();
        assert_eq!(([duplicates, reordered, missing], unfollowed), (expected, 0), "{events:?}");
    }

    #[test]
    fn what_is_missing_twice_or_late() {
        check(&["a 1", "a 2", "a 3"], [0, 0, 0]);
        // Who comes later has not missed anything.
        check(&["a 100", "a 101"], [0, 0, 0]);
        check(&["a 1", "a 3", "a 6"], [0, 0, 3]);
        check(&["a 1", "a 3", "a 2"], [0, 1, 0]);
        check(&["a 1", "a 1", "a 2", "a 1"], [2, 0, 0]);
        check(&["a 1", "a 3", "a 2", "a 2"], [1, 1, 0]);
        check(&["a 5", "a 4", "a 4", "a 6"], [1, 1, 0]);
        check(&["a 1", "b 1", "a 2", "b 3", "a 3"], [0, 0, 1]);
        check(&["a 0", "a 18446744073709551615"], [0, 0, u64::MAX - 1]);
    }

    #[test]
    fn a_new_run_begins_where_time_goes_on() {
        check(&["a 1 10", "a 2 20", "a 1 30", "a 2 40"], [0, 0, 0]);
        check(&["a 5 10", "a 6 20", "a 1 30", "a 3 40"], [0, 0, 1]);
        // The same event again, and one that was overtaken within the same millisecond.
        check(&["a 1 10", "a 2 20", "a 1 10"], [1, 0, 0]);
        check(&["a 1 10", "a 3 10", "a 2 10"], [0, 1, 0]);
    }

    #[test]
    fn the_window_slides() {
        check(&["a 0", "a 1023", "a 1"], [0, 1, 1021]);
        check(&["a 0", "a 1023", "a 0"], [1, 0, 1022]);
        // Too late to tell: still missing.
        check(&["a 0", "a 2000", "a 1"], [0, 1, 1999]);
        // The places of old numbers are those of new ones.
        check(&["a 1", "a 2", "a 1025", "a 1026", "a 1024"], [0, 1, 1021]);
        check(&["a 1", "a 2", "a 5000", "a 4097"], [0, 1, 4996]);
    }

    #[test]
    fn events_without_numbers_have_names() {
        let mut sequences = Sequences::default();
        let mut check = |reader: usize, id: &str, payload: &str, expected: bool| {
            let marks = Marks::of(payload.as_bytes());
            assert_eq!(
                sequences.is_duplicate(reader, &marks, id, payload.as_bytes()),
                expected,
                "{reader} {id} {payload}"
            );
        };
        check(0, "1-1", "x", false);
        check(0, "1-1", "x", true);
        check(1, "1-1", "x", false);
        check(0, "1-1", "y", false);
        check(0, "", "z", false);
        check(0, "", "z", false);
        check(0, "1-2", r#"{"event_id":"e"}"#, false);
        check(0, "1-3", r#"{"event_id":"e"}"#, true);
        (0..NAMES_MAX).for_each(|number| check(0, &format!("2-{number}"), "x", false));
        check(0, "2-0", "x", true);
        check(0, "1-1", "x", false);
    }

    #[test]
    fn what_is_not_followed_is_counted() {
        let mut sequences = Sequences::default();
        for number in 0..FOLLOWED_MAX + 3 {
            let payload = format!(r#"{{"source":{number},"sequence":1}}"#);
            assert!(!sequences.is_duplicate(0, &Marks::of(payload.as_bytes()), "", b""));
        }
        assert_eq!(sequences.counts(), Counts { unfollowed: 3, ..Counts::default() });
        assert!(sequences.is_duplicate(0, &Marks::of(br#"{"source":0,"sequence":1}"#), "", b""));
    }
}
