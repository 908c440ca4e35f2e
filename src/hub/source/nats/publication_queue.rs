//! The queue of publications, bounded by count and by bytes. Every publication put into it is answered.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::TrySendError;

use super::ThreadWaker;
use crate::{
    bus::{Bridged, EventSink, Publication, PublishFailed, Receipt, ReceiptCallback, Wake},
    clock::{Clock, Moment},
    source::{
        SourceStatus,
        closing_queue::{ClosingReceiver, ClosingSender, closing_queue},
        nats::NatsConfig,
    },
    topic::Topic,
};

/// The most publications behind one fence.
const BATCH_COUNT_MAX: usize = 1024;

/// The most bytes behind one fence, but for the last publication.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Hands publications to the thread.
#[derive(Clone, Debug)]
pub(in crate::source::nats) struct Publisher {
    queue: ClosingSender<QueuedPublication>,
    queued_bytes: Arc<AtomicUsize>,
    queued_bytes_max: usize,
    timeout: Duration,
    clock: Clock,
    status: Arc<SourceStatus>,
    waker: Arc<ThreadWaker>,
}

/// The thread's end of the queue.
#[derive(Debug)]
pub(in crate::source::nats) struct PublicationQueue {
    queued: ClosingReceiver<QueuedPublication>,
    /// Taken from the queue, to be sent next.
    pending: VecDeque<QueuedPublication>,
}

/// A publication on its way. Dropped without an answer, it answers [`PublishFailed::Unavailable`]: nobody sent it.
pub(in crate::source::nats) struct QueuedPublication {
    pub(in crate::source::nats) topic: Topic,
    pub(in crate::source::nats) kind: Option<Box<str>>,
    pub(in crate::source::nats) key: Option<Box<str>>,
    pub(in crate::source::nats) data: Bytes,
    pub(in crate::source::nats) bridged: Option<Box<Bridged>>,
    /// Until when it may wait to be sent, or to be confirmed.
    pub(in crate::source::nats) deadline: Moment,
    reply: Option<ReceiptCallback>,
    queued_bytes: Arc<AtomicUsize>,
    status: Arc<SourceStatus>,
}

/// Both ends of the queue.
pub(in crate::source::nats) fn queue(
    config: &NatsConfig,
    clock: Clock,
    status: Arc<SourceStatus>,
    waker: Arc<ThreadWaker>,
) -> (Publisher, PublicationQueue) {
    let (queue, queued) = closing_queue(config.publish_queue_max);
    let publisher = Publisher {
        queue,
        queued_bytes: Arc::default(),
        queued_bytes_max: config.publish_queue_bytes_max,
        timeout: config.publish_timeout,
        clock,
        status,
        waker,
    };
    (publisher, PublicationQueue { queued, pending: VecDeque::new() })
}

impl EventSink for Publisher {
    /// Queues `publication`; a full queue answers [`PublishFailed::QueueFull`] at once.
    fn publish(&self, publication: Publication) {
        let queued = QueuedPublication {
            topic: publication.topic,
            kind: publication.kind,
            key: publication.idempotency_key,
            data: publication.data,
            bridged: publication.bridged,
            deadline: self.clock.now() + self.timeout,
            reply: Some(publication.reply),
            queued_bytes: Arc::clone(&self.queued_bytes),
            status: Arc::clone(&self.status),
        };
        let before = self.queued_bytes.fetch_add(queued.weight_bytes(), Ordering::Relaxed);
        if self.queued_bytes_max < before + queued.weight_bytes() {
            return queued.answer(Err(PublishFailed::QueueFull));
        }
        match self.queue.try_send(queued) {
            Ok(()) => self.waker.wake(),
            Err(TrySendError::Full(queued)) => queued.answer(Err(PublishFailed::QueueFull)),
            // The thread has ended: dropped, it is answered.
            Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl PublicationQueue {
    /// Whether nothing waits.
    pub(in crate::source::nats) fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.queued.receiver().is_empty()
    }

    /// When the oldest one gives up.
    pub(in crate::source::nats) fn deadline(&mut self) -> Option<Moment> {
        self.gather();
        self.pending.front().map(|oldest| oldest.deadline)
    }

    /// Answers those that nobody has sent in time; with a refusal, all: no connection would help them.
    pub(in crate::source::nats) fn expire(&mut self, refused: Option<PublishFailed>, now: Moment) {
        self.gather();
        while let Some(queued) = self.pending.pop_front_if(|oldest| refused.is_some() || oldest.deadline <= now) {
            queued.answer(Err(refused.unwrap_or(PublishFailed::Unavailable)));
            self.gather();
        }
    }

    /// The next ones to send, up to a batch.
    pub(in crate::source::nats) fn take_batch(&mut self) -> Vec<QueuedPublication> {
        self.gather();
        let mut bytes = 0;
        let mut batch = Vec::new();
        while batch.len() < BATCH_COUNT_MAX
            && bytes < BATCH_BYTES_MAX
            && let Some(queued) = self.pending.pop_front()
        {
            bytes += queued.weight_bytes();
            batch.push(queued);
        }
        batch
    }

    /// Holds as many as the next batch needs. The others stay in the queue, which is bounded.
    fn gather(&mut self) {
        let room = BATCH_COUNT_MAX.saturating_sub(self.pending.len());
        self.pending.extend(self.queued.receiver().try_iter().take(room));
    }
}

impl QueuedPublication {
    /// What it is taken to weigh in the queue.
    fn weight_bytes(&self) -> usize {
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Self>() + self.topic.as_str().len() + text(&self.kind) + text(&self.key) + self.data.len()
    }

    pub(in crate::source::nats) fn answer(mut self, receipt: Receipt) {
        self.give(receipt);
    }

    fn give(&mut self, receipt: Receipt) {
        if let Some(reply) = self.reply.take() {
            self.status.on_published(receipt.is_ok());
            if receipt.is_err() {
                self.bridged.iter().for_each(|bridged| bridged.set_broken());
            }
            reply(receipt);
        }
    }
}

impl Drop for QueuedPublication {
    fn drop(&mut self) {
        self.queued_bytes.fetch_sub(self.weight_bytes(), Ordering::Relaxed);
        self.give(Err(PublishFailed::Unavailable));
    }
}

impl fmt::Debug for QueuedPublication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueuedPublication").field("topic", &self.topic).finish_non_exhaustive()
    }
}
