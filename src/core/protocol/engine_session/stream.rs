//! A session of Engine.IO as one of the sessions of a connection: how a request opens it, and what it writes to its clients.

use super::{EngineLimits, EngineSession, Layer, SessionId, SocketIoClient, Sockets, answered_first};
use crate::{
    clock::Moment,
    close::Close,
    event::{Event, EventId, Position},
    frame::{Format, FormatCode},
    gap::Gap,
    index::TopicIndex,
    outbox::Outbox,
    protocol::{
        Ending, GapOutcome, OpeningContext, PeerInput, Session, SessionCursor, SessionLimits, encode_frame, engine_io,
        session::{ProtocolOpening, ProtocolSession, denial_json, is_denial, sort_by_topic},
        socket_io::{self, Args, PacketTarget},
        websocket::{self, Accepted, Message, WebSocketLimits},
    },
    topic::Topic,
    transport::Transport,
};

/// A session of Engine.IO to open, and the WebSocket that carries it.
#[derive(Debug)]
pub struct EngineOpening {
    /// What the handshake agreed on.
    pub accepted: Accepted,
    /// The session's name.
    pub sid: SessionId,
    /// What lies on top.
    pub layer: Layer,
    /// What bounds it.
    pub limits: EngineLimits,
}

impl ProtocolOpening for EngineOpening {
    const TRANSPORT: Transport = Transport::SocketIo;
    const STATUS: u16 = 101;

    fn open(self, context: OpeningContext<'_>, outbox: &mut Outbox) -> Session {
        let Self { accepted, sid, layer, limits } = self;
        websocket::write_accept(&accepted, context.date, outbox.buffer());
        limits.write_handshake(sid, false, outbox.buffer());
        Session::Engine(Box::new(EngineSession::carried(sid, layer, &limits, context.now)))
    }
}

impl ProtocolSession for EngineSession {
    /// Takes what the WebSocket brought.
    fn receive(
        &mut self,
        bytes: &mut [u8],
        limits: &SessionLimits,
        outbox: &mut Outbox,
        inputs: &mut Vec<PeerInput>,
        now: Moment,
    ) -> Result<(), Close> {
        let Some(carrier) = &mut self.carrier else { return Ok(()) };
        let mut messages = Vec::new();
        let of_engine = WebSocketLimits { message_bytes_max: limits.engine.payload_bytes_max, ..limits.websocket };
        let outcome = carrier.receive(bytes, &of_engine, outbox, &mut messages);
        let inputs_before = inputs.len();
        let taken = messages.into_iter().try_for_each(|message| self.take(message, limits, outbox, inputs, now));
        let taken = taken.and(outcome).and_then(|()| self.check_held(&limits.engine, inputs));
        answered_first(taken, inputs, inputs_before)
    }

    fn format(&self) -> Option<Format> {
        self.sockets.as_ref().map(|sockets| Format::SocketIo(sockets.form()))
    }

    fn has_client(&self) -> bool {
        self.sockets.as_ref().is_some_and(|sockets| !sockets.clients().is_empty())
    }

    fn held_bytes(&self) -> usize {
        let unfinished = self.carrier.as_ref().map_or(0, websocket::ServerSession::held_bytes);
        unfinished + self.sockets.as_ref().map_or(0, Sockets::held_bytes)
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn says_from_where(&self) -> bool {
        false
    }

    fn sort_for_group<T>(
        &self,
        format: FormatCode,
        subscriptions: &mut [T],
        topic_of: impl Fn(&T) -> TopicIndex,
        key: &mut Vec<u8>,
    ) -> bool {
        sort_by_topic(format, subscriptions, &topic_of, key);
        format.is_shared()
            || self.sockets.as_ref().is_some_and(|sockets| {
                let is_listened_to = |topic| subscriptions.binary_search_by_key(&topic, &topic_of).is_ok();
                write_clients(sockets, is_listened_to, key)
            })
    }

    fn write_message(&self, message: &Message, outbox: &mut Outbox) {
        match message {
            Message::Text(text) => engine_io::write_message(&[text.as_bytes()], outbox.buffer()),
            message => websocket::write_message(message, outbox.buffer()),
        }
    }

    fn begin(&mut self, topic: TopicIndex, began: Position) {
        self.sockets.iter_mut().for_each(|sockets| sockets.begin(topic, began));
    }

    fn pass(&mut self, topic: TopicIndex, id: EventId) {
        self.sockets.iter_mut().for_each(|sockets| sockets.pass(topic, id));
    }

    #[inline]
    fn each_cursor(&mut self, mut act: impl FnMut(SessionCursor<'_>)) {
        let topics = self.sockets.iter_mut().flat_map(Sockets::subscriptions);
        topics.enumerate().for_each(|(index, it)| {
            act(SessionCursor { index, topic: it.topic_index, began: it.began_at, id: &mut it.passed });
        });
    }

    fn write_event(
        &mut self,
        topic: TopicIndex,
        event: &Event,
        format: Format,
        scratch: &mut String,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let frame = event.frame(format, |event| encode_frame(event, format));
        if format.is_shared() {
            out.extend_from_slice(&frame);
            return Some(0);
        }
        if let Some(sockets) = &mut self.sockets {
            sockets.pass(topic, event.id);
            sockets.write_own(topic, &frame, scratch, out);
        }
        None
    }

    fn write_gap(&mut self, topic: TopicIndex, name: &Topic, gap: Gap, outbox: &mut Outbox) -> GapOutcome {
        let Some(sockets) = &mut self.sockets else { return GapOutcome::NoClient };
        sockets.pass(topic, gap.to);
        sockets.write_gap(topic, name, gap, outbox.buffer());
        GapOutcome::Written
    }

    fn write_end(&mut self, ending: Ending<'_>, outbox: &mut Outbox) {
        if is_denial(ending.close) {
            self.write_denial(&denial_json(ending.close), outbox);
        }
        websocket::write_last(&ending, outbox);
    }
}

impl EngineSession {
    /// Tells its clients that they have lost the right to what they had, with `error` as JSON, and takes them out of their namespaces,
    /// so that they do not come back by themselves with what they have shown.
    pub(super) fn write_denial(&self, error: &str, outbox: &mut Outbox) {
        for client in self.sockets.iter().flat_map(Sockets::clients) {
            let target = PacketTarget { namespace: &client.namespace, ack: None };
            socket_io::write_event(target, "error", Args::from_list(error), outbox.buffer());
            socket_io::write_disconnect(&client.namespace, outbox.buffer());
        }
    }
}

/// Appends the clients and their topics, in order. False if a client waits for a topic, or replays it.
fn write_clients(sockets: &Sockets, is_listened_to: impl Fn(TopicIndex) -> bool, key: &mut Vec<u8>) -> bool {
    for SocketIoClient { namespace, topics, .. } in sockets.clients() {
        for text_or_list in [namespace.len(), topics.len()] {
            key.extend((text_or_list as u32).to_le_bytes());
        }
        key.extend(namespace.as_bytes());
        for subscription in topics {
            key.extend(subscription.topic_index.to_le_bytes());
            if !is_listened_to(subscription.topic_index) {
                return false;
            }
        }
    }
    true
}
