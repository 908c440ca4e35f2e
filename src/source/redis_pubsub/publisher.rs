//! The way to the writer thread: a queue with two bounds, out of which everything is answered.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{Config, SourceStatus, envelope};
use crate::{
    bus::{Outlet, Publication, PublishFailed, Reply},
    clock::{Clock, Moment},
    topic::Topic,
};

/// Hands publications to the writer thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    queue: Sender<Queued>,
    queued_bytes: Arc<AtomicUsize>,
    queued_bytes_max: usize,
    timeout: Duration,
    clock: Clock,
    status: Arc<SourceStatus>,
}

/// A publication on its way. Dropped without an answer, it answers [`PublishFailed::Unavailable`]: nobody sent it.
pub(super) struct Queued {
    pub(super) topic: Topic,
    pub(super) payload: Bytes,
    /// Until when it may wait to be sent.
    pub(super) deadline: Moment,
    reply: Option<Reply>,
    queued_bytes: Arc<AtomicUsize>,
    status: Arc<SourceStatus>,
}

/// Both ends of the queue.
pub(super) fn queue(config: &Config, clock: Clock, status: Arc<SourceStatus>) -> (Publisher, Receiver<Queued>) {
    let (queue, queued) = bounded(config.publish_queue_max);
    let publisher = Publisher {
        queue,
        queued_bytes: Arc::default(),
        queued_bytes_max: config.publish_queue_bytes_max,
        timeout: config.publish_timeout,
        clock,
        status,
    };
    (publisher, queued)
}

impl Outlet for Publisher {
    /// Queues `publication`; a full queue answers [`PublishFailed::QueueFull`] at once.
    fn publish(&self, publication: Publication) {
        let queued = Queued {
            payload: envelope::seal(publication.kind.as_deref(), &publication.data),
            topic: publication.topic,
            deadline: self.clock.now() + self.timeout,
            reply: Some(publication.reply),
            queued_bytes: Arc::clone(&self.queued_bytes),
            status: Arc::clone(&self.status),
        };
        let before = self.queued_bytes.fetch_add(queued.weight_bytes(), Ordering::Relaxed);
        if self.queued_bytes_max < before + queued.weight_bytes() {
            return queued.answer(Err(PublishFailed::QueueFull));
        }
        if let Err(TrySendError::Full(queued)) = self.queue.try_send(queued) {
            queued.answer(Err(PublishFailed::QueueFull));
        }
    }
}

impl Queued {
    /// What it is taken to weigh in the queue.
    pub(super) fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.topic.as_str().len() + self.payload.len()
    }

    pub(super) fn answer(mut self, result: Result<u64, PublishFailed>) {
        self.give(result);
    }

    fn give(&mut self, result: Result<u64, PublishFailed>) {
        if let Some(reply) = self.reply.take() {
            self.status.on_published(result.is_ok());
            // How many subscribers the server counted says nothing about ours; ids are each hub's own.
            reply(result.map(|_| None));
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.queued_bytes.fetch_sub(self.weight_bytes(), Ordering::Relaxed);
        self.give(Err(PublishFailed::Unavailable));
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").field("topic", &self.topic).finish_non_exhaustive()
    }
}
