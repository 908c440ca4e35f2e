//! `fanfare bridge --stream=to`: events of Pub/Sub and core NATS go into logs that the other side's broker keeps.

use crate::{
    bridge::{bridge_with, wait_until_active},
    jetstream, redis_stream,
    support::{hub::Hub, nats::NatsServer, redis::RedisServer, send_signal, sse::SseClient, wait_until},
};

/// The next one: a payload with its type, or the reason of a gap.
fn next(stream: &mut SseClient) -> String {
    let received = stream.next();
    match received.kind.as_str() {
        "" => received.data,
        "gap" if received.data.contains("source_lost") => "gap source_lost".to_owned(),
        kind => format!("{kind} {}", received.data),
    }
}

#[track_caller]
fn expect(stream: &mut SseClient, expected: &[&str]) {
    let found: Vec<String> = expected.iter().map(|_| next(stream)).collect();
    assert_eq!(found, expected);
}

/// What `publish` brings goes into the log behind `far`, and a bridge that begins anew leaves a gap there, in every topic that has
/// a log; for all readers, whenever they come.
fn check(start: &dyn Fn() -> Hub, far: &Hub, topic: &str, publish: &dyn Fn(&str)) {
    let first = start();
    wait_until_active(&first);
    let mut stream = SseClient::open(far, &format!("/sse?topic={topic}"));
    publish("1");
    publish("2");
    expect(&mut stream, &["1", "2"]);
    send_signal("KILL", first.pid());
    drop(first);
    publish("lost");
    let second = start();
    wait_until_active(&second);
    expect(&mut stream, &["gap source_lost"]);
    publish("3");
    expect(&mut stream, &["3"]);
    let mut later = SseClient::open_with(far, &format!("/sse?topic={topic}"), &[("Last-Event-ID", "0-0")]);
    expect(&mut later, &["1", "2", "gap source_lost", "3"]);
    wait_until("all are counted", || (second.metric("fanfare_bridge_events_total") == 1.0).then_some(()));
    assert_eq!(second.metric("fanfare_bridge_failures_total"), 0.0);
}

#[test]
fn pubsub_goes_into_jetstream() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start_with_jetstream());
    let far = jetstream::hub_on(&nats, "", &[]);
    let start = || bridge_with(&redis.url(), &nats.url_as(""), &["near.*=>t.*"], &["--stream=to"], &[]);
    check(&start, &far, "t.a", &|payload| {
        redis.command::<u32>(&["PUBLISH", "near.a", payload]);
    });
    let near = Hub::start_with(&["--redis", &redis.url()], &[]);
    let bridge = start();
    wait_until_active(&bridge);
    let mut stream = SseClient::open(&far, "/sse?topic=t.typed");
    assert_eq!(near.post("/publish/near.typed?type=made", "{}").status, 200);
    expect(&mut stream, &["made {}"]);
}

#[test]
fn core_nats_goes_into_redis_streams() {
    let (redis, nats) = (RedisServer::start(), NatsServer::start());
    let far = redis_stream::hub_on(&redis, &[]);
    let start = || bridge_with(&nats.url_as(""), &redis.url(), &["t"], &["--stream=to"], &[]);
    check(&start, &far, "t", &|payload| nats.publish("t", payload));
}

#[test]
fn what_is_lost_on_the_way_stands_in_the_log() {
    let (redis, mut nats) = (RedisServer::start(), NatsServer::start_with_jetstream());
    let far = jetstream::hub_on(&nats, "", &[]);
    // No room for what comes while the other side is away.
    let settings = [("topics.lag.count", "2"), ("topics.history.count", "1")];
    let bridge = bridge_with(&redis.url(), &nats.url_as(""), &["t.*"], &["--stream=to"], &settings);
    wait_until_active(&bridge);
    let mut stream = SseClient::open(&far, "/sse?topic=t.a");
    redis.command::<u32>(&["PUBLISH", "t.a", "before"]);
    expect(&mut stream, &["before"]);
    nats.kill();
    wait_until("the bridge sees it", || (bridge.get("/ready").status == 503).then_some(()));
    let inbox = 16_384;
    let mut connection = redis.connect();
    for number in 0..inbox + 100 {
        let _: u32 = redis::cmd("PUBLISH").arg("t.a").arg(number).query(&mut connection).expect("it is taken");
    }
    nats.restart();
    let mut all = Vec::new();
    while all.last().map(String::as_str) != Some(&(inbox + 99).to_string()) {
        all.push(next(&mut stream));
    }
    let gaps = all.iter().filter(|shown| shown.as_str() == "gap source_lost").count();
    let numbers: Vec<usize> = all.iter().filter_map(|shown| shown.parse().ok()).collect();
    assert!(numbers.is_sorted_by(|before, after| before < after), "each once, in order");
    assert_eq!((gaps, all.len()), (1, numbers.len() + 1), "{:?}", &all[all.len() - 4..]);
    assert!(numbers.len() < inbox + 100, "{}", numbers.len());
}
