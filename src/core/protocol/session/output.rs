//! What the owner of a session writes to its client, in the form of the session's protocol. Where a protocol has no form for
//! something, nothing is written, unless the method returns that.

use super::{Dialect, Session, WebSocketSession};
use crate::{
    clock::Moment,
    event::{Event, EventId},
    frame::Format,
    gap::Gap,
    index::TopicIndex,
    outbox::Outbox,
    protocol::{
        encode_frame, engine_io,
        fanfare_v1::{self, Reference},
        sse,
        websocket::{self, Message},
    },
    topic::Topic,
};

/// What became of a gap ([`Session::write_gap`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapOutcome {
    /// It is written.
    Written,
    /// The protocol has no form for it: the connection is to end.
    NoForm,
    /// The session has no client.
    NoClient,
}

impl Session {
    /// The subscription to `topic` begins: events follow from behind `before`. `reference` is that of the command.
    pub fn write_subscribed(&self, topic: &Topic, before: EventId, reference: Reference<'_>, outbox: &mut Outbox) {
        self.write_reply(outbox, |text| fanfare_v1::write_subscribed(topic, Some(before), reference, text));
    }

    /// The subscription to `topic` has ended.
    pub fn write_unsubscribed(&self, topic: &Topic, reference: Reference<'_>, outbox: &mut Outbox) {
        self.write_reply(outbox, |text| fanfare_v1::write_unsubscribed(topic, reference, text));
    }

    /// A command is refused, with a `code` for programs and a sentence for people.
    pub fn write_command_refusal(&self, code: &str, why: &str, reference: Reference<'_>, outbox: &mut Outbox) {
        self.write_reply(outbox, |text| fanfare_v1::write_error(code, why, reference, text));
    }

    /// The answer to a command, as it was encoded for this kind of session.
    pub fn write_command_answer(&self, answer: &[u8], outbox: &mut Outbox) {
        self.write_reply(outbox, |text| text.extend_from_slice(answer));
    }

    fn write_reply(&self, outbox: &mut Outbox, write: impl FnOnce(&mut Vec<u8>)) {
        match self {
            Self::WebSocket(_) => {
                let mut text = Vec::new();
                write(&mut text);
                outbox.put(&websocket::encode_text(&text));
            }
            Self::Preface(_) | Self::Http(_) | Self::Sse(_) | Self::Engine(_) => {}
        }
    }

    /// A message of the application.
    pub fn write_message(&self, message: &Message, outbox: &mut Outbox) {
        match (self, message) {
            (Self::Engine(_), Message::Text(text)) => engine_io::write_message(&[text.as_bytes()], outbox.buffer()),
            (Self::Engine(_) | Self::WebSocket(_), message) => websocket::write_message(message, outbox.buffer()),
            (Self::Preface(_) | Self::Http(_) | Self::Sse(_), _) => {}
        }
    }

    /// Events of `name` are missing; from now on the client has everything up to the end of the gap.
    pub fn write_gap(&mut self, topic: TopicIndex, name: &Topic, gap: Gap, outbox: &mut Outbox) -> GapOutcome {
        match self {
            Self::Sse(stream) => {
                stream.pass(topic, gap.to);
                if let Some(ids) = stream.ids() {
                    sse::write_cursor_id(ids, stream.form.chunked, outbox.buffer());
                }
                sse::write_gap(name, gap, stream.form, outbox.buffer());
            }
            Self::WebSocket(WebSocketSession { dialect: Dialect::FanfareV1, .. }) => {
                let mut text = Vec::new();
                fanfare_v1::write_gap(name, gap, &mut text);
                outbox.put(&websocket::encode_text(&text));
            }
            Self::WebSocket(_) => return GapOutcome::NoForm,
            Self::Engine(engine) => {
                let Some(sockets) = &mut engine.sockets else { return GapOutcome::NoClient };
                sockets.pass(topic, gap.to);
                sockets.write_gap(topic, name, gap, outbox.buffer());
            }
            Self::Preface(_) | Self::Http(_) => return GapOutcome::NoClient,
        }
        GapOutcome::Written
    }

    /// Appends an event as the session has it in its `format`; from then on the client has everything up to the event. How many
    /// bytes stand ahead of the event's shared frame; `None` if it is not that frame which ends it.
    pub fn write_event(
        &mut self,
        topic: TopicIndex,
        event: &Event,
        format: Format,
        scratch: &mut String,
        out: &mut Vec<u8>,
    ) -> Option<u32> {
        let before = out.len();
        if let Self::Sse(stream) = self {
            stream.pass(topic, event.id);
            if let Some(ids) = stream.ids() {
                sse::write_cursor_id(ids, stream.form.chunked, out);
            }
        }
        let lead_bytes = (out.len() - before) as u32;
        let frame = event.frame(format, |event| encode_frame(event, format));
        match self {
            Self::Engine(engine) if !format.is_shared() => {
                if let Some(sockets) = &mut engine.sockets {
                    sockets.pass(topic, event.id);
                    sockets.write_own(topic, &frame, scratch, out);
                }
                None
            }
            _ => {
                out.extend_from_slice(&frame);
                Some(lead_bytes)
            }
        }
    }

    /// Whether an event goes ahead of everything else.
    pub fn has_greeting(&self) -> bool {
        matches!(self, Self::Sse(stream) if stream.greeting.is_some())
    }

    /// Writes the event that goes ahead of everything else, once. `resume_id`: from where events follow.
    pub fn write_greeting(&mut self, resume_id: Option<EventId>, outbox: &mut Outbox) {
        if let Self::Sse(stream) = self
            && let Some(greeting) = stream.greeting.take()
        {
            greeting.write(resume_id, stream.form.chunked, outbox.buffer());
        }
    }

