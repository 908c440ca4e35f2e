//! "Upgrade".

use super::{ECHO, QUICK_ECHO, Socket, finish, packets, text, upgrade};
use crate::client::{PACES, Pace};

fn by_websocket(sid: &str) -> String {
    format!("EIO=4&transport=websocket&sid={sid}")
}

#[test]
fn a_session_moves() {
    for pace in PACES {
        let sid = ECHO.open();
        let mut socket = upgrade(ECHO, &sid, pace);
        socket.send("4hello");
        assert_eq!(socket.receive().as_deref(), Some("4hello"));
        socket.send("bAQIDBA==");
        assert_eq!(socket.receive().as_deref(), Some("bAQIDBA=="));
    }
}

#[test]
fn a_poll_is_ended_by_a_noop() {
    let sid = ECHO.open();
    let mut socket = Socket::open(ECHO, &by_websocket(&sid), Pace::Whole);
    socket.send("2probe");
    assert_eq!(socket.receive().as_deref(), Some("3probe"));
    assert_eq!(packets(&ECHO.poll(&sid)), ["6"], "Upgrade: a poll that comes during the probe");
    socket.send("5");
    socket.send("4hello");
    assert_eq!(socket.receive().as_deref(), Some("4hello"));
}

#[test]
fn the_poll_that_waits_is_ended_too() {
    let sid = ECHO.open();
    let poll = ECHO.begin_poll(&sid);
    let mut socket = Socket::open(ECHO, &by_websocket(&sid), Pace::Whole);
    socket.send("2probe");
    assert_eq!(socket.receive().as_deref(), Some("3probe"));
    assert_eq!(packets(&finish(poll, "Upgrade")), ["6"]);
    socket.send("5");
    socket.send("4hello");
    assert_eq!(socket.receive().as_deref(), Some("4hello"));
}

/// "To ensure that no packet gets lost": what nobody polled for comes by the WebSocket, first and in order.
#[test]
fn nothing_is_lost() {
    let sid = ECHO.open();
    assert_eq!(ECHO.post(&sid, "41\u{1e}bAQ==\u{1e}42").status, 200);
    let mut socket = Socket::open(ECHO, &by_websocket(&sid), Pace::Whole);
    socket.send("2probe");
    assert_eq!(socket.receive().as_deref(), Some("3probe"));
    assert_eq!(ECHO.post(&sid, "43").status, 200);
    socket.send("5");
    socket.send("44");
    for expected in ["41", "bAQ==", "42", "43", "44"] {
        assert_eq!(socket.receive().as_deref(), Some(expected));
    }
}

/// The client need not wait for the answer to its probe: all in one segment is understood.
#[test]
fn in_one_go() {
    let sid = ECHO.open();
    let mut socket = Socket::open(ECHO, &by_websocket(&sid), Pace::Whole);
    for packet in ["2probe", "5", "4a", "4b"] {
        socket.send(packet);
    }
    for expected in ["3probe", "4a", "4b"] {
        assert_eq!(socket.receive().as_deref(), Some(expected));
    }
}

#[test]
fn requests_are_refused_afterwards() {
    let sid = ECHO.open();
    let mut socket = upgrade(ECHO, &sid, Pace::Whole);
    socket.send("4first");
    assert_eq!(socket.receive().as_deref(), Some("4first"));
    for response in [ECHO.poll(&sid), ECHO.post(&sid, "4by post")] {
        assert_eq!(response.status, 400, "{}", text(&response));
        assert!(text(&response).contains("\"code\":3"), "{}", text(&response));
    }
    socket.send("4hello");
    assert_eq!(socket.receive().as_deref(), Some("4hello"), "the session is not troubled");
}

#[test]
fn a_second_websocket_is_refused() {
    let sid = ECHO.open();
    let mut socket = upgrade(ECHO, &sid, Pace::Whole);
    socket.send("4first");
    assert_eq!(socket.receive().as_deref(), Some("4first"));
    Socket::open(ECHO, &by_websocket(&sid), Pace::Whole).is_ended("WebSocket: one for each session");
    socket.send("4hello");
    assert_eq!(socket.receive().as_deref(), Some("4hello"), "the session is not troubled");
}

#[test]
fn a_session_of_a_websocket_has_no_other() {
    let (mut socket, opened) = Socket::session(ECHO, Pace::Whole);
    let sid = super::sid_of(&opened);
    assert_eq!(ECHO.poll(&sid).status, 400);
    Socket::open(ECHO, &by_websocket(&sid), Pace::Whole).is_ended("WebSocket: one for each session");
    socket.send("4hello");
    assert_eq!(socket.receive().as_deref(), Some("4hello"));
}

#[test]
fn a_probe_that_goes_away_changes_nothing() {
    let sid = ECHO.open();
    let mut socket = Socket::open(ECHO, &by_websocket(&sid), Pace::Whole);
    socket.send("2probe");
    assert_eq!(socket.receive().as_deref(), Some("3probe"));
    drop(socket);
    assert_eq!(ECHO.post(&sid, "4hello").status, 200);
    // Until the server has seen the end of the probe, polls end at once with a noop.
    let mut received = packets(&ECHO.poll(&sid));
    while received == ["6"] {
        received = packets(&ECHO.poll(&sid));
    }
    assert_eq!(received, ["4hello"]);
}

#[test]
fn what_is_no_probe_is_refused() {
    for packet in ["5", "4hello", "2", "2other", "3probe", "abc", "bAQ=="] {
        let sid = ECHO.open();
        let mut socket = Socket::open(ECHO, &by_websocket(&sid), Pace::Whole);
        socket.send(packet);
        socket.is_ended(&format!("Upgrade: a probe first, not {packet}"));
        assert_eq!(ECHO.post(&sid, "4hello").status, 200, "the session goes on by polling");
        assert_eq!(packets(&ECHO.poll(&sid)), ["4hello"]);
    }
}

/// The heartbeat goes on where the session is.
#[test]
fn pings_follow_the_session() {
    let sid = QUICK_ECHO.open();
    assert_eq!(packets(&QUICK_ECHO.poll(&sid)), ["2"]);
    assert_eq!(QUICK_ECHO.post(&sid, "3").status, 200);
    let mut socket = upgrade(QUICK_ECHO, &sid, Pace::Whole);
    for _ in 0..2 {
        assert_eq!(socket.receive().as_deref(), Some("2"));
        socket.send("3");
    }
}
