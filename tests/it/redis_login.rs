//! A Redis password that is rotated while the hub runs: the hub recovers by the file that holds the password, or by SIGHUP.

use std::{
    fs::{self, File},
    process::Command,
};

use serde_json::Value;

use crate::support::{
    Folder, hub::Hub, redis::RedisServer, send_signal, sentinel::SentinelGroup, sse::SseClient, wait_until,
};

const SETTINGS: [(&str, &str); 6] = [
    ("redis.backoff_min", "20ms"),
    ("redis.backoff_max", "300ms"),
    ("redis.ping_interval", "200ms"),
    ("server.live_timeout", "200ms"),
    ("server.default_topics", ""),
    ("log.level", "info"),
];

/// The user `hub` has this password, and no other.
fn set_password(server: &RedisServer, password: &str) {
    let password = format!(">{password}");
    server.command::<()>(&["ACL", "SETUSER", "hub", "reset", "on", &password, "~*", "&*", "+@all"]);
}

fn connection_ids(server: &RedisServer) -> Vec<String> {
    let clients: String = server.command(&["CLIENT", "LIST"]);
    let of_hub = clients.lines().filter(|line| line.contains(" user=hub "));
    of_hub.filter_map(|line| Some(line.strip_prefix("id=")?.split(' ').next()?.to_owned())).collect()
}

fn kill_connections(server: &RedisServer) {
    server.command::<u64>(&["CLIENT", "KILL", "USER", "hub"]);
}

#[track_caller]
fn wait_until_ready(hub: &Hub) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
}

/// Checks that events flow in both directions over new connections, and that older ones are read from the broker if it keeps them.
#[track_caller]
fn check_round_trip(hub: &Hub, text: &str) {
    wait_until_ready(hub);
    let mut stream = SseClient::open(hub, "/sse?topic=t");
    wait_until("it is published", || (hub.post("/publish/t", text).status == 200).then_some(()));
    wait_until("it arrives", || (stream.next().data == text).then_some(()));
    let history =
        wait_until("the history", || Some(hub.get("/topics/t/history")).filter(|answer| answer.status == 200));
    assert!(history.text().contains(text), "{}", history.text());
}

#[test]
fn a_rotated_password_is_read_anew_from_its_file() {
    for log in ["memory", "redis-stream"] {
        let (server, folder) = (RedisServer::start(), Folder::new());
        set_password(&server, "one");
        let file = folder.path("redis.url");
        let write = |password: &str| fs::write(&file, server.url_as(&format!("hub:{password}@"))).expect("it is ours");
        write("one");
        let mut settings = SETTINGS.to_vec();
        settings.extend([("redis.url_file", file.as_str()), ("topics.log", log)]);
        let hub = Hub::start_with(&[], &settings);
        check_round_trip(&hub, "one");
        // The file changes first.
        write("two");
        set_password(&server, "two");
        kill_connections(&server);
        check_round_trip(&hub, "two");
        // The password changes first: the hub retries, and recovers once the file has it.
        set_password(&server, "three");
        kill_connections(&server);
        wait_until("the login is refused", || {
            let ready = hub.get("/ready");
            (ready.status == 503 && ready.text().contains("WRONGPASS")).then_some(())
        });
        write("three");
        check_round_trip(&hub, "three");
        // The hub ignores a file that is half written or names another server.
        set_password(&server, "four");
        kill_connections(&server);
        fs::write(&file, "").expect("it is ours");
        wait_until("the login is refused", || (hub.get("/ready").status == 503).then_some(()));
        fs::write(&file, "redis://hub:four@127.0.0.1:1").expect("it is ours");
        wait_until("it is still tried where it was", || hub.get("/ready").text().contains("WRONGPASS").then_some(()));
        write("four");
        check_round_trip(&hub, "four");
    }
}

#[test]
fn another_login_in_the_url_takes_effect_at_sighup() {
    let (server, folder) = (RedisServer::start(), Folder::new());
    set_password(&server, "one");
    let path = folder.path("fanfare.toml");
    let write = |login: &str, database: &str| {
        let url = server.url_as(login);
        let config = format!(
            "[redis]\nurl = \"{url}{database}\"\nbackoff_max = \"300ms\"\nping_interval = \"200ms\"\n\
             [log]\nlevel = \"info\"\n[drain]\ndelay = \"0s\"\n"
        );
        fs::write(&path, config).expect("it is ours");
    };
    write("hub:one@", "");
    let log = File::create(folder.path("log")).expect("it is ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--config", &path]).stderr(log);
    let hub = Hub::spawn_as_it_is(command);
    check_round_trip(&hub, "one");
    let reload = || {
        let lines = || {
            let text = fs::read_to_string(folder.path("log")).expect("the hub writes UTF-8");
            let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            whole.map(|line| serde_json::from_str(line).expect("JSON")).collect::<Vec<Value>>()
        };
        let before = lines().len();
        send_signal("HUP", hub.pid());
        wait_until("the report", || {
            let lines = lines().split_off(before);
            lines.iter().any(|line| line["message"] == "the configuration is read anew").then_some(())?;
            let of_url = lines.iter().find(|line| line["key"] == "redis.url")?;
            Some(of_url["message"].as_str().expect("a text").to_owned())
        })
    };
    let open = connection_ids(&server);
    set_password(&server, "two");
    write("hub:two@", "");
    assert_eq!(reload(), "a key of the configuration has another value, which takes effect for connections to come");
    check_round_trip(&hub, "open ones stay");
    assert_eq!(connection_ids(&server), open);
    kill_connections(&server);
    check_round_trip(&hub, "two");
    assert!(!connection_ids(&server).iter().any(|id| open.contains(id)), "all are new");
    write("hub:two@", "/3");
    assert_eq!(reload(), "a key of the configuration has another value, which waits for a restart");
    let text = fs::read_to_string(folder.path("log")).expect("the hub writes UTF-8");
    assert!(!text.contains("hub:one") && !text.contains("hub:two"), "{text}");
}

#[test]
fn a_rotated_password_at_the_sentinels_is_read_anew_from_its_file() {
    let (mut group, folder) = (SentinelGroup::start(), Folder::new());
    let url = group.url();
    let set_password = |password: &str| {
        let addresses = url.trim_start_matches("redis+sentinel://").split('/').next().expect("addresses");
        for address in addresses.split(',') {
            let client = redis::Client::open(format!("redis://{address}")).expect("a good URL");
            let mut connection = client.get_connection().expect("the sentinel runs");
            let mut command = redis::cmd("ACL");
            command.arg(&["SETUSER", "watch", "reset", "on", &format!(">{password}"), "+@all", "&*"]);
            command.query::<()>(&mut connection).expect("the sentinel takes it");
        }
    };
    let file = folder.path("password");
    set_password("one");
    fs::write(&file, "one\n").expect("it is ours");
    let mut settings = SETTINGS.to_vec();
    settings.extend([("redis.sentinel_username", "watch"), ("redis.sentinel_password_file", file.as_str())]);
    let hub = Hub::start_with(&["--redis", &url], &settings);
    check_round_trip(&hub, "one");
    set_password("two");
    group.master().command::<u64>(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    wait_until("no sentinel says where the master is", || {
        let ready = hub.get("/ready");
        (ready.status == 503 && ready.text().contains("no sentinel knows")).then_some(())
    });
    fs::write(&file, "two\n").expect("it is ours");
    check_round_trip(&hub, "two");
}
