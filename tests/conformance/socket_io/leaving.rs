//! "Disconnection from a namespace".

use super::{CONNECTED, CUSTOM, DOOR, QUICK_DOOR, converses, ends};
use crate::{
    client::Pace,
    engine_io::{Carrier, Client, ends as ends_by_engine},
};

#[test]
fn a_client_leaves_and_comes_back() {
    let back = [CONNECTED, CONNECTED].concat();
    converses("Disconnection: the session MAY be kept", DOOR, &["40", "41", "40"], &back);
    converses("Disconnection", DOOR, &["40", "41,", "40"].map(|packet| packet.trim_end_matches(',')), &back);
}

#[test]
fn other_namespaces_stay() {
    let sent = ["40", "40/custom", "41/custom", "42[\"message\",1]", "40/custom,"];
    let expected = [&CONNECTED[..], &CUSTOM, &["42[\"message-back\",1]"], &CUSTOM].concat();
    converses("Disconnection", DOOR, &sent, &expected);
    let sent = ["40", "40/custom", "41", "42/custom,[\"message\",1]"];
    let expected = [&CONNECTED[..], &CUSTOM, &["42/custom,[\"message-back\",1]"]].concat();
    converses("Disconnection", DOOR, &sent, &expected);
}

#[test]
fn who_has_left_says_nothing_more() {
    ends("Disconnection", DOOR, &["40", "41", "42[\"message\",1]"]);
    ends("Disconnection", DOOR, &["40", "40/custom", "41/custom,", "42/custom,[\"message\",1]"]);
    ends("Disconnection", DOOR, &["40", "41{}"]);
    ends("Disconnection", DOOR, &["40", "41/custom,"]);
}

#[test]
fn the_server_disconnects() {
    let expected = [&CONNECTED[..], &["41"], &CONNECTED].concat();
    converses("Disconnection: one side can end", DOOR, &["40", "42[\"leave-me\"]", "40"], &expected);
    let expected = [&CUSTOM[..], &["41/custom,"]].concat();
    converses("Disconnection: one side can end", DOOR, &["40/custom", "42/custom,[\"leave-me\"]"], &expected);
}

/// The session waits for another CONNECT as it did for the first.
#[test]
fn who_is_nowhere_has_to_go() {
    let mut client = Client::open(QUICK_DOOR, Carrier::WebSocket(Pace::Whole));
    client.send(&["40", "41"]);
    assert!(client.receive().is_some() && client.receive().is_some());
    assert_eq!(client.receive(), None);
}

#[test]
fn the_session_may_be_closed_at_any_time() {
    ends_by_engine("Packet: close", DOOR, &["40", "1"]);
    ends_by_engine("Packet: close", DOOR, &["1"]);
}
