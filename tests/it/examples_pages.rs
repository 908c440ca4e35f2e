//! The pages of `scripts/examples`, in a browser.

use std::time::Instant;

use serde_json::json;

use crate::support::{
    TIMEOUT,
    browser::{From, Page},
    guarded::{Guarded, PASSWORD, USER},
    hub::Hub,
    relay::Relay,
    wait_until,
};

/// Reports each change of what the page shows.
const WATCH: &str = r#"
    const form = document.querySelector("form");
    const find = id => document.getElementById(id);
    const watch = (id, tell) => new MutationObserver(tell).observe(find(id), { childList: true });
    for (const id of ["status", "problem"]) watch(id, () => report(id, find(id).textContent));
    watch("events", changes => {
        for (const entry of changes.flatMap(change => [...change.addedNodes])) {
            report(entry.className, entry.lastChild.textContent);
        }
    });
    const figures = ["received", "gaps", "reconnects"];
    for (const id of figures) watch(id, () => report("figures", figures.map(id => find(id).textContent).join()));
    function connect(names, username = "", password = "") {
        const values = { hub, names, username, password };
        for (const [name, value] of Object.entries(values)) form.elements[name].value = value;
        form.requestSubmit();
    }
"#;

fn open(name: &str, hub: &str, script: &str) -> Page {
    open_from(From::Host("localhost"), name, hub, script)
}

fn open_from(from: From<'_>, name: &str, hub: &str, script: &str) -> Page {
    Page::open_example(name, from, hub, &format!("{WATCH}{script}"))
}

impl Page {
    /// Skips reports until one of `kind` that begins with `start`. Returns the rest of that one.
    #[track_caller]
    fn wait_for(&mut self, kind: &str, start: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            assert!(Instant::now() < deadline, "the page shows much, but not {kind} {start:?}");
            let report = self.next();
            let rest = report[1].as_str().and_then(|text| text.strip_prefix(start));
            if let (true, Some(rest)) = (report[0] == kind, rest) {
                return rest.to_owned();
            }
        }
    }
}

#[test]
fn the_page_with_an_event_source_goes_on_where_it_was() {
    check_going_on("sse.html", "Connected by EventSource");
}

#[test]
fn the_page_with_a_websocket_goes_on_where_it_was() {
    check_going_on("websocket.html", "Connected by WebSocket, and");
}

/// The network is cut, and later the hub is restarted: nothing is missing, or the page shows what.
#[track_caller]
fn check_going_on(name: &str, connected: &str) {
    let settings = [("sse.retry", "100ms")];
    let hub = Hub::start_with(&[], &settings);
    let network = Relay::start(hub.address());
    let script = r#"connect("wells.WELL-001 orders.eu");"#;
    let mut page = open(name, &format!("http://{}", network.address()), script);
    page.wait_for("status", connected);
    hub.wait_for_listeners("orders.eu", 1);
    let seen = hub.publish("wells.WELL-001?type=alert", json!({ "n": 1 }).to_string());
    assert!(page.wait_for("event", "alert ").ends_with(r#": {"n":1}"#));
    network.cut();
    page.wait_for("status", "The connection is lost.");
    let missed = hub.publish("orders.eu", json!({ "n": 2 }).to_string());
    network.restore();
    assert!(page.wait_for("event", "message ").contains(r#"{"n":2}"#));
    page.wait_for("figures", "2,0,1");
    let address = hub.address().to_owned();
    assert!(hub.terminate().success());
    let hub = Hub::start_at(&address, &[], &settings);
    for (topic, last) in [("wells.WELL-001", seen), ("orders.eu", missed)] {
        let gap = page.wait_for("gap", "gap in ");
        assert!(gap.starts_with(&format!("{topic}: what came after {last}, up to ")), "{name}: {gap}");
        assert!(gap.ends_with("is missing (epoch)"), "{name}: {gap}");
    }
    assert!(hub.terminate().success());
}

#[test]
fn the_page_with_socketio_goes_on_where_it_was() {
    let settings = [("socketio.recovery", "1m")];
    let hub = Hub::start_with(&[], &settings);
    let network = Relay::start(hub.address());
    let url = format!("http://{}", network.address());
    let mut page = open("socketio.html", &url, r#"connect("WELL-001");"#);
    // By polling first, unless the session upgraded to WebSocket before the client was admitted.
    page.wait_for("status", "Connected by ");
    hub.wait_for_listeners("wells.WELL-001", 1);
    hub.publish("wells.WELL-001?type=alert", json!({ "n": 1 }).to_string());
    assert!(page.wait_for("event", "alert").ends_with(r#": {"n":1}"#));
    network.cut();
    page.wait_for("status", "The connection is lost.");
    hub.publish("wells.WELL-001?type=alert", json!({ "n": 2 }).to_string());
    network.restore();
    assert!(page.wait_for("event", "alert").ends_with(r#": {"n":2}"#));
    page.wait_for("figures", "2,0,1");
    let address = hub.address().to_owned();
    assert!(hub.terminate().success());
    let hub = Hub::start_at(&address, &[], &settings);
    page.wait_for("gap", "gap in wells.WELL-001: ");
    hub.wait_for_listeners("wells.WELL-001", 1);
}

/// The page reconnects after a lost connection, but not after a disconnect.
#[test]
fn the_page_with_socketio_disconnects_when_asked_to() {
    let hub = Hub::start();
    let leave = r#"
        watch("events", () => find("disconnect").click());
        const tell = () => report("left", `${find("status").textContent} ${timer}`);
        new MutationObserver(tell).observe(find("status"), { childList: true });
        connect("WELL-001");
    "#;
    let mut page = open("socketio.html", hub.url(0), leave);
    // Both in one report: what is reported one after the other may arrive in another order.
    page.wait_for("left", "Disconnected. null");
    hub.wait_for_listeners("wells.WELL-001", 0);
}

#[test]
fn pages_sign_in() {
    // A browser that ends says no goodbye for a session that polls.
    let settings = [("socketio.ping_interval", "1s"), ("socketio.ping_timeout", "2s")];
    let guarded = Guarded::start("1h", &[], &settings);
    let pages = [
        ("sse.html", "wells.WELL-001", "Connected by EventSource"),
        ("websocket.html", "wells.WELL-001", "Connected by WebSocket, and"),
        ("socketio.html", "WELL-001", "Connected by "),
    ];
    for (name, topics, connected) in pages {
        let script = format!(
            "connect('{topics}', '{USER}', 'a wrong one');
            const again = () => connect('{topics}', '{USER}', '{PASSWORD}');
            watch('problem', () => find('problem').textContent && setTimeout(again));"
        );
        // Signed-in clients may come from any origin.
        let mut page = open_from(From::Disk, name, guarded.hub.url(0), &script);
        page.wait_for("problem", "The hub does not accept this user name and password.");
        page.wait_for("status", connected);
        wait_until("it listens", || (0 < guarded.listeners("wells.WELL-001")).then_some(()));
        drop(page);
        wait_until("it is gone", || (guarded.listeners("wells.WELL-001") == 0).then_some(()));
    }
}
