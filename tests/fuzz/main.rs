//! The smoke run of the fuzz targets: each over its seeds, over what they are mutated into, and over what was once found.
//!
//! The same targets run under libFuzzer, for as long as one likes, by `scripts/fuzz TARGET [SECONDS]`. Both forms call the
//! functions in `targets/`; this one needs nothing but `cargo test --test fuzz`. A failure leaves its input in a file and
//! prints the command that plays it again. `FANFARE_FUZZ_ROUNDS=<count>` runs more mutations, `FANFARE_FUZZ_SEED=<number>`
//! others, `FANFARE_FUZZ_ALLOCATIONS=1` prints what each input allocates.

mod mutation;
mod targets;

use std::{env, fs, path::Path};

use mutation::Mutator;
use targets::Target;

/// Mutations of each target in a test run: a few seconds each without optimisation.
const ROUNDS: u64 = 4000;

#[test]
fn http_head() {
    run("http_head");
}

#[test]
fn chunked_body() {
    run("chunked_body");
}

#[test]
fn websocket_server() {
    run("websocket_server");
}

#[test]
fn websocket_client() {
    run("websocket_client");
}

#[test]
fn last_event_id() {
    run("last_event_id");
}

#[test]
fn resp() {
    run("resp");
}

#[test]
fn nats() {
    run("nats");
}

#[test]
fn engine_io() {
    run("engine_io");
}

#[test]
fn socket_io() {
    run("socket_io");
}

#[test]
fn publish_body() {
    run("publish_body");
}

#[test]
fn operations() {
    run("operations");
}

#[test]
fn every_target_has_a_test_and_seeds() {
    let here = include_str!("main.rs");
    for target in targets::TARGETS {
        assert!(here.contains(&format!("\nfn {}()", target.name)), "{} has no test", target.name);
        assert!(!seeds(target.name).is_empty(), "{} has no seeds", target.name);
    }
}

/// As many rounds as a test run has lead to inputs that no seed holds.
#[test]
fn a_planted_fault_is_found() {
    let holds = |input: &[u8], text: &[u8]| input.windows(text.len()).any(|window| window == text);
    let is_fault = |input: &[u8]| holds(input, b"HEAD ") && holds(input, b"chunked");
    let seeds = seeds("http_head");
    assert!(!seeds.iter().any(|seed| is_fault(seed)));
    let mut mutator = Mutator::new(1, targets::find("http_head").tokens);
    assert!((0..ROUNDS).any(|_| is_fault(&mutator.mutate(&seeds))));
}

/// Memory taken on the word of an input, or anew for each byte of it, is found by what a seed of no great length allocates.
#[test]
fn a_planted_allocation_is_found() {
    let claimed: fn(&[u8]) =
        |input| drop(Vec::<u8>::with_capacity(input.iter().map(|byte| usize::from(*byte) << 12).sum()));
    let anew: fn(&[u8]) = |input| (0..input.len()).for_each(|end| drop(input[..end].to_vec()));
    let once: fn(&[u8]) = |input| drop([input, input].concat());
    let run = |check: fn(&[u8]), input: &[u8]| {
        let target = Target { check, ..*targets::find("nats") };
        std::panic::catch_unwind(|| target.run(input)).map_err(|why| why.downcast_ref::<String>().cloned())
    };
    let input = [b'x'; 200];
    for planted in [claimed, anew] {
        let why = run(planted, &input).expect_err("it allocates too much").expect("a message");
        assert!(why.starts_with("200 bytes allocate "), "{why}");
    }
    assert_eq!(run(once, &input), Ok(()));
}

fn run(name: &str) {
    let target = targets::find(name);
    if let Ok(path) = env::var("FANFARE_FUZZ_INPUT") {
        return target.run(&fs::read(path).expect("FANFARE_FUZZ_INPUT names a file"));
    }
    let seeds = seeds(name);
    seeds.iter().for_each(|seed| check(target, seed));
    let mut mutator = Mutator::new(number("FANFARE_FUZZ_SEED").unwrap_or(1), target.tokens);
    for _ in 0..number("FANFARE_FUZZ_ROUNDS").unwrap_or(ROUNDS) {
        check(target, &mutator.mutate(&seeds));
    }
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

/// The committed inputs of a target, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder can be read").path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).expect("a seed can be read")).collect()
}

fn check(target: &Target, input: &[u8]) {
    let _trace = Trace { target: target.name, input };
    target.run(input);
}

/// Leaves the input behind if the check of it panics.
struct Trace<'a> {
    target: &'static str,
    input: &'a [u8],
}

impl Drop for Trace<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", self.target));
        match fs::write(&path, self.input) {
            Ok(()) => {
                eprintln!("again: FANFARE_FUZZ_INPUT={} cargo test --test fuzz {}", path.display(), self.target);
            }
            Err(error) => eprintln!("{}: {error}; the input: {}", path.display(), self.input.escape_ascii()),
        }
    }
}
