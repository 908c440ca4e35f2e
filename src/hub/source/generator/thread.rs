//! The generators' thread: it waits for commands until the next event is due.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use rand::{SeedableRng, rngs::SmallRng};
use tracing::{info, warn};

use super::{
    GeneratorConfig,
    control::{Command, Control, Listed, Queued, queue},
    scheduler::{GeneratedEvent, Scheduler},
};
use crate::{
    bus::{Bus, GeneratorAction, Generators, Publication, PublishFailed, Receipt},
    clock::{Clock, Moment},
    os,
    protocol::EventData,
    source::{Lease, Source, SourceSetup, SourcesConfig},
    topic::Topic,
};

/// The generators as a [`Source`] without a broker.
#[derive(Debug)]
pub(super) struct GeneratorSource {
    config: GeneratorConfig,
    setup: SourceSetup,
    control: Control,
    /// Until the thread has it.
    commands: Option<Receiver<Command>>,
    /// Until the thread has it.
    lease: Option<Box<dyn Lease>>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the generators, if the configuration asks for them.
pub(in crate::source) fn open(config: &SourcesConfig, setup: &SourceSetup) -> Result<Vec<Box<dyn Source>>, String> {
    let source = config.demo.clone().map(|config| GeneratorSource::new(config, setup.clone()));
    Ok(source.into_iter().map(|source| Box::new(source) as Box<dyn Source>).collect())
}

impl GeneratorSource {
    fn new(config: GeneratorConfig, setup: SourceSetup) -> Self {
        let (control, commands) = queue(config.queue_max);
        Self { config, setup, control, commands: Some(commands), lease: None, thread: None }
    }
}

impl Source for GeneratorSource {
    fn generators(&self) -> Option<Box<dyn Generators>> {
        Some(Box::new(self.control.clone()))
    }

    fn use_lease(&mut self, lease: Box<dyn Lease>) {
        self.lease = Some(lease);
    }

    fn start(&mut self, bus: Arc<Bus>) -> Result<(), String> {
        let Some(commands) = self.commands.take() else { return Ok(()) };
        let mut worker = Worker {
            scheduler: Scheduler::new(self.config.clone(), SmallRng::seed_from_u64(rand::random())),
            commands,
            lease: self.lease.take(),
            leased: self.setup.generated.iter().map(|(topic, _)| topic.clone()).collect(),
            listed: self.control.listed(),
            bus,
            clock: self.setup.clock,
            is_failing: Arc::default(),
        };
        // Before a client can list the generators.
        worker.begin(&self.setup.generated);
        let thread = thread::Builder::new().name("generators".to_owned()).spawn(move || worker.run());
        self.thread = Some(thread.map_err(|error| format!("cannot start a thread: {error}"))?);
        Ok(())
    }

    fn stop(self: Box<Self>) {
        self.control.end();
        if self.thread.is_some_and(|thread| thread.join().is_err()) {
            warn!("the generators had panicked");
        }
    }
}

struct Worker {
    scheduler: Scheduler,
    commands: Receiver<Command>,
    /// What one hub of the fleet has at a time.
    lease: Option<Box<dyn Lease>>,
    /// The topics that every hub has a generator for from the start. Only the hub with the lease publishes to them.
    leased: BTreeSet<Topic>,
    listed: Listed,
    bus: Arc<Bus>,
    clock: Clock,
    /// Whether the last publication failed, so that an outage is logged once.
    is_failing: Arc<AtomicBool>,
}

impl Worker {
    fn begin(&mut self, streams: &[(Topic, &str)]) {
        let (now, mut made) = (self.clock.now(), Vec::new());
        for (topic, stream) in streams {
            if let Err(failed) = self.scheduler.apply(topic, stream, GeneratorAction::Start, now, &mut made) {
                warn!(%topic, ?failed, "a stream of the demonstration does not start");
            }
        }
        self.listed.replace(self.scheduler.list());
        self.publish(made);
    }

    fn run(&mut self) {
        loop {
            let received = match self.scheduler.deadline() {
                Some(due) => self.commands.recv_timeout(due.since(self.clock.now())),
                None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut made = Vec::new();
            match received {
                Ok(Command::Request(queued)) => self.apply(queued, &mut made),
                Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.scheduler.make_due(self.clock.now(), &mut made);
            self.publish(made);
        }
        // The queue lives as long as anybody can ask: what waits in it is answered here.
        self.commands.try_iter().for_each(drop);
    }

    fn apply(&mut self, queued: Queued, made: &mut Vec<GeneratedEvent>) {
        let request = &queued.request;
        let outcome = self.scheduler.apply(&request.topic, &request.stream, request.action, self.clock.now(), made);
        // A client that has its answer may list the generators at once.
        self.listed.replace(self.scheduler.list());
        queued.answer(outcome);
    }

    fn publish(&self, made: Vec<GeneratedEvent>) {
        if made.is_empty() {
            return;
        }
        let (now, mut feed) = (self.clock.now(), self.bus.feed());
        for GeneratedEvent { topic, stream, sample } in made {
            let kind = sample.kind;
            let event = EventData {
                id: EventData::id_of(rand::random()),
                kind: kind.to_owned(),
                message: sample.message,
                data: sample.data,
                timestamp: i64::try_from(os::realtime_now().as_secs()).unwrap_or(i64::MAX),
                stream_id: stream.into(),
            };
            let data = Bytes::from(event.to_json());
            match self.bus.event_sink(&topic) {
                Some(_) if self.stands_by(&topic, now) => {}
                Some(sink) => sink.publish(self.publication(topic, kind, data)),
                None => {
                    let published = feed.publish(&topic, Some(kind), data, now);
                    log_outage(&self.is_failing, published.map(Some).map_err(|_| PublishFailed::NoRoom));
                }
            }
        }
    }

    /// Whether another hub publishes the generated events of `topic`, which goes out through a broker.
    fn stands_by(&self, topic: &Topic, now: Moment) -> bool {
        self.leased.contains(topic) && self.lease.as_ref().is_some_and(|lease| !lease.is_held(now))
    }

    fn publication(&self, topic: Topic, kind: &str, data: Bytes) -> Publication {
        let is_failing = Arc::clone(&self.is_failing);
        let reply = Box::new(move |receipt| log_outage(&is_failing, receipt));
        Publication { topic, kind: Some(kind.into()), data, idempotency_key: None, bridged: None, reply }
    }
}

/// Logs when events begin to be lost, and when they no longer are. Nobody waits for any one of them.
fn log_outage(is_failing: &AtomicBool, receipt: Receipt) {
    let was_failing = is_failing.swap(receipt.is_err(), Ordering::Relaxed);
    match receipt {
        Err(failed) if !was_failing => warn!(?failed, "events of the demonstration are not published"),
        Ok(_) if was_failing => info!("events of the demonstration are published again"),
        _ => {}
    }
}
