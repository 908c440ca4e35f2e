//! "HTTP long-polling".

use std::{io::Write, net::Shutdown};

use super::{ECHO, finish, packets, text};
use crate::client::{Pace, send};

#[test]
fn posts_are_answered_with_ok() {
    let sid = ECHO.open();
    for body in ["4hello", "4a\u{1e}4b", "3", "6"] {
        let response = ECHO.post(&sid, body);
        assert_eq!((response.status, text(&response)), (200, "ok"), "Sending data: {body}");
    }
}

#[test]
fn a_poll_has_all_that_waits() {
    let sid = ECHO.open();
    ECHO.post(&sid, "4hello\u{1e}bAQIDBA==");
    ECHO.post(&sid, "4world");
    let response = ECHO.poll(&sid);
    assert_eq!(packets(&response), ["4hello", "bAQIDBA==", "4world"], "Receiving data");
}

#[test]
fn a_poll_waits_for_a_packet() {
    let sid = ECHO.open();
    let poll = ECHO.begin_poll(&sid);
    assert_eq!(ECHO.post(&sid, "4hello").status, 200);
    assert_eq!(packets(&finish(poll, "Receiving data")), ["4hello"]);
}

/// Sixteen packets at most: python-engineio ends a session that brings more.
#[test]
fn a_poll_has_no_more_than_sixteen_packets() {
    let sid = ECHO.open();
    let sent: Vec<String> = (0..40).map(|number| format!("4{number}")).collect();
    ECHO.post(&sid, sent.join("\u{1e}"));
    let polls: Vec<Vec<String>> = (0..3).map(|_| packets(&ECHO.poll(&sid))).collect();
    assert_eq!(polls.iter().map(Vec::len).collect::<Vec<_>>(), [16, 16, 8]);
    assert_eq!(polls.concat(), sent);
}

#[test]
fn a_session_has_one_poll() {
    let sid = ECHO.open();
    let first = ECHO.begin_poll(&sid);
    let second = ECHO.begin_poll(&sid);
    // By the time each has its answer, both have arrived; which came first is the network's choice.
    let mut answers = [finish(first, "the first poll"), finish(second, "the second poll")];
    answers.sort_by_key(|response| response.status);
    assert_eq!(answers.each_ref().map(|response| response.status), [200, 400], "Receiving data: one active GET");
    assert_eq!(text(&answers[0]), "1", "the poll that waited is told that the session is closed");
    ECHO.is_gone(&sid, "Receiving data: the session is closed");
}

#[test]
fn a_poll_that_is_given_up_ends_the_session() {
    let sid = ECHO.open();
    let poll = ECHO.begin_poll(&sid);
    // The server has to have seen it, or it ends a connection that has asked for nothing.
    ECHO.post(&sid, "6");
    drop(poll);
    let deadline = std::time::Instant::now() + super::TIMEOUT;
    // A request that finds the session would be a poll of its own: a post shows without waiting whether it is there.
    while ECHO.post(&sid, "6").status == 200 {
        assert!(std::time::Instant::now() < deadline, "the session should end with its poll");
        std::thread::yield_now();
    }
    ECHO.is_gone(&sid, "HTTP long-polling: the client is gone");
}

#[test]
fn bad_payloads_end_the_session() {
    for body in [&b"abc"[..], b"", b"4a\x1e", b"\x1e4a", b"b*", b"4\xff", b"4a\x1ebA", b"4a\x1exyz\x1e4b"] {
        let sid = ECHO.open();
        let response = ECHO.post(&sid, body);
        assert_eq!(response.status, 400, "{}", body.escape_ascii());
        assert_eq!(ECHO.poll(&sid).status, 400, "Packet encoding: the session is closed");
        ECHO.is_gone(&sid, "Packet encoding");
    }
}

#[test]
fn a_payload_has_its_limit() {
    let sid = ECHO.open();
    let most = format!("4{}", "x".repeat(999_999));
    assert_eq!(ECHO.post(&sid, &most).status, 200, "Handshake: maxPayload");
    assert_eq!(packets(&ECHO.poll(&sid)), [most]);
    let response = ECHO.post(&sid, format!("4{}", "x".repeat(1_000_000)));
    assert_eq!(response.status, 413, "Handshake: maxPayload");
}

/// Requests of a session may share a connection: browsers do nothing else.
#[test]
fn one_connection_carries_it_all() {
    let sid = ECHO.open();
    let mut stream = ECHO.connect();
    let query = super::polling(&sid);
    for (head, body) in [("POST", "4a"), ("GET", ""), ("POST", "4b\u{1e}4c"), ("GET", "")] {
        let request =
            format!("{head} /engine.io/?{query} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        send(&mut stream, request.as_bytes(), Pace::Whole);
    }
    stream.flush().expect("it is connected");
    stream.shutdown(Shutdown::Write).expect("it is connected");
    let answer = crate::client::read_to_end(&mut stream, "four requests");
    let bodies: Vec<String> =
        crate::http::read_responses(&answer, false).iter().map(|response| text(response).to_owned()).collect();
    assert_eq!(bodies, ["ok", "4a", "ok", "4b\u{1e}4c"]);
}
