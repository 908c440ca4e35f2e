//! The queue to the writer's thread, bounded by count and by bytes. Every publication put into it is answered.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::TrySendError;

use super::script::PublishCommand;
use crate::{
    bus::{EventSink, Publication, PublishFailed, Receipt, ReceiptCallback},
    clock::{Clock, Moment},
    source::{
        SourceStatus,
        closing_queue::{ClosingReceiver, ClosingSender, closing_queue},
        redis::{Flight, RedisConfig},
    },
    topic::Topic,
};

/// Hands publications to the writer thread. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::source::redis) struct Publisher {
    queue: ClosingSender<QueuedPublication>,
    intake: PublicationIntake,
}

/// Takes publications in, within a bound of bytes. Clones share the bound.
#[derive(Clone, Debug)]
pub(in crate::source::redis) struct PublicationIntake {
    queued_bytes: Arc<AtomicUsize>,
    queued_bytes_max: usize,
    timeout: Duration,
    clock: Clock,
    status: Arc<SourceStatus>,
    form: Arc<dyn PublishEncoder>,
}

/// Encodes publications as commands.
pub(in crate::source::redis) trait PublishEncoder: Send + Sync + fmt::Debug {
    /// The command that publishes it; its answer is a number, or the id that the server gave the event.
    fn request(&self, publication: &Publication) -> PublishCommand;

    /// The first number of the oldest version of the server that does as it should.
    fn least_version(&self) -> u64 {
        0
    }
}

/// A publication on its way. Dropped without an answer, it answers [`PublishFailed::Unavailable`]: nobody sent it.
pub(in crate::source::redis) struct QueuedPublication {
    pub(in crate::source::redis) topic: Topic,
    pub(super) request: PublishCommand,
    /// Until when it may wait to be sent.
    pub(in crate::source::redis) deadline: Moment,
    /// Set while it is on its way to a node of a cluster.
    pub(in crate::source::redis) flight: Option<Flight>,
    reply: Option<ReceiptCallback>,
    queued_bytes: Arc<AtomicUsize>,
    status: Arc<SourceStatus>,
}

/// Both ends of the queue.
pub(super) fn queue(
    config: &RedisConfig,
    form: Arc<dyn PublishEncoder>,
    clock: Clock,
    status: Arc<SourceStatus>,
) -> (Publisher, ClosingReceiver<QueuedPublication>) {
    let (queue, queued) = closing_queue(config.publish_queue_max);
    (Publisher { queue, intake: PublicationIntake::new(config, form, clock, status) }, queued)
}

impl PublicationIntake {
    pub(in crate::source::redis) fn new(
        config: &RedisConfig,
        form: Arc<dyn PublishEncoder>,
        clock: Clock,
        status: Arc<SourceStatus>,
    ) -> Self {
        Self {
            queued_bytes: Arc::default(),
            queued_bytes_max: config.publish_queue_bytes_max,
            timeout: config.publish_timeout,
            clock,
            status,
            form,
        }
    }

    /// The publication as a command. `None`: it is one too many, which it was answered.
    pub(in crate::source::redis) fn take(&self, publication: Publication) -> Option<QueuedPublication> {
        let queued = QueuedPublication {
            request: self.form.request(&publication),
            topic: publication.topic,
            deadline: self.clock.now() + self.timeout,
            flight: None,
            reply: Some(publication.reply),
            queued_bytes: Arc::clone(&self.queued_bytes),
            status: Arc::clone(&self.status),
        };
        let before = self.queued_bytes.fetch_add(queued.weight_bytes(), Ordering::Relaxed);
        if self.queued_bytes_max < before + queued.weight_bytes() {
            queued.answer(Err(PublishFailed::QueueFull));
            return None;
        }
        Some(queued)
    }
}

impl EventSink for Publisher {
    /// Queues `publication`; a full queue answers [`PublishFailed::QueueFull`] at once.
    fn publish(&self, publication: Publication) {
        let Some(queued) = self.intake.take(publication) else { return };
        match self.queue.try_send(queued) {
            Err(TrySendError::Full(queued)) => queued.answer(Err(PublishFailed::QueueFull)),
            // The thread has ended: dropped, it is answered.
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
        }
    }
}

impl QueuedPublication {
    /// What it is taken to weigh in the queue.
    pub(super) fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.topic.as_str().len() + self.request.weight_bytes()
    }

    pub(in crate::source::redis) fn answer(mut self, receipt: Receipt) {
        self.give(receipt);
    }

    fn give(&mut self, receipt: Receipt) {
        if let Some(reply) = self.reply.take() {
            self.status.on_published(receipt.is_ok());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Plain;

    impl PublishEncoder for Plain {
        fn request(&self, publication: &Publication) -> PublishCommand {
            PublishCommand { arguments: vec![publication.data.clone()], script: None }
        }
    }

    #[test]
    fn what_nobody_sends_is_answered_when_the_writer_ends() {
        let status = Arc::new(SourceStatus::new(crate::bus::SourceName("redis")));
        let config = RedisConfig { publish_queue_max: 2, ..RedisConfig::default() };
        let (publisher, queued) = queue(&config, Arc::new(Plain), Clock::start(), status);
        let (sender, answers) = std::sync::mpsc::channel();
        let publish = |number: usize| {
            let sender = sender.clone();
            let reply = Box::new(move |receipt| sender.send((number, receipt)).expect("the test waits for it"));
            let topic = Topic::parse("a").expect("a good name");
            publisher.publish(Publication {
                topic,
                kind: None,
                data: "x".into(),
                idempotency_key: None,
                bridged: None,
                reply,
            });
        };
        (0..3).for_each(publish);
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [(2, Err(PublishFailed::QueueFull))]);
        drop(queued);
        publish(3);
        let unavailable = Err(PublishFailed::Unavailable);
        assert_eq!(answers.try_iter().collect::<Vec<_>>(), [0, 1, 3].map(|number| (number, unavailable)));
        assert_eq!(publisher.intake.queued_bytes.load(Ordering::Relaxed), 0);
    }
}
