use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::{
    super::{access::HubAccess, link::Address, options::AccessOptions, stream::Transport},
    ClientEvent, ClientPool, ClientSpec,
    backoff::wait_for,
    resume::ResumePoint,
};

#[test]
fn waits() {
    let check = |failures, asked_ms: Option<u64>, chance, expected_ms| {
        let wait = wait_for(failures, asked_ms.map(Duration::from_millis), chance);
        assert_eq!(wait, Duration::from_millis(expected_ms), "{failures} {asked_ms:?} {chance}");
    };
    check(0, None, 0.0, 250);
    check(0, None, 1.0, 375);
    check(2, None, 0.0, 1000);
    check(100, None, 0.0, 15_000);
    check(0, Some(2000), 0.0, 2000);
    check(1, Some(2000), 0.5, 5000);
    check(3, Some(60_000), 0.0, 60_000);
    check(0, Some(u64::MAX), 0.0, 3_600_000);
}

fn spec(transport: Transport, topics: &[&str], since: Option<&str>) -> ClientSpec {
    let topics = topics.iter().map(|&topic| topic.to_owned()).collect();
    ClientSpec { target: "/x?topic=a".into(), topics, transport, since: since.map(str::to_owned) }
}

#[test]
fn places() {
    let check = |transport, topics: &[&str], since, ids: &[(&str, &str)], expected: (&str, &str)| {
        let mut resume = ResumePoint::new(&spec(transport, topics, since));
        resume.open();
        ids.iter().for_each(|(topic, id)| resume.advance(topic, id));
        let (target, field) = resume.request("/x?topic=a");
        assert_eq!((target.as_str(), field.as_str()), expected, "{transport:?} {topics:?} {ids:?}");
    };
    check(Transport::Sse, &["a"], None, &[], ("/x?topic=a", ""));
    check(Transport::Sse, &["a"], Some("first"), &[], ("/x?topic=a", "first"));
    check(Transport::Sse, &["a"], Some("first"), &[("", "1-1"), ("", "1-2"), ("", "")], ("/x?topic=a", "1-2"));
    check(Transport::Ws, &["a"], Some("1-1"), &[], ("/x?topic=a", ""));
    check(Transport::FanfareV1, &["a"], Some("first"), &[("a", "1-2")], ("/x?topic=a&since=1-2", ""));
    check(Transport::FanfareV1, &["a", "b"], None, &[("b", "1-2")], ("/x?topic=a", ""));
    check(Transport::FanfareV1, &["a", "b"], None, &[("b", "1-2"), ("a", "1-9")], ("/x?topic=a&since=1-9%2C1-2", ""));
}

/// Reads a request's head.
fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("a whole request");
        head.push(byte[0]);
    }
    String::from_utf8(head).expect("it is ours")
}

/// Plays `answers` to one connection each, closing in between; returns the requests.
fn serve(answers: &'static [&'static str]) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let play = move |answer: &&str| {
        let (mut stream, _) = listener.accept().expect("a client");
        let head = read_head(&mut stream);
        stream.write_all(answer.as_bytes()).expect("the client reads");
        head
    };
    (url, thread::spawn(move || answers.iter().map(play).collect()))
}

/// The hub at `url`, which asks for nothing.
fn access(url: &str) -> HubAccess {
    AccessOptions::default().hub(&url.parse().expect("a good URL")).expect("nothing is asked for")
}

/// Turns until the crowd is deserted; returns what was told.
fn tell_all(pool: &mut ClientPool) -> Vec<String> {
    let mut told = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !pool.is_finished() {
        assert!(Instant::now() < deadline, "it should be over: {told:?}");
        let turn = pool.turn(Duration::from_secs(1), &mut |index, event, _| {
            told.push(match event {
                ClientEvent::Opened { is_return } => format!("{index} opened {is_return}"),
                ClientEvent::Event { id, kind, data } => {
                    format!("{index} {id}|{kind}|{}", String::from_utf8_lossy(data))
                }
                ClientEvent::Gap(text) | ClientEvent::Notice(text) => format!("{index} {text}"),
                ClientEvent::Closed { reason, is_final, .. } => format!("{index} {reason} {is_final}"),
            });
        });
        turn.expect("the poll works");
    }
    told
}

#[test]
fn a_stream_comes_back_behind_its_last_event_until_it_is_refused() {
    let (url, server) = serve(&[
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\nid: 1-1\ndata: a\n\nid: 1-2\n\ndata: cut",
        "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent: gap\ndata: {}\n\nid: 1-4\nevent: b\ndata: c\n\n",
        "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno",
    ]);
    let mut pool = ClientPool::open(&access(&url), vec![spec(Transport::Sse, &["a"], None)]).expect("a poll");
    let expected = [
        "0 opened false",
        "0 1-1||a",
        "0 the hub ended the stream false",
        "0 the hub answered 503: busy false",
        "0 opened true",
        "0 gap: {}",
        "0 1-4|b|c",
        "0 the hub ended the stream false",
        "0 the hub answered 403: no true",
    ];
    let told = tell_all(&mut pool);
    let told: Vec<String> = told
        .into_iter()
        .map(|line| line.replace("the hub closed the connection", "the hub ended the stream"))
        .collect();
    assert_eq!(told, expected);
    let counts = pool.counts();
    assert_eq!((counts.opened, counts.closed, counts.returns, counts.failed, counts.refused), (2, 2, 1, 2, 1));
    let requests = server.join().expect("four clients came");
    let fields = requests.iter().map(|head| head.lines().find_map(|line| line.strip_prefix("Last-Event-ID: ")));
    assert_eq!(fields.collect::<Vec<_>>(), [None, Some("1-2"), Some("1-2"), Some("1-4")]);
}

#[test]
fn a_stream_without_ids_says_that_something_is_missing() {
    let (url, server) = serve(&[
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 1\ndata: a\n\n",
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: b\n\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ]);
    let mut pool = ClientPool::open(&access(&url), vec![spec(Transport::Sse, &["a"], None)]).expect("a poll");
    let told = tell_all(&mut pool);
    let gap = told.iter().position(|line| line.contains("what came meanwhile is missing"));
    assert_eq!(gap, told.iter().position(|line| line == "0 opened true").map(|index| index + 1), "{told:?}");
    server.join().expect("three clients came");
}

/// `localhost` is often two addresses, at one of which nobody listens.
#[test]
fn the_addresses_of_a_host_are_one_attempt() {
    const REFUSAL: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno";
    let (url, server) = serve(&[REFUSAL]);
    let mut pool = ClientPool::open(&access(&url), vec![spec(Transport::Sse, &["a"], None)]).expect("a poll");
    let unused = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    pool.addresses.insert(0, Address::Tcp(unused.expect("a free port")));
    assert_eq!(tell_all(&mut pool), ["0 the hub answered 403: no true"]);
    assert_eq!((pool.counts().failed, pool.counts().refused), (1, 1));
    server.join().expect("a client came");
}
