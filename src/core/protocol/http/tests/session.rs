//! The server's session over time: pipelining, deadlines, memory, upgrades.

use std::time::Duration;

use super::*;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

struct Server {
    session: ServerSession,
    outbox: Outbox,
    limits: HttpLimits,
}

impl Server {
    fn new() -> Self {
        Self { session: ServerSession::new(NOW), outbox: Outbox::new(), limits: HttpLimits::default() }
    }

    fn receive(&mut self, bytes: &[u8], at_s: u64) -> Result<Option<Request>, Close> {
        self.session.receive(bytes, &self.limits, after(at_s))
    }

    fn respond(&mut self) -> bool {
        self.session.respond(&Response::empty(200), DATE, &mut self.outbox)
    }

    /// When the deadline is, in seconds since the accept, and what it would end with.
    fn deadline(&self) -> Option<(u64, Close)> {
        let deadline = self.session.deadline(&self.limits)?;
        Some((deadline.since(NOW).as_secs(), self.session.expire()))
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(self.outbox.pending()).into_owned()
    }
}

fn after(seconds: u64) -> Moment {
    NOW + Duration::from_secs(seconds)
}

#[test]
fn an_idle_session_is_small_and_owns_nothing() {
    assert!(size_of::<ServerSession>() <= 96, "{}", size_of::<ServerSession>());
    let mut server = Server::new();
    for byte in GET.iter().chain(GET) {
        if server.receive(&[*byte], 0).expect("a good request").is_some() {
            server.respond();
            assert!(server.receive(b"", 0).expect("nothing wrong").is_none());
        }
    }
    assert!(server.session.is_idle());
    assert_eq!(server.session.leftover().capacity(), 0);
}

