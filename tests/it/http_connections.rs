//! HTTP/1.1 as clients use it: persistent connections, pipelined requests, chunked bodies, other origins.

use fanfare_core::protocol::http::Method;

use crate::support::{
    http::{HttpConnection, exchange},
    hub::Hub,
    sse::SseClient,
};

#[test]
fn a_connection_serves_many_requests() {
    let hub = Hub::start();
    let mut connection = HttpConnection::new(hub.connect());
    for number in 0..100 {
        let response = connection.request(Method::Post, "/publish/t", &[], number.to_string().as_bytes());
        assert_eq!((response.status, response.header("connection")), (200, None));
    }
    assert_eq!(hub.metric("fanfare_connects_total{transport=\"http\"}"), 2.0);
    let last = connection.request(Method::Get, "/health", &[("Connection", "close")], b"");
    assert_eq!(last.header("connection"), Some("close"));
    assert!(connection.is_closed());
}

#[test]
fn http_1_0_closes_unless_asked_to_stay() {
    let hub = Hub::start();
    let mut connection = HttpConnection::new(hub.connect());
    connection.send(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(connection.receive().header("connection"), Some("keep-alive"));
    connection.send(b"GET /health HTTP/1.0\r\n\r\n");
    assert_eq!(connection.receive().status, 200);
    assert!(connection.is_closed());
}

#[test]
fn requests_in_a_row_are_answered_in_order() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let requests: String = (0..50)
        .map(|number| {
            let body = number.to_string();
            format!("POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        })
        .collect();
    let mut connection = HttpConnection::new(hub.connect());
    connection.send(requests.as_bytes());
    for number in 0..50 {
        let id = connection.receive().json()["id"].as_str().expect("an id").to_owned();
        let event = stream.next();
        assert_eq!((event.id, event.data), (id, number.to_string()));
    }
}

#[test]
fn any_pieces_make_the_same_request() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let request = "POST /publish/t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   4\r\nWiki\r\n6;extension=\"x\"\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\nTrailer: x\r\n\r\n";
    for piece_bytes in [1, 2, 7, request.len()] {
        let socket = hub.connect();
        socket.set_tcp_nodelay(true).expect("it is a TCP socket");
        let mut connection = HttpConnection::new(socket);
        request.as_bytes().chunks(piece_bytes).for_each(|piece| connection.send(piece));
        assert_eq!(connection.receive().status, 200, "pieces of {piece_bytes}");
        assert_eq!(stream.next_data(), "Wikipedia in \n\nchunks.");
    }
}

#[test]
fn an_expected_100_continue_is_sent() {
    let hub = Hub::start();
    let head = |length: usize| {
        format!("POST /publish/t HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n")
    };
    let answers = exchange(hub.connect(), format!("{}hello", head(5)).as_bytes());
    assert!(answers.contains("HTTP/1.1 200 OK\r\n"), "a client may go ahead: {answers}");
    let mut socket = hub.connect();
    crate::support::sse::send_all(&socket, head(5).as_bytes());
    let mut interim = [0; 25];
    std::io::Read::read_exact(&mut socket, &mut interim).expect("the hub should ask for the body");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    let mut connection = HttpConnection::new(socket);
    connection.send(b"hello");
    assert_eq!(connection.receive().status, 200);
    let mut refused = HttpConnection::new(hub.connect());
    refused.send(head(2_000_000).as_bytes());
    assert_eq!(refused.receive().status, 413, "instead of being asked for the body");
}

#[test]
fn head_is_get_without_the_body() {
    let hub = Hub::start();
    let mut connection = HttpConnection::new(hub.connect());
    for target in ["/health", "/stats", "/topics", "/nothing", "/"] {
        let get = connection.request(Method::Get, target, &[], b"");
        let head = connection.request(Method::Head, target, &[], b"");
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{target}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{target}");
        assert!(head.header("content-length").is_some(), "{target}");
    }
    let stream = connection.request(Method::Head, "/sse?topic=t", &[], b"");
    assert_eq!((stream.status, stream.header("content-type")), (200, Some("text/event-stream")));
    assert_eq!((stream.header("content-length"), stream.header("connection")), (None, None), "a stream has no length");
    assert_eq!(connection.request(Method::Get, "/health", &[], b"").status, 200, "and the connection goes on");
}

/// A hub with a small limit on outboxes, and whose topic `t` makes longer answers.
fn hub_with_a_long_answer() -> Hub {
    let hub = Hub::start_with(&[], &[("limits.outbox_bytes_max", "4KiB")]);
    hub.publish("t", "x".repeat(64 * 1024));
    hub
}

#[test]
fn requests_behind_a_large_answer_are_answered() {
    let hub = hub_with_a_long_answer();
    let mut stream = SseClient::open(&hub, "/sse?topic=u");
    let history = "GET /topics/t/history HTTP/1.1\r\nHost: h\r\n\r\n";
    let publication = "POST /publish/u HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello";
    let requests = format!("{history}{history}{publication}{history}");
    for pieces in [vec![requests.as_str()], vec![history, history, publication, history]] {
        let mut connection = HttpConnection::new(hub.connect());
        pieces.iter().for_each(|piece| connection.send(piece.as_bytes()));
        let sizes: Vec<(u16, bool)> = (0..4)
            .map(|_| connection.receive())
            .map(|response| (response.status, 64 * 1024 < response.body.len()))
            .collect();
        assert_eq!(sizes, [(200, true), (200, true), (200, false), (200, true)]);
        assert_eq!(stream.next_data(), "hello");
        assert_eq!(connection.request(Method::Get, "/health", &[], b"").status, 200, "the connection goes on");
    }
    let answers = exchange(hub.connect(), requests.as_bytes());
    assert_eq!(answers.matches("HTTP/1.1 200 OK\r\n").count(), 4, "those of a client that sends no more, too");
}

#[test]
fn options_lists_the_methods() {
    let hub = Hub::start();
    let mut connection = HttpConnection::new(hub.connect());
    let mut check = |target: &str, allow: &str| {
        let response = connection.request(Method::Options, target, &[], b"");
        assert_eq!((response.status, response.header("allow")), (204, Some(allow)), "{target}");
    };
    check("/health", "GET, HEAD, OPTIONS");
    check("/publish/t", "POST, OPTIONS");
    check("/sse", "GET, HEAD, OPTIONS");
}

#[test]
fn any_origin_may_read_if_one_line_says_so() {
    let hub = Hub::start_with(&[], &[("cors.allow_origins", "*")]);
    let mut connection = HttpConnection::new(hub.connect());
    let origin = ("Origin", "https://app.example");
    let simple = connection.request(Method::Get, "/stats", &[origin], b"");
    assert_eq!(simple.header("access-control-allow-origin"), Some("*"));
    assert_eq!(connection.request(Method::Get, "/stats", &[], b"").header("access-control-allow-origin"), None);
    let asked = [origin, ("Access-Control-Request-Method", "POST"), ("Access-Control-Request-Headers", "event-type")];
    let preflight = connection.request(Method::Options, "/publish/t", &asked, b"");
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), Some("*"));
    assert_eq!(preflight.header("access-control-allow-methods"), Some("POST, OPTIONS"));
    assert_eq!(preflight.header("access-control-allow-headers"), Some("event-type"));
    assert!(preflight.header("access-control-max-age").is_some());
    // A page must be able to read the reason of a refusal.
    let refused = connection.request(Method::Post, "/publish/a..b", &[origin], b"x");
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (400, Some("*")));
    connection.send(b"GET /sse?topic=t HTTP/1.1\r\nHost: h\r\nOrigin: https://app.example\r\n\r\n");
    let mut head = [0; 400];
    let mut socket = connection.into_socket();
    let count = std::io::Read::read(&mut socket, &mut head).expect("the stream should open");
    let head = String::from_utf8_lossy(&head[..count]).into_owned();
    assert!(head.contains("\r\nAccess-Control-Allow-Origin: *\r\n"), "{head}");
}

#[test]
fn only_named_origins_may_read_if_some_are_named() {
    let settings = [("cors.allow_origins", "https://app.example"), ("cors.allow_credentials", "true")];
    let hub = Hub::start_with(&[], &settings);
    let mut connection = HttpConnection::new(hub.connect());
    let mut allowed = |origin: &str| {
        let response = connection.request(Method::Get, "/stats", &[("Origin", origin)], b"");
        let [origin, credentials, vary] = ["access-control-allow-origin", "access-control-allow-credentials", "vary"]
            .map(|name| response.header(name));
        assert_eq!(origin.is_some(), credentials.is_some());
        assert!(origin.is_none() || vary == Some("Origin"));
        origin.map(str::to_owned)
    };
    assert_eq!(allowed("https://app.example").as_deref(), Some("https://app.example"));
    assert_eq!(allowed("https://evil.example"), None);
    assert_eq!(allowed("null"), None);
}
