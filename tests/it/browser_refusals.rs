//! How a browser's EventSource reacts to each refusal, through a real nginx with the recommended configuration. Tests the table
//! of `scripts/deploy/README.md`.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

use crate::support::{
    browser::Page, hub::Hub, nginx::Nginx, redis::free_address, sse::SseClient, wait_until, websocket::WebSocketClient,
};

/// How the EventSource reacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// One request, `error` with `readyState` 2, and never another request.
    GivesUp,
    /// `error` with `readyState` 0, and another request after the time of `retry:`.
    ComesBack,
}

use Fate::{ComesBack, GivesUp};

/// A response: its name, its bytes, and the expected reaction of EventSource. The connection ends after the bytes: for `cut` in the
/// middle of a body, for `silent` before any response, so that nginx answers itself. All but `no-origin` allow the page's origin to
/// read them.
const ROWS: [(&str, &str, Fate); 16] = [
    ("end", "200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 50\ndata: x\n\n", ComesBack),
    ("refusal", "200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 50\nevent: error\ndata: full\n\n", ComesBack),
    (
        "cut",
        "200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
         13\r\nretry: 50\ndata: x\n\n\r\n",
        ComesBack,
    ),
    ("silent", "", ComesBack),
    ("204", "204 No Content\r\n\r\n", GivesUp),
    ("401", "401 Unauthorized\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("403", "403 Forbidden\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("404", "404 Not Found\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("429", "429 Too Many Requests\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("500", "500 Internal Server Error\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("502", "502 Bad Gateway\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("503", "503 Service Unavailable\r\nRetry-After: 0\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("504", "504 Gateway Timeout\r\nContent-Length: 0\r\n\r\n", GivesUp),
    ("503-stream", "503 Service Unavailable\r\nContent-Type: text/event-stream\r\n\r\nretry: 50\ndata: x\n\n", GivesUp),
    ("no-origin", "200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 50\ndata: x\n\n", GivesUp),
    ("text", "200 OK\r\nContent-Type: text/plain\r\n\r\nretry: 50\ndata: x\n\n", GivesUp),
];

/// Attempts after which an EventSource counts as reconnecting. The others have as much time to make a second attempt.
const ATTEMPTS: u64 = 3;

const TABLE_SCRIPT: &str = r#"
    const seen = {};
    function watch(name) {
        const source = new EventSource(`${hub}/sse?case=${name}`);
        const row = seen[name] = { opens: 0, errors: 0, explained: 0, states: [] };
        source.onopen = () => row.opens++;
        source.onerror = event => {
            // An event that the server has named `error` arrives here as well.
            if (event.data !== undefined) return row.explained++;
            row.errors++;
            if (!row.states.includes(source.readyState)) row.states.push(source.readyState);
            if (done()) { report("seen", seen); done = () => false; }
        };
    }
    let done = () => all.every(name => seen[name]?.errors >= (back.includes(name) ? attempts : 1));
    all.forEach(watch);
"#;

#[test]
fn the_table_of_refusals() {
    let origin = Origin::start();
    let nginx = Nginx::start(&[&origin.address]);
    let all: Vec<&str> = ROWS.iter().map(|(name, ..)| *name).collect();
    let back: Vec<&str> = ROWS.iter().filter(|(.., fate)| *fate == ComesBack).map(|(name, ..)| *name).collect();
    let known = format!("const all = {}, back = {}, attempts = {ATTEMPTS};", json!(all), json!(back));
    let mut page = Page::open(&nginx.url(), &format!("{known}{TABLE_SCRIPT}"));
    let seen = page.next();
    assert_eq!(seen[0], "seen", "{seen}");
    for (name, _, fate) in ROWS {
        let (row, requests) = (&seen[1][name], origin.requests(name));
        let of = |field: &str| row[field].as_u64().unwrap_or_else(|| panic!("{name}: {row}"));
        match fate {
            GivesUp => {
                assert_eq!((requests, of("opens"), of("errors"), of("explained")), (1, 0, 1, 0), "{name}: {row}");
                assert_eq!(row["states"], json!([2]), "{name}");
            }
            ComesBack => {
                assert!(ATTEMPTS <= requests && ATTEMPTS <= of("opens"), "{name}: {requests}, {row}");
                assert_eq!(row["states"], json!([0]), "{name}");
            }
        }
    }
    // The page gets the hub's messages, and the configured ones in place of nginx's own errors.
    assert!(
        0 < seen[1]["refusal"]["explained"].as_u64().unwrap_or(0)
            && 0 < seen[1]["silent"]["explained"].as_u64().unwrap_or(0)
    );
}

/// Reports each event, and the code of each `error` event that has data.
const WATCH_SCRIPT: &str = r#"
    const source = new EventSource(`${hub}/sse?topic=t`);
    source.onmessage = event => report("message", event.data);
    source.onerror = event => event.data && report("explained", JSON.parse(event.data).code);
"#;

/// Skips reports up to this one.
#[track_caller]
fn wait_for(page: &mut Page, expected: &Value) {
    while page.next() != *expected {}
}

#[test]
fn a_page_outlives_a_killed_hub() {
    let (address, settings) = (free_address(), [("sse.retry", "50ms")]);
    let start = || Hub::start_at(&address, &[], &settings);
    let hub = start();
    let nginx = Nginx::start(&[&address]);
    let mut page = Page::open(&nginx.url(), WATCH_SCRIPT);
    hub.wait_for_listeners("t", 1);
    hub.publish("t", "before");
    page.expect(json!(["message", "before"]));
    // Killed, as by `kill -9`: the hub sends nothing.
    drop(hub);
    wait_for(&mut page, &json!(["explained", "unavailable"]));
    let hub = start();
    hub.wait_for_listeners("t", 1);
    hub.publish("t", "after");
    wait_for(&mut page, &json!(["message", "after"]));
}

#[test]
fn a_page_outlives_a_full_hub() {
    let hub = Hub::start_with(&[], &[("sse.retry", "50ms"), ("server.max_connections", "2")]);
    let nginx = Nginx::start(&[hub.address()]);
    // Published over one of the connections that fill the hub: a further one might still be open, and counted.
    let mut publisher = WebSocketClient::open_v1(&hub, "/ws");
    publisher.ask(&json!({ "op": "publish", "topic": "t", "data": "at last" }));
    let holder = SseClient::open(&hub, "/sse?topic=other");
    let mut page = Page::open(&nginx.url(), &WATCH_SCRIPT.replace("topic=t", "topic=t&last_event_id=first"));
    page.expect(json!(["explained", "try_later"]));
    page.expect(json!(["explained", "try_later"]));
    drop(holder);
    wait_for(&mut page, &json!(["message", "\"at last\""]));
}

#[test]
fn a_page_moves_on_when_its_hub_drains() {
    let settings = [("sse.retry", "50ms"), ("drain.window", "300ms")];
    let hubs = [Hub::start_with(&[], &settings), Hub::start_with(&[], &settings)];
    let nginx = Nginx::start(&[hubs[0].address(), hubs[1].address()]);
    let mut page = Page::open(&nginx.url(), WATCH_SCRIPT);
    let listens = |hub: &Hub| hub.get("/topics/t").status == 200 && hub.get("/topics/t").json()["listeners"] == 1;
    let first = wait_until("the page listens", || hubs.iter().position(&listens));
    hubs[first].publish("t", "before");
    page.expect(json!(["message", "before"]));
    let [a, b] = hubs;
    let (left, stays) = if first == 0 { (a, b) } else { (b, a) };
    assert!(left.terminate().success());
    stays.wait_for_listeners("t", 1);
    stays.publish("t", "after");
    wait_for(&mut page, &json!(["message", "after"]));
}

/// A server that answers each request as its `case` says, and counts them. Its threads end with the process.
struct Origin {
    address: String,
    counts: Arc<Mutex<HashMap<String, u64>>>,
}

impl Origin {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("the system has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let origin = Self { address, counts: Arc::default() };
        let counts = Arc::clone(&origin.counts);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let counts = Arc::clone(&counts);
                thread::spawn(move || answer(client, &counts));
            }
        });
        origin
    }

    /// How often `case` was requested.
    fn requests(&self, case: &str) -> u64 {
        self.counts.lock().expect("nobody panics with it").get(case).copied().unwrap_or_default()
    }
}

fn answer(mut client: TcpStream, counts: &Mutex<HashMap<String, u64>>) {
    let lines = BufReader::new(&client).lines().map_while(Result::ok).take_while(|line| !line.is_empty());
    let head: Vec<String> = lines.collect();
    let asked = head.first().and_then(|line| line.split("case=").nth(1)?.split(' ').next());
    let Some((name, bytes, _)) = ROWS.into_iter().find(|(name, ..)| asked == Some(name)) else { return };
    *counts.lock().expect("nobody panics with it").entry(name.to_owned()).or_default() += 1;
    if !bytes.is_empty() {
        let origins = if name == "no-origin" { "" } else { "Access-Control-Allow-Origin: *\r\n" };
        let fields = format!("\r\nConnection: close\r\n{origins}");
        // The proxy is gone only if the test has ended.
        let _ = write!(client, "HTTP/1.1 {}", bytes.replacen("\r\n", &fields, 1));
    }
}
