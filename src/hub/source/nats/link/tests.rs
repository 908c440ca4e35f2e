//! What comes over a connection, in pieces of any size, and how a connection ends.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use tokio::sync::Notify;

use super::{Arrivals, Link, LinkEvent, Message, PublishError, Wire, demultiplexer::Demultiplexer};
use crate::{
    protocol::nats::{BadOperation, NatsLimits, ServerInfo},
    source::{ReadBuffer, nats::headers::Headers},
};

const LIMITS: NatsLimits = NatsLimits { line_bytes_max: 100, payload_bytes_max: 20, header_bytes_max: 40 };

/// Far longer than anything takes, and no test waits for it.
const FAR: Duration = Duration::from_secs(60);

fn demultiplexer(limits: NatsLimits) -> Demultiplexer<&'static str> {
    let mut demultiplexer = Demultiplexer::new(limits, ServerInfo::default());
    for tag in ["one", "two", "three"] {
        demultiplexer.add(tag, tag);
    }
    demultiplexer
}

/// What `stream` brings if each of its pieces is a turn: all of each subscription, errors, and what is answered; or the fault, with
/// what came before it.
fn receive(stream: &[u8], piece_bytes: usize, limits: NatsLimits) -> (Vec<String>, Result<(), BadOperation>) {
    let mut demultiplexer = demultiplexer(limits);
    let (mut buffer, mut outgoing) = (ReadBuffer::new(4096), Vec::new());
    let (mut shown, mut outcome) = (Vec::new(), Ok(()));
    for piece in stream.chunks(piece_bytes.max(1)) {
        let mut rest = Some(piece);
        // A piece is less than the buffer has room for.
        buffer.fill(|room| match rest.take() {
            Some(piece) => {
                room[..piece.len()].copy_from_slice(piece);
                Ok(piece.len())
            }
            None => Err(io::ErrorKind::WouldBlock.into()),
        });
        let mut arrivals = Arrivals::new();
        demultiplexer.begin_turn();
        let taken = demultiplexer.take(&mut buffer, &mut outgoing, &mut arrivals);
        outcome = outcome.and(taken);
        for (tag, messages) in arrivals.messages {
            shown.extend(messages.iter().map(|message| format!("{tag}: {}", show(message))));
        }
        shown.extend(arrivals.events.iter().map(|event| format!("{event:?}")));
        if outcome.is_err() {
            break;
        }
    }
    // What is of different subscriptions may change places.
    shown.sort_by_key(|line| line.split(':').next().map(str::to_owned));
    if !outgoing.is_empty() {
        shown.push(String::from_utf8_lossy(&outgoing).into_owned());
    }
    (shown, outcome)
}

fn show(message: &Message) -> String {
    let Message { subject, reply, headers, status, payload, is_oversize } = message;
    let mut text = format!("{subject} {}", payload.escape_ascii());
    text.extend(reply.iter().map(|reply| format!(" reply={reply}")));
    text.extend(status.map(|status| format!(" status={status}")));
    let kind = headers.as_ref().map(|headers| headers.get_escaped("T"));
    text.extend(kind.map(|kind| format!(" T={kind:?}")));
    text + if *is_oversize { " oversize" } else { "" }
}

#[track_caller]
fn check(stream: &[u8], expected: &[&str]) {
    for piece_bytes in 1..=stream.len() {
        let (shown, outcome) = receive(stream, piece_bytes, LIMITS);
        assert_eq!(shown, expected, "in pieces of {piece_bytes}");
        assert_eq!(outcome, Ok(()), "in pieces of {piece_bytes}");
    }
}

#[test]
fn what_comes_is_sorted_by_its_subscription() {
    check(
        b"INFO {\"max_payload\":9}\r\nMSG one 1 1\r\na\r\nMSG x.y 2 back 2\r\nbc\r\nPING\r\nMSG one 1 0\r\n\r\n+OK\r\n\
          -ERR 'no'\r\nMSG one 1 1\r\nd\r\nPONG\r\n",
        &["Error(\"no\")", "one: one a", "one: one ", "one: one d", "two: x.y bc reply=back", "PONG\r\n"],
    );
}

