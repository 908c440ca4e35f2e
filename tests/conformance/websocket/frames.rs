//! Sections 5.1 to 5.3, 5.5 and 5.6: single frames.

use super::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, binary, ends, frame, goes_on, pong, text};
use crate::application::MESSAGE_BYTES_MAX;

#[test]
fn payload_lengths() {
    for length in [0, 1, 2, 125, 126, 127, 128, 65_535, 65_536, 65_537] {
        let payload = "x".repeat(length);
        goes_on("5.2: every length of text", &[frame(FIN | TEXT, &payload)], &[text(&payload)]);
        goes_on("5.2: every length of binary", &[frame(FIN | BINARY, &payload)], &[binary(&payload)]);
    }
    let largest = vec![0xfe; MESSAGE_BYTES_MAX];
    goes_on("5.2: a 64-bit length", &[frame(FIN | BINARY, &largest)], &[binary(&largest)]);
    ends("7.4.1: too big", &[frame(FIN | BINARY, [&largest[..], b"x"].concat())[..14].to_vec()], &[], 1009);
}

#[test]
fn lengths_are_in_their_shortest_form() {
    let header = |length: &[u8]| [&[FIN | TEXT][..], length, b"\0\0\0\0"].concat();
    let check = |length: &[u8], code: u16| ends("5.2: the minimal number of bytes", &[header(length)], &[], code);
    check(&[0xfe, 0, 0], 1002);
    check(&[0xfe, 0, 125], 1002);
    check(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0], 1002);
    check(&[0xff, 0, 0, 0, 0, 0, 0, 0, 126], 1002);
    check(&[0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], 1002);
    let check = |length: &[u8], code: u16| ends("5.2: the highest bit is zero", &[header(length)], &[], code);
    check(&[0xff, 0x80, 0, 0, 0, 0, 1, 0, 0], 1002);
    check(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1002);
    check(&[0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], 1009);
}

#[test]
fn clients_mask() {
    for bare in [&b"\x81\x05hello"[..], b"\x82\0", b"\x89\0", b"\x8a\x01x", b"\x88\x02\x03\xe8", b"\x81\x7e\0\x80"] {
        ends("5.1: a server closes upon a frame that is not masked", &[bare.to_vec()], &[], 1002);
    }
    // The standard's own example (section 5.7), and a key that hides nothing.
    goes_on("5.3: masking", &[b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58".to_vec()], &[text("Hello")]);
    goes_on("5.3: any key", &[b"\x81\x85\0\0\0\0Hello".to_vec()], &[text("Hello")]);
}

#[test]
fn reserved_bits() {
    for bits in 1..=7 {
        for first in [FIN | TEXT, FIN | BINARY, TEXT, PING, PONG, CLOSE] {
            ends("5.2: reserved bits without an extension", &[frame(first | bits << 4, "")], &[], 1002);
        }
    }
    let inside = [frame(TEXT, "a"), frame(CONTINUATION | 0x40, "b")];
    ends("5.2: reserved bits in a continuation", &inside, &[], 1002);
}

#[test]
fn reserved_opcodes() {
    for opcode in (3..=7).chain(11..=15) {
        for fin in [0, FIN] {
            ends("5.2: an unknown opcode", &[frame(fin | opcode, "")], &[], 1002);
            let behind = [frame(FIN | TEXT, "a"), frame(fin | opcode, "payload"), frame(PING, "")];
            ends("5.2: an unknown opcode behind a message", &behind, &[text("a")], 1002);
        }
    }
}

#[test]
fn pings() {
    for payload in ["", "hello", &"p".repeat(125)] {
        goes_on("5.5.3: a pong has the ping's data", &[frame(PING, payload)], &[pong(payload)]);
    }
    goes_on("5.5.2: any bytes", &[frame(PING, [0, 0xff, 0xfe, 0xc3])], &[pong([0, 0xff, 0xfe, 0xc3])]);
    let ten: Vec<Vec<u8>> = (0..10).map(|number| frame(PING, [number])).collect();
    goes_on("5.5.3: one after the other", &ten, &(0..10).map(|number| pong([number])).collect::<Vec<_>>());
    ends("5.5: at most 125 bytes", &[frame(PING, [b'p'; 126])], &[], 1002);
    ends("5.5: at most 125 bytes, by the header alone", &[b"\x89\xfe\0\x7e\0\0\0\0".to_vec()], &[], 1002);
    ends("5.5: not fragmented", &[frame(PING & !FIN, "")], &[], 1002);
}

#[test]
fn pongs() {
    for payload in ["", "unsolicited", &"p".repeat(125)] {
        goes_on("5.5.3: a response to a pong is not expected", &[frame(PONG, payload)], &[]);
    }
    goes_on("5.5.3: a pong between", &[frame(PONG, "x"), frame(PING, "y"), frame(PONG, "z")], &[pong("y")]);
    ends("5.5: at most 125 bytes", &[frame(PONG, [b'p'; 126])], &[], 1002);
    ends("5.5: not fragmented", &[frame(PONG & !FIN, "")], &[], 1002);
}

#[test]
fn messages() {
    goes_on("5.6: text as text", &[frame(FIN | TEXT, "grüße")], &[text("grüße")]);
    goes_on("5.6: binary is any bytes", &[frame(FIN | BINARY, [0, 0xc0, 0xff])], &[binary([0, 0xc0, 0xff])]);
    let many: Vec<Vec<u8>> = (0..100).map(|number: u32| frame(FIN | TEXT, number.to_string())).collect();
    let answers: Vec<_> = (0..100).map(|number: u32| text(number.to_string())).collect();
    goes_on("5.4: messages are answered in order", &many, &answers);
}
