//! Measuring one row.

use std::{fs, hint::black_box, thread};

/// Runs of which the cheapest counts.
const RUNS: usize = 3;
/// How much more four times the input may take: twice as much as in proportion, for caches, buffers that grow by doubling and
/// other threads. Quadratic work takes sixteen times as much.
const GROWTH_MAX: u64 = 8;
/// Costs below which nothing is judged: the clock is not that exact, and a fixed part weighs too much.
const WORK_SPARED_NS: u64 = 400_000;
/// Heap that any run may use, whatever its input.
const BYTES_SPARED: u64 = 64 * 1024;

/// What a run costs.
#[derive(Clone, Copy, Debug)]
struct Cost {
    work_ns: u64,
    /// Over the whole run.
    allocated_bytes: u64,
    /// At once.
    held_bytes: u64,
}

/// Checks that `run` over the input of so many bytes that `make` makes costs in proportion, and that it holds at most
/// `held_per_byte` times its input at once.
#[track_caller]
pub(super) fn check<I>(name: &str, bytes: usize, held_per_byte: u64, make: impl Fn(usize) -> I, run: impl Fn(&I)) {
    let cost = |bytes: usize| {
        let input = make(bytes);
        measure(|| run(&input))
    };
    let (once, four_times) = (cost(bytes), cost(4 * bytes));
    let told = format!("{name}: {bytes} bytes cost {once:?}, four times as many {four_times:?}");
    assert!(four_times.work_ns <= WORK_SPARED_NS || four_times.work_ns <= GROWTH_MAX * once.work_ns, "work: {told}");
    assert!(four_times.allocated_bytes <= GROWTH_MAX * once.allocated_bytes + BYTES_SPARED, "allocated: {told}");
    assert!(four_times.held_bytes <= held_per_byte * 4 * bytes as u64 + BYTES_SPARED, "held at once: {told}");
    if std::env::var_os("FANFARE_COSTS").is_some() {
        eprintln!("{told}");
    }
}

fn measure(run: impl Fn()) -> Cost {
    let mut work_ns = u64::MAX;
    for _ in 0..RUNS {
        let before = thread_work_ns();
        run();
        work_ns = work_ns.min(thread_work_ns() - before);
    }
    let counted = allocation_counter::measure(&run);
    Cost { work_ns, allocated_bytes: counted.bytes_total, held_bytes: counted.bytes_max }
}

/// The processor time of this thread so far (proc(5), `schedstat`). Giving way brings the kernel's account up to date.
fn thread_work_ns() -> u64 {
    thread::yield_now();
    let text = fs::read_to_string("/proc/thread-self/schedstat").expect("Linux accounts for threads");
    text.split(' ').next().and_then(|number| number.parse().ok()).expect("the first number is the time in ns")
}

/// The measure itself finds what it is for.
#[test]
fn quadratic_work_is_found() {
    let copies = |text: &String| {
        let mut out = String::with_capacity(text.len());
        for at in 0..text.len() / 8 {
            out.truncate(0);
            out.push_str(&text[..8 * at]);
            black_box(&out);
        }
    };
    let outcome = std::panic::catch_unwind(|| check("copies", 16 * 1024, 2, |bytes| "x".repeat(bytes), copies));
    let why = outcome.expect_err("it copies half the text for each eight bytes of it");
    assert!(why.downcast_ref::<String>().expect("a message").starts_with("work: copies"));
    let doubles = |text: &String| drop(black_box(vec![0u8; text.len() * text.len()]));
    let outcome = std::panic::catch_unwind(|| check("squares", 256, 1 << 20, |bytes| "x".repeat(bytes), doubles));
    let why = outcome.expect_err("it allocates the square of its input");
    assert!(why.downcast_ref::<String>().expect("a message").starts_with("allocated: squares"));
}