    /// Whether the resume id goes ahead of the first event ([`Session::write_resume_id`]). True once.
    pub fn takes_resume_id(&mut self) -> bool {
        match self {
            Self::Sse(stream) => std::mem::take(&mut stream.tells_place),
            Self::Preface(_) | Self::Http(_) | Self::WebSocket(_) | Self::Engine(_) => false,
        }
    }

    /// Writes the id from which the client can resume: that of all its topics, or `only` where it has one.
    pub fn write_resume_id(&self, only: Option<EventId>, outbox: &mut Outbox) {
        let Self::Sse(stream) = self else { return };
        let chunked = stream.form.chunked;
        match (stream.ids(), only) {
            (Some(ids), _) => sse::write_place(ids, chunked, outbox.buffer()),
            (None, Some(only)) => sse::write_place([only].into_iter(), chunked, outbox.buffer()),
            (None, None) => {}
        }
    }

    /// The stream has been silent. Whatever lies between it and the client shall see that it is alive. Where the client can answer,
    /// it has to ([`Session::is_pong_late`]).
    pub fn write_heartbeat(&mut self, now: Moment, outbox: &mut Outbox) {
        match self {
            Self::WebSocket(websocket) => {
                outbox.put(websocket::PING);
                websocket.on_ping(now);
            }
            Self::Sse(stream) => outbox.put(sse::heartbeat(stream.form.chunked)),
            // A session of Engine.IO has its own (EngineSession::expire).
            Self::Preface(_) | Self::Http(_) | Self::Engine(_) => {}
        }
    }

    /// The same where heartbeats are events ([`Session::heartbeat_due`]). False if none is due.
    pub fn write_heartbeat_event(
        &mut self,
        resume_id: Option<EventId>,
        timestamp: &str,
        now: Moment,
        outbox: &mut Outbox,
    ) -> bool {
        if let Self::Sse(stream) = self
            && let Some(profile) = &mut stream.profile
        {
            return profile.write_heartbeat(resume_id, timestamp, stream.form.chunked, now, outbox.buffer());
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{
        GapOutcome::{NoClient, NoForm, Written},
        *,
    };
    use crate::{
        frame::SseForm,
        gap::GapReason,
        protocol::{EngineLimits, EngineSession, Layer, SessionId, SseStream},
    };

    const NOW: Moment = Moment(1_000_000_000);

    fn sessions() -> [Session; 6] {
        let form = SseForm { named: true, chunked: false, with_id: true };
        let engine = |layer| {
            let session = EngineSession::polled(SessionId::new(0, [7; 15]), layer, &EngineLimits::default(), NOW);
            Session::Engine(Box::new(session))
        };
        [
            Session::new(NOW),
            Session::Sse(SseStream { form, cursors: None, tells_place: true, greeting: None, profile: None }),
            Session::WebSocket(WebSocketSession::new(Dialect::Raw)),
            Session::WebSocket(WebSocketSession::new(Dialect::FanfareV1)),
            engine(Layer::Raw),
            engine(Layer::SocketIo),
        ]
    }

    /// What each of the sessions writes, after the two bytes of a short WebSocket frame's head.
    fn written(mut write: impl FnMut(&mut Session, &mut Outbox)) -> [String; 6] {
        sessions().map(|mut session| {
            let mut outbox = Outbox::new();
            write(&mut session, &mut outbox);
            let frame_head = usize::from(outbox.pending().first().is_some_and(|first| !first.is_ascii())) * 2;
            String::from_utf8_lossy(&outbox.pending()[frame_head..]).into_owned()
        })
    }

    #[test]
    fn each_protocol_has_its_own_form() {
        let topic = Topic::parse("a").expect("a topic");
        let id = EventId { major: 1, minor: 2 };
        let none = "";
        assert_eq!(
            written(|session, outbox| session.write_command_answer(b"{}", outbox)),
            [none, none, "{}", "{}", none, none]
        );
        assert_eq!(
            written(|session, outbox| session.write_message(&Message::Text("x".to_owned()), outbox)),
            [none, none, "x", "x", "4x", "4x"]
        );
        assert_eq!(
            written(|session, outbox| session.write_heartbeat(NOW, outbox)),
            [none, ":\n", none, none, none, none]
        );
        assert_eq!(
            written(|session, outbox| session.write_resume_id(Some(id), outbox)),
            [none, "id: 1-2\n\n", none, none, none, none]
        );
        let subscribed = written(|session, outbox| session.write_subscribed(&topic, id, None, outbox));
        assert_eq!(subscribed.map(|text| text.contains("subscribed")), [false, false, true, true, false, false]);
    }

    #[test]
    fn a_gap_is_written_or_ends_the_connection() {
        let topic = Topic::parse("a").expect("a topic");
        let id = EventId { major: 1, minor: 2 };
        let gap = Gap { from: id, to: id, reason: GapReason::Overflow };
        let outcomes = sessions().map(|mut session| {
            let mut outbox = Outbox::new();
            let outcome = session.write_gap(TopicIndex::new(0), &topic, gap, &mut outbox);
            assert!(outcome == Written || outbox.is_empty());
            outcome
        });
        assert_eq!(outcomes, [NoClient, Written, NoForm, Written, NoClient, Written]);
    }

    #[test]
    fn a_resume_id_is_written_once() {
        let taken = sessions().map(|mut session| [session.takes_resume_id(), session.takes_resume_id()]);
        assert_eq!(taken.map(|[first, _]| first), [false, true, false, false, false, false]);
        assert!(taken.iter().all(|[_, second]| !second));
    }
}
