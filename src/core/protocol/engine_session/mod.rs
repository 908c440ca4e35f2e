//! An Engine.IO session (protocol revision 4), server's side: what outlives the connections that carry it.
//!
//! LIFECYCLE: *polled* after a handshake by request, or *carried* by a WebSocket from the start. A polled session may be
//! carried over to a WebSocket ([`EngineSession::carry`]) and never goes back. It ends with its WebSocket, when a ping stays
//! unanswered, when the client says so, or when the client breaks a rule.
//!
//! What the client is owed is always written as WebSocket frames; a poll takes the same messages in the other wrapping
//! ([`engine_io::PollPayloadWriter`]). So nothing is rewritten when a WebSocket takes over.

mod id;
mod sockets;
mod stream;

use std::time::Duration;

pub use id::SessionId;
pub use sockets::{SocketIoClient, SocketIoInput, SocketIoSubscription, Sockets};
pub use stream::EngineOpening;

use super::{
    PeerInput,
    engine_io::{self, EnginePacket, EnginePacketKind, Handshake, PollPayload},
    rate::{Rate, RateLimit, RateVerdict},
    session::ProtocolSession,
    websocket::{self, Message},
};
use crate::{clock::Moment, close::Close, outbox::Outbox};

/// What sessions are bounded by, and when they are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EngineLimits {
    /// How long after the last answer the client is pinged again.
    pub ping_interval: Duration,
    /// How long it may leave a ping unanswered.
    pub ping_timeout: Duration,
    /// The most bytes a client may send in one request or message.
    pub payload_bytes_max: usize,
    /// The most packets in one poll: some clients end a session that brings more.
    pub poll_packets_max: usize,
    /// The most packets in one request of a client; zero: as many as `payload_bytes_max` has room for, which is how many the
    /// official client sends.
    pub post_packets_max: usize,
    /// The most bytes in one poll, unless a single packet is larger.
    pub poll_bytes_max: usize,
    /// How long a Socket.IO client may take until it has entered a namespace.
    pub connect_timeout: Duration,
    /// For how long a client that lost its session may come back; zero: not at all.
    pub recovery: Duration,
    /// The most namespaces one session may be in.
    pub namespaces_max: usize,
    /// The most attachments of one message.
    pub attachments_max: usize,
    /// The most bytes that a Socket.IO client may show to enter a namespace, and that are held of its messages before.
    pub connect_bytes_max: usize,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            payload_bytes_max: 1_000_000,
            poll_packets_max: 16,
            post_packets_max: 0,
            poll_bytes_max: 256 * 1024,
            connect_timeout: Duration::from_secs(45),
            recovery: Duration::ZERO,
            namespaces_max: 8,
            attachments_max: 10,
            connect_bytes_max: 16 * 1024,
        }
    }
}

/// Packets of one request's body that are taken before what they ask for is answered.
const PACKETS_PER_STEP: usize = 256;

impl EngineLimits {
    /// The packets in the body of a request.
    pub fn read_payload<'a>(&self, body: &'a [u8]) -> Result<PollPayload<'a>, Close> {
        let most = if self.post_packets_max == 0 { usize::MAX } else { self.post_packets_max };
        PollPayload::parse(body, most).map_err(|bad| Close::BadFrame(bad.0))
    }
}

impl EngineLimits {
    /// Appends the packet that opens a session, as a WebSocket frame. `upgrades`: a WebSocket may take over.
    pub fn write_handshake(&self, sid: SessionId, upgrades: bool, out: &mut Vec<u8>) {
        let handshake = Handshake {
            sid: &sid.to_string(),
            upgrade_to_websocket: upgrades,
            ping_interval_ms: self.ping_interval.as_millis() as u64,
            ping_timeout_ms: self.ping_timeout.as_millis() as u64,
            payload_bytes_max: self.payload_bytes_max,
        };
        handshake.write_frame(out);
    }
}

/// What lies on top of Engine.IO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    /// Nothing: messages are the application's.
    Raw,
    /// Socket.IO, protocol revision 5.
    SocketIo,
}

