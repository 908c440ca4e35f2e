//! What every kind of session says of itself.

use std::time::Duration;

use super::*;
use crate::protocol::{
    SocketIoClient, SocketIoSubscription,
    sse::{Greeting, SseProfile},
    websocket::client::write_masked_text,
};

const KEY: [u8; 4] = [1, 2, 3, 4];

fn stream(profile: Option<SseProfile>, greeting: Option<Greeting>) -> Session {
    let form = SseForm { named: true, chunked: false, with_id: true };
    let mut stream = SseStream::new(form, false);
    (stream.profile, stream.greeting) = (profile.map(Box::new), greeting.map(Box::new));
    Session::Sse(stream)
}

fn websocket(dialect: Dialect) -> Session {
    Session::WebSocket(WebSocketSession::new(dialect))
}

fn engine(layer: Layer, namespaces: &[&str]) -> Session {
    let mut session = EngineSession::carried(SessionId::new(3, [7; 15]), layer, &EngineLimits::default(), NOW);
    for name in namespaces {
        let client = SocketIoClient::new((*name).into(), "s".into(), None, NOW);
        session.sockets.as_mut().expect("Socket.IO").enter(client);
    }
    Session::Engine(Box::new(session))
}

/// The session once it has taken `bytes`.
fn after(session: Session, bytes: &[u8]) -> Session {
    let (mut outbox, mut inputs) = (Outbox::new(), Vec::new());
    session
        .receive(&mut bytes.to_vec(), &SessionLimits::default(), &mut outbox, &mut inputs, NOW)
        .expect("a good start")
}

#[test]
fn sessions_tell_what_they_are() {
    // A stream, has a client, keeps its own time, its client says from where, learns of gaps by the end alone.
    let check = |session: Session, expected: [bool; 5]| {
        let found = [
            session.is_stream(),
            session.has_client(),
            session.keeps_time(),
            session.says_from_where(),
            session.ends_for_gaps(),
        ];
        assert_eq!(found, expected, "{session:?}");
    };
    check(Session::new(NOW), [false, false, false, true, false]);
    check(Session::behind_proxy(NOW), [false, false, false, true, false]);
    check(stream(None, None), [true, true, false, true, false]);
    check(websocket(Dialect::Raw), [true, true, false, true, true]);
    check(websocket(Dialect::FanfareV1), [true, true, false, true, false]);
    check(engine(Layer::Raw, &[]), [true, false, true, false, false]);
    check(engine(Layer::SocketIo, &[]), [true, false, true, false, false]);
    check(engine(Layer::SocketIo, &["/"]), [true, true, true, false, false]);
}

#[test]
fn what_has_begun_is_counted_and_is_not_idle() {
    // Fresh, idle, and the least and the most bytes held.
    let check = |session: Session, bytes: &[u8], expected: (bool, bool), least: usize| {
        let session = after(session, bytes);
        assert_eq!((session.is_fresh(), session.is_idle()), expected, "{session:?}");
        let held = session.held_bytes();
        assert!((least..=least + 1_000).contains(&held) && (0 < least || held == 0), "{held}: {session:?}");
    };
    check(Session::new(NOW), b"", (true, true), 0);
    check(Session::new(NOW), b"GET / HT", (false, false), 8);
    check(Session::behind_proxy(NOW), b"", (true, true), 0);
    check(Session::behind_proxy(NOW), b"PROXY TCP4", (false, false), 10);
    check(stream(None, None), b"whatever", (false, false), 0);
    let mut frame = Vec::new();
    write_masked_text(&[b'x'; 500], KEY, &mut frame);
    check(websocket(Dialect::Messages), b"", (false, false), 0);
    check(websocket(Dialect::Messages), &frame[..300], (false, false), 292);
    check(engine(Layer::Raw, &[]), &frame[..300], (false, false), 292);
}

/// The session stays, so that the refusal has the form of the API that the request was for.
#[test]
fn a_refused_body_is_known_by_its_path() {
    let head = "POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let begun = after(Session::new(NOW), format!("{head}2\r\nab\r\n").as_bytes());
    assert_eq!(begun.refused(), None);
    assert_eq!(begun.requests().and_then(ServerSession::refused_path), Some("/p"), "it may be refused yet");
    let refused = after(begun, b"no chunk\r\n");
    assert!(matches!(refused.refused(), Some(Close::BadRequest(_))), "{refused:?}");
    assert_eq!(refused.requests().and_then(ServerSession::refused_path), Some("/p"));
    let (mut outbox, mut inputs) = (Outbox::new(), Vec::new());
    let mut bad = b"no request\r\n\r\n".to_vec();
    let ended = Session::new(NOW).receive(&mut bad, &SessionLimits::default(), &mut outbox, &mut inputs, NOW);
    assert!(ended.is_err(), "no request has begun");
}

