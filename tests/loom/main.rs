//! The bus under every order of its threads: no event is lost or taken twice, and nobody sleeps while events wait.
//!
//! loom runs a model once for each order in which its threads may meet at the locks, the notifier's word and the queues,
//! with the stale values that the memory model allows. A lost wake-up is a deadlock, which it reports. The models run the
//! files of `src/hub/bus` as they are; the reactor's side follows `src/hub/reactor` (see `reactor.rs`), and the queues stand for
//! crossbeam's (see `sync.rs`). What each test claims is then shown to be missed when it is left out.

#[allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::needless_pass_by_ref_mut,
    reason = "the files of src/bus are used in parts, and checked where they are whole"
)]
mod bus;
mod reactor;

use std::sync::Arc;

use bytes::Bytes;
// What the files of `src/hub/bus` find in their crate.
use fanfare_core::{budget, clock, event, fingerprint, gap, json, log, share, topic};
use loom::thread;

use bus::{
    Bus, Config, Inbox, Notifier,
    sync::{self, Part},
};
use clock::Moment;
use reactor::{Fault, Poll, Reactor};
use topic::Topic;

/// How often a model may switch from a thread that could go on. Three suffice for all known faults of this kind, and
/// keep each model within seconds.
const PREEMPTIONS_MAX: usize = 3;

/// What differs between models.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Events that an inbox holds.
    inbox_events_max: usize,
    /// For each publisher, the events of each of its batches.
    publishers: &'static [&'static [u64]],
    /// The reactor attaches while they publish, rather than before.
    attaches_late: bool,
    fault: Fault,
}

const PLAN: Plan = Plan { inbox_events_max: 4, publishers: &[&[1, 1]], attaches_late: false, fault: Fault::None };

#[test]
fn a_sleeper_is_woken() {
    explore(PLAN);
}

#[test]
fn a_full_inbox_loses_nothing() {
    explore(Plan { inbox_events_max: 1, publishers: &[&[3]], ..PLAN });
}

#[test]
fn a_full_inbox_loses_nothing_between_batches() {
    explore(Plan { inbox_events_max: 1, publishers: &[&[2, 1]], ..PLAN });
}

#[test]
fn two_publishers_fill_one_inbox() {
    explore(Plan { inbox_events_max: 1, publishers: &[&[1], &[2]], ..PLAN });
}

#[test]
fn replay_joins_on_to_mail() {
    explore(Plan { publishers: &[&[1, 1]], attaches_late: true, ..PLAN });
}

#[test]
fn replay_joins_on_to_mail_that_does_not_fit() {
    explore(Plan { inbox_events_max: 1, publishers: &[&[3]], attaches_late: true, ..PLAN });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_is_lost() {
    sync::leave_out(Part::Fences);
    explore(PLAN);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_a_second_look_a_wake_is_lost() {
    explore(Plan { fault: Fault::NoSecondLook, ..PLAN });
}

#[test]
#[should_panic(expected = "an event lost, or taken twice")]
fn a_resync_brings_what_is_in_the_mail() {
    explore(Plan { inbox_events_max: 3, publishers: &[&[5]], fault: Fault::TakesTwice, ..PLAN });
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_resync_events_are_lost() {
    sync::leave_out(Part::Refusals);
    explore(Plan { inbox_events_max: 1, publishers: &[&[2]], ..PLAN });
}

/// A topic that nobody uses is taken out of the table while it comes into use again.
#[test]
fn a_sweep_takes_no_topic_from_its_users() {
    check(|| {
        let topic = topic();
        let (bus, reactor) = build(PLAN);
        publish(&bus, &topic, Moment(0), 1);
        let (sweeper, publisher) = (Arc::clone(&bus), Arc::clone(&bus));
        thread::spawn(move || sweeper.sweep(LATER));
        let published_to = topic.clone();
        thread::spawn(move || publish(&publisher, &published_to, LATER, 1));
        reactor.run(&topic, 2);
    });
}

/// Older than anything a topic retains.
const LATER: Moment = Moment(u64::MAX);

fn explore(plan: Plan) {
    check(move || run(plan));
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS_MAX);
    builder.check(model);
}

/// One reactor, on the model's first thread, and the publishers on others.
fn run(plan: Plan) {
    let topic = topic();
    let (bus, reactor) = build(plan);
    let snapshot = (!plan.attaches_late).then(|| bus.attach(&topic, 0));
    for batches in plan.publishers {
        let (bus, topic) = (Arc::clone(&bus), topic.clone());
        thread::spawn(move || batches.iter().for_each(|count| publish(&bus, &topic, Moment(0), *count)));
    }
    let total = plan.publishers.iter().copied().flatten().sum();
    match snapshot {
        Some(snapshot) => reactor.follow(snapshot, total),
        None => reactor.run(&topic, total),
    }
}

fn topic() -> Topic {
    Topic::parse("t").expect("a good name")
}

fn build(plan: Plan) -> (Arc<Bus>, Reactor) {
    let poll = Arc::new(Poll::new());
    let notifier = Arc::new(Notifier::new(Arc::clone(&poll) as Arc<dyn bus::Wake>));
    let bus = Arc::new(build_bus(plan.inbox_events_max, &notifier));
    let reactor = Reactor { bus: Arc::clone(&bus), index: 0, notifier, poll, fault: plan.fault };
    (bus, reactor)
}

fn build_bus(inbox_events_max: usize, notifier: &Arc<Notifier>) -> Bus {
    let inbox = Inbox::new(inbox_events_max, Arc::clone(notifier));
    Bus::new(Config::default(), vec![inbox], Vec::new())
}

fn publish(bus: &Bus, topic: &Topic, now: Moment, count: u64) {
    let mut feed = bus.feed();
    for _ in 0..count {
        feed.publish(topic, None, Bytes::new(), now).expect("a good event");
    }
}
