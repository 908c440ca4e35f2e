//! What waits and what returns; the writers' servers are made up.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossbeam_channel::{bounded, unbounded};

use super::*;
use crate::{
    bus::Receipt,
    protocol::resp::{Reply, RespLimits, parse},
    source::redis::pubsub::{ChannelCommand, ChannelEncoder, PUBSUB_SOURCE},
    topic::Topic,
};

fn publisher(config: &RedisConfig) -> ClusterPublisher {
    let clock = Clock::start();
    let status = Arc::new(ClusterStatus::new(PUBSUB_SOURCE, config.cluster_pubsub, clock));
    let view = Arc::new(ClusterView::new(bounded(1).0));
    let router = Router::new(config.clone(), String::new(), 0, clock, view, Arc::clone(&status)).expect("no files");
    let encoder =
        ChannelEncoder { command: ChannelCommand::PublishSharded, idempotency_window: config.idempotency_window };
    let intake = PublicationIntake::new(config, Arc::new(encoder), clock, status.common());
    ClusterPublisher { intake, router: Arc::new(router) }
}

fn publish(publisher: &ClusterPublisher, topic: &str, payload: &str) -> Receiver<Receipt> {
    let (reply, answer) = bounded(1);
    publisher.publish(Publication {
        topic: Topic::parse(topic).expect("a good name"),
        kind: None,
        data: Bytes::copy_from_slice(payload.as_bytes()),
        idempotency_key: None,
        bridged: None,
        reply: Box::new(move |receipt| {
            let _ = reply.send(receipt);
        }),
    });
    answer
}

/// A node at which nobody listens.
fn node(port: u16) -> NodeAddress {
    NodeAddress { host: "127.0.0.3".to_owned(), port }
}

#[test]
fn what_has_no_node_waits_until_its_deadline_within_a_bound() {
    let config = RedisConfig { publish_queue_max: 2, ..RedisConfig::default() };
    let publisher = publisher(&config);
    let answers = ["a", "b", "c"].map(|topic| publish(&publisher, topic, "x"));
    assert_eq!(answers[2].try_recv(), Ok(Err(PublishFailed::QueueFull)));
    let now = publisher.router.clock.now();
    publisher.router.tick(now);
    assert!(publisher.router.holds_any() && answers[..2].iter().all(Receiver::is_empty));
    publisher.router.tick(now + config.publish_timeout + Duration::from_secs(1));
    assert!(!publisher.router.holds_any());
    assert!(answers[..2].iter().all(|answer| answer.try_recv() == Ok(Err(PublishFailed::Unavailable))));
    publisher.router.stop();
    assert_eq!(publish(&publisher, "a", "x").try_recv(), Ok(Err(PublishFailed::QueueFull)), "nobody sends it any more");
}

/// A master that takes everything; returns its port, and what it was published.
fn willing_node() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.3", 0)).expect("a loopback port");
    let port = listener.local_addr().expect("a bound socket").port();
    let (taken, published) = unbounded();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut bytes = Vec::new();
            let mut chunk = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut chunk) {
                bytes.extend_from_slice(&chunk[..count]);
                let mut parsed = 0;
                while let Ok(Some((Reply::Array(words), length))) = parse(&bytes[parsed..], &RespLimits::default()) {
                    parsed += length;
                    let word = |index: usize| match words.get(index) {
                        Some(Reply::Bulk(Some(word))) => String::from_utf8_lossy(word).into_owned(),
                        _ => String::new(),
                    };
                    let answer: &[u8] = match word(0).as_str() {
                        "SPUBLISH" => {
                            taken.send(word(2)).expect("the test lasts");
                            b":1\r\n"
                        }
                        "ROLE" => b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n",
                        _ => b"+OK\r\n",
                    };
                    stream.write_all(answer).expect("the hub listens");
                }
                bytes.drain(..parsed);
            }
        }
    });
    (port, published)
}

/// What was handed to the writer of a node that is not reached comes back when another one has the slot, and stays in order with
/// what came later. There is more of it than the writer takes at a time.
#[test]
fn what_a_node_was_not_sent_goes_to_the_next_one_in_order() {
    let config = RedisConfig { publish_timeout: Duration::from_secs(60), ..RedisConfig::default() };
    let publisher = publisher(&config);
    let router = &publisher.router;
    let slot = slot_of_key("", &Topic::parse("a").expect("a good name"));
    let (port, published) = willing_node();
    let mut answers = Vec::new();
    let mut number = 0;
    for (port, count) in [(1, 1500), (2, 500), (port, 500)] {
        let mut map = SlotMap::default();
        assert!(map.assign(slot, node(port)));
        router.apply(&map);
        for _ in 0..count {
            answers.push(publish(&publisher, "a", &number.to_string()));
            number += 1;
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    for expected in 0..number {
        let found = loop {
            router.tick(router.clock.now());
            match published.recv_timeout(Duration::from_millis(2)) {
                Ok(found) => break found,
                Err(_) => assert!(Instant::now() < deadline, "{expected} does not come"),
            }
        };
        assert_eq!(found, expected.to_string());
    }
    router.stop();
    let taken = |answer: &Receiver<Receipt>| answer.try_iter().all(|receipt| receipt == Ok(None));
    assert!(answers.iter().all(taken), "each was taken");
}
