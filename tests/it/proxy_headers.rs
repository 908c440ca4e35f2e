//! Clients behind proxies: which address counts as the client's, and which proxies are trusted to name it.

use std::io::Write;

use fanfare_core::protocol::http::Method;
use socket2::Socket;

use crate::support::{
    Folder,
    http::{HttpConnection, Response, exchange},
    hub::Hub,
    run_program,
    sse::{SseClient, send_all},
    stdout_of, wait_until,
};

const BEHIND_TEXT: [(&str, &str); 3] =
    [("proxy.trusted", "127.0.0.1"), ("proxy.proxy_protocol", "true"), ("server.max_connections_per_ip", "2")];
const BEHIND_HTTP: [(&str, &str); 2] = [("proxy.trusted", "127.0.0.1"), ("server.max_connections_per_ip", "2")];

/// A line of the PROXY protocol for a client of this address.
fn line(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 127.0.0.1 40000 80\r\n").into_bytes()
}

/// The same in the binary form, with an extension field.
fn binary(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[127, 0, 0, 1, 0x9c, 0x40, 0, 80]].concat();
    [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x11", &addresses[..], b"\x04\0\x02hi"].concat()
}

/// A connection that begins with `header`.
fn connect_with(hub: &Hub, header: &[u8]) -> Socket {
    let socket = hub.connect();
    send_all(&socket, header);
    socket
}

fn get(socket: Socket, target: &str, headers: &[(&str, &str)]) -> Response {
    HttpConnection::new(socket).request(Method::Get, target, headers, b"")
}

#[test]
fn connections_count_for_the_client_that_the_header_names() {
    let hub = Hub::start_with(&["--reactors", "2"], &BEHIND_TEXT);
    let (first, second) = (line("203.0.113.7"), binary([198, 51, 100, 9]));
    let status = |header: &[u8]| get(connect_with(&hub, header), "/health", &[]).status;
    let mut streams: Vec<SseClient> =
        (0..2).map(|_| SseClient::open_on(connect_with(&hub, &first), "/sse?topic=t", &[])).collect();
    assert_eq!(status(&first), 429, "a third one of the first client");
    assert_eq!(status(&binary([203, 0, 113, 7])), 429, "named in the other form");
    assert_eq!(status(&second), 200);
    streams.push(SseClient::open_on(connect_with(&hub, &second), "/sse?topic=t", &[]));
    wait_until("the request before it is gone", || (status(&second) == 200).then_some(()));
    assert_eq!(status(&first), 429);
    // The proxy's own connections do not count for any client.
    for own in [&b"PROXY UNKNOWN\r\n"[..], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"] {
        assert_eq!(status(own), 200);
    }
    drop(streams);
    wait_until("there is room again", || (status(&first) == 200).then_some(()));
}

#[test]
fn a_header_may_come_in_pieces() {
    let hub = Hub::start_with(&[], &BEHIND_TEXT);
    for header in [line("203.0.113.7"), binary([198, 51, 100, 9])] {
        let mut socket = hub.connect();
        socket.set_tcp_nodelay(true).expect("it is TCP");
        for byte in &header {
            socket.write_all(&[*byte]).expect("the hub should read");
        }
        assert_eq!(get(socket, "/health", &[]).status, 200);
        let whole = [&header[..], b"GET /health HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"].concat();
        assert!(exchange(hub.connect(), &whole).starts_with("HTTP/1.1 200"));
    }
}

