//! What the reader and the writer of one source find out about the server, each for the other.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::SentinelView;
use crate::bus::Wake;

/// Shared by a source's threads.
#[derive(Debug, Default)]
pub(super) struct ServerView {
    sentinels: SentinelView,
    demotions: AtomicU64,
    /// Interrupts the reader's wait.
    reader: OnceLock<Arc<dyn Wake>>,
}

impl ServerView {
    /// The master that the sentinels agree on, if there are sentinels.
    pub(super) fn sentinels(&self) -> &SentinelView {
        &self.sentinels
    }

    /// The writer found that its server, which was usable before, is no master any more. Wakes the reader.
    pub(super) fn report_demotion(&self) {
        self.demotions.fetch_add(1, Ordering::Release);
        if let Some(reader) = self.reader.get() {
            reader.wake();
        }
    }

    /// How often [`Self::report_demotion`] was called.
    pub(super) fn demotions(&self) -> u64 {
        self.demotions.load(Ordering::Acquire)
    }

    /// Sets what wakes the reader. Only the first call has an effect.
    pub(super) fn set_reader(&self, reader: Arc<dyn Wake>) {
        self.reader.get_or_init(|| reader);
    }
}
