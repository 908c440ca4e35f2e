//! Telemetry with a real PostgreSQL: stored, published, read back, and what happens while the database is away.

use fanfare_core::protocol::http::Method;
use serde_json::{Value, json};

use crate::{
    support::{
        http::{HttpConnection, Response},
        hub::Hub,
        postgres::PostgresServer,
        sse::SseClient,
        wait_until,
    },
    wells::expect_timestamp,
};

const INGEST: &str = "/api/v1/telemetry/ingest";

/// Settings with which a hub notices an outage soon and reconnects soon.
const HASTY: [(&str, &str); 5] = [
    ("store.backoff_min", "20ms"),
    ("store.backoff_max", "100ms"),
    ("store.ping_interval", "200ms"),
    ("store.write_timeout", "1s"),
    ("store.republish_after", "300ms"),
];

/// A hub that has its tables.
fn hub_on(server: &PostgresServer, settings: &[(&str, &str)]) -> Hub {
    let hub = Hub::start_with(&["--store", &server.url()], &[&HASTY[..], settings].concat());
    wait_for_status(&hub, 200);
    hub
}

fn wait_for_status(hub: &Hub, status: u16) {
    wait_until(&format!("/ready says {status}"), || (hub.get("/ready").status == status).then_some(()));
}

fn ingest(hub: &Hub, well_id: &str, pip: f64) -> Response {
    hub.post(INGEST, json!({ "well_id": well_id, "pip": pip }).to_string())
}

