//! Measuring one row.
//!
//! The processor time of a thread is noisy on a virtual machine: what other machines take of the processor, or of its caches, is
//! counted as the thread's. So the least time of several runs counts, and growth that looks like too much is measured again, both
//! sizes in turn, so that noise that lasts meets both. A growth that stays too large is a fault.

use std::{fs, hint::black_box, thread};

/// How much longer four times the input may take. In proportion would be four times, and caches make six of it at worst;
/// quadratic work takes sixteen times as long.
const GROWTH_MAX: u64 = 8;
/// The input of a run that takes less time is doubled: such a run is too short to be timed well. Not beyond so many bytes, where
/// new pages of memory begin to cost more than the work.
const RUN_NS_MIN: u64 = 500_000;
const DOUBLED_BYTES_MAX: usize = 128 * 1024;
/// Time that four times the input may take whatever the growth. What reads it so fast goes through it a fixed number of times, or
/// refuses it at once.
const WORK_SPARED_NS: u64 = 2_000_000;
/// Runs of the input in each round; of four times the input, which noise is less likely to miss altogether, there is one.
const RUNS_OF_ONCE: u32 = 3;
/// A growth counts as too large after so many rounds, and so much time measured.
const ROUNDS_MIN: u32 = 5;
const ROUNDS_NS_MIN: u64 = 300_000_000;
/// How much more heap four times the input may allocate: twice as much as in proportion, for buffers that grow by doubling. And
/// twice the input itself, for a buffer that only the larger one needs.
const ALLOCATED_GROWTH_MAX: u64 = 8;
/// Heap that any run may use, whatever its input.
const BYTES_SPARED: u64 = 64 * 1024;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    Once,
    FourTimes,
}

/// The least time of all runs so far, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Work {
    once_ns: u64,
    four_times_ns: u64,
}

impl Work {
    /// Takes samples of both sizes' time, in nanoseconds, until the growth is small enough or stays too large.
    fn measure(mut sample: impl FnMut(Size) -> u64) -> Self {
        let mut work = Self { once_ns: u64::MAX, four_times_ns: u64::MAX };
        let (mut rounds, mut measured_ns) = (0, 0);
        while work.is_too_much() && (rounds < ROUNDS_MIN || measured_ns < ROUNDS_NS_MIN) || rounds == 0 {
            for _ in 0..RUNS_OF_ONCE {
                let ns = sample(Size::Once);
                work.once_ns = work.once_ns.min(ns);
                measured_ns += ns;
            }
            let ns = sample(Size::FourTimes);
            work.four_times_ns = work.four_times_ns.min(ns);
            measured_ns += ns;
            rounds += 1;
        }
        work
    }

    fn is_too_much(&self) -> bool {
        WORK_SPARED_NS < self.four_times_ns && GROWTH_MAX.saturating_mul(self.once_ns) < self.four_times_ns
    }
}

/// Checks that `run` over the input of about so many bytes that `make` makes costs in proportion, and that it holds at most
/// `held_per_byte` times its input at once. The input may be made larger than `bytes`, never smaller.
#[track_caller]
pub(super) fn check<I>(name: &str, bytes: usize, held_per_byte: u64, make: impl Fn(usize) -> I, run: impl Fn(&I)) {
    let (mut bytes, mut once) = (bytes, make(bytes));
    while bytes < DOUBLED_BYTES_MAX && work_ns(|| run(&once)).min(work_ns(|| run(&once))) < RUN_NS_MIN {
        bytes *= 2;
        once = make(bytes);
    }
    let four_times = make(4 * bytes);
    let heap = |input: &I| allocation_counter::measure(|| run(input));
    let (allocated, heap) = (heap(&once).bytes_total, heap(&four_times));
    let told = format!(
        "{name}: {bytes} bytes and four times as many: allocated {allocated} and {} bytes, held at once by the latter {}",
        heap.bytes_total, heap.bytes_max
    );
    let input_bytes = 4 * bytes as u64;
    let allocated_max = ALLOCATED_GROWTH_MAX * allocated + 2 * input_bytes + BYTES_SPARED;
    assert!(heap.bytes_total <= allocated_max, "allocated: {told}");
    assert!(heap.bytes_max <= held_per_byte * input_bytes + BYTES_SPARED, "held at once: {told}");
    let work = Work::measure(|size| work_ns(|| run(if size == Size::Once { &once } else { &four_times })));
    let told = format!("{told}, {work:?}");
    assert!(!work.is_too_much(), "work: {told}");
    if std::env::var_os("FANFARE_COSTS").is_some() {
        eprintln!("{told}");
    }
}

fn work_ns(run: impl FnOnce()) -> u64 {
    let before = thread_work_ns();
    run();
    thread_work_ns() - before
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
    let rereads = |text: &String| {
        let read = |end: usize| text.as_bytes()[..end].iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
        (0..text.len()).step_by(16).for_each(|end| _ = black_box(read(end)));
    };
    let outcome = std::panic::catch_unwind(|| check("rereads", 256, 2, |bytes| "x".repeat(bytes), rereads));
    let why = outcome.expect_err("it reads half the text for each sixteen bytes of it");
    assert!(why.downcast_ref::<String>().expect("a message").starts_with("work: rereads"));
    let doubles = |text: &String| drop(black_box(vec![0u8; text.len() * text.len()]));
    let outcome = std::panic::catch_unwind(|| check("squares", 256, 1 << 20, |bytes| "x".repeat(bytes), doubles));
    let why = outcome.expect_err("it allocates the square of its input");
    assert!(why.downcast_ref::<String>().expect("a message").starts_with("allocated: squares"));
}

/// What is made of the times of a run of 0.6 ms, whose growth is known, under noise.
#[test]
fn noise_is_told_from_growth() {
    const ONCE_NS: u64 = 600_000;
    let check = |name: &str, growth: u64, noise: &dyn Fn(u32, Size) -> u64, expected: bool| {
        let mut samples = 0;
        let work = Work::measure(|size| {
            samples += 1;
            noise(samples, size) * if size == Size::Once { ONCE_NS } else { growth * ONCE_NS }
        });
        assert_eq!(work.is_too_much(), expected, "{name}, {growth} times: {work:?} after {samples} samples");
        samples
    };
    let every_third = |sample: u32, _: Size| 1 + 3 * u64::from(sample.is_multiple_of(3));
    assert_eq!(check("quiet", 4, &|_, _| 1, false), RUNS_OF_ONCE + 1, "one round is enough");
    check("quiet", 7, &|_, _| 1, false);
    check("quiet", 16, &|_, _| 1, true);
    for (growth, expected) in [(4, false), (5, false), (16, true)] {
        check("every third sample", growth, &every_third, expected);
        check("a burst that ends", growth, &|sample, _| 1 + 3 * u64::from(sample < 60), expected);
        check(
            "the first samples of the large",
            growth,
            &|sample, size| if size == Size::FourTimes && sample < 40 { 5 } else { 1 },
            expected,
        );
        check("all the time", growth, &|_, _| 3, expected);
    }
    // The first round may be taken in by noise that only the input meets; never by one sample of it.
    check("one sample of the small", 16, &|sample, _| if sample == 1 { 9 } else { 1 }, true);
}
