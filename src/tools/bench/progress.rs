//! What a fleet tells while it runs.

use std::{
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
};

use super::live::Live;

/// How much of a server's remark is kept: enough for an error message.
const REMARK_BYTES_MAX: usize = 512;

/// Counters that one fleet writes and the conductor reads.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// Subscribers whose request was answered.
    pub open: Count,
    /// Subscribers that received a probe: the way from the publisher to them is complete.
    pub ready: Count,
    /// Connections that failed or ended, at any time.
    pub closed: Count,
    /// In a storm: subscribers that left, and those that have come back and caught up.
    pub away: Count,
    pub back: Count,
    /// How long deliveries take, coarsely.
    pub live: Live,
    deliveries: AtomicU64,
    command: AtomicU8,
    stop: AtomicBool,
    /// Whether the schedule shall end early, and the event it ended before.
    cut: AtomicBool,
    end: OnceLock<u32>,
    thread: OnceLock<PathBuf>,
    /// Why the first connection ended.
    first_failure: Mutex<Option<String>>,
    /// What a subscriber began to wait for last, and what the server said last that lets nobody in.
    awaited: Mutex<Option<String>>,
    remark: Mutex<Option<String>>,
}

/// What the conductor wants of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Connect, and listen.
    Listen,
    /// All but the first leave.
    Leave,
    /// They come back.
    Return,
}

/// A number that one thread raises.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU32);

impl Count {
    pub(super) fn raise(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Where fleets run in other processes, their sum.
    pub(super) fn set(&self, count: u32) {
        self.0.store(count, Ordering::Relaxed);
    }
}

impl Progress {
    /// How many events of the run were delivered, each counted per subscriber, the warm-up's too.
    pub(super) fn deliveries(&self) -> u64 {
        self.deliveries.load(Ordering::Relaxed)
    }

    pub(super) fn set_deliveries(&self, count: u64) {
        self.deliveries.store(count, Ordering::Relaxed);
    }

    pub(super) fn give(&self, command: Command) {
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

    /// The publisher shall send nothing more.
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Relaxed)
    }

    /// Of `event_count` events planned, how many there are: fewer if the publisher was stopped.
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

    /// Where fleets run in other processes, what the first of them tells.
    pub(super) fn set_first_failure(&self, reason: &str) {
        let mut first = lock(&self.first_failure);
        first.get_or_insert_with(|| reason.to_owned());
    }

    /// Why the first connection ended.
    pub(super) fn first_failure(&self) -> Option<String> {
        lock(&self.first_failure).clone()
    }

    /// A subscriber waits for a message that contains this.
    pub(super) fn set_awaited(&self, text: &str) {
        *lock(&self.awaited) = Some(text.to_owned());
    }

    /// The server said something, while the subscriber waited for something else.
    pub(super) fn remark(&self, message: &[u8]) {
        let text = String::from_utf8_lossy(&message[..message.len().min(REMARK_BYTES_MAX)]).into_owned();
        *lock(&self.remark) = Some(text);
    }

    /// What is known of why subscribers are not let in, to stand behind what became of them.
    pub(super) fn obstacle(&self) -> String {
        let awaited = lock(&self.awaited).as_ref().map(|text| format!("; awaited last: {text}"));
        let remark = lock(&self.remark).as_ref().map(|text| format!("; what the server said instead: {text}"));
        awaited.unwrap_or_default() + &remark.unwrap_or_default()
    }
}

fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
