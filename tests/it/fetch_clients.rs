//! Clients of event streams that look like a browser's EventSource and are none: `fetch` in pages, and in Node.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::support::{browser::Page, conversation::Conversation, hub::Hub, packages::outside_clients, wait_until};

const EVENTS: u64 = 10;

/// The library as a page can run it: each of its files in a scope of its own.
fn library() -> String {
    let read = |name: &str| {
        let path = outside_clients().join("node_modules/@microsoft/fetch-event-source/lib/cjs").join(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let (parse, fetch) = (read("parse.js"), read("fetch.js"));
    format!(
        "const parse = (() => {{ const exports = {{}};\n{parse}\nreturn exports; }})();
         const {{ fetchEventSource }} =
            (() => {{ const exports = {{}}, require = () => parse;\n{fetch}\nreturn exports; }})();"
    )
}

fn open(hub: &Hub, options: &str) -> Page {
    let script = format!(
        "{}
        fetchEventSource(`${{hub}}/sse?topic=t`, {{
            openWhenHidden: true,
            {options}
            onopen: async response => report('open', response.status),
            onmessage: message => report('message', JSON.parse(message.data).n),
            onerror: () => {{ report('failed'); return 20; }},
        }});",
        library()
    );
    Page::open(hub.url(0), &script)
}

fn publish(hub: &Hub) {
    (0..EVENTS).for_each(|number| drop(hub.publish("t", json!({ "n": number }).to_string())));
}

/// This client takes each block for an event, and reconnects at one that it cannot parse.
#[test]
fn fetch_event_source_gets_events_only() {
    let hub = Hub::start();
    let mut page = open(&hub, "");
    page.expect(json!(["open", 200]));
    hub.wait_for_listeners("t", 1);
    publish(&hub);
    (0..EVENTS).for_each(|number| page.expect(json!(["message", number])));
}

/// A stream with a greeting sends its ids with the greeting, and never a block without data, whatever headers the request has.
#[test]
fn fetch_event_source_is_greeted_by_the_event_streaming_service() {
    let hub = Hub::start();
    for mount in ["events", "broadcast-demo"] {
        let script = format!(
            "{}
            fetchEventSource(`${{hub}}/api/v1/{mount}/stream/s`, {{
                openWhenHidden: true,
                cache: 'no-store',
                onmessage: message => report(message.id !== '', JSON.parse(message.data).type),
                onerror: () => {{ report('failed'); return 20; }},
            }});",
            library()
        );
        let mut page = Page::open(hub.url(0), &script);
        page.expect(json!([true, "connection"]));
        for kind in ["first", "second"] {
            let body = json!({ "stream_id": "s", "type": kind, "message": "m" }).to_string();
            assert_eq!(hub.post(&format!("/api/v1/{mount}/broadcast"), body).status, 200);
            page.expect(json!([true, kind]));
        }
    }
}

/// With `cache: "no-store"` its request is equal to an EventSource's. The hub's wrong guess may cost it one attempt, and no event.
#[test]
fn a_client_with_the_same_headers_recovers() {
    let hub = Hub::start();
    let mut page = open(&hub, "cache: 'no-store',");
    page.expect(json!(["open", 200]));
    page.expect(json!(["failed"]));
    publish(&hub);
    let mut received: Vec<Value> = Vec::new();
    while received.iter().filter(|received| received[0] == "message").count() < EVENTS as usize {
        received.push(page.next());
    }
    let events: Vec<Value> = received.iter().filter(|received| received[0] == "message").cloned().collect();
    assert_eq!(events, (0..EVENTS).map(|number| json!(["message", number])).collect::<Vec<_>>());
    assert_eq!(received.iter().filter(|received| received[0] == "failed").count(), 0, "once is enough: {received:?}");
}

#[test]
fn node_clients_get_events_only() {
    let hub = Hub::start();
    let script = format!(
        "import {{ EventSource }} from 'undici';
        const source = new EventSource('{}/sse?topic=t');
        source.onmessage = event => console.log(JSON.parse(event.data).n);
        source.onerror = () => console.log('failed');",
        hub.url(0)
    );
    let mut node = Command::new("node");
    node.args(["--no-warnings", "--input-type=module", "--eval", &script]).current_dir(outside_clients());
    let listening = Conversation::run(&mut node, "nodejs");
    hub.wait_for_listeners("t", 1);
    publish(&hub);
    (0..EVENTS).for_each(|number| assert_eq!(listening.next_line(), number.to_string()));
    drop(listening);
    wait_until("it is gone", || (hub.listeners("t").unwrap_or_default() == 0).then_some(()));
}
