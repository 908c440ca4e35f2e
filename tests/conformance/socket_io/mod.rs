//! Socket.IO, protocol revision 5 (`docs/socket.io-protocol/v5-current.md` of its repository; rows name the heading), by
//! what the application of its public suite must send back: `auth` with what was said with CONNECT, `message-back` for
//! `message`, an acknowledgement for `message-with-ack`.
//!
//! Packets stand in rows with the `4` of Engine.IO before them; each row goes over every carrier.

mod connecting;
mod events;
mod leaving;

use crate::engine_io::{Endpoint, converses, ends};

const SOCKET_IO: Endpoint = Endpoint { path: "/socket.io/", quick: false };
const QUICK_SOCKET_IO: Endpoint = Endpoint { path: "/socket.io/", quick: true };

const CONNECTED: [&str; 2] = ["40{\"sid\":\"*\"}", "42[\"auth\",{}]"];
const CUSTOM: [&str; 2] = ["40/custom,{\"sid\":\"*\"}", "42/custom,[\"auth\",{}]"];

/// In the main namespace `sent` is answered with `expected`, and the session goes on.
#[track_caller]
fn answered(rule: &str, sent: &[&str], expected: &[&str]) {
    let sent = [&["40"], sent, &["42[\"message\",\"end\"]"]].concat();
    let expected = [&CONNECTED, expected, &["42[\"message-back\",\"end\"]"]].concat();
    converses(rule, SOCKET_IO, &sent, &expected);
}

/// In the main namespace `sent` ends the session.
#[track_caller]
fn refused(rule: &str, sent: &[&str]) {
    ends(rule, SOCKET_IO, &[&["40"], sent].concat());
}
