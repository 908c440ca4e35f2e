//! The last bytes of a connection: why it ends, and when its client may come back.

use super::{Session, SseStream};
use crate::{
    close::Close,
    outbox::Outbox,
    protocol::{
        http::{self, Response},
        sse, websocket,
    },
    transport::Transport,
};

/// How a connection ends.
#[derive(Debug)]
pub struct Ending<'a> {
    /// Why.
    pub close: Close,
    /// The reason in a close frame: at most 123 bytes (RFC 6455 section 5.5).
    pub reason: &'a str,
    /// When a client that shall come back may do so.
    pub retry_ms: u64,
    /// The response to a request of which no more is read, in the form of the API that it is for.
    pub refusal: Option<Response>,
    /// The date, as [`http::format_date`] gives it.
    pub date: &'a str,
    /// Whether the connection has a socket; otherwise a poll brings the last bytes.
    pub has_socket: bool,
}

impl Ending<'_> {
    /// Writes the last bytes of what spoke `transport`: of `session`, or of one that has ended itself. Nothing is
    /// written to a peer that is gone.
    pub fn write(self, session: &mut Result<Session, Close>, transport: Transport, outbox: &mut Outbox) {
        let Self { close, reason, has_socket, .. } = self;
        if close == Close::PeerGone {
            return;
        }
        match (session, transport) {
            (Ok(Session::Http(http)), _) => http.refuse_with(self.refusal, close, self.date, outbox),
            (Ok(Session::Preface(_)), _) | (Err(_), Transport::Http) => http::write_refusal(close, self.date, outbox),
            (Ok(Session::Sse(stream)), _) => stream.write_end(close, self.retry_ms, outbox),
            (Err(_), Transport::Sse) => {}
            (session, Transport::WebSocket | Transport::SocketIo) => {
                if let (Ok(Session::Engine(engine)), true) = (session, is_denial(close)) {
                    engine.write_denial(&denial_json(close), outbox);
                }
                if has_socket {
                    websocket::write_end(close, reason, outbox.buffer());
                }
            }
            (Ok(Session::WebSocket(_) | Session::Engine(_)), _) => {}
        }
    }
}

impl Session {
    /// Writes why a stream ends that was opened only to be refused. Where the end is unexpected, [`Ending::write`] does that.
    pub fn write_refusal(&self, close: Close, outbox: &mut Outbox) {
        if let Self::Sse(stream) = self
            && error_of(close).is_none()
        {
            let error = stream.profile.as_ref().map_or_else(|| error_json(close), |profile| profile.error_json(close));
            sse::write_event(None, Some("error"), &error, stream.form.chunked, outbox.buffer());
        }
    }
}

impl SseStream {
    fn write_end(&self, close: Close, retry_ms: u64, outbox: &mut Outbox) {
        let profile = self.profile.as_deref();
        let error = error_of(close).map(|error| profile.map_or(error, |profile| profile.error_json(close)));
        let retry_ms = profile.and_then(|profile| profile.retry_ms(close)).unwrap_or(retry_ms);
        sse::write_final(self.form.chunked, retry_ms, error.as_deref(), outbox.buffer());
    }
}

/// Writes the answer to a connection of which nothing is read.
pub fn write_unread_refusal(close: Close, date: &str, outbox: &mut Outbox) {
    http::write_refusal(close, date, outbox);
}

/// A close frame's reason. For a client that is to come back it has the time, so that not all come at once.
pub fn close_reason(close: Close, retry_ms: u64) -> String {
    match close {
        Close::Restart | Close::TryLater(_) => format!("{{\"reconnect_in_ms\":{retry_ms}}}"),
        other => other.to_string(),
    }
}

/// Whether the client has lost the right to what it had.
fn is_denial(close: Close) -> bool {
    matches!(close, Close::TokenExpired | Close::Unauthenticated(_) | Close::Forbidden(_))
}

/// The data of an event stream's `error` event at its end. `None` for ordinary endings.
fn error_of(close: Close) -> Option<String> {
    match close {
        Close::TryLater(_) => Some(error_json(close)),
        close if is_denial(close) => Some(denial_json(close)),
        _ => None,
    }
}

/// With the word that clients of earlier systems look for.
fn denial_json(close: Close) -> String {
    let (code, message) = (close.label(), close.to_string());
    serde_json::json!({ "error": "AuthenticationError", "code": code, "message": message }).to_string()
}

fn error_json(close: Close) -> String {
    serde_json::json!({ "code": close.label(), "message": close.to_string() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Moment,
        frame::SseForm,
        protocol::{Dialect, EngineLimits, EngineSession, Layer, SessionId, WebSocketSession},
    };

    fn stream() -> Session {
        let form = SseForm { named: true, chunked: false, with_id: true };
        Session::Sse(SseStream { form, cursors: None, tells_place: false, greeting: None, profile: None })
    }

    fn socket_io() -> Session {
        let (sid, limits) = (SessionId::new(0, [7; 15]), EngineLimits::default());
        Session::Engine(Box::new(EngineSession::polled(sid, Layer::SocketIo, &limits, Moment(0))))
    }

    /// What is written for each kind of session at its end, and for one that has ended itself.
    #[test]
    fn last_bytes() {
        let check =
            |session: Result<Session, Close>, transport: Transport, close: Close, has_socket, expected: &str| {
                let (mut session, mut outbox) = (session, Outbox::new());
                let refusal = Response::refusal(close);
                let ending = Ending { close, reason: "why", retry_ms: 5, refusal, date: "now", has_socket };
                ending.write(&mut session, transport, &mut outbox);
                let written = String::from_utf8_lossy(outbox.pending()).into_owned();
                assert!(written.starts_with(expected), "{transport:?} {close:?}: {written:?}");
                assert_eq!(written.is_empty(), expected.is_empty(), "{transport:?} {close:?}: {written:?}");
            };
        let raw = || Ok(Session::WebSocket(WebSocketSession::new(Dialect::Raw)));
        let requests = || Ok(Session::new(Moment(0)));
        let later = Close::TryLater("busy");
        for session in [requests(), Ok(stream()), raw(), Ok(socket_io())] {
            check(session, Transport::default(), Close::PeerGone, true, "");
        }
        check(requests(), Transport::Http, later, true, "HTTP/1.1 503");
        check(Err(Close::BadRequest("x")), Transport::Http, Close::BadRequest("x"), true, "HTTP/1.1 400");
        check(Ok(stream()), Transport::Sse, Close::Restart, true, "retry: 5\n");
        check(Ok(stream()), Transport::Sse, later, true, "retry: 5\nevent: error\n");
        check(Err(Close::Restart), Transport::Sse, Close::Restart, true, "");
        check(raw(), Transport::WebSocket, Close::Restart, true, "\u{fffd}\u{5}\u{3}\u{fffd}why");
        check(Err(Close::Done), Transport::WebSocket, Close::Done, true, "");
        check(Ok(socket_io()), Transport::SocketIo, Close::Restart, true, "\u{fffd}\u{5}\u{3}\u{fffd}why");
        check(Ok(socket_io()), Transport::SocketIo, Close::Restart, false, "");
    }

    #[test]
    fn a_close_frame_says_when_to_come_back() {
        assert_eq!(close_reason(Close::Restart, 7), "{\"reconnect_in_ms\":7}");
        assert_eq!(close_reason(Close::TryLater("busy"), 7), "{\"reconnect_in_ms\":7}");
        assert_eq!(close_reason(Close::Slow, 7), Close::Slow.to_string());
    }
}
