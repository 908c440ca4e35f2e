//! A simulated client: what it sends, and that what it receives makes sense ([`Dialog`]). It reads with the crate's own client halves.

mod dialog;

use std::collections::VecDeque;

use fanfare_core::{
    event::EventId,
    protocol::{
        fanfare_v1::client as v1,
        http::{Method, ResponseReader, write_request},
        websocket::client::{encode_key, write_masked_close, write_masked_text},
    },
};

use crate::{
    forms::opening,
    net::{SharedWire, take_front},
    socket,
    track::Track,
    truth::Truth,
};
pub(crate) use dialog::Dialog;

/// The protocol that a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientProtocol {
    /// Publishes over one keep-alive connection.
    Http,
    Sse {
        named: bool,
        http10: bool,
    },
    Raw,
    V1,
    /// Socket.IO over a WebSocket.
    Socket,
    /// Sends nonsense. Only the hub's own health is at stake.
    Garbage,
}

/// The state of a connection, as the client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConnectionState {
    Open,
    /// The client has gone, or has sent something that the hub need not put up with.
    Left,
    /// The hub has ended it.
    Ended,
}

/// A command that waits for its answer.
#[derive(Debug)]
pub(crate) enum Pending {
    Subscribe(Track),
    Unsubscribe(usize),
    Publish(u64),
    Ping,
}

/// One client and its one connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) wire: SharedWire,
    pub(crate) state: ConnectionState,
    /// It does not read for now.
    pub(crate) stalled: bool,
    /// What it wants to send and has not yet.
    pub(crate) outgoing: VecDeque<u8>,
    /// Some of its request was sent after the hub had begun to answer: too late, that is.
    sent_late: bool,
    pub(crate) dialog: Dialog,
    reader: ResponseReader,
}

impl Client {
    /// A client that speaks `protocol` and, in its first request, asks for `tracks`, each perhaps from an id on.
    pub(crate) fn new(
        wire: SharedWire,
        protocol: ClientProtocol,
        tracks: Vec<(Track, Option<EventId>)>,
        truth: &Truth,
    ) -> Self {
        let key = encode_key([7; 16]);
        let outgoing = opening(protocol, &tracks, &key, truth).into();
        // Socket.IO asks for topics by events, once it has entered.
        let (tracks, asked_for) =
            if protocol == ClientProtocol::Socket { (Vec::new(), tracks) } else { (tracks, Vec::new()) };
        let dialog = Dialog::new(protocol, tracks, key);
        let mut client = Self {
            wire,
            state: ConnectionState::Open,
            stalled: false,
            outgoing,
            sent_late: false,
            dialog,
            reader: ResponseReader::new(),
        };
        if protocol == ClientProtocol::Socket {
            client.dialog.namespace = truth.dialect.namespace;
            client.command(|out| out.extend_from_slice(socket::CONNECT.as_bytes()));
        }
        for (track, since) in asked_for {
            client.command_subscribe(track, since, truth);
        }
        client
    }

    /// Whether it has nothing to send and nothing to read.
    pub(crate) fn is_quiet(&self) -> bool {
        let wire = self.wire.lock();
        self.state != ConnectionState::Open
            || (self.outgoing.is_empty() && wire.to_client.is_empty() && !wire.is_read_out())
    }

    /// Sends at most `most` bytes of what it wants to send.
    pub(crate) fn send(&mut self, most: usize) {
        let count = most.min(self.outgoing.len());
        let bytes = take_front(&mut self.outgoing, count);
        let mut wire = self.wire.lock();
        self.sent_late |= !bytes.is_empty() && !self.dialog.opened && 0 < wire.written_bytes;
        if !bytes.is_empty() && !wire.client_ended && !wire.reset {
            wire.send(&bytes);
        }
    }

    /// Whether the hub has not waited for all of its request.
    pub(crate) fn is_late(&self) -> bool {
        !self.outgoing.is_empty() || self.sent_late
    }

