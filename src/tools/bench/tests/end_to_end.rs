//! The instrument against a server whose faults are known.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use super::plan;
use crate::bench::{
    conductor::conduct,
    order::Faults,
    payload::{PROBE, Stamp},
    report::Report,
    watch::Watch,
};

/// How long it takes over what is put to `/slow`.
const SLOWNESS: Duration = Duration::from_millis(30);

/// What the server's subscribers share.
#[derive(Default)]
struct Hall {
    subscribers: Vec<TcpStream>,
    /// All events there ever were; an event's id is its place here.
    log: Vec<Vec<u8>>,
}

/// What a server does with each event: how many copies of it its subscribers get.
type Copies = fn(sequence: u32) -> usize;

/// Measures a server with those faults: 5 subscribers, 100 events a second for a second.
fn bench(copies: Copies, more: &[&str]) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || serve(&listener, copies));
    let mut arguments = vec!["--url", &url, "--transport", "sse", "--subscribers", "5", "--rate", "100"];
    arguments.extend(["--duration", "800ms", "--warmup", "200ms"]);
    arguments.extend(more);
    let plan = plan(&arguments).expect("a plan");
    Report::new(&plan, &conduct(&plan, &Watch::silent()).expect("the server answers"))
}

/// Takes connections until the process ends: the first bytes of each tell what it wants.
fn serve(listener: &TcpListener, copies: Copies) {
    let hall: Arc<Mutex<Hall>> = Arc::default();
    for socket in listener.incoming().flatten() {
        let hall = Arc::clone(&hall);
        thread::spawn(move || handle_event(socket, &hall, copies));
    }
}

fn handle_event(mut socket: TcpStream, hall: &Mutex<Hall>, copies: Copies) {
    let mut buffer = [0; 64 * 1024];
    let mut pending = Vec::new();
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..count]);
        if pending.starts_with(b"GET ") {
            return hall.lock().expect("no panic").admit(socket, &pending);
        }
        if pending.starts_with(b"POST /api/v1/auth/login ") && pending.ends_with(b"}") {
            return sign_in(socket, &pending);
        }
        if pending.starts_with(b"PUT ") && memchr::memmem::find_iter(&pending, b"PUT ").count() != 1 {
            return; // Whoever puts must wait.
        }
        if pending.starts_with(b"PUT /slow") {
            thread::park_timeout(SLOWNESS);
        }
        // Each request ends with its payload, and each payload with this.
        while let Some(end) = memchr::memmem::find(&pending, b"x\"}") {
            let request: Vec<u8> = pending.drain(..end + 3).collect();
            let start = memchr::memmem::find(&request, b"\r\n\r\n").expect("a head") + 4;
            hall.lock().expect("no panic").broadcast(&request[start..], copies);
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the client reads");
        }
    }
}

