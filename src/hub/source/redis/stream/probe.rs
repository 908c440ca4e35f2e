//! The probe: a stream of the hub's own, which its reader follows besides all others. An entry added to it does two things: it
//! ends the reader's wait in `XREAD BLOCK` (whether the reader waits already or will in a moment, it finds the entry), and it proves
//! that what is added to streams arrives.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use redis::{RedisError, Value};
use tracing::warn;

use super::{
    entry::{BadAnswer, StreamEntry, read_id},
    link::{StreamLink, accept, run_blocking},
    waker::ReaderWaker,
};
use crate::{
    clock::{Clock, Moment},
    event::EventId,
    source::{
        Backoff, LogRateLimiter,
        redis::{Directory, RedisConfig},
    },
};

/// The stream of the hub's own.
#[derive(Clone, Debug)]
pub(super) struct StreamProbe {
    pub(super) key: String,
}

/// How long the probe outlives its hub.
const PROBE_LIFE_MS: &str = "60000";

impl StreamProbe {
    /// `seed` makes it differ from those of other hubs.
    pub(super) fn new(prefix: &str, seed: u64) -> Self {
        Self { key: format!("{prefix}fanfare.probe.{seed:016x}") }
    }

    /// Adds an entry that says when it was added. The server may refuse it.
    pub(super) fn add_entry(
        &self,
        link: &mut StreamLink,
        now: Moment,
    ) -> Result<Result<EventId, RedisError>, RedisError> {
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
    pub(super) fn sent(entry: &StreamEntry) -> Result<Moment, BadAnswer> {
        let content = entry.content.as_ref().map_err(|_| BadAnswer)?;
        let object: serde_json::Value = serde_json::from_slice(&content.data).map_err(|_| BadAnswer)?;
        object["sent"].as_str().and_then(|sent| sent.parse().ok()).map(Moment).ok_or(BadAnswer)
    }
}

/// The thread that adds an entry to the probe when the reader is to be woken, and at least every `ping_interval`.
pub(super) struct ProbeThread {
    pub(super) probe: StreamProbe,
    pub(super) waker: Arc<ReaderWaker>,
    /// Receives when an entry is to be added at once.
    pub(super) wakes: Receiver<()>,
    pub(super) directory: Arc<Directory>,
    pub(super) config: RedisConfig,
    pub(super) clock: Clock,
}

impl ProbeThread {
    /// Adds entries until the waker is stopped.
    pub(super) fn run(self) {
        let mut backoff = Backoff::new(self.config.backoff_min, self.config.backoff_max);
        let (mut link, mut wait, mut failures) = (None, Duration::ZERO, LogRateLimiter::default());
        loop {
            // Woken or after the wait, it adds an entry.
            let _ = self.wakes.recv_timeout(wait);
            match self.add_entry(&mut link) {
                Ok(()) => {
                    backoff.reset();
                    wait = self.config.ping_interval;
                }
                Err(error) => {
                    // The status shows that no entry comes back; this line says why.
                    if let Some(suppressed) = failures.admit(self.clock.now()) {
                        warn!(suppressed, "the stream `{}` cannot be added to: {error}", self.probe.key);
                    }
                    link = None;
                    wait = backoff.next_delay(rand::random());
                }
            }
            if self.waker.is_stopped() {
                return;
            }
        }
    }

    fn add_entry(&self, link: &mut Option<StreamLink>) -> Result<(), RedisError> {
        // The server may have closed a connection that was idle for long.
        if link.as_mut().is_none_or(|link| !link.is_usable()) {
            let opened = StreamLink::open(&self.directory, "fanfare-stream-bell", self.config.connect_timeout)?;
            opened.set_timeout(self.config.ping_timeout)?;
            *link = Some(opened);
        }
        match link {
            Some(link) => {
                run_blocking(link.check_role())?;
                // A replica takes no entries: there the reader wakes by its own timeout.
                if link.is_replica() { Ok(()) } else { self.probe.add_entry(link, self.clock.now())?.map(drop) }
            }
            None => Ok(()),
        }
    }
}
