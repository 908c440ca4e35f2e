//! Packets and payloads against tables.

use crate::protocol::websocket;

use super::*;

#[test]
fn frames_become_payloads() {
    let mut frames = Vec::new();
    write_message(&[b"2[\"a\"]"], &mut frames);
    websocket::write_binary(&[1, 2, 3, 4], &mut frames);
    write_frame(Kind::Ping, "", &mut frames);
    let check = |packets_max, bytes_max, expected: &[&str]| {
        let mut rest = &frames[..];
        for payload in expected {
            let mut out = b"head".to_vec();
            rest = &rest[payload_from_frames(rest, packets_max, bytes_max, &mut out)..];
            assert_eq!(String::from_utf8_lossy(&out), format!("head{payload}"));
        }
        assert!(rest.is_empty());
    };
    check(16, 100, &["42[\"a\"]\u{1e}bAQIDBA==\u{1e}2"]);
    check(2, 100, &["42[\"a\"]\u{1e}bAQIDBA==", "2"]);
    check(16, 1, &["42[\"a\"]", "bAQIDBA==", "2"]);
}
