//! What breaks, heals, and is said about it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, TcpListener},
    sync::{Arc, mpsc},
    time::Duration,
};

use super::{
    super::{PUBSUB_SOURCE, start_writer},
    harness::{Hub, Server, free_port, publish, quick, wait_until},
    topic,
};
use crate::{
    bus::{PublishFailed, Refusal},
    clock::Clock,
    source::{
        SourceStatus,
        redis::{RedisConfig, tests::false_sentinel},
    },
};

/// The answer to `ROLE`.
const MASTER: &[u8] = b"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";

#[test]
fn a_killed_server_heals_and_the_loss_is_counted() {
    let mut server = Server::start();
    let config = RedisConfig { subscribe: vec!["p.*".to_owned()], ..quick(&server.url()) };
    let hub = Hub::ready(&config);
    ["a", "p.a"].into_iter().for_each(|name| hub.listen(name));
    server.publish("a", "before");
    server.publish("p.unheard", "before");
    assert_eq!(hub.payloads(1), ["before"]);
    wait_until("the unheard one came too", || hub.status.snapshot().received == 2);
    server.kill();
    wait_until("the loss of the connection is seen", || !hub.status.snapshot().connected);
    let reason = hub.status.ready(hub.clock.now()).expect_err("it is not ready");
    assert!(reason.starts_with("redis reader: not connected for "), "{reason}");
    assert!(!hub.bus.attach(&topic("a"), 0).live);
    assert_eq!(hub.bus.losses_total(), 0, "told when delivery is whole again");
    server.restart();
    hub.wait_ready();
    wait_until("both subscriptions are back", || hub.status.snapshot().confirmed == 2);
    assert_eq!(hub.bus.losses_total(), 3, "of both that are heard, and of the one that only the pattern brought");
    server.publish("a", "after");
    server.publish("p.a", "after");
    assert_eq!(hub.payloads(2), ["after", "after"]);
    let snapshot = hub.status.snapshot();
    assert_eq!((snapshot.reconnects, snapshot.losses), (1, 3));
}

#[test]
fn a_server_that_comes_later_is_found() {
    let port = free_port();
    let hub = Hub::start(&quick(&format!("redis://127.0.0.1:{port}")));
    hub.bus.attach(&topic("a"), 0);
    wait_until("the refusal is known", || {
        hub.status.ready(hub.clock.now()).is_err_and(|reason| reason.contains("cannot connect"))
    });
    let server = Server::with(&["--port", &port.to_string()]);
    hub.wait_ready();
    wait_until("the topic is subscribed", || server.subscribers("a") == 1);
    assert_eq!(hub.bus.losses_total(), 0, "nothing was ever delivered, so nothing was interrupted");
}

/// Accepts connections and says `greeting` on each; returns its port. The sockets live as long as the process.
fn false_server(greeting: &'static [u8]) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let port = listener.local_addr().expect("a bound socket").port();
    std::thread::spawn(move || {
        let mut accepted = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(greeting);
            accepted.push(stream);
        }
    });
    port
}

fn check_reason(greeting: &'static [u8], expected: &str) {
    let port = false_server(greeting);
    let url = format!("redis://127.0.0.1:{port}");
    let short = Duration::from_millis(100);
    let hub = Hub::start(&RedisConfig { connect_timeout: short, ping_timeout: short, ..quick(&url) });
    let reason = || hub.status.ready(hub.clock.now()).err().unwrap_or_default();
    wait_until(expected, || reason().contains(expected));
}

#[test]
fn a_server_that_is_none_is_named_as_such() {
    check_reason(b"HTTP/1.1 400 Bad Request\r\n", "does not speak Redis's protocol");
    check_reason(b"-ERR max number of clients reached\r\n", "refuses: ERR max number of clients reached");
    check_reason(b"", "does not answer");
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let server = Server::start();
    let hub = Hub::ready(&RedisConfig { ping_timeout: Duration::from_millis(200), ..quick(&server.url()) });
    hub.listen("a");
    server.pause();
    let reason = || hub.status.ready(hub.clock.now()).err().unwrap_or_default();
    wait_until("the silence is noticed", || reason().contains("does not answer"));
    server.go_on();
    hub.wait_ready();
    wait_until("the topic is subscribed again", || hub.status.snapshot().confirmed == 1);
    assert_eq!(hub.bus.losses_total(), 1);
}

