//! Interrupts the reader's poll.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::warn;

use crate::bus::Wake;

/// Wakes the reader, at most once a turn: writing to an eventfd costs the caller more than a delivery.
#[derive(Debug)]
pub(in crate::source::redis) struct ReaderWaker {
    waker: mio::Waker,
    is_pending: AtomicBool,
    is_stopped: AtomicBool,
}

impl ReaderWaker {
    pub(in crate::source::redis) fn new(waker: mio::Waker) -> Self {
        Self { waker, is_pending: AtomicBool::new(false), is_stopped: AtomicBool::new(false) }
    }

    /// Whether it was woken since the last call. The reader calls this before it looks into its queues: what is put into one
    /// afterwards wakes it again.
    pub(in crate::source::redis) fn take(&self) -> bool {
        self.is_pending.swap(false, Ordering::AcqRel)
    }

    pub(in crate::source::redis) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Ends the reader's thread.
    pub(in crate::source::redis) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake();
    }
}

impl Wake for ReaderWaker {
    fn wake(&self) {
        if !self.is_pending.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            warn!("the Redis reader cannot be woken: {error}");
        }
    }
}
