//! Hostile and broken peers: the response to each, and that all other clients are still served.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::Duration,
};

use socket2::{Domain, SockFilter, Socket, Type};

use crate::support::{
    TIMEOUT,
    http::{HttpConnection, exchange},
    hub::Hub,
    sse::{SseClient, send_all},
    wait_until,
    websocket::WebSocketClient,
};

const UPGRADE: &[u8] = b"GET /ws?topic=t HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
const MASK: [u8; 4] = [0; 4];

/// A frame whose mask changes nothing.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    assert!(payload.len() < 126, "its length takes one byte");
    [&[first, 0x80 | payload.len() as u8], &MASK[..], payload].concat()
}

/// A connection with a small receive buffer.
fn connect_narrow(hub: &Hub) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are at hand");
    socket.set_recv_buffer_size(4096).expect("the size is a proper one");
    let address: SocketAddr = hub.address().parse().expect("the hub says an address");
    socket.connect(&address.into()).expect("the hub should accept");
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    socket
}

/// From now on no packet reaches this end of the connection, as if its machine had failed.
fn vanish(socket: &Socket) {
    const RETURN_CONSTANT: u16 = 0x06;
    socket.attach_filter(&[SockFilter::new(RETURN_CONSTANT, 0, 0, 0)]).expect("a filter that drops everything");
}

fn descriptors(hub: &Hub) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", hub.pid())).expect("the hub runs").count()
}

fn wait_for_clients(hub: &Hub, count: u64) {
    wait_until(&format!("{count} clients"), || (hub.stats()["connected_clients"] == count).then_some(()));
}

#[test]
fn peers_that_vanished_are_let_go() {
    let settings = [("limits.unsent_timeout", "500ms"), ("sse.heartbeat", "1s"), ("websocket.ping_interval", "1s")];
    let hub = Hub::start_with(&[], &settings);
    let before = descriptors(&hub);
    let sockets: Vec<Socket> = (0..4).map(|_| connect_narrow(&hub)).collect();
    for (number, socket) in sockets.iter().enumerate() {
        let end = socket.try_clone().expect("descriptors are at hand");
        // Two of them are sent more than they have room for, the other two only heartbeats.
        let topic = if number < 2 { "busy" } else { "idle" };
        match number % 2 {
            0 => drop(SseClient::open_on(end, &format!("/sse?topic={topic}"), &[])),
            _ => drop(WebSocketClient::open_on(end, &format!("/ws?topic={topic}"), &[])),
        }
    }
    wait_for_clients(&hub, 4);
    sockets.iter().for_each(vanish);
    let payload = "x".repeat(64 * 1024);
    (0..4).for_each(|_| drop(hub.publish("busy", &payload)));
    wait_for_clients(&hub, 0);
    wait_until("every descriptor is free", || (descriptors(&hub) <= before).then_some(()));
    assert_eq!(hub.metric("fanfare_lagging_connections"), 0.0);
}

#[test]
fn a_peer_that_is_silent_because_nobody_reads_is_kept() {
    let hub = Hub::start_with(&[], &[("limits.unsent_timeout", "300ms"), ("sse.heartbeat", "1s")]);
    let mut stalled = SseClient::open_on(connect_narrow(&hub), "/sse?topic=t", &[]);
    let mut clock = SseClient::open(&hub, "/sse?topic=another");
    let payload = "x".repeat(16 * 1024);
    let mut published = 0;
    wait_until("it is blocked", || {
        hub.publish("t", &payload);
        published += 1;
        (0.0 < hub.metric("fanfare_lagging_connections")).then_some(())
    });
    // One comment a second. The hub also checks once a second.
    clock.wait_for_comments(5);
    assert_eq!(hub.metric("fanfare_lagging_connections"), 1.0);
    (0..published).for_each(|_| assert_eq!(stalled.next_data(), payload));
}

#[test]
fn a_websocket_that_answers_no_ping_is_closed() {
    let hub = Hub::start_with(&[], &[("websocket.ping_interval", "1s"), ("websocket.pong_timeout", "1s")]);
    let mut deaf = hub.connect();
    send_all(&deaf, UPGRADE);
    let mut alive = WebSocketClient::open(&hub, "/ws?topic=t");
    std::thread::scope(|scope| {
        let answering = scope.spawn(|| alive.next_text());
        let (mut received, mut buffer) = (Vec::new(), [0; 1024]);
        // Each ping takes one read. So many show that the connection is not ended.
        let ended = (0..20).any(|_| {
            let count = deaf.read(&mut buffer).unwrap_or_default();
            received.extend_from_slice(&buffer[..count]);
            count == 0
        });
        // First, so that the other one has something to wait for.
        hub.publish("t", "still there?");
        assert_eq!(answering.join().expect("it only reads"), "still there?");
        assert!(ended, "the hub should close");
        assert!(received.windows(2).any(|bytes| bytes == b"\x89\x00"), "it was asked");
    });
    wait_for_clients(&hub, 1);
}

