//! Fingerprints: how a hub finds the place of another hub's event of Redis Pub/Sub in its own log.
//!
//! Hubs number the events of a channel each for itself. But one server sends all messages, of all channels, to all connections in
//! one order. Into that order hubs publish *marks*, messages that are never the same twice. So "the third message of this channel
//! behind that mark" is one message, at every hub that was subscribed when the mark came and has lost nothing since, whatever the
//! messages say. A [`Fingerprint`] is a hash of that: of the server and the mark, the topic, the number, and, as a second proof, of
//! all messages of the topic since the mark.

use std::{fmt, num::NonZeroU64, str::FromStr};

use crate::topic::Topic;

/// What was read, beside an id that says where: equal at two hubs for the same message of the same server only. It has no order.
///
/// 64 bits: an id that belongs to none of 16,384 events is taken for one of them once in 2^50 times.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint(NonZeroU64);

/// A place in what one connection reads: behind so many marks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The connection, by a number that the reader uses once.
    connection: u64,
    /// How many marks the connection has read. Before the first one there is nothing to count from.
    number: u64,
    /// The hash of the server and of the newest mark.
    key: u64,
}

/// How a topic's messages stand to the marks between them. It changes with each message, loss and subscription of the topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sequence {
    /// Messages may be missing, before or behind the newest mark.
    #[default]
    Unknown,
    /// Nothing is missing from here on, but before it, behind the same mark, something may be.
    Since(Mark),
    /// Every message of the topic behind the mark has been read.
    Whole { mark: Mark, count: u64, content: u64 },
    /// Events have come past the server, among which other hubs have another order. Until the topic ends, no place is the same
    /// at another hub.
    Mixed,
}

impl Mark {
    /// The begin of a connection, before any mark.
    pub fn begin(connection: u64) -> Self {
        Self { connection, number: 0, key: 0 }
    }

    /// The next mark of the connection: `nonce`, as it came from the server process whose unique name is `server`.
    pub fn next(self, server: &[u8], nonce: &[u8]) -> Self {
        Self { number: self.number + 1, key: scramble(digest(server) ^ digest(nonce).rotate_left(1)), ..self }
    }
}

impl Sequence {
    /// A message of `topic` came, with the [`digest`] `message`, behind `mark`. The fingerprint of its place, if that is
    /// the same at other hubs.
    pub fn take(&mut self, mark: Mark, topic: &Topic, message: u64) -> Option<Fingerprint> {
        let (count, content) = match *self {
            Self::Mixed => return None,
            Self::Whole { mark: last, count, content } if last == mark => (count, content),
            Self::Since(last) | Self::Whole { mark: last, .. } if last.is_before(mark) => {
                (0, digest(topic.as_str().as_bytes()))
            }
            Self::Since(_) | Self::Whole { .. } | Self::Unknown => {
                *self = Self::Since(mark);
                return None;
            }
        };
        let (count, content) = (count + 1, scramble(content ^ message));
        *self = Self::Whole { mark, count, content };
        Some(Fingerprint::of(mark, count, content))
    }

    /// The topic is subscribed, and was not before: from `mark` on nothing is missing. No effect if that is known of an earlier
    /// mark.
    pub fn begin(&mut self, mark: Mark) {
        if *self == Self::Unknown {
            *self = Self::Since(mark);
        }
    }

    /// Whether messages will have fingerprints as soon as there is another mark.
    pub fn needs_mark(&self) -> bool {
        matches!(self, Self::Since(_))
    }

    /// Messages may be missing here.
    pub fn interrupt(&mut self) {
        if *self != Self::Mixed {
            *self = Self::Unknown;
        }
    }

    /// An event came past the server.
    pub fn mix(&mut self) {
        *self = Self::Mixed;
    }
}

impl Mark {
    /// Whether `later` is a later mark of the same connection.
    fn is_before(self, later: Self) -> bool {
        self.connection == later.connection && self.number < later.number
    }
}

impl Fingerprint {
    /// Behind one mark, different counts give different scrambled words: there, equal contents alone make no equal fingerprints.
    fn of(mark: Mark, count: u64, content: u64) -> Self {
        let place = scramble(mark.key.wrapping_add(count.wrapping_mul(ODD)));
        Self(NonZeroU64::new(place ^ content).unwrap_or(NonZeroU64::MIN))
    }

