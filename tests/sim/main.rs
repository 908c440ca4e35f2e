//! A seeded simulation of whole reactors: a network of queues with short writes, resets and slow readers, a clock that
//! jumps, and clients that know what they are owed. One seed decides everything; a failure prints its seed, and
//! `FANFARE_SIM_SEED=<seed> cargo test --test sim` plays it again. `FANFARE_SIM_SEEDS=<count>` runs more of them,
//! `FANFARE_SIM_FROM=<seed>` others than the first.

mod actions;
mod broken;
mod broker;
mod client;
mod forms;
mod net;
mod plan;
mod replays;
mod scenarios;
mod socket;
mod source;
mod track;
mod truth;
mod world;

use std::ops::Range;

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use broken::Fault;
use plan::{Plan, SocketDialect};
use world::World;

/// Seeds per test; there are [`TESTS`] of them, so that they share the cores.
const SEEDS: u64 = 375;
const TESTS: u64 = 4;
/// The most actions a seed takes.
const STEPS_MAX: u32 = 300;

#[test]
fn seeds_of_the_first_quarter() {
    run_share(0);
}

#[test]
fn seeds_of_the_second_quarter() {
    run_share(1);
}

#[test]
fn seeds_of_the_third_quarter() {
    run_share(2);
}

#[test]
fn seeds_of_the_last_quarter() {
    run_share(3);
}

fn run_share(share: u64) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("FANFARE_SIM_SEED") {
        return if share == 0 {
            run_seed(seed, None)
        };
    }
    let count = number("FANFARE_SIM_SEEDS").map_or(SEEDS, |all| all.div_ceil(TESTS));
    let from = number("FANFARE_SIM_FROM").unwrap_or(0) + share * count;
    let seeds: Range<u64> = from..from + count;
    seeds.for_each(|seed| run_seed(seed, None));
}

/// Says where a seed failed.
struct Place {
    seed: u64,
    step: u32,
    plan: Plan,
}

impl Drop for Place {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}, step {}, {:?}", self.seed, self.step, self.plan);
            eprintln!("again: FANFARE_SIM_SEED={} cargo test --test sim", self.seed);
        }
    }
}

fn run_seed(seed: u64, fault: Option<Fault>) {
    let mut random = SmallRng::seed_from_u64(seed);
    let plan = Plan { fault, dialect: SocketDialect::of(seed), ..Plan::choose(&mut random) };
    let mut place = Place { seed, step: 0, plan: plan.clone() };
    let mut world = World::new(plan, random.random());
    for step in 0..random.random_range(20..STEPS_MAX) {
        place.step = step;
        world.act();
        for _ in 0..random.random_range(0..4) {
            world.turn_any();
        }
    }
    world.settle();
    world.check_complete();
    world.drain();
}
