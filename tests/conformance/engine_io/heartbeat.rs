//! "Heartbeat". The server pings every 300 ms and waits 1.5 s for the answer.

use std::time::{Duration, Instant};

use super::{QUICK_ECHO, Socket, TIMEOUT, packets, text};
use crate::client::Pace;

/// The timers of the server are not finer than this, and its clock is not this one.
const SLACK: Duration = Duration::from_millis(20);
const PING_INTERVAL: Duration = Duration::from_millis(300);
const PING_TIMEOUT: Duration = Duration::from_millis(1500);

#[test]
fn over_websocket() {
    let (mut socket, _) = Socket::session(QUICK_ECHO, Pace::Whole);
    for _ in 0..3 {
        let since = Instant::now();
        assert_eq!(socket.receive().as_deref(), Some("2"));
        assert!(PING_INTERVAL - SLACK * 2 < since.elapsed(), "{:?}", since.elapsed());
        socket.send("3");
    }
    socket.send("4still here");
    assert_eq!(socket.receive().as_deref(), Some("4still here"));
}

#[test]
fn over_polls() {
    let sid = QUICK_ECHO.open();
    for _ in 0..3 {
        assert_eq!(packets(&QUICK_ECHO.poll(&sid)), ["2"]);
        assert_eq!(QUICK_ECHO.post(&sid, "3").status, 200);
    }
}

#[test]
fn a_websocket_without_pongs_ends() {
    let (mut socket, _) = Socket::session(QUICK_ECHO, Pace::Whole);
    let since = Instant::now();
    assert_eq!(socket.receive().as_deref(), Some("2"));
    assert_eq!(socket.receive(), None);
    let took = since.elapsed();
    assert!(PING_INTERVAL + PING_TIMEOUT - SLACK < took && took < TIMEOUT, "{took:?}");
}

#[test]
fn a_session_without_polls_ends() {
    let sid = QUICK_ECHO.open();
    let since = Instant::now();
    // A post is no pong.
    while QUICK_ECHO.post(&sid, "6").status == 200 {
        assert!(since.elapsed() < TIMEOUT);
        std::thread::yield_now();
    }
    assert!(PING_INTERVAL + PING_TIMEOUT - SLACK < since.elapsed(), "{:?}", since.elapsed());
    QUICK_ECHO.is_gone(&sid, "Heartbeat");
}

#[test]
fn a_session_whose_polls_bring_no_pong_ends() {
    let sid = QUICK_ECHO.open();
    assert_eq!(packets(&QUICK_ECHO.poll(&sid)), ["2"]);
    let last = QUICK_ECHO.poll(&sid);
    assert_eq!(text(&last), "1", "the poll that waits is told");
    QUICK_ECHO.is_gone(&sid, "Heartbeat");
}
