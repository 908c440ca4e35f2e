//! The instrument against latencies that are known: what it says must be what there was.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::plan;
use crate::bench::topics::Audience;
use crate::{
    bench::{
        conductor::conduct,
        order::Faults,
        payload::{PROBE, Stamp},
        report::{Percentiles, Report, hgrm},
        slices::{Slicing, curve},
        tally::{Received, Tally},
        watch::Watch,
    },
    clock::Moment,
};

const MS: f64 = 1_000.0;

/// A row of an `.hgrm` file: microseconds, the share of the deliveries that took so long or less, and how many those are.
type Row = (f64, f64, u64);

/// Reads what HdrHistogram's plotters read.
#[track_caller]
fn parse_hgrm(text: &str) -> Vec<Row> {
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("       Value     Percentile TotalCount 1/(1-Percentile)"));
    assert_eq!(lines.next(), Some(""));
    let rows = lines.clone().take_while(|line| !line.starts_with('#')).map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let row: Row =
            (words[0].parse().expect("µs"), words[1].parse().expect("a share"), words[2].parse().expect("a count"));
        // The last row stands for all, and has no fourth column.
        assert_eq!(words.len(), if row.1 < 1.0 { 4 } else { 3 }, "{line}");
        row
    });
    let rows: Vec<Row> = rows.collect();
    assert!(rows.is_sorted_by(|one, other| one.0 <= other.0 && one.1 <= other.1 && one.2 <= other.2), "{text}");
    assert_eq!(rows.last().map(|row| row.1), Some(1.0), "{text}");
    let footer: Vec<&str> = lines.filter(|line| line.starts_with('#')).collect();
    assert!(footer.len() == 2 && footer[0].starts_with("#[Mean") && footer[1].starts_with("#[Max"), "{text}");
    rows
}

/// So long took that share, as the file says it.
fn at(rows: &[Row], share: f64) -> f64 {
    rows.iter().find(|row| share <= row.1).expect("the last row's share is 1").0
}

#[track_caller]
fn near(found_us: f64, expected_us: f64) {
    // Three digits.
    assert!((found_us / expected_us - 1.0).abs() < 0.001, "{found_us} µs, not {expected_us}");
}

#[test]
fn a_tally_knows_its_percentiles() {
    const EVENTS: u32 = 100;
    const AUDIENCE: u32 = 1_000;
    let slicing = Slicing { width: Duration::from_secs(1), count: 1, of_events: vec![0; EVENTS as usize] };
    let mut tally = Tally::new(0..EVENTS, Audience { first: 0, subscribers: AUDIENCE, topics: 1 }, slicing);
    let due = Moment(5_000_000_000);
    // Of each event, nine tenths after 1 ms, nine hundredths after 50 ms, and a hundredth after 200 ms.
    for (event, place) in (0..EVENTS).flat_map(|event| (0..AUDIENCE).map(move |place| (event, place))) {
        let latency_ms = if place < 900 {
            1
        } else if place < 990 {
            50
        } else {
            200
        };
        let kernel = Some(due + Duration::from_millis(latency_ms) / 2);
        tally.record(event, due, Received { read: due + Duration::from_millis(latency_ms), kernel });
    }
    let read = Percentiles::of(&tally.read());
    assert_eq!(read.count, 100_000);
    for (found, expected_ms) in
        [(read.p50, 1.0), (read.p90, 1.0), (read.p99, 50.0), (read.p999, 200.0), (read.max, 200.0)]
    {
        near(found, expected_ms * MS);
    }
    near(read.mean, (0.9 + 0.09 * 50.0 + 0.01 * 200.0) * MS);
    let kernel = Percentiles::of(&tally.kernel);
    near(kernel.p99, 25.0 * MS);
    near(kernel.p999, 100.0 * MS);
    let events = tally.per_event();
    near(Percentiles::of(&events.first).p50, MS);
    near(Percentiles::of(&events.median).p50, MS);
    near(Percentiles::of(&events.last).p50, 200.0 * MS);
    // The file and the curve say the same, as far as their steps are apart.
    let rows = parse_hgrm(&hgrm(&tally.read()));
    for (share, expected_ms) in [(0.5, 1.0), (0.85, 1.0), (0.95, 50.0), (0.98, 50.0), (0.995, 200.0), (1.0, 200.0)] {
        near(at(&rows, share), expected_ms * MS);
        let point = curve(&tally.read()).into_iter().find(|point| share <= point.quantile).expect("it ends at 1");
        near(point.latency_us, expected_ms * MS);
    }
    let count_up_to = |limit_us: f64| rows.iter().rfind(|row| row.0 <= limit_us).expect("there are some").2;
    assert_eq!([2.0 * MS, 60.0 * MS, 300.0 * MS].map(count_up_to), [90_000, 99_000, 100_000]);
}

