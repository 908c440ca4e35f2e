//! A PostgreSQL password that is rotated while the hub runs: the hub recovers by the file that holds the password, or by SIGHUP.

use std::{fs, process::Command};

use serde_json::json;

use crate::support::{Folder, hub::Hub, postgres::PostgresServer, send_signal, wait_until};

const SETTINGS: [(&str, &str); 5] = [
    ("store.backoff_min", "20ms"),
    ("store.backoff_max", "100ms"),
    ("store.ping_interval", "200ms"),
    ("store.write_timeout", "1s"),
    ("store.patience", "1s"),
];

/// A server at which the user `hub` may do all.
fn server() -> PostgresServer {
    let server = PostgresServer::start();
    server.sql("CREATE ROLE hub LOGIN SUPERUSER");
    server
}

/// The user has this password, and no other, and no connection with an older one.
fn rotate(server: &PostgresServer, password: &str) {
    server.sql(&format!("ALTER ROLE hub PASSWORD '{password}'"));
    server.sql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'hub'");
}

fn url(server: &PostgresServer, password: &str) -> String {
    server.url().replace("postgres:geheim", &format!("hub:{password}"))
}

/// Checks that a reading is stored over a new connection, and read back over another.
#[track_caller]
fn check_round_trip(hub: &Hub, number: u64) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    let reading = json!({ "well_id": format!("W-{number}"), "pip": number }).to_string();
    wait_until("it is stored", || {
        let answer = hub.post("/api/v1/telemetry/ingest", &reading);
        (answer.status == 201 && answer.json()["stored"] == true).then_some(())
    });
    let read_back = wait_until("it is read back", || {
        Some(hub.get(&format!("/api/v1/telemetry/W-{number}"))).filter(|answer| answer.status == 200)
    });
    assert!(read_back.text().contains(&format!("W-{number}")), "{}", read_back.text());
}

#[test]
fn a_rotated_password_is_read_anew_from_its_file() {
    let (server, folder) = (server(), Folder::new());
    let file = folder.path("store.url");
    let write = |password: &str| fs::write(&file, url(&server, password)).expect("it is ours");
    rotate(&server, "one");
    write("one");
    let mut settings = SETTINGS.to_vec();
    settings.push(("store.url_file", &file));
    let hub = Hub::start_with(&[], &settings);
    check_round_trip(&hub, 1);
    // The file changes first.
    write("two");
    rotate(&server, "two");
    check_round_trip(&hub, 2);
    // The password changes first: the hub retries, and recovers once the file has it.
    rotate(&server, "three");
    wait_until("the login is refused", || {
        let ready = hub.get("/ready");
        (ready.status == 503 && ready.text().contains("password")).then_some(())
    });
    write("three");
    check_round_trip(&hub, 3);
}

#[test]
fn another_login_in_the_url_takes_effect_at_sighup() {
    let (server, folder) = (server(), Folder::new());
    let config = folder.path("fanfare.toml");
    let write = |password: &str| {
        let text = format!(
            "[log]\nlevel = \"error\"\n[drain]\ndelay = \"0s\"\nwindow = \"0s\"\n[store]\nurl = \"{}\"\n\
             backoff_max = \"100ms\"\nping_interval = \"200ms\"\n",
            url(&server, password)
        );
        fs::write(&config, text).expect("it is ours");
    };
    rotate(&server, "one");
    write("one");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    let hub = Hub::spawn_as_it_is(command);
    check_round_trip(&hub, 1);
    rotate(&server, "two");
    wait_until("the login is refused", || (hub.get("/ready").status == 503).then_some(()));
    write("two");
    send_signal("HUP", hub.pid());
    check_round_trip(&hub, 2);
}
