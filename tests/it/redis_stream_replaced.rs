//! Streams that are replaced while they have readers: deleted, expired, restored or failed over to an older replica, and filled
//! with ids that are smaller or overlap. Every reader gets a gap before anything of the other stream.

use serde_json::json;

use crate::{
    redis_stream::{self, resume},
    support::{hub::Hub, redis::RedisServer, sse::SseClient, wait_until},
};

/// A hub that checks often whether a stream was replaced.
fn hub_on(server: &RedisServer, settings: &[(&str, &str)]) -> Hub {
    let often = [("redis.ping_interval", "100ms"), ("redis.proof_age_max", "5s")];
    redis_stream::hub_on(server, &[&often, settings].concat())
}

/// Adds entries as any other program would. Each names its stream and its id.
fn add(server: &RedisServer, life: &str, ids: &[&str]) {
    for id in ids {
        server.command::<String>(&["XADD", "t", id, "data", &format!("{life} {id}")]);
    }
}

/// The payloads up to the event `end`, and the reason of each gap.
#[track_caller]
fn read_up_to(stream: &mut SseClient, end: &str) -> Vec<String> {
    let mut received = Vec::new();
    while received.last().is_none_or(|last| last != end) {
        let event = stream.next();
        received.push(match event.kind.as_str() {
            "gap" => {
                let gap: serde_json::Value = serde_json::from_str(&event.data).expect("a gap is JSON");
                format!("gap {}", gap["reason"].as_str().expect("a word"))
            }
            _ => event.data,
        });
    }
    received
}

const OLD: [&str; 9] = ["7-1", "7-2", "7-3", "7-4", "7-5", "7-6", "7-7", "7-8", "7-9"];

fn payloads(life: &str, ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| format!("{life} {id}")).collect()
}

/// Checks that gaps `epoch`, one or more, come before all that the stream has.
#[track_caller]
fn expect_reported(received: &[String], expected: &[String], who: &str) {
    let gaps = received.iter().take_while(|what| *what == "gap epoch").count();
    assert!(1 <= gaps, "{who} got no gap: {received:?}");
    assert_eq!(&received[gaps..], expected, "{who}");
}

/// `replace` replaces the stream of `t` after nine entries were read. Then the stream holds `expected`: not the ids `lost`, but
/// the ids `kept` as they were.
#[track_caller]
fn check(replace: impl Fn(&RedisServer), expected: &[String], lost: &[&str], kept: &[&str]) {
    let server = RedisServer::start();
    let hubs = [hub_on(&server, &[]), hub_on(&server, &[])];
    add(&server, "old", &OLD[..5]);
    let mut connected = SseClient::open(&hubs[0], "/sse?topic=t&last_event_id=first");
    assert_eq!(read_up_to(&mut connected, "old 7-5"), payloads("old", &OLD[..5]));
    // The other hub reads the stream as well, and has a log for new subscribers.
    let mut elsewhere = SseClient::open(&hubs[1], "/sse?topic=t&last_event_id=first");
    assert_eq!(read_up_to(&mut elsewhere, "old 7-5"), payloads("old", &OLD[..5]));
    replace(&server);
    let end = expected.last().expect("it is filled").clone();
    for (stream, who) in [(&mut connected, "a connected reader"), (&mut elsewhere, "one at another hub")] {
        let received = read_up_to(stream, &end);
        let rest = received.iter().position(|what| what.starts_with("gap")).unwrap_or(0);
        let before: Vec<&String> = received[..rest].iter().collect();
        assert!(
            OLD[5..]
                .iter()
                .map(|id| format!("old {id}"))
                .collect::<Vec<_>>()
                .iter()
                .collect::<Vec<_>>()
                .starts_with(&before)
        );
        expect_reported(&received[rest..], expected, who);
    }
    for (hub, which) in hubs.iter().zip(["the same hub", "another hub"]) {
        for last in lost {
            let received = read_up_to(&mut resume(hub, last), &end);
            expect_reported(&received, expected, &format!("a client that resumed from {last} at {which}"));
        }
        let mut newcomer = SseClient::open(hub, "/sse?topic=t&last_event_id=first");
        assert_eq!(read_up_to(&mut newcomer, &end), expected, "a newcomer at {which}");
    }
    // A hub that was started later.
    let fresh = hub_on(&server, &[]);
    for last in lost {
        expect_reported(&read_up_to(&mut resume(&fresh, last), &end), expected, last);
    }
    for last in kept {
        let rest = expected.iter().position(|payload| *payload == format!("old {last}")).expect("it is kept") + 1;
        assert_eq!(read_up_to(&mut resume(&fresh, last), &end), expected[rest..], "{last}");
    }
}