/// What a server sends when an event of this number comes: the numbers of events.
type Deal = fn(sequence: u32) -> Vec<u32>;

/// What a server does with an event: what it sends when one comes, by number, and how long each subscriber waits for it.
#[derive(Clone, Copy)]
struct Manners {
    deal: Deal,
    delay_ms: fn(subscriber: usize) -> u64,
}

const FAULTLESS: Manners = Manners { deal: |sequence| vec![sequence], delay_ms: |_| 0 };

/// What there was to send and to whom.
#[derive(Default)]
struct Hall {
    /// To each subscriber's own thread: when to write, and what.
    subscribers: Vec<mpsc::Sender<(Instant, Vec<u8>)>>,
    /// By number.
    frames: Vec<(u32, Vec<u8>)>,
}

/// Measures a server with those manners at 50 events a second, for a second.
fn bench(manners: Manners, subscribers: &str) -> Report {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    thread::spawn(move || {
        let hall: Arc<Mutex<Hall>> = Arc::default();
        for socket in listener.incoming().flatten() {
            let hall = Arc::clone(&hall);
            thread::spawn(move || handle_event(socket, &hall, manners));
        }
    });
    let arguments = ["--url", &url, "--transport", "sse", "--subscribers", subscribers, "--rate", "50"];
    let plan = plan(&[&arguments[..], &["--duration", "1s", "--warmup", "200ms"]].concat()).expect("a plan");
    Report::new(&plan, &conduct(&plan, &Watch::silent()).expect("the server answers"))
}

fn handle_event(mut socket: TcpStream, hall: &Mutex<Hall>, manners: Manners) {
    let (mut buffer, mut pending) = ([0; 16 * 1024], Vec::new());
    while let Ok(count @ 1..) = socket.read(&mut buffer) {
        pending.extend_from_slice(&buffer[..count]);
        if pending.starts_with(b"GET ") {
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n").expect("the client reads");
            let (sender, frames) = mpsc::channel();
            hall.lock().expect("no panic").subscribers.push(sender);
            return write_on_time(socket, &frames);
        }
        // Each request ends with its payload, and each payload with this.
        while let Some(end) = memchr::memmem::find(&pending, b"x\"}") {
            let request: Vec<u8> = pending.drain(..end + 3).collect();
            let start = memchr::memmem::find(&request, b"\r\n\r\n").expect("a head") + 4;
            hall.lock().expect("no panic").broadcast(&request[start..], manners);
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("the client reads");
        }
    }
}

/// All frames of one subscriber wait equally long, so they keep their order.
fn write_on_time(mut socket: TcpStream, frames: &mpsc::Receiver<(Instant, Vec<u8>)>) {
    while let Ok((due, frame)) = frames.recv() {
        while Instant::now() < due {
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
        }
        if socket.write_all(&frame).is_err() {
            return;
        }
    }
}