/// Whatever stands in the headers, the message counts.
#[test]
fn headers_of_any_kind_end_nothing() {
    check(
        b"HMSG one 1 18 19\r\nNATS/1.0\r\nT: t\r\n\r\na\r\n\
          HMSG one 1 20 21\r\nNATS/1.0\r\nT: \xFFx\xFE\r\n\r\nb\r\n\
          HMSG one 1 14 15\r\nNATS/1.0\r\nT: tc\r\n\
          HMSG one 1 19 20\r\nNATS/1.0\r\nnone\r\n\r\n\xFFd\r\n\
          HMSG one 1 0 1\r\ne\r\n\
          HMSG one 1 4 5\r\n\r\n\r\nf\r\n\
          HMSG one 1 29 29\r\nNATS/1.0 404 No Messages\r\n\r\n\xFF\r\n\
          MSG one 1 1\r\ng\r\n",
        &[
            "one: one a T=Some(\"t\")",
            "one: one b T=Some(\"%FFx%FE\")",
            "one: one c T=Some(\"t\")",
            "one: one d T=None",
            "one: one e T=None",
            "one: one f T=None",
            "one: one  status=404 T=None",
            "one: one g",
        ],
    );
}

#[test]
fn what_is_no_text_has_a_subject_that_is_no_topics() {
    check(
        b"MSG a\xFFb 1 1\r\n\xFF\r\nMSG one 1 r\xFF 1\r\nb\r\n",
        &["one: a\u{FFFD}b \\xff", "one: one b reply=r\u{FFFD}"],
    );
}

/// Passed over, in its place, whether it came whole or not.
#[test]
fn a_message_over_the_limits_is_passed_over() {
    let large = "x".repeat(100);
    let stream = format!(
        "MSG one 1 1\r\na\r\nMSG one 1 back 100\r\n{large}\r\nMSG one 1 1\r\nb\r\nHMSG two 2 41 42\r\n{}\r\nMSG two 2 1\r\nc\r\n",
        &large[..42]
    );
    let expected = ["one: one a", "one: one  reply=back oversize", "one: one b", "two: two  oversize", "two: two c"];
    check(stream.as_bytes(), &expected);
}

#[test]
fn what_is_not_subscribed_is_nothing() {
    let (shown, outcome) = receive(b"MSG a 9 1\r\na\r\nMSG a 9 21\r\n0123456789012345678901\r\n", 7, LIMITS);
    assert_eq!((shown, outcome), (Vec::new(), Ok(())));
    let mut demultiplexer = demultiplexer(LIMITS);
    assert!(demultiplexer.remove(2) && !demultiplexer.remove(2) && !demultiplexer.remove(9));
    assert_eq!(demultiplexer.add("four", "two"), 4, "no id comes twice");
}

#[test]
fn what_came_before_a_fault_counts() {
    let check = |bytes: &[u8], expected: BadOperation| {
        let stream = [b"MSG one 1 1\r\na\r\n", bytes, b"\r\nMSG one 1 1\r\nb\r\n"].concat();
        for piece_bytes in 1..=stream.len() {
            let (shown, outcome) = receive(&stream, piece_bytes, LIMITS);
            assert_eq!(
                (&shown[..], outcome),
                (&["one: one a".to_owned()][..], Err(expected)),
                "{}",
                bytes.escape_ascii()
            );
        }
    };
    check(b"HELLO", BadOperation::UnknownWord);
    check(b"MSG one 1", BadOperation::BadArguments);
    check(b"HMSG one 1 5 4", BadOperation::BadLength);
    check(b"MSG one 1 1\r\nab", BadOperation::MissingLineEnd);
    check(b"INFO x", BadOperation::BadInfo);
    check(&[b'x'; 101], BadOperation::LineTooLong);
    check(format!("MSG {} 1 1", "s".repeat(100)).as_bytes(), BadOperation::LineTooLong);
}

/// Both ends of a connection to a server that says `info` of itself.
async fn pair(info: &str) -> (Link<&'static str>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let wire = Wire::connect("127.0.0.1", port, 4096).await.expect("it listens");
    let (peer, _) = listener.accept().expect("it came");
    peer.set_read_timeout(Some(FAR)).expect("the time is not zero");
    (Link::new(wire, ServerInfo::parse(info).expect("JSON"), LIMITS), peer)
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(tokio::task::unconstrained(test));
}

