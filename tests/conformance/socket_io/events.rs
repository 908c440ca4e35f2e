//! "Sending and receiving data", "Acknowledgement" and "Packet encoding".

use super::{CONNECTED, CUSTOM, SOCKET_IO, answered, converses, refused};
use crate::engine_io::Client;

#[test]
fn events() {
    let check = |sent: &str, expected: &str| answered("Sending and receiving data", &[sent], &[expected]);
    check("42[\"message\"]", "42[\"message-back\"]");
    check("42[\"message\",1,\"2\",{\"3\":[true]}]", "42[\"message-back\",1,\"2\",{\"3\":[true]}]");
    check("42[\"message\",null,-1.5e3,\"é🎺\\n\\u0041\"]", "42[\"message-back\",null,-1.5e3,\"é🎺\\n\\u0041\"]");
    check("42[\"message\",12345678901234567890123]", "42[\"message-back\",12345678901234567890123]");
    check("42/,[\"message\",1]", "42[\"message-back\",1]");
    check("42[\"mess\\u0061ge\",1]", "42[\"message-back\",1]");
    answered("an event that means nothing", &["42[\"other\",1]", "42[7,1]", "42[\"\"]"], &[]);
    let long = "x".repeat(100_000);
    check(&format!("42[\"message\",\"{long}\"]"), &format!("42[\"message-back\",\"{long}\"]"));
}

#[test]
fn many_events_in_order() {
    let sent: Vec<String> = (0..60).map(|number| format!("42[\"message\",{number}]")).collect();
    let expected: Vec<String> = (0..60).map(|number| format!("42[\"message-back\",{number}]")).collect();
    let strs = |texts: &[String]| texts.iter().map(|text| &*text.clone().leak()).collect::<Vec<&str>>();
    answered("Sending and receiving data", &strs(&sent), &strs(&expected));
}

#[test]
fn in_a_custom_namespace() {
    let sent = ["40/custom,", "42/custom,[\"message\",1]", "42/custom,7[\"message-with-ack\",2]"];
    let answers = ["42/custom,[\"message-back\",1]", "43/custom,7[2]"];
    converses("Sending and receiving data", SOCKET_IO, &sent, &[&CUSTOM[..], &answers].concat());
}

#[test]
fn acknowledgements() {
    let check = |sent: &str, expected: &str| answered("Acknowledgement", &[sent], &[expected]);
    check("42456[\"message-with-ack\",1,\"2\",{\"3\":[false]}]", "43456[1,\"2\",{\"3\":[false]}]");
    check("420[\"message-with-ack\"]", "430[]");
    check("42999999999999999[\"message-with-ack\"]", "43999999999999999[]");
    answered("Acknowledgement: nobody asked for one", &["42[\"message-with-ack\",1]"], &[]);
}

/// The other way round: the server asks, the client acknowledges.
#[test]
fn acknowledgements_of_clients() {
    let sent = ["42[\"ask-me\",1]", "42[\"ask-me\"]", "430[\"yes\",{\"a\":1}]", "431[]"];
    let expected =
        ["420[\"question\",1]", "421[\"question\"]", "42[\"answered\",0,\"yes\",{\"a\":1}]", "42[\"answered\",1]"];
    answered("Acknowledgement", &sent, &expected);
    let sent = ["42[\"ask-me\"]", "461-0[{\"_placeholder\":true,\"num\":0}]", "bAQID"];
    let expected = ["420[\"question\"]", "451-[\"answered\",0,{\"_placeholder\":true,\"num\":0}]", "bAQID"];
    answered("Acknowledgement: BINARY_ACK", &sent, &expected);
}