const HISTORY_EVENTS: usize = 64;

/// A hub whose topic `t` has more events than the kernel takes at once.
fn hub_with_history(settings: &[(&str, &str)]) -> Hub {
    let history = [("topics.history.count", "400"), ("topics.history.bytes", "8MiB"), ("topics.history.age", "1h")];
    let hub = Hub::start_with(&[], &[settings, &history].concat());
    let payload = "x".repeat(8 * 1024);
    (0..HISTORY_EVENTS).for_each(|_| drop(hub.publish("t", &payload)));
    hub
}

#[test]
fn last_bytes_are_written_if_the_client_reads() {
    const REQUEST: &[u8] = b"GET /topics/t/history?limit=400 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    let hub = hub_with_history(&[("limits.closing_timeout", "1s")]);
    let before = descriptors(&hub);
    let [still, slow] = [(); 2].map(|()| connect_narrow(&hub));
    send_all(&still, REQUEST);
    send_all(&slow, REQUEST);
    // Within the time limit alone the client would take the answer: that takes some three seconds.
    let mut connection = Slowly(slow);
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).expect("the answer should come whole");
    let body_at = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let body: serde_json::Value = serde_json::from_slice(&answer[body_at..]).expect("the answer is whole");
    assert_eq!(body["events"].as_array().map(Vec::len), Some(HISTORY_EVENTS), "{body:.200}");
    wait_until("a client that reads nothing is cut off", || (descriptors(&hub) <= before).then_some(()));
    drop(still);
}

/// Requests behind unread answers stay with the client: they take none of the hub's memory, and are not carried out yet.
#[test]
fn requests_behind_unread_answers_wait() {
    // More than the kernel keeps for one connection.
    const ANSWERS: usize = 12;
    let hub = Hub::start_with(&[], &[("limits.outbox_bytes_max", "64KiB")]);
    hub.publish("t", "x".repeat(900_000));
    let mut socket = connect_narrow(&hub);
    let histories = "GET /topics/t/history HTTP/1.1\r\nHost: h\r\n\r\n".repeat(ANSWERS);
    let publication = "POST /publish/u HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    send_all(&socket, format!("{histories}{publication}").as_bytes());
    wait_until("the hub is blocked", || (hub.metric("fanfare_lagging_connections") == 1.0).then_some(()));
    assert_eq!(hub.metric("realtime_publishes_total"), 1.0, "the request behind the answers waits");
    socket.shutdown(std::net::Shutdown::Write).expect("it is connected");
    let mut answers = Vec::new();
    socket.read_to_end(&mut answers).expect("the hub should answer all");
    assert_eq!(answers.windows(15).filter(|window| *window == b"HTTP/1.1 200 OK").count(), ANSWERS + 1);
    assert_eq!(hub.metric("realtime_publishes_total"), 2.0);
}

/// Reads little at a time, with pauses.
struct Slowly(Socket);

impl Read for Slowly {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::thread::park_timeout(Duration::from_millis(25));
        let most = buffer.len().min(16 * 1024);
        self.0.read(&mut buffer[..most])
    }
}

#[test]
fn floods_of_pings_are_cut_off() {
    let settings = [("limits.messages_per_second", "5"), ("limits.rate_limit_patience", "200ms")];
    let hub = Hub::start_with(&[], &settings);
    let mut witness = WebSocketClient::open(&hub, "/ws?topic=t");
    for protocols in [&[][..], &["fanfare.v1"]] {
        for first in [0x89, 0x8a] {
            let mut socket = WebSocketClient::open_on(hub.connect(), "/ws?topic=t", protocols);
            let code = std::thread::scope(|scope| {
                let mut flooding = socket.try_clone();
                scope.spawn(move || while flooding.try_send_bytes(&frame(first, b"").repeat(100)) {});
                socket.close_code()
            });
            assert_eq!(code, Some(1008), "{first:x} {protocols:?}");
        }
    }
    hub.publish("t", "served");
    assert_eq!(witness.next_text(), "served");
}

