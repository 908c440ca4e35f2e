//! All generators, and when each makes its next event. Pure: the caller gives the time, the commands and the random numbers.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    time::Duration,
};

use rand::{RngExt, rngs::SmallRng};
use serde_json::Value;

use super::{
    GeneratorConfig,
    simulation::{SampleEvent, Simulation},
};
use crate::{
    bus::{GeneratorAction, GeneratorFailed},
    clock::Moment,
    topic::Topic,
};

/// All generators with their timers.
#[derive(Debug)]
pub(super) struct Scheduler {
    config: GeneratorConfig,
    generators: BTreeMap<Topic, Generator>,
    /// Who is due when. An entry whose run is not its generator's is of one that was stopped, paused or begun anew.
    timers: BinaryHeap<Reverse<(Moment, u64, Topic)>>,
    runs: u64,
    random: SmallRng,
}

#[derive(Debug)]
struct Generator {
    stream: Box<str>,
    simulation: Simulation,
    /// Of all runs there have been, this one; `None` while it is paused.
    run: Option<u64>,
}

/// An event to be published.
#[derive(Debug, PartialEq)]
pub(super) struct GeneratedEvent {
    pub(super) topic: Topic,
    pub(super) stream: Box<str>,
    pub(super) sample: SampleEvent,
}

impl Scheduler {
    pub(super) fn new(config: GeneratorConfig, random: SmallRng) -> Self {
        Self { config, generators: BTreeMap::new(), timers: BinaryHeap::new(), runs: 0, random }
    }

    /// Does `action` with the generator of `topic`; what is to be published at once goes into `made`.
    pub(super) fn apply(
        &mut self,
        topic: &Topic,
        stream: &str,
        action: GeneratorAction,
        now: Moment,
        made: &mut Vec<GeneratedEvent>,
    ) -> Result<(), GeneratorFailed> {
        match action {
            GeneratorAction::Start => self.start(topic, stream, now, made),
            GeneratorAction::Stop => self.generators.remove(topic).map(drop).ok_or(GeneratorFailed::Unknown),
            GeneratorAction::Pause => {
                let generator = self.generators.get_mut(topic).ok_or(GeneratorFailed::Unknown)?;
                generator.run.take().map(drop).ok_or(GeneratorFailed::AlreadyPaused)
            }
            GeneratorAction::Resume => match self.generators.get(topic) {
                None => Err(GeneratorFailed::Unknown),
                Some(generator) if generator.run.is_some() => Err(GeneratorFailed::NotPaused),
                Some(_) => {
                    self.begin_run(topic, now);
                    Ok(())
                }
            },
        }
    }

    fn start(
        &mut self,
        topic: &Topic,
        stream: &str,
        now: Moment,
        made: &mut Vec<GeneratedEvent>,
    ) -> Result<(), GeneratorFailed> {
        if !self.generators.contains_key(topic) && self.config.streams_max <= self.generators.len() {
            return Err(GeneratorFailed::TooMany);
        }
        let simulation = Simulation::of(stream, &mut self.random);
        self.generators.insert(topic.clone(), Generator { stream: stream.into(), simulation, run: None });
        let message = format!("Stream '{stream}' started");
        let sample = SampleEvent { kind: "stream_started", message, data: Value::Null };
        made.push(GeneratedEvent { topic: topic.clone(), stream: stream.into(), sample });
        self.begin_run(topic, now);
        Ok(())
    }

    fn begin_run(&mut self, topic: &Topic, now: Moment) {
        self.runs += 1;
        if let Some(generator) = self.generators.get_mut(topic) {
            generator.run = Some(self.runs);
            let pause = pause_of(&self.config, &generator.stream, &mut self.random);
            self.timers.push(Reverse((now + pause, self.runs, topic.clone())));
        }
    }

    /// When the next event is due.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.timers.peek().map(|Reverse((due, ..))| *due)
    }

    /// Puts the events that are due into `made`. Of one that is late, one event stands for all it has missed.
    pub(super) fn make_due(&mut self, now: Moment, made: &mut Vec<GeneratedEvent>) {
        while self.deadline().is_some_and(|due| due <= now) {
            let Some(Reverse((due, run, topic))) = self.timers.pop() else { return };
            let Some(generator) = self.generators.get_mut(&topic).filter(|generator| generator.run == Some(run)) else {
                continue;
            };
            let sample = generator.simulation.next(&mut self.random);
            made.push(GeneratedEvent { topic: topic.clone(), stream: generator.stream.clone(), sample });
            let pause = pause_of(&self.config, &generator.stream, &mut self.random);
            // From when it was due, so that the rate holds; but not from the past.
            let next = if due + pause <= now { now + pause } else { due + pause };
            self.timers.push(Reverse((next, run, topic)));
        }
    }

    /// Which topics have a generator, and whether it is paused.
    pub(super) fn list(&self) -> BTreeMap<Topic, bool> {
        self.generators.iter().map(|(topic, generator)| (topic.clone(), generator.run.is_none())).collect()
    }
}

/// The stream's interval, up to a quarter more or less: real events keep no exact rhythm.
fn pause_of(config: &GeneratorConfig, stream: &str, random: &mut SmallRng) -> Duration {
    let interval = match stream.strip_prefix("demo-").unwrap_or(stream) {
        "default" => config.default_interval,
        "system" => config.system_interval,
        "user-activity" => config.user_activity_interval,
        "notifications" => config.notifications_interval,
        _ => config.custom_interval,
    };
    interval.mul_f64(random.random_range(0.75..1.25))
}