#[test]
fn only_a_master_is_talked_to_where_sentinels_name_it() {
    let master = Server::start();
    let server = Server::with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let (digits, port) = (server.port.to_string().len(), server.port);
    let answer = format!("*2\r\n$9\r\n127.0.0.1\r\n${digits}\r\n{port}\r\n");
    let sentinel = false_sentinel(answer.leak());
    let url = format!("redis+sentinel://127.0.0.1:{sentinel}/service");
    let hub = Hub::start(&RedisConfig { publish_timeout: Duration::from_millis(200), ..quick(&url) });
    let reason = || hub.status.ready(hub.clock.now()).err().unwrap_or_default();
    wait_until("the reader refuses it", || {
        let reason = reason();
        reason.starts_with("redis reader: ") && reason.contains("not a master")
    });
    assert_eq!(hub.publish("a", None, "x"), Err(PublishFailed::Refused(Refusal::ReadOnly)));
    let mut client = server.client();
    redis::cmd("REPLICAOF").arg(&["NO", "ONE"]).exec(&mut client).expect("it takes the command");
    hub.wait_ready();
    hub.listen("a");
    assert_eq!(hub.publish("a", None, "x"), Ok(None));
    assert_eq!(hub.payloads(1), ["x"]);
    // Nothing but the role changes: the connections stay.
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(master.port).exec(&mut client).expect("it takes the command");
    let lost = hub.publish("a", None, "lost");
    assert!(lost.is_err(), "a replica would take it and tell nobody: {lost:?}");
    wait_until("the others ask again", || reason().contains("not a master"));
    assert_eq!(hub.publish("a", None, "lost"), Err(PublishFailed::Refused(Refusal::ReadOnly)));
}

#[test]
fn an_unreachable_server_answers_unavailable() {
    let config = RedisConfig {
        publish_timeout: Duration::from_millis(50),
        ..quick(&format!("redis://127.0.0.1:{}", free_port()))
    };
    let writer = start_writer(config, Clock::start(), Arc::new(SourceStatus::new(PUBSUB_SOURCE)), Arc::default())
        .expect("usable settings");
    let answers: Vec<_> = (0..3).map(|_| publish(&writer, "a", None, "x")).collect();
    for answer in answers {
        assert_eq!(answer.recv_timeout(Duration::from_secs(5)), Ok(Err(PublishFailed::Unavailable)));
    }
    let answer = publish(&writer, "a", None, "x");
    writer.stop();
    assert_eq!(answer.try_recv(), Ok(Err(PublishFailed::Unavailable)), "stopping answers all");
}

/// A server far away: it answers after `delay`. Its thread ends with the process.
fn distant_server(port: u16, delay: Duration) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("the port is still free");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut answers = stream.try_clone().expect("a second handle");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                let answer: &[u8] = match line.as_str() {
                    "CLIENT" | "PING" => b"+OK\r\n",
                    "ROLE" => MASTER,
                    "HELLO" => b"-ERR unknown command\r\n",
                    "PUBLISH" => b":1\r\n",
                    _ => continue,
                };
                std::thread::park_timeout(delay);
                // The writer may have lost its patience.
                let _ = answers.write_all(answer);
            }
        }
    });
}

#[test]
fn a_steady_stream_of_publications_leaves_time_to_connect() {
    let (port, delay) = (free_port(), Duration::from_millis(400));
    let config = RedisConfig { publish_timeout: delay / 2, ..quick(&format!("redis://127.0.0.1:{port}")) };
    let status = Arc::new(SourceStatus::new(PUBSUB_SOURCE));
    let writer = start_writer(config, Clock::start(), Arc::clone(&status), Arc::default()).expect("usable settings");
    let first = publish(&writer, "a", None, "x");
    let publish_one = || drop(publish(&writer, "a", None, "x"));
    wait_until("the first one is given up", || {
        publish_one();
        first.try_recv().is_ok()
    });
    distant_server(port, delay);
    wait_until("it connects", || {
        publish_one();
        status.snapshot().writer_connected
    });
    writer.stop();
}

#[test]
fn sent_and_not_answered_is_unknown_and_not_sent_twice() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    let port = listener.local_addr().expect("a bound socket").port();
    let (report, published) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut answers = stream.try_clone().expect("a second handle");
            // Lets everybody in, and hangs up on whoever publishes.
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                match line.as_str() {
                    "PUBLISH" => {
                        report.send(()).expect("the test waits");
                        break;
                    }
                    "CLIENT" => answers.write_all(b"+OK\r\n").expect("the writer waits"),
                    "PING" => answers.write_all(b"+PONG\r\n").expect("the writer waits"),
                    "ROLE" => answers.write_all(MASTER).expect("the writer waits"),
                    "HELLO" => answers.write_all(b"-ERR unknown command\r\n").expect("the writer waits"),
                    _ => {}
                }
            }
        }
    });
    let config = RedisConfig { ping_interval: Duration::from_secs(5), ..quick(&format!("redis://127.0.0.1:{port}")) };
    let status = Arc::new(SourceStatus::new(PUBSUB_SOURCE));
    let writer = start_writer(config, Clock::start(), Arc::clone(&status), Arc::default()).expect("usable settings");
    wait_until("the writer is let in", || status.snapshot().writer_connected);
    let answer = publish(&writer, "a", None, "x");
    assert_eq!(answer.recv_timeout(Duration::from_secs(5)), Ok(Err(PublishFailed::Unknown)));
    wait_until("it is let in again", || status.snapshot().writer_connected);
    writer.stop();
    assert_eq!(published.try_iter().count(), 1);
    assert_eq!((status.snapshot().published, status.snapshot().publish_failed), (0, 1));
}