#[test]
fn without_the_header_nothing_is_served() {
    let settings = [("proxy.trusted", "127.0.0.1"), ("proxy.proxy_protocol", "true"), ("limits.head_timeout", "300ms")];
    let hub = Hub::start_with(&["--admin-listen", "127.0.0.1:0"], &settings);
    let check = |bytes: &[u8], expected: u16| {
        let mut connection = HttpConnection::new(connect_with(&hub, bytes));
        assert_eq!(connection.receive().status, expected, "{}", bytes.escape_ascii());
        assert!(connection.is_closed(), "{}", bytes.escape_ascii());
    };
    check(b"GET /sse?topic=t HTTP/1.1\r\nHost: h\r\n\r\n", 400);
    check(b"PROXY TCP4 203.0.113.7 127.0.0.1 1\r\n", 400);
    check(&[b'P'; 200], 400);
    check(b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", 400);
    check(b"PROXY TCP4 203.0.113.7 127.0.0.1 1 ", 408);
    check(b"PROXY UNKNOWN\r\nGET /", 408);
    assert!(HttpConnection::new(hub.connect()).is_closed(), "without a word, because nothing came");
    // Monitoring does not come through the proxy.
    assert_eq!(get(hub.connect_at(1), "/health", &[]).status, 200);
}

#[test]
fn from_others_the_header_is_a_bad_request() {
    let hub = Hub::start_with(&[], &[("proxy.trusted", "10.0.0.0/8,unix"), ("proxy.proxy_protocol", "true")]);
    for header in [line("203.0.113.7"), binary([198, 51, 100, 9])] {
        let request = [&header[..], b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n"].concat();
        assert!(exchange(hub.connect(), &request).starts_with("HTTP/1.1 400"), "{}", header.escape_ascii());
    }
    assert_eq!(hub.get("/health").status, 200, "and their connections begin with the request");
}

#[test]
fn requests_count_for_the_client_that_the_proxy_names() {
    let hub = Hub::start_with(&["--reactors", "2"], &BEHIND_HTTP);
    let open = |client: &str| SseClient::open_with(&hub, "/sse?topic=t", &[("X-Forwarded-For", client)]);
    let get_as = |client: &str| get(hub.connect(), "/health", &[("X-Forwarded-For", client)]);
    // The client's own entry stands to the left.
    let streams = [open("203.0.113.7"), open("198.51.100.9, 203.0.113.7, 127.0.0.1")];
    let refused = get_as("203.0.113.7:4711");
    assert_eq!((refused.status, refused.error_code().as_str()), (429, "too_many_connections"));
    assert_eq!(get(hub.connect(), "/health", &[("Forwarded", "for=203.0.113.7;proto=https")]).status, 429);
    assert_eq!(get_as("198.51.100.9").status, 200);
    assert_eq!(get_as("not an address").status, 200, "the proxy itself, then");
    // An EventSource gets a retry time.
    let browser = [("X-Forwarded-For", "203.0.113.7"), ("Accept", "text/event-stream"), ("Sec-Fetch-Mode", "cors")];
    let refused = get(hub.connect(), "/sse?topic=t", &browser);
    assert!(refused.status == 200 && refused.text().contains("event: error\n"), "{}", refused.text());
    drop(streams);
    wait_until("there is room again", || (get_as("203.0.113.7").status == 200).then_some(()));
}

#[test]
fn one_connection_serves_many_clients() {
    let hub = Hub::start_with(&[], &BEHIND_HTTP);
    let _streams = [(); 2].map(|()| SseClient::open_with(&hub, "/sse?topic=t", &[("X-Forwarded-For", "203.0.113.7")]));
    let ask = |connection: &mut HttpConnection, client: &str| {
        connection.request(Method::Get, "/health", &[("X-Forwarded-For", client)], b"").status
    };
    // More connections than one client may have. Until a request comes they do not count for a client.
    let mut pool: Vec<HttpConnection> = (0..5).map(|_| HttpConnection::new(hub.connect())).collect();
    for connection in &mut pool {
        assert_eq!((ask(connection, "198.51.100.9"), ask(connection, "198.51.100.10")), (200, 200));
    }
    assert_eq!(ask(&mut pool[0], "203.0.113.7"), 429);
    assert!(pool[0].is_closed());
    assert_eq!(pool[1].request(Method::Get, "/health", &[], b"").status, 200);
    let _more = [(); 2].map(|()| SseClient::open_with(&hub, "/sse?topic=t", &[("X-Forwarded-For", "198.51.100.9")]));
    assert_eq!(ask(&mut pool[2], "198.51.100.9"), 429);
}

#[test]
fn from_others_the_fields_are_ignored() {
    let hub = Hub::start_with(&[], &[("proxy.trusted", "10.0.0.0/8"), ("server.max_connections_per_ip", "2")]);
    let client = |number: usize| format!("203.0.113.{number}");
    let open = |number: usize| SseClient::open_with(&hub, "/sse?topic=t", &[("X-Forwarded-For", &client(number))]);
    let _streams = [open(1), open(2)];
    assert_eq!(get(hub.connect(), "/health", &[("X-Forwarded-For", &client(3))]).status, 429);
}

/// Behind a balancer that only forwards bytes any client can write these fields.
#[test]
fn behind_a_header_only_a_proxy_may_name_the_client() {
    let settings = [BEHIND_TEXT[1], BEHIND_TEXT[2], ("proxy.trusted", "127.0.0.1,10.0.0.0/8")];
    let hub = Hub::start_with(&[], &settings);
    let open = |source: &str, client: &str| {
        let socket = connect_with(&hub, &line(source));
        SseClient::open_on(socket, "/sse?topic=t", &[("X-Forwarded-For", client)])
    };
    let status = |source: &str, client: &str| {
        get(connect_with(&hub, &line(source)), "/health", &[("X-Forwarded-For", client)]).status
    };
    let _streams = [open("203.0.113.7", "192.0.2.1"), open("203.0.113.7", "192.0.2.2")];
    assert_eq!(status("203.0.113.7", "192.0.2.3"), 429, "it cannot pass for others");
    let _more = [open("10.0.0.1", "192.0.2.1"), open("10.0.0.2", "192.0.2.1")];
    assert_eq!((status("10.0.0.3", "192.0.2.1"), status("10.0.0.3", "192.0.2.2")), (429, 200));
}

#[test]
fn a_proxy_at_a_unix_socket_may_be_trusted() {
    let folder = Folder::new();
    let settings =
        [("proxy.trusted", "unix"), ("proxy.proxy_protocol", "true"), ("server.max_connections_per_ip", "1")];
    let hub = Hub::start_with(&["--listen", &format!("unix:{}", folder.path("hub.sock"))], &settings);
    let connect = |header: &[u8]| {
        let socket = hub.connect_at(1);
        send_all(&socket, header);
        socket
    };
    let client = b"PROXY TCP6 2001:db8::7 ::1 40000 80\r\n";
    let _stream = SseClient::open_on(connect(client), "/sse?topic=t", &[]);
    assert_eq!(get(connect(client), "/health", &[]).status, 429);
    assert_eq!(get(connect(b"PROXY TCP6 2001:db8::8 ::1 40000 80\r\n"), "/health", &[]).status, 200);
    assert_eq!(hub.get("/health").status, 200, "a client over TCP is not trusted, and sends no header");
}

#[test]
fn curl_sends_the_header_too() {
    let hub = Hub::start_with(&[], &BEHIND_TEXT);
    let url = format!("{}/health", hub.url(0));
    let output = run_program("curl", "curl", &["--silent", "--fail", "--haproxy-protocol", &url]);
    assert!(stdout_of(&output).contains("ok"), "{output:?}");
}
