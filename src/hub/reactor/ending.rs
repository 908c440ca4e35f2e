//! How connections end: the last words, the wait for the peer to take them, and the memory back.

use std::collections::HashMap;

use super::{
    Reactor,
    connection::{Admission, Connection, Via},
    net::Net,
    state::{HELD, Life, PEER_ENDED, UNCOUNTED},
};
use crate::{
    close::Close,
    endpoint::{self, ShutdownPhase},
    index::Slot,
    label::RouteLabel,
    protocol::{Ending, Session, close_reason, http::Response},
};

/// The connections that have ended and are not freed.
#[derive(Debug, Default)]
pub(super) struct Endings {
    /// Those to be freed at the end of the turn.
    to_free: Vec<Slot>,
    /// Those that take long to take their last bytes.
    lingers: HashMap<Slot, Linger, foldhash::fast::RandomState>,
}

impl Endings {
    /// Whether none waits to be freed.
    pub(super) fn is_freed(&self) -> bool {
        self.to_free.is_empty()
    }
}

/// How far a connection has come whose time for its last bytes ran out before.
#[derive(Debug, Default, PartialEq, Eq)]
struct Linger {
    /// What it had not taken when its time ran out last.
    owed_bytes: Option<usize>,
    extensions: u32,
}

impl Linger {
    /// The time of a connection has run out with `owed_bytes` that its peer has not taken. Whether it gets as much time again: only
    /// a peer that has taken some since, and only so often.
    fn extend(&mut self, owed_bytes: usize) -> bool {
        let has_taken = self.owed_bytes.is_none_or(|before| owed_bytes < before);
        let goes_on = 0 < owed_bytes && has_taken && self.extensions < EXTENSIONS_MAX;
        *self = Self { owed_bytes: Some(owed_bytes), extensions: self.extensions + 1 };
        goes_on
    }
}

/// How often a peer may get more time for its last bytes: ten times what is configured, with the first.
const EXTENSIONS_MAX: u32 = 9;

impl<N: Net> Reactor<N> {
    /// Ends a connection for the reason `close`. Its subscriptions end now; what it is owed, and the reason, are still
    /// written.
    pub(super) fn end(&mut self, slot: Slot, close: Close) {
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.state.is_open() {
            if close == Close::PeerGone {
                // No peer is left to take the last bytes.
                self.schedule_free(slot);
            }
            return;
        }
        let retry_ms = self.retry_ms();
        self.end_saying(slot, close, &close_reason(close, retry_ms));
    }

    /// The same for a connection that has not ended, with `reason` for a close frame.
    pub(super) fn end_saying(&mut self, slot: Slot, close: Close, reason: &str) {
        self.write_close(slot, close, reason);
        if let Some(connection) = self.connections.at(slot) {
            connection.session = Err(close);
        }
        self.leave(slot, close);
    }

    /// Ends a stream that was opened only to be refused.
    pub(super) fn end_refused(&mut self, slot: Slot, close: Close) {
        if let Some((session, outbox)) = self.connections.at(slot).and_then(Connection::speaks) {
            session.write_refusal(close, outbox);
        }
        self.end(slot, close);
    }

    /// Ends a connection whose session has ended itself.
    pub(super) fn close(&mut self, slot: Slot, close: Close) {
        let retry_ms = self.retry_ms();
        self.end_saying(slot, close, &close_reason(close, retry_ms));
    }

    /// The last bytes, as what the connection speaks has them.
    fn write_close(&mut self, slot: Slot, close: Close, reason: &str) {
        let retry_ms = self.retry_ms();
        let refusal = self.refuse_request(slot, close);
        let Some(connection) = self.connections.at(slot) else { return };
        let (transport, has_socket) = (connection.transport, connection.state.has_socket());
        let is_request =
            connection.session.as_ref().map_or_else(|_| !transport.is_stream(), |session| !session.is_stream());
        let ending = Ending { close, reason, retry_ms, refusal, date: self.net.date(), has_socket };
        ending.write(&mut connection.session, transport, &mut connection.outbox);
        if let Some(status) = close.http_status().filter(|_| is_request && close != Close::PeerGone) {
            // The request was not read to its end, so its route is unknown.
            self.count_request(slot, RouteLabel::Other, status, 0);
        }
    }

    /// The answer to a request of which no more is read, in the form of the API that it is for.
    fn refuse_request(&mut self, slot: Slot, close: Close) -> Option<Response> {
        let connection = self.connections.at(slot)?;
        let requests = connection.session.as_ref().ok().and_then(Session::requests)?;
        let Some(path) = requests.refused_path().map(str::to_owned) else { return Response::refusal(close) };
        let admission = Admission { overload: None, ..connection.admission() };
        let shared = self.shared();
        let context = self.context(&shared, slot, admission, None);
        endpoint::refuse_request(&path, close, &context)
    }

