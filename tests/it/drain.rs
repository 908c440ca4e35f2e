//! Shutting down: requests under way are finished, nothing new begins, and streams are closed one by one.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fanfare_core::protocol::http::Method;

use crate::support::{
    Folder, TIMEOUT,
    http::HttpConnection,
    hub::Hub,
    send_signal,
    sse::SseClient,
    wait_until,
    websocket::{Incoming, WebSocketClient},
};

const PUBLISH_HEAD: &[u8] = b"POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n";

#[test]
fn a_request_that_has_begun_is_answered() {
    let hub = Hub::start_with(&[], &[("drain.window", "10s")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut publisher = HttpConnection::new(hub.connect());
    publisher.send(PUBLISH_HEAD);
    publisher.send(b"lat");
    wait_until("it has arrived", || (hub.metric("fanfare_connections{transport=\"http\"}") == 2.0).then_some(()));
    let hub = hub.drain();
    publisher.send(b"est");
    let taken = publisher.receive();
    assert_eq!((taken.status, taken.header("connection")), (200, Some("close")));
    assert!(publisher.is_closed());
    assert_eq!(stream.next_data(), "latest", "a client that is still connected gets it");
    drop(stream);
    assert!(hub.wait().success());
}

#[test]
fn nothing_new_is_accepted() {
    let hub = Hub::start_with(&["--admin-listen", "127.0.0.1:0"], &[("drain.window", "10s")]);
    let stream = SseClient::open(&hub, "/sse?topic=t");
    let mut idle = HttpConnection::new(hub.connect());
    assert_eq!(idle.request(Method::Get, "/topics", &[], b"").status, 200);
    let (address, admin) = (hub.address().to_owned(), hub.url(1).trim_start_matches("http://").to_owned());
    let hub = hub.drain();
    assert!(idle.is_closed(), "without a word, because nothing was asked");
    // Each reactor closes its own listener in its own turn.
    wait_until("nobody listens any more", || TcpStream::connect(&address).is_err().then_some(()));
    drop(stream);
    assert!(hub.wait().success());
    assert!(TcpStream::connect(&admin).is_err(), "{admin}");
}

/// Administration is served until the end.
#[test]
fn the_listener_for_administration_lives_to_the_end() {
    let flags = ["--admin-listen", "127.0.0.1:0", "--reactors", "2"];
    let hub = Hub::start_with(&flags, &[("drain.window", "1h")]);
    let stream = SseClient::open(&hub, "/sse?topic=t");
    let mut kept = HttpConnection::new(hub.connect_at(1));
    assert_eq!(kept.request(Method::Get, "/ready", &[], b"").status, 200);
    let public = hub.address().to_owned();
    let hub = hub.drain();
    wait_until("the public's listener is closed", || TcpStream::connect(&public).is_err().then_some(()));
    for _ in 0..8 {
        let mut requester = HttpConnection::new(hub.connect_at(1));
        let ready = requester.request(Method::Get, "/ready", &[], b"");
        assert_eq!((ready.status, &ready.json()["failed"]), (503, &serde_json::json!(["the hub shuts down"])));
    }
    assert_eq!(kept.request(Method::Get, "/metrics", &[], b"").status, 200);
    // With an idle connection.
    let idle = HttpConnection::new(hub.connect_at(1));
    drop(stream);
    assert!(hub.wait().success());
    drop(idle);
}

/// Proxies see that the hub is not ready, and clients sent meanwhile are served, before anything is closed.
#[test]
fn a_hub_is_not_ready_for_a_while_before_it_closes_anything() {
    let hub = Hub::start_with(&[], &[("drain.delay", "1h"), ("drain.window", "1h")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    assert_eq!(hub.get("/ready").status, 200);
    send_signal("TERM", hub.pid());
    wait_until("it is not ready", || (hub.get("/ready").status == 503).then_some(()));
    assert_eq!(hub.get("/health").status, 200);
    let mut late = SseClient::open(&hub, "/sse?topic=t");
    hub.publish("t", "after the signal");
    assert_eq!((stream.next_data(), late.next_data()), ("after the signal".to_owned(), "after the signal".to_owned()));
    // A second signal ends the delay, a third one everything.
    let address = hub.address().to_owned();
    send_signal("TERM", hub.pid());
    wait_until("its listener is closed", || TcpStream::connect(&address).is_err().then_some(()));
    send_signal("TERM", hub.pid());
    assert!(hub.wait().success());
}

#[test]
fn the_delay_ends_by_itself_and_sigint_skips_it() {
    let hub = Hub::start_with(&[], &[("drain.delay", "100ms")]);
    assert!(hub.terminate().success());
    let hub = Hub::start_with(&[], &[("drain.delay", "1h")]);
    send_signal("INT", hub.pid());
    assert!(hub.wait().success());
}

#[test]
fn a_connection_that_waits_to_be_accepted_is_served() {
    let hub = Hub::start_with(&["--reactors", "1"], &[("drain.window", "10s")]);
    let stream = SseClient::open(&hub, "/sse?topic=t");
    // The process is stopped, so that connections and the signal are pending together when it continues.
    send_signal("STOP", hub.pid());
    let mut waiting: Vec<HttpConnection> = (0..20).map(|_| HttpConnection::new(hub.connect())).collect();
    for (number, connection) in waiting.iter_mut().enumerate() {
        connection.send(PUBLISH_HEAD);
        connection.send(format!("{number:06}").as_bytes());
    }
    send_signal("TERM", hub.pid());
    send_signal("CONT", hub.pid());
    for connection in &mut waiting {
        assert_eq!(connection.receive().status, 200);
    }
    drop(stream);
    assert!(hub.wait().success());
}

#[test]
fn streams_end_one_by_one_over_the_window() {
    const WINDOW: Duration = Duration::from_secs(2);
    let hub = Hub::start_with(&[], &[("drain.window", "2s")]);
    let streams: Vec<SseClient> = (0..30).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    let sockets: Vec<WebSocketClient> = (0..30).map(|_| WebSocketClient::open(&hub, "/ws?topic=t")).collect();
    let begun = Instant::now();
    let hub = hub.drain();
    let ends_of_streams = streams.into_iter().map(|mut stream| {
        thread::spawn(move || {
            stream.read_to_end();
            begun.elapsed()
        })
    });
    let ends_of_sockets = sockets.into_iter().map(|mut socket| {
        thread::spawn(move || {
            assert_eq!(socket.close_code(), Some(1012));
            begun.elapsed()
        })
    });
    let readers: Vec<_> = ends_of_streams.chain(ends_of_sockets).collect();
    let mut ends: Vec<Duration> = readers.into_iter().map(|end| end.join().expect("a proper end")).collect();
    assert!(hub.wait().success());
    ends.sort_unstable();
    // Of 60 that are spread evenly, at least 10 fall into each half but once in a hundred million times.
    let early = ends.iter().filter(|end| **end < WINDOW / 2).count();
    assert!((10..=50).contains(&early), "{ends:?}");
    assert!(ends[0] < WINDOW / 2 && WINDOW / 2 < ends[59], "{ends:?}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let hub = Hub::start_with(&[], &[("drain.window", "1h")]);
    let mut streams: Vec<SseClient> = (0..10).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=t");
    let mut half = HttpConnection::new(hub.connect());
    half.send(PUBLISH_HEAD);
    wait_until("it has arrived", || (hub.metric("fanfare_connections{transport=\"http\"}") == 2.0).then_some(()));
    let (pid, hub) = (hub.pid(), hub.drain());
    send_signal("TERM", pid);
    let begun = Instant::now();
    for stream in &mut streams {
        stream.read_to_end();
    }
    assert_eq!(socket.close_code(), Some(1012));
    assert!(matches!(socket.next(), Incoming::End));
    let refused = half.receive();
    assert_eq!((refused.status, refused.header("retry-after").is_some()), (503, true));
    drop((streams, socket, half));
    assert!(hub.wait().success());
    assert!(begun.elapsed() < TIMEOUT, "not after an hour");
}

#[test]
fn a_request_that_never_ends_does_not_hold_up_the_end() {
    let hub = Hub::start_with(&[], &[("drain.window", "500ms"), ("limits.body_timeout", "1h")]);
    let mut half = HttpConnection::new(hub.connect());
    half.send(PUBLISH_HEAD);
    let fresh = HttpConnection::new(hub.connect());
    wait_until("both are there", || (hub.metric("fanfare_connections{transport=\"http\"}") == 3.0).then_some(()));
    let hub = hub.drain();
    assert_eq!(half.receive().status, 503);
    drop(half);
    assert!(hub.wait().success());
    drop(fresh);
}

/// The outcome of a probe on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probed {
    Status(u16),
    /// No connection, or one that the hub has not accepted.
    Gone,
    /// The connection was accepted, and ended without an answer.
    Unanswered,
}

fn probe(address: &str) -> Probed {
    let mut socket = match TcpStream::connect(address) {
        Ok(socket) => socket,
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset) => {
            return Probed::Gone;
        }
        Err(error) => panic!("{error}"),
    };
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    let mut answer = Vec::new();
    let asked = socket.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    match asked.and_then(|()| socket.read_to_end(&mut answer)) {
        Ok(_) if answer.starts_with(b"HTTP/1.1 200") => Probed::Status(200),
        Ok(_) if answer.starts_with(b"HTTP/1.1 503") => Probed::Status(503),
        Ok(0) => Probed::Unanswered,
        Ok(_) => panic!("{}", String::from_utf8_lossy(&answer)),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Probed::Unanswered,
        Err(error) => panic!("{error}"),
    }
}

/// Probes on one connection after another are answered until the process has ended.
#[test]
fn every_probe_of_the_administration_is_answered_until_the_end() {
    const REACTORS: usize = 2;
    let flags = ["--admin-listen", "127.0.0.1:0", "--reactors", &REACTORS.to_string()];
    let hub = Hub::start_with(&flags, &[("drain.delay", "100ms"), ("drain.window", "300ms")]);
    let address = hub.url(1).trim_start_matches("http://").to_owned();
    // None of these clients closes: an idle connection each, and a stream that is not read.
    let mut kept = HttpConnection::new(hub.connect_at(1));
    assert_eq!(kept.request(Method::Get, "/ready", &[], b"").status, 200);
    let fresh = hub.connect_at(1);
    let mut idle = HttpConnection::new(hub.connect());
    assert_eq!(idle.request(Method::Get, "/topics", &[], b"").status, 200);
    let stream = SseClient::open(&hub, "/sse?topic=t");
    let probes = Arc::new(AtomicUsize::new(0));
    let probers: Vec<_> = (0..2)
        .map(|_| {
            let (address, probes) = (address.clone(), Arc::clone(&probes));
            thread::spawn(move || {
                let mut seen: Vec<(Probed, usize)> = Vec::new();
                loop {
                    let probed = probe(&address);
                    probes.fetch_add(1, Ordering::Relaxed);
                    match seen.last_mut() {
                        Some((last, count)) if *last == probed => *count += 1,
                        _ => seen.push((probed, 1)),
                    }
                    if probed == Probed::Gone {
                        return (seen, Instant::now());
                    }
                }
            })
        })
        .collect();
    wait_until("it is probed", || (20 < probes.load(Ordering::Relaxed)).then_some(()));
    send_signal("TERM", hub.pid());
    assert!(hub.wait().success());
    let ended = Instant::now();
    for prober in probers {
        let (mut seen, gone) = prober.join().expect("each answer is one of these");
        // The kernel may accept one more between a reactor's last accept and the end of its listener.
        let is_unanswered = |row: &(Probed, usize)| row.0 == Probed::Unanswered;
        let unanswered: usize = seen.iter().filter(|row| is_unanswered(row)).map(|(_, count)| count).sum();
        assert!(unanswered <= REACTORS, "{seen:?}");
        seen.retain(|row| !is_unanswered(row));
        let mut kinds: Vec<Probed> = seen.iter().map(|(probed, _)| *probed).collect();
        // The other reactor may have answered one more after that.
        kinds.dedup();
        assert_eq!(kinds, [Probed::Status(200), Probed::Status(503), Probed::Gone], "{seen:?}");
        assert!(
            ended.saturating_duration_since(gone) < Duration::from_secs(1),
            "it was gone before the process: {seen:?}"
        );
    }
    drop((kept, fresh, idle, stream));
}

/// Clients that do not close do not delay an immediate end.
#[test]
fn a_second_signal_does_not_wait_for_clients() {
    let flags = ["--admin-listen", "127.0.0.1:0", "--reactors", "2"];
    let hub = Hub::start_with(&flags, &[("drain.window", "1h"), ("limits.closing_timeout", "1h")]);
    let mut kept = HttpConnection::new(hub.connect_at(1));
    assert_eq!(kept.request(Method::Get, "/ready", &[], b"").status, 200);
    let mut idle = HttpConnection::new(hub.connect());
    assert_eq!(idle.request(Method::Get, "/topics", &[], b"").status, 200);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let fresh = hub.connect_at(1);
    let (pid, hub) = (hub.pid(), hub.drain());
    let begun = Instant::now();
    send_signal("TERM", pid);
    assert!(hub.wait().success());
    // It takes a fifth of a second. A machine under load is given more.
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    stream.read_to_end();
    drop((kept, idle, fresh));
}

/// One reactor accepts the connections of a unix socket and passes them on. Each reactor closes those that were passed to it.
#[test]
fn idle_connections_of_administration_hold_up_no_reactor() {
    let folder = Folder::new();
    let admin = format!("unix:{}", folder.path("admin.sock"));
    let flags = ["--admin-listen", &admin, "--reactors", "3"];
    let hub = Hub::start_with(&flags, &[("limits.idle_timeout", "1h"), ("limits.closing_timeout", "1h")]);
    let kept: Vec<HttpConnection> = (0..6)
        .map(|_| {
            let mut connection = HttpConnection::new(hub.connect_at(1));
            assert_eq!(connection.request(Method::Get, "/ready", &[], b"").status, 200);
            connection
        })
        .collect();
    assert!(hub.terminate().success());
    drop(kept);
}
