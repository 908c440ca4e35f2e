//! The queue to an archive's thread. Every request put into it is answered.

use std::fmt;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::bus::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest};

/// Hands requests to an archive's thread. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ArchiveQueue(Sender<QueuedRequest>);

/// A request on its way. Dropped without an answer, it answers [`ArchiveFailed::Unavailable`].
pub(super) struct QueuedRequest(Option<ArchiveRequest>);

/// Both ends of a queue for at most `requests_max` requests. The thread's end is disconnected when nobody can ask any more.
pub(super) fn archive_queue(requests_max: usize) -> (ArchiveQueue, Receiver<QueuedRequest>) {
    let (queue, queued) = bounded(requests_max);
    (ArchiveQueue(queue), queued)
}

impl Archive for ArchiveQueue {
    fn fetch(&self, request: ArchiveRequest) {
        if let Err(TrySendError::Full(mut queued)) = self.0.try_send(QueuedRequest(Some(request))) {
            queued.answer(Err(ArchiveFailed::QueueFull));
        }
    }
}

impl QueuedRequest {
    /// The request, unless it has been answered.
    pub(super) fn request(&self) -> Option<&ArchiveRequest> {
        self.0.as_ref()
    }

    pub(super) fn answer(&mut self, page: Result<ArchivePage, ArchiveFailed>) {
        if let Some(request) = self.0.take() {
            (request.reply)(page);
        }
    }
}

impl Drop for QueuedRequest {
    fn drop(&mut self) {
        self.answer(Err(ArchiveFailed::Unavailable));
    }
}

impl fmt::Debug for QueuedRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueuedRequest").field(&self.0).finish()
    }
}
