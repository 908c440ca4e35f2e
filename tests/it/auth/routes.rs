//! Each kind of token at each route. A new route needs a row in [`ROUTES`].

use data_encoding::BASE64URL_NOPAD;
use fanfare_core::protocol::http::Method;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{SECRET, ask, claims, make_keys, read, sign, start, status_of, unix_s, with, write_users};
use crate::support::{
    Folder,
    http::Response,
    hub::Hub,
    websocket::{Incoming, WebSocketClient},
};

/// What a client gets at a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Granted,
    /// The credential is not accepted: 401, close 4401, or an error with that meaning.
    Unauthenticated,
    /// The client has no right: 403, close 1008, or an error with that meaning.
    Forbidden,
}

/// What a route asks for besides a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Requires {
    Nothing,
    /// A right to the topic `a.b`.
    Right,
    /// A right to a topic that only the administrator's token has.
    OtherRight,
}

/// A route, and how to try it with a token or without one.
struct RouteCase {
    name: &'static str,
    requires: Requires,
    attempt: fn(&Hub, Option<&str>) -> Access,
}

const ROUTES: &[RouteCase] = &[
    RouteCase { name: "GET /sse", requires: Requires::Right, attempt: |hub, token| get(hub, "/sse?topic=a.b", token) },
    RouteCase { name: "HEAD /sse", requires: Requires::Right, attempt: head_sse },
    RouteCase { name: "GET /ws, raw", requires: Requires::Right, attempt: open_raw },
    RouteCase { name: "GET /ws, fanfare.v1", requires: Requires::Right, attempt: open_v1 },
    RouteCase {
        name: "fanfare.v1 subscribe",
        requires: Requires::Right,
        attempt: |hub, token| command(hub, token, &subscribe()),
    },
    RouteCase {
        name: "fanfare.v1 publish",
        requires: Requires::Right,
        attempt: |hub, token| command(hub, token, &publish()),
    },
    RouteCase {
        name: "fanfare.v1 stats",
        requires: Requires::Nothing,
        attempt: |hub, token| command(hub, token, &json!({ "op": "stats" })),
    },
    RouteCase { name: "fanfare.v1 auth", requires: Requires::Right, attempt: sign_in },
    RouteCase {
        name: "POST /publish/a.b",
        requires: Requires::Right,
        attempt: |hub, token| post(hub, "/publish/a.b", "1", token),
    },
    RouteCase {
        name: "POST /publish",
        requires: Requires::Right,
        attempt: |hub, token| post(hub, "/publish", BATCH, token),
    },
    RouteCase {
        name: "GET history",
        requires: Requires::Right,
        attempt: |hub, token| get(hub, "/topics/a.b/history", token),
    },
    RouteCase { name: "GET topic", requires: Requires::Right, attempt: |hub, token| get(hub, "/topics/a.b", token) },
    RouteCase { name: "GET /topics", requires: Requires::Nothing, attempt: |hub, token| get(hub, "/topics", token) },
    RouteCase { name: "GET /stats", requires: Requires::Nothing, attempt: |hub, token| get(hub, "/stats", token) },
    RouteCase {
        name: "GET well",
        requires: Requires::OtherRight,
        attempt: |hub, token| get(hub, "/api/v1/sse/stream/b", token),
    },
    RouteCase {
        name: "GET pod",
        requires: Requires::OtherRight,
        attempt: |hub, token| get(hub, "/p/events/changes", token),
    },
    RouteCase {
        name: "POST pod",
        requires: Requires::OtherRight,
        attempt: |hub, token| post(hub, "/p/events/changes", "{}", token),
    },
    RouteCase {
        name: "GET events",
        requires: Requires::OtherRight,
        attempt: |hub, token| get(hub, "/api/v1/events/stream/s", token),
    },
    RouteCase {
        name: "GET events' streams",
        requires: Requires::Nothing,
        attempt: |hub, token| get(hub, "/api/v1/events/streams", token),
    },
    RouteCase {
        name: "POST events",
        requires: Requires::OtherRight,
        attempt: |hub, token| post(hub, "/api/v1/events/broadcast", EVENT, token),
    },
    RouteCase {
        name: "POST telemetry",
        requires: Requires::OtherRight,
        attempt: |hub, token| post(hub, "/api/v1/telemetry/ingest", READING, token),
    },
    RouteCase {
        name: "POST alerts",
        requires: Requires::OtherRight,
        attempt: |hub, token| post(hub, "/api/v1/alerts", ALERT, token),
    },
    RouteCase {
        name: "POST diagnostics",
        requires: Requires::OtherRight,
        attempt: |hub, token| post(hub, "/api/v1/diagnostics", DIAGNOSTIC, token),
    },
    RouteCase {
        name: "Socket.IO connect",
        requires: Requires::Nothing,
        attempt: |hub, token| send_packet(hub, token, None),
    },
    RouteCase {
        name: "Socket.IO subscribe",
        requires: Requires::Right,
        attempt: |hub, token| send_packet(hub, token, Some(r#"42["subscribe",{"topic":"a.b"}]"#)),
    },
    RouteCase {
        name: "Socket.IO publish",
        requires: Requires::Right,
        attempt: |hub, token| send_packet(hub, token, Some(r#"42["publish",{"topic":"a.b","data":1}]"#)),
    },
];

const EVENT: &str = r#"{"type":"info","message":"m","stream_id":"s"}"#;
const READING: &str = r#"{"well_id":"b","flow_rate":1}"#;

const ALERT: &str = r#"{"well_id":"b","type":"t","severity":"info","message":"m"}"#;
const DIAGNOSTIC: &str = r#"{"well_id":"b","pump":"fine"}"#;

const BATCH: &str = r#"[{"topic":"a.b","data":1}]"#;

fn subscribe() -> Value {
    json!({ "op": "subscribe", "topic": "a.b" })
}

fn publish() -> Value {
    json!({ "op": "publish", "topic": "a.b", "data": 1 })
}

fn of_status(status: u16) -> Access {
    match status {
        200..=202 => Access::Granted,
        401 => Access::Unauthenticated,
        403 => Access::Forbidden,
        other => panic!("{other} is no answer to expect"),
    }
}

fn get(hub: &Hub, target: &str, token: Option<&str>) -> Access {
    let joined = if target.contains('?') { '&' } else { '?' };
    of_status(match token {
        Some(token) => status_of(hub, &format!("{target}{joined}token={token}"), &[]),
        None => status_of(hub, target, &[]),
    })
}

fn head_sse(hub: &Hub, token: Option<&str>) -> Access {
    of_status(request(hub, Method::Head, "/sse?topic=a.b", "", token).status)
}

fn post(hub: &Hub, target: &str, body: &str, token: Option<&str>) -> Access {
    of_status(request(hub, Method::Post, target, body, token).status)
}

fn request(hub: &Hub, method: Method, target: &str, body: &str, token: Option<&str>) -> Response {
    let value = format!("bearer {}", token.unwrap_or_default());
    let headers: &[(&str, &str)] = if token.is_some() { &[("Authorization", &value)] } else { &[] };
    ask(hub, method, target, headers, body)
}

fn target(path: &str, token: Option<&str>) -> String {
    token.map_or_else(|| path.to_owned(), |token| format!("{path}&token={token}"))
}

fn open_raw(hub: &Hub, token: Option<&str>) -> Access {
    let mut client = WebSocketClient::open(hub, &target("/ws?topic=a.b", token));
    // An admitted client gets the event, a refused one a close frame.
    publish_as_admin(hub);
    of_incoming(&client.next())
}

fn open_v1(hub: &Hub, token: Option<&str>) -> Access {
    let mut client = WebSocketClient::open_v1(hub, &target("/ws?topic=a.b", token));
    publish_as_admin(hub);
    of_incoming(&client.next())
}

fn publish_as_admin(hub: &Hub) {
    let admin = sign(&json!({ "sub": "root", "exp": unix_s() + 60, "role": "admin" }));
    assert_eq!(post(hub, "/publish/a.b", "1", Some(&admin)), Access::Granted);
}

fn of_incoming(incoming: &Incoming) -> Access {
    match incoming {
        Incoming::Text(_) => Access::Granted,
        Incoming::Close(Some(4401), _) => Access::Unauthenticated,
        Incoming::Close(Some(1008), _) => Access::Forbidden,
        other => panic!("{other:?} is nothing to expect"),
    }
}

fn command(hub: &Hub, token: Option<&str>, command: &Value) -> Access {
    let path = token.map_or_else(|| "/ws".to_owned(), |token| format!("/ws?token={token}"));
    let mut client = WebSocketClient::open_v1(hub, &path);
    // If the hub has closed already, the next message shows it.
    client.send(&command.to_string());
    match client.next() {
        Incoming::Text(text) => of_reply(&serde_json::from_str(&text).expect("it speaks JSON")),
        other => of_incoming(&other),
    }
}

fn of_reply(reply: &Value) -> Access {
    match (reply["op"].as_str(), reply["code"].as_str()) {
        (Some("error"), Some("Unauthenticated")) => Access::Unauthenticated,
        (Some("error"), Some("Forbidden")) => Access::Forbidden,
        (Some("subscribed" | "published" | "stats"), _) => Access::Granted,
        _ => panic!("{reply} is nothing to expect"),
    }
}

/// A Socket.IO session that connects with the token, and then sends `packet`.
fn send_packet(hub: &Hub, token: Option<&str>, packet: Option<&str>) -> Access {
    let mut client = WebSocketClient::open(hub, "/socket.io/?EIO=4&transport=websocket");
    assert!(client.next_text().starts_with("0{"), "the handshake");
    let shown = token.map(|token| json!({ "token": token }).to_string());
    client.send(&format!("40{}", shown.unwrap_or_default()));
    let answer = client.next_text();
    if let Some(refused) = answer.strip_prefix("44") {
        let refused: Value = serde_json::from_str(refused).expect("it speaks JSON");
        return of_error(&refused["data"]);
    }
    assert!(answer.starts_with("40{"), "{answer}");
    assert!(client.next_text().starts_with("42[\"connected\""), "the greeting");
    let Some(packet) = packet else { return Access::Granted };
    client.send(packet);
    let reply = client.next_text();
    let reply: Value = serde_json::from_str(reply.trim_start_matches(char::is_numeric)).expect("it speaks JSON");
    match reply[0].as_str() {
        Some("subscribed" | "published") => Access::Granted,
        _ => of_error(&reply[1]),
    }
}

fn of_error(reply: &Value) -> Access {
    match reply["error"].as_str() {
        Some("AuthenticationError") => Access::Unauthenticated,
        Some("AuthorizationError") => Access::Forbidden,
        _ => panic!("{reply} is nothing to expect"),
    }
}

/// A WebSocket that is opened without a token signs in by a command.
fn sign_in(hub: &Hub, token: Option<&str>) -> Access {
    let mut client = WebSocketClient::open_v1(hub, "/ws");
    let Some(token) = token else {
        return of_reply(&client.ask(&subscribe()));
    };
    let answer = client.ask(&json!({ "op": "auth", "token": token, "ref": 1 }));
    assert_eq!(answer["ref"], 1);
    if answer["op"] != "authenticated" {
        assert_eq!(of_reply(&answer), Access::Unauthenticated, "a right is only asked for by what needs one");
        return of_reply(&client.ask(&subscribe()));
    }
    of_reply(&client.ask(&subscribe()))
}

/// Every kind of token: its name, the token, and the outcome at a route that requires no right to a topic.
fn tokens(public_key: &[u8], private_key: &[u8]) -> Vec<(&'static str, Option<String>, Access)> {
    let hmac = |header: &Header, secret: &[u8]| {
        Some(encode(header, &claims(), &EncodingKey::from_secret(secret)).expect("it signs"))
    };
    let header = Header::new(Algorithm::HS256);
    let none = format!(
        "{}.{}.",
        BASE64URL_NOPAD.encode(br#"{"alg":"none","typ":"JWT"}"#),
        BASE64URL_NOPAD.encode(claims().to_string().as_bytes())
    );
    let key = EncodingKey::from_rsa_pem(private_key).expect("openssl writes PEM");
    let rsa = encode(&Header::new(Algorithm::RS256), &claims(), &key).expect("it signs");
    let claimed_rsa = sign(&claims()).replacen(
        &BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"HS256"}"#),
        &BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"RS256"}"#),
        1,
    );
    let critical = Header { crit: Some(vec!["b64".into()]), ..header.clone() };
    let signed = |name: &str, value: Value| Some(sign(&with(claims(), name, value)));
    vec![
        ("no token", None, Access::Unauthenticated),
        ("a valid one", Some(sign(&claims())), Access::Granted),
        ("a valid one of the other key", Some(rsa), Access::Granted),
        ("an admin's", Some(sign(&json!({ "sub": "root", "exp": unix_s() + 60, "role": "admin" }))), Access::Granted),
        (
            "without a right",
            Some(sign(&json!({ "sub": "eve", "exp": unix_s() + 60, "subscribe": ["b.**"] }))),
            Access::Granted,
        ),
        (
            "of another secret",
            hmac(&header, b"another secret of no less than thirty-two bytes"),
            Access::Unauthenticated,
        ),
        (
            "of an algorithm not allowed",
            hmac(&Header::new(Algorithm::HS384), SECRET.as_bytes()),
            Access::Unauthenticated,
        ),
        ("alg none", Some(none), Access::Unauthenticated),
        ("the public key as a secret", hmac(&header, public_key), Access::Unauthenticated),
        ("the secret's under the other algorithm", Some(claimed_rsa), Access::Unauthenticated),
        ("critical", hmac(&critical, SECRET.as_bytes()), Access::Unauthenticated),
        ("expired", signed("exp", (unix_s() - 1).into()), Access::Unauthenticated),
        ("without an end", signed("exp", Value::Null), Access::Unauthenticated),
        ("not yet valid", signed("nbf", (unix_s() + 30).into()), Access::Unauthenticated),
        ("of a user who is gone", signed("fanfare_login", unix_s().into()), Access::Unauthenticated),
        ("oversized", signed("padding", "x".repeat(8 * 1024).into()), Access::Unauthenticated),
        ("garbage", Some("garbage".into()), Access::Unauthenticated),
        ("empty", Some(String::new()), Access::Unauthenticated),
        ("dots", Some("..".into()), Access::Unauthenticated),
    ]
}

#[test]
fn every_route_asks_for_a_token_and_checks_it() {
    let folder = Folder::new();
    let users = write_users(&folder, "");
    let text = std::fs::read_to_string(&users).expect("it was just written").replace("ann", "bob");
    std::fs::write(&users, text).expect("the folder is writable");
    let (private, public) = make_keys(&folder, "rsa", &["-algorithm", "RSA"]);
    let settings =
        [("auth.algorithms", "HS256,RS256"), ("auth.public_key_file", &public), ("users.file", users.as_str())];
    let hub = start(&settings);
    for (kind, token, access) in tokens(&read(&public), &read(&private)) {
        for RouteCase { name, requires, attempt } in ROUTES {
            let has_right = match requires {
                Requires::Nothing => true,
                Requires::Right => kind != "without a right",
                Requires::OtherRight => kind == "an admin's",
            };
            let expected = if access == Access::Granted && !has_right { Access::Forbidden } else { access };
            assert_eq!(attempt(&hub, token.as_deref()), expected, "{kind} at {name}");
        }
    }
    for (reason, least) in [
        ("token_missing", 10.0),
        ("token_invalid", 80.0),
        ("token_expired", 10.0),
        ("user_revoked", 10.0),
        ("forbidden", 8.0),
    ] {
        let count = hub.metric(&format!("fanfare_auth_failures_total{{reason=\"{reason}\"}}"));
        assert!(least <= count, "{reason}: {count}");
    }
}

#[test]
fn some_routes_ask_for_no_token() {
    let hub = start(&[]);
    for target in ["/", "/health", "/healthz", "/livez", "/ready", "/readyz", "/metrics"] {
        assert_eq!(hub.get(target).status, 200, "{target}");
    }
    assert_eq!(ask(&hub, Method::Options, "/publish/a.b", &[], "").status, 204);
    assert_eq!(hub.get("/nowhere").status, 404);
    let missing = hub.get("/stats");
    assert_eq!((missing.error_code().as_str(), missing.header("www-authenticate")), ("token_missing", Some("Bearer")));
}

#[test]
fn a_list_shows_the_permitted_topics() {
    let hub = start(&[]);
    let admin = sign(&json!({ "sub": "root", "exp": unix_s() + 60, "role": "admin" }));
    for topic in ["a.b", "b.c"] {
        assert_eq!(post(&hub, &format!("/publish/{topic}"), "1", Some(&admin)), Access::Granted);
    }
    let listed = |token: &str| -> Vec<String> {
        let topics = hub.get(&format!("/topics?token={token}")).json();
        let names = topics["topics"].as_array().expect("a list").iter().map(|topic| topic["topic"].clone());
        names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let hers = listed(&sign(&claims()));
    assert!(hers.contains(&"a.b".to_owned()) && !hers.contains(&"b.c".to_owned()), "{hers:?}");
    assert!(listed(&admin).contains(&"b.c".to_owned()));
}

#[test]
fn a_batch_is_refused_as_a_whole() {
    let hub = start(&[]);
    let batch = r#"[{"topic":"a.b","data":1},{"topic":"b.c","data":2}]"#;
    let token = sign(&claims());
    assert_eq!(post(&hub, "/publish", batch, Some(&token)), Access::Forbidden);
    let history = hub.get(&format!("/topics/a.b/history?token={token}"));
    assert_eq!(history.error_code(), "unknown_topic");
}
