use std::time::Duration;

use serde_json::{Value, json};

use super::{metrics::Figures, one_line, report::Report};
use crate::{
    client::{Received, Stream, Transport},
    exposition::ExpositionFormat,
    protocol::websocket,
    sequences::Counts,
};

/// What of `bytes` becomes of the stream: events as `id|kind|data`, notices, then how it ended; all at once and byte by
/// byte.
fn check(transport: Transport, bytes: &[u8], expected: &[&str]) {
    for piece_bytes in [bytes.len(), 1] {
        let mut stream = Stream::new(transport, RANDOM);
        let mut seen = Vec::new();
        let mut answer = Vec::new();
        for piece in bytes.chunks(piece_bytes) {
            let done = stream.receive(piece, &mut answer, |received| {
                seen.push(match received {
                    Received::Opened | Received::Subscribed { .. } => return,
                    Received::Event { id, kind, data, .. } => format!("{id}|{kind}|{}", String::from_utf8_lossy(data)),
                    Received::Notice(text) | Received::Gap(text) => text,
                });
            });
            if let Err(end) = done {
                seen.push(end.reason);
                break;
            }
        }
        assert_eq!(seen, expected, "{transport:?} in pieces of {piece_bytes}");
    }
}

const RANDOM: [u8; 16] = *b"the sample nonce";
const SSE_HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
/// The key and its answer of RFC 6455 section 1.3.
const WS_HEAD: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                       Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

fn chunked(body: &str) -> String {
    format!("{:x}\r\n{body}\r\n", body.len())
}

fn websocket(extra: &str, frames: &[Vec<u8>]) -> Vec<u8> {
    [WS_HEAD.as_bytes(), extra.as_bytes(), b"\r\n", &frames.concat()].concat()
}

#[test]
fn sse_events_and_notices() {
    let body = chunked(":\nretry: 2000\n") + &chunked("id: 1-1\nevent: created\ndata: {}\n\n") + &chunked(":\n");
    let gap = chunked("event: gap\ndata: {\"reason\":\"expired\"}\n\n");
    let text = format!("{SSE_HEAD}{body}{gap}0\r\n\r\n");
    let expected = ["1-1|created|{}", "gap: {\"reason\":\"expired\"}", "the hub ended the stream"];
    check(Transport::Sse, text.as_bytes(), &expected);
}

#[test]
fn a_refusal_is_told_in_the_hubs_words() {
    let text = "HTTP/1.1 400 Bad Request\r\nContent-Length: 9\r\n\r\nno topic\n";
    for transport in [Transport::Sse, Transport::Ws, Transport::FanfareV1] {
        check(transport, text.as_bytes(), &["the hub answered 400: no topic"]);
    }
}

#[test]
fn something_that_is_no_hub() {
    let text = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 2\r\n\r\nhi";
    check(Transport::Sse, text.as_bytes(), &["the answer is no event stream: is this a hub?"]);
    check(Transport::Ws, text.as_bytes(), &["the hub answered 200: hi"]);
}

#[test]
fn raw_frames() {
    let mut close = Vec::new();
    websocket::write_close(1012, "the hub restarts", &mut close);
    let bytes = websocket("", &[websocket::encode_text(b"one"), websocket::encode_text(b"two"), close]);
    check(Transport::Ws, &bytes, &["||one", "||two", "the hub closed the WebSocket: 1012 the hub restarts"]);
}

#[test]
fn envelopes() {
    let event = br#"{"op":"event","topic":"a","id":"1-1","type":"created","data":{"b":1}}"#;
    let gap = br#"{"op":"gap","topic":"a","from":"1-1","to":null,"reason":"overflow"}"#;
    let frames = [websocket::encode_text(event), websocket::encode_text(gap)];
    let bytes = websocket("Sec-WebSocket-Protocol: fanfare.v1\r\n", &frames);
    check(Transport::FanfareV1, &bytes, &["1-1|created|{\"b\":1}", "gap in a between 1-1 and ?: overflow"]);
    check(Transport::FanfareV1, &websocket("", &[]), &["the hub does not speak fanfare.v1"]);
}

#[test]
fn pings_are_answered() {
    let mut stream = Stream::new(Transport::Ws, RANDOM);
    let mut answer = Vec::new();
    let bytes = websocket("", &[websocket::PING.to_vec()]);
    let done = stream.receive(&bytes, &mut answer, |told| assert_eq!(told, Received::Opened, "a ping is no event"));
    done.expect("all is well");
    assert_eq!(answer[..2], [0x8a, 0x80], "a masked pong (RFC 6455 section 5.2)");
}

