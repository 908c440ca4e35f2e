//! The instrument against a server whose faults are known.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use clap::Parser;

use crate::tool::bench::{
    Options,
    conductor::conduct,
    options::Plan,
    order::Faults,
    payload::{PROBE, Stamp},
    report::Report,
};

/// What a server does with each event: how many copies of it its subscribers get.
type Copies = fn(sequence: u32) -> usize;

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// Measures a server with those faults: 5 subscribers, 100 events a second for a second.
fn bench(copies: Copies, more: &[&str]) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || serve(&listener, copies));
    let mut arguments = vec!["bench", "--url", &url, "--transport", "sse", "--subscribers", "5", "--rate", "100"];
    arguments.extend(["--duration", "800ms", "--warmup", "200ms"]);
    arguments.extend(more);
    let plan = Plan::new(&CommandLine::parse_from(arguments).options).expect("a plan");
    Report::new(&plan, &conduct(&plan).expect("the server answers"))
}

/// Takes connections until the process ends: the first bytes of each tell what it wants.
fn serve(listener: &TcpListener, copies: Copies) {
    let subscribers: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    for socket in listener.incoming().flatten() {
        let subscribers = Arc::clone(&subscribers);
        thread::spawn(move || attend(socket, &subscribers, copies));
    }
}

fn attend(mut socket: TcpStream, subscribers: &Mutex<Vec<TcpStream>>, copies: Copies) {
    let mut buffer = [0; 64 * 1024];
    let mut pending = Vec::new();
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..count]);
        if pending.starts_with(b"GET ") {
            let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
            socket.write_all(head).expect("the client reads");
            return subscribers.lock().expect("no panic").push(socket);
        }
        // Each request ends with its payload, and each payload with this.
        while let Some(end) = memchr::memmem::find(&pending, b"x\"}") {
            let request: Vec<u8> = pending.drain(..end + 3).collect();
            let start = memchr::memmem::find(&request, b"\r\n\r\n").expect("a head") + 4;
            broadcast(&request[start..], subscribers, copies);
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the client reads");
        }
    }
}

fn broadcast(payload: &[u8], subscribers: &Mutex<Vec<TcpStream>>, copies: Copies) {
    let stamp = Stamp::find(payload).expect("the bench publishes stamps");
    let count = if stamp.sequence == PROBE { 1 } else { copies(stamp.sequence) };
    let event = [b"data: ", payload, b"\n\n"].concat().repeat(count);
    for subscriber in subscribers.lock().expect("no panic").iter_mut() {
        // A visitor that has gone is no fault.
        let _ = subscriber.write_all(&event);
    }
}

#[test]
fn a_faultless_server() {
    let report = bench(|_| 1, &[]);
    let topic = &report.topics[0];
    assert_eq!((topic.events, topic.deliveries, topic.events_incomplete), (80, 400, 0));
    assert_eq!((topic.faults, topic.closed, topic.refused), (Faults::default(), 0, 0));
    assert!(report.is_complete());
    assert!(0.0 < topic.read.p50 && topic.event_first.p50 <= topic.event_last.p50, "{topic:?}");
    assert!(topic.kernel.p50 <= topic.read.p50, "{topic:?}");
    assert_eq!(report.hgrm().lines().filter(|line| line.starts_with("#[Max")).count(), 1);
}

#[test]
fn losses_and_repetitions_are_counted() {
    let report =
        bench(|sequence| if sequence == 99 || sequence == 50 { 0 } else { 1 + usize::from(sequence == 60) }, &[]);
    let topic = &report.topics[0];
    // Events 50 and 99 to none of five, 60 to each of them twice.
    assert_eq!(topic.faults, Faults { lost: 10, repeated: 5, reordered: 0, foreign: 0 });
    assert_eq!(topic.events_incomplete, 3);
    assert!(!report.is_complete());
}

#[test]
fn visitors_come_and_go() {
    let report = bench(|_| 1, &["--churn", "50", "--stalled", "2"]);
    let churn = report.churn.as_ref().expect("asked for");
    assert!(20 < churn.opening.count && churn.failed == 0, "{churn:?}");
    assert!(report.is_complete());
}

#[test]
fn idle_connections_are_only_counted() {
    let own_pid = std::process::id().to_string();
    let report = bench(|_| 1, &["--idle", "--server-pid", &own_pid]);
    assert_eq!((report.topics[0].events, report.topics[0].deliveries), (0, 0));
    assert_eq!(report.server.as_ref().and_then(|server| server.cpu_us_per_delivery), None);
    assert!(report.is_complete());
}
