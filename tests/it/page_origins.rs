//! Which pages may use a hub, by the headers that browsers send: with plain requests, and in headless Chromium.

use fanfare_core::protocol::http::Method;
use serde_json::json;

use crate::support::{
    browser::{From, Page},
    guarded::{Guarded, PASSWORD, USER},
    http::HttpConnection,
    hub::Hub,
    sse::SseClient,
    wait_until,
};

const HANDSHAKE: [(&str, &str); 4] = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
];
const BROADCAST: &str = r#"{"stream_id":"default","type":"t","message":"m","data":{}}"#;
const READING: &str = r#"{"well_id":"W-1","timestamp":"2025-11-20T10:30:00Z","flow_rate":1.0}"#;

/// Every route that sends or takes events, and the body that it takes.
const DOORS: [(Method, &str, &str); 16] = [
    (Method::Get, "/sse?topic=t", ""),
    (Method::Get, "/ws?topic=t", ""),
    (Method::Post, "/publish/t", "1"),
    (Method::Post, "/publish", r#"[{"topic":"t","data":1}]"#),
    (Method::Get, "/topics", ""),
    (Method::Get, "/topics/t/history", ""),
    (Method::Get, "/stats", ""),
    (Method::Get, "/socket.io/?EIO=4&transport=polling", ""),
    (Method::Get, "/socket.io/?EIO=4&transport=websocket", ""),
    (Method::Post, "/api/v1/events/broadcast", BROADCAST),
    (Method::Post, "/api/v1/events/stream/default/start", ""),
    (Method::Get, "/api/v1/events/streams", ""),
    (Method::Get, "/api/v1/sse/stream/W-1", ""),
    (Method::Post, "/api/v1/telemetry/ingest", READING),
    (Method::Get, "/alice/events/changes", ""),
    (Method::Post, "/alice/events/changes", r#"{"sensor":"s"}"#),
];

/// The head of a route's answer, whatever follows it.
fn ask(
    hub: &Hub,
    (method, target, body): (Method, &str, &str),
    host: &str,
    headers: &[(&str, &str)],
) -> (u16, Option<String>) {
    let mut connection = HttpConnection::new(hub.connect());
    let upgrade = if target.contains("/ws") || target.contains("websocket") { &HANDSHAKE[..] } else { &[] };
    let fields = [headers, upgrade].concat();
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head =
        format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n{fields}\r\n{body}", body.len());
    connection.send(head.as_bytes());
    let response = connection.receive_head();
    (response.status, response.header("access-control-allow-origin").map(str::to_owned))
}

#[test]
fn pages_of_other_origins_reach_nothing_of_a_hub_without_tokens() {
    let hub = Hub::start();
    let own = hub.address();
    for door in DOORS {
        let check = |host: &str, headers: &[(&str, &str)], is_let_in: bool| {
            let (status, reader) = ask(&hub, door, host, headers);
            assert_eq!(status != 403, is_let_in, "{door:?} {host} {headers:?}: {status}");
            let named = headers.iter().find_map(|(name, value)| (*name == "Origin").then_some(*value));
            // A 101 needs no CORS headers.
            if status != 101 {
                assert_eq!(reader.as_deref(), named.filter(|_| is_let_in), "{door:?} {host} {headers:?}");
            }
        };
        check(own, &[], true);
        check(own, &[("Origin", &format!("http://{own}"))], true);
        check(own, &[("Origin", "http://localhost:3000")], true);
        check(own, &[("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")], false);
        check(own, &[("Origin", "null")], false);
        check(own, &[("Sec-Fetch-Site", "cross-site"), ("Sec-Fetch-Mode", "no-cors")], false);
        check("evil.example:8080", &[], false);
        check("evil.example", &[("Sec-Fetch-Site", "same-origin")], false);
        check("evil.example:8080", &[("Origin", "http://evil.example:8080")], false);
    }
    assert!(0.0 < hub.metric("fanfare_auth_failures_total{reason=\"origin_refused\"}"));
    assert!(0.0 < hub.metric("fanfare_auth_failures_total{reason=\"host_refused\"}"));
    // Routes that name no topic are for every probe.
    for target in ["/health", "/ready", "/metrics", "/"] {
        let (status, reader) =
            ask(&hub, (Method::Get, target, ""), "10.1.2.3:8080", &[("Origin", "https://evil.example")]);
        assert_eq!((status, reader), (200, None), "{target}");
    }
}

/// A target in absolute form decides the host, whatever `Host` contains (RFC 9112 section 3.2.2).
#[test]
fn the_host_of_an_absolute_target_counts() {
    let hub = Hub::start();
    let own = hub.address();
    for (method, target, body) in DOORS {
        let check = |asked: &str, host: &str, headers: &[(&str, &str)], is_let_in: bool| {
            let target = format!("http://{asked}{target}");
            let (status, _) = ask(&hub, (method, &target, body), host, headers);
            assert_eq!(status != 403, is_let_in, "{target} {host} {headers:?}: {status}");
        };
        check("evil.example", own, &[], false);
        check("evil.example", own, &[("Origin", "http://evil.example")], false);
        check(own, "evil.example", &[], true);
        check(own, "evil.example", &[("Origin", "http://evil.example")], false);
        check(own, "evil.example", &[("Origin", &format!("http://{own}"))], true);
    }
}

/// The streams of the event streaming service are documented as readable by any page. Nothing else of the service is.
#[test]
fn streams_that_are_documented_as_public_stay_so() {
    let hub = Hub::start();
    for mount in ["events", "broadcast-demo"] {
        let stream = format!("/api/v1/{mount}/stream/default");
        for (host, headers) in [(hub.address(), &[("Origin", "https://evil.example")][..]), ("evil.example", &[])] {
            let (status, reader) = ask(&hub, (Method::Get, &stream, ""), host, headers);
            assert_eq!((status, reader.as_deref()), (200, Some("*")), "{host} {headers:?}");
        }
    }
}

#[test]
fn one_line_lets_every_page_in() {
    let hub = Hub::start_with(&[], &[("cors.allow_origins", "*")]);
    for door in DOORS {
        for (host, origin) in [(hub.address(), "https://evil.example"), ("evil.example", "null")] {
            let (status, reader) = ask(&hub, door, host, &[("Origin", origin)]);
            assert_ne!(status, 403, "{door:?}");
            assert!(status == 101 || reader.as_deref() == Some("*"), "{door:?}: {status} {reader:?}");
        }
    }
}

#[test]
fn a_hub_has_the_names_that_are_configured() {
    let hub = Hub::start_with(&[], &[("server.hosts", "hub.example,*.team.example")]);
    let check = |host: &str, expected: u16| {
        assert_eq!(ask(&hub, (Method::Get, "/topics", ""), host, &[]).0, expected, "{host}");
    };
    check("hub.example:8080", 200);
    check("a.team.example", 200);
    check("team.example", 403);
    check("127.0.0.1:1", 200);
    // As from a proxy that sends the name without the port.
    let origin = [("Origin", "http://hub.example:8443")];
    assert_eq!(ask(&hub, (Method::Post, "/publish/t", "1"), "hub.example", &origin).0, 200);
}

#[test]
fn a_client_with_a_token_may_come_from_any_origin() {
    let guarded = Guarded::start("1h", &[], &[]);
    let bearer = format!("Bearer {}", guarded.admin_token());
    for door in DOORS {
        for origin in ["https://evil.example", "null", "http://localhost:3000"] {
            let headers = [("Origin", origin), ("Authorization", bearer.as_str()), ("Sec-Fetch-Site", "cross-site")];
            let (status, reader) = ask(&guarded.hub, door, "evil.example", &headers);
            assert!(!matches!(status, 401 | 403), "{door:?} {origin}: {status}");
            assert!(
                status == 101 || reader.is_some_and(|reader| ["*", origin].contains(&&*reader)),
                "{door:?} {origin}"
            );
        }
        let asked = [
            ("Origin", "null"),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization"),
        ];
        let preflight = ask(&guarded.hub, (Method::Options, door.1, ""), "evil.example", &asked);
        assert!(preflight.0 == 101 || preflight == (204, Some("*".to_owned())), "{door:?}: {preflight:?}");
    }
}

/// What a page can try. It reports the outcome of each attempt.
const TRIES: &str = r#"
    const reportStatus = (name, request) => request.then(answer => report(name, answer.status), () => report(name, "failed"));
    function opens(name, stream) {
        stream.onopen = () => report(name, "open");
        stream.onerror = () => report(name, "failed");
    }
"#;

#[test]
fn a_page_of_another_origin_finds_nothing_at_the_hub_of_this_machine() {
    let hub = Hub::start();
    let mut witness = SseClient::open(&hub, "/sse?topic=t");
    let script = format!(
        r#"{TRIES}
        (async () => {{
            await reportStatus("publish", fetch(`${{hub}}/publish/t`, {{ method: "POST", body: "forged" }}));
            // The browser sends the request, and only withholds the response from the page.
            const blind = {{ method: "POST", body: "forged", mode: "no-cors" }};
            await fetch(`${{hub}}/publish/t`, blind).then(() => report("blind", "sent"));
            await fetch(`${{hub}}/api/v1/events/broadcast`, {{ ...blind, body: '{BROADCAST}' }}).then(() => report("blind", "sent"));
            await reportStatus("read", fetch(`${{hub}}/topics`));
            opens("sse", new EventSource(`${{hub}}/sse?topic=t`));
        }})();
        opens("ws", new WebSocket(`${{hub.replace("http", "ws")}}/ws?topic=t`));
        opens("socket.io", new WebSocket(`${{hub.replace("http", "ws")}}/socket.io/?EIO=4&transport=websocket`));
        opens("public", new EventSource(`${{hub}}/api/v1/events/stream/default`));
        "#
    );
    let mut page = Page::open_from(From::Host("evil.example"), hub.url(0), &script);
    let mut received: Vec<String> = (0..8).map(|_| page.next().to_string()).collect();
    received.sort();
    let expected = [
        r#"["blind","sent"]"#,
        r#"["blind","sent"]"#,
        r#"["public","open"]"#,
        r#"["publish","failed"]"#,
        r#"["read","failed"]"#,
        r#"["socket.io","failed"]"#,
        r#"["sse","failed"]"#,
        r#"["ws","failed"]"#,
    ];
    assert_eq!(received, expected);
    hub.publish("t", "true");
    assert_eq!(witness.next_data(), "true", "nothing before it");
    assert_eq!(hub.get("/api/v1/events/streams").json()["data"]["default"]["clients"], 1);

    // An image also makes the browser request a stream. Its headers show that the page is of another site.
    let refused = || hub.metric("fanfare_auth_failures_total{reason=\"origin_refused\"}");
    let before = refused();
    let image = "new Image().src = `${hub}/sse?topic=t`;";
    let _page = Page::open_from(From::Host("evil.example"), hub.url(0), image);
    wait_until("the image is refused", || (before < refused()).then_some(()));
}

#[test]
fn pages_with_a_token_come_from_anywhere_and_others_from_this_machine() {
    let guarded = Guarded::start("1h", &[], &[]);
    let script = format!(
        r#"{TRIES}
        const token = "{}";
        (async () => {{
            const headers = {{ Authorization: `Bearer ${{token}}` }};
            await reportStatus("publish", fetch(`${{hub}}/publish/t`, {{ method: "POST", body: "1", headers }}));
            await reportStatus("nobody", fetch(`${{hub}}/publish/t`, {{ method: "POST", body: "1" }}));
            const source = new EventSource(`${{hub}}/sse?topic=t&since=0&token=${{token}}`);
            source.onmessage = event => report("sse", event.data);
        }})();
        "#,
        guarded.admin_token()
    );
    for from in [From::Host("evil.example"), From::Disk] {
        let mut page = Page::open_from(from, guarded.hub.url(0), &script);
        page.expect(json!(["publish", 200]));
        page.expect(json!(["nobody", 401]));
        page.expect(json!(["sse", "1"]));
    }
}

/// Over plain HTTP a browser sends neither `Origin` nor `Sec-Fetch-Site` with a GET, unless it is for this machine.
#[test]
fn a_cookie_serves_the_pages_of_its_hub_over_plain_http() {
    let guarded = Guarded::start("1h", &[], &[("auth.cookie_secure", "false")]);
    let script = format!(
        r#"{TRIES}
        (async () => {{
            const body = JSON.stringify({{ username: "{USER}", password: "{PASSWORD}", cookie: true }});
            await reportStatus("login", fetch("/api/v1/auth/login", {{ method: "POST", body }}));
            const source = new EventSource("/sse?topic=wells.W-1");
            source.onopen = () => report("sse", "open");
            source.onmessage = async event => {{
                await report("event", event.data);
                await reportStatus("history", fetch("/topics/wells.W-1/history"));
                const silent = await fetch("/topics/wells.W-1/history", {{ referrerPolicy: "no-referrer" }});
                await report("silent", silent.status, (await silent.json()).error.code);
                await reportStatus("post", fetch("/publish/wells.W-1", {{ method: "POST", body: "1" }}));
                await reportStatus("logout", fetch("/api/v1/auth/logout", {{ method: "POST" }}));
                await reportStatus("after", fetch("/topics/wells.W-1/history"));
            }};
        }})();
        "#
    );
    let mut page = Page::open_from(From::InFrontOf("hub.example", guarded.hub.address()), guarded.hub.url(0), &script);
    page.expect(json!(["login", 200]));
    page.expect(json!(["sse", "open"]));
    guarded.publish("wells.W-1", "1");
    page.expect(json!(["event", "1"]));
    page.expect(json!(["history", 200]));
    page.expect(json!(["silent", 401, "cookie_refused"]));
    // The token is accepted, but has no right to this topic.
    page.expect(json!(["post", 403]));
    page.expect(json!(["logout", 204]));
    page.expect(json!(["after", 401]));
}
