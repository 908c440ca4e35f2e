//! The progress of a fleet, shared with the conductor's thread.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use super::live::Live;

/// The most bytes of a server's message that are kept for an error message.
const REMARK_BYTES_MAX: usize = 512;

/// Counters that one fleet writes and the conductor reads.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Subscribers whose request was granted.
    pub open: Count,
    /// Subscribers that received a probe: events of the publisher reach them.
    pub ready: Count,
    /// Connections that failed or ended, at any time.
    pub closed: Count,
    /// In a storm: subscribers that disconnected, and those that reconnected and caught up.
    pub away: Count,
    pub back: Count,
    /// Coarse latencies, for the display.
    pub live: Live,
    deliveries: AtomicU64,
    command: AtomicU8,
    stop: AtomicBool,
    /// Whether the publisher must stop early, and the number of events it then had sent.
    cut: AtomicBool,
    end: OnceLock<u32>,
    thread: OnceLock<PathBuf>,
    /// Why the first connection ended.
    first_failure: Mutex<Option<String>>,
    /// The text that a subscriber waits for, and the last message that did not contain it.
    awaited: Mutex<Option<String>>,
    remark: Mutex<Option<String>>,
}

/// A command of the conductor to a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Connect and receive.
    Listen,
    /// All subscribers but the first disconnect.
    Leave,
    /// The disconnected subscribers reconnect.
    Return,
}

/// A counter that one thread raises.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU32);

impl Count {
    pub(super) fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the sum over the fleets of all workers.
    pub(super) fn set(&self, count: u32) {
        self.0.store(count, Ordering::Relaxed);
    }
}

impl Progress {
    /// Deliveries so far: each event counts once per subscriber, during the warm-up too.
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    pub(super) fn set_deliveries(&self, count: u64) {
        self.deliveries.store(count, Ordering::Relaxed);
    }

    pub(super) fn set_command(&self, command: Command) {
        self.command.store(command as u8, Ordering::Relaxed);
    }

    pub(super) fn command(&self) -> Command {
        match self.command.load(Ordering::Relaxed) {
            0 => Command::Listen,
            1 => Command::Leave,
            _ => Command::Return,
        }
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Tells the publisher to send no further events.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// The number of events of the run: `event_count`, or fewer if the publisher was stopped early.
    pub(super) fn event_end(&self, event_count: u32) -> u32 {
        self.end.get().map_or(event_count, |&end| end.min(event_count))
    }

    pub(super) fn set_event_end(&self, end: u32) {
        // Only the publisher's own thread calls this, and once.
        let _ = self.end.set(end);
    }

    /// The fleet's thread, as a folder under /proc.
    pub(super) fn thread(&self) -> Option<&PathBuf> {
        self.thread.get()
    }

    pub(super) fn set_thread(&self, folder: PathBuf) {
        // Only the fleet's own thread calls this, and once.
        let _ = self.thread.set(folder);
    }

    /// A connection failed or ended.
    pub(super) fn fail(&self, reason: &str) {
        self.closed.raise();
        self.set_first_failure(reason);
    }

    /// Sets the first failure that a worker reports.
    pub(super) fn set_first_failure(&self, reason: &str) {
        let mut first = lock(&self.first_failure);
        first.get_or_insert_with(|| reason.to_owned());
    }

    /// Why the first connection ended.
    pub(super) fn first_failure(&self) -> Option<String> {
        lock(&self.first_failure).clone()
    }

    /// A subscriber now waits for a message that contains this text.
    pub(super) fn set_awaited(&self, text: &str) {
        *lock(&self.awaited) = Some(text.to_owned());
    }

    /// The server sent this message while the subscriber waited for another.
    pub(super) fn remark(&self, message: &[u8]) {
        let text = String::from_utf8_lossy(&message[..message.len().min(REMARK_BYTES_MAX)]).into_owned();
        *lock(&self.remark) = Some(text);
    }

    /// Why subscribers are not subscribed yet, as the end of an error message; empty if unknown.
    pub(super) fn obstacle(&self) -> String {
        let awaited = lock(&self.awaited).as_ref().map(|text| format!("; awaited last: {text}"));
        let remark = lock(&self.remark).as_ref().map(|text| format!("; what the server said instead: {text}"));
        awaited.unwrap_or_default() + &remark.unwrap_or_default()
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
