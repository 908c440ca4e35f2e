//! Whether a reader got each event once and in order, by the numbers that the events carry.
//!
//! A source (with its sensor, if it names one) numbers its events without holes. The numbers are followed for each reader
//! by itself, from the first one it gets, in bounded memory. A number that falls back although the event was made later
//! belongs to a new run of its source, and is neither a duplicate nor late.
//!
//! Events without numbers are known by their names: `event_id`, or the id that the transport tells, with the payload.

use std::{
    collections::{HashMap, VecDeque},
    hash::BuildHasher,
};

use foldhash::fast::RandomState;

use super::marks::Marks;

/// How many sources, and how many readers of events without numbers, are followed at most: about 200 bytes each, and
/// 1 KiB. [`Counts::unfollowed`] tells how many events came from others.
const FOLLOWED_MAX: usize = 65_536;
/// How far behind its source's newest number an event may be and still be told apart from one that came before.
const WINDOW: u64 = 1024;
/// How many events of one reader are remembered by their names.
const NAMES_MAX: usize = 128;

/// What was found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Events that had come before.
    pub(super) duplicates: u64,
    /// Events that came after a later one of their source.
    pub(super) reordered: u64,
    /// Numbers that were passed over and have not come since.
    pub(super) missing: u64,
    /// Events of which nothing is known because too many sources or readers are followed already.
    pub(super) unfollowed: u64,
}

/// The events of all readers so far.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    courses: HashMap<Key, Course, RandomState>,
    /// The latest names at each reader, hashed.
    names: HashMap<usize, VecDeque<u64>, RandomState>,
    hasher: RandomState,
    counts: Counts,
}

/// A reader, and one of its sources, hashed.
type Key = (usize, u64);

impl Sequences {
    /// What was found so far.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes an event of `reader` with the transport's `id`, which may be empty; whether it had come before.
    pub(super) fn is_duplicate(&mut self, reader: usize, marks: &Marks<'_>, id: &str, payload: &[u8]) -> bool {
        let before = self.counts.duplicates;
        if let Some((source, sensor, sequence)) = marks.numbered() {
            let key = (reader, self.hasher.hash_one((source, sensor)));
            self.take_number(key, sequence, marks.stamp_ms());
        } else if let Some(event_id) = marks.event_id() {
            self.take_name(reader, self.hasher.hash_one(event_id));
        } else if !id.is_empty() {
            // Not the id alone: by SSE an event without one of its own has that of the event before.
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

/// One source, as one reader sees it.
#[derive(Debug)]
struct Course {
    /// The first number of this run: what precedes it is not missed.
    first: u64,
    highest: u64,
    /// Of the event with the highest number.
    stamp_ms: Option<f64>,
    /// Which of the last [`WINDOW`] numbers came: the bit at `number % WINDOW`.
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
            // Whether it had come before is forgotten. It stays missing if it was.
            counts.reordered += 1;
        } else if self.see(sequence) {
            counts.duplicates += 1;
        } else {
            counts.reordered += 1;
            counts.missing -= u64::from(self.first < sequence);
        }
    }

    /// Goes on to a higher number: those between have not come.
    fn advance(&mut self, sequence: u64) {
        if WINDOW <= sequence - self.highest {
            self.seen.fill(0);
        } else {
            (self.highest + 1..sequence).for_each(|number| self.seen[word(number)] &= !bit(number));
        }
        self.seen[word(sequence)] |= bit(sequence);
        self.highest = sequence;
    }

    /// Takes note that a number came; whether it had before.
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
