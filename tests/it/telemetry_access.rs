//! Access to telemetry: TLS to the database, publishing through Redis, and rights.

use std::{
    os::unix::fs::chown,
    time::{SystemTime, UNIX_EPOCH},
};

use fanfare_core::protocol::http::Method;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{
    Folder,
    http::{HttpConnection, Response},
    hub::Hub,
    postgres::{self, PostgresServer},
    redis::RedisServer,
    run_program,
    sse::SseClient,
    stdout_of, wait_until,
};

const INGEST: &str = "/api/v1/telemetry/ingest";

fn wait_until_ready(hub: &Hub) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
}

/// Makes `name.pem` and `name.key` in `folder`, for the server's address and signed by itself.
fn make_certificate(folder: &Folder, name: &str) -> (String, String) {
    let (certificate, key) = (folder.path(&format!("{name}.pem")), folder.path(&format!("{name}.key")));
    let alternative = format!("subjectAltName=IP:{}", postgres::HOST);
    let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let leaf = "basicConstraints=critical,CA:FALSE";
    let files =
        ["-subj", "/CN=db.example", "-addext", &alternative, "-addext", leaf, "-keyout", &key, "-out", &certificate];
    stdout_of(&run_program("openssl", "openssl", &[&kind[..], &files].concat()));
    (certificate, key)
}

#[test]
fn a_database_behind_tls_is_verified() {
    let folder = Folder::new();
    let ((certificate, key), (stranger, _)) = (make_certificate(&folder, "db"), make_certificate(&folder, "stranger"));
    // The server requires that no other user may read its key.
    if let Some((user, group)) = postgres::server_user() {
        chown(&key, Some(user), Some(group)).expect("we are root");
    }
    let (certificate_file, key_file) = (format!("ssl_cert_file={certificate}"), format!("ssl_key_file={key}"));
    let server = PostgresServer::start_with(&["ssl=on", &certificate_file, &key_file]);
    let url = format!("{}?sslmode=require", server.url());
    let hub = Hub::start_with(&["--store", &url], &[("store.ca_file", &certificate)]);
    wait_until_ready(&hub);
    assert_eq!(hub.post(INGEST, r#"{"well_id":"T","pip":1}"#).status, 201);
    assert_eq!(hub.get("/api/v1/telemetry/T").json()["count"], 1);
    let encrypted =
        "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) where application_name = 'fanfare'";
    assert_eq!(server.sql(encrypted), "t");
    let fooled = Hub::start_with(&["--store", &url], &[("store.ca_file", &stranger)]);
    wait_until("it does not trust this server", || {
        let reason = fooled.get("/ready").json()["sources"]["store"]["reason"].clone();
        reason.as_str().is_some_and(|reason| reason.contains("certificate")).then_some(())
    });
}

#[test]
fn what_redis_did_not_take_is_published_when_it_is_back() {
    let (server, mut redis) = (PostgresServer::start(), RedisServer::start());
    let settings =
        [("redis.backoff_max", "100ms"), ("redis.publish_timeout", "300ms"), ("store.republish_after", "300ms")];
    let hub = Hub::start_with(&["--store", &server.url(), "--redis", &redis.url()], &settings);
    wait_until_ready(&hub);
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.R");
    let ingest = |pip: u32| hub.post(INGEST, json!({ "well_id": "R", "pip": pip }).to_string());
    let published = ingest(1);
    assert_eq!((published.status, &published.json()["published"]), (201, &true.into()), "{}", published.text());
    assert!(stream.next_data().contains(r#""pip":1}"#));
    redis.kill();
    let accepted = ingest(2);
    let reply = accepted.json();
    assert_eq!((accepted.status, &reply["stored"], &reply["published"]), (202, &true.into(), &false.into()), "{reply}");
    redis.restart();
    let event = wait_until("it is published", || Some(stream.next()).filter(|event| event.kind != "gap"));
    assert_eq!(event.kind, "telemetry_update");
    let payload: Value = serde_json::from_str(&event.data).expect("JSON");
    assert_eq!((&payload["data"]["pip"], &payload["data"]["telemetry_id"]), (&2.into(), &reply["telemetry_id"]));
    wait_until("both are marked as published", || {
        (server.sql("select count(*) from fanfare.outbox where published_at is null") == "0").then_some(())
    });
    assert!(1.0 <= hub.metric("fanfare_store_unpublished_total"));
    assert_eq!(hub.metric("realtime_publishes_total"), 2.0);
    assert_eq!(hub.metric("realtime_publish_duration_seconds_count"), 2.0);
}

/// Long enough for HS256.
const SECRET: &str = "a secret of thirty-two bytes, or more";

fn token(subscribe: &[&str], publish: &[&str]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs();
    let claims = json!({ "sub": "gateway", "exp": now + 600, "subscribe": subscribe, "publish": publish });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("a token")
}

#[test]
fn a_client_without_a_right_to_a_well_neither_writes_nor_reads_it() {
    let server = PostgresServer::start();
    let settings = [("auth.mode", "jwt"), ("auth.algorithms", "HS256"), ("auth.secret", SECRET)];
    let hub = Hub::start_with(&["--store", &server.url()], &settings);
    wait_until_ready(&hub);
    let ask = |method: Method, target: &str, token: Option<&str>, body: &str| -> Response {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
        HttpConnection::new(hub.connect()).request(method, target, &headers, body.as_bytes())
    };
    let (writer, reader) = (token(&[], &["wells.A"]), token(&["wells.A"], &[]));
    let reading = r#"{"well_id":"A","pip":1}"#;
    let both = r#"[{"well_id":"A","pip":1},{"well_id":"B","pip":1}]"#;
    let alert = r#"{"well_id":"A","type":"t","severity":"info","message":"m"}"#;
    let check = |method: Method, target: &str, token: Option<&str>, body: &str, status: u16| {
        let answer = ask(method, target, token, body);
        assert_eq!(answer.status, status, "{target} {body}: {}", answer.text());
        let error = match status {
            401 => json!("AuthenticationError"),
            403 => json!("AuthorizationError"),
            _ => Value::Null,
        };
        assert_eq!(answer.json()["error"], error, "{target} {body}");
    };
    for (target, body) in
        [(INGEST, reading), ("/api/v1/alerts", alert), ("/api/v1/diagnostics", r#"{"well_id":"A","x":1}"#)]
    {
        check(Method::Post, target, Some(&writer), body, 201);
        check(Method::Post, target, Some(&reader), body, 403);
        check(Method::Post, target, Some("x"), body, 401);
        check(Method::Post, target, None, body, 401);
    }
    check(Method::Post, INGEST, Some(&writer), both, 403);
    check(Method::Get, "/api/v1/telemetry/A", Some(&reader), "", 200);
    check(Method::Get, "/api/v1/telemetry/A", Some(&writer), "", 403);
    check(Method::Get, "/api/v1/telemetry/B", Some(&reader), "", 403);
    check(Method::Get, "/api/v1/telemetry/A", None, "", 401);
    assert_eq!(server.sql("select well_id, count(*) from fanfare.telemetry group by 1"), "A|1");
}
