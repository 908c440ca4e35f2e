//! Every kind of token at every route. A new route is a row in [`DOORS`].

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
enum Fate {
    In,
    /// It has to show something else: 401, close 4401, or an error that says so.
    Unknown,
    /// It has no right: 403, close 1008, or an error that says so.
    Forbidden,
}

/// What a route asks for besides a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Nothing,
    /// A right to the topic `a.b`.
    Right,
    /// A right to a topic that of the tokens here only the administrator's gives.
    OtherRight,
}

/// A route, and how to try it with a token or without one.
struct Door {
    name: &'static str,
    asks: Asks,
    knock: fn(&Hub, Option<&str>) -> Fate,
}

const DOORS: &[Door] = &[
    Door { name: "GET /sse", asks: Asks::Right, knock: |hub, token| get(hub, "/sse?topic=a.b", token) },
    Door { name: "HEAD /sse", asks: Asks::Right, knock: head_sse },
    Door { name: "GET /ws, raw", asks: Asks::Right, knock: open_raw },
    Door { name: "GET /ws, fanfare.v1", asks: Asks::Right, knock: open_v1 },
    Door { name: "fanfare.v1 subscribe", asks: Asks::Right, knock: |hub, token| command(hub, token, &subscribe()) },
    Door { name: "fanfare.v1 publish", asks: Asks::Right, knock: |hub, token| command(hub, token, &publish()) },
    Door {
        name: "fanfare.v1 stats",
        asks: Asks::Nothing,
        knock: |hub, token| command(hub, token, &json!({ "op": "stats" })),
    },
    Door { name: "fanfare.v1 auth", asks: Asks::Right, knock: sign_in },
    Door { name: "POST /publish/a.b", asks: Asks::Right, knock: |hub, token| post(hub, "/publish/a.b", "1", token) },
    Door { name: "POST /publish", asks: Asks::Right, knock: |hub, token| post(hub, "/publish", BATCH, token) },
    Door { name: "GET history", asks: Asks::Right, knock: |hub, token| get(hub, "/topics/a.b/history", token) },
    Door { name: "GET topic", asks: Asks::Right, knock: |hub, token| get(hub, "/topics/a.b", token) },
    Door { name: "GET /topics", asks: Asks::Nothing, knock: |hub, token| get(hub, "/topics", token) },
    Door { name: "GET /stats", asks: Asks::Nothing, knock: |hub, token| get(hub, "/stats", token) },
    Door { name: "GET well", asks: Asks::OtherRight, knock: |hub, token| get(hub, "/api/v1/sse/stream/b", token) },
    Door { name: "GET pod", asks: Asks::OtherRight, knock: |hub, token| get(hub, "/p/events/changes", token) },
    Door { name: "POST pod", asks: Asks::OtherRight, knock: |hub, token| post(hub, "/p/events/changes", "{}", token) },
    Door { name: "GET events", asks: Asks::OtherRight, knock: |hub, token| get(hub, "/api/v1/events/stream/s", token) },
    Door {
        name: "GET events' streams",
        asks: Asks::Nothing,
        knock: |hub, token| get(hub, "/api/v1/events/streams", token),
    },
    Door {
        name: "POST events",
        asks: Asks::OtherRight,
        knock: |hub, token| post(hub, "/api/v1/events/broadcast", EVENT, token),
    },
    Door {
        name: "POST telemetry",
        asks: Asks::OtherRight,
        knock: |hub, token| post(hub, "/api/v1/telemetry/ingest", READING, token),
    },
    Door { name: "POST alerts", asks: Asks::OtherRight, knock: |hub, token| post(hub, "/api/v1/alerts", ALERT, token) },
    Door {
        name: "POST diagnostics",
        asks: Asks::OtherRight,
        knock: |hub, token| post(hub, "/api/v1/diagnostics", DIAGNOSTIC, token),
    },
    Door { name: "Socket.IO connect", asks: Asks::Nothing, knock: |hub, token| say_packet(hub, token, None) },
    Door {
        name: "Socket.IO subscribe",
        asks: Asks::Right,
        knock: |hub, token| say_packet(hub, token, Some(r#"42["subscribe",{"topic":"a.b"}]"#)),
    },
    Door {
        name: "Socket.IO publish",
        asks: Asks::Right,
        knock: |hub, token| say_packet(hub, token, Some(r#"42["publish",{"topic":"a.b","data":1}]"#)),
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

fn of_status(status: u16) -> Fate {
    match status {
        200..=202 => Fate::In,
        401 => Fate::Unknown,
        403 => Fate::Forbidden,
        other => panic!("{other} is no answer to expect"),
    }
}

fn get(hub: &Hub, target: &str, token: Option<&str>) -> Fate {
    let joined = if target.contains('?') { '&' } else { '?' };
    of_status(match token {
        Some(token) => status_of(hub, &format!("{target}{joined}token={token}"), &[]),
        None => status_of(hub, target, &[]),
    })
}

fn head_sse(hub: &Hub, token: Option<&str>) -> Fate {
    of_status(request(hub, Method::Head, "/sse?topic=a.b", "", token).status)
}

fn post(hub: &Hub, target: &str, body: &str, token: Option<&str>) -> Fate {
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

fn open_raw(hub: &Hub, token: Option<&str>) -> Fate {
    let mut client = WebSocketClient::open(hub, &target("/ws?topic=a.b", token));
    // An admitted client gets the event; a refused one, the end.
    publish_as_admin(hub);
    of_incoming(&client.next())
}

fn open_v1(hub: &Hub, token: Option<&str>) -> Fate {
    let mut client = WebSocketClient::open_v1(hub, &target("/ws?topic=a.b", token));
    publish_as_admin(hub);
    of_incoming(&client.next())
}

fn publish_as_admin(hub: &Hub) {
    let admin = sign(&json!({ "sub": "root", "exp": unix_s() + 60, "role": "admin" }));
    assert_eq!(post(hub, "/publish/a.b", "1", Some(&admin)), Fate::In);
}

fn of_incoming(incoming: &Incoming) -> Fate {
    match incoming {
        Incoming::Text(_) => Fate::In,
        Incoming::Close(Some(4401), _) => Fate::Unknown,
        Incoming::Close(Some(1008), _) => Fate::Forbidden,
        other => panic!("{other:?} is nothing to expect"),
    }
}

fn command(hub: &Hub, token: Option<&str>, command: &Value) -> Fate {
    let path = token.map_or_else(|| "/ws".to_owned(), |token| format!("/ws?token={token}"));
    let mut client = WebSocketClient::open_v1(hub, &path);
    // The hub may have closed already, which the next message shows.
    client.send(&command.to_string());
    match client.next() {
        Incoming::Text(text) => of_reply(&serde_json::from_str(&text).expect("it speaks JSON")),
        other => of_incoming(&other),
    }
}

fn of_reply(reply: &Value) -> Fate {
    match (reply["op"].as_str(), reply["code"].as_str()) {
        (Some("error"), Some("Unauthenticated")) => Fate::Unknown,
        (Some("error"), Some("Forbidden")) => Fate::Forbidden,
        (Some("subscribed" | "published" | "stats"), _) => Fate::In,
        _ => panic!("{reply} is nothing to expect"),
    }
}

/// A Socket.IO session that shows the token, and sends `packet` once it is admitted.
fn say_packet(hub: &Hub, token: Option<&str>, packet: Option<&str>) -> Fate {
    let mut client = WebSocketClient::open(hub, "/socket.io/?EIO=4&transport=websocket");
    assert!(client.next_text().starts_with("0{"), "the handshake");
    let shown = token.map(|token| json!({ "token": token }).to_string());
    client.send(&format!("40{}", shown.unwrap_or_default()));
    let answer = client.next_text();
    if let Some(refused) = answer.strip_prefix("44") {
        let refused: Value = serde_json::from_str(refused).expect("it speaks JSON");
        return of_word(&refused["data"]);
    }
    assert!(answer.starts_with("40{"), "{answer}");
    assert!(client.next_text().starts_with("42[\"connected\""), "the greeting");
    let Some(packet) = packet else { return Fate::In };
    client.send(packet);
    let told = client.next_text();
    let told: Value = serde_json::from_str(told.trim_start_matches(char::is_numeric)).expect("it speaks JSON");
    match told[0].as_str() {
        Some("subscribed" | "published") => Fate::In,
        _ => of_word(&told[1]),
    }
}

fn of_word(told: &Value) -> Fate {
    match told["error"].as_str() {
        Some("AuthenticationError") => Fate::Unknown,
        Some("AuthorizationError") => Fate::Forbidden,
        _ => panic!("{told} is nothing to expect"),
    }
}

/// A WebSocket that is opened without a token signs in by a command.
fn sign_in(hub: &Hub, token: Option<&str>) -> Fate {
    let mut client = WebSocketClient::open_v1(hub, "/ws");
    let Some(token) = token else {
        return of_reply(&client.ask(&subscribe()));
    };
    let answer = client.ask(&json!({ "op": "auth", "token": token, "ref": 1 }));
    assert_eq!(answer["ref"], 1);
    if answer["op"] != "authenticated" {
        assert_eq!(of_reply(&answer), Fate::Unknown, "a right is only asked for by what needs one");
        return of_reply(&client.ask(&subscribe()));
    }
    of_reply(&client.ask(&subscribe()))
}

/// Every kind of token: what it is called, the token, and how it fares where no right to a topic is asked for.
fn tokens(public_key: &[u8], private_key: &[u8]) -> Vec<(&'static str, Option<String>, Fate)> {
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
        ("no token", None, Fate::Unknown),
        ("a valid one", Some(sign(&claims())), Fate::In),
        ("a valid one of the other key", Some(rsa), Fate::In),
        ("an admin's", Some(sign(&json!({ "sub": "root", "exp": unix_s() + 60, "role": "admin" }))), Fate::In),
        (
            "without a right",
            Some(sign(&json!({ "sub": "eve", "exp": unix_s() + 60, "subscribe": ["b.**"] }))),
            Fate::In,
        ),
        ("of another secret", hmac(&header, b"another secret of no less than thirty-two bytes"), Fate::Unknown),
        ("of an algorithm not allowed", hmac(&Header::new(Algorithm::HS384), SECRET.as_bytes()), Fate::Unknown),
        ("alg none", Some(none), Fate::Unknown),
        ("the public key as a secret", hmac(&header, public_key), Fate::Unknown),
        ("the secret's under the other algorithm", Some(claimed_rsa), Fate::Unknown),
        ("critical", hmac(&critical, SECRET.as_bytes()), Fate::Unknown),
        ("expired", signed("exp", (unix_s() - 1).into()), Fate::Unknown),
        ("without an end", signed("exp", Value::Null), Fate::Unknown),
        ("not yet valid", signed("nbf", (unix_s() + 30).into()), Fate::Unknown),
        ("of a user who is gone", signed("fanfare_login", unix_s().into()), Fate::Unknown),
        ("oversized", signed("padding", "x".repeat(8 * 1024).into()), Fate::Unknown),
        ("garbage", Some("garbage".into()), Fate::Unknown),
        ("empty", Some(String::new()), Fate::Unknown),
        ("dots", Some("..".into()), Fate::Unknown),
    ]
}

#[test]
fn every_door_asks_for_a_token_and_looks_at_it() {
    let folder = Folder::new();
    let users = write_users(&folder, "");
    let text = std::fs::read_to_string(&users).expect("it was just written").replace("ann", "bob");
    std::fs::write(&users, text).expect("the folder is writable");
    let (private, public) = make_keys(&folder, "rsa", &["-algorithm", "RSA"]);
    let settings =
        [("auth.algorithms", "HS256,RS256"), ("auth.public_key_file", &public), ("users.file", users.as_str())];
    let hub = start(&settings);
    for (kind, token, fate) in tokens(&read(&public), &read(&private)) {
        for Door { name, asks, knock } in DOORS {
            let has_right = match asks {
                Asks::Nothing => true,
                Asks::Right => kind != "without a right",
                Asks::OtherRight => kind == "an admin's",
            };
            let expected = if fate == Fate::In && !has_right { Fate::Forbidden } else { fate };
            assert_eq!(knock(&hub, token.as_deref()), expected, "{kind} at {name}");
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
fn some_doors_are_open_to_everybody() {
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
fn a_list_shows_what_one_may_listen_to() {
    let hub = start(&[]);
    let admin = sign(&json!({ "sub": "root", "exp": unix_s() + 60, "role": "admin" }));
    for topic in ["a.b", "b.c"] {
        assert_eq!(post(&hub, &format!("/publish/{topic}"), "1", Some(&admin)), Fate::In);
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
    assert_eq!(post(&hub, "/publish", batch, Some(&token)), Fate::Forbidden);
    let history = hub.get(&format!("/topics/a.b/history?token={token}"));
    assert_eq!(history.error_code(), "unknown_topic");
}
