//! The stamp in a measured payload: JSON of fixed shape, so that finding and reading it costs the client little.

use crate::clock::Moment;

/// The smallest payload there is: the stamp and no padding.
pub(super) const PAYLOAD_BYTES_MIN: usize = PADDING_START + END.len();

/// The sequence number of a probe, which only shows that a subscriber receives events.
pub(super) const PROBE: u32 = u32::MAX;

const RUN: &[u8] = br#"{"r":""#;
const SEQUENCE: &[u8] = br#"","s":""#;
const INTENDED: &[u8] = br#"","t":""#;
const PADDING: &[u8] = br#"","p":""#;
const END: &[u8] = br#""}"#;

const RUN_START: usize = RUN.len();
const SEQUENCE_START: usize = RUN_START + 4 + SEQUENCE.len();
const INTENDED_START: usize = SEQUENCE_START + 8 + INTENDED.len();
const PADDING_START: usize = INTENDED_START + 16 + PADDING.len();

/// Which event this is, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// The run's number, which tells its events from others on the topic.
    pub run: u16,
    /// The event's number, from 0, or [`PROBE`].
    pub sequence: u32,
    /// The time at which the event was due, whenever it was in fact sent.
    pub intended: Moment,
}

impl Stamp {
    /// Appends a payload of `size_bytes` (at least [`PAYLOAD_BYTES_MIN`]).
    pub(super) fn write(&self, size_bytes: usize, out: &mut Vec<u8>) {
        let end = out.len() + size_bytes.max(PAYLOAD_BYTES_MIN) - END.len();
        out.extend_from_slice(RUN);
        write_hex(u64::from(self.run), 4, out);
        out.extend_from_slice(SEQUENCE);
        write_hex(u64::from(self.sequence), 8, out);
        out.extend_from_slice(INTENDED);
        write_hex(self.intended.0, 16, out);
        out.extend_from_slice(PADDING);
        out.resize(end, b'x');
        out.extend_from_slice(END);
    }

    /// Whether `message` begins as a payload does.
    #[inline]
    pub(super) fn is_first(message: &[u8]) -> bool {
        message.starts_with(RUN)
    }

    /// Reads the stamp of `message`: at its beginning, or, where an envelope surrounds the payload, inside. Also returns
    /// what follows it.
    #[inline]
    pub(super) fn find(message: &[u8]) -> Option<(Self, &[u8])> {
        let start = if Self::is_first(message) { 0 } else { memchr::memmem::find(message, RUN)? };
        let payload = &message[start..];
        Some((Self::parse(payload)?, &payload[PAYLOAD_BYTES_MIN..]))
    }

    fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() < PAYLOAD_BYTES_MIN {
            return None;
        }
        Some(Self {
            run: u16::try_from(parse_hex(&payload[RUN_START..][..4])?).ok()?,
            sequence: u32::try_from(parse_hex(&payload[SEQUENCE_START..][..8])?).ok()?,
            intended: Moment(parse_hex(&payload[INTENDED_START..][..16])?),
        })
    }
}

fn write_hex(number: u64, digits: u32, out: &mut Vec<u8>) {
    let nibbles = (0..digits).rev().map(|place| (number >> (4 * place)) as usize & 15);
    out.extend(nibbles.map(|nibble| b"0123456789abcdef"[nibble]));
}

fn parse_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number: u64, &digit| Some(number << 4 | u64::from(char::from(digit).to_digit(16)?)))
}
