//! Two parsers of RESP on the same bytes: the hub's (`protocol::resp`), which borrows from the buffer, and the `redis` crate's,
//! which copies each value out of it. Says why the Pub/Sub reader has a parser of its own.
//!
//! ```text
//! cargo run --release --example resp
//! ```
//!
//! One row for each size of payload: nanoseconds and heap allocations for each message, as RESP3 pushes `message`, read from a
//! buffer of about 256 KiB as the reader has it. The crate has two parsers: one for readers, which goes from value to value, and one
//! for a slice with a single value, which here is told where each message ends. The last two columns are for a message of which
//! 16 KiB arrive at a time and which is parsed anew each time. The median of the rounds is shown.

use std::{hint::black_box, io::Cursor, time::Instant};

use fanfare_core::protocol::resp::{self, Push, RespLimits};
use redis::{Parser, Value, parse_redis_value};

const PAYLOAD_BYTES: [usize; 5] = [16, 128, 1024, 16 * 1024, 1024 * 1024];
/// What the reader's buffer holds.
const BUFFER_BYTES: usize = 256 * 1024;
/// What one read brings of a message that is larger.
const READ_BYTES: usize = 16 * 1024;
/// What is parsed in one round, at least.
const ROUND_BYTES: usize = 64 << 20;
const ROUNDS: usize = 9;

fn main() {
    println!(
        "payload B | hub ns | crate, reader ns | crate, slice ns | hub allocations | crate allocations | in parts: hub ns | crate ns"
    );
    for payload_bytes in PAYLOAD_BYTES {
        let message = message(payload_bytes);
        let count = (BUFFER_BYTES / message.len()).max(1);
        let buffer = message.repeat(count);
        let rounds = (ROUND_BYTES / buffer.len()).max(1);
        let [own, reader, slice] = measure(
            [
                &|| (0..rounds).for_each(|_| assert_eq!(parse_own(black_box(&buffer)), count)),
                &|| (0..rounds).for_each(|_| assert_eq!(parse_from_reader(black_box(&buffer)), count)),
                &|| (0..rounds).for_each(|_| assert_eq!(parse_slices(black_box(&buffer), message.len()), count)),
            ],
            rounds * count,
        );
        let of_own = allocations(&|| assert_eq!(parse_own(&buffer), count)) / count as f64;
        let of_crate = allocations(&|| assert_eq!(parse_slices(&buffer, message.len()), count)) / count as f64;
        let parts = if READ_BYTES < message.len() { in_parts(&message) } else { "- | -".to_owned() };
        println!("{payload_bytes} | {own:.0} | {reader:.0} | {slice:.0} | {of_own:.2} | {of_crate:.2} | {parts}");
    }
}

fn in_parts(message: &[u8]) -> String {
    let rounds = (ROUND_BYTES / message.len() / 16).max(1);
    let [own, slice] = measure(
        [&|| (0..rounds).for_each(|_| assert_eq!(grow_own(black_box(message)), 1)), &|| {
            (0..rounds).for_each(|_| assert_eq!(grow_slice(black_box(message)), 1))
        }],
        rounds,
    );
    format!("{own:.0} | {slice:.0}")
}

/// Nanoseconds for one message. The parsers take turns, so that a slow moment of the machine concerns all.
fn measure<const N: usize>(parsers: [&dyn Fn(); N], messages: usize) -> [f64; N] {
    let mut rounds = [const { Vec::new() }; N];
    for _ in 0..ROUNDS {
        for (times, parser) in rounds.iter_mut().zip(parsers) {
            let began = Instant::now();
            parser();
            times.push(began.elapsed().as_secs_f64() * 1e9 / messages as f64);
        }
    }
    rounds.map(median)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn allocations(run: &dyn Fn()) -> f64 {
    allocation_counter::measure(run).count_total as f64
}

/// A push with a payload of so many bytes.
fn message(payload_bytes: usize) -> Vec<u8> {
    let payload = "x".repeat(payload_bytes);
    format!(">3\r\n$7\r\nmessage\r\n$13\r\norders.berlin\r\n${payload_bytes}\r\n{payload}\r\n").into_bytes()
}

/// How many messages `buffer` has.
fn parse_own(buffer: &[u8]) -> usize {
    let (limits, mut rest, mut count) = (RespLimits::default(), buffer, 0);
    while let Ok(Some((push, consumed))) = resp::parse_push(rest, &limits) {
        if let Push::Message { channel, payload } = push {
            count += 1;
            black_box((channel, payload));
        }
        rest = &rest[consumed..];
    }
    count
}

/// The same by the crate's parser for readers.
fn parse_from_reader(buffer: &[u8]) -> usize {
    let (mut parser, mut reader, mut count) = (Parser::new(), Cursor::new(buffer), 0);
    while let Ok(value) = parser.parse_value(&mut reader) {
        if let Value::Push { data, .. } = &value {
            count += 1;
            black_box(data);
        }
    }
    count
}

/// The same by the crate's parser for slices, which does not say how long a value is.
fn parse_slices(buffer: &[u8], message_bytes: usize) -> usize {
    buffer.chunks(message_bytes).filter(|message| black_box(parse_redis_value(message)).is_ok()).count()
}

/// Asks again each time that some more of one message has come.
fn grow_own(message: &[u8]) -> usize {
    let ends = (READ_BYTES..message.len()).step_by(READ_BYTES).chain([message.len()]);
    let limits = RespLimits::default();
    ends.filter(|end| matches!(resp::parse_push(&message[..*end], &limits), Ok(Some(_)))).count()
}

/// The crate's parser for readers would not begin anew, but wait for the rest: the thread reads from other places too.
fn grow_slice(message: &[u8]) -> usize {
    let ends = (READ_BYTES..message.len()).step_by(READ_BYTES).chain([message.len()]);
    ends.filter(|end| parse_redis_value(&message[..*end]).is_ok()).count()
}