    /// The length of its text.
    pub(crate) fn text_len(self) -> usize {
        self.0.ilog2() as usize / 4 + 1
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A text that is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadFingerprint;

impl FromStr for Fingerprint {
    type Err = BadFingerprint;

    /// Parses 1 to 16 lower-case hexadecimal digits, the first of them not zero.
    fn from_str(text: &str) -> Result<Self, BadFingerprint> {
        let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.starts_with('0') || !text.bytes().all(is_digit) {
            return Err(BadFingerprint);
        }
        u64::from_str_radix(text, 16).ok().and_then(NonZeroU64::new).map(Self).ok_or(BadFingerprint)
    }
}

/// Odd numbers whose bits look random: the fractional digits of π.
const ODD: u64 = 0x243F_6A88_85A3_08D3;
const KEYS: [u64; 4] = [0x1319_8A2E_0370_7345, 0xA409_3822_299F_31D1, 0x082E_FA98_EC4E_6C89, 0x4528_21E6_38D0_1377];

/// A hash of `data` that is the same in every hub, of every version and on every processor. No secret: whoever writes `data` can
/// find other data with the same digest.
pub fn digest(data: &[u8]) -> u64 {
    // Two lanes, so that the processor multiplies for one while it waits for the other.
    let mut lanes = [KEYS[0] ^ data.len() as u64, KEYS[1]];
    let (blocks, rest) = data.as_chunks::<32>();
    for block in blocks {
        lanes = absorb(lanes, block);
    }
    if !rest.is_empty() {
        let mut last = [0; 32];
        last[..rest.len()].copy_from_slice(rest);
        lanes = absorb(lanes, &last);
    }
    scramble(lanes[0] ^ lanes[1].rotate_left(32))
}

fn absorb([left, right]: [u64; 2], block: &[u8; 32]) -> [u64; 2] {
    let (words, _) = block.as_chunks::<8>();
    let word = |index: usize| u64::from_le_bytes(words[index]);
    // The rotated lane keeps what came before if the product is zero.
    [
        fold(left ^ word(0), word(1) ^ KEYS[2]).wrapping_add(left.rotate_left(29)),
        fold(right ^ word(2), word(3) ^ KEYS[3]).wrapping_add(right.rotate_left(31)),
    ]
}

/// The upper and the lower half of the product, together.
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product >> 64) as u64 ^ product as u64
}