#[track_caller]
fn read_back(hub: &Hub, target: &str) -> Value {
    let answer = hub.get(&format!("/api/v1/telemetry/{target}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn a_reading_is_stored_published_and_read_back_also_after_a_restart() {
    let server = PostgresServer::start();
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.WELL-001");
    let reading = json!({ "well_id": "WELL-001", "timestamp": "2025-11-20T12:30:00.5+02:00", "flow_rate": 1000.5,
        "pip": 2000, "gor": 1e-7, "quality": "good" });
    let answer = hub.post(INGEST, reading.to_string());
    assert_eq!(answer.status, 201, "{}", answer.text());
    let reply = answer.json();
    assert_eq!((&reply["stored"], &reply["published"]), (&true.into(), &true.into()));
    let event = stream.next();
    assert_eq!((event.kind.as_str(), Some(event.id.as_str())), ("telemetry_update", reply["id"].as_str()));
    let payload: Value = serde_json::from_str(&event.data).expect("JSON");
    let expected = json!({ "telemetry_id": reply["telemetry_id"], "timestamp": "2025-11-20T10:30:00.5Z",
        "flow_rate": 1000.5, "pip": 2000, "gor": 1e-7, "quality": "good" });
    assert_eq!(payload["data"], expected);
    let row = server.sql("select telemetry_id, well_id, time at time zone 'utc', flow_rate, pip, gor, vibration, extra from fanfare.telemetry");
    let id = &reply["telemetry_id"];
    assert_eq!(row, format!("{id}|WELL-001|2025-11-20 10:30:00.5|1000.5|2000|1e-07||{{\"quality\": \"good\"}}"));
    let check = |hub: &Hub| {
        let page = read_back(hub, "WELL-001");
        assert_eq!((&page["count"], &page["next_cursor"]), (&1.into(), &Value::Null));
        let mut expected = expected.clone();
        expected["pip"] = 2000.0.into();
        assert_eq!(page["data"], json!([expected]));
        assert_eq!(read_back(hub, "WELL-002")["count"], 0);
    };
    check(&hub);
    wait_until("it is marked as published", || {
        (server.sql("select count(*) from fanfare.outbox where published_at is null") == "0").then_some(())
    });
    assert_eq!(server.sql("select event_id, body is null from fanfare.outbox"), format!("{}|t", event.id));
    assert_eq!(hub.metric("fanfare_store_rows_total"), 1.0);
    assert_eq!(hub.metric("fanfare_store_queue_rows"), 0.0);
    assert!(hub.terminate().success());
    check(&hub_on(&server, &[]));
}

#[test]
fn alerts_and_diagnostics_have_tables_of_their_own() {
    let server = PostgresServer::start();
    let hub = hub_on(&server, &[]);
    let alerts = json!([
        { "well_id": "W", "type": "high", "severity": "critical", "message": "m", "value": 5.2, "threshold": 4 },
        { "well_id": "W", "type": "low", "severity": "info", "message": "it's \u{1F525} \\ \"", "by": ["x"] },
    ]);
    let reply = hub.post("/api/v1/alerts", alerts.to_string());
    assert_eq!((reply.status, &reply.json()["results"][1]["stored"]), (201, &true.into()), "{}", reply.text());
    let found = json!({ "well_id": "W", "gas_lock": { "probability": 0.4 } });
    let reply = hub.post("/api/v1/diagnostics", found.to_string());
    assert!(reply.status == 201 && reply.json()["diagnostic_id"].is_i64(), "{}", reply.text());
    let rows =
        server.sql("select type, severity, message, value, threshold, extra from fanfare.alerts order by alert_id");
    assert_eq!(rows, "high|critical|m|5.2|4|\nlow|info|it's \u{1F525} \\ \"|||{\"by\": [\"x\"]}");
    assert_eq!(server.sql("select diagnostic->'gas_lock' from fanfare.diagnostics"), r#"{"probability": 0.4}"#);
    assert_eq!(server.sql("select count(*) from fanfare.telemetry"), "0");
}

/// An alert as the platform's document prints it, without a message. Its timestamp is the hub's, and is read back.
#[test]
fn a_documented_alert_is_stored_and_dates_are_read_back_in_one_form() {
    let server = PostgresServer::start();
    let hub = hub_on(&server, &[]);
    let alert = r#"{"event":"alert","timestamp":"2025-11-20T10:30:00Z","well_id":"W","alert":{"type":"high_vibration","severity":"critical"}}"#;
    let reply = hub.post("/api/v1/alerts", alert);
    assert_eq!(reply.status, 201, "{}", reply.text());
    let row = server
        .sql("select well_id, time at time zone 'utc', type, severity, message, value, extra from fanfare.alerts");
    assert_eq!(row, "W|2025-11-20 10:30:00|high_vibration|critical|||");
    for pip in 0..3 {
        assert_eq!(ingest(&hub, "W", f64::from(pip)).status, 201);
    }
    let page = read_back(&hub, "W?order=asc");
    assert_eq!(page["count"], 3);
    for (pip, reading) in page["data"].as_array().expect("a list").iter().enumerate() {
        expect_timestamp(&reading["timestamp"]);
        assert_eq!(reading["pip"], pip as f64, "in the order in which they came");
    }
}

#[test]
fn pages_follow_each_other_without_gap_or_repeat() {
    let server = PostgresServer::start();
    let hub = hub_on(&server, &[]);
    // Three readings at each time.
    let time = |index: u32| format!("2025-11-20T10:{:02}:00Z", index / 3);
    let readings: Vec<Value> =
        (0..30).map(|index| json!({ "well_id": "P", "timestamp": time(index), "pip": index })).collect();
    assert_eq!(hub.post(INGEST, json!(readings).to_string()).status, 201);
    let pips = |page: &Value| -> Vec<u64> {
        let readings = page["data"].as_array().expect("an array");
        readings.iter().map(|reading| reading["pip"].as_f64().expect("a number") as u64).collect()
    };
    let oldest_first: Vec<u64> = (0..30).collect();
    let newest_first: Vec<u64> = oldest_first.iter().rev().copied().collect();
    for (order, expected) in [("", &newest_first), ("&order=asc", &oldest_first)] {
        assert_eq!(pips(&read_back(&hub, &format!("P?limit=1000{order}"))), *expected);
        let (mut all, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = read_back(&hub, &format!("P?limit=7{order}&cursor={cursor}"));
            all.extend(pips(&page));
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = next.to_owned();
            // New readings do not shift the pages.
            assert_eq!(ingest(&hub, "other", 1.0).status, 201);
        }
        assert_eq!(all, *expected, "{order}");
    }
    let ranges = [
        ("from=2025-11-20T10:08:00Z", 24..30),
        ("to=2025-11-20T10:01:00Z", 0..3),
        ("from=1763633160&to=1763633220.5", 18..24),
        ("from=2025-11-20T12:09:00%2B02:00", 27..30),
        ("from=2025-11-21T00:00:00Z", 0..0),
        ("from=1763633160&to=1763633160", 0..0),
    ];
    for (range, expected) in ranges {
        let expected: Vec<u64> = expected.collect();
        assert_eq!(pips(&read_back(&hub, &format!("P?order=asc&{range}"))), expected, "{range}");
    }
    let wrong = [
        "limit=0",
        "limit=1001",
        "limit=x",
        "from=x",
        "to=-1",
        "cursor=x",
        "cursor=1",
        "order=up",
        "from=2025-11-20T10:08:00Z&to=2025-11-20T10:07:00Z",
        "cursor=99999999999999999999-1",
        "cursor=18446744073709551615-1",
    ];
    for wrong in wrong {
        let answer = hub.get(&format!("/api/v1/telemetry/P?{wrong}"));
        assert_eq!((answer.status, &answer.json()["error"]), (400, &"ValidationError".into()), "{wrong}");
    }
    assert_eq!(hub.get("/api/v1/telemetry/a.b").status, 400);
}

#[test]
fn a_repeat_under_the_same_key_is_answered_as_the_first_by_any_hub() {
    let server = PostgresServer::start();
    let (hub, other) = (hub_on(&server, &[]), hub_on(&server, &[]));
    let repeat = |hub: &Hub, pip: u32| {
        let body = json!({ "well_id": "K", "pip": pip }).to_string();
        let answer = HttpConnection::new(hub.connect()).request(
            Method::Post,
            INGEST,
            &[("Idempotency-Key", "k")],
            body.as_bytes(),
        );
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    };
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.K");
    let first = repeat(&hub, 1);
    assert_eq!(repeat(&hub, 2)["telemetry_id"], first["telemetry_id"]);
    wait_until("the first is marked as published", || {
        (server.sql("select count(*) from fanfare.outbox where published_at is null") == "0").then_some(())
    });
    let again = repeat(&other, 3);
    assert_eq!((&again["telemetry_id"], &again["id"]), (&first["telemetry_id"], &first["id"]));
    assert_eq!(server.sql("select pip from fanfare.telemetry"), "1");
    assert_eq!(ingest(&hub, "K", 9.0).status, 201);
    assert!(stream.next_data().contains(r#""pip":1}"#));
    assert!(stream.next_data().contains(r#""pip":9.0}"#), "nothing between them");
}

#[test]
fn what_was_stored_and_not_published_is_published_later() {
    let server = PostgresServer::start();
    // As after a hub that ended between the commit and the publication.
    drop(hub_on(&server, &[]));
    server.sql(
        r#"insert into fanfare.outbox (key, record_id, kind, well_id, time, received_at, stored_at, body)
           values ('left', 77, 0, 'L', '2025-11-20T10:30Z', '2025-11-20T10:30:01Z', now() - interval '1 hour',
               '{"timestamp":"2025-11-20T10:30:00Z","pip":5}')"#,
    );
    let hub = Hub::start_with(&["--store", &server.url()], &HASTY);
    let mut stream = SseClient::open(&hub, "/sse?topic=wells.L&since=first");
    let payload: Value = serde_json::from_str(&stream.next_data()).expect("JSON");
    let expected = json!({ "event": "telemetry_update", "timestamp": "2025-11-20T10:30:01Z", "well_id": "L",
        "data": { "telemetry_id": 77, "timestamp": "2025-11-20T10:30:00Z", "pip": 5 } });
    assert_eq!(payload, expected);
    wait_until("it is marked as published", || {
        (server.sql("select published_at is not null from fanfare.outbox where key = 'left'") == "t").then_some(())
    });
    assert_eq!(hub.metric("fanfare_store_republished_total"), 1.0);
}

#[test]
fn two_hubs_that_start_at_once_make_the_tables_once() {
    let server = PostgresServer::start();
    let start = || Hub::start_with(&["--store", &server.url()], &HASTY);
    let hubs = [start(), start(), start()];
    hubs.iter().for_each(|hub| wait_for_status(hub, 200));
    assert_eq!(server.sql("select count(*) from fanfare.migrations"), "1");
    let ids: Vec<Value> = hubs.iter().map(|hub| ingest(hub, "M", 1.0).json()["telemetry_id"].clone()).collect();
    assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2], "{ids:?}");
}

/// While an installation is upgraded, hubs of two releases are on one database. Those of the former go on, also after a restart.
#[test]
fn tables_of_a_later_release_serve_as_long_as_it_says_no_other() {
    let server = PostgresServer::start();
    drop(hub_on(&server, &[]));
    server.sql(
        "alter table fanfare.outbox add column later text;
         alter table fanfare.telemetry add column later double precision;
         alter table fanfare.alerts add column later text;
         alter table fanfare.diagnostics add column later jsonb default '{}';
         create table fanfare.later (what text not null);
         insert into fanfare.migrations (version) values (1000)",
    );
    let hub = hub_on(&server, &[]);
    assert_eq!(ingest(&hub, "N", 1.0).status, 201);
    assert_eq!(server.sql("select count(*) from fanfare.telemetry where well_id = 'N' and pip = 1"), "1");
    // A migration that the former release can do without, and then one that it cannot.
    server.sql(
        "alter table fanfare.migrations add column needs integer;
         insert into fanfare.migrations (version, needs) values (1001, 1)",
    );
    wait_for_status(&Hub::start_with(&["--store", &server.url()], &HASTY), 200);
    server.sql("insert into fanfare.migrations (version, needs) values (1002, 2)");
    let late = Hub::start_with(&["--store", &server.url()], &HASTY);
    wait_until("it says why it does not start to store", || {
        late.get("/ready")
            .text()
            .contains("layout 1002, of a later version of the hub, which this one cannot use")
            .then_some(())
    });
}

/// Debian has no package of TimescaleDB: a function of the same name and form replaces it.
#[test]
fn a_hypertable_is_made_where_there_are_such() {
    let server = PostgresServer::start();
    server.sql(
        "create table called (what text);
         create function create_hypertable(relation regclass, time_column_name name, if_not_exists boolean default false)
         returns text language sql as $$
             insert into called values (relation || ' by ' || time_column_name || ' ' || if_not_exists) returning what
         $$",
    );
    let hub = hub_on(&server, &[]);
    assert_eq!(server.sql("select what from called"), "fanfare.telemetry by time true");
    assert_eq!(ingest(&hub, "T", 1.0).status, 201);
    // A table with rows is not converted. A table whose conversion fails is used as it is.
    drop((hub, hub_on(&server, &[])));
    assert_eq!(server.sql("select count(*) from called"), "1");
    server.sql("delete from fanfare.telemetry; drop table called");
    assert_eq!(ingest(&hub_on(&server, &[]), "T", 2.0).status, 201);
}

#[test]
fn a_full_queue_refuses_and_keeps_what_it_has() {
    let server = PostgresServer::start();
    let settings = [("store.queue_rows_max", "5"), ("store.write_timeout", "20s"), ("store.patience", "20s")];
    let hub = hub_on(&server, &settings);
    server.suspend();
    let mut waiting: Vec<HttpConnection> = (0..5).map(|_| HttpConnection::new(hub.connect())).collect();
    for connection in &mut waiting {
        let body = r#"{"well_id":"Q","pip":1}"#;
        connection.send(
            format!("POST {INGEST} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
    }
    wait_until("all of them wait", || (hub.metric("fanfare_store_queue_rows") == 5.0).then_some(()));
    let refused = ingest(&hub, "Q", 1.0);
    assert_eq!((refused.status, &refused.json()["error"]), (503, &"StorageOverloaded".into()));
    assert!(refused.header("Retry-After").is_some());
    assert_eq!(hub.get("/health").status, 200, "no reactor waits");
    server.resume();
    for connection in &mut waiting {
        assert_eq!(connection.receive().status, 201);
    }
    assert_eq!(server.sql("select count(*) from fanfare.telemetry"), "5");
    assert_eq!(hub.metric("fanfare_store_refused_total"), 1.0);
}

#[test]
fn an_unreachable_database_is_reported_and_waited_for() {
    let mut server = PostgresServer::start();
    let hub = hub_on(&server, &[("store.patience", "500ms")]);
    assert_eq!(read_back(&hub, "A")["count"], 0);
    server.stop();
    let refused = ingest(&hub, "A", 1.0);
    assert_eq!((refused.status, &refused.json()["error"]), (503, &"StorageUnavailable".into()));
    assert!(refused.header("Retry-After").is_some());
    let unread = hub.get("/api/v1/telemetry/A");
    assert_eq!((unread.status, &unread.json()["error"]), (503, &"StorageUnavailable".into()));
    let ready = hub.get("/ready");
    assert_eq!((ready.status, &ready.json()["sources"]["store"]["ok"]), (503, &false.into()));
    server.restart();
    wait_for_status(&hub, 200);
    assert_eq!(ingest(&hub, "A", 2.0).status, 201);
    let pips = wait_until("the readers are back, too", || {
        let answer = hub.get("/api/v1/telemetry/A");
        (answer.status == 200).then(|| answer.json()["data"][0]["pip"].clone())
    });
    assert_eq!((pips, server.sql("select count(*) from fanfare.telemetry").as_str()), (2.0.into(), "1"));
}

#[test]
fn a_row_that_the_database_will_not_have_does_not_take_others_with_it() {
    let server = PostgresServer::start();
    let hub = hub_on(&server, &[("store.write_timeout", "20s"), ("store.patience", "20s")]);
    server.sql("alter table fanfare.telemetry add check (pip < 100)");
    server.suspend();
    let mut waiting: Vec<HttpConnection> = (0..4).map(|_| HttpConnection::new(hub.connect())).collect();
    for (connection, pip) in waiting.iter_mut().zip([1, 2, 100, 3]) {
        let body = format!(r#"{{"well_id":"C","pip":{pip}}}"#);
        connection.send(
            format!("POST {INGEST} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{body}", body.len()).as_bytes(),
        );
    }
    wait_until("all of them wait", || (hub.metric("fanfare_store_queue_rows") == 4.0).then_some(()));
    server.resume();
    let statuses: Vec<u16> = waiting.iter_mut().map(|connection| connection.receive().status).collect();
    assert_eq!(statuses, [201, 201, 500, 201]);
    assert_eq!(server.sql("select pip from fanfare.telemetry order by pip"), "1\n2\n3");
    assert_eq!(server.sql("select count(*) from fanfare.outbox"), "3");
}

#[test]
fn connections_that_the_database_closed_while_they_were_idle_cost_nothing() {
    let server = PostgresServer::start();
    let hub = hub_on(&server, &[("store.ping_interval", "10s"), ("store.republish_after", "10s")]);
    for number in 1..=3 {
        let ended = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'fanfare'";
        assert_ne!(server.sql(ended), "0");
        let answer = ingest(&hub, "A", f64::from(number));
        assert_eq!(answer.status, 201, "{}", answer.text());
        assert_eq!(hub.get("/ready").status, 200, "an idle connection that is gone is no fault");
        assert_eq!(read_back(&hub, "A")["count"], number);
    }
    assert_eq!(hub.metric("fanfare_store_failures_total"), 0.0);
}
