//! "Connection to a namespace".

use std::time::{Duration, Instant};

use super::{CONNECTED, CUSTOM, QUICK_SOCKET_IO, SOCKET_IO, converses, ends, refused};
use crate::{
    client::Pace,
    engine_io::{Carrier, Client, Socket, TIMEOUT},
};

#[test]
fn the_main_namespace() {
    converses("Connection", SOCKET_IO, &["40"], &CONNECTED);
    converses("Connection", SOCKET_IO, &["40/"], &CONNECTED);
    converses("Connection", SOCKET_IO, &["40/,"], &CONNECTED);
    converses("Connection", SOCKET_IO, &["40{}"], &CONNECTED);
}

#[test]
fn a_custom_namespace() {
    converses("Connection", SOCKET_IO, &["40/custom,"], &CUSTOM);
    converses("Connection", SOCKET_IO, &["40/custom"], &CUSTOM);
    converses("Connection: some clients send a query", SOCKET_IO, &["40/custom?a=1&b=2,"], &CUSTOM);
}

#[test]
fn several_namespaces_at_once() {
    let both = [CONNECTED, CUSTOM].concat();
    converses("Connection: MAY be connected to several", SOCKET_IO, &["40", "40/custom,"], &both);
    let sent = ["40", "40/custom,", "42[\"message\",1]", "42/custom,[\"message\",2]"];
    let answers = ["42[\"message-back\",1]", "42/custom,[\"message-back\",2]"];
    converses("Connection", SOCKET_IO, &sent, &[&both[..], &answers].concat());
}

#[test]
fn payloads_reach_the_application() {
    let check = |sent: &str, expected: &[&str]| converses("Connection: a payload", SOCKET_IO, &[sent], expected);
    check("40{\"token\":\"123\"}", &["40{\"sid\":\"*\"}", "42[\"auth\",{\"token\":\"123\"}]"]);
    check("40/custom,{\"token\":\"abc\"}", &["40/custom,{\"sid\":\"*\"}", "42/custom,[\"auth\",{\"token\":\"abc\"}]"]);
    check("40{\"é\":[1.50,{\"b\": null}]}", &["40{\"sid\":\"*\"}", "42[\"auth\",{\"é\":[1.50,{\"b\": null}]}]"]);
}

#[test]
fn names_differ_from_the_sessions() {
    let mut client = Client::open(SOCKET_IO, Carrier::WebSocket(Pace::Whole));
    client.send(&["40", "40/custom"]);
    let packets: Vec<String> = (0..4).filter_map(|_| client.receive()).collect();
    let name = |packet: &str| packet.split("\"sid\":\"").nth(1).map(|rest| rest[..rest.len() - 2].to_owned());
    let names = (name(&packets[0]).expect("a name"), name(&packets[2]).expect("a name"));
    assert_ne!(names.0, names.1);
    assert!(!names.0.contains(client.sid()) && !names.1.contains(client.sid()), "whoever sees it could take over");
}

#[test]
fn an_unknown_namespace_is_refused() {
    let refusal = "44/random,{\"message\":\"Invalid namespace\"}";
    converses("Connection: CONNECT_ERROR", SOCKET_IO, &["40/random", "40"], &[&[refusal], &CONNECTED[..]].concat());
    converses("Connection: CONNECT_ERROR", SOCKET_IO, &["40/random,{\"token\":1}"], &[refusal]);
    let after = [&CONNECTED[..], &[refusal]].concat();
    converses("Connection: others stay", SOCKET_IO, &["40", "40/random,"], &after);
}

#[test]
fn a_bad_handshake_ends_the_session() {
    for bad in ["4abc", "4", "47", "40[]", "40\"token\"", "40null", "40{", "40{}x", "40/custom,[]"] {
        ends("Connection: MUST close", SOCKET_IO, &[bad]);
    }
}

#[test]
fn what_is_no_connect_ends_the_session() {
    for first in ["42[\"message\",1]", "41", "431[]", "44{}", "451-[\"a\",{\"_placeholder\":true,\"num\":0}]", "bAQ=="]
    {
        // Whether the packet or the attachment that follows is too much makes no difference.
        ends("Connection: a CONNECT has to come first", SOCKET_IO, &[first, "bAQ=="]);
    }
    ends("Connection: of that namespace", SOCKET_IO, &["40", "42/custom,[\"message\",1]"]);
    refused("Connection: once", &["40"]);
    refused("Connection: the server refuses", &["44{\"message\":\"no\"}"]);
}

#[test]
fn who_does_not_connect_has_to_go() {
    let since = Instant::now();
    let mut client = Client::open(QUICK_SOCKET_IO, Carrier::WebSocket(Pace::Whole));
    // It answers the pings, and is silent otherwise.
    assert_eq!(client.receive(), None, "Connection: no CONNECT");
    assert!(Duration::from_millis(900) < since.elapsed() && since.elapsed() < TIMEOUT, "{:?}", since.elapsed());
    let sid = QUICK_SOCKET_IO.open();
    QUICK_SOCKET_IO.is_gone(&sid, "Connection: no CONNECT");
}

#[test]
fn who_has_connected_may_stay() {
    let (mut socket, _) = Socket::session(QUICK_SOCKET_IO, Pace::Whole);
    socket.send("40");
    let (mut pings, mut packets) = (0, 0);
    while pings < 5 {
        match socket.receive().as_deref() {
            Some("2") => pings += 1,
            Some(_) => packets += 1,
            None => panic!("the session ended after {pings} pings"),
        }
        socket.send("3");
    }
    assert_eq!(packets, 2);
}