/// Mixes the bits of `word`. Different words give different results, because each step can be undone.
fn scramble(word: u64) -> u64 {
    let mut word = word.wrapping_add(ODD);
    for (shift, factor) in [(32, KEYS[1]), (29, KEYS[2]), (32, KEYS[3])] {
        word = (word ^ word >> shift).wrapping_mul(factor);
    }
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect("a good name")
    }

    fn mark(connection: u64, nonces: &[&str]) -> Mark {
        nonces.iter().fold(Mark::begin(connection), |mark, nonce| mark.next(b"server", nonce.as_bytes()))
    }

    /// The topic is subscribed at the begin of the connection, then come these messages behind the marks of these names.
    fn read(name: &str, marks: &[&str], messages: &[&str]) -> Vec<Option<Fingerprint>> {
        let (topic, mark) = (topic(name), mark(1, marks));
        let mut sequence = Sequence::default();
        sequence.begin(Mark::begin(1));
        messages.iter().map(|message| sequence.take(mark, &topic, digest(message.as_bytes()))).collect()
    }

    #[test]
    fn a_place_is_the_same_at_every_hub_and_no_other_place_is() {
        let places = read("t", &["m"], &["a", "a", "a", "b"]);
        assert!(places.iter().all(Option::is_some));
        assert_eq!(places.iter().collect::<HashSet<_>>().len(), 4, "equal messages have places of their own");
        assert_eq!(
            read("t", &["before", "m"], &["a", "a", "a", "b"]),
            places,
            "marks before the newest are nothing to it"
        );
        let others = [
            read("t", &["other"], &["a", "a", "a", "b"]),
            read("other", &["m"], &["a", "a", "a", "b"]),
            read("t", &["m"], &["x", "a", "a", "b"]),
        ];
        for other in others {
            assert!(other.iter().zip(&places).all(|(other, place)| other != place), "{other:?} {places:?}");
        }
        assert_eq!(read("t", &["m"], &["a", "b"])[0], places[0]);
        assert_ne!(read("t", &["m"], &["a", "b"])[1], places[1]);
        let mut elsewhere = Sequence::Since(Mark::begin(1));
        let same_mark = Mark::begin(1).next(b"another server", b"m");
        assert_ne!(elsewhere.take(same_mark, &topic("t"), digest(b"a")), places[0]);
    }

    #[test]
    fn only_what_is_whole_since_a_mark_has_a_place() {
        use Sequence::{Mixed, Since, Unknown};
        let topic = topic("t");
        let (begin, first, second) = (mark(1, &[]), mark(1, &["m"]), mark(1, &["m", "n"]));
        let other = mark(2, &["m", "n", "o"]);
        let whole = |mark| Sequence::Whole { mark, count: 7, content: 9 };
        let check = |before: Sequence, mark: Mark, has_place: bool| {
            let mut sequence = before;
            assert_eq!(sequence.take(mark, &topic, 5).is_some(), has_place, "{before:?} {mark:?}");
            assert_eq!(sequence.needs_mark(), matches!(sequence, Since(_)));
            let (mut begun, mut interrupted, mut mixed) = (before, before, before);
            begun.begin(second);
            assert_eq!(begun, if before == Unknown { Since(second) } else { before });
            interrupted.interrupt();
            assert_eq!(interrupted, if before == Mixed { Mixed } else { Unknown });
            mixed.mix();
            assert_eq!((mixed, mixed.take(second, &topic, 5)), (Mixed, None));
            sequence
        };
        assert_eq!(check(Unknown, first, false), Since(first));
        assert_eq!(check(Since(begin), begin, false), Since(begin));
        assert_eq!(check(Since(first), first, false), Since(first));
        assert_eq!(check(whole(first), other, false), Since(other));
        assert_eq!(check(Since(first), other, false), Since(other));
        assert_eq!(check(whole(second), first, false), Since(first), "marks never go back");
        assert_eq!(check(Mixed, second, false), Mixed);
        for (before, mark, expected) in
            [(Since(begin), first, 1), (Since(first), second, 1), (whole(first), second, 1), (whole(first), first, 8)]
        {
            let after = check(before, mark, true);
            assert!(
                matches!(after, Sequence::Whole { mark: of, count, .. } if (of, count) == (mark, expected)),
                "{after:?}"
            );
        }
    }

    /// Hubs of two versions find each other's places only if these numbers never change.
    #[test]
    fn the_numbers_are_the_same_for_good() {
        let check = |data: &[u8], expected: u64| assert_eq!(digest(data), expected, "{:#x}", digest(data));
        check(b"", 0xfcdd_f01f_2787_e6e7);
        check(b"a", 0xadd1_e6b2_16a6_4520);
        check(&[0; 32], 0x6110_04e9_fc61_c6bb);
        check(&[7; 100], 0x880d_9aaa_33f7_f164);
        let shown: Vec<String> =
            read("t", &["m"], &["a", "b"]).into_iter().flatten().map(|it| it.to_string()).collect();
        assert_eq!(shown, ["6300009d9a4ef173", "d5b75005465b4c60"]);
    }

    #[test]
    fn digests_of_similar_data_differ() {
        let mut seen = HashMap::new();
        for length in 0..=200 {
            for (fill, flipped) in
                [0, 1, 0x80, 0xFF].into_iter().flat_map(|fill| (0..=length).map(move |at| (fill, at)))
            {
                let mut data = vec![fill; length];
                // Past the end: nothing is flipped.
                data.get_mut(flipped).into_iter().for_each(|byte| *byte ^= 0x10);
                let former = seen.insert(digest(&data), data.clone());
                assert!(former.is_none_or(|former| former == data), "{data:?}");
            }
        }
    }

    #[test]
    fn texts() {
        let check = |text: &str, expected: Option<u64>| {
            let parsed: Option<Fingerprint> = text.parse().ok();
            assert_eq!(parsed.map(|found| found.0.get()), expected, "{text}");
            if let Some(fingerprint) = parsed {
                assert_eq!((fingerprint.to_string(), fingerprint.text_len()), (text.to_owned(), text.len()));
            }
        };
        check("1", Some(1));
        check("10", Some(16));
        check("fedcba9876543210", Some(0xFEDC_BA98_7654_3210));
        check("ffffffffffffffff", Some(u64::MAX));
        for bad in ["", "0", "01", "A", "g", "-1", "+1", " 1", "1 ", "10000000000000000", "~1"] {
            check(bad, None);
        }
    }
}
