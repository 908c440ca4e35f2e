//! Interrupting a reader that waits in `XREAD BLOCK`, and proving that what is added to a stream arrives: both by an
//! entry in a stream of the hub's own, the *probe*, that the reader follows besides all others. Whether the reader waits
//! already or only soon does not matter: it finds the entry either way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded};
use redis::{RedisError, Value};
use tracing::warn;

use super::{
    entry::{BadAnswer, Entry, read_id},
    link::{Link, accept},
};
use crate::{
    bus::Wake,
    clock::{Clock, Moment},
    event::EventId,
    source::{
        Backoff, Throttle,
        redis::{Directory, RedisConfig},
    },
};

/// Wakes the reader, once per turn at most.
#[derive(Debug)]
pub(super) struct Alarm {
    rung: AtomicBool,
    stop: AtomicBool,
    /// For a reader that is not connected.
    to_reader: Sender<()>,
    /// For one that is.
    to_bell: Sender<()>,
}

/// What hears an [`Alarm`].
#[derive(Debug)]
pub(super) struct Ears {
    pub(super) reader: Receiver<()>,
    pub(super) bell: Receiver<()>,
}

impl Alarm {
    pub(super) fn new() -> (Arc<Self>, Ears) {
        let ((to_reader, reader), (to_bell, bell)) = (bounded(1), bounded(1));
        let alarm = Self { rung: AtomicBool::new(false), stop: AtomicBool::new(false), to_reader, to_bell };
        (Arc::new(alarm), Ears { reader, bell })
    }

    /// Whether it was rung since the last time. Called before the queues are looked at: whoever puts something in
    /// afterwards rings again.
    pub(super) fn hear(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }
}

impl Wake for Alarm {
    fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel) {
            // If they are full, they will be heard.
            let _ = self.to_reader.try_send(());
            let _ = self.to_bell.try_send(());
        }
    }
}

/// The stream of the hub's own.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub(super) key: String,
}

/// How long the probe outlives its hub.
const PROBE_LIFE_MS: &str = "60000";

impl Probe {
    /// `seed` tells it from those of other hubs.
    pub(super) fn new(prefix: &str, seed: u64) -> Self {
        Self { key: format!("{prefix}fanfare.probe.{seed:016x}") }
    }

    /// Adds an entry that says when it was added. The server may refuse it.
    pub(super) fn ring(&self, link: &mut Link, now: Moment) -> Result<Result<EventId, RedisError>, RedisError> {
        let sent = now.0.to_string();
        // One step, so that none of them is left without an end.
        let answers = link.ask(|commands| {
            commands.push_words(&["MULTI"]);
            commands.push_words(&["XADD", &self.key, "MAXLEN", "1", "*", "sent", &sent]);
            commands.push_words(&["PEXPIRE", &self.key, PROBE_LIFE_MS]);
            commands.push_words(&["EXEC"]);
        })?;
        // What was refused says why; that the transaction was given up does not.
        let answers = answers.into_iter().map(accept).collect::<Result<Vec<Value>, RedisError>>();
        let added = answers.map(|answers| match answers.into_iter().next_back() {
            Some(Value::Array(added)) => added.into_iter().next().unwrap_or(Value::Nil),
            _ => Value::Nil,
        });
        Ok(added.and_then(accept).and_then(|id| Ok(read_id(&id)?)))
    }

    /// When the entry was added; it is a JSON object, as foreign entries are.
    pub(super) fn sent(entry: &Entry) -> Result<Moment, BadAnswer> {
        let content = entry.content.as_ref().map_err(|_| BadAnswer)?;
        let object: serde_json::Value = serde_json::from_slice(&content.data).map_err(|_| BadAnswer)?;
        object["sent"].as_str().and_then(|sent| sent.parse().ok()).map(Moment).ok_or(BadAnswer)
    }
}

/// The thread that adds to the probe, when the alarm rings and else every `ping_interval`.
pub(super) struct Bell {
    pub(super) probe: Probe,
    pub(super) alarm: Arc<Alarm>,
    pub(super) rung: Receiver<()>,
    pub(super) directory: Arc<Directory>,
    pub(super) config: RedisConfig,
    pub(super) clock: Clock,
}

impl Bell {
    pub(super) fn run(self) {
        let mut backoff = Backoff::new(self.config.backoff_min, self.config.backoff_max);
        let (mut link, mut patience, mut failures) = (None, Duration::ZERO, Throttle::default());
        loop {
            // Woken or not, it rings.
            let _ = self.rung.recv_timeout(patience);
            match self.ring(&mut link) {
                Ok(()) => {
                    backoff.reset();
                    patience = self.config.ping_interval;
                }
                Err(error) => {
                    // That nothing comes back shows in the status; this line says why.
                    if let Some(suppressed) = failures.admit(self.clock.now()) {
                        warn!(suppressed, "the stream `{}` cannot be added to: {error}", self.probe.key);
                    }
                    link = None;
                    patience = backoff.next_delay(rand::random());
                }
            }
            if self.alarm.is_stopped() {
                return;
            }
        }
    }

    fn ring(&self, link: &mut Option<Link>) -> Result<(), RedisError> {
        // The server may close what is idle for longer than it likes.
        if link.as_mut().is_none_or(|link| !link.is_usable()) {
            let opened = Link::open(&self.directory, "fanfare-stream-bell", self.config.connect_timeout)?;
            opened.set_timeout(self.config.ping_timeout)?;
            *link = Some(opened);
        }
        match link {
            Some(link) => {
                link.check_role()?;
                // Nothing can be added to a replica: the reader looks by itself.
                if link.is_replica() { Ok(()) } else { self.probe.ring(link, self.clock.now())?.map(drop) }
            }
            None => Ok(()),
        }
    }
}
