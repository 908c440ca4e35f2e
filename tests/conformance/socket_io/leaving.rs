//! "Disconnection from a namespace".

use super::{CONNECTED, CUSTOM, QUICK_SOCKET_IO, SOCKET_IO, converses, ends};
use crate::{
    client::Pace,
    engine_io::{CARRIERS, Carrier, Client},
};

#[test]
fn a_client_leaves_and_comes_back() {
    let back = [CONNECTED, CONNECTED].concat();
    converses("Disconnection: the session MAY be kept", SOCKET_IO, &["40", "41", "40"], &back);
    converses("Disconnection", SOCKET_IO, &["40", "41,", "40"].map(|packet| packet.trim_end_matches(',')), &back);
}

#[test]
fn other_namespaces_stay() {
    let sent = ["40", "40/custom", "41/custom", "42[\"message\",1]", "40/custom,"];
    let expected = [&CONNECTED[..], &CUSTOM, &["42[\"message-back\",1]"], &CUSTOM].concat();
    converses("Disconnection", SOCKET_IO, &sent, &expected);
    let sent = ["40", "40/custom", "41", "42/custom,[\"message\",1]"];
    let expected = [&CONNECTED[..], &CUSTOM, &["42/custom,[\"message-back\",1]"]].concat();
    converses("Disconnection", SOCKET_IO, &sent, &expected);
}

#[test]
fn who_has_left_says_nothing_more() {
    ends("Disconnection", SOCKET_IO, &["40", "41", "42[\"message\",1]"]);
    ends("Disconnection", SOCKET_IO, &["40", "40/custom", "41/custom,", "42/custom,[\"message\",1]"]);
    ends("Disconnection", SOCKET_IO, &["40", "41{}"]);
    ends("Disconnection", SOCKET_IO, &["40", "41/custom,"]);
}

#[test]
fn the_server_disconnects() {
    for carrier in CARRIERS {
        let mut client = Client::open(SOCKET_IO, carrier);
        for (namespace, entered, left) in [("", CONNECTED, "41"), ("/custom,", CUSTOM, "41/custom,")] {
            client.send(&[&format!("40{namespace}"), &format!("42{namespace}[\"leave-me\"]")]);
            for expected in [entered[0], entered[1], left] {
                assert_eq!(client.receive_unnamed().as_deref(), Some(expected), "Disconnection: one side can end");
            }
            client.send(&[&format!("40{namespace}")]);
            assert_eq!(client.receive_unnamed().as_deref(), Some(entered[0]), "the session is kept");
            assert_eq!(client.receive_unnamed().as_deref(), Some(entered[1]));
        }
    }
}

/// The session waits for another CONNECT as it did for the first.
#[test]
fn who_is_nowhere_has_to_go() {
    let mut client = Client::open(QUICK_SOCKET_IO, Carrier::WebSocket(Pace::Whole));
    client.send(&["40", "41"]);
    assert!(client.receive().is_some() && client.receive().is_some());
    assert_eq!(client.receive(), None);
}

#[test]
fn the_session_may_be_closed_at_any_time() {
    ends("Packet: close", SOCKET_IO, &["40", "1"]);
    ends("Packet: close", SOCKET_IO, &["1"]);
}
