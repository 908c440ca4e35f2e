//! The one interface between a session and its owner, for all protocols.
//!
//! A protocol implements [`ProtocolSession`] in its own folder. Each method stands here with what a protocol gets that leaves it
//! out: mostly, a protocol that has no form for something writes nothing. [`Session`] has the same methods. They call the method of
//! the protocol that the connection speaks, without a virtual call.

use std::time::Duration;

use super::{Ending, PeerInput, Session, SessionLimits};
use crate::{
    clock::Moment,
    close::Close,
    event::{Event, EventId, Position},
    frame::{Format, FormatCode},
    gap::Gap,
    index::TopicIndex,
    outbox::Outbox,
    protocol::{Message, encode_frame, fanfare_v1::Reference},
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

/// A cursor that a session writes with each event.
#[derive(Debug)]
pub struct SessionCursor<'a> {
    /// Which of the session's cursors it is.
    pub index: usize,
    /// The topic.
    pub topic: TopicIndex,
    /// Where in the log the session has begun to listen.
    pub began: Position,
    /// Up to which id the client has everything.
    pub id: &'a mut EventId,
}

/// Puts `subscriptions` into the order of their topics, and appends the format and the topics to `key`.
pub(in crate::protocol) fn sort_by_topic<T>(
    format: FormatCode,
    subscriptions: &mut [T],
    topic_of: impl Fn(&T) -> TopicIndex,
    key: &mut Vec<u8>,
) {
    key.push(format.bits());
    subscriptions.sort_unstable_by_key(&topic_of);
    subscriptions.iter().for_each(|it| key.extend(topic_of(it).to_le_bytes()));
}

