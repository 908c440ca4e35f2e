//! Lines about single requests and single connections in the hub's log: `log.access` and `log.connections`. Both are off by
//! default, and cost a look at a flag then. Neither shows a query or a header, which may carry tokens.

use std::{collections::HashMap, fmt::Write};

use super::{Reactor, net::Net};
use crate::{
    clock::Moment,
    close::Close,
    index::{Slot, TopicIndex},
    label::RouteLabel,
    metrics::Transport,
    protocol::http::{Method, Request},
};

/// The most topics that one line names.
const TOPICS_SHOWN: usize = 16;

/// What is yet to be logged, by the connection's slot.
#[derive(Debug, Default)]
pub(super) struct Journal {
    asked: HashMap<Slot, Asked, foldhash::fast::RandomState>,
    opened: HashMap<Slot, Moment, foldhash::fast::RandomState>,
    ended: HashMap<Slot, Ended, foldhash::fast::RandomState>,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Asked {
    method: Method,
    path: String,
    at: Moment,
}

/// What was true of a connection when it ended. It is logged once its last bytes are taken, or given up.
#[derive(Debug)]
struct Ended {
    close: Close,
    at: Moment,
    transport: Transport,
    subject: Option<Box<str>>,
    topics: String,
    topic_count: usize,
}

impl<N: Net> Reactor<N> {
    /// A connection, or a session that requests carry, has come.
    pub(super) fn note_opened(&mut self, slot: Slot) {
        if self.config.log_connections {
            self.journal.opened.insert(slot, self.now);
        }
    }

    /// When the connection at `slot` came, if that is to be logged; it goes to another reactor.
    pub(super) fn take_opened(&mut self, slot: Slot) -> Option<Moment> {
        self.journal.asked.remove(&slot);
        self.journal.opened.remove(&slot)
    }

    /// A connection that came at `opened` comes from another reactor.
    pub(super) fn keep_opened(&mut self, slot: Slot, opened: Option<Moment>) {
        opened.map(|opened| self.journal.opened.insert(slot, opened));
    }

    /// A request has come.
    pub(super) fn note_request(&mut self, slot: Slot, request: &Request) {
        if self.config.log_access {
            let asked = Asked { method: request.method, path: request.path.clone(), at: self.now };
            self.journal.asked.insert(slot, asked);
        }
    }

    /// Counts a request for `route` that is answered with `status` and a body of `bytes`, and logs it. A stream's body is yet to
    /// come, and counts for its connection.
    pub(super) fn count_request(&mut self, slot: Slot, route: RouteLabel, status: u16, bytes: usize) {
        self.metrics.on_request(route, status);
        self.log_request(slot, route, status, bytes);
    }

    /// The same where it is counted already. What was never a whole request has no method and no path.
    pub(super) fn log_request(&mut self, slot: Slot, route: RouteLabel, status: u16, bytes: usize) {
        if !self.config.log_access {
            return;
        }
        let asked = self.journal.asked.remove(&slot);
        let peer = self.connections.peek(slot).and_then(|connection| connection.peer);
        // A path is what a client wrote: quoted, so that none can pass for another line.
        tracing::info!(
            target: "fanfare::access",
            peer = peer.map(tracing::field::display),
            method = asked.as_ref().map_or("-", |asked| asked.method.as_str()),
            path = ?asked.as_ref().map_or("-", |asked| &asked.path),
            route = route.label(),
            status,
            bytes,
            seconds = asked.as_ref().map_or(0.0, |asked| self.now.since(asked.at).as_secs_f64()),
            "answered a request"
        );
    }

    /// A connection ends, and still has its subscriptions.
    pub(super) fn note_ended(&mut self, slot: Slot, close: Close) {
        if !self.config.log_connections {
            return;
        }
        let Some(connection) = self.connections.peek(slot) else { return };
        let subject = connection.identity.as_ref().map(|identity| identity.subject.clone());
        let transport = connection.transport;
        let listened: Vec<TopicIndex> =
            connection.subscriptions.iter().map(|subscription| subscription.topic).collect();
        let mut topics = String::new();
        for topic_index in listened.iter().take(TOPICS_SHOWN) {
            if let Some(topic) = self.topics.at(*topic_index) {
                let separator = if topics.is_empty() { "" } else { "," };
                // Writing into a String cannot fail.
                let _ = write!(topics, "{separator}{}", topic.state.topic);
            }
        }
        let ended = Ended { close, at: self.now, transport, subject, topics, topic_count: listened.len() };
        self.journal.ended.insert(slot, ended);
    }

    /// Logs a connection that is about to be freed.
    pub(super) fn log_ended(&mut self, slot: Slot) {
        self.journal.asked.remove(&slot);
        let opened = self.journal.opened.remove(&slot);
        let Some(ended) = self.journal.ended.remove(&slot) else { return };
        let Some(connection) = self.connections.peek(slot) else { return };
        let bytes = self.net.acknowledged_bytes(&connection.stream);
        let Ended { close, at, transport, subject, topics, topic_count } = ended;
        tracing::info!(
            target: "fanfare::connections",
            peer = connection.peer.map(tracing::field::display),
            transport = transport.label(),
            identity = subject.as_deref().map(tracing::field::debug),
            topics,
            topic_count,
            bytes,
            seconds = opened.map(|opened| at.since(opened).as_secs_f64()),
            reason = close.label(),
            "closed a connection"
        );
    }
}