#[derive(Debug)]
pub struct EngineSession {
    pub sid: SessionId,
    /// Its Socket.IO clients, one for each namespace it is in; `None`: messages are the application's.
    pub sockets: Option<Sockets>,
    carrier: Option<websocket::ServerSession>,
    pulse: Pulse,
    rate: Rate,
}

/// When the client is pinged next, or has to have answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pulse {
    PingAt(Moment),
    PongBy(Moment),
}

impl EngineSession {
    /// A session that requests carry.
    pub fn polled(sid: SessionId, layer: Layer, limits: &EngineLimits, now: Moment) -> Self {
        let sockets = (layer == Layer::SocketIo).then(|| Sockets::new(now + limits.connect_timeout));
        let pulse = Pulse::PingAt(now + limits.ping_interval);
        Self { sid, sockets, carrier: None, pulse, rate: Rate::default() }
    }

    /// A session that a WebSocket carries from the start.
    pub fn carried(sid: SessionId, layer: Layer, limits: &EngineLimits, now: Moment) -> Self {
        Self { carrier: Some(websocket::ServerSession::new()), ..Self::polled(sid, layer, limits, now) }
    }

    /// From now on the WebSocket with this receiving state carries it.
    pub fn carry(&mut self, carrier: websocket::ServerSession) {
        self.carrier = Some(carrier);
    }

    /// Whether a WebSocket carries it.
    pub fn is_carried(&self) -> bool {
        self.carrier.is_some()
    }

    /// Of a client in no namespace little is held. One that is about to enter may have begun with what comes then.
    fn check_held(&self, limits: &EngineLimits, inputs: &[PeerInput]) -> Result<(), Close> {
        let is_outside =
            self.sockets.as_ref().is_some_and(|sockets| sockets.clients().is_empty() && !sockets.is_undecided(inputs));
        match is_outside && limits.connect_bytes_max < self.held_bytes() {
            true => Err(Close::MessageTooBig),
            false => Ok(()),
        }
    }

    /// Takes the next packets of a request's body, a few hundred at most. What they ask for is to be answered before the next
    /// ones are taken: all that a body asks for together would be many times as large as the body.
    pub fn receive_packets(
        &mut self,
        packets: &mut PollPayload<'_>,
        limits: &super::SessionLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        let inputs_before = inputs.len();
        let mut take = |packet| self.take_packet(packet, limits, outbox, inputs, now);
        let packets = packets.take(PACKETS_PER_STEP).map(|packet| packet.map_err(|bad| Close::BadFrame(bad.0)));
        let taken = packets.into_iter().try_for_each(|packet| take(packet?));
        answered_first(taken, inputs, inputs_before)
    }

    /// Takes one message: a packet of Engine.IO.
    pub fn take(
        &mut self,
        message: Message,
        limits: &super::SessionLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        match message {
            Message::Ping | Message::Pong => Ok(()),
            message @ Message::Binary(_) => {
                self.take_message(message, &limits.rate, &limits.engine, outbox, inputs, now)
            }
            Message::Text(mut text) => {
                let packet = EnginePacket::parse(&text).map_err(|bad| Close::BadFrame(bad.0))?;
                if let EnginePacket::Text(EnginePacketKind::Message, data) = packet {
                    // It may be long: what stands before its data is taken off, and it is not copied.
                    text.drain(..text.len() - data.len());
                    return self.take_message(Message::Text(text), &limits.rate, &limits.engine, outbox, inputs, now);
                }
                self.take_packet(packet, limits, outbox, inputs, now)
            }
        }
    }

    /// Takes a message that was held until what came before it was answered ([`PeerInput::Held`]).
    pub fn take_held(
        &mut self,
        message: Message,
        limits: &super::SessionLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        self.take_message(message, &limits.rate, &limits.engine, outbox, inputs, now)
    }

    /// Takes a long message whose check has found nothing wrong ([`PeerInput::Checked`]).
    pub fn take_checked(
        &mut self,
        text: String,
        heeded: bool,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
    ) -> Result<(), Close> {
        self.sockets.as_mut().map_or(Ok(()), |sockets| sockets.take_checked(text, heeded, outbox, inputs))
    }

