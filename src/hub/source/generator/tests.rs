use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crossbeam_channel::bounded;
use rand::{SeedableRng, rngs::SmallRng};

use super::{
    control::{Command, queue},
    scheduler::{GeneratedEvent, Scheduler},
    simulation::{SampleEvent, Simulation},
    *,
};
use crate::{
    bus::{GeneratorAction, GeneratorFailed, GeneratorRequest, Generators},
    clock::Moment,
    topic::Topic,
};

fn topic(stream: &str) -> Topic {
    Topic::parse(&format!("streams.{stream}")).expect("a good name")
}

fn second(count: u64) -> Moment {
    Moment(count * 1_000_000_000)
}

struct Harness {
    scheduler: Scheduler,
    made: Vec<GeneratedEvent>,
}

impl Harness {
    fn new(streams_max: usize) -> Self {
        let interval = Duration::from_secs(4);
        let config = GeneratorConfig {
            default_interval: interval,
            system_interval: interval,
            user_activity_interval: interval,
            notifications_interval: interval,
            custom_interval: interval,
            streams_max,
            queue_max: 1,
            ..GeneratorConfig::default()
        };
        Self { scheduler: Scheduler::new(config, SmallRng::seed_from_u64(7)), made: Vec::new() }
    }

    fn apply(&mut self, stream: &str, action: GeneratorAction, at_s: u64) -> Result<(), GeneratorFailed> {
        self.scheduler.apply(&topic(stream), stream, action, second(at_s), &mut self.made)
    }

    /// How many events of each stream were made up to the second `until_s`, looked at once a second.
    fn play(&mut self, from_s: u64, until_s: u64) -> BTreeMap<String, usize> {
        for at_s in from_s..=until_s {
            self.scheduler.make_due(second(at_s), &mut self.made);
        }
        let mut counts = BTreeMap::new();
        for made in self.made.drain(..) {
            assert_eq!(made.topic, topic(&made.stream));
            *counts.entry(made.stream.into_string()).or_default() += 1;
        }
        counts
    }

    fn count(&mut self, stream: &str, from_s: u64, until_s: u64) -> usize {
        self.play(from_s, until_s).remove(stream).unwrap_or_default()
    }
}

use GeneratorAction::{Pause, Resume, Start, Stop};

#[test]
fn the_rate_is_about_the_interval() {
    let mut harness = Harness::new(9);
    for stream in ["system", "custom"] {
        assert_eq!(harness.apply(stream, Start, 0), Ok(()));
    }
    let counts = harness.play(0, 400);
    for (stream, count) in counts {
        // One is the start.
        assert!((90..=112).contains(&count), "{stream}: {count}");
    }
}

#[test]
fn a_generator_starts_rests_goes_on_and_ends() {
    let mut harness = Harness::new(9);
    assert_eq!(harness.apply("a", Start, 0), Ok(()));
    assert_eq!(harness.made[0].sample.kind, "stream_started");
    assert!(5 < harness.count("a", 0, 40));
    assert_eq!(harness.apply("a", Pause, 40), Ok(()));
    assert_eq!(harness.scheduler.list(), BTreeMap::from([(topic("a"), true)]));
    assert_eq!(harness.count("a", 41, 80), 0);
    assert_eq!(harness.apply("a", Resume, 80), Ok(()));
    let resumed = harness.count("a", 81, 120);
    assert!((7..=14).contains(&resumed), "{resumed}: what was missed is not made up for, nor is it made twice");
    assert_eq!(harness.apply("a", Start, 120), Ok(()));
    let restarted = harness.count("a", 121, 160);
    assert!((7..=15).contains(&restarted), "{restarted}: the run before has ended");
    assert_eq!(harness.apply("a", Stop, 160), Ok(()));
    assert_eq!(harness.count("a", 161, 200), 0);
    assert!(harness.scheduler.list().is_empty());
    assert_eq!(harness.scheduler.deadline(), None, "no timer is left behind");
}

#[test]
fn starting_a_paused_one_lets_it_run() {
    let mut harness = Harness::new(9);
    for action in [Start, Pause, Start] {
        assert_eq!(harness.apply("a", action, 0), Ok(()));
    }
    assert_eq!(harness.scheduler.list(), BTreeMap::from([(topic("a"), false)]));
    assert!(5 < harness.count("a", 1, 40));
}