impl Hall {
    fn broadcast(&mut self, payload: &[u8], manners: Manners) {
        let (Stamp { sequence, .. }, _) = Stamp::find(payload).expect("the bench publishes stamps");
        self.frames.push((sequence, [b"data: ", payload, b"\n\n"].concat()));
        let dealt = if sequence == PROBE { vec![PROBE] } else { (manners.deal)(sequence) };
        for (place, subscriber) in self.subscribers.iter().enumerate() {
            let due = Instant::now() + Duration::from_millis((manners.delay_ms)(place));
            for number in &dealt {
                let (_, frame) = self.frames.iter().rfind(|(other, _)| other == number).expect("it came before");
                // One that has gone is no fault.
                let _ = subscriber.send((due, frame.clone()));
            }
        }
    }
}

#[test]
fn a_server_that_takes_100_ms_is_told_to() {
    let report = bench(Manners { delay_ms: |_| 100, ..FAULTLESS }, "5");
    let topic = &report.topics[0];
    assert_eq!((topic.deliveries, topic.faults), (50 * 5, Faults::default()));
    // The bucket of 100 ms reaches down to 99.9; upwards a busy machine may add its part, but hardly to every second one.
    assert!(99.9 * MS <= topic.read.min && 99.9 * MS <= topic.event_first.min, "{topic:?}");
    assert!(topic.read.p50 < 150.0 * MS, "{topic:?}");
    assert!(99.9 * MS <= topic.kernel.min && topic.kernel.p50 <= topic.read.p50, "{topic:?}");
}

#[test]
fn a_known_mixture_comes_out() {
    // Of a hundred subscribers one hears everything after 200 ms, nine after 50, and all others at once.
    let delay_ms = |place: usize| match place {
        0 => 200,
        1..10 => 50,
        _ => 0,
    };
    let report = bench(Manners { delay_ms, ..FAULTLESS }, "100");
    let topic = &report.topics[0];
    assert_eq!((topic.deliveries, topic.faults), (50 * 100, Faults::default()));
    assert!(topic.read.p50 < 49.9 * MS, "{topic:?}");
    assert!((49.9 * MS..199.0 * MS).contains(&topic.read.p99), "{topic:?}");
    assert!((199.8 * MS..400.0 * MS).contains(&topic.read.p999), "{topic:?}");
    let rows = parse_hgrm(&report.hgrm());
    assert_eq!(rows.last().map(|row| row.2), Some(topic.deliveries));
    assert!((49.9 * MS..199.0 * MS).contains(&at(&rows, 0.95)), "{}", report.hgrm());
    assert!(199.8 * MS <= at(&rows, 0.995), "{}", report.hgrm());
    // Each event's last subscriber is the one that waits longest.
    assert!(199.8 * MS <= topic.event_last.min && topic.event_first.p50 < 49.9 * MS, "{topic:?}");
}

#[test]
fn what_is_swapped_repeated_or_lost_is_told_exactly() {
    let none = Faults::default();
    let swapped = |it: u32| match it {
        30 => vec![],
        31 => vec![31, 30],
        _ => vec![it],
    };
    let all = |it: u32| match it {
        20 | 40 => vec![],
        30 => vec![30, 29],
        41 => vec![41, 40],
        _ => vec![it],
    };
    let cases: [(Deal, Faults); 6] = [
        (|it| vec![it], none),
        (swapped, Faults { reordered: 5, ..none }),
        (|it| if it == 30 { vec![30, 30] } else { vec![it] }, Faults { repeated: 5, ..none }),
        (|it| if it == 30 { vec![] } else { vec![it] }, Faults { lost: 5, ..none }),
        // The same at the end, where no later event tells of it.
        (|it| if it == 59 { vec![] } else { vec![it] }, Faults { lost: 5, ..none }),
        (all, Faults { lost: 5, repeated: 5, reordered: 5, foreign: 0 }),
    ];
    let check = |(deal, expected): (Deal, Faults)| {
        let report = bench(Manners { deal, ..FAULTLESS }, "5");
        assert_eq!(report.topics[0].faults, expected);
        assert_eq!(report.is_complete(), expected == Faults::default());
    };
    // Each waits for its clock most of the time.
    thread::scope(|scope| cases.into_iter().for_each(|case| drop(scope.spawn(move || check(case)))));
}
