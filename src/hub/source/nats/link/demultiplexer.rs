//! Sorts what comes over a connection by its subscriptions.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;

use super::message::{Arrivals, LinkEvent, Message};
use crate::{
    protocol::nats::{
        BadOperation, HeaderBlock, NatsLimits, NatsMessage, Operation, OversizeMessage, PONG, ServerInfo, measure,
        parse,
    },
    source::{ReadBuffer, nats::headers::Headers},
};

/// The subscriptions of one connection, and what its server says of itself.
#[derive(Debug)]
pub(super) struct Demultiplexer<T> {
    limits: NatsLimits,
    pub(super) server: ServerInfo,
    /// By their ids, which are never used again: messages of one that has ended may still be on their way.
    subscriptions: HashMap<u64, Subscription<T>, foldhash::fast::RandomState>,
    last_sid: u64,
    /// Counts what is handed on together.
    turn: u64,
}

#[derive(Debug)]
struct Subscription<T> {
    tag: T,
    /// The subject of its last message, which mostly is that of the next one.
    subject: Arc<str>,
    /// Where its messages are, and in what turn.
    group: usize,
    turn: u64,
}

impl<T: Clone> Demultiplexer<T> {
    pub(super) fn new(limits: NatsLimits, server: ServerInfo) -> Self {
        Self { limits, server, subscriptions: HashMap::default(), last_sid: 0, turn: 0 }
    }

    /// The id of a new subscription.
    pub(super) fn add(&mut self, tag: T, subject: &str) -> u64 {
        self.last_sid += 1;
        let subscription = Subscription { tag, subject: subject.into(), group: 0, turn: 0 };
        self.subscriptions.insert(self.last_sid, subscription);
        self.last_sid
    }

    /// What comes for the subscription is dropped from here on. False if it had ended.
    pub(super) fn remove(&mut self, sid: u64) -> bool {
        self.subscriptions.remove(&sid).is_some()
    }

    /// The next messages go into new [`Arrivals`].
    pub(super) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// Takes every whole operation out of `buffer`. What came before a fault is in `arrivals`; after a fault, the connection is of no
    /// use. What answers the server is appended to `outgoing`.
    pub(super) fn take(
        &mut self,
        buffer: &mut ReadBuffer,
        outgoing: &mut Vec<u8>,
        arrivals: &mut Arrivals<T>,
    ) -> Result<(), BadOperation> {
        let mut parsed = 0;
        let outcome = loop {
            let rest = buffer.unparsed().get(parsed..).unwrap_or_default();
            match parse(rest, &self.limits) {
                Ok(None) => break Ok(()),
                Ok(Some((operation, length))) => {
                    if let Err(bad) = self.handle(operation, outgoing, arrivals) {
                        break Err(bad);
                    }
                    parsed += length;
                }
                // Passed over: it may be longer than what has come of it.
                Err(BadOperation::PayloadTooLong) if let Some(message) = measure(rest, &self.limits) => {
                    self.refuse(&message, arrivals);
                    parsed += message.bytes;
                }
                Err(bad) => break Err(bad),
            }
        };
        buffer.consume(parsed);
        outcome
    }

    fn handle(
        &mut self,
        operation: Operation<'_>,
        outgoing: &mut Vec<u8>,
        arrivals: &mut Arrivals<T>,
    ) -> Result<(), BadOperation> {
        match operation {
            Operation::Message(message) => self.deliver(&message, arrivals),
            // One answers all that came since the last one was sent: a server that asks and never reads makes nothing grow.
            Operation::Ping if outgoing.ends_with(PONG) => {}
            Operation::Ping => outgoing.extend_from_slice(PONG),
            Operation::Error(text) => arrivals.events.push(LinkEvent::Error(text.to_owned())),
            Operation::Info(json) => self.server = ServerInfo::parse(json)?,
            Operation::Pong | Operation::Ok => {}
        }
        Ok(())
    }

    fn deliver(&mut self, message: &NatsMessage<'_>, arrivals: &mut Arrivals<T>) {
        let Some((subject, messages)) = self.group(message.sid, message.subject, arrivals) else { return };
        let status = message.headers.and_then(|block| HeaderBlock::new(block).status());
        messages.push(Message {
            subject,
            reply: message.reply_to.map(text_of),
            headers: message.headers.map(|block| Headers::received(Bytes::copy_from_slice(block))),
            status: status.map(|(status, _)| status),
            // The one copy: the event outlives the buffer.
            payload: Bytes::copy_from_slice(message.payload),
            is_oversize: false,
        });
    }

    fn refuse(&mut self, message: &OversizeMessage<'_>, arrivals: &mut Arrivals<T>) {
        if let Some((subject, messages)) = self.group(message.sid, message.subject, arrivals) {
            let reply = message.reply_to.map(text_of);
            messages.push(Message { subject, reply, is_oversize: true, ..Message::default() });
        }
    }

    /// The subject of a message, and where it belongs; `None`: its subscription has ended.
    fn group<'a>(
        &mut self,
        sid: u64,
        subject: &[u8],
        arrivals: &'a mut Arrivals<T>,
    ) -> Option<(Arc<str>, &'a mut Vec<Message>)> {
        let subscription = self.subscriptions.get_mut(&sid)?;
        if subscription.subject.as_bytes() != subject {
            subscription.subject = String::from_utf8_lossy(subject).into();
        }
        if subscription.turn != self.turn {
            subscription.turn = self.turn;
            subscription.group = arrivals.messages.len();
            arrivals.messages.push((subscription.tag.clone(), Vec::new()));
        }
        let (_, messages) = &mut arrivals.messages[subscription.group];
        Some((Arc::clone(&subscription.subject), messages))
    }
}

fn text_of(bytes: &[u8]) -> Box<str> {
    String::from_utf8_lossy(bytes).into()
}