#[test]
fn deleted_and_filled_with_smaller_ids() {
    let replace = |server: &RedisServer| {
        add(server, "old", &OLD[5..]);
        server.command::<u64>(&["DEL", "t"]);
        add(server, "new", &["5-1", "5-2", "6-0"]);
    };
    check(replace, &payloads("new", &["5-1", "5-2", "6-0"]), &["7-5", "7-9"], &[]);
}

#[test]
fn deleted_and_filled_with_overlapping_ids() {
    let replace = |server: &RedisServer| {
        add(server, "old", &OLD[5..]);
        server.command::<u64>(&["DEL", "t"]);
        add(server, "new", &["7-2", "7-4", "7-7", "7-12", "7-13"]);
    };
    check(replace, &payloads("new", &["7-2", "7-4", "7-7", "7-12", "7-13"]), &["7-5", "7-9"], &[]);
}

#[test]
fn expired_and_filled_in_one_step() {
    let replace = |server: &RedisServer| {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("PEXPIRE").arg("t").arg(-1).ignore();
        for id in ["7-3", "7-8"] {
            pipeline.cmd("XADD").arg("t").arg(id).arg("data").arg(format!("new {id}")).ignore();
        }
        pipeline.query::<()>(&mut server.connect()).expect("Redis takes the entries");
    };
    check(replace, &payloads("new", &["7-3", "7-8"]), &["7-5", "7-4"], &[]);
}

#[test]
fn expired_by_its_owner() {
    let replace = |server: &RedisServer| {
        server.command::<u64>(&["PEXPIRE", "t", "20"]);
        wait_until("it is gone", || (server.command::<u64>(&["EXISTS", "t"]) == 0).then_some(()));
        add(server, "new", &["7-3", "7-8"]);
    };
    check(replace, &payloads("new", &["7-3", "7-8"]), &["7-5", "7-4"], &[]);
}

#[test]
fn restored_from_an_older_dump() {
    let replace = |server: &RedisServer| {
        let mut connection = server.connect();
        let dump: Vec<u8> = redis::cmd("DUMP").arg("t").query(&mut connection).expect("it is there");
        add(server, "old", &OLD[5..]);
        let mut restore = redis::cmd("RESTORE");
        restore.arg("t").arg(0).arg(dump).arg("REPLACE").query::<()>(&mut connection).expect("it is replaced");
        add(server, "new", &["7-7", "7-10"]);
    };
    let expected = [payloads("old", &OLD[..5]), payloads("new", &["7-7", "7-10"])].concat();
    check(replace, &expected, &["7-6", "7-9"], &["7-3", "7-5"]);
}

#[test]
fn failed_over_to_an_older_replica() {
    let replace = |server: &RedisServer| {
        let older = RedisServer::start();
        let (host, port) = (server.host(), server.port().to_string());
        older.command::<String>(&["REPLICAOF", host, &port]);
        wait_until("it has them", || (older.command::<u64>(&["XLEN", "t"]) == 5).then_some(()));
        older.command::<String>(&["REPLICAOF", "NO", "ONE"]);
        add(server, "old", &OLD[5..]);
        // At the same address, as when a name or an address moves to another server.
        server.command::<String>(&["REPLICAOF", older.host(), &older.port().to_string()]);
        wait_until("it is as the replica was", || (server.command::<u64>(&["XLEN", "t"]) == 5).then_some(()));
        server.command::<String>(&["REPLICAOF", "NO", "ONE"]);
        add(server, "new", &["7-6", "7-8", "7-11"]);
    };
    let expected = [payloads("old", &OLD[..5]), payloads("new", &["7-6", "7-8", "7-11"])].concat();
    check(replace, &expected, &["7-7", "7-9"], &["7-3", "7-5"]);
}

