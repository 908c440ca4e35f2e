//! Restarting hubs one by one, as the README of `scripts/deploy` tells an operator: three hubs behind a proxy, topics kept in
//! Redis Streams, or of Redis Pub/Sub that each hub has from its start, and readers and a publisher that notice nothing but the
//! end of their streams.

use std::{
    io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
};

use fanfare_core::protocol::http::Method;
use socket2::Socket;

use crate::support::{
    OnDrop, TIMEOUT, haproxy::Haproxy, http::HttpConnection, hub::Hub, nginx::Nginx, redis::RedisServer,
    redis::free_port_at, sse::SseClient, wait_until,
};

const HUBS: usize = 3;
const READERS: usize = 6;
/// The last event.
const LAST: &str = "last";

#[test]
fn behind_haproxy() {
    restart_all(STREAM, |hubs| {
        let haproxy = Haproxy::start(hubs);
        (haproxy.address(), Box::new(haproxy))
    });
}

#[test]
fn behind_nginx() {
    restart_all(STREAM, |hubs| {
        let nginx = Nginx::start(hubs);
        (nginx.address(), Box::new(nginx))
    });
}

#[test]
fn of_redis_pubsub_behind_nginx() {
    restart_all(PUBSUB, |hubs| {
        let nginx = Nginx::start(hubs);
        (nginx.address(), Box::new(nginx))
    });
}

/// What makes the topic resumable at any hub.
const STREAM: (&str, &str) = ("topics.log", "redis-stream");
const PUBSUB: (&str, &str) = ("redis.subscribe", "t");

/// `start_proxy` starts a proxy in front of these addresses. It returns the proxy's address, and the guard that keeps it running.
fn restart_all(kind: (&str, &str), start_proxy: impl FnOnce(&[&str]) -> (String, Box<dyn Send>)) {
    let server = RedisServer::start();
    // An address of their own: at 127.0.0.1 an outgoing connection may take the port while a hub is away.
    let addresses = [(); HUBS].map(|()| free_port_at("127.0.0.3")).map(|port| format!("127.0.0.3:{port}"));
    let mut hubs: Vec<Hub> = addresses.iter().map(|address| start_hub(address, &server, kind)).collect();
    let (proxy, _running) = start_proxy(&addresses.each_ref().map(String::as_str));
    let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let end = OnDrop(|| stop.store(true, Ordering::SeqCst));
    let readers: Vec<_> = (0..READERS)
        .map(|_| {
            thread::spawn({
                let proxy = proxy.clone();
                move || read_all(&proxy)
            })
        })
        .collect();
    wait_until("all read", || {
        let listeners: u64 = hubs.iter().filter_map(|hub| hub.listeners("t")).sum();
        (listeners == READERS as u64).then_some(())
    });
    let publisher = thread::spawn({
        let (proxy, stop, published) = (proxy.clone(), Arc::clone(&stop), Arc::clone(&published));
        move || {
            while !stop.load(Ordering::SeqCst) {
                let number = published.load(Ordering::SeqCst);
                publish(&proxy, &number.to_string());
                published.store(number + 1, Ordering::SeqCst);
            }
        }
    });
    for address in &addresses {
        let before = published.load(Ordering::SeqCst);
        assert!(hubs.remove(0).terminate().success());
        hubs.push(start_hub(address, &server, kind));
        wait_until("publishing goes on", || (before < published.load(Ordering::SeqCst)).then_some(()));
    }
    drop(end);
    publisher.join().expect("each event is published");
    publish(&proxy, LAST);
    let count = published.load(Ordering::SeqCst);
    let expected: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let mut resumed = 0;
    for reader in readers {
        let (received, streams) = reader.join().expect("the reader ends well");
        assert_eq!(received, expected, "each event once, in order");
        resumed += streams - 1;
    }
    assert!(READERS <= resumed, "each stream ended at least once, each hub having had some: {resumed}");
}

/// A hub that is ready.
fn start_hub(address: &str, server: &RedisServer, kind: (&str, &str)) -> Hub {
    let settings = [
        kind,
        ("proxy.trusted", "127.0.0.0/8"),
        // As recommended, but with shorter intervals of readiness checks.
        ("drain.delay", "500ms"),
        ("drain.window", "500ms"),
        ("server.default_topics", ""),
    ];
    let hub = Hub::start_at(address, &["--redis", &server.url()], &settings);
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
    hub
}

/// The events of a client that resumes with its last id whenever its stream ends, and the number of streams.
fn read_all(proxy: &str) -> (Vec<String>, usize) {
    let (mut received, mut last, mut streams) = (Vec::new(), None, 0);
    loop {
        let resume = last.as_deref().map(|id| ("Last-Event-ID", id));
        let mut stream = SseClient::open_on(connect(proxy), "/sse?topic=t", resume.as_slice());
        streams += 1;
        while let Some(event) = stream.next_or_end() {
            assert_eq!(event.kind, "", "no gap: {event:?}");
            if event.data == LAST {
                return (received, streams);
            }
            received.push(event.data);
            last = Some(event.id);
        }
    }
}

/// Publishes as README recommends: again with the same key if the outcome is unknown.
fn publish(proxy: &str, payload: &str) {
    wait_until("the publication is taken", || {
        let mut connection = HttpConnection::new(connect(proxy));
        let answer =
            connection.request(Method::Post, "/publish/t", &[("Idempotency-Key", payload)], payload.as_bytes());
        assert!(matches!(answer.status, 200 | 502 | 504), "{}: {}", answer.status, answer.text());
        (answer.status == 200).then_some(())
    });
}

fn connect(address: &str) -> Socket {
    let connected: io::Result<TcpStream> = TcpStream::connect(address);
    let socket = Socket::from(connected.expect("the proxy accepts"));
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    socket
}
