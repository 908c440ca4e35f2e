//! The writer thread, from outside: how it is started and stopped.

use std::{collections::VecDeque, io, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::warn;

use super::{
    PublishEncoder, QueuedPublication, Writer,
    publisher::{self, Publisher},
};
use crate::{
    clock::Clock,
    source::{
        Backoff, LogRateLimiter, SourceStatus,
        closing_queue::ClosingReceiver,
        redis::{Directory, RedisConfig, Router, ServerView},
    },
};

/// Owns the writer thread.
#[derive(Debug)]
pub(in crate::source::redis) struct WriterHandle {
    publisher: Publisher,
    thread: WriterThread,
}

/// A writer's thread, from outside.
#[derive(Debug)]
pub(in crate::source::redis) struct WriterThread {
    stop: Sender<End>,
    thread: JoinHandle<()>,
}

/// How a writer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It sends what is queued, if the server takes it in time.
    Drain,
    /// It gives back what it has not sent.
    GiveBack,
}

/// Starts the thread, for publications in this form. Fails if `config` names files that cannot be used; an unreachable server is no
/// failure but a [status](SourceStatus::ready).
pub(in crate::source::redis) fn start_writer_with(
    form: Arc<dyn PublishEncoder>,
    config: RedisConfig,
    clock: Clock,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
) -> io::Result<WriterHandle> {
    let directory = config.directory()?.with_least_version(form.least_version());
    let (publisher, queued) = publisher::queue(&config, form, clock, Arc::clone(&status));
    let receiver = queued.receiver().clone();
    let thread = WriterThread::start(config, directory, receiver, clock, status, view, None, Some(queued))?;
    Ok(WriterHandle { publisher, thread })
}

impl WriterThread {
    /// Starts a thread that publishes what is `queued` to the server in `directory`. In a cluster, `router` gets back what the server
    /// does not take because another one does. At the end `closing` is dropped, and with it what is left in the queue.
    pub(in crate::source::redis) fn start(
        config: RedisConfig,
        directory: Directory,
        queued: Receiver<QueuedPublication>,
        clock: Clock,
        status: Arc<SourceStatus>,
        view: Arc<ServerView>,
        router: Option<Arc<Router>>,
        closing: Option<ClosingReceiver<QueuedPublication>>,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(2);
        let mut writer = Writer {
            directory,
            link: None,
            knows_script: false,
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            retry: clock.now(),
            opened: clock.now(),
            last_used: clock.now(),
            refusal: None,
            answered: Vec::new(),
            elsewhere: Vec::new(),
            reader_disconnects: 0,
            failures: LogRateLimiter::default(),
            queued,
            pending: VecDeque::new(),
            pending_bytes: 0,
            commands: Vec::new(),
            stopped,
            stop_deadline: None,
            gives_back: false,
            clock,
            status,
            view,
            router,
            config,
        };
        let thread = std::thread::Builder::new().name("redis-writer".to_owned()).spawn(move || {
            writer.run();
            drop(closing);
        })?;
        Ok(Self { stop, thread })
    }

    /// Tells it to end, once what is queued is sent.
    pub(in crate::source::redis) fn signal_drain(&self) {
        // Two words are enough: it has ended by then.
        let _ = self.stop.try_send(End::Drain);
    }

    /// Tells it to end, and to give back to the router what it has not sent.
    pub(in crate::source::redis) fn signal_give_back(&self) {
        let _ = self.stop.try_send(End::GiveBack);
    }

    pub(in crate::source::redis) fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits until it has ended.
    pub(in crate::source::redis) fn join(self) {
        if self.thread.join().is_err() {
            warn!("the Redis writer thread had panicked");
        }
    }
}

impl WriterHandle {
    /// Where to hand publications to; also what the bus is given as its outlet.
    pub(in crate::source::redis) fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Sends what is queued, if the server takes it, and waits for the thread to end. Every publication is answered.
    pub(in crate::source::redis) fn stop(self) {
        self.thread.signal_drain();
        self.thread.join();
    }
}