#[test]
fn a_message_that_came_too_fast_is_named() {
    let hub = Hub::start_with(&[], &[("limits.messages_per_second", "1")]);
    let mut socket = WebSocketClient::open_v1(&hub, "/ws");
    let commands = (0..3).map(|number| frame(0x81, format!(r#"{{"op":"ping","ref":{number}}}"#).as_bytes()));
    socket.send_bytes(&commands.collect::<Vec<_>>().concat());
    let mut answers: Vec<_> = (0..3).map(|_| socket.next_json()).collect();
    answers.sort_by_key(|answer| answer["ref"].as_u64());
    let outcomes: Vec<_> = answers.iter().map(|answer| (answer["op"].as_str(), answer["code"].as_str())).collect();
    let ignored = (Some("error"), Some("RateLimited"));
    assert_eq!(outcomes, [(Some("pong"), None), ignored, ignored]);
}

#[test]
fn tiny_and_giant_frames_have_a_limit() {
    let hub = Hub::start_with(&[], &[("limits.fragments_max", "100")]);
    let check = |bytes: &[u8], expected: u16| {
        let mut socket = WebSocketClient::open_v1(&hub, "/ws");
        socket.try_send_bytes(bytes);
        assert_eq!(socket.close_code(), Some(expected));
    };
    let fragmented = |middle: usize| {
        [frame(0x01, b"{"), frame(0x00, b" ").repeat(middle), frame(0x80, b"}"), frame(0x88, b"\x03\xe8")].concat()
    };
    check(&fragmented(98), 1000);
    check(&fragmented(99), 1009);
    check(&[frame(0x01, b""), frame(0x00, b"").repeat(100_000)].concat(), 1009);
    check(b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0", 1009);
    check(b"\x82\xff\0\0\0\0\0\x01\0\x01\0\0\0\0", 1009);
    assert_eq!(hub.get("/health").status, 200);
}

/// A connection from `source`, one of this machine's own addresses.
fn connect_from(hub: &Hub, source: &str) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("descriptors are at hand");
    let source: SocketAddr = format!("{source}:0").parse().expect("an address");
    socket.bind(&source.into()).expect("all of 127.0.0.0/8 is this machine's");
    let address: SocketAddr = hub.address().parse().expect("the hub says an address");
    socket.connect(&address.into()).expect("the hub should accept");
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    socket
}

#[test]
fn a_flood_from_one_address_is_refused_and_no_other() {
    let hub = Hub::start_with(&["--reactors", "2"], &[("server.max_connections_per_ip", "8")]);
    let before = descriptors(&hub);
    let flood: Vec<Socket> = (0..300).map(|_| connect_from(&hub, "127.0.0.2")).collect();
    let mut others = SseClient::open(&hub, "/sse?topic=t");
    let id = hub.publish("t", "x");
    assert_eq!(others.next().id, id);
    assert!(descriptors(&hub) <= before + 32, "whatever comes, one address has its share and a few refusals");
    assert!(0.0 < hub.metric("fanfare_accepts_shed_total"));
    let mut statuses: Vec<Option<u16>> = Vec::new();
    for socket in flood {
        let mut connection = HttpConnection::new(socket);
        connection.send(b"GET /stats HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        statuses.push(connection.try_receive().map(|response| response.status));
    }
    let count = |status: Option<u16>| statuses.iter().filter(|other| **other == status).count();
    assert_eq!((count(Some(200)), count(Some(429)), count(None)), (8, 16, 276));
    wait_until("its time has passed", || {
        let mut connection = HttpConnection::new(connect_from(&hub, "127.0.0.2"));
        connection.send(b"GET /stats HTTP/1.1\r\nHost: h\r\n\r\n");
        (connection.try_receive()?.status == 200).then_some(())
    });
    drop(others);
    wait_until("every descriptor is free", || (descriptors(&hub) <= before).then_some(()));
}

#[test]
fn many_slow_requests_delay_no_other_client() {
    let hub = Hub::start_with(&[], &[("limits.head_timeout", "1s"), ("limits.body_timeout", "1s")]);
    let before = descriptors(&hub);
    let slow: [&[u8]; 4] = [
        b"",
        b"GET /health HTTP/1.1\r\nHost: h\r\nX-",
        b"POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nx",
        b"POST /publish/t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    ];
    let sockets: Vec<Socket> = (0..200)
        .map(|number| {
            let mut socket = hub.connect();
            socket.write_all(slow[number % slow.len()]).expect("the hub should read");
            socket
        })
        .collect();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    hub.publish("t", "served");
    assert_eq!(stream.next_data(), "served");
    for (number, mut socket) in sockets.into_iter().enumerate() {
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).expect("the hub should close");
        let expected: &[u8] = if number % slow.len() == 0 { b"" } else { b"HTTP/1.1 408" };
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{}", answer.escape_ascii());
    }
    drop(stream);
    wait_until("every descriptor is free", || (descriptors(&hub) <= before).then_some(()));
    assert!(exchange(hub.connect(), b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n").starts_with("HTTP/1.1 200"));
}