/// Reads what the hub sent, which must be `expected`.
#[track_caller]
fn expect(peer: &mut TcpStream, expected: &str) {
    let mut sent = vec![0; expected.len()];
    peer.read_exact(&mut sent).expect("it was sent");
    assert_eq!(String::from_utf8_lossy(&sent), expected);
}

/// The next messages as text, and what else came.
async fn next(link: &mut Link<&'static str>) -> (Vec<String>, Vec<LinkEvent>) {
    let arrivals = link.next(&Notify::new(), FAR).await;
    (show_all(&arrivals.messages), arrivals.events)
}

fn show_all(messages: &[(&'static str, Vec<Message>)]) -> Vec<String> {
    let of_one = |(tag, messages): &(&str, Vec<Message>)| {
        messages.iter().map(|message| format!("{tag}: {}", show(message))).collect::<Vec<_>>()
    };
    messages.iter().flat_map(of_one).collect()
}

#[test]
fn what_is_asked_for_is_sent_in_order() {
    run(async {
        let (mut link, mut peer) = pair(r#"{"headers":true,"max_payload":30}"#).await;
        let one = link.subscribe("one", "a.*").expect("a subject");
        let two = link.subscribe("two", "b").expect("a subject");
        link.publish("b", Some("r"), None, b"x").expect("it is small");
        one.abort();
        let headers = Headers::of([("T", "t")]);
        link.publish("b", None, Some(&headers), "y").expect("it is small");
        let bad = [("", None), ("a b", None), ("a.*", None), ("a", Some("r\r\n"))];
        bad.iter().for_each(|(subject, reply)| {
            assert_eq!(link.publish(subject, *reply, None, b""), Err(PublishError::BadSubject), "{subject}");
        });
        assert_eq!(link.publish("b", None, None, [b'x'; 31]), Err(PublishError::TooBig));
        assert_eq!(link.publish("b", None, Some(&headers), [b'x'; 13]), Err(PublishError::TooBig));
        assert!(link.subscribe("three", "a b").is_err());
        assert!(link.next(&Notify::new(), Duration::ZERO).await.is_empty());
        let published = "PUB b r 1\r\nx\r\nUNSUB 1\r\nHPUB b 18 19\r\nNATS/1.0\r\nT: t\r\n\r\ny\r\n";
        expect(&mut peer, &format!("SUB a.* 1\r\nSUB b 2\r\n{published}"));
        peer.write_all(b"MSG a.x 1 1\r\nx\r\nMSG b 2 1\r\ny\r\nPING\r\n").expect("it reads");
        assert_eq!(next(&mut link).await, (vec!["two: b y".to_owned()], Vec::new()));
        expect(&mut peer, "PONG\r\n");
        two.abort();
        assert!(link.next(&Notify::new(), Duration::ZERO).await.is_empty());
        expect(&mut peer, "UNSUB 2\r\n");
    });
}

#[test]
fn a_server_without_headers_gets_none() {
    run(async {
        let (mut link, _peer) = pair("{}").await;
        assert_eq!(link.publish("a", None, Some(&Headers::of([("T", "t")])), b""), Err(PublishError::NoHeaders));
        assert_eq!(link.publish("a", None, None, vec![0; 100_000]), Ok(()), "it has not said what is too much");
    });
}

#[test]
fn a_notification_ends_the_wait_and_is_not_lost() {
    run(async {
        let (mut link, mut peer) = pair("{}").await;
        let wake = Notify::new();
        wake.notify_one();
        assert!(link.next(&wake, FAR).await.is_empty());
        let _handle = link.subscribe("one", "a");
        peer.write_all(b"MSG a 1 1\r\nx\r\n").expect("it reads");
        wake.notify_one();
        let mut shown = Vec::new();
        while shown.is_empty() {
            shown = show_all(&link.next(&wake, FAR).await.messages);
        }
        assert_eq!(shown, ["one: a x"]);
    });
}

#[test]
fn much_that_is_not_subscribed_keeps_nobody_from_its_own_affairs() {
    run(async {
        let (mut link, mut peer) = pair("{}").await;
        link.subscribe("one", "a").expect("a subject").abort();
        let _handle = link.subscribe("two", "b");
        let ended = "MSG a 1 4\r\nabcd\r\n".repeat(2000);
        peer.write_all(format!("{ended}MSG b 2 1\r\nx\r\n").as_bytes()).expect("it fits into the socket");
        let mut turns = 1;
        loop {
            let (shown, events) = next(&mut link).await;
            assert_eq!(events, []);
            if !shown.is_empty() {
                assert_eq!(shown, ["two: b x"]);
                break;
            }
            turns += 1;
        }
        assert!(ended.len() / 4096 <= turns, "{turns} turns");
    });
}

#[test]
fn what_came_before_the_end_is_handed_on_with_it() {
    run(async {
        let (mut link, mut peer) = pair("{}").await;
        let _handle = link.subscribe("one", "a");
        peer.write_all(b"MSG a 1 1\r\nx\r\n-ERR 'Stale Connection'\r\nMSG a 1 9\r\nhalf").expect("it reads");
        drop(peer);
        let (mut shown, mut events) = (Vec::new(), Vec::new());
        while !matches!(events.last(), Some(LinkEvent::Closed(_))) {
            let (messages, more) = next(&mut link).await;
            shown.extend(messages);
            events.extend(more);
        }
        assert_eq!(shown, ["one: a x"]);
        assert_eq!(events[0], LinkEvent::Error("Stale Connection".to_owned()));
        assert!(link.next(&Notify::new(), Duration::ZERO).await.is_empty() && link.drain().is_empty(), "it has ended");
    });
}

#[test]
fn what_is_no_nats_ends_the_connection_and_says_so() {
    run(async {
        let (mut link, mut peer) = pair("{}").await;
        let _handle = link.subscribe("one", "a");
        peer.write_all(b"MSG a 1 1\r\nx\r\nHTTP/1.1 400 Bad Request\r\n").expect("it reads");
        let (mut shown, mut events) = (Vec::new(), Vec::new());
        while events.is_empty() {
            let (messages, more) = next(&mut link).await;
            shown.extend(messages);
            events = more;
        }
        assert_eq!(shown, ["one: a x"]);
        assert!(
            matches!(&events[..], [LinkEvent::Broken(why)] if why.contains("no word of the NATS protocol")),
            "{events:?}"
        );
    });
}

#[test]
fn what_has_come_is_left_when_the_connection_is_given_up() {
    run(async {
        let (mut link, mut peer) = pair("{}").await;
        let _handle = link.subscribe("one", "a");
        // More than one buffer full.
        let stream: String = (0..2000).map(|number| format!("MSG a 1 4\r\n{number:04}\r\n")).collect();
        peer.write_all(stream.as_bytes()).expect("it fits into the socket");
        let mut shown = show_all(&link.next(&Notify::new(), FAR).await.messages);
        while shown.len() < 2000 {
            let more = show_all(&link.drain());
            assert!(more.len() < 2000);
            shown.extend(more);
            // What the kernel has passed on shows once the runtime has looked.
            tokio::task::yield_now().await;
        }
        assert_eq!(shown, (0..2000).map(|number| format!("one: a {number:04}")).collect::<Vec<_>>());
    });
}

/// A user who does not read: the server cannot send on, and nothing is taken in.
#[test]
fn what_is_not_asked_for_waits_in_the_socket() {
    run(async {
        let (mut link, mut peer) = pair("{}").await;
        let _handle = link.subscribe("one", "a");
        peer.set_nonblocking(true).expect("a socket");
        let piece = b"MSG a 1 4\r\nabcd\r\n".repeat(1000);
        let mut sent = 0;
        while let Ok(count) = peer.write(&piece[sent % piece.len()..]) {
            sent += count;
        }
        let arrivals = link.next(&Notify::new(), FAR).await;
        let count = arrivals.messages.iter().map(|(_, messages)| messages.len()).sum::<usize>();
        assert!(0 < count && count <= 4096 / 17, "{count} at a time");
    });
}
