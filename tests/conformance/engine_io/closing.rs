//! The `close` packet, and connections that just end.

use super::{CARRIERS, Client, ECHO, Socket, ends, finish, text};
use crate::client::Pace;

#[test]
fn a_client_closes() {
    ends("Packet: close", ECHO, &["1"]);
    ends("Packet: close", ECHO, &["4before", "1"]);
    ends("Packet: close", ECHO, &["1", "4after"]);
}

#[test]
fn the_poll_that_waits_is_released() {
    let sid = ECHO.open();
    let poll = ECHO.begin_poll(&sid);
    let post = ECHO.post(&sid, "1");
    assert_eq!((post.status, text(&post)), (200, "ok"), "Packet: close");
    let answer = finish(poll, "Packet: close");
    // The poll may have come behind the post: then there is no session any more.
    assert!(matches!((answer.status, text(&answer)), (200, "6") | (400, _)), "{}", text(&answer));
    ECHO.is_gone(&sid, "Packet: close");
}

#[test]
fn a_session_ends_with_its_websocket() {
    let (socket, opened) = Socket::session(ECHO, Pace::Whole);
    let sid = super::sid_of(&opened);
    drop(socket);
    ECHO.is_gone(&sid, "WebSocket");
    let sid = ECHO.open();
    drop(super::upgrade(ECHO, &sid, Pace::Whole));
    ECHO.is_gone(&sid, "Upgrade");
}

#[test]
fn sessions_are_apart() {
    let mut clients = CARRIERS.map(|carrier| Client::open(ECHO, carrier));
    for (number, client) in clients.iter_mut().enumerate() {
        client.send(&[&format!("4{number}"), "4end"]);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.receive(), Some(format!("4{number}")));
        assert_eq!(client.receive().as_deref(), Some("4end"));
    }
}