#[test]
fn pipelined_requests_come_one_by_one() {
    let mut server = Server::new();
    let first = server.receive(&[GET, b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxyGET /c"].concat(), 0);
    assert_eq!(first.map(|request| request.map(|request| request.path)), Ok(Some("/a".to_owned())));
    assert!(server.receive(b" HTTP/1.1\r\nHost: a\r\n\r\n", 0).is_ok_and(|request| request.is_none()));
    assert!(server.respond());
    let second = server.receive(b"", 0).expect("a good request").expect("a whole request");
    assert_eq!((second.path.as_str(), second.body.as_slice()), ("/b", &b"xy"[..]));
    assert!(server.respond());
    assert!(server.receive(b"", 0).is_ok_and(|request| request.is_some_and(|request| request.path == "/c")));
    assert!(server.respond());
    assert!(server.receive(b"", 0).is_ok_and(|request| request.is_none()));
}

#[test]
fn nothing_is_read_after_the_last_answer() {
    let mut server = Server::new();
    let closing = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert!(server.receive(&[closing, GET].concat(), 0).is_ok_and(|request| request.is_some()));
    assert!(!server.respond());
    assert_eq!(server.receive(b"", 0).err(), Some(Close::Done));
    assert_eq!(server.deadline(), None);
}

#[test]
fn pipelining_is_bounded() {
    let mut server = Server::new();
    assert!(server.receive(GET, 0).is_ok_and(|request| request.is_some()));
    let room = server.limits.head_bytes_max + server.limits.body_bytes_max;
    assert!(server.receive(&vec![b'x'; room], 0).is_ok_and(|request| request.is_none()));
    assert_eq!(server.receive(b"x", 0).err(), Some(Close::RateLimited));
    assert_eq!(server.receive(b"", 0).err(), Some(Close::RateLimited));
}

#[test]
fn many_small_pipelined_requests_are_all_answered() {
    let count = 5_000;
    let (outcome, _) = serve([GET.repeat(count).as_slice()], &HttpLimits::default());
    assert_eq!((outcome.requests.len(), outcome.end), (count, None));
}

#[test]
fn what_is_retained_is_moved_seldom() {
    for step in [1, 3, 1_000] {
        let (mut retained, mut left, mut moves) = (retained::Retained::default(), 65_536, 0);
        retained.append(&vec![0; left]);
        while step < left {
            let next = retained.pending()[step..].as_ptr();
            retained.advance(step);
            left -= step;
            assert_eq!(retained.len(), left);
            moves += usize::from(retained.pending().as_ptr() != next);
        }
        assert!((4..=17).contains(&moves), "{moves} moves in steps of {step}");
        retained.advance(left);
        assert!(retained.is_empty());
    }
}

#[test]
fn deadlines() {
    let mut server = Server::new();
    assert_eq!(server.deadline(), Some((10, Close::Done)));
    assert!(server.receive(b"POST", 3).is_ok());
    assert_eq!(server.deadline(), Some((10, Close::RequestTimeout)));
    assert!(server.receive(b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n", 4).is_ok());
    assert_eq!(server.deadline(), Some((14, Close::RequestTimeout)));
    assert!(server.receive(b"x", 9).is_ok());
    assert_eq!(server.deadline(), Some((19, Close::RequestTimeout)));
    assert!(server.receive(b"", 12).is_ok());
    assert_eq!(server.deadline(), Some((19, Close::RequestTimeout)));
    for at_s in (10..=58).step_by(8) {
        assert!(server.receive(b"x", at_s).is_ok());
    }
    assert_eq!(server.deadline(), Some((64, Close::RequestTimeout)));
    assert!(server.receive(&[b'x'; 91], 60).is_ok_and(|request| request.is_some()));
    assert_eq!(server.deadline(), None);
    assert!(server.respond());
    assert!(server.receive(b"", 70).is_ok());
    assert_eq!(server.deadline(), Some((145, Close::Done)));
    assert!(server.receive(b"", 80).is_ok());
    assert_eq!(server.deadline(), Some((145, Close::Done)));
    assert!(server.receive(b"G", 100).is_ok());
    assert_eq!(server.deadline(), Some((110, Close::RequestTimeout)));
}

#[test]
fn a_pipelined_head_has_its_own_time() {
    let mut server = Server::new();
    assert!(server.receive(&[GET, b"GET"].concat(), 0).is_ok_and(|request| request.is_some()));
    assert!(server.respond());
    assert!(server.receive(b"", 50).is_ok_and(|request| request.is_none()));
    assert_eq!(server.deadline(), Some((60, Close::RequestTimeout)));
}

#[test]
fn continue_is_written_once_and_only_if_awaited() {
    let check = |fields: &str, body: &str, expected: &str| {
        let mut server = Server::new();
        let _ = server.receive(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").as_bytes(), 0);
        assert_eq!(server.written(), "", "nobody has asked for the body yet: {fields}");
        for _ in 0..2 {
            let _ = server.session.expect_body(usize::MAX, &mut server.outbox);
            assert_eq!(server.written(), expected, "{fields}");
        }
    };
    let interim = "HTTP/1.1 100 Continue\r\n\r\n";
    check("Expect: 100-continue\r\nContent-Length: 3\r\n", "", interim);
    check("Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n", "", interim);
    check("Expect: 100-continue\r\nContent-Length: 3\r\n", "a", "");
    check("Expect: 100-continue\r\nContent-Length: 0\r\n", "", "");
    check("Expect: 100-continue\r\nContent-Length: 9999999\r\n", "", "");
    check("Content-Length: 3\r\n", "", "");
    let mut old = Server::new();
    assert!(old.receive(b"POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", 0).is_ok());
    assert_eq!(old.session.expect_body(usize::MAX, &mut old.outbox), Ok(()));
    assert_eq!(old.written(), "");
}

#[test]
fn a_body_is_announced_once_and_may_be_refused() {
    let begin = |fields: &str, body: &str| {
        let mut server = Server::new();
        let begun = server.receive(format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}").as_bytes(), 0);
        let is_begun = begun.is_ok_and(|request| request.is_none());
        (server, is_begun)
    };
    let check = |fields: &str, body: &str, is_announced: bool, bytes: Option<u64>| {
        let (mut server, _) = begin(fields, body);
        assert_eq!(server.session.announces_body(), is_announced, "{fields}");
        assert!(!server.session.announces_body(), "once: {fields}");
        assert_eq!(server.session.announced_bytes(), bytes, "{fields}");
        assert_eq!(server.session.begun().map(|request| request.path.as_str()), is_announced.then_some("/p"));
    };
    check("", "", false, None);
    check("Content-Length: 3\r\n", "abc", false, None);
    check("Content-Length: 3\r\n", "ab", true, Some(3));
    check("Transfer-Encoding: chunked\r\n", "2\r\nab", true, None);
    check("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n0\r\n\r\n", false, None);

    let (mut server, is_begun) = begin("Content-Length: 9\r\n", "abc");
    assert!(is_begun && server.session.give_up_body().is_some_and(|request| request.body == b"abc"));
    assert!(!server.respond(), "what follows is the rest of the body");
    assert!(server.written().contains("Connection: close\r\n"), "{}", server.written());
    assert_eq!(server.receive(b"defghi", 0).err(), Some(Close::Done));

    let (mut server, _) = begin("Transfer-Encoding: chunked\r\n", "2\r\nab\r\n");
    assert_eq!(server.session.expect_body(4, &mut server.outbox), Ok(()));
    assert!(server.receive(b"2\r\ncd\r\n", 0).is_ok_and(|request| request.is_none()));
    assert_eq!(server.receive(b"1\r\n", 0).err(), Some(Close::BodyTooLarge));
    let (mut server, _) = begin("Content-Length: 5\r\n", "ab");
    assert_eq!(server.session.expect_body(4, &mut server.outbox), Err(Close::BodyTooLarge));
    assert_eq!(server.receive(b"", 0).err(), Some(Close::BodyTooLarge), "an end is final");
}

/// Else a sender would pay for up to twice its body.
#[test]
fn a_body_takes_no_more_memory_than_is_announced() {
    let mut server = Server::new();
    assert!(server.receive(b"POST / HTTP/1.1\r\n", 0).is_ok());
    assert_eq!(server.session.held_bytes(), 17);
    assert!(server.receive(b"Host: a\r\nContent-Length: 100000\r\n\r\n", 0).is_ok());
    for received in (7000..=98_000).step_by(7000) {
        assert!(server.receive(&[b'x'; 7000], 0).is_ok_and(|request| request.is_none()));
        assert!((received..=100_000).contains(&server.session.held_bytes()), "{}", server.session.held_bytes());
    }
    let request = server.receive(&[b'x'; 2000], 0).expect("a good request").expect("a whole one");
    assert_eq!((request.body.len(), request.body.capacity()), (100_000, 100_000));
}

/// The room doubles when there is not enough, and only then.
#[test]
fn a_body_gets_room_when_it_needs_some() {
    let mut server = Server::new();
    assert!(server.receive(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n", 0).is_ok());
    for (piece_bytes, held_bytes) in [(1000, 1000), (1000, 2000), (500, 4000), (500, 4000), (1000, 4000), (1, 8000)] {
        assert!(server.receive(&vec![b'x'; piece_bytes], 0).is_ok_and(|request| request.is_none()));
        assert_eq!(server.session.held_bytes(), held_bytes, "{piece_bytes}");
    }
}

#[test]
fn leftover_belongs_to_the_next_protocol() {
    let mut server = Server::new();
    assert!(server.receive(&[GET, b"\x81\x85"].concat(), 0).is_ok_and(|request| request.is_some()));
    assert!(server.receive(b"\x00", 0).is_ok_and(|request| request.is_none()));
    assert_eq!(server.session.version(), Version::Http11);
    let mut old = Server::new();
    assert!(old.receive(b"GET / HTTP/1.0\r\n\r\n", 0).is_ok_and(|request| request.is_some()));
    assert_eq!(old.session.version(), Version::Http10);
    assert_eq!(server.session.leftover(), b"\x81\x85\x00");
}

#[test]
fn a_refusal_is_not_taken_for_an_answer_to_head() {
    let mut server = Server::new();
    assert!(server.receive(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", 0).is_ok_and(|request| request.is_some()));
    assert!(server.respond());
    let close = server.receive(b"GET / HTTP/1.1\r\n\r\n", 0).expect_err("no Host");
    server.session.refuse(close, DATE, &mut server.outbox);
    let written = server.written();
    assert!(written.ends_with("\"no Host field\"}}") && written.contains("Connection: close\r\n"), "{written}");
}
