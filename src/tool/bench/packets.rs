//! Socket.IO v5 over Engine.IO v4 over WebSocket, as a subscriber speaks it: let in, it asks for its topic, and then hears
//! events.

use super::{
    options::Load,
    wire::{Heard, MASK, each_text, refused},
};
use crate::{
    close::Close,
    protocol::{
        http::{ResponsePart, ResponseReader},
        websocket::client::{FrameReader, write_masked_text},
    },
};

/// The first bytes of packets: Engine.IO's type, then, in a message, Socket.IO's.
const OPEN: u8 = b'0';
const PING: &[u8] = b"2";
const PONG: &[u8] = b"3";
const CONNECTED: &[u8] = b"40";
const EVENT: &[u8] = b"42";
const REFUSED: &[u8] = b"44";

/// A connection on its way to its topic: upgraded, connected to the main namespace, subscribed.
#[derive(Debug)]
pub(super) struct Entrance {
    reader: ResponseReader,
    frames: FrameReader,
    is_upgraded: bool,
    dialogue: Dialogue,
}

/// What is said on the way.
#[derive(Debug)]
struct Dialogue {
    connect: Vec<u8>,
    subscribe: Vec<u8>,
    /// Whether the subscription was confirmed: what follows are events.
    is_inside: bool,
}

impl Entrance {
    /// For the load's topic, with its token.
    pub(super) fn new(load: &Load) -> Self {
        let credentials = load.token.as_ref().map(|token| serde_json::json!({ "token": token }).to_string());
        let subscribe = format!(r#"42["subscribe",{{"topic":"{}"}}]"#, load.topic);
        Self {
            reader: ResponseReader::new(),
            frames: FrameReader::new(),
            is_upgraded: false,
            dialogue: Dialogue {
                connect: format!("40{}", credentials.unwrap_or_default()).into_bytes(),
                subscribe: subscribe.into_bytes(),
                is_inside: false,
            },
        }
    }

    /// Takes what the server sent; once the subscription is confirmed, what will cut the rest into frames.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        heed: &mut impl FnMut(Heard<'_>),
    ) -> Result<Option<FrameReader>, String> {
        let Self { reader, frames, is_upgraded, dialogue } = self;
        if *is_upgraded {
            dialogue.hear(frames, bytes, reply, heed)?;
        } else {
            let mut outcome = Ok(());
            let received = reader.receive(bytes, |part| match part {
                ResponsePart::Head(head) if head.status == 101 => *is_upgraded = true,
                ResponsePart::Head(head) => outcome = Err(refused(&head)),
                ResponsePart::Body(body) if outcome.is_ok() => outcome = dialogue.hear(frames, body, reply, heed),
                ResponsePart::Body(_) | ResponsePart::End => {}
            });
            received.map_err(|close: Close| close.to_string()).and(outcome)?;
        }
        Ok(dialogue.is_inside.then(|| std::mem::take(frames)))
    }
}

impl Dialogue {
    fn hear(
        &mut self,
        frames: &mut FrameReader,
        bytes: &[u8],
        reply: &mut Vec<u8>,
        heed: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), String> {
        each_text(frames, bytes, reply, &mut |packet, reply| match self.is_inside {
            true => take_packet(packet, reply, heed),
            false => self.advance(packet, reply, heed),
        })
    }

    fn advance(&mut self, packet: &[u8], reply: &mut Vec<u8>, heed: &mut impl FnMut(Heard<'_>)) -> Result<(), String> {
        if packet.first() == Some(&OPEN) {
            write_masked_text(&self.connect, MASK, reply);
        } else if packet.starts_with(CONNECTED) {
            write_masked_text(&self.subscribe, MASK, reply);
        } else if packet == PING {
            write_masked_text(PONG, MASK, reply);
        } else if packet.starts_with(br#"42["subscribed""#) {
            self.is_inside = true;
            heed(Heard::Open);
        } else if packet.starts_with(REFUSED) || packet.starts_with(br#"42["error""#) || !packet.starts_with(EVENT) {
            return Err(unexpected(packet));
        }
        // Other events are what a server tells everybody who connects.
        Ok(())
    }
}

/// Takes frames of a connection whose subscription is confirmed.
pub(super) fn receive_packets(
    frames: &mut FrameReader,
    bytes: &[u8],
    reply: &mut Vec<u8>,
    heed: &mut impl FnMut(Heard<'_>),
) -> Result<(), String> {
    each_text(frames, bytes, reply, &mut |packet, reply| take_packet(packet, reply, heed))
}

#[inline]
fn take_packet(packet: &[u8], reply: &mut Vec<u8>, heed: &mut impl FnMut(Heard<'_>)) -> Result<(), String> {
    if let Some(event) = packet.strip_prefix(EVENT) {
        // The payload is the event's argument: it stands behind the first comma, and the stamp at its beginning.
        let argument_start = memchr::memchr(b',', event).map_or(0, |comma| comma + 1);
        heed(Heard::Message(&event[argument_start..]));
        return Ok(());
    }
    if packet == PING {
        write_masked_text(PONG, MASK, reply);
        return Ok(());
    }
    Err(unexpected(packet))
}

fn unexpected(packet: &[u8]) -> String {
    format!("the server sent the packet {}", String::from_utf8_lossy(packet))
}
