//! A browser's own EventSource, WebSocket and fetch, in headless Chromium.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{browser::Page, hub::Hub, relay::Relay, sse::SseClient, websocket::WebSocketClient};

#[test]
fn event_source_names_and_resumes() {
    let hub = Hub::start_with(&[], &[("sse.retry", "50ms")]);
    let network = Relay::start(hub.address());
    let script = r#"
        const source = new EventSource(`${hub}/sse?topic=t`);
        source.onopen = () => report("open");
        source.onmessage = event => report("message", event.data, event.lastEventId);
        source.addEventListener("made", event => report("made", event.data, event.lastEventId));
        source.onerror = () => report("error", source.readyState);
    "#;
    let mut page = Page::open(&format!("http://{}", network.address()), script);
    page.expect(json!(["open"]));
    let id = hub.publish("t", "one\ntwo");
    page.expect(json!(["message", "one\ntwo", id]));
    assert_eq!(hub.post("/publish/t?type=made", "héllo").status, 200);
    let made = page.next();
    assert_eq!((&made[0], &made[1]), (&json!("made"), &json!("héllo")));
    network.cut();
    let missed = [hub.publish("t", "missed"), hub.publish("t", "missed, too")];
    page.expect(json!(["error", 0]));
    network.restore();
    // Attempts while the network was down may have failed as well.
    let mut next = page.next();
    while next[0] == "error" {
        next = page.next();
    }
    assert_eq!(next, json!(["open"]));
    page.expect(json!(["message", "missed", missed[0]]));
    page.expect(json!(["message", "missed, too", missed[1]]));
    let live = hub.publish("t", "live");
    page.expect(json!(["message", "live", live]));
}

#[test]
fn event_source_comes_back_after_a_restart() {
    let settings = [("sse.retry", "50ms")];
    let hub = Hub::start_with(&[], &settings);
    let script = r#"
        const source = new EventSource(`${hub}/sse?topic=t`);
        source.onopen = () => report("open");
        source.onmessage = event => report("message", event.data);
        source.addEventListener("error", event => report("error", event.data ? JSON.parse(event.data).code : null));
    "#;
    let mut page = Page::open(hub.url(0), script);
    page.expect(json!(["open"]));
    hub.publish("t", "before");
    page.expect(json!(["message", "before"]));
    let address = hub.address().to_owned();
    assert!(hub.terminate().success());
    page.expect(json!(["error", null]));
    let mut again = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    again.args(["serve", "--listen", &address]);
    let hub = Hub::spawn(again, &settings);
    while page.next() != json!(["open"]) {}
    hub.publish("t", "after");
    page.expect(json!(["message", "after"]));
}

#[test]
fn event_source_comes_back_to_a_hub_that_was_full() {
    let hub = Hub::start_with(&[], &[("sse.retry", "50ms"), ("server.max_connections", "2")]);
    // Published over one of the connections that fill the hub: a further one might still be open, and counted.
    let mut publisher = WebSocketClient::open_v1(&hub, "/ws");
    publisher.ask(&json!({ "op": "publish", "topic": "t", "data": "at last" }));
    let holders = (publisher, SseClient::open(&hub, "/sse?topic=other"));
    let script = r#"
        const source = new EventSource(`${hub}/sse?topic=t&last_event_id=first`);
        source.onmessage = event => report("message", event.data);
        source.addEventListener("error", event => event.data && report("error", JSON.parse(event.data).code));
    "#;
    let mut page = Page::open(hub.url(0), script);
    page.expect(json!(["error", "try_later"]));
    page.expect(json!(["error", "try_later"]));
    drop(holders);
    let mut next = page.next();
    while next[0] == "error" {
        next = page.next();
    }
    assert_eq!(next, json!(["message", "\"at last\""]));
}

#[test]
fn websocket_raw_and_fanfare_v1() {
    let hub = Hub::start();
    let script = r#"
        const raw = new WebSocket(`${hub.replace("http", "ws")}/ws?topic=t`);
        raw.onopen = () => report("raw open", raw.protocol);
        raw.onmessage = event => report("raw", event.data);
        raw.onclose = event => report("raw closed", event.code, event.wasClean, "reconnect_in_ms" in JSON.parse(event.reason));
        raw.addEventListener("open", () => {
            const socket = new WebSocket(`${hub.replace("http", "ws")}/ws`, "fanfare.v1");
            socket.onopen = () => {
                report("open", socket.protocol);
                socket.send(JSON.stringify({ op: "subscribe", topic: "t", ref: 1 }));
            };
            socket.onmessage = event => {
                const message = JSON.parse(event.data);
                report(message.op, message.ref ?? null, message.data ?? null);
                if (message.op == "event") socket.send(JSON.stringify({ op: "ping", ref: "last" }));
                if (message.op == "pong") socket.close(4000, "enough");
            };
            socket.onclose = event => report("closed", event.code, event.wasClean);
        });
    "#;
    let mut page = Page::open(hub.url(0), script);
    page.expect(json!(["raw open", ""]));
    page.expect(json!(["open", "fanfare.v1"]));
    page.expect(json!(["subscribed", 1, null]));
    hub.publish("t", r#"{"n": "é"}"#);
    // The order holds within each socket, not between the two.
    let received: Vec<Value> = (0..4).map(|_| page.next()).collect();
    let (raw, other): (Vec<Value>, Vec<Value>) = received.into_iter().partition(|received| received[0] == "raw");
    assert_eq!(raw, [json!(["raw", r#"{"n": "é"}"#])]);
    let expected = [json!(["event", null, { "n": "é" }]), json!(["pong", "last", null]), json!(["closed", 4000, true])];
    assert_eq!(other, expected);
    assert!(hub.terminate().success());
    page.expect(json!(["raw closed", 1012, true, true]));
}

#[test]
fn fetch_publishes_across_origins() {
    let hub = Hub::start();
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let script = r#"
        (async () => {
            // A custom header makes the browser send a preflight request.
            const request = { method: "POST", headers: { "Event-Type": "made" }, body: "from a page" };
            const taken = await fetch(`${hub}/publish/t`, request);
            report("taken", taken.status, (await taken.json()).topic);
            const refused = await fetch(`${hub}/publish/a..b`, request);
            report("refused", refused.status, (await refused.json()).error.code);
            const read = await fetch(`${hub}/topics/t/history`);
            report("history", (await read.json()).events[0].data);
        })().catch(error => report("failed", String(error)));
    "#;
    let mut page = Page::open(hub.url(0), script);
    page.expect(json!(["taken", 200, "t"]));
    page.expect(json!(["refused", 400, "bad_topic"]));
    page.expect(json!(["history", "from a page"]));
    let event = stream.next();
    assert_eq!((event.kind.as_str(), event.data.as_str()), ("made", "from a page"));
}