/// Knows one user, and turns each tenth attempt away.
fn sign_in(mut socket: TcpStream, request: &[u8]) {
    let is_known = memchr::memmem::find(request, br#""username":"ada""#).is_some();
    let is_tenth = memchr::memmem::find(request, br#"9","#).is_some() || request.ends_with(br#"9"}"#);
    let status = if is_known {
        "200 OK"
    } else if is_tenth {
        "503 Busy"
    } else {
        "401 No"
    };
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
    socket.write_all(answer.as_bytes()).expect("the client reads");
}

impl Hall {
    /// Who asks for `/forgetful` is not told what it missed.
    fn admit(&mut self, mut socket: TcpStream, request: &[u8]) {
        let request = String::from_utf8_lossy(request);
        let seen = request.lines().find_map(|line| line.strip_prefix("Last-Event-ID: "));
        let seen = seen.filter(|_| !request.starts_with("GET /forgetful"));
        let first = seen.map_or(self.log.len(), |id| id.parse::<usize>().expect("an id of ours") + 1);
        let head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
        socket.write_all(&[head, &self.log[first..].concat()[..]].concat()).expect("the client reads");
        self.subscribers.push(socket);
    }

    fn broadcast(&mut self, payload: &[u8], copies: Copies) {
        let (stamp, _) = Stamp::find(payload).expect("the bench publishes stamps");
        let count = if stamp.sequence == PROBE { 1 } else { copies(stamp.sequence) };
        let id = format!("id: {}\n", self.log.len());
        let event = [id.as_bytes(), b"data: ", payload, b"\n\n"].concat().repeat(count);
        for subscriber in &mut self.subscribers {
            // A visitor that has gone is no fault.
            let _ = subscriber.write_all(&event);
        }
        self.log.push(event);
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
fn a_server_with_paths_and_forms_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let place = listener.local_addr().expect("bound");
    thread::spawn(move || serve(&listener, |sequence| usize::from(sequence != 70)));
    let (subscribe, publish) = (format!("http://{place}/of/{{topic}}?x=1"), format!("http://{place}/in?{{topic}}"));
    let mut arguments = vec!["--subscribe", &subscribe, "--transport", "sse", "--publish", &publish];
    // What the server takes for a payload's end stands in the envelope's end, too.
    arguments.extend(["--publish-body", r#"{"to":"{topic}","data":{payload}}"#, "--header", "X-Key: k"]);
    arguments.extend(["--subscribers", "3", "--rate", "100", "--duration", "800ms", "--warmup", "200ms"]);
    let plan = plan(&arguments).expect("a plan");
    let report = Report::new(&plan, &conduct(&plan, &Watch::silent()).expect("the server answers"));
    assert_eq!(report.topics[0].faults, Faults { lost: 3, ..Faults::default() });
    assert_eq!(report.topics[0].deliveries, 3 * 79);
}

/// A run with 100 events a second put to `path`, one at a time.
fn put(path: &str, more: &[&str]) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let publish = format!("{url}{path}");
    thread::spawn(move || serve(&listener, |_| 1));
    let mut arguments = vec!["--url", &url, "--transport", "sse", "--subscribers", "3", "--rate", "100"];
    arguments.extend(["--duration", "800ms", "--warmup", "200ms", "--publish", &publish, "--publish-method", "PUT"]);
    let plan = plan(&[&arguments[..], more].concat()).expect("a plan");
    Report::new(&plan, &conduct(&plan, &Watch::silent()).expect("the server answers"))
}

#[test]
fn who_takes_one_request_at_a_time_gets_no_more() {
    let report = put("/in", &["--publish-in-turn", "--arrivals", "burst"]);
    assert_eq!((report.topics[0].deliveries, report.topics[0].faults), (3 * 80, Faults::default()));
    assert!(report.is_complete());
    // Bursts of ten, unasked: the server hangs up.
    let report = put("/in", &["--arrivals", "burst", "--patience", "1s"]);
    let failure = report.topics[0].publisher_failure.as_deref().expect("it hung up");
    assert!(failure.contains("closed") || failure.contains("reset"), "{failure}");
    assert!(!report.is_complete());
}

#[test]
fn waiting_for_answers_is_lateness() {
    let late_us = |report: &Report| {
        assert_eq!(report.topics[0].deliveries, 3 * 80);
        assert!((report.topics[0].faults.lost, report.topics[0].faults.repeated) == (0, 0));
        report.topics[0].lateness.p50
    };
    // The server takes three times as long as the schedule gives it: half way it is a second behind.
    let alone_us = late_us(&put("/slow", &["--publish-in-turn"]));
    assert!(500e3 < alone_us, "{alone_us}");
    let eight_us = late_us(&put("/slow", &["--publish-in-turn", "--publish-connections", "8"]));
    assert!(eight_us < alone_us / 4.0, "{eight_us} of {alone_us}");
}

#[test]
fn visitors_come_and_go() {
    let report = bench(|_| 1, &["--churn", "50", "--stalled", "2"]);
    let churn = report.churn.as_ref().expect("asked for");
    assert!(20 < churn.opening.count && churn.failed == 0, "{churn:?}");
    assert!(report.is_complete());
}

#[test]
fn people_sign_in() {
    let report = bench(|_| 1, &["--logins", "100", "--login", "ada:secret"]);
    let logins = report.logins.as_ref().expect("asked for");
    // More than a second, and every second one with a right name; the tenth of the others is turned away.
    assert!(100 <= logins.began && 40 <= logins.accepted, "{logins:?}");
    assert!(30 <= logins.refused && 8 <= logins.turned_away && logins.turned_away < logins.refused, "{logins:?}");
    assert_eq!((logins.failed, logins.answering.count), (0, logins.accepted + logins.refused), "{logins:?}");
    assert!(report.is_complete());
    assert!(report.to_string().contains("logins   100 a second; "), "{report}");
}

#[test]
fn idle_connections_are_only_counted() {
    let own_pid = std::process::id().to_string();
    let report = bench(|_| 1, &["--idle", "--server-pid", &own_pid]);
    assert_eq!((report.topics[0].events, report.topics[0].deliveries), (0, 0));
    assert_eq!(report.server.as_ref().and_then(|server| server.cpu_us_per_delivery), None);
    assert!(report.is_complete());
}

#[test]
fn a_storm_is_weathered() {
    let own_pid = std::process::id().to_string();
    let report = bench(|_| 1, &["--storm", "10", "--server-pid", &own_pid]);
    let storm = report.storm.as_ref().expect("asked for");
    assert_eq!((storm.cut, storm.missed_events, storm.caught_up), (4, 10, 4));
    assert_eq!((storm.catching_up.count, storm.opening.count), (4, 4));
    assert!(0.0 < storm.span_ms && storm.connecting_ms <= storm.span_ms, "{storm:?}");
    assert!(storm.server_cpu_us_per_return.is_some_and(|cost| 0.0 < cost), "{storm:?}");
    assert_eq!((report.topics[0].faults, report.topics[0].closed), (Faults::default(), 0));
    assert!(report.is_complete());
    let text = report.to_string();
    assert!(text.contains("storm    4 cut, 10 events missed; 4 caught up in "), "{text}");
}

#[test]
fn what_a_storm_destroys_is_counted() {
    let check = |copies: Copies, more: &[&str], caught_up: u64, expected: Faults| {
        let report = bench(copies, &[&["--storm", "10", "--patience", "2s"], more].concat());
        assert_eq!(report.storm.as_ref().expect("asked for").caught_up, caught_up, "{more:?}");
        assert_eq!(report.topics[0].faults, expected, "{more:?}");
        assert!(!report.is_complete());
    };
    // The run's own events are 0 to 99, those that four subscribers miss are 100 to 109, and five more follow.
    thread::scope(|scope| {
        scope.spawn(|| check(|_| 1, &["--path", "/forgetful"], 0, Faults { lost: 40, ..Faults::default() }));
        let twice: Copies = |sequence| 1 + usize::from(sequence == 105);
        scope.spawn(move || check(twice, &[], 4, Faults { repeated: 5, ..Faults::default() }));
        let never: Copies = |sequence| usize::from(sequence != 112);
        scope.spawn(move || check(never, &[], 4, Faults { lost: 5, ..Faults::default() }));
    });
}
