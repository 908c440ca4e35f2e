//! Section 5.4: messages in several frames, and control frames between them.

use super::{BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, TEXT, binary, ends, frame, goes_on, pong, text};
use crate::application::{FRAGMENTS_MAX, MESSAGE_BYTES_MAX};

#[test]
fn fragments_make_a_message() {
    let check = |sent: &[Vec<u8>], whole: &str| goes_on("5.4: a fragmented message", sent, &[text(whole)]);
    check(&[frame(TEXT, "a"), frame(FIN, "b")], "ab");
    check(&[frame(TEXT, "a"), frame(CONTINUATION, "b"), frame(FIN, "c")], "abc");
    check(&[frame(TEXT, ""), frame(FIN, "")], "");
    check(&[frame(TEXT, ""), frame(CONTINUATION, "b"), frame(FIN, "")], "b");
    check(&[frame(TEXT, "x".repeat(126)), frame(FIN, "x".repeat(65_536))], &"x".repeat(65_662));
    let sent = [frame(BINARY, [0xff]), frame(FIN, [0xfe])];
    goes_on("5.4: the first frame tells the kind", &sent, &[binary([0xff, 0xfe])]);
    let sent = [frame(TEXT, "a"), frame(FIN, "b"), frame(FIN | BINARY, "c"), frame(TEXT, "d"), frame(FIN, "")];
    goes_on("5.4: one message after the other", &sent, &[text("ab"), binary("c"), text("d")]);
}

#[test]
fn control_frames_come_between_fragments() {
    let sent = [frame(TEXT, "a"), frame(PING, "p"), frame(CONTINUATION, "b"), frame(PONG, "q"), frame(FIN, "c")];
    goes_on("5.4: control frames in the middle", &sent, &[pong("p"), text("abc")]);
    let sent = [frame(BINARY, "a"), frame(PING, ""), frame(PING, [b'p'; 125]), frame(FIN, "b")];
    goes_on("5.4: several control frames", &sent, &[pong(""), pong([b'p'; 125]), binary("ab")]);
    let sent = [frame(TEXT, "a"), frame(PING, "p"), frame(CLOSE, 1001_u16.to_be_bytes()), frame(FIN, "b")];
    ends("5.5.1: a close in the middle", &sent, &[pong("p")], 1001);
}

#[test]
fn fragments_out_of_place() {
    ends("5.4: nothing to continue", &[frame(FIN, "a")], &[], 1002);
    ends("5.4: nothing to continue", &[frame(CONTINUATION, "a")], &[], 1002);
    let sent = [frame(FIN | TEXT, "a"), frame(FIN, "b"), frame(PING, "")];
    ends("5.4: nothing to continue after a whole message", &sent, &[text("a")], 1002);
    let sent = [frame(TEXT, "a"), frame(FIN, "b"), frame(FIN, "c")];
    ends("5.4: nothing to continue after a fragmented one", &sent, &[text("ab")], 1002);
    for first in [FIN | TEXT, TEXT, FIN | BINARY, BINARY] {
        ends("5.4: a new message within another", &[frame(TEXT, "a"), frame(first, "b")], &[], 1002);
        ends("5.4: by the header alone", &[frame(BINARY, "a"), frame(first, "b")[..6].to_vec()], &[], 1002);
    }
}

#[test]
fn messages_have_a_size() {
    let half = vec![b'x'; MESSAGE_BYTES_MAX / 2];
    let sent = [frame(BINARY, &half), frame(FIN, &half)];
    goes_on("10.4: the largest message, in two", &sent, &[binary([&half[..], &half].concat())]);
    let sent = [frame(BINARY, &half), frame(CONTINUATION, &half), frame(FIN, "x")[..6].to_vec()];
    ends("7.4.1: too big in all", &sent, &[], 1009);
    let empty = frame(CONTINUATION, "");
    let many = empty.repeat(FRAGMENTS_MAX as usize - 2);
    let sent = [frame(TEXT, "a"), many.clone(), frame(FIN, "z")];
    goes_on("10.4: the most fragments", &sent, &[text("az")]);
    ends("7.4.1: one fragment more", &[frame(TEXT, "a"), many, empty.repeat(2)], &[], 1009);
}