    fn take_packet(
        &mut self,
        packet: EnginePacket<'_>,
        limits: &super::SessionLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        let message = match packet {
            EnginePacket::Binary(bytes) => Message::Binary(bytes.into_owned()),
            EnginePacket::Text(EnginePacketKind::Message, text) => Message::Text(text.to_owned()),
            EnginePacket::Text(EnginePacketKind::Pong, _) => {
                self.pulse = Pulse::PingAt(now + limits.engine.ping_interval);
                return Ok(());
            }
            EnginePacket::Text(EnginePacketKind::Close, _) => return Err(Close::Done),
            EnginePacket::Text(EnginePacketKind::Ping, _) => {
                return Err(Close::BadFrame("in Engine.IO 4 the server pings"));
            }
            EnginePacket::Text(EnginePacketKind::Open, _) => {
                return Err(Close::BadFrame("only the server opens a session"));
            }
            EnginePacket::Text(EnginePacketKind::Upgrade | EnginePacketKind::Noop, _) => return Ok(()),
        };
        self.take_message(message, &limits.rate, &limits.engine, outbox, inputs, now)
    }

    fn take_message(
        &mut self,
        message: Message,
        limit: &RateLimit,
        limits: &EngineLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        let Some(sockets) = &mut self.sockets else {
            match self.rate.judge(limit, now) {
                RateVerdict::Pass => inputs.push(PeerInput::EngineMessage(message)),
                RateVerdict::Ignore => {}
                RateVerdict::CutOff => return Err(Close::RateLimited),
            }
            return Ok(());
        };
        if sockets.is_undecided(inputs) {
            inputs.push(PeerInput::Held(message));
            return Ok(());
        }
        // An attachment belongs to the message it follows, which was judged.
        let verdict = match message {
            Message::Text(_) => self.rate.judge(limit, now),
            _ => RateVerdict::Pass,
        };
        match verdict {
            RateVerdict::CutOff => Err(Close::RateLimited),
            verdict => sockets.take(message, verdict == RateVerdict::Pass, limits, outbox, inputs),
        }
    }

    /// When [`EngineSession::expire`] is due, unless something happens before.
    pub fn deadline(&self) -> Moment {
        let pulse = match self.pulse {
            Pulse::PingAt(at) | Pulse::PongBy(at) => at,
        };
        let entering = self.sockets.as_ref().and_then(Sockets::deadline);
        entering.map_or(pulse, |entering| entering.min(pulse))
    }

    /// The deadline has passed: pings the client, or ends because it is gone.
    pub fn expire(&mut self, limits: &EngineLimits, outbox: &mut Outbox, now: Moment) -> Result<(), Close> {
        if self.sockets.as_ref().and_then(Sockets::deadline).is_some_and(|deadline| deadline <= now) {
            return Err(Close::RequestTimeout);
        }
        match self.pulse {
            Pulse::PingAt(at) if at <= now => {
                engine_io::write_frame(EnginePacketKind::Ping, "", outbox.buffer());
                // From when the ping was due, as the client counts; but a hub that is late itself leaves time enough.
                self.pulse = Pulse::PongBy((at + limits.ping_timeout).max(now + limits.ping_timeout * 3 / 4));
                Ok(())
            }
            Pulse::PongBy(by) if by <= now => Err(Close::PeerGone),
            _ => Ok(()),
        }
    }

    /// Gives the client more time to answer a ping: it cannot have seen it yet.
    pub fn extend(&mut self, by: Moment) {
        if let Pulse::PongBy(_) = self.pulse {
            self.pulse = Pulse::PongBy(by);
        }
    }
}

/// Nothing may be said after the end, so what was asked before it is answered first.
fn answered_first(outcome: Result<(), Close>, inputs: &mut Vec<PeerInput>, inputs_before: usize) -> Result<(), Close> {
    match outcome {
        Err(close) if inputs_before < inputs.len() => {
            inputs.push(PeerInput::End(close));
            Ok(())
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests;
