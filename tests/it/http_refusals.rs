//! Bad requests get a clear answer and the end of the connection. The hub never guesses.

use fanfare_core::protocol::http::Method;

use crate::support::{
    http::{HttpConnection, exchange},
    hub::Hub,
    sse::send_all,
};

/// The status of the one answer to `request`, after which the hub must close.
fn refusal(hub: &Hub, request: &[u8]) -> u16 {
    let mut connection = HttpConnection::new(hub.connect());
    connection.send(request);
    let response = connection.receive();
    let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
    assert_eq!(response.header("connection"), Some("close"), "{shown}");
    assert!(connection.is_closed(), "still open after {shown}");
    response.status
}

#[test]
fn malformed_heads_are_refused() {
    let hub = Hub::start();
    let rows: &[&str] = &[
        "GET  /health HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /health HTTP/1.1 \r\nHost: h\r\n\r\n",
        "GET /health\r\n\r\n",
        "GET /health HTTP/1.2\r\nHost: h\r\n\r\n",
        "GET /health HTTP/2.0\r\nHost: h\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /health HTTP/1.1\nHost: h\n\n",
        "GET /health HTTP/1.1\r\nHost: h\nX: y\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: h\r\nX: a\rb\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: h\r\nX: a\r\n folded\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost : h\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: h\r\n: nameless\r\n\r\n",
        "GET /health HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: h\r\nOrigin: http://h\r\norigin: http://h\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: h\r\nSec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET health HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
        "G(T /health HTTP/1.1\r\nHost: h\r\n\r\n",
        "\x16\x03\x01\x02\0\x01\0\x01\u{7c}\x03\x03\r\n\r\n",
    ];
    for row in rows {
        assert_eq!(refusal(&hub, row.as_bytes()), 400, "{row:?}");
    }
}

#[test]
fn bodies_of_doubtful_length_are_refused() {
    let hub = Hub::start();
    let rows: &[&str] = &[
        "Content-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "Content-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        "Content-Length: 1, 1\r\n\r\nx",
        "Content-Length: +1\r\n\r\nx",
        "Content-Length: -1\r\n\r\nx",
        "Content-Length: 0x1\r\n\r\nx",
        "Content-Length: \r\n\r\nx",
        "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "Transfer-Encoding: gzip\r\n\r\nx",
        "Transfer-Encoding: chunked, gzip\r\n\r\nx",
        "Transfer-Encoding: gzip, chunked\r\n\r\nx",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nz\r\nx\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\nx\n0\n\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nxy\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n-1\r\nx\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx\r\n0\r\n\r\n",
    ];
    for row in rows {
        let request = format!("POST /publish/t HTTP/1.1\r\nHost: h\r\n{row}");
        assert_eq!(refusal(&hub, request.as_bytes()), 400, "{row:?}");
    }
    let old = "POST /publish/t HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
    assert_eq!(refusal(&hub, old.as_bytes()), 400, "HTTP/1.0 has no chunks");
    assert_eq!(hub.stats()["events_received"], 0, "nothing of all that was published");
}

#[test]
fn requests_over_a_limit_are_refused() {
    let hub = Hub::start();
    let head = |fields: &str| format!("GET /health HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    let fields = |count: usize| (0..count).map(|number| format!("X-{number}: y\r\n")).collect::<String>();
    let body = |length: usize| format!("POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n");
    let check = |request: String, expected: u16| assert_eq!(refusal(&hub, request.as_bytes()), expected);
    check(head(&format!("X: {}\r\n", "y".repeat(16 * 1024))), 431);
    check(format!("GET /{} HTTP/1.1\r\n", "y".repeat(20 * 1024)), 414);
    check(head(&fields(64)), 431);
    check(body((1 << 20) + 1), 413);
    check(body(usize::MAX), 413);
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 19, "x".repeat(1 << 19));
    check(
        format!("POST /publish/t HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{chunk}{chunk}"),
        413,
    );
    assert!(exchange(hub.connect(), head(&fields(63)).as_bytes()).starts_with("HTTP/1.1 200"));
    assert_eq!(hub.post("/publish/t", "x".repeat(1 << 20)).status, 200);
}

#[test]
fn slow_requests_are_refused() {
    let settings =
        [("limits.head_timeout", "300ms"), ("limits.body_timeout", "300ms"), ("limits.idle_timeout", "300ms")];
    let hub = Hub::start_with(&[], &settings);
    let rows = [
        "G",
        "GET /health HTTP/1.1\r\nHost: h\r\n",
        "POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nx",
    ];
    for row in rows {
        assert_eq!(refusal(&hub, row.as_bytes()), 408, "{row:?}");
    }
    let mut idle = HttpConnection::new(hub.connect());
    assert_eq!(idle.request(Method::Get, "/health", &[], b"").status, 200);
    assert!(idle.is_closed(), "without a word, because nothing was asked");
    assert_eq!(hub.stats()["events_received"], 0);
}

#[test]
fn a_body_that_drips_in_is_refused_in_the_end() {
    let hub = Hub::start_with(&[], &[("limits.body_total_timeout", "500ms")]);
    let socket = hub.connect();
    send_all(&socket, b"POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    let mut connection = HttpConnection::new(socket.try_clone().expect("descriptors are at hand"));
    let dripping = std::thread::spawn(move || {
        let mut socket = socket;
        // It ends when the hub no longer takes a byte.
        while std::io::Write::write_all(&mut socket, b"x").is_ok() {
            std::thread::park_timeout(std::time::Duration::from_millis(5));
        }
    });
    assert_eq!(connection.receive().status, 408);
    drop(connection);
    dripping.join().expect("it only writes");
}

#[test]
fn a_connection_is_of_no_more_use_after_a_refusal() {
    let hub = Hub::start();
    let two = "GET /health HTTP/1.1\r\n\r\nPOST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
    assert_eq!(refusal(&hub, two.as_bytes()), 400);
    assert_eq!(hub.stats()["events_received"], 0, "the second request was not looked at");
}

#[test]
fn a_refusal_reaches_a_peer_that_is_still_sending() {
    let hub = Hub::start();
    let mut connection = HttpConnection::new(hub.connect());
    connection.send(b"POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: 9000000\r\n\r\n");
    connection.send(&vec![b'x'; 2_000_000]);
    assert_eq!(connection.receive().status, 413);
}

#[test]
fn the_hub_goes_on_after_any_bytes() {
    let hub = Hub::start();
    let mut state = 1_u64;
    for length in (0..400).step_by(7) {
        // A small generator. The bytes need only be of all kinds, and the same in each run.
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        exchange(hub.connect(), &bytes);
    }
    assert_eq!(hub.get("/health").status, 200);
}
