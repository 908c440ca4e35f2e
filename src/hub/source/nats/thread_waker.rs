//! Wakes the thread.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

use crate::bus::Wake;

/// Wakes the thread from any other one, and tells it to end.
#[derive(Debug, Default)]
pub(in crate::source::nats) struct ThreadWaker {
    notify: Notify,
    is_stopped: AtomicBool,
}

impl ThreadWaker {
    /// What the thread waits for. Keeps one notification that came while it did not wait.
    pub(in crate::source::nats) fn notify(&self) -> &Notify {
        &self.notify
    }

    pub(in crate::source::nats) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Acquire)
    }

    /// Ends the thread, once what is queued is answered.
    pub(in crate::source::nats) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake();
    }
}

impl Wake for ThreadWaker {
    fn wake(&self) {
        self.notify.notify_one();
    }
}
