//! Sections 5.5.1 and 7: close frames, and the end of the connection, which comes from the server first (7.1.1).

use super::{CLOSE, FIN, HANDSHAKE, PING, TEXT, close, converse, ends, frame, goes_on, pong, read_frames, text};
use crate::client::{PACES, Pace, connect, read_through, read_to_end, send};

#[test]
fn codes() {
    for valid in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999] {
        ends("5.5.1: the code comes back", &[frame(CLOSE, u16::to_be_bytes(valid))], &[], valid);
    }
    for invalid in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535] {
        ends("7.4: a code that must not be sent", &[frame(CLOSE, u16::to_be_bytes(invalid))], &[], 1002);
    }
    ends("5.5.1: without a code", &[frame(CLOSE, "")], &[], 0);
    ends("5.5.1: half a code", &[frame(CLOSE, [3])], &[], 1002);
}

#[test]
fn reasons() {
    let reason = |reason: &[u8]| [frame(CLOSE, [&1000_u16.to_be_bytes(), reason].concat())];
    ends("5.5.1: a reason", &reason("schöne Grüße".as_bytes()), &[], 1000);
    ends("5.5: 125 bytes in all", &reason(&[b'r'; 123]), &[], 1000);
    ends("5.5: at most 125 bytes", &reason(&[b'r'; 124]), &[], 1002);
    for invalid in [&b"\xff"[..], b"ok\xc0\x80", b"\xed\xa0\x80", b"cut \xe2\x82"] {
        ends("5.5.1: a reason is UTF-8", &reason(invalid), &[], 1007);
    }
    ends("5.5: not fragmented", &[frame(CLOSE & !FIN, "")], &[], 1002);
}

#[test]
fn nothing_counts_after_a_close() {
    let end = frame(CLOSE, 1000_u16.to_be_bytes());
    for late in [frame(FIN | TEXT, "late"), frame(PING, "late"), end.clone(), b"\xff\xff\xff".to_vec()] {
        ends("5.5.1: what comes behind is ignored", &[end.clone(), late], &[], 1000);
    }
}

#[test]
fn what_came_before_is_answered_before() {
    let end = frame(CLOSE, 3333_u16.to_be_bytes());
    let both = [frame(FIN | TEXT, "a"), frame(PING, "p"), frame(FIN | TEXT, "b"), end];
    for pace in PACES {
        let got = converse("7.1.5: messages before the close", &both.concat(), pace);
        // Pongs may overtake messages (section 5.5.3), nothing may come behind the close frame.
        assert_eq!(got.last(), Some(&close(3333)));
        assert!(got.len() == 4 && [text("a"), text("b"), pong("p")].iter().all(|frame| got.contains(frame)), "{got:?}");
    }
    let broken = [frame(FIN | TEXT, "a"), frame(FIN | TEXT, [0xff])];
    ends("7.1.7: messages before the failure", &broken, &[text("a")], 1007);
    let many: Vec<Vec<u8>> = (0..50).map(|_| frame(FIN | TEXT, "x".repeat(2000))).collect();
    goes_on("7.1.5: many messages before the close", &many, &vec![text("x".repeat(2000)); 50]);
}

#[test]
fn frames_may_come_with_the_handshake() {
    let end = frame(CLOSE, 1000_u16.to_be_bytes());
    for (frames, expected) in
        [(vec![frame(FIN | TEXT, "a"), end.clone()], vec![text("a"), close(1000)]), (vec![end], vec![close(1000)])]
    {
        for pace in PACES {
            let mut stream = connect();
            send(&mut stream, &[HANDSHAKE, &frames.concat()].concat(), pace);
            let head = read_through(&mut stream, b"\r\n\r\n", "4.2.2: the handshake's answer comes first");
            assert!(head.starts_with(b"HTTP/1.1 101 "));
            let rule = "4.1: what comes behind the handshake";
            assert_eq!(read_frames(rule, &read_to_end(&mut stream, rule)), expected, "{pace:?}");
        }
    }
}

#[test]
fn a_client_that_just_goes_is_no_trouble() {
    let mut stream = connect();
    send(&mut stream, HANDSHAKE, Pace::Whole);
    read_through(&mut stream, b"\r\n\r\n", "the handshake");
    send(&mut stream, &frame(FIN | TEXT, "cut")[..7], Pace::Whole);
    stream.shutdown(std::net::Shutdown::Write).expect("it is connected");
    assert_eq!(read_to_end(&mut stream, "7.1.1: the other side's end"), b"");
}
