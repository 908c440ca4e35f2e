//! "Message" and "Packet encoding".

use super::{ECHO, converses, ends};

#[test]
fn come_back() {
    let check = |sent: &[&str]| converses("Message", ECHO, sent, sent);
    check(&["4hello"]);
    check(&["4"]);
    check(&["4hello", "4", "4world"]);
    check(&["4test1", "4test2", "4test3"]);
    check(&["4hello", "bAQIDBA=="]);
    check(&["bAQIDBA==", "4é🎺€", "bAA==", "b/+8="]);
    check(&["b"]);
    check(&["42[\"a\",{\"_placeholder\":true,\"num\":0}]", "bAQIDBA==", "4end"]);
    check(&["4b", "4bAQIDBA==", "4 \t\r\n\"\\"]);
    let long = format!("4{}", "x".repeat(70_000));
    check(&[&long, "4after"]);
}

/// Every message is answered, however many poll by poll.
#[test]
fn many_come_back_in_order() {
    let texts: Vec<String> = (0..100).map(|number| format!("4{number}")).collect();
    let sent: Vec<&str> = texts.iter().map(String::as_str).collect();
    converses("Receiving data", ECHO, &sent, &sent);
}

#[test]
fn other_packets_from_a_client() {
    converses("Packet: a noop is nothing", ECHO, &["6", "4a"], &["4a"]);
    converses("Heartbeat: a pong is nothing to answer", ECHO, &["3", "4a"], &["4a"]);
}

#[test]
fn bad_packets_end_the_session() {
    let check = |rule: &str, packet: &str| {
        ends(rule, ECHO, &["4before", packet]);
        ends(rule, ECHO, &[packet, "4after"]);
    };
    for unknown in ["abc", "7", "9hello", " 4hello", "é", "{}", "-4"] {
        check("Packet encoding: the type is a digit from 0 to 6", unknown);
    }
    check("Handshake: the server opens", "0{}");
    check("Heartbeat: the server pings", "2");
    check("Upgrade: a probe goes by the new transport", "2probe");
}
