//! Packets, attachments and offsets against tables.

use super::*;

#[test]
fn packets() {
    let check = |text: &str, expected: Result<(Kind, usize, &str, Option<u64>, Option<&str>), &str>| {
        let parsed = Packet::parse(text, 10).map(|p| (p.kind, p.attachments, p.namespace, p.ack, p.data));
        assert_eq!(parsed.map_err(|BadPacket(rule)| rule), expected, "{text}");
    };
    check("0", Ok((Kind::Connect, 0, "/", None, None)));
    check("0/admin,", Ok((Kind::Connect, 0, "/admin", None, None)));
    check("2/admin,13[\"foo\"]", Ok((Kind::Event, 0, "/admin", Some(13), Some("[\"foo\"]"))));
    check(
        "51-14[\"foo\",{\"_placeholder\":true,\"num\":0}]",
        Ok((Kind::BinaryEvent, 1, "/", Some(14), Some("[\"foo\",{\"_placeholder\":true,\"num\":0}]"))),
    );
    check("2[\"connect\"]", Err("the name of the event is reserved"));
}
