//! The writer against a real server.

use std::time::Duration;

use super::harness::{self, Hub, Server, publish, quick, wait_until};
use crate::{bus::PublishFailed, source::redis::RedisConfig};

#[test]
fn publications_keep_their_order_and_each_is_answered() {
    let server = Server::start();
    let hub = Hub::ready(&quick(&server.url()));
    hub.listen("a");
    let answers: Vec<_> = (0..5000).map(|number| publish(hub.writer(), "a", None, &number.to_string())).collect();
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.recv_timeout(Duration::from_secs(5)), Ok(Ok(None)), "{number}");
        assert_eq!(hub.next().text(), number.to_string());
    }
    assert_eq!((hub.status.snapshot().published, hub.status.snapshot().publish_failed), (5000, 0));
    assert_eq!(hub.publish("unheard", None, "x"), Ok(None));
}

#[test]
fn a_type_travels_and_a_foreign_listener_sees_plain_payloads() {
    let server = Server::start();
    let hub = Hub::ready(&quick(&server.url()));
    hub.listen("a");
    let mut foreign = server.client();
    let mut foreign = foreign.as_pubsub();
    foreign.subscribe("a").expect("a subscription");
    assert_eq!(hub.publish("a", None, "{\"plain\":true}\n"), Ok(None));
    assert_eq!(hub.publish("a", Some("SERVER_DOWN"), "line\nline"), Ok(None));
    let events = [hub.next(), hub.next()];
    let seen = events.each_ref().map(|event| (event.kind.as_deref(), event.text()));
    assert_eq!(seen, [(None, "{\"plain\":true}\n"), (Some("SERVER_DOWN"), "line\nline")]);
    let mut payload = || foreign.get_message().expect("a message").get_payload_bytes().to_vec();
    assert_eq!(payload(), b"{\"plain\":true}\n");
    assert_eq!(payload(), b"\xFFfanfare1\n{\"type\":\"SERVER_DOWN\"}\nline\nline");
}

#[test]
fn two_hubs_see_the_same_events() {
    let server = Server::start();
    let hubs = [Hub::ready(&quick(&server.url())), Hub::ready(&quick(&server.url()))];
    hubs.iter().for_each(|hub| hub.listen("a"));
    assert_eq!(hubs[0].publish("a", None, "from the first"), Ok(None));
    assert_eq!(hubs[1].publish("a", None, "from the second"), Ok(None));
    for hub in &hubs {
        assert_eq!(hub.payloads(2), ["from the first", "from the second"]);
    }
}

#[test]
fn a_restart_between_two_publications_costs_none() {
    let mut server = Server::start();
    let hub = Hub::ready(&RedisConfig { ping_interval: Duration::from_secs(5), ..quick(&server.url()) });
    hub.listen("a");
    assert_eq!(hub.publish("a", None, "before"), Ok(None));
    server.kill();
    wait_until("the reader sees it", || !hub.status.snapshot().connected);
    // The reader's word spares the writer from sending into its own dead connection.
    let answer = publish(hub.writer(), "a", None, "between");
    server.restart();
    assert!(matches!(answer.recv_timeout(Duration::from_secs(5)), Ok(Ok(_))));
    hub.wait_ready();
}

/// Ends every connection but those that subscribe, as a server does with what is idle for longer than its `timeout`.
fn end_idle_connections(server: &Server) -> u64 {
    let mut kill = redis::cmd("CLIENT");
    kill.arg(&["KILL", "TYPE", "normal"]).query(&mut server.client()).expect("a number of connections")
}

#[test]
fn a_connection_that_the_server_ended_while_it_was_idle_costs_no_publication() {
    let server = Server::start();
    for url in [server.url(), format!("unix://{}", server.socket().display())] {
        let hub = Hub::ready(&RedisConfig { ping_interval: Duration::from_secs(5), ..quick(&url) });
        hub.listen("a");
        for number in 0..5 {
            assert_eq!(end_idle_connections(&server), 1, "the writer's");
            assert_eq!(hub.publish("a", None, &number.to_string()), Ok(None), "{url} {number}");
            assert!(hub.status.ready(hub.clock.now()).is_ok());
        }
        assert_eq!(hub.payloads(5), ["0", "1", "2", "3", "4"]);
        assert_eq!(hub.status.snapshot().publish_failed, 0);
    }
}

#[test]
fn a_full_queue_says_so() {
    let full = |config: &RedisConfig, data: &str| {
        let hub = Hub::start(config);
        let answers: Vec<_> = (0..5000).map(|_| publish(hub.writer(), "a", None, data)).collect();
        let refused = answers.iter().filter(|answer| answer.try_recv() == Ok(Err(PublishFailed::QueueFull))).count();
        assert!((3000..5000).contains(&refused), "{refused}");
    };
    let config = quick(&format!("redis://127.0.0.1:{}", harness::free_port()));
    full(&RedisConfig { publish_queue_max: 10, ..config.clone() }, "x");
    full(&RedisConfig { publish_queue_bytes_max: 100_000, ..config }, &"x".repeat(1000));
}

#[test]
fn stopping_sends_what_is_queued() {
    let server = Server::start();
    let mut hub = Hub::ready(&quick(&server.url()));
    let answers: Vec<_> = (0..3000).map(|_| publish(hub.writer(), "a", None, "x")).collect();
    let publisher = hub.writer().publisher();
    hub.stop_writer();
    hub.stop_reader();
    for answer in answers {
        assert_eq!(answer.try_recv(), Ok(Ok(None)));
    }
    let late = harness::publish_through(&publisher, "a", None, "too late");
    assert_eq!(late.try_recv(), Ok(Err(PublishFailed::Unavailable)));
}
