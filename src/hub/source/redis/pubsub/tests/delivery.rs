//! The reader against a real server.

use std::time::Duration;

use super::{
    super::glob::Glob,
    harness::{GLOBS, Hub, Server, quick, wait_until},
    topic,
};
use crate::{log::Start, source::redis::RedisConfig};

#[test]
fn interest_subscribes_and_unsubscribes_after_the_linger() {
    let server = Server::start();
    // Nothing but the listener itself wakes the reader in time.
    let (ping_interval, linger) = (Duration::from_secs(60), Duration::from_secs(2));
    let hub = Hub::ready(&RedisConfig { ping_interval, linger, ..quick(&server.url()) });
    assert_eq!(server.publish("a", "nobody listens"), 0);
    let attachment = hub.bus.attach(&topic("a"), 0);
    assert!(!attachment.live, "not before the server confirmed");
    hub.wait_live(&attachment.state.key);
    assert_eq!(server.publish("a", "somebody listens"), 1);
    assert_eq!(hub.payloads(1), ["somebody listens"]);
    assert_eq!(hub.status.snapshot().confirmed, 1);
    hub.bus.detach(&attachment.state, 0);
    assert_eq!(server.subscribers("a"), 1, "it lingers");
    wait_until("the topic is left", || server.subscribers("a") == 0);
    wait_until("the hole is reported", || hub.bus.losses_total() == 1);
    hub.listen("a");
    server.publish("a", "again");
    assert_eq!(hub.payloads(1), ["again"]);
}

#[test]
fn many_subscriptions_go_in_few_commands() {
    let server = Server::start();
    let hub = Hub::ready(&quick(&server.url()));
    let names: Vec<String> = (0..3000).map(|number| format!("many.{number}")).collect();
    names.iter().for_each(|name| drop(hub.bus.attach(&topic(name), 0)));
    wait_until("all are confirmed", || hub.status.snapshot().confirmed == 3000);
    assert_eq!(server.subscribers("many.2999"), 1);
    assert_eq!(server.publish("many.1500", "x"), 1);
    assert_eq!(hub.next().topic, topic("many.1500"));
}

#[test]
fn overlapping_patterns_deliver_once() {
    let server = Server::start();
    let subscribe = vec!["orders.*".to_owned(), "*.eu".to_owned()];
    let config =
        RedisConfig { subscribe, always: vec![topic("orders.always"), topic("alone")], ..quick(&server.url()) };
    let hub = Hub::ready(&config);
    ["orders.eu", "stock.eu", "alone"].into_iter().for_each(|name| hub.listen(name));
    assert_eq!(server.subscribers("orders.eu"), 0, "the pattern covers it");
    assert_eq!((server.subscribers("orders.always"), server.subscribers("alone")), (0, 1));
    assert_eq!(server.publish("orders.eu", "both"), 2);
    server.publish("stock.eu", "second");
    server.publish("alone", "direct");
    assert_eq!(hub.payloads(3), ["both", "second", "direct"]);
    server.publish("not a topic.eu", "x");
    server.publish("alone", "end");
    assert_eq!(hub.payloads(1), ["end"], "no duplicates between");
    wait_until("the batch is counted", || hub.status.snapshot().received == 4);
    let snapshot = hub.status.snapshot();
    assert_eq!((snapshot.refused, snapshot.losses), (1, 0));
}

#[test]
fn a_burst_keeps_its_order() {
    let server = Server::start();
    let hub = Hub::ready(&RedisConfig { read_buffer_bytes: 4096, ..quick(&server.url()) });
    hub.listen("burst");
    let mut pipe = redis::pipe();
    for number in 0..10_000 {
        pipe.cmd("PUBLISH").arg("burst").arg(number).ignore();
    }
    pipe.exec(&mut server.client()).expect("all are published");
    for number in 0..10_000_u64 {
        let event = hub.next();
        assert_eq!((event.text(), event.id.minor), (number.to_string().as_str(), number + 1));
    }
}

#[test]
fn what_no_transport_could_carry_is_refused_and_told() {
    let server = Server::start();
    let hub = Hub::ready(&RedisConfig { message_bytes_max: 1000, ..quick(&server.url()) });
    hub.listen("a");
    let bad: [&[u8]; 4] = [b"\xFF\xFE", &[b'x'; 1001], &[b'x'; 3_000_000], b"\xFFfanfare1\nbroken\n"];
    bad.into_iter().for_each(|payload| assert_eq!(server.publish("a", payload), 1));
    server.publish("a", "x".repeat(1000));
    assert_eq!(hub.next().data.len(), 1000, "the connection survives");
    wait_until("the batch is counted", || hub.status.snapshot().received == 1);
    let snapshot = hub.status.snapshot();
    assert_eq!((snapshot.refused, snapshot.losses, snapshot.reconnects), (4, 4, 0));
    assert_eq!(hub.bus.losses_total(), 4);
    let page = hub.bus.history(&topic("a"), Start::First, 99, hub.clock.now()).expect("it has events");
    let holes = page.events.iter().filter(|event| event.gap.is_some()).count();
    assert!((1..=4).contains(&holes), "one hole for all of a batch: {holes}");
    assert!(page.events.last().is_some_and(|event| event.gap.is_none()), "the good one comes after them");
}

#[test]
fn a_message_larger_than_the_buffer_arrives_whole() {
    let server = Server::start();
    let hub = Hub::ready(&RedisConfig { read_buffer_bytes: 4096, ..quick(&server.url()) });
    hub.listen("a");
    let large = "\u{E9}".repeat(500_000);
    server.publish("a", large.as_str());
    server.publish("a", "small");
    assert_eq!(hub.payloads(2), [large.as_str(), "small"]);
}

#[test]
fn probes_go_round_and_stay_inside() {
    let server = Server::start();
    let hub = Hub::ready(&RedisConfig { subscribe: vec!["*".to_owned()], ..quick(&server.url()) });
    let other = Hub::ready(&RedisConfig { subscribe: vec!["*".to_owned()], ..quick(&server.url()) });
    let first = hub.status.snapshot().last_proof;
    wait_until("further proofs come", || hub.status.snapshot().last_proof.is_some_and(|last| Some(last) > first));
    wait_until("of the other hub too", || other.status.snapshot().probe.is_some());
    let snapshot = hub.status.snapshot();
    assert_eq!((snapshot.received, snapshot.refused), (0, 0));
}

#[test]
fn globs_mean_what_they_mean_to_redis() {
    let server = Server::start();
    let mut client = server.client();
    for (_, channel, _) in GLOBS {
        redis::cmd("SET").arg(*channel).arg(1).exec(&mut client).expect("a key");
    }
    for (pattern, channel, expected) in GLOBS {
        let keys: Vec<String> = redis::cmd("KEYS").arg(*pattern).query(&mut client).expect("a list");
        assert_eq!(keys.iter().any(|key| key == channel), *expected, "redis: {pattern} {channel}");
        for (_, key, _) in GLOBS {
            let ours = Glob::parse(pattern).matches(key.as_bytes());
            assert_eq!(ours, keys.iter().any(|found| found == key), "{pattern} {key}");
        }
    }
}
