//! Socket.IO sessions over polling, whichever reactor each request arrives at.

use std::time::{Duration, Instant};

use fanfare_core::protocol::http::Method;
use serde_json::json;

use crate::support::{
    http::HttpConnection,
    hub::Hub,
    socket_io::{BY_POLLING, CLOSE, Carried, OVER_WEBSOCKET, Polled, SocketClient, sessions},
    wait_until,
};

/// Many packets a second are allowed, so that the test itself is not limited.
const IN_HASTE: (&str, &str) = ("limits.messages_per_second", "10000");

fn post_head(client: &Polled, body: &str) -> String {
    format!("POST {} HTTP/1.1\r\nHost: hub\r\nContent-Length: {}\r\n\r\n{body}", client.target(), body.len())
}

fn poll_head(client: &Polled) -> String {
    format!("GET {} HTTP/1.1\r\nHost: hub\r\n\r\n", client.target())
}

fn wait_for_sessions(hub: &Hub, count: u64) {
    wait_until(&format!("{count} sessions"), || (sessions(hub) == count).then_some(()));
}

#[test]
fn requests_find_their_session_at_whatever_reactor_they_come_in() {
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    let mut clients: Vec<Polled> = (0..12).map(|_| Polled::open(&hub).enter()).collect();
    clients.iter_mut().for_each(|client| client.subscribe("t"));
    for number in 0..100 {
        hub.publish("t", number.to_string());
    }
    for client in &mut clients {
        for number in 0..100 {
            assert_eq!(client.expect_event("message"), number);
        }
        assert_eq!(client.batches.last(), Some(&16), "as many as there are, but no more than some clients take");
    }
    assert_eq!(sessions(&hub), 12);
    for client in &mut clients {
        client.send(CLOSE);
    }
    wait_for_sessions(&hub, 0);
    hub.wait_for_listeners("t", 0);
}

#[test]
fn one_connection_carries_the_requests_of_many_sessions() {
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    let mut clients: Vec<Polled> = (0..12).map(|_| Polled::open(&hub)).collect();
    let mut shared = HttpConnection::new(clients[0].connect());
    // All at once: each is answered before the next one is read, at whichever reactor the connection is by then.
    let all: String = clients
        .iter()
        .map(|client| post_head(client, "40") + &poll_head(client) + "GET /health HTTP/1.1\r\nHost: hub\r\n\r\n")
        .collect();
    shared.send(all.as_bytes());
    for client in &mut clients {
        assert_eq!(shared.receive().text(), "ok");
        let response = shared.receive();
        client.take(&response);
        assert_eq!(shared.receive().status, 200);
        assert!(client.next_packet().starts_with("40{"));
        client.expect_event("connected");
    }
    // And one after the other.
    for number in 0..5 {
        for client in &mut clients {
            let post = format!("42{}", json!(["ping", number]));
            let answer = shared.request(Method::Post, &client.target(), &[], post.as_bytes());
            assert_eq!(answer.text(), "ok");
            let response = shared.request(Method::Get, &client.target(), &[], b"");
            client.take(&response);
            client.expect_event("pong");
        }
    }
}

#[test]
fn requests_cut_anywhere_are_whole_at_another_reactor() {
    let hub = Hub::start_with(&["--reactors", "4"], &[IN_HASTE]);
    let mut clients: Vec<Polled> = (0..4).map(|_| Polled::open(&hub)).collect();
    let mut shared = HttpConnection::new(clients[0].connect());
    let all: String = clients.iter().map(|client| post_head(client, "40") + &poll_head(client)).collect();
    for piece in all.as_bytes().chunks(7) {
        shared.send(piece);
    }
    for client in &mut clients {
        assert_eq!(shared.receive().text(), "ok");
        let response = shared.receive();
        client.take(&response);
        assert!(client.next_packet().starts_with("40{"));
    }
}

#[test]
fn a_poll_that_waits_is_answered_when_something_comes() {
    let hub = Hub::start_with(&["--reactors", "4"], &[]);
    let mut client = Polled::open(&hub).enter();
    client.subscribe("t");
    let mut publisher = HttpConnection::new(hub.connect());
    let mut shortest = Duration::MAX;
    for number in 0..30 {
        let mut waiting = client.begin_poll();
        let began = Instant::now();
        assert_eq!(publisher.request(Method::Post, "/publish/t", &[], number.to_string().as_bytes()).status, 200);
        let response = waiting.receive();
        shortest = shortest.min(began.elapsed());
        client.take(&response);
        assert_eq!(client.expect_event("message"), number);
    }
    assert!(shortest < Duration::from_millis(100), "a poll waits for events and not for a timer: {shortest:?}");
}