/// Makes the trait that protocols implement, and the same methods of [`Session`]. `protocol`: methods that only the trait has.
/// `read`: methods that read the session. `change`: methods that may change it.
macro_rules! interface {
    (
        protocol { $($protocol:tt)* }
        read { $(
            $(#[$read_meta:meta])*
            fn $read:ident $(<$read_generic:ident>)? (&$read_self:ident $(, $read_argument:ident: $read_type:ty)* $(,)?)
                $(-> $read_result:ty)? $read_default:block
        )* }
        change { $(
            $(#[$change_meta:meta])*
            fn $change:ident(&mut $change_self:ident $(, $change_argument:ident: $change_type:ty)* $(,)?)
                $(-> $change_result:ty)? $change_default:block
        )* }
    ) => {
        /// The session of one protocol. See [`Session`] for its states.
        #[allow(unused_variables, reason = "a default ignores what it is given")]
        pub(in crate::protocol) trait ProtocolSession {
            $($protocol)*
            $(
                $(#[$read_meta])*
                fn $read $(<$read_generic>)? (&$read_self $(, $read_argument: $read_type)*) $(-> $read_result)? $read_default
            )*
            $(
                $(#[$change_meta])*
                fn $change(&mut $change_self $(, $change_argument: $change_type)*) $(-> $change_result)? $change_default
            )*
        }

        impl Session {
            $(
                $(#[$read_meta])*
                pub fn $read $(<$read_generic>)? (&self $(, $read_argument: $read_type)*) $(-> $read_result)? {
                    call_protocol!(self, $read($($read_argument),*))
                }
            )*
            $(
                $(#[$change_meta])*
                pub fn $change(&mut self $(, $change_argument: $change_type)*) $(-> $change_result)? {
                    call_protocol!(self, $change($($change_argument),*))
                }
            )*
        }
    };
}

interface! {
    protocol {
        /// Takes what the peer sent, all of it. What it wants is appended to `inputs`, what it is owed at once to `outbox`.
        fn receive(
            &mut self,
            bytes: &mut [u8],
            limits: &SessionLimits,
            outbox: &mut Outbox,
            inputs: &mut Vec<PeerInput>,
            now: Moment,
        ) -> Result<(), Close> {
            Ok(())
        }

        /// Writes the connection's last bytes. The peer is not gone.
        fn write_end(&mut self, ending: Ending<'_>, outbox: &mut Outbox);
    }

    read {
        /// Whether it is one that brings events.
        fn is_stream(&self) -> bool { true }

        /// The form its events are written in; `None` before there are any.
        fn format(&self) -> Option<Format> { None }

        /// Whether it is a stream that has a client: a session of Socket.IO has none before one has entered a namespace.
        fn has_client(&self) -> bool { self.is_stream() }

        /// When [`Session::expire`] is due, unless something happens before; `None` while the hub has a request to answer, and
        /// for streams.
        fn deadline(&self, limits: &SessionLimits) -> Option<Moment> { None }

        /// Why the connection is to end, the deadline having passed.
        fn expire(&self) -> Close { Close::Done }

        /// Why the session takes no more, if it has refused the body of a request.
        fn refused(&self) -> Option<Close> { None }

        /// Whether the connection can be closed without cutting anything off: no request has begun.
        fn is_idle(&self) -> bool { false }

        /// Whether nothing has come yet.
        fn is_fresh(&self) -> bool { false }

        /// What it keeps of what the peer has not finished saying, in bytes.
        fn held_bytes(&self) -> usize { 0 }

        /// Whether it keeps its own time ([`EngineSession::deadline`](crate::protocol::EngineSession::deadline)), and needs no
        /// heartbeats.
        fn keeps_time(&self) -> bool { false }

        /// When the next heartbeat is due of a stream whose heartbeats are events; `None`: whenever it has been silent.
        fn heartbeat_due(&self) -> Option<Moment> { None }

        /// When a peer that was pinged, and has been silent since, has been so for `pong_timeout`.
        fn pong_deadline(&self, pong_timeout: Duration) -> Option<Moment> { None }

        /// Whether a client that comes back by itself names the id to resume from. If not, a gap does not end its connection.
        fn says_from_where(&self) -> bool { true }

        /// Whether its client learns of gaps from the close frame alone.
        fn ends_for_gaps(&self) -> bool { false }

        /// Whether an event goes ahead of everything else.
        fn has_greeting(&self) -> bool { false }

        /// Puts `subscriptions`, each to the topic that `topic_of` names, into the order in which the session's frames in `format`
        /// have their topics, and appends to `key` all that these frames depend on besides the cursors. False if they depend on
        /// more: a topic is waited for, or replayed.
        fn sort_for_group<T>(
            &self,
            format: FormatCode,
            subscriptions: &mut [T],
            topic_of: impl Fn(&T) -> TopicIndex,
            key: &mut Vec<u8>,
        ) -> bool {
            sort_by_topic(format, subscriptions, topic_of, key);
            true
        }

        /// The subscription to `topic` begins: events follow from behind `before`. `reference` is that of the command.
        fn write_subscribed(&self, topic: &Topic, before: EventId, reference: Reference<'_>, outbox: &mut Outbox) {}

        /// The subscription to `topic` has ended.
        fn write_unsubscribed(&self, topic: &Topic, reference: Reference<'_>, outbox: &mut Outbox) {}

        /// A command is refused, with a `code` for programs and a sentence for people.
        fn write_command_refusal(&self, code: &str, why: &str, reference: Reference<'_>, outbox: &mut Outbox) {}

        /// The answer to a command, as it was encoded for this kind of session.
        fn write_command_answer(&self, answer: &[u8], outbox: &mut Outbox) {}

        /// A message of the application.
        fn write_message(&self, message: &Message, outbox: &mut Outbox) {}

        /// Writes the id from which the client can resume: that of all its topics, or `only` where it has one.
        fn write_resume_id(&self, only: Option<EventId>, outbox: &mut Outbox) {}

        /// Writes why a stream ends that was opened only to be refused. Where the end is unexpected, [`Ending::write`] does that.
        fn write_refusal(&self, close: Close, outbox: &mut Outbox) {}
    }

    change {
        /// The stream, which is over several topics, has these, in the order of its id.
        fn set_topics(&mut self, topics: impl Iterator<Item = TopicIndex>) {}

        /// A topic named by the request that opened the stream begins behind `id`. Other subscriptions are begun by their clients.
        fn start_after(&mut self, topic: TopicIndex, id: EventId) {}

        /// The session listens to `topic` from the position `began` on.
        fn begin(&mut self, topic: TopicIndex, began: Position) {}

        /// The client has everything of `topic` up to `id`.
        fn pass(&mut self, topic: TopicIndex, id: EventId) {}

        /// Goes through the cursors that the session writes with each event.
        #[inline]
        fn each_cursor(&mut self, act: impl FnMut(SessionCursor<'_>)) {}

        /// Appends an event as the session has it in its `format`; from then on the client has everything up to the event. How many
        /// bytes stand ahead of the event's shared frame; `None` if it is not that frame which ends it.
        fn write_event(
            &mut self,
            topic: TopicIndex,
            event: &Event,
            format: Format,
            scratch: &mut String,
            out: &mut Vec<u8>,
        ) -> Option<u32> {
            out.extend_from_slice(&event.frame(format, |event| encode_frame(event, format)));
            Some(0)
        }

        /// Events of `name` are missing; from now on the client has everything up to the end of the gap.
        fn write_gap(&mut self, topic: TopicIndex, name: &Topic, gap: Gap, outbox: &mut Outbox) -> GapOutcome {
            GapOutcome::NoClient
        }

        /// Writes the event that goes ahead of everything else, once. `resume_id`: from where events follow.
        fn write_greeting(&mut self, resume_id: Option<EventId>, outbox: &mut Outbox) {}

        /// Whether the resume id goes ahead of the first event ([`Session::write_resume_id`]). True once.
        fn takes_resume_id(&mut self) -> bool { false }

        /// The stream has been silent. Whatever lies between it and the client shall see that it is alive. Where the client can
        /// answer, it has to ([`Session::is_pong_late`]).
        fn write_heartbeat(&mut self, now: Moment, outbox: &mut Outbox) {}

        /// The same where heartbeats are events ([`Session::heartbeat_due`]). False if none is due.
        fn write_heartbeat_event(
            &mut self,
            resume_id: Option<EventId>,
            timestamp: &str,
            now: Moment,
            outbox: &mut Outbox,
        ) -> bool {
            false
        }

        /// Whether a ping has been unanswered for `pong_timeout`. A client that has yet to read what is ahead of the ping cannot have
        /// seen it, so where the connection `is_blocked` the ping is forgotten.
        fn is_pong_late(&mut self, is_blocked: bool, pong_timeout: Duration, now: Moment) -> bool { false }
    }
}
