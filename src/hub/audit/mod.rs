//! The audit: who signed in, who was refused and why, whose rights were withdrawn, and what operators did. One line of JSON each
//! (`line.rs`), in a file that is only ever appended to, or on standard error. Its schema is in `docs/operations.md`.
//!
//! A thread of its own writes the lines. Whoever has something to record puts it into a bounded queue and never waits: what does not
//! fit, or comes faster than `audit.lines_per_second_max` or `audit.refusals_per_second_max`, is counted, and the next line that is written says how many are missing.
//!
//! A client that shows its token with each request signs in with the first one. Further requests with the same credential from the
//! same address are recorded again only after `audit.repeat_after`. Streams are recorded each time.

mod config;
mod limits;
mod line;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crossbeam_channel::{Sender, bounded, unbounded};

use crate::{clock::Clock, metrics::Figure, os};

pub use config::{AuditConfig, AuditPart, AuditTarget};
use limits::Limits;
pub use line::{AuditKind, AuditLine};
use writer::{Message, Writer};

/// Where lines of the audit go; nowhere, if it is off. Clones share all state.
#[derive(Clone, Debug, Default)]
pub struct Audit(Option<Arc<Shared>>);

struct Shared {
    clock: Clock,
    sender: Sender<Message>,
    state: Mutex<State>,
    progress: Arc<Progress>,
}

#[derive(Debug)]
struct State {
    config: Arc<AuditConfig>,
    limits: Limits,
}

/// What the writer and those who record tell each other.
#[derive(Debug, Default)]
struct Progress {
    lines: AtomicU64,
    /// Lines that were not written, in all.
    dropped: AtomicU64,
    /// Those of them that no line has told of yet.
    untold: AtomicU64,
    errors: AtomicU64,
    /// What waits to be written.
    queued_bytes: AtomicUsize,
    /// Where the lines are to go from now on.
    reopen: AtomicBool,
    target: Mutex<AuditTarget>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("progress", &self.progress).finish_non_exhaustive()
    }
}

impl Progress {
    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
        self.untold.fetch_add(1, Ordering::Relaxed);
    }
}

impl Audit {
    /// Opens what `config` names and starts the thread that writes there. `hub` (the hub's id) and `host` stand in each line.
    pub(crate) fn start(config: &AuditConfig, clock: Clock, (hub, host): (&str, &str)) -> Result<Self, String> {
        if config.to == AuditTarget::Nowhere {
            return Ok(Self(None));
        }
        let progress = Arc::new(Progress { target: Mutex::new(config.to.clone()), ..Progress::default() });
        let writer = Writer::open(&config.to, Arc::clone(&progress), (hub, host))?;
        let (sender, receiver) = unbounded();
        let thread = thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&receiver));
        thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        let state = Mutex::new(State { config: Arc::new(config.clone()), limits: Limits::default() });
        Ok(Self(Some(Arc::new(Shared { clock, sender, state, progress }))))
    }

    /// Whether anything is recorded.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Records `line`. Never waits.
    pub fn record(&self, line: &AuditLine<'_>) {
        let Some(shared) = &self.0 else { return };
        let now = shared.clock.now();
        let mut state = shared.state();
        let config = Arc::clone(&state.config);
        if config.leaves_out(AuditPart::Kind(line.kind)) {
            return;
        }
        let has_room = state.limits.take(line.kind, &config, now);
        drop(state);
        if !has_room {
            return shared.progress.count_dropped();
        }
        let text = line.write(os::realtime_now(), &config);
        let bytes = held_bytes(&text);
        let queued = &shared.progress.queued_bytes;
        if config.queue_bytes_max < queued.fetch_add(bytes, Ordering::Relaxed) + bytes {
            queued.fetch_sub(bytes, Ordering::Relaxed);
            return shared.progress.count_dropped();
        }
        // The queue has no bound of its own, and its thread lives as long as whoever can record.
        let _ = shared.sender.send(Message::Line(text));
    }

    /// As [`Self::record`], for a request that is no stream: only the first one of its client counts for a while.
    pub fn record_request(&self, line: &AuditLine<'_>) {
        let Some(shared) = &self.0 else { return };
        let (client, now) = (line.client(), shared.clock.now());
        let mut state = shared.state();
        let config = Arc::clone(&state.config);
        let is_first = state.limits.is_first(client, (config.repeat_after, config.clients_max), now);
        drop(state);
        if is_first {
            self.record(line);
        }
    }

    /// Takes over `config`, and opens the file again by its name: what had the name before may have
    /// been moved away. The thread does that; if it cannot, it goes on with the file that is open.
    pub(crate) fn reload(&self, config: &AuditConfig) {
        let Some(shared) = &self.0 else { return };
        shared.state().config = Arc::new(config.clone());
        config.to.clone_into(&mut shared.progress.target.lock().unwrap_or_else(PoisonError::into_inner));
        shared.progress.reopen.store(true, Ordering::Release);
        let _ = shared.sender.send(Message::Wake);
    }

    /// Waits until everything that was recorded before is written, for `timeout` at most. Returns whether it is.
    pub(crate) fn flush(&self, timeout: Duration) -> bool {
        let Some(shared) = &self.0 else { return true };
        let (done, is_done) = bounded(1);
        shared.sender.send(Message::Flush(done)).is_ok() && is_done.recv_timeout(timeout).is_ok()
    }

    /// For `/metrics`.
    pub(crate) fn figures(&self) -> Vec<Figure> {
        let of = |counter: fn(&Progress) -> &AtomicU64| {
            self.0.as_ref().map_or(0, |shared| counter(&shared.progress).load(Ordering::Relaxed))
        };
        vec![
            Figure::counter("fanfare_audit_lines", "Lines written to the audit", of(|it| &it.lines)),
            Figure::counter("fanfare_audit_dropped", "Lines missing in the audit", of(|it| &it.dropped)),
            Figure::counter("fanfare_audit_errors", "Failures to open or write the audit", of(|it| &it.errors)),
        ]
    }
}

/// What the line `text` takes while it waits.
fn held_bytes(text: &str) -> usize {
    text.len() + size_of::<Message>()
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