#[test]
fn two_polls_at_once_end_the_session() {
    let hub = Hub::start_with(&["--reactors", "4"], &[]);
    let client = Polled::open(&hub).enter();
    let mut polls = [client.begin_poll(), client.begin_poll()].map(|mut poll| {
        let response = poll.receive();
        (response.status, response.text())
    });
    polls.sort();
    assert_eq!(polls[0], (200, CLOSE.to_owned()));
    assert_eq!(polls[1].0, 400);
    wait_for_sessions(&hub, 0);
    assert_eq!((client.poll().status, client.post("3").status), (400, 400));
}

#[test]
fn a_poll_that_is_cut_off_ends_the_session() {
    let hub = Hub::start_with(&["--reactors", "4"], &[]);
    for _ in 0..8 {
        let client = Polled::open(&hub).enter();
        drop(client.begin_poll());
        wait_for_sessions(&hub, 0);
        assert_eq!(client.poll().json()["code"], 1);
    }
}

#[test]
fn requests_that_fit_no_session_are_refused_by_the_protocols_numbers() {
    let hub = Hub::start_with(&["--reactors", "2"], &[]);
    let client = Polled::open(&hub);
    let check = |method: Method, target: &str, code: u64| {
        let headers = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let headers = if target.contains("=websocket") { &headers[..] } else { &[] };
        let response = HttpConnection::new(hub.connect()).request(method, target, headers, b"");
        assert_eq!((response.status, &response.json()["code"]), (400, &json!(code)), "{method:?} {target}");
    };
    check(Method::Get, "/socket.io/?EIO=4", 0);
    check(Method::Get, "/socket.io/?EIO=4&transport=carrier-pigeon", 0);
    // Session ids without the right form, of each reactor, and of none.
    for sid in ["", "nonsense", "AAAAAAAAAAAAAAAAAAAAAA", "AQAAAAAAAAAAAAAAAAAAAA", "_wAAAAAAAAAAAAAAAAAAAA"] {
        check(Method::Get, &format!("{BY_POLLING}&sid={sid}"), 1);
        check(Method::Post, &format!("{BY_POLLING}&sid={sid}"), 1);
        check(Method::Get, &format!("{OVER_WEBSOCKET}&sid={sid}"), 1);
    }
    check(Method::Post, BY_POLLING, 2);
    check(Method::Get, "/socket.io/?EIO=3&transport=polling", 5);
    check(Method::Get, "/socket.io/?transport=websocket", 5);
    assert_eq!(client.post("40").text(), "ok", "nobody else is harmed");
}

/// A client that opens sessions without end does not keep out clients with a token.
#[test]
fn sessions_count_against_the_limit_on_connections_once_they_are_in_a_namespace() {
    for (limit, why) in [
        ("server.max_connections", "the hub has all the connections"),
        ("server.max_connections_per_ip", "this address has all the connections"),
    ] {
        let hub = Hub::start_with(&["--reactors", "1"], &[(limit, "4")]);
        let mut shared = HttpConnection::new(hub.connect());
        let mut ask = |method, target: &str, body: &str| {
            let response = shared.request(method, target, &[], body.as_bytes());
            assert_eq!(response.status, 200, "{target}: {}", response.text());
            response.text()
        };
        let open = |text: String| {
            let handshake: serde_json::Value = serde_json::from_str(&text[1..]).expect("a handshake");
            format!("{BY_POLLING}&sid={}", handshake["sid"].as_str().expect("a text"))
        };
        let targets: Vec<String> = (0..30).map(|_| open(ask(Method::Get, BY_POLLING, ""))).collect();
        // The connection of this request is one of them.
        for (number, target) in targets.iter().enumerate() {
            ask(Method::Post, target, "40");
            let received = ask(Method::Get, target, "");
            let expected = if number < 3 { "40{".to_owned() } else { format!("44{{\"message\":\"{why}") };
            assert!(received.starts_with(&expected), "{number}: {received}");
        }
        // A session that ends makes room.
        ask(Method::Post, &targets[0], "1");
        wait_until("there is room", || {
            ask(Method::Post, &targets[29], "40");
            ask(Method::Get, &targets[29], "").starts_with("40{").then_some(())
        });
    }
}

#[test]
fn the_oldest_session_in_no_namespace_makes_room() {
    for limit in ["socketio.max_pending", "socketio.max_pending_per_ip"] {
        let hub = Hub::start_with(&["--reactors", "1"], &[(limit, "3")]);
        let entered = Polled::open(&hub).enter();
        let sessions = [(); 4].map(|()| Polled::open(&hub));
        let statuses = sessions.each_ref().map(|session| session.post("3").status);
        assert_eq!(statuses, [400, 200, 200, 200], "{limit}");
        wait_for_sessions(&hub, 4);
        let [.., newest] = sessions;
        for mut client in [newest.enter(), entered] {
            client.emit("ping", &json!(null));
            client.expect_event("pong");
        }
    }
}

