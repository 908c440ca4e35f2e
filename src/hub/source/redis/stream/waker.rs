//! Interrupts a reader, whether it waits in `XREAD BLOCK` or for its next attempt to connect.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::bus::Wake;

/// Wakes the reader, at most once a turn.
#[derive(Debug)]
pub(super) struct ReaderWaker {
    is_pending: AtomicBool,
    is_stopped: AtomicBool,
    /// For a reader without a connection.
    to_reader: Sender<()>,
    /// For a reader with one: the probe's thread adds an entry, which ends the `XREAD`.
    to_probe: Sender<()>,
}

/// The other ends of a [`ReaderWaker`].
#[derive(Debug)]
pub(super) struct WakeReceivers {
    pub(super) reader: Receiver<()>,
    pub(super) probe: Receiver<()>,
}

impl ReaderWaker {
    pub(super) fn new() -> (Arc<Self>, WakeReceivers) {
        let ((to_reader, reader), (to_probe, probe)) = (bounded(1), bounded(1));
        let (is_pending, is_stopped) = (AtomicBool::new(false), AtomicBool::new(false));
        (Arc::new(Self { is_pending, is_stopped, to_reader, to_probe }), WakeReceivers { reader, probe })
    }

    /// Whether it was woken since the last call. The reader calls this before it looks into its queues: what is put into one
    /// afterwards wakes it again.
    pub(super) fn take(&self) -> bool {
        self.is_pending.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Ends both threads.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake();
    }
}

impl Wake for ReaderWaker {
    fn wake(&self) {
        if !self.is_pending.swap(true, Ordering::AcqRel) {
            // A full channel holds a wake-up that has not been received yet: one is enough.
            let _ = self.to_reader.try_send(());
            let _ = self.to_probe.try_send(());
        }
    }
}