    /// Reads at most `most` bytes and checks what they say.
    pub(crate) fn receive(&mut self, most: usize, truth: &Truth) {
        let bytes = {
            let mut wire = self.wire.lock();
            self.dialog.was_behind = wire.was_short;
            wire.take(most)
        };
        if self.state == ConnectionState::Left || bytes.is_empty() {
            return;
        }
        let dialog = &mut self.dialog;
        let outcome = self.reader.receive(&bytes, |part| dialog.take_part(part, truth));
        assert_eq!(outcome, Ok(()), "what the hub sent cannot be read: {:?}", String::from_utf8_lossy(&bytes));
        for _ in 0..std::mem::take(&mut self.dialog.pings) {
            if !self.dialog.leaving {
                self.command(|out| out.extend_from_slice(socket::PONG.as_bytes()));
            }
        }
    }

    /// Reads the end, if there is nothing before it. True if it has just come.
    pub(crate) fn receive_end(&mut self, truth: &Truth) -> bool {
        if self.state != ConnectionState::Open || !self.wire.lock().is_read_out() {
            return false;
        }
        let dialog = &mut self.dialog;
        // Whether it may end like this is judged by what was lost with it.
        let _ = self.reader.finish(|part| dialog.take_part(part, truth));
        self.state = ConnectionState::Ended;
        self.wire.lock().close();
        true
    }

    /// Publishes `data` with one more request, which may follow others at once.
    pub(crate) fn request_publish(&mut self, topic: usize, tag: u64, data: &str, truth: &Truth) {
        let target = format!("/publish/{}?type=kind-{}", truth.topics[topic], tag % 3);
        let mut request = Vec::new();
        let key = format!("key-{tag}");
        write_request(Method::Post, "hub", &target, &[("Idempotency-Key", &key)], data.as_bytes(), &mut request);
        self.outgoing.extend(request);
        self.dialog.requests.push_back(tag);
    }

    pub(crate) fn command_subscribe(&mut self, mut track: Track, since: Option<EventId>, truth: &Truth) {
        let (topic, is_socket) = (&truth.topics[track.topic], self.dialog.protocol == ClientProtocol::Socket);
        track.is_never_ended = is_socket;
        let reference = self.dialog.remember(Pending::Subscribe(track));
        self.command(|out| match is_socket {
            true => socket::write_subscribe(topic, since, &reference, out),
            false => v1::write_subscribe(topic, since, Some(&reference), out),
        });
    }

    pub(crate) fn command_unsubscribe(&mut self, topic: usize, truth: &Truth) {
        let reference = self.dialog.remember(Pending::Unsubscribe(topic));
        let (name, is_socket) = (&truth.topics[topic], self.dialog.protocol == ClientProtocol::Socket);
        self.command(|out| match is_socket {
            true => socket::write_unsubscribe(name, &reference, out),
            false => v1::write_unsubscribe(name, Some(&reference), out),
        });
    }

    pub(crate) fn command_publish(&mut self, topic: usize, tag: u64, data: &str, truth: &Truth) {
        let reference = self.dialog.remember(Pending::Publish(tag));
        let (name, is_socket) = (&truth.topics[topic], self.dialog.protocol == ClientProtocol::Socket);
        self.command(|out| match is_socket {
            true => socket::write_publish(name, data, &reference, out),
            false => v1::write_publish(name, None, data, Some(&reference), out),
        });
    }

    pub(crate) fn command_ping(&mut self) {
        let reference = self.dialog.remember(Pending::Ping);
        let is_socket = self.dialog.protocol == ClientProtocol::Socket;
        self.command(|out| match is_socket {
            true => socket::write_ping(&reference, out),
            false => v1::write_ping(Some(&reference), out),
        });
    }

    /// Says goodbye; what else it has sent before may or may not be answered.
    pub(crate) fn close_politely(&mut self) {
        let mut frame = Vec::new();
        write_masked_close(1000, "", [1, 2, 3, 4], &mut frame);
        self.outgoing.extend(frame);
        self.dialog.leaving = true;
    }

    fn command(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let (mut text, mut frame) = (Vec::new(), Vec::new());
        write(&mut text);
        socket::address(&mut text, self.dialog.namespace);
        write_masked_text(&text, [9, 8, 7, 6], &mut frame);
        self.outgoing.extend(frame);
    }
}
