//! What hubs of several releases on one NATS publish for each other.

use std::sync::Arc;

use super::super::{
    headers::Headers,
    lease,
    link::Message,
    message::{EventHeaders, GAP_PAYLOAD, carried_upto, gap_of, is_carried},
};
use crate::{
    bus::{Bridged, Carried},
    event::EventId,
    gap::GapReason,
    tests::{FormKind, check_forms, part, text},
};

fn headers(kind: Option<&'static str>, key: Option<&'static str>) -> EventHeaders<'static> {
    EventHeaders { kind: kind.map(Into::into), key: key.map(Into::into) }
}

fn bridged(gap: Option<GapReason>) -> Bridged {
    let carried = Carried { after: EventId::new(7, 1), upto: EventId::new(7, 2), is_broken: Arc::default() };
    Bridged { origin: "redis:c".into(), gap, carried: Some(carried) }
}

/// The header lines, and the payload behind them.
fn message(headers: Option<Headers>, payload: &[u8]) -> Vec<Vec<u8>> {
    let block = headers.as_ref().map(|headers| headers.as_bytes().strip_suffix(b"\r\n\r\n").expect("its end"));
    let lines = block.unwrap_or_default().split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end().to_vec());
    lines.filter(|line| !line.is_empty()).chain([payload.to_vec()]).collect()
}

fn read_message(parts: &[Vec<u8>]) -> String {
    let [lines @ .., payload] = parts else { panic!("there is a payload") };
    let block: Vec<u8> = lines.iter().flat_map(|line| [line, b"\r\n".as_slice()]).flatten().copied().collect();
    let headers = (!lines.is_empty()).then(|| Headers::received([&block[..], b"\r\n"].concat().into()));
    let message = Message { headers, payload: payload.clone().into(), ..Message::default() };
    let read = EventHeaders::of(&message);
    let bridge = if is_carried(&message) {
        let upto = carried_upto(&message, "redis:c").map(|id| id.to_string());
        format!("; a bridge's, which carried the log `redis:c` up to {upto:?}")
    } else {
        String::new()
    };
    match gap_of(&message) {
        Some(reason) => format!("a gap `{}`{bridge}", reason.label()),
        None => {
            format!(
                "type {:?}, idempotency key {:?}, data {}{bridge}",
                read.kind,
                read.key,
                String::from_utf8_lossy(payload)
            )
        }
    }
}

#[test]
fn messages() {
    let plain = |kind, key| message(headers(kind, key).write(), b"{\"n\":1}");
    let without_log = Bridged { carried: None, ..bridged(None) };
    let kept = |kind, bridged: Option<&Bridged>| headers(kind, Some("a.b k 1")).write_kept("STREAM", bridged);
    let written = vec![
        ("an event with a type", plain(Some("made"), None)),
        ("an event whose type needs escapes", plain(Some(" größer\r\n100% "), None)),
        ("an event with an idempotency key", plain(None, Some("k 1"))),
        ("a bridge's event", message(Some(headers(Some("made"), None).write_carried(&without_log)), b"x")),
        ("an event for a stream", message(Some(kept(Some("made"), None)), b"x")),
        ("a bridge's event for a stream", message(Some(kept(None, Some(&bridged(None)))), b"x")),
        ("a gap in a stream", message(Some(kept(None, Some(&bridged(Some(GapReason::Expired))))), GAP_PAYLOAD)),
    ];
    let later = |parts: &mut Vec<Vec<u8>>| {
        parts.insert(1, b"Fanfare-Later: a b".to_vec());
        parts.iter_mut().filter(|part| part.starts_with(b"Fanfare-Carried: ")).for_each(|part| {
            if part.contains(&b'-') && part.iter().filter(|byte| **byte == b' ').count() == 2 {
                part.extend_from_slice(b" later=1");
            }
        });
    };
    check_forms(&FormKind { name: "nats-messages", written, read: &read_message, extend: Some(&later) });
    let written = vec![("an event without a type", plain(None, None))];
    check_forms(&FormKind { name: "nats-payloads", written, read: &read_message, extend: None });
}

/// Candidates that do not hear each other have the lease at the same time.
#[test]
fn leases() {
    let written = vec![
        ("a lease", part(lease::subject("generators"))),
        ("a lease of a bridge", part(lease::subject("bridge.nats a.*=>b_c"))),
    ];
    check_forms(&FormKind { name: "nats-leases", written, read: &|parts| format!("`{}`", text(parts)), extend: None });
}
