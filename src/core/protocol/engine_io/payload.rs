//! Payloads of long polling: packets joined by the record separator, binary messages as `b` and base64.

use std::borrow::Cow;

use data_encoding::{BASE64, BASE64_NOPAD};

use crate::protocol::websocket::{EncodedFrame, EncodedKind};

use super::{BadEnginePacket, EnginePacket};

const SEPARATOR: u8 = 0x1e;

/// Iterates over the packets of a payload that a client posted. Ends after an error.
#[derive(Clone, Debug)]
pub struct PollPayload<'a> {
    rest: Option<&'a str>,
    packets_left: usize,
}

impl<'a> PollPayload<'a> {
    /// The packets in `body`, at most `packets_max` of them. The body's size is limited by the HTTP reader.
    pub fn parse(body: &'a [u8], packets_max: usize) -> Result<Self, BadEnginePacket> {
        let text = simdutf8::basic::from_utf8(body).map_err(|_| BadEnginePacket("a payload is UTF-8"))?;
        Ok(Self { rest: Some(text), packets_left: packets_max })
    }

    /// The state that [`PollPayload::rest`] returned for a payload.
    pub fn behind(rest: &'a str, packets_left: usize) -> Self {
        Self { rest: Some(rest), packets_left }
    }

    /// The text that is not read yet, and how many packets may be in it. `None`: all is read.
    pub fn rest(&self) -> Option<(&'a str, usize)> {
        Some((self.rest?, self.packets_left))
    }

    fn next_packet(&mut self, text: &'a str) -> Result<EnginePacket<'a>, BadEnginePacket> {
        self.packets_left =
            self.packets_left.checked_sub(1).ok_or(BadEnginePacket("too many packets in one payload"))?;
        match text.strip_prefix('b') {
            Some(base64) => Ok(EnginePacket::Binary(Cow::Owned(decode(base64)?))),
            None => EnginePacket::parse(text),
        }
    }
}

impl<'a> Iterator for PollPayload<'a> {
    type Item = Result<EnginePacket<'a>, BadEnginePacket>;

    fn next(&mut self) -> Option<Self::Item> {
        let text = self.rest.take()?;
        let end = memchr::memchr(SEPARATOR, text.as_bytes());
        let packet = self.next_packet(&text[..end.unwrap_or(text.len())]);
        self.rest = end.filter(|_| packet.is_ok()).map(|end| &text[end + 1..]);
        Some(packet)
    }
}

/// Most clients pad their base64, as the standard alphabet requires; some omit the padding, which is accepted.
fn decode(base64: &str) -> Result<Vec<u8>, BadEnginePacket> {
    BASE64_NOPAD
        .decode(base64.trim_end_matches('=').as_bytes())
        .map_err(|_| BadEnginePacket("a binary message in a payload is base64"))
}

/// Writes one payload: the answer to a poll.
#[derive(Debug)]
pub struct PollPayloadWriter<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    packets_left: usize,
    bytes_max: usize,
}

impl<'a> PollPayloadWriter<'a> {
    /// Appends to `out` at most `packets_max` packets, which together take at most `bytes_max` unless the first alone
    /// takes more: it could never be sent otherwise.
    pub fn new(packets_max: usize, bytes_max: usize, out: &'a mut Vec<u8>) -> Self {
        Self { start: out.len(), out, packets_left: packets_max, bytes_max }
    }

    /// Appends the messages of `frames`, whole WebSocket frames of a server, until one has no room; control frames are
    /// skipped. Returns how many bytes of `frames` are done with.
    pub fn push_frames(&mut self, frames: &[u8]) -> usize {
        let mut consumed = 0;
        while let Some(frame) = EncodedFrame::first(&frames[consumed..]) {
            let pushed = match frame.kind {
                EncodedKind::Control => true,
                EncodedKind::Text => self.push(frame.payload.len(), |out| out.extend_from_slice(frame.payload)),
                EncodedKind::Binary => self.push_binary(frame.payload),
            };
            if !pushed {
                break;
            }
            consumed += frame.frame_bytes;
        }
        consumed
    }

    /// Whether nothing has been appended yet.
    pub fn is_empty(&self) -> bool {
        self.out.len() == self.start
    }

    fn push_binary(&mut self, payload: &[u8]) -> bool {
        self.push(1 + BASE64.encode_len(payload.len()), |out| {
            //= Engine.IO 4 section Packet encoding: "Binary payloads MUST be base64-encoded and prefixed with a `b`
            //=   character"
            out.push(b'b');
            encode(payload, out);
        })
    }

    fn push(&mut self, packet_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let is_first = self.is_empty();
        let total_bytes = self.out.len() - self.start + usize::from(!is_first) + packet_bytes;
        if self.packets_left == 0 || !is_first && self.bytes_max < total_bytes {
            return false;
        }
        self.packets_left -= 1;
        if !is_first {
            self.out.push(SEPARATOR);
        }
        write(self.out);
        true
    }
}

fn encode(payload: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + BASE64.encode_len(payload.len()), 0);
    BASE64.encode_mut(payload, &mut out[start..]);
}

/// Appends the messages of `frames`, whole WebSocket frames of a server, as a payload of at most `packets_max` packets
/// and `bytes_max` bytes (unless the first packet alone has more), and returns how many bytes of `frames` it took. The
/// rest is for the next poll: between the packets of one binary event a payload may end.
pub fn payload_from_frames(frames: &[u8], packets_max: usize, bytes_max: usize, out: &mut Vec<u8>) -> usize {
    PollPayloadWriter::new(packets_max, bytes_max, out).push_frames(frames)
}