#[test]
fn what_cannot_be_done() {
    let mut harness = Harness::new(2);
    for action in [Stop, Pause, Resume] {
        assert_eq!(harness.apply("a", action, 0), Err(GeneratorFailed::Unknown), "{action:?}");
    }
    assert_eq!(harness.apply("a", Start, 0), Ok(()));
    assert_eq!(harness.apply("a", Resume, 0), Err(GeneratorFailed::NotPaused));
    assert_eq!(harness.apply("a", Pause, 0), Ok(()));
    assert_eq!(harness.apply("a", Pause, 0), Err(GeneratorFailed::AlreadyPaused));
    assert_eq!(harness.apply("b", Start, 0), Ok(()));
    assert_eq!(harness.apply("c", Start, 0), Err(GeneratorFailed::TooMany));
    assert_eq!(harness.apply("b", Start, 0), Ok(()), "it runs already, so it takes no more room");
    assert_eq!(harness.apply("a", Stop, 0), Ok(()));
    assert_eq!(harness.apply("c", Start, 0), Ok(()));
}

#[test]
fn one_that_is_late_does_not_make_up_for_it() {
    let mut harness = Harness::new(9);
    assert_eq!(harness.apply("a", Start, 0), Ok(()));
    assert_eq!(harness.count("a", 1000, 1000), 2, "the start, and one event");
    assert!(Some(second(1000)) < harness.scheduler.deadline());
}

fn samples(stream: &str, count: usize) -> Vec<SampleEvent> {
    let mut random = SmallRng::seed_from_u64(11);
    let mut simulation = Simulation::of(stream, &mut random);
    (0..count).map(|_| simulation.next(&mut random)).collect()
}

#[test]
fn scenes_are_of_the_documented_kinds_and_change() {
    let check = |stream: &str, expected: &[&str]| {
        let samples = samples(stream, 400);
        let kinds: BTreeSet<&str> = samples.iter().map(|sample| sample.kind).collect();
        assert_eq!(kinds, expected.iter().copied().collect(), "{stream}");
        let different: BTreeSet<String> = samples.iter().map(|sample| sample.data.to_string()).collect();
        assert!(15 < different.len(), "{stream}: {}", different.len());
        for sample in samples {
            assert!(!sample.message.is_empty() && sample.data.is_object(), "{sample:?}");
        }
    };
    check("default", &["user_action", "notification", "data_update"]);
    check("custom", &["user_action", "notification", "data_update"]);
    check("system", &["metric_update", "system_alert", "data_update"]);
    check("demo-system", &["metric_update", "system_alert", "data_update"]);
    check("user-activity", &["user_action"]);
    check("demo-notifications", &["notification"]);
}

#[test]
fn an_alert_is_beyond_its_threshold() {
    for sample in samples("system", 400).into_iter().filter(|sample| sample.kind == "system_alert") {
        let value = sample.data.as_object().and_then(|data| data.iter().find(|(name, _)| name.ends_with("percent")));
        let value = value.and_then(|(_, value)| value.as_f64()).expect("a percentage");
        assert!(sample.data["threshold"].as_f64().expect("a number") < value && value < 100.0, "{sample:?}");
    }
}

#[test]
fn nobody_leaves_before_having_come() {
    let mut present = BTreeSet::new();
    for sample in samples("user-activity", 400) {
        let text = |name: &str| sample.data[name].as_str().expect("a text").to_owned();
        match text("action").as_str() {
            "login" => assert!(present.insert(text("user_id")), "{sample:?}"),
            "logout" => assert!(present.remove(&text("user_id")), "{sample:?}"),
            _ => assert!(present.contains(&text("user_id")), "{sample:?}"),
        }
        assert_eq!(sample.data["online"], present.len());
    }
}

#[test]
fn every_request_is_answered_once() {
    let (control, commands) = queue(1);
    let (told, outcomes) = bounded(9);
    let ask = || {
        let told = told.clone();
        let reply = Box::new(move |outcome| told.send(outcome).expect("the test listens"));
        control.ask(GeneratorRequest { topic: topic("a"), stream: "a".into(), action: Start, reply });
    };
    ask();
    ask();
    assert_eq!(outcomes.try_recv(), Ok(Err(GeneratorFailed::QueueFull)));
    let Ok(Command::Request(queued)) = commands.try_recv() else { panic!("the first one waits") };
    queued.answer(Ok(()));
    assert_eq!(outcomes.try_recv(), Ok(Ok(())));
    ask();
    commands.try_iter().for_each(drop);
    drop(commands);
    ask();
    assert_eq!(outcomes.try_iter().collect::<Vec<_>>(), [Err(GeneratorFailed::Ended); 2]);
}
