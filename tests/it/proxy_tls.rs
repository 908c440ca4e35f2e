//! Hubs behind nginx with TLS, and with HTTP/2 to browsers: `scripts/deploy/nginx-tls.conf`.

use serde_json::{Value, json};

use crate::support::{
    browser::Page, conversation::Conversation, hub::Hub, nginx::Nginx, redis::RedisServer, run_program, stdout_of,
    wait_until,
};

fn curl(nginx: &Nginx, arguments: &[&str]) -> String {
    let certificate = nginx.certificate();
    let fixed = ["--silent", "--show-error", "--max-time", "20", "--http2", "--cacert", &certificate];
    stdout_of(&run_program("curl", "curl", &[&fixed[..], arguments].concat()))
}

/// Two hubs that share events through one Redis.
fn two_hubs(server: &RedisServer) -> [Hub; 2] {
    [(); 2].map(|()| Hub::start_with(&["--redis", &server.url()], &[]))
}

#[test]
fn curl_speaks_http2() {
    let hub = Hub::start();
    let nginx = Nginx::start_tls(&[hub.address()]);
    let url = |path: &str| format!("{}{path}", nginx.url());
    let version = ["--output", "/dev/null", "--write-out", "%{http_version} %{http_code}"];
    assert_eq!(curl(&nginx, &[&version[..], &[&url("/topics")]].concat()), "2 200");
    let certificate = nginx.certificate();
    let arguments = ["--silent", "--no-buffer", "--include", "--http2", "--cacert", &certificate];
    let listening = Conversation::start("curl", "curl", &[&arguments[..], &[&url("/sse?topic=t&topic=u")]].concat());
    assert_eq!(listening.next_line(), "HTTP/2 200");
    listening.wait_for("content-type: text/event-stream");
    hub.wait_for_listeners("t", 1);
    for number in 0..3 {
        let taken = curl(&nginx, &["--data-binary", &number.to_string(), &url("/publish/t")]);
        assert!(taken.contains("\"topic\":\"t\""), "{taken}");
        // One by one: no event waits until a buffer is full.
        assert_eq!(listening.wait_for("data: "), number.to_string());
    }
    assert_eq!(curl(&nginx, &[&version[..], &[&url("/metrics")]].concat()), "2 404");
}

#[test]
fn without_tls_one_is_sent_on() {
    let hub = Hub::start();
    let nginx = Nginx::start_tls(&[hub.address()]);
    let wanted = ["--output", "/dev/null", "--write-out", "%{http_code} %{redirect_url}", "--data-binary", "x"];
    let received = curl(&nginx, &[&wanted[..], &[&format!("{}/publish/t?type=x", nginx.plain_url())]].concat());
    assert_eq!(received, "308 https://127.0.0.2/publish/t?type=x");
}

/// More than the six that a browser would have over HTTP/1.1.
const STREAMS: usize = 20;

#[test]
fn a_browser_has_all_its_streams_over_one_connection() {
    let server = RedisServer::start();
    let hubs = two_hubs(&server);
    let nginx = Nginx::start_tls(&hubs.each_ref().map(Hub::address));
    let script = r#"
        const count = 20;
        let open = 0, got = 0;
        for (let number = 0; number < count; number++) {
            const source = new EventSource(`${hub}/sse?topic=t`);
            source.onopen = () => ++open == count && report("streams open");
            source.onmessage = event => ++got == count && report("streams got", event.data);
        }
        const socket = new WebSocket(`${hub.replace("http", "ws")}/ws`, "fanfare.v1");
        socket.onopen = () => socket.send(JSON.stringify({ op: "subscribe", topic: "t" }));
        socket.onmessage = event => {
            const message = JSON.parse(event.data);
            report("socket", message.op, message.data ?? null);
        };
    "#;
    let mut page = Page::open(&nginx.url(), script);
    let mut received = [page.next(), page.next()];
    received.sort_by_key(Value::to_string);
    assert_eq!(received, [json!(["socket", "subscribed", null]), json!(["streams open"])]);
    assert!(hubs.iter().all(|hub| Some(0) < hub.listeners("t")), "both have a part of them");
    let published = curl(&nginx, &["--data-binary", "7", &format!("{}/publish/t", nginx.url())]);
    assert!(published.contains("\"topic\":\"t\""), "{published}");
    let mut received = [page.next(), page.next()];
    received.sort_by_key(Value::to_string);
    assert_eq!(received, [json!(["socket", "event", 7]), json!(["streams got", "7"])]);
    drop(page);
    let streams = |log: String| log.lines().filter(|line| line.contains("\"GET /sse HTTP/2.0\" 200")).count();
    wait_until("nginx writes each stream into its log when it has ended", || {
        (streams(nginx.log("access.log")) == STREAMS).then_some(())
    });
    assert!(nginx.log("access.log").contains("\"GET /ws HTTP/1.1\" 101"), "{}", nginx.log("access.log"));
}

/// As the library does it by default: polling, over HTTP/2, and then a WebSocket.
#[test]
fn a_browser_speaks_socketio_through_two_hubs() {
    let server = RedisServer::start();
    let hubs = two_hubs(&server);
    let nginx = Nginx::start_tls(&hubs.each_ref().map(Hub::address));
    let script = r#"
        const socket = io(hub);
        socket.on("subscribed", ({ well_id }) => report("subscribed", well_id));
        socket.on("telemetry_update", data => report("telemetry", data));
        socket.on("connect", () => socket.emit("subscribe", { well_id: "WELL-001" }));
    "#;
    let mut page = Page::open_with_socketio(&nginx.url(), script);
    page.expect(json!(["subscribed", "WELL-001"]));
    for (number, hub) in hubs.iter().enumerate() {
        assert_eq!(hub.post("/publish/wells.WELL-001?type=telemetry_update", number.to_string()).status, 200);
        page.expect(json!(["telemetry", number]));
    }
    let log = nginx.log("access.log");
    assert!(log.contains("\"GET /socket.io/ HTTP/2.0\" 200"), "{log}");
}
