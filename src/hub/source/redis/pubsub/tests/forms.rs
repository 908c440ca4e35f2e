//! What hubs of several releases on one Redis publish for each other.

use bytes::Bytes;

use super::super::{
    envelope,
    marks::{MARK_CHANNEL, Marks},
};
use crate::{
    clock::Moment,
    event::EventId,
    fingerprint::{Sequence, digest},
    tests::{FormKind, LATER_MEMBER, check_forms, part, text},
    topic::Topic,
};

/// The magic, the header's members and the payload; or the payload alone.
fn split(payload: &[u8]) -> Vec<Vec<u8>> {
    let mut lines = payload.splitn(3, |byte| *byte == b'\n').map(<[u8]>::to_vec);
    match (lines.next(), lines.next(), lines.next()) {
        (Some(magic), Some(header), Some(data)) if magic.starts_with(b"\xFF") => {
            let header = header.strip_prefix(b"{").and_then(|header| header.strip_suffix(b"}")).expect("an object");
            vec![magic, header.to_vec(), data]
        }
        _ => vec![payload.to_vec()],
    }
}

/// The payload with these parts.
fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    match parts {
        [magic, members @ .., data] => {
            [magic, b"\n{".as_slice(), &members.join(&b","[..]), b"}\n", data.as_slice()].concat()
        }
        _ => parts.concat(),
    }
}

#[test]
fn envelopes() {
    let form =
        |kind: Option<&str>, data: &'static str| split(&envelope::seal(kind, &Bytes::from_static(data.as_bytes())));
    let read = |parts: &[Vec<u8>]| {
        let payload = join(parts);
        let opened = envelope::open(&payload).expect("an event");
        format!("type {:?}, data {}", opened.kind, String::from_utf8_lossy(opened.data))
    };
    let typed = [
        ("an event with a type", form(Some("SERVER_DOWN"), "{\"a\":1}\nb\n")),
        ("an event whose type needs escapes", form(Some("a \"quoted\" \\ größer\t"), "")),
    ];
    let later = |parts: &mut Vec<Vec<u8>>| parts.insert(1, LATER_MEMBER.to_vec());
    check_forms(&FormKind { name: "redis-envelopes", written: typed.to_vec(), read: &read, extend: Some(&later) });
    // Any client's message is an event as it is, so nothing can be added to it.
    let plain = vec![("an event without a type", form(None, "{\"a\":1}\nb"))];
    check_forms(&FormKind { name: "redis-payloads", written: plain, read: &read, extend: None });
}

/// Hubs agree on the id of an event only if all of them hear the same marks, and count in the same way.
#[test]
fn marks() {
    let nonce = {
        let mut marks = Marks::new(std::time::Duration::from_secs(1), 0x80);
        marks.on_info(b"redis_mode:standalone\r\nrun_id:c0ffee\r\n");
        marks.on_subscribed();
        marks.on_news();
        marks.take_due(Moment(9)).expect("one is due")
    };
    let read = |parts: &[Vec<u8>]| {
        let (topic, mut sequence) = (Topic::parse("a.b").expect("a good name"), Sequence::default());
        let mut marks = Marks::new(std::time::Duration::from_secs(1), 1);
        marks.on_info(b"redis_mode:standalone\r\nrun_id:c0ffee\r\n");
        sequence.begin(marks.newest());
        marks.take(&parts[1], Moment(1));
        let ids: Vec<String> = [&b"one"[..], b"other"]
            .iter()
            .map(|data| {
                EventId::new(7, 1).with_fingerprint(sequence.take(marks.newest(), &topic, digest(data))).to_string()
            })
            .collect();
        format!("on {}: the events \"one\" and \"other\" behind it are {}", parts[0].escape_ascii(), ids.join(" and "))
    };
    let mark = vec![MARK_CHANNEL.as_bytes().to_vec(), nonce.into_bytes()];
    check_forms(&FormKind { name: "redis-marks", written: vec![("a mark", mark)], read: &read, extend: None });
}

/// An id that a client has from one hub means the same at another.
#[test]
fn ids() {
    let read = |parts: &[Vec<u8>]| {
        let id: EventId = text(parts).parse().expect("an id");
        let fingerprint = id.fingerprint.map(|fingerprint| fingerprint.to_string());
        format!("major {}, minor {}, fingerprint {fingerprint:?}", id.major, id.minor)
    };
    let fingerprint = "5e333cdf4dd006e9".parse().ok();
    let ids = vec![
        ("an id", part(EventId::new(1_700_000_000_000, 7).to_string())),
        ("an id with a fingerprint", part(EventId::new(u64::MAX, 7).with_fingerprint(fingerprint).to_string())),
    ];
    check_forms(&FormKind { name: "ids", written: ids, read: &read, extend: None });
}