#[test]
fn an_id_of_both_streams_is_taken_for_the_older_where_that_was_read() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[]);
    let mut connected = SseClient::open(&hub, "/sse?topic=t");
    add(&server, "old", &OLD);
    read_up_to(&mut connected, "old 7-9");
    server.command::<u64>(&["DEL", "t"]);
    add(&server, "new", &["7-2", "7-4", "7-12"]);
    read_up_to(&mut connected, "new 7-12");
    // If the client has read the other stream, it lacks more than what follows 7-4.
    let received = read_up_to(&mut resume(&hub, "7-4"), "new 7-12");
    expect_reported(&received, &payloads("new", &["7-2", "7-4", "7-12"]), "one of both");
    add(&server, "new", &["7-13"]);
    assert_eq!(read_up_to(&mut resume(&hub, "7-12"), "new 7-13"), ["new 7-13"]);
}

#[test]
fn a_replay_reports_that_its_stream_was_replaced() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.count", "10")]);
    let fill = |life: &str, step: usize, padding: usize| {
        let mut pipeline = redis::pipe();
        pipeline.atomic().cmd("DEL").arg("t").ignore();
        for number in (1..=4000).step_by(step) {
            let data = format!("{life} {number} {}", "x".repeat(padding));
            pipeline.cmd("XADD").arg("t").arg(format!("7-{number}")).arg("data").arg(data).ignore();
        }
        pipeline.query::<()>(&mut server.connect()).expect("Redis takes the entries");
    };
    fill("old", 1, 10_000);
    // The client does not read on, so that its replay stops somewhere.
    let mut stream = resume(&hub, "7-5");
    assert!(stream.next_data().starts_with("old 6 "));
    fill("new", 2, 0);
    let (mut last_old, mut is_reported, mut new) = (6, false, Vec::new());
    while new.last() != Some(&3999) {
        let event = stream.next();
        let number = || event.data.split(' ').nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a number");
        match event.data.split(' ').next() {
            _ if event.kind == "gap" => {
                is_reported = true;
                new.clear();
            }
            Some("old") => {
                assert!(!is_reported && number() == last_old + 1, "{} after {last_old}", number());
                last_old = number();
            }
            _ => {
                assert!(is_reported, "nobody reported it: {} after {last_old}", number());
                new.push(number());
            }
        }
    }
    assert!(new.windows(2).all(|pair| pair[0] + 2 == pair[1]), "{new:?}");
}

#[test]
fn a_client_of_an_emptied_stream_gets_a_gap_for_what_it_missed() {
    let server = RedisServer::start();
    let hubs = [hub_on(&server, &[]), hub_on(&server, &[])];
    let delete = || assert_eq!(server.command::<u64>(&["DEL", "t"]), 1);
    add(&server, "old", &["5-1"]);
    let mut connected = resume(&hubs[0], "5-1");
    delete();
    let mut resumed = resume(&hubs[1], "5-1");
    let ids = [&mut connected, &mut resumed].map(|stream| {
        let gap = stream.next();
        assert_eq!(gap.kind, "gap", "{gap:?}");
        gap.id
    });
    drop((connected, resumed));
    add(&server, "lost", &["6-1"]);
    delete();
    add(&server, "new", &["6-2"]);
    for (hub, id) in hubs.iter().flat_map(|hub| ids.iter().map(move |id| (hub, id))) {
        // The hub may have read the deleted entries, and keeps them until it notices.
        let received = read_up_to(&mut resume(hub, id), "new 6-2");
        assert_eq!(received[0], "gap epoch", "from {id}: {received:?}");
    }
}

/// How often the server was given a command.
fn calls(server: &RedisServer, command: &str) -> u64 {
    let figures: String = server.command(&["INFO", "commandstats"]);
    let of = format!("cmdstat_{command}:calls=");
    let line = figures.lines().find_map(|line| line.strip_prefix(of.as_str()));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or_default()
}

