//! `fanfare bench --ladder` against a server whose capacity is known.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{Folder, send_signal, stdout_of};

/// The server's time for each event: its capacity is 10 events a second, and beyond that events queue. Long enough that a run stays
/// valid if the publisher wakes some milliseconds late, as on a busy machine.
const SERVICE_TIME: Duration = Duration::from_millis(100);
const CAPACITY_HZ: f64 = 10.0;
/// The steps are at 5.5, 6.9, 8.6 and 10.7 events a second. None is so near to the capacity that its outcome is uncertain.
const FIRST_HZ: &str = "5.5";
const FACTOR: f64 = 1.25;

/// A server of Server-Sent Events: it sends each event that is posted to it to all clients, one after the other, each after the
/// service time. Returns its address. It runs until the process ends.
fn start_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let subscribers: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let (queue, work) = mpsc::channel();
    let audience = Arc::clone(&subscribers);
    thread::spawn(move || serve(&work, &audience));
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let (queue, subscribers) = (queue.clone(), Arc::clone(&subscribers));
            thread::spawn(move || attend(socket, &queue, &subscribers));
        }
    });
    url
}

/// One event after the other.
fn serve(work: &mpsc::Receiver<Vec<u8>>, audience: &Mutex<Vec<TcpStream>>) {
    let mut idle_from = Instant::now();
    while let Ok(event) = work.recv() {
        // Counted from the end of the last one, even if this thread wakes late. Otherwise the scheduler would decide the capacity.
        idle_from = idle_from.max(Instant::now()) + SERVICE_TIME;
        while Instant::now() < idle_from {
            thread::park_timeout(idle_from.saturating_duration_since(Instant::now()));
        }
        let frame = [b"data: ", &event[..], b"\n\n"].concat();
        audience.lock().expect("no panic").retain_mut(|subscriber| subscriber.write_all(&frame).is_ok());
    }
}

fn attend(mut socket: TcpStream, queue: &mpsc::Sender<Vec<u8>>, subscribers: &Mutex<Vec<TcpStream>>) {
    let (mut buffer, mut pending) = ([0; 16 * 1024], Vec::new());
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..count]);
        if pending.starts_with(b"GET ") {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").expect("the client reads");
            return subscribers.lock().expect("no panic").push(socket);
        }
        // Each request ends with its payload, and each payload with this.
        while let Some(end) = memchr::memmem::find(&pending, b"x\"}") {
            let request: Vec<u8> = pending.drain(..end + 3).collect();
            let start = memchr::memmem::find(&request, b"\r\n\r\n").expect("a head") + 4;
            queue.send(request[start..].to_vec()).expect("the server serves");
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the client reads");
        }
    }
}

/// `fanfare bench --ladder` on that server, short steps.
fn ladder(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bench", "--url", url, "--transport", "sse", "--subscribers", "5", "--ladder"]);
    command.args(["--rate", FIRST_HZ, "--ladder-warmup", "300ms"]).args(arguments);
    command.stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("it was just built")
}

