//! Every way to lose the server: each topic is told once, between what came before and what came after.

use std::time::Duration;

use super::{
    harness::{Hub, Server, quick, wait_until},
    topic,
};
use crate::{log::Start, source::redis::RedisConfig};

/// How a topic is subscribed when the server goes away: by itself, through a pattern with a listener, through one without,
/// always, and by nobody any more, its channel still lingering.
const TOPICS: [&str; 5] = ["direct", "p.heard", "p.unheard", "always", "lingering"];

fn outage_config(server: &Server) -> RedisConfig {
    RedisConfig {
        subscribe: vec!["p.*".to_owned()],
        always: vec![topic("always")],
        linger: Duration::from_secs(60),
        ping_timeout: Duration::from_millis(300),
        ..quick(&server.url())
    }
}

/// What `name`'s log says: payloads, and the reasons of holes in brackets.
fn log_of(hub: &Hub, name: &str) -> Vec<String> {
    let page = hub.bus.history(&topic(name), Start::First, 99, hub.clock.now());
    let show = |event: &std::sync::Arc<crate::event::Event>| match event.gap {
        Some(gap) => format!("[{}]", gap.reason),
        None => event.text().to_owned(),
    };
    page.map_or_else(Vec::new, |page| page.events.iter().map(show).collect())
}

fn publish_to_all(server: &Server, hub: &Hub, payload: &str) {
    let received = hub.status.snapshot().received + TOPICS.len() as u64;
    TOPICS.iter().for_each(|name| assert_eq!(server.publish(name, payload), 1, "{name}"));
    wait_until("all of it is here", || hub.status.snapshot().received == received);
}

/// `outage` takes the reader's connection away and brings back what it takes to make another.
fn check_outage(outage: impl Fn(&mut Server, &Hub)) {
    let mut server = Server::start();
    let hub = Hub::ready(&outage_config(&server));
    ["direct", "p.heard"].into_iter().for_each(|name| hub.listen(name));
    let lingering = hub.bus.attach(&topic("lingering"), 0);
    hub.wait_live(&lingering.state.key);
    hub.bus.detach(&lingering.state, 0);
    publish_to_all(&server, &hub, "before");
    outage(&mut server, &hub);
    wait_until("the reader is back", || hub.status.snapshot().reconnects == 1);
    wait_until("all is subscribed again", || hub.status.snapshot().confirmed == 4);
    publish_to_all(&server, &hub, "after");
    for name in TOPICS {
        assert_eq!(log_of(&hub, name), ["before", "[source_lost]", "after"], "{name}");
    }
    let snapshot = hub.status.snapshot();
    assert_eq!((snapshot.losses, snapshot.reconnects), (TOPICS.len() as u64, 1));
}

#[test]
fn the_server_is_killed() {
    check_outage(|server, _| {
        server.kill();
        server.restart();
    });
}

#[test]
fn the_server_ends_the_connection() {
    check_outage(|server, _| {
        let killed: u64 = redis::cmd("CLIENT")
            .arg(&["KILL", "TYPE", "pubsub"])
            .query(&mut server.client())
            .expect("a number of clients");
        assert_eq!(killed, 1);
    });
}

#[test]
fn the_server_gives_up_on_a_reader_that_seems_slow() {
    check_outage(|server, _| {
        let mut client = server.client();
        let limit = |limit: &str| redis::cmd("CONFIG").arg(&["SET", "client-output-buffer-limit", limit]).to_owned();
        limit("pubsub 64kb 0 0").exec(&mut client).expect("a limit");
        // Over the limit by itself, so it is dropped with the connection, however fast the reader is.
        assert_eq!(server.publish("direct", vec![b'x'; 500_000]), 1);
        limit("pubsub 32mb 8mb 60").exec(&mut client).expect("a limit");
    });
}

#[test]
fn the_server_falls_silent() {
    check_outage(|server, hub| {
        server.pause();
        wait_until("the silence is noticed", || !hub.status.snapshot().connected);
        server.go_on();
    });
}

#[test]
fn two_outages_with_nothing_between_are_told_twice() {
    let mut server = Server::start();
    let hub = Hub::ready(&outage_config(&server));
    hub.listen("direct");
    for reconnects in 1..=2 {
        server.kill();
        server.restart();
        wait_until("the reader is back", || hub.status.snapshot().reconnects == reconnects);
        wait_until("all is subscribed again", || hub.status.snapshot().confirmed == 3);
    }
    // Whoever began to listen between the two was told nothing by the first.
    assert_eq!(log_of(&hub, "direct"), ["[source_lost]", "[source_lost]"]);
}

#[test]
fn a_late_answer_is_no_loss() {
    let server = Server::start();
    let age = Duration::from_millis(300);
    let config = RedisConfig { proof_age_max: age, ping_timeout: Duration::from_secs(60), ..quick(&server.url()) };
    let hub = Hub::ready(&config);
    hub.listen("a");
    server.publish("a", "before");
    wait_until("it is here", || hub.status.snapshot().received == 1);
    server.pause();
    let reason = || hub.status.ready(hub.clock.now()).err().unwrap_or_default();
    wait_until("readiness fails", || reason().contains("no proof of delivery"));
    assert!(hub.status.snapshot().connected);
    server.go_on();
    hub.wait_ready();
    server.publish("a", "after");
    assert_eq!(hub.payloads(2), ["before", "after"]);
    assert_eq!(log_of(&hub, "a"), ["before", "after"]);
}

#[test]
fn a_reactor_that_takes_nothing_does_not_hold_up_the_reader() {
    const COUNT: u64 = 20_000;
    let server = Server::start();
    let hub = Hub::with_inbox(&quick(&server.url()), 8);
    hub.wait_ready();
    hub.listen("a");
    let mut client = server.client();
    let mut pipe = redis::pipe();
    for number in 0..COUNT {
        // Together more than the sockets' buffers hold: a reader that stopped would make the server keep the rest.
        pipe.cmd("PUBLISH").arg("a").arg(format!("{number:0500}")).ignore();
    }
    pipe.exec(&mut client).expect("all are published");
    wait_until("all of it was read", || hub.status.snapshot().received == COUNT);
    let clients: String = redis::cmd("CLIENT").arg(&["LIST", "TYPE", "pubsub"]).query(&mut client).expect("a list");
    assert!(clients.contains(" omem=0 "), "nothing waits at the server: {clients}");
    assert_eq!((hub.status.snapshot().reconnects, hub.bus.resyncs_total()), (0, 1));
    let next = hub.bus.attach(&topic("a"), 0).next;
    assert_eq!(next, COUNT + 1, "the reactor finds all of it in the history");
}
