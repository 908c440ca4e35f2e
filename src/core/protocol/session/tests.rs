//! The same for all protocols: what each of them writes, and its last bytes.

mod kinds;

use super::{
    GapOutcome::{NoClient, NoForm, Written},
    *,
};
use crate::{
    event::EventId,
    frame::{FormatCode, SseForm},
    gap::{Gap, GapReason},
    index::TopicIndex,
    protocol::{Dialect, Layer, SessionId},
    topic::Topic,
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
        Session::Sse(SseStream::new(form, true)),
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
    let id = EventId::new(1, 2);
    let none = "";
    assert_eq!(
        written(|session, outbox| session.write_command_answer(b"{}", outbox)),
        [none, none, none, "{}", none, none]
    );
    assert_eq!(
        written(|session, outbox| session.write_message(&Message::Text("x".to_owned()), outbox)),
        [none, none, "x", "x", "4x", "4x"]
    );
    assert_eq!(written(|session, outbox| session.write_heartbeat(NOW, outbox)), [none, ":\n", none, none, none, none]);
    assert_eq!(
        written(|session, outbox| session.write_resume_id(Some(id), outbox)),
        [none, "id: 1-2\n\n", none, none, none, none]
    );
    let subscribed = written(|session, outbox| session.write_subscribed(&topic, id, None, outbox));
    assert_eq!(subscribed.map(|text| text.contains("subscribed")), [false, false, false, true, false, false]);
}

#[test]
fn a_gap_is_written_or_ends_the_connection() {
    let topic = Topic::parse("a").expect("a topic");
    let id = EventId::new(1, 2);
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
fn without_an_order_of_its_own_topics_stand_by_index() {
    let mut subscriptions = [5, 1, 3].map(TopicIndex::new);
    let (session, mut key) = (Session::WebSocket(WebSocketSession::new(Dialect::FanfareV1)), Vec::new());
    let format = FormatCode::from(session.format().expect("a stream"));
    assert!(session.sort_for_group(format, &mut subscriptions, |it| *it, &mut key));
    assert_eq!((subscriptions, key[0]), ([1, 3, 5].map(TopicIndex::new), format.bits()));
}

#[test]
fn requests_have_no_cursors_and_no_format() {
    let mut requests = Session::new(NOW);
    requests.each_cursor(|it| panic!("{it:?}"));
    assert_eq!(requests.format(), None);
}

/// What a refused client is best told by: a stream that ends at once, or a status (`None`).
#[test]
fn a_refusal_opens_what_its_client_can_read() {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let event_source = "Accept: text/event-stream\r\nSec-Fetch-Mode: cors\r\n";
    let check = |method: &str, fields: &str, after: AfterRefusal, expected: Option<(u16, Transport)>| {
        let head = format!("{method} /any HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let request = Request::parse(head.as_bytes(), &http::HttpLimits::default()).expect("a good request");
        let found = Opening::of_refusal(&request, after).map(|opening| (opening.status(), opening.transport()));
        assert_eq!(found, expected, "{method} {fields:?} {after:?}");
    };
    for after in [AfterRefusal::Retry, AfterRefusal::StayAway] {
        check("GET", upgrade, after, Some((101, Transport::WebSocket)));
        check("GET", "Accept: */*\r\n", after, None);
        check("HEAD", event_source, after, None);
    }
    check("GET", event_source, AfterRefusal::Retry, Some((200, Transport::Sse)));
    check("GET", event_source, AfterRefusal::StayAway, None);
}

#[test]
fn a_resume_id_is_written_once() {
    let taken = sessions().map(|mut session| [session.takes_resume_id(), session.takes_resume_id()]);
    assert_eq!(taken.map(|[first, _]| first), [false, true, false, false, false, false]);
    assert!(taken.iter().all(|[_, second]| !second));
}

fn stream() -> Session {
    let form = SseForm { named: true, chunked: false, with_id: true };
    Session::Sse(SseStream::new(form, false))
}

fn socket_io() -> Session {
    let (sid, limits) = (SessionId::new(0, [7; 15]), EngineLimits::default());
    Session::Engine(Box::new(EngineSession::polled(sid, Layer::SocketIo, &limits, Moment(0))))
}

/// What is written for each kind of session at its end, and for one that has ended itself.
#[test]
fn last_bytes() {
    let check = |session: Result<Session, Close>, transport: Transport, close: Close, has_socket, expected: &str| {
        let (mut session, mut outbox) = (session, Outbox::new());
        let refusal = Response::refusal(close);
        let ending = Ending { close, reason: "why", retry_ms: 5, refusal, date: "now", has_socket };
        ending.write(&mut session, transport, &mut outbox);
        let written = String::from_utf8_lossy(outbox.pending()).into_owned();
        assert!(written.starts_with(expected), "{transport:?} {close:?}: {written:?}");
        assert!(transport != Transport::Sse || written == expected, "{close:?}: {written:?}");
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
    let told = |close: Close, data: &str| {
        check(Ok(stream()), Transport::Sse, close, true, &format!("retry: 5\nevent: error\ndata: {data}\n\n"));
    };
    told(later, r#"{"code":"try_later","message":"busy"}"#);
    let denied = r#"{"code":"token_expired","error":"AuthenticationError","message":"the token has expired"}"#;
    told(Close::TokenExpired, denied);
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