fn read_json(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

#[test]
#[ignore = "it takes long: scripts/check --all runs it"]
fn the_knee_is_where_the_capacity_ends() {
    let (folder, url) = (Folder::new(), start_server());
    let files = ["a.json", "a.html", "a.hgrm", "both.html"].map(|name| folder.path(name));
    let [json, html, hgrm, both] = &files;
    let arguments = ["--duration", "3s", "--json", json, "--html", html, "--hgrm", hgrm, "--label", "mine"];
    let text = stdout_of(&run(ladder(&url, &arguments)));
    let climb = read_json(json);
    let knee_hz = climb["knee_hz"].as_f64().expect("a knee");
    assert!((CAPACITY_HZ / FACTOR..CAPACITY_HZ * FACTOR).contains(&knee_hz), "{knee_hz}\n{text}");
    assert_eq!(climb["ending"], "knee", "{text}");
    check_steps(&climb, knee_hz);
    for expected in ["knee     ", "at 50 %  ", "at 80 %  ", "  good\n", ", again\n"] {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let page = fs::read_to_string(html).expect("written");
    for expected in ["Latency by rate", "Latency by percentile", "<title>mine: p99</title>", "knee ev/s"] {
        assert!(page.contains(expected), "{expected:?}");
    }
    assert!(!page.contains("≥"), "the knee is known");
    assert!(!page.contains("src=") && !page.contains("href=") && !page.contains("@import"), "{page}");
    assert!(fs::read_to_string(hgrm).expect("written").starts_with("       Value     Percentile TotalCount"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["bench", "--compare", json, json, "--label", "one", "--label", "two", "--html", both]);
    let text = stdout_of(&run(command));
    assert!(text.starts_with("ladder      knee ev/s") && text.contains("\none ") && text.contains("\ntwo "), "{text}");
    assert!(fs::read_to_string(both).expect("written").contains("<title>two: p99</title>"));
}

/// The last good step is the knee, the attempts after it are two of the same rate, and the rates rise by the factor.
#[track_caller]
fn check_steps(climb: &Value, knee_hz: f64) {
    let steps = climb["steps"].as_array().expect("steps");
    let rate = |step: &Value| step["rate_hz"].as_f64().expect("a rate");
    let [.., first, second] = &steps[..] else { panic!("{steps:?}") };
    assert_eq!((rate(first), rate(second)), (knee_hz * FACTOR, knee_hz * FACTOR), "{climb}");
    assert!(first["verdict"] == "slow" && second["verdict"] == "slow" && second["is_repeat"] == true, "{climb}");
    // The queue that grows at 10.7 events a second where 10 are served: over 3 s, some 200 ms.
    assert!(200_000.0 < second["p99"].as_f64().expect("a latency"), "{second}");
    let good: Vec<&Value> = steps.iter().filter(|step| step["verdict"] == "good").collect();
    assert!(good.iter().all(|step| step["report"]["topics"][0]["faults"]["lost"] == 0 && step["lost"] == 0), "{climb}");
    // Each event goes to five, and takes its service time at least.
    for step in &good {
        let throughput = step["deliveries_per_s"].as_f64().expect("a rate");
        assert!((throughput / (5.0 * rate(step)) - 1.0).abs() < 0.15, "{step}");
        assert!(100_000.0 <= step["p50"].as_f64().expect("a latency"), "{step}");
    }
    let below: Vec<f64> = climb["below"].as_array().expect("steps").iter().map(rate).collect();
    assert_eq!(below, [0.5 * knee_hz, 0.8 * knee_hz]);
}

#[test]
fn an_interrupted_ladder_reports_its_steps() {
    let (folder, url) = (Folder::new(), start_server());
    let json = folder.path("a.json");
    let mut command = ladder(&url, &["--duration", "1s", "--rate", "5", "--json", &json]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it was just built");
    let stderr = child.stderr.take().expect("it was just asked for");
    let (mut is_told, mut is_sent) = (false, false);
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        // The row of the first step, then the second.
        is_told |= line.starts_with("       5 ");
        if is_told && !is_sent && line.starts_with("measuring") && line.contains(" ev/s: ") {
            send_signal("INT", child.id());
            is_sent = true;
        }
    }
    let output = child.wait_with_output().expect("a child of ours");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{text}");
    let climb = read_json(&json);
    assert_eq!(climb["ending"], "interrupted", "{text}");
    assert!(text.contains("VOID     interrupted: "), "{text}");
    assert!(climb["steps"][0]["report"]["topics"][0]["deliveries"].as_u64().is_some_and(|count| 0 < count), "{climb}");
    assert!(climb["below"].as_array().expect("steps").is_empty());
}

#[test]
fn a_ladder_without_a_server_is_no_ladder() {
    let output = run(ladder("http://127.0.0.1:1", &[]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    assert!(error.contains("fanfare bench: a subscriber of bench: Connection refused"), "{error}");
}