#[test]
fn a_payload_over_the_limit_ends_the_session() {
    let hub = Hub::start_with(&[], &[("socketio.max_payload", "1000")]);
    let mut client = Polled::open(&hub).enter();
    assert_eq!(client.handshake["maxPayload"], 1000);
    let event = |bytes: usize| format!("42[\"ping\",\"{}\"]", "x".repeat(bytes - 13));
    client.send(&event(1000));
    client.expect_event("pong");
    assert_eq!(client.post(&event(1001)).status, 413);
    client.wait_for_end();
    wait_for_sessions(&hub, 0);

    let mut client = Carried::open(&hub).enter();
    client.send(&event(1000));
    client.expect_event("pong");
    client.send(&event(1001));
    client.wait_for_end();
    assert_eq!(client.close_code, Some(1009));
    wait_for_sessions(&hub, 0);
}

/// The number of packets in a request is limited only by the size of the body, unless a key sets a limit.
#[test]
fn a_request_may_have_many_packets() {
    let hub = Hub::start_with(&[], &[IN_HASTE]);
    let mut client = Polled::open(&hub).enter();
    // All packets behind the long one wait.
    let long = format!("42[\"publish\",{{\"topic\":\"t\",\"data\":\"{}\"}}]", "x".repeat(100_000));
    let publication = |number: usize| format!("42[\"publish\",{{\"topic\":\"t\",\"data\":{number}}}]");
    let packets: Vec<String> = (0..1000).map(publication).chain([long]).chain((1000..2000).map(publication)).collect();
    let mut listener = Carried::open(&hub).enter();
    listener.subscribe("t");
    assert_eq!(client.post(&packets.join("\u{1e}")).status, 200);
    for number in 0..2001 {
        let expected = match number {
            0..1000 => json!(number),
            1000 => json!("x".repeat(100_000)),
            _ => json!(number - 1),
        };
        assert_eq!(listener.expect_event("message"), expected);
        client.expect_event("published");
    }
    let hub = Hub::start_with(&[], &[IN_HASTE, ("socketio.max_packets", "3")]);
    let mut client = Polled::open(&hub).enter();
    assert_eq!(client.post(&["42[\"ping\"]"; 3].join("\u{1e}")).status, 200);
    assert_eq!(client.post(&["42[\"ping\"]"; 4].join("\u{1e}")).status, 400);
    client.wait_for_end();
    wait_for_sessions(&hub, 0);
}

#[test]
fn a_session_without_polls_ends() {
    let hub = Hub::start_with(&[], &[("socketio.ping_interval", "30ms"), ("socketio.ping_timeout", "60ms")]);
    let began = Instant::now();
    let client = Polled::open(&hub).enter();
    wait_for_sessions(&hub, 0);
    assert!(Duration::from_millis(60) <= began.elapsed(), "not before a ping was left unanswered");
    client.post("3");
    wait_until("it is forgotten", || (client.post("3").status == 400).then_some(()));
}

#[test]
fn a_session_in_no_namespace_ends() {
    let hub = Hub::start_with(&[], &[("socketio.connect_timeout", "50ms")]);
    let (_polled, mut carried) = (Polled::open(&hub), Carried::open(&hub));
    carried.wait_for_end();
    wait_for_sessions(&hub, 0);
    // A client that has entered a namespace stays.
    let mut entered = Carried::open(&hub).enter();
    let (_polled, mut carried) = (Polled::open(&hub), Carried::open(&hub));
    carried.wait_for_end();
    wait_for_sessions(&hub, 1);
    entered.emit("ping", &json!(null));
    entered.expect_event("pong");
}

#[test]
fn pings_come_an_interval_after_the_answer() {
    const INTERVAL: Duration = Duration::from_millis(120);
    let hub = Hub::start_with(&[], &[("socketio.ping_interval", "120ms"), ("socketio.ping_timeout", "20s")]);
    let mut polled = Polled::open(&hub).enter();
    let mut carried = Carried::open(&hub).enter();
    check_pings(&mut polled, INTERVAL);
    check_pings(&mut carried, INTERVAL);
}

/// Answers three pings; measures the time from each answer to the next ping.
#[track_caller]
fn check_pings(client: &mut impl SocketClient, interval: Duration) {
    assert_eq!(client.try_next().as_deref(), Some("2"));
    let mut shortest = Duration::MAX;
    for _ in 0..3 {
        let began = Instant::now();
        client.send("3");
        assert_eq!(client.try_next().as_deref(), Some("2"));
        assert!(interval <= began.elapsed(), "{:?}", began.elapsed());
        shortest = shortest.min(began.elapsed());
    }
    assert!(shortest < interval + Duration::from_millis(80), "{shortest:?}");
}