#[test]
fn a_stream_that_is_let_go_for_its_age_is_no_gap() {
    let server = RedisServer::start();
    let settings = [("topics.history.age", "1s")];
    let hubs = [hub_on(&server, &settings), hub_on(&server, &settings)];
    let mut streams: Vec<SseClient> = hubs.iter().map(|hub| SseClient::open(hub, "/sse?topic=t")).collect();
    for (round, hub) in hubs.iter().enumerate() {
        let data = format!("round {round}");
        hub.publish("t", &data);
        for stream in &mut streams {
            assert_eq!(stream.next_data(), data);
        }
        wait_until("it is let go", || (server.command::<u64>(&["EXISTS", "t"]) == 0).then_some(()));
        let looks = calls(&server, "xinfo|stream");
        wait_until("the hubs have seen it", || (looks + 6 <= calls(&server, "xinfo|stream")).then_some(()));
    }
    // Another application fills the key with older entries, so this is another stream.
    add(&server, "new", &["7-1"]);
    for stream in &mut streams {
        expect_reported(&read_up_to(stream, "new 7-1"), &payloads("new", &["7-1"]), "a connected reader");
    }
}

#[test]
fn knowing_a_stream_again_costs_nothing_for_each_event() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("redis.ping_interval", "1h"), ("redis.proof_age_max", "3h")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    hub.publish("t", "first");
    assert_eq!(stream.next_data(), "first");
    let count =
        || ["xread", "xrevrange", "xrange", "xinfo|stream", "xinfo|groups"].map(|command| calls(&server, command));
    let before = count();
    for number in 0..100 {
        hub.publish("t", number.to_string());
        assert_eq!(stream.next_data(), number.to_string());
    }
    let spent: Vec<u64> = count().iter().zip(before).map(|(after, before)| after - before).collect();
    // One command waits, the other checks whether entries are missing before those that came.
    assert!(spent[0] <= 130 && spent[1] <= 100 && spent[2..].iter().sum::<u64>() <= 5, "{spent:?}");
}

#[test]
fn from_the_beginning_is_all_that_the_stream_has() {
    let server = RedisServer::start();
    let hub = hub_on(&server, &[("topics.history.count", "10"), ("topics.lag.count", "1")]);
    let mut pipeline = redis::pipe();
    for number in 1..=1000 {
        pipeline.cmd("XADD").arg("t").arg(format!("7-{number}")).arg("data").arg(number.to_string()).ignore();
    }
    pipeline.query::<()>(&mut server.connect()).expect("Redis takes the entries");
    let numbers = |from: u64| (from..=1000).map(|number| number.to_string()).collect::<Vec<_>>();
    let open = |start: &str| SseClient::open(&hub, &format!("/sse?topic=t&last_event_id={start}"));
    for start in ["0", "0-0", "first"] {
        assert_eq!(read_up_to(&mut open(start), "1000"), numbers(1), "{start}");
    }
    assert_eq!(read_up_to(&mut resume(&hub, "0-0"), "1000"), numbers(1));
    assert_eq!(read_up_to(&mut open("last:3"), "1000"), numbers(998));
    let history = hub.get("/topics/t/history?since=0").json();
    assert_eq!((&history["gap"], history["events"].as_array().map(Vec::len)), (&json!(null), Some(1000)));
    server.command::<u64>(&["XTRIM", "t", "MAXLEN", "40"]);
    let expected = [vec!["gap expired".to_owned()], numbers(961)].concat();
    // Entries read before the stream was trimmed are cached for a moment.
    wait_until("it is read anew", || (read_up_to(&mut open("first"), "1000") == expected).then_some(()));
    let history = hub.get("/topics/t/history?since=first").json();
    let gap = json!({ "from": "0-0", "to": "7-960", "reason": "expired" });
    assert_eq!((&history["gap"], history["events"].as_array().map(Vec::len)), (&gap, Some(40)));
    // A class without history gives new subscribers no past events.
    let none = hub_on(&server, &[("topics.history.count", "0")]);
    let mut stream = SseClient::open(&none, "/sse?topic=t&last_event_id=first");
    server.command::<String>(&["XADD", "t", "7-1001", "data", "1001"]);
    assert_eq!(stream.next_data(), "1001");
    assert_eq!(none.get("/topics/t/history?since=0").json()["events"], json!([]));
}
