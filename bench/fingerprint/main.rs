//! What fingerprints cost the thread that reads Redis Pub/Sub: nanoseconds an event, for several sizes of payload.
//!
//! ```text
//! cargo run --release -p fanfare-core --example fingerprint
//! ```
//!
//! A round digests payloads that lie one behind the other in 256 KiB, as in the reader's buffer, and takes each into the sequence of its
//! topic. CPU time is counted (Linux). The median of the rounds is shown, and what a search for another hub's event takes in a log of so many events.

use std::{fs, hint::black_box, sync::Arc};

use bytes::Bytes;
use fanfare_core::{
    clock::Moment,
    event::{Event, EventId},
    fingerprint::{Mark, Sequence, digest},
    log::Ring,
    topic::Topic,
};

const PAYLOAD_BYTES: [usize; 5] = [16, 200, 1024, 16 * 1024, 256 * 1024];
const BUFFER_BYTES: usize = 256 * 1024;
/// What is digested in one round, at least.
const ROUND_BYTES: usize = 64 << 20;
const LOGS: [u64; 3] = [100, 16_384, 1_000_000];
/// In one round.
const SEARCHES: u32 = 2000;
const ROUNDS: usize = 9;

fn main() {
    let topic = Topic::parse("orders.eu").expect("a good name");
    let begin = Mark::begin(1);
    let mark = begin.next(b"server", b"nonce");
    println!("payload B | ns an event");
    for payload_bytes in PAYLOAD_BYTES {
        let buffer: Vec<u8> = (0..BUFFER_BYTES).map(|at| (at * 31) as u8).collect();
        let count = buffer.len() / payload_bytes;
        let rounds = ROUND_BYTES.div_ceil(buffer.len());
        let mut sequence = Sequence::Since(begin);
        let median = median(|| {
            for _ in 0..rounds {
                for payload in black_box(&buffer[..]).chunks_exact(payload_bytes) {
                    black_box(sequence.take(mark, &topic, digest(payload)));
                }
            }
        });
        println!("{payload_bytes} | {:.1}", median / (rounds * count) as f64);
    }
    println!("events in the log | µs a search");
    for length in LOGS {
        let mut ring = Ring::new(1, EventId::new(1, 0));
        let mut sequence = Sequence::Since(begin);
        for position in 1..=length {
            let id = EventId::new(1, position).with_fingerprint(sequence.take(mark, &topic, position));
            ring.push(Arc::new(Event::new(topic.clone(), id, position, None, Bytes::new(), Moment(0))));
        }
        let newest = ring.newest_id().fingerprint;
        let foreign = EventId::new(2, 1).with_fingerprint(newest);
        let search = || assert_eq!(black_box(&ring).position_behind_foreign(black_box(foreign)), Some(length + 1));
        let median = median(|| (0..SEARCHES).for_each(|_| search()));
        println!("{length} | {:.2}", median / f64::from(SEARCHES) / 1000.0);
    }
}

/// The median of some rounds, in nanoseconds.
fn median(mut round: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let began = cpu_ns();
            round();
            cpu_ns() - began
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

/// What this thread has had of a processor, in nanoseconds.
fn cpu_ns() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel counts it");
    stat.split(' ').next().and_then(|field| field.parse().ok()).expect("a number")
}