    fn leave(&mut self, slot: Slot, close: Close) {
        self.note_ended(slot, close);
        self.unlisten_all(slot);
        self.stream_reservations.release(slot);
        self.senders.release(slot);
        self.leave_engine(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        tracing::debug!(
            peer = connection.peer.map(tracing::field::display),
            reason = close.label(),
            "a connection ends"
        );
        self.metrics.on_close(connection.transport, close);
        connection.state.clear(HELD);
        connection.state.enter(Life::Closing);
        self.timers.arm(slot, self.now + self.config.linger);
        if close == Close::PeerGone {
            self.schedule_free(slot);
        } else {
            self.mark_dirty(slot);
        }
    }

    /// Once all is written: ends our direction, and waits for the peer to end its own, so that what is under way to it is
    /// not destroyed by a reset (RFC 9112 section 9.6).
    pub(super) fn finish_closing(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let owes = connection.unfinished.is_some() || !connection.outbox.is_empty();
        if owes || connection.state.life() != Life::Closing {
            return;
        }
        if connection.via != Via::Direct && connection.transport.is_one_way() {
            self.net.reset_on_drop(&connection.stream, false);
        }
        self.net.end(&mut connection.stream);
        connection.state.enter(Life::Lingering);
        // Once the process ends the kernel delivers what was written.
        if connection.state.has(PEER_ENDED)
            || !connection.state.has_socket()
            || self.shutdown.phase() == ShutdownPhase::Leaving
        {
            self.schedule_free(slot);
        }
    }

    /// The time for the last bytes is over. A peer that has taken some of them since gets as much time again.
    pub(super) fn on_closing_due(&mut self, slot: Slot) {
        let Some(connection) = self.connections.at(slot) else { return };
        let owed_bytes = connection.owed_bytes() + self.net.unacknowledged_bytes(&connection.stream);
        let may_extend = self.shutdown.phase() < ShutdownPhase::Ending;
        let goes_on = self.endings.lingers.entry(slot).or_default().extend(owed_bytes) && may_extend;
        if goes_on { self.timers.arm(slot, self.now + self.config.linger) } else { self.schedule_free(slot) }
    }

    /// The connection is to be freed at the end of the turn.
    pub(super) fn schedule_free(&mut self, slot: Slot) {
        if let Some(connection) = self.connections.at(slot)
            && connection.state.enter(Life::ToFree)
        {
            self.endings.to_free.push(slot);
        }
    }

    /// Ends what was found broken or fallen while something else was under way.
    pub(super) fn end_broken(&mut self) {
        while !self.outcomes.is_settled() {
            while let Some(lagged) = self.outcomes.next_lagged() {
                self.on_lagged(lagged);
            }
            while let Some((slot, close)) = self.outcomes.next_broken() {
                self.end(slot, close);
            }
            // Which may find more that are broken.
            self.flush_dirty();
        }
    }

    /// Frees what was closed. Nothing refers to these slots any more: subscriptions ended with the session.
    pub(super) fn free_closed(&mut self) {
        while let Some(slot) = self.endings.to_free.pop() {
            self.forget_session(slot);
            self.timers.disarm(slot);
            self.endings.lingers.remove(&slot);
            // Its client may have signed in by a command behind the one that ended it.
            self.stream_reservations.release(slot);
            self.senders.release(slot);
            self.log_ended(slot);
            if let Some(mut connection) = self.connections.remove(slot) {
                self.admins -= usize::from(connection.admin);
                self.hub.bus.budget().adjust(connection.charged_bytes as usize, 0);
                self.outcomes.unblock(&mut connection.state);
                if let Ok(session) = &connection.session {
                    debug_assert!(false, "freed without an end: {session:?}");
                }
                debug_assert!(connection.subscriptions.is_empty(), "freed with subscriptions");
                if !connection.state.has(UNCOUNTED) {
                    self.uncount_peer(connection.peer);
                    self.placement.on_gone(self.index, connection.share());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        endpoint::Overload,
        reactor::{
            state::DETACHED,
            tests::{TestReactor, sse, websocket},
        },
    };

    /// What a connection owes each time its time runs out, and whether it gets more.
    #[test]
    fn a_peer_that_takes_its_last_bytes_gets_time() {
        let check = |owed: &[usize], expected: &[bool]| {
            let mut linger = Linger::default();
            let found: Vec<bool> = owed.iter().map(|owed_bytes| linger.extend(*owed_bytes)).collect();
            assert_eq!(found, expected, "{owed:?}");
        };
        check(&[0], &[false]);
        check(&[9, 8, 7, 7], &[true, true, true, false]);
        check(&[9, 9], &[true, false]);
        check(&[9, 0], &[true, false]);
        check(&[5, 6], &[true, false]);
        let steady: Vec<usize> = (1..=11).rev().collect();
        let expected: Vec<bool> = (0..11).map(|looks| looks < EXTENSIONS_MAX).collect();
        check(&steady, &expected);
    }

    #[test]
    fn what_is_to_be_freed_is_known() {
        let mut endings = Endings::default();
        assert!(endings.is_freed());
        endings.to_free.push(Slot::new(3));
        assert!(!endings.is_freed());
    }

    /// What a connection gets that has sent `request` and is ended then, and how many answered requests of unknown routes are
    /// counted.
    #[test]
    fn whoever_has_half_a_request_is_answered_in_the_form_of_its_api() {
        let check =
            |request: &str, close: Close, overload: Option<Overload>, expected: &str, code: u16, counted: u64| {
                let mut test = TestReactor::new();
                let (slot, peer) = test.connect(request);
                peer.take();
                if let Some(connection) = test.reactor.connections.at(slot) {
                    connection.overload = overload;
                    test.reactor.end(slot, close);
                    test.work();
                }
                let text = peer.take();
                assert!(
                    text.contains(expected) && text.is_empty() == expected.is_empty(),
                    "{request}{close:?}: {text}"
                );
                let figure = format!("fanfare_http_requests_total{{route=\"other\",code=\"{code}\"}}");
                assert_eq!(test.figure(&figure), counted, "{request}{close:?}");
            };
        let post = |path: &str| format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n");
        let (native, other) = (r#"{"error":{"code""#, r#"{"code":"#);
        let late = Close::RequestTimeout;
        check(&post("/publish/a"), late, None, native, 408, 1);
        check(&post("/api/v1/auth/login"), late, None, other, 408, 1);
        check(&post("/api/v1/auth/login"), late, Some(Overload::Address), other, 408, 1);
        check("GET /health HTTP/1.1\r\n", late, None, native, 408, 1);
        check("GET /health HTTP/1.1\r\n", Close::PeerGone, None, "", 408, 0);
        check("GET /health HTTP/1.1\r\n", Close::Done, None, "", 408, 0);
        // What is no request ends by itself.
        check("\0\0\r\n\r\n", late, None, "", 400, 1);
        // A stream is no request, whether it is ended or has ended itself.
        check(&sse(&["a"], ""), Close::Restart, None, "0\r\n", 503, 0);
        let broken = format!("{}{}", websocket("a", None), "\u{7f}".repeat(14));
        check(&broken, Close::Restart, None, "", 400, 0);
    }

    /// Whether a stream that has all it was owed is freed at once or waits for its peer to close, and what becomes of it by a reset.
    #[test]
    fn a_stream_waits_for_its_peer_to_close() {
        let check =
            |request: &str, by_proxy: bool, flags: u16, phase: ShutdownPhase, waits: bool, resets: Option<bool>| {
                let mut test = TestReactor::new();
                let (slot, peer) = if by_proxy { test.connect_by_proxy(request) } else { test.connect(request) };
                test.reactor.end(slot, Close::Restart);
                test.connection(slot).state.set(flags);
                test.connection(slot).outbox = crate::outbox::Outbox::new();
                test.reactor.enter_phase(phase);
                test.reactor.finish_closing(slot);
                let expected = if waits { Life::Lingering } else { Life::ToFree };
                assert_eq!(test.connection(slot).state.life(), expected, "{request}{flags:b} {phase:?}");
                assert_eq!(peer.lock().resets_on_drop, resets, "{request} by a proxy: {by_proxy}");
            };
        let stream = &sse(&["a"], "");
        check(stream, false, 0, ShutdownPhase::Serving, true, None);
        check(stream, true, 0, ShutdownPhase::Serving, true, Some(false));
        check(&websocket("a", None), true, 0, ShutdownPhase::Serving, true, None);
        check(stream, false, PEER_ENDED, ShutdownPhase::Serving, false, None);
        check(stream, false, DETACHED, ShutdownPhase::Serving, false, None);
        check(stream, false, 0, ShutdownPhase::Leaving, false, None);
    }

    /// The time for the last bytes is over, and so many have not reached the peer.
    #[test]
    fn the_last_bytes_are_those_that_the_peer_has_not_acknowledged() {
        let check = |unacknowledged_bytes: usize, phase: ShutdownPhase, goes_on: bool| {
            let mut test = TestReactor::new();
            let (slot, peer) = test.open_sse(&["a"]);
            test.reactor.end(slot, Close::Restart);
            test.work();
            assert_eq!(test.connection(slot).owed_bytes(), 0);
            peer.lock().unacknowledged_bytes = unacknowledged_bytes;
            test.reactor.enter_phase(phase);
            test.reactor.on_closing_due(slot);
            let is_freed = test.connection(slot).state.life() == Life::ToFree;
            assert_eq!(!is_freed, goes_on, "{unacknowledged_bytes} bytes, {phase:?}");
        };
        check(5, ShutdownPhase::Serving, true);
        check(5, ShutdownPhase::Draining, true);
        check(5, ShutdownPhase::Ending, false);
        check(0, ShutdownPhase::Serving, false);
    }
}
