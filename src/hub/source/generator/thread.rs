//! The generators' thread: it waits for commands until the next event is due.

use std::{
    io,
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
    Config, Control,
    control::{Command, Listed, Queued, queue},
    scheduler::{Made, Stage},
};
use crate::{
    bus::{Bus, GeneratorAction, Publication, PublishFailed, Receipt},
    clock::Clock,
    os,
    protocol::EventData,
    topic::Topic,
};

/// Owns the generators' thread.
#[derive(Debug)]
pub struct GeneratorsHandle {
    control: Control,
    thread: JoinHandle<()>,
}

/// Starts the thread, with a generator for each of `streams`: topics, and what their events call the stream.
pub fn start_generators(
    config: Config,
    streams: &[(Topic, &str)],
    bus: Arc<Bus>,
    clock: Clock,
) -> io::Result<GeneratorsHandle> {
    let (control, commands) = queue(config.queue_max);
    let mut worker = Worker {
        stage: Stage::new(config, SmallRng::seed_from_u64(rand::random())),
        commands,
        listed: control.listed(),
        bus,
        clock,
        is_failing: Arc::default(),
    };
    // Before anybody can ask what there is.
    worker.begin(streams);
    let thread = thread::Builder::new().name("generators".to_owned()).spawn(move || worker.run())?;
    Ok(GeneratorsHandle { control, thread })
}

impl GeneratorsHandle {
    /// A way to command them.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Ends the thread, and waits for it.
    pub fn stop(self) {
        self.control.end();
        if self.thread.join().is_err() {
            warn!("the generators had panicked");
        }
    }
}

struct Worker {
    stage: Stage,
    commands: Receiver<Command>,
    listed: Listed,
    bus: Arc<Bus>,
    clock: Clock,
    /// Whether the last publication failed, so that an outage is told once.
    is_failing: Arc<AtomicBool>,
}

impl Worker {
    fn begin(&mut self, streams: &[(Topic, &str)]) {
        let (now, mut made) = (self.clock.now(), Vec::new());
        for (topic, stream) in streams {
            if let Err(failed) = self.stage.obey(topic, stream, GeneratorAction::Start, now, &mut made) {
                warn!(%topic, ?failed, "a stream of the demonstration does not start");
            }
        }
        self.listed.replace(self.stage.list());
        self.publish(made);
    }

    fn run(&mut self) {
        loop {
            let received = match self.stage.deadline() {
                Some(due) => self.commands.recv_timeout(due.since(self.clock.now())),
                None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            let mut made = Vec::new();
            match received {
                Ok(Command::Request(queued)) => self.obey(queued, &mut made),
                Ok(Command::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.stage.make_due(self.clock.now(), &mut made);
            self.publish(made);
        }
        // The queue lives as long as anybody can ask: what waits in it is answered here.
        self.commands.try_iter().for_each(drop);
    }

    fn obey(&mut self, queued: Queued, made: &mut Vec<Made>) {
        let request = &queued.request;
        let outcome = self.stage.obey(&request.topic, &request.stream, request.action, self.clock.now(), made);
        // Whoever is answered may ask at once what there is.
        self.listed.replace(self.stage.list());
        queued.answer(outcome);
    }

    fn publish(&self, made: Vec<Made>) {
        if made.is_empty() {
            return;
        }
        let (now, mut feed) = (self.clock.now(), self.bus.feed());
        for Made { topic, stream, happening } in made {
            let kind = happening.kind;
            let event = EventData {
                id: EventData::id_of(rand::random()),
                kind: kind.to_owned(),
                message: happening.message,
                data: happening.data,
                timestamp: i64::try_from(os::realtime_now().as_secs()).unwrap_or(i64::MAX),
                stream_id: stream.into(),
            };
            let data = Bytes::from(event.to_json());
            match self.bus.outlet(&topic) {
                Some(outlet) => outlet.publish(self.publication(topic, kind, data)),
                None => {
                    let published = feed.publish(&topic, Some(kind), data, now);
                    tell(&self.is_failing, published.map(Some).map_err(|_| PublishFailed::NoRoom));
                }
            }
        }
    }

    fn publication(&self, topic: Topic, kind: &str, data: Bytes) -> Publication {
        let is_failing = Arc::clone(&self.is_failing);
        let reply = Box::new(move |receipt| tell(&is_failing, receipt));
        Publication { topic, kind: Some(kind.into()), data, idempotency_key: None, reply }
    }
}

/// Logs when events begin to be lost, and when they no longer are. Nobody waits for any one of them.
fn tell(is_failing: &AtomicBool, receipt: Receipt) {
    let was_failing = is_failing.swap(receipt.is_err(), Ordering::Relaxed);
    match receipt {
        Err(failed) if !was_failing => warn!(?failed, "events of the demonstration are not published"),
        Ok(_) if was_failing => info!("events of the demonstration are published again"),
        _ => {}
    }
}
