//! One connection to a NATS server. It lives once: whatever ends it is an event, and the next connection is another [`Link`]. So its
//! user knows where in the messages of a subscription the break was.
//!
//! What comes is read when the user asks for it, up to a buffer full, and waits in the socket otherwise. A user who is slow makes the
//! server's own queue grow, until the server closes the connection: nothing is dropped without a word.

mod demultiplexer;
mod message;
mod socket;
mod wire;

use std::{
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use demultiplexer::Demultiplexer;
pub(super) use message::{Arrivals, LinkEvent, Message, PublishError};
use tokio::sync::{Notify, mpsc};
pub(super) use wire::Wire;

use super::{Fault, headers::Headers};
use crate::{
    protocol::nats::{
        NatsLimits, ServerInfo, Subject, SubjectPattern, write_publish, write_publish_with_block, write_subscribe,
        write_unsubscribe,
    },
    source::Filled,
};

/// The most times that what is left of a connection is read, each a buffer full.
const DRAIN_READS_MAX: usize = 16;

/// One connection. Its subscriptions have tags, by which what comes is told apart.
#[derive(Debug)]
pub(super) struct Link<T> {
    wire: Wire,
    demultiplexer: Demultiplexer<T>,
    aborts: mpsc::UnboundedSender<u64>,
    aborted: mpsc::UnboundedReceiver<u64>,
    has_ended: bool,
}

/// Ends a subscription.
#[derive(Debug)]
pub(super) struct SubscriptionHandle {
    sid: u64,
    aborts: mpsc::UnboundedSender<u64>,
}

impl SubscriptionHandle {
    /// Nothing of the subscription is handed on any more, and the server is told before the next command.
    pub(super) fn abort(&self) {
        // Fails only if the connection is gone.
        let _ = self.aborts.send(self.sid);
    }
}

impl<T: Clone> Link<T> {
    /// A connection that is logged in at `server`.
    pub(super) fn new(wire: Wire, server: ServerInfo, limits: NatsLimits) -> Self {
        let (aborts, aborted) = mpsc::unbounded_channel();
        Self { wire, demultiplexer: Demultiplexer::new(limits, server), aborts, aborted, has_ended: false }
    }

    /// Subscribes. That the server takes it is not said before something comes back that was sent after it.
    pub(super) fn subscribe(&mut self, tag: T, subject: &str) -> Result<SubscriptionHandle, Fault> {
        self.end_aborted();
        let pattern = SubjectPattern::parse(subject)
            .map_err(|bad| Fault::Closed(Some(format!("`{subject}` cannot be subscribed to: {bad}"))))?;
        let sid = self.demultiplexer.add(tag, subject);
        write_subscribe(&pattern, None, sid, self.wire.outgoing());
        Ok(SubscriptionHandle { sid, aborts: self.aborts.clone() })
    }

    /// Publishes, perhaps with a subject for the answer. That the server takes it is not said either.
    pub(super) fn publish(
        &mut self,
        subject: &str,
        reply: Option<&str>,
        headers: Option<&Headers>,
        payload: impl AsRef<[u8]>,
    ) -> Result<(), PublishError> {
        self.end_aborted();
        let payload = payload.as_ref();
        let subject = Subject::parse(subject).map_err(|_| PublishError::BadSubject)?;
        let reply = reply.map(Subject::parse).transpose().map_err(|_| PublishError::BadSubject)?;
        let server = &self.demultiplexer.server;
        let total_bytes = payload.len() + headers.map_or(0, |headers| headers.as_bytes().len());
        if 0 < server.max_payload && server.max_payload < total_bytes as u64 {
            return Err(PublishError::TooBig);
        }
        match headers {
            Some(_) if !server.headers => return Err(PublishError::NoHeaders),
            Some(headers) => {
                let block = headers.as_bytes();
                write_publish_with_block(&subject, reply.as_ref(), block, payload, self.wire.outgoing());
            }
            None => write_publish(&subject, reply.as_ref(), payload, self.wire.outgoing()),
        }
        Ok(())
    }

    /// Sends what was asked for, and waits until something comes, `wake` is notified, or `timeout` has passed. It also returns after a
    /// buffer full of what nobody is subscribed to, so that the user sees to its own affairs.
    pub(super) async fn next(&mut self, wake: &Notify, timeout: Duration) -> Arrivals<T> {
        let mut arrivals = Arrivals::new();
        self.begin_turn();
        let (mut notified, mut slept) = (pin!(wake.notified()), pin!(tokio::time::sleep(timeout)));
        std::future::poll_fn(|context| {
            let has_more = self.exchange(&mut arrivals, context);
            // Not asked for while there is something: a notification waits.
            let mut is_due = |context: &mut Context<'_>| {
                notified.as_mut().poll(context).is_ready() | slept.as_mut().poll(context).is_ready()
            };
            let is_ready = has_more || !arrivals.is_empty() || is_due(context);
            if is_ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        arrivals
    }

    /// All messages that are left of a connection that is given up, as far as they have come.
    pub(super) fn drain(&mut self) -> Vec<(T, Vec<Message>)> {
        let mut arrivals = Arrivals::new();
        self.begin_turn();
        for _ in 0..DRAIN_READS_MAX {
            if self.has_ended || !self.exchange(&mut arrivals, &mut Context::from_waker(Waker::noop())) {
                break;
            }
        }
        arrivals.messages
    }

    fn begin_turn(&mut self) {
        self.end_aborted();
        self.demultiplexer.begin_turn();
    }

    fn end_aborted(&mut self) {
        while let Ok(sid) = self.aborted.try_recv() {
            if self.demultiplexer.remove(sid) {
                write_unsubscribe(sid, None, self.wire.outgoing());
            }
        }
    }

    /// Sends what waits, and reads what there is, up to a buffer full. True if there may be more.
    fn exchange(&mut self, arrivals: &mut Arrivals<T>, context: &mut Context<'_>) -> bool {
        if self.has_ended {
            return false;
        }
        let sent = self.wire.poll_send(context);
        let filled = self.wire.poll_fill(context);
        let (buffer, outgoing) = self.wire.buffers();
        let mut ended = match self.demultiplexer.take(buffer, outgoing, arrivals) {
            Ok(()) => None,
            Err(bad) => Some(LinkEvent::Broken(bad.to_string())),
        };
        let is_full = matches!(filled, Filled::Full);
        match (filled, sent) {
            (Filled::End, _) => ended = ended.or(Some(LinkEvent::Closed(None))),
            // What cannot be sent matters only where nothing is left to read: the server may have said why.
            (Filled::Failed(error), _) | (Filled::Drained, Poll::Ready(Err(error))) => {
                ended = ended.or_else(|| Some(LinkEvent::Closed(Some(error.to_string()))));
            }
            (Filled::Drained | Filled::Full, _) => {}
        }
        self.has_ended = ended.is_some();
        arrivals.events.extend(ended);
        // What was parsed may have asked for an answer. A fault shows in the next turn.
        let _ = self.wire.poll_send(context);
        is_full
    }
}

#[cfg(test)]
mod tests;