#[test]
fn reports() {
    let mut report = Report::new();
    report.received = 3;
    let empty = report.text(Duration::from_secs(2));
    assert!(empty.contains("Events received: 3") && empty.contains("no event says"), "{empty}");
    let line: Value = serde_json::from_str(&report.json(Duration::from_secs(2), false)).expect("JSON");
    assert_eq!((&line["events_per_s"], line.get("p50_ms")), (&1.5.into(), None));
    (report.reconnects, report.gaps, report.open) = (1, 2, 7);
    report.counts = Counts { duplicates: 3, reordered: 4, missing: 5, unfollowed: 6 };
    report.record(2.0);
    let text = report.text(Duration::from_secs(2));
    let told = "  Tail ratio (p99/p50): 1.00x\n  Reconnects: 1\n  Gaps: 2\n  Duplicates: 3\n  Out of order: 4\n  Missing: 5\n  \
                Too many sources to look for any of that in: 6\n========================";
    assert!(text.ends_with(told), "{text}");
    let line: Value = serde_json::from_str(&report.json(Duration::from_secs(2), true)).expect("JSON");
    let expected = json!({
        "is_last": true, "elapsed_s": 2.0, "events": 3, "events_per_s": 1.5, "avg_ms": 2.0, "min_ms": 2.0, "max_ms": 2.0,
        "p50_ms": 2.0, "p95_ms": 2.0, "p99_ms": 2.0, "tail_ratio": 1.0, "streams_open": 7, "reconnects": 1, "gaps": 2,
        "duplicates": 3, "reordered": 4, "missing": 5, "unfollowed": 6,
    });
    assert_eq!(line, expected);
}

#[test]
fn percentiles_of_a_known_distribution() {
    let mut report = Report::new();
    // One event for each whole number of milliseconds from 1 to 100.
    report.received = 100;
    (1..=100).for_each(|latency_ms| report.record(f64::from(latency_ms)));
    let text = report.text(Duration::from_secs(20));
    let row = |name: &str| {
        let value = text.lines().find_map(|line| line.trim_start().strip_prefix(name)).expect("the row is there");
        value.trim_end_matches("ms").trim_end_matches('x').parse::<f64>().expect("a number")
    };
    let check = |name: &str, expected: f64| {
        let value = row(name);
        assert!((value - expected).abs() <= expected / 500.0, "{name}{value}, not {expected}: {text}");
    };
    check("Latency (avg): ", 50.5);
    check("Latency (min): ", 1.0);
    check("Latency (max): ", 100.0);
    check("Latency (p50): ", 50.0);
    check("Latency (p95): ", 95.0);
    check("Latency (p99): ", 99.0);
    check("Tail ratio (p99/p50): ", 1.98);
    assert!(text.contains("Event rate: 5.00 events/sec") && !text.contains("Gaps"), "{text}");
}

#[test]
fn figures_for_prometheus() {
    let (figures, registry) = Figures::new();
    let mut report = Report::new();
    [5.0, 10.0, 11.0, 700.0, 6000.0].iter().for_each(|&latency_ms| figures.record(latency_ms));
    (report.received, report.reconnects, report.gaps, report.open) = (6, 1, 2, 7);
    report.counts = Counts { duplicates: 3, reordered: 4, missing: 5, unfollowed: 8 };
    figures.update(&report);
    let text = ExpositionFormat::OpenMetrics.encode(&registry);
    let bounds = [("0.01", 2), ("0.05", 3), ("0.1", 3), ("0.5", 3), ("1.0", 4), ("2.0", 4), ("5.0", 4), ("+Inf", 5)];
    let mut expected: Vec<String> =
        bounds.iter().map(|(bound, count)| format!("sse_latency_seconds_bucket{{le=\"{bound}\"}} {count}")).collect();
    let others = [
        "# TYPE sse_latency_seconds histogram",
        "sse_latency_seconds_sum 6.726",
        "sse_latency_seconds_count 5",
        "# HELP fanfare_subscriber_events Events received.",
        "# TYPE fanfare_subscriber_events counter",
        "fanfare_subscriber_events_total 6",
        "fanfare_subscriber_reconnects_total 1",
        "fanfare_subscriber_gaps_total 2",
        "fanfare_subscriber_duplicates_total 3",
        "fanfare_subscriber_reordered_total 4",
        "fanfare_subscriber_unfollowed_total 8",
        "fanfare_subscriber_missing_events 5",
        "fanfare_subscriber_streams 7",
    ];
    expected.extend(others.map(str::to_owned));
    for line in expected {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn an_event_stays_on_one_line() {
    assert_eq!(one_line("a\nb\r\nc"), "a\\nb\\r\\nc");
    assert_eq!(one_line("plain"), "plain");
}
