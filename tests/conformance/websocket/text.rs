//! Section 8.1: text is UTF-8 (RFC 3629), and fails as soon as it cannot be.

use super::{BINARY, CONTINUATION, FIN, PING, TEXT, binary, ends, frame, goes_on, pong, text};

/// The first and the last character of every length, those around the surrogates, and some that mean nothing.
const VALID: &[&str] = &[
    "\0",
    "\u{7f}",
    "\u{80}",
    "\u{7ff}",
    "\u{800}",
    "\u{fff}",
    "\u{1000}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{fdd0}",
    "\u{fffd}",
    "\u{fffe}",
    "\u{ffff}",
    "\u{10000}",
    "\u{1f980}",
    "\u{3ffff}",
    "\u{40000}",
    "\u{fffff}",
    "\u{100000}",
    "\u{10ffff}",
    "κόσμε",
    "Hello-µ@ßöäüàá-UTF-8!!",
    "\u{feff}bom",
];

/// Byte sequences that no continuation makes valid: the last byte of each is the one that shows it.
const INVALID: &[&[u8]] = &[
    // A continuation byte without a beginning.
    b"\x80",
    b"\xbf",
    b"\xc3\xa9\xa9",
    // A character that is cut off by another.
    b"\xc3A",
    b"\xc3\xc3",
    b"\xe2\x82A",
    b"\xe2A",
    b"\xf0\x9f\xa6A",
    b"\xf0\x9f\xf0",
    // Forms longer than need be.
    b"\xc0",
    b"\xc1",
    b"\xe0\x80",
    b"\xe0\x9f",
    b"\xf0\x80",
    b"\xf0\x8f",
    // Surrogates.
    b"\xed\xa0",
    b"\xed\xad",
    b"\xed\xae",
    b"\xed\xbf",
    // Beyond U+10FFFF.
    b"\xf4\x90",
    b"\xf4\xbf",
    b"\xf5",
    b"\xf8",
    b"\xfb",
    b"\xfc",
    b"\xfd",
    // Bytes that never occur.
    b"\xfe",
    b"\xff",
];

#[test]
fn valid_text() {
    for valid in VALID {
        goes_on("8.1: valid", &[frame(FIN | TEXT, valid)], &[text(valid)]);
    }
}

#[test]
fn characters_may_be_cut_by_fragments() {
    for valid in VALID {
        for cut in 0..=valid.len() {
            let (before, behind) = valid.as_bytes().split_at(cut);
            let sent = [frame(TEXT, before), frame(PING, "between"), frame(FIN, behind)];
            goes_on("5.6: a frame may end within a character", &sent, &[pong("between"), text(valid)]);
        }
        let bytes = valid.as_bytes().chunks(1);
        let mut sent = vec![frame(TEXT, "")];
        sent.extend(bytes.map(|byte| frame(CONTINUATION, byte)));
        sent.push(frame(FIN, ""));
        goes_on("5.6: a frame per byte", &sent, &[text(valid)]);
    }
}

#[test]
fn invalid_text() {
    for invalid in INVALID {
        for before in ["", "a", "é", "🦀", &"x".repeat(130)] {
            let payload = [before.as_bytes(), invalid, b"more"].concat();
            ends("8.1: invalid", &[frame(FIN | TEXT, &payload)], &[], 1007);
        }
        goes_on("5.6: binary is not text", &[frame(FIN | BINARY, invalid)], &[binary(invalid)]);
    }
}

/// Not a byte is sent behind the first one that shows it.
#[test]
fn invalid_text_fails_at_once() {
    for invalid in INVALID {
        ends("8.1: at a fragment's end", &[frame(TEXT, [b"ok ", *invalid].concat())], &[], 1007);
        let fragments = [frame(TEXT, "κόσμε"), frame(PING, "p"), frame(CONTINUATION, invalid)];
        ends("8.1: in a later fragment", &fragments, &[pong("p")], 1007);
        let (seen, unseen) = (invalid.len() + 3, 1000);
        let announced = frame(FIN | TEXT, [b"ok ", *invalid, &vec![b'x'; unseen]].concat());
        let begun = announced[..announced.len() - unseen].to_vec();
        assert_eq!(begun.len(), 8 + seen);
        ends("8.1: within a frame", std::slice::from_ref(&begun), &[], 1007);
        ends("8.1: within a frame behind a message", &[frame(FIN | TEXT, "a"), begun], &[text("a")], 1007);
        if let [before @ .., last] = invalid {
            let cut = [frame(TEXT, before), frame(CONTINUATION, [*last, b'x'])];
            ends("8.1: within a character that two fragments share", &cut, &[], 1007);
        }
    }
}

#[test]
fn text_does_not_end_within_a_character() {
    for begun in [&b"\xc3"[..], b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f", b"\xf0\x9f\xa6", b"\xf4\x8f\xbf"] {
        ends("8.1: cut at the end", &[frame(FIN | TEXT, [b"ok", begun].concat())], &[], 1007);
        ends("8.1: cut at the last fragment's end", &[frame(TEXT, begun), frame(FIN, "")], &[], 1007);
        ends("8.1: cut at the last fragment's end", &[frame(TEXT, "a"), frame(FIN, begun)], &[], 1007);
    }
}