#[test]
fn a_ping_is_answered_in_its_time() {
    let timeout = Duration::from_secs(20);
    let mut session = websocket(Dialect::Raw);
    assert_eq!(session.pong_deadline(timeout), None);
    let mut outbox = Outbox::new();
    session.write_heartbeat(NOW, &mut outbox);
    assert!(!outbox.is_empty());
    let due = NOW + timeout;
    assert_eq!(session.pong_deadline(timeout), Some(due));
    let mut late = |is_blocked: bool, now: Moment| session.is_pong_late(is_blocked, timeout, now);
    assert!(!late(false, Moment(due.0 - 1)) && late(false, due));
    assert!(!late(true, due), "it cannot have seen it");
    assert!(!late(false, due), "so it is forgotten");
}

#[test]
fn some_streams_have_heartbeats_that_are_events() {
    let mut profile = SseProfile::new(Duration::from_secs(30), Duration::from_secs(60));
    profile.begin(NOW, |interval| interval);
    let due = NOW + Duration::from_secs(30);
    let mut session = stream(Some(profile), None);
    assert_eq!(session.heartbeat_due(), Some(due));
    let mut beat = |now: Moment| {
        let mut outbox = Outbox::new();
        let has_beaten = session.write_heartbeat_event(None, "T", now, &mut outbox);
        assert_eq!(outbox.is_empty(), !has_beaten);
        has_beaten
    };
    assert!(!beat(NOW) && beat(due) && !beat(due));
    assert_eq!(stream(None, None).heartbeat_due(), None);
    let mut outbox = Outbox::new();
    assert!(!stream(None, None).write_heartbeat_event(None, "T", due, &mut outbox) && outbox.is_empty());
}

#[test]
fn a_greeting_is_written_once() {
    let mut session = stream(None, Some(Greeting { name: Some("connected"), data: "{}".into() }));
    let mut outbox = Outbox::new();
    assert!(session.has_greeting());
    session.write_greeting(None, &mut outbox);
    assert_eq!(outbox.pending(), b"event: connected\ndata: {}\n\n");
    assert!(!session.has_greeting());
    session.write_greeting(None, &mut outbox);
    assert_eq!(outbox.len(), 27);
}

#[test]
fn a_refusal_is_an_event_where_the_end_brings_none() {
    let written = |close: Close| {
        let mut outbox = Outbox::new();
        stream(None, None).write_refusal(close, &mut outbox);
        String::from_utf8_lossy(outbox.pending()).into_owned()
    };
    assert_eq!(written(Close::Slow).lines().next(), Some("event: error"));
    assert_eq!(written(Close::TokenExpired), "", "its end says it");
}

#[test]
fn only_a_websocket_carries_on_a_session() {
    assert!(engine(Layer::Raw, &[]).carry_over(websocket(Dialect::Messages)));
    assert!(!engine(Layer::Raw, &[]).carry_over(Session::new(NOW)));
    assert!(!websocket(Dialect::Raw).carry_over(websocket(Dialect::Messages)));
}

/// Connections whose frames have their topics in one order are written to together.
#[test]
fn clients_of_one_session_stand_in_its_key() {
    let session = |namespace: &str, topics: &[usize]| {
        let mut client = SocketIoClient::new(namespace.into(), "s".into(), None, NOW);
        client.topics = topics.iter().map(|index| subscription(*index)).collect();
        let mut session = engine(Layer::SocketIo, &[]);
        session.engine().and_then(|engine| engine.sockets.as_mut()).expect("Socket.IO").enter(client);
        session
    };
    let check = |session: Session, subscribed: &[usize], expected: bool| {
        let mut topics: Vec<TopicIndex> = subscribed.iter().map(|index| TopicIndex::new(*index)).collect();
        let format = FormatCode::from(session.format().expect("a stream"));
        let mut key = Vec::new();
        assert_eq!(session.sort_for_group(format, &mut topics, |it| *it, &mut key), expected, "{subscribed:?}");
        assert!(topics.is_sorted());
        key
    };
    let one = check(session("/a", &[1, 2]), &[2, 1], true);
    assert_eq!(check(session("/a", &[1, 2]), &[1, 2], true), one);
    assert_ne!(check(session("/b", &[1, 2]), &[1, 2], true), one);
    assert_ne!(check(session("/a", &[2, 1]), &[1, 2], true), one);
    check(session("/a", &[1, 2]), &[1], false);
}

fn subscription(index: usize) -> SocketIoSubscription {
    let (topic_index, topic) = (TopicIndex::new(index), Topic::parse("t").expect("a good name"));
    SocketIoSubscription { topic_index, topic, began: EventId::default(), passed: EventId::default(), began_at: 0 }
}
