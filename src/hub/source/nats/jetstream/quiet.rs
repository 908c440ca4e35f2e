//! When the last message of each topic came, as far as the reader has followed the stream. No I/O.
//!
//! A stream removes its oldest messages of whatever topic, and a client of a topic that was quiet comes back with an id from before the
//! oldest one that is left. The stream cannot say whether something of that topic was among what it removed. The hub can, if it has
//! read everything since: it does not keep the topics, which may be any number, but one entry for all that share a hash. So it may
//! take something of another topic for something of this one, and never the other way round.

use std::{
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// The account of one stream, which the reader keeps and the archive asks.
#[derive(Debug)]
pub(super) struct QuietTopics(Mutex<Account>);

#[derive(Debug)]
struct Account {
    /// The identity of the stream.
    identity: u64,
    /// Every message behind this sequence was seen, …
    since: u64,
    /// … up to this one.
    upto: u64,
    /// The oldest message that was left at the last look.
    first_seq: u64,
    entries: Box<[Entry]>,
    hasher: foldhash::fast::RandomState,
}

/// What is known of the topics that share it. Zero: there was none.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The newest message before `first`. It had been removed when that came.
    before: u64,
    /// The first message that came when all before it had been removed.
    first: u64,
    /// The newest messages, from the newest on: what had been removed when one of them came may be found out only later.
    newest: [u64; NEWEST],
}

/// Messages that may come between two looks at what the stream has removed.
const NEWEST: usize = 4;

impl QuietTopics {
    /// With so many entries; none: nothing is known of any topic.
    pub(super) fn new(count: usize) -> Self {
        Self(Mutex::new(Account {
            identity: 0,
            since: u64::MAX,
            upto: 0,
            first_seq: 0,
            entries: vec![Entry::default(); count].into(),
            hasher: foldhash::fast::RandomState::default(),
        }))
    }

    /// From here on every message behind `seq` of the stream `identity` will be seen. What was seen before stays true of the same stream,
    /// so that a hole in it costs nothing.
    pub(super) fn begin(&self, identity: u64, seq: u64) {
        let mut account = self.lock();
        if account.identity != identity || seq < account.upto {
            account.entries.fill(Entry::default());
            account.first_seq = 0;
        }
        (account.identity, account.since, account.upto) = (identity, seq, seq);
    }

    /// The oldest message that is left.
    pub(super) fn set_first(&self, first_seq: u64) {
        self.lock().first_seq = first_seq;
    }

    /// The next message of the stream.
    pub(super) fn on_message(&self, subject: &[u8], seq: u64) {
        let mut account = self.lock();
        account.upto = seq;
        let first_seq = account.first_seq;
        if let Some(index) = account.index(subject) {
            let entry = &mut account.entries[index];
            if entry.newest[0] < first_seq {
                (entry.before, entry.first) = (entry.newest[0], seq);
            }
            entry.newest.rotate_right(1);
            entry.newest[0] = seq;
        }
    }

    /// The sequence behind which the stream `identity`, whose oldest message is `first_seq`, has removed nothing of the topic with this
    /// subject. `None`: nobody knows.
    pub(super) fn intact_behind(&self, subject: &[u8], identity: u64, first_seq: u64) -> Option<u64> {
        let account = self.lock();
        if account.identity != identity || account.upto + 1 < first_seq {
            return None;
        }
        let Entry { before, first, newest } = account.entries[account.index(subject)?];
        let removed = match newest.into_iter().find(|seq| *seq < first_seq) {
            Some(seq) => seq,
            None if first_seq <= first => before,
            // Some of those between may have been removed.
            None => return None,
        };
        Some(removed.max(account.since))
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Account {
    fn index(&self, subject: &[u8]) -> Option<usize> {
        let hash = self.hasher.hash_one(subject) as usize;
        hash.checked_rem(self.entries.len())
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::SmallRng};

    use super::*;

    #[test]
    fn what_was_removed_of_a_topic_is_known() {
        let quiet = QuietTopics::new(1000);
        let check = |subject: &str, first_seq: u64, expected: Option<u64>| {
            let found = quiet.intact_behind(subject.as_bytes(), 7, first_seq);
            assert_eq!(found, expected, "{subject} {first_seq}");
        };
        check("a", 1, None);
        quiet.begin(7, 10);
        quiet.set_first(3);
        check("a", 3, Some(10));
        quiet.on_message(b"a", 11);
        quiet.on_message(b"b", 12);
        quiet.on_message(b"a", 13);
        quiet.on_message(b"b", 14);
        check("a", 3, Some(10));
        check("a", 11, Some(10));
        check("a", 12, Some(11));
        check("a", 13, Some(11));
        check("a", 14, Some(13));
        check("b", 15, Some(14));
        check("c", 15, Some(10));
        check("b", 16, None);
        assert_eq!(quiet.intact_behind(b"a", 8, 3), None, "another stream");
        // After a silence, of which the look comes late.
        quiet.on_message(b"a", 15);
        quiet.on_message(b"a", 16);
        check("a", 14, Some(13));
        check("a", 15, Some(13));
        check("a", 16, Some(15));
        check("a", 17, Some(16));
        // After another one, of which it came in time, and then many messages.
        quiet.set_first(17);
        (17..=21).for_each(|seq| quiet.on_message(b"a", seq));
        check("a", 17, Some(16));
        check("a", 18, None);
        check("a", 19, Some(18));
        quiet.begin(7, 25);
        check("a", 17, Some(25));
        check("a", 22, Some(25));
        quiet.begin(9, 30);
        check("a", 17, None);
        assert_eq!(quiet.intact_behind(b"a", 9, 31), Some(30));
    }

    /// Against streams of which everything is known: never less than what was removed, whatever shares an entry.
    #[test]
    fn nothing_that_was_removed_is_denied() {
        for seed in 0..200 {
            let mut random = SmallRng::seed_from_u64(seed);
            let quiet = QuietTopics::new(random.random_range(1..8));
            let (mut all, mut first_seq) = (Vec::<(u64, String)>::new(), 1);
            let mut since = random.random_range(0..5);
            quiet.begin(1, since);
            let mut seq = since;
            for _ in 0..200 {
                match random.random_range(0..5) {
                    // Messages that were removed unseen.
                    4 if random.random_range(0..10) == 0 => {
                        let topic = random.random_range(1..8_u32).pow(2).to_string();
                        (seq, since) = (seq + 1, seq + 1);
                        all.push((seq, topic));
                        first_seq = seq + 1;
                        quiet.begin(1, seq);
                    }
                    0 => first_seq = random.random_range(first_seq..=seq + 1),
                    1 => quiet.set_first(random.random_range(1..=first_seq)),
                    _ => {
                        seq += 1;
                        // Few speak often, and many seldom.
                        let topic = random.random_range(1..8_u32).pow(2).to_string();
                        quiet.on_message(topic.as_bytes(), seq);
                        all.push((seq, topic));
                    }
                }
                for topic in (1..8_u32).map(|root| root.pow(2).to_string()) {
                    let removed = all.iter().rev().find(|(at, of)| *at < first_seq && *of == topic);
                    let removed = removed.map_or(since, |(at, _)| *at);
                    let told = quiet.intact_behind(topic.as_bytes(), 1, first_seq);
                    assert!(told.is_none_or(|told| removed <= told), "seed {seed}: {topic} {told:?} {removed}");
                }
            }
        }
    }
}