#[test]
fn binary_events() {
    let both = "{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}";
    let event = |name: &str| format!("452-[\"{name}\",{both}]");
    answered(
        "Sending and receiving data: BINARY_EVENT",
        &[&event("message"), "bAQID", "bBAUG"],
        &[&event("message-back"), "bAQID", "bBAUG"],
    );
    answered(
        "Acknowledgement: BINARY_EVENT",
        &[&format!("452-789[\"message-with-ack\",{both}]"), "bAQID", "bBAUG"],
        &[&format!("462-789[{both}]"), "bAQID", "bBAUG"],
    );
    answered(
        "Packet encoding: anywhere in the arguments",
        &["451-[\"message\",{\"a\":[{\"_placeholder\":true,\"num\":0}],\"b\":1}]", "b"],
        &["451-[\"message-back\",{\"a\":[{\"_placeholder\":true,\"num\":0}],\"b\":1}]", "b"],
    );
    answered(
        "Packet encoding: in any order",
        &["452-[\"message\",{\"num\":1,\"_placeholder\":true},{\"_placeholder\":true,\"num\":0}]", "bAQ==", "bAg=="],
        &[
            "452-[\"message-back\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]",
            "bAg==",
            "bAQ==",
        ],
    );
    answered("an event that means nothing", &["451-[\"other\",{\"_placeholder\":true,\"num\":0}]", "bAQID"], &[]);
    let ten: Vec<String> = (0..10).map(|number| format!("{{\"_placeholder\":true,\"num\":{number}}}")).collect();
    let (sent, back) = (format!("410-{}", ten.join(",")), format!("410-{}", ten.join(",")));
    let sent = sent.replace("410-", "4510-[\"message\",") + "]";
    let back = back.replace("410-", "4510-[\"message-back\",") + "]";
    answered("ten attachments", &[&[&*sent], &["bAQ=="; 10][..]].concat(), &[&[&*back], &["bAQ=="; 10][..]].concat());
}

#[test]
fn binary_events_in_a_custom_namespace() {
    let place = "{\"_placeholder\":true,\"num\":0}";
    let (sent, back) = (format!("451-/custom,8[\"message-with-ack\",{place}]"), format!("461-/custom,8[{place}]"));
    converses(
        "Packet encoding",
        SOCKET_IO,
        &["40/custom,", &sent, "bAQID"],
        &[&CUSTOM[..], &[&back, "bAQID"]].concat(),
    );
}

#[test]
fn bad_events_end_the_session() {
    let check = |packet: &str| refused("Sending and receiving data: MUST close", &[packet]);
    for payload in ["", "[]", "{}", "\"message\"", "null", "[", "[\"message\"", "[\"message\",]", "[\"message\"]x"] {
        check(&format!("42{payload}"));
    }
    for name in ["null", "true", "[\"message\"]", "{\"message\":1}"] {
        check(&format!("42[{name}]"));
    }
    for reserved in ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"] {
        check(&format!("42[\"{reserved}\"]"));
    }
    for unknown in ["47[\"message\"]", "4x", "4", "42-1[\"message\"]", "421234567890123456[\"message\"]"] {
        check(unknown);
    }
}

#[test]
fn bad_acknowledgements_end_the_session() {
    for packet in ["43[]", "431", "431{}", "431\"yes\"", "431[", "461-1"] {
        refused("Acknowledgement: the payload is an array", &[packet]);
    }
}

#[test]
fn bad_attachments_end_the_session() {
    let check = |rule: &str, sent: &[&str]| refused(rule, sent);
    let one = "[\"message\",{\"_placeholder\":true,\"num\":0}]";
    check("an attachment that was not announced", &["bAQID"]);
    check("text where an attachment was announced", &[&format!("451-{one}"), "42[\"message\",1]"]);
    check("one too many", &[&format!("451-{one}"), "bAQ==", "bAQ=="]);
    check("no number", &[&format!("45{one}"), "bAQ=="]);
    check("none", &[&format!("450-{one}"), "bAQ=="]);
    check("more than ten", &[&format!("4511-{one}"), "bAQ=="]);
    check("no number at all", &[&format!("45x-{one}"), "bAQ=="]);
    check("a place for another", &["451-[\"message\",{\"_placeholder\":true,\"num\":1}]", "bAQ=="]);
    check("no place", &["451-[\"message\",1]", "bAQ=="]);
    let twice = "451-[\"message\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":0}]";
    check("two places", &[twice, "bAQ=="]);
    check("a payload that is none", &["451-[\"connect\",{\"_placeholder\":true,\"num\":0}]", "bAQ=="]);
}

#[test]
fn attachments_count_against_the_limit() {
    let both = "452-[\"message\",{\"_placeholder\":true,\"num\":0},{\"_placeholder\":true,\"num\":1}]";
    let half = format!("b{}", data_encoding::BASE64.encode(&vec![7; 600_000]));
    let (mut client, rule) = (Client::websocket(SOCKET_IO), "maxPayload, attachments together");
    client.send(&["40", both, &half, &half]);
    for expected in CONNECTED {
        assert_eq!(client.receive().map(|packet| packet.len() < 60), Some(expected.len() < 60));
    }
    assert_eq!(client.receive(), None, "{rule}");
}
