//! The writer thread: publications of this hub, many to a round trip.
//!
//! It never sends anything twice. What was sent and not answered may have been delivered, so its publisher is told
//! [`PublishFailed::Unknown`] and decides; what was not sent waits for a connection, but no longer than
//! `publish_timeout`.

use std::{collections::VecDeque, io, sync::Arc, thread::JoinHandle, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use redis::RedisError;
use tracing::{info, warn};

use super::{
    Config, SourceStatus,
    backoff::Backoff,
    link::{Answer, Link},
    publisher::{self, Channels, Form, Publisher, Queued},
    script::Script,
    throttle::Throttle,
    tls,
};
use crate::{
    bus::PublishFailed,
    clock::{Clock, Moment},
    source::redis_address::Directory,
};

/// The most publications in one round trip: the first waits for the last one's answer.
const BATCH_COUNT_MAX: usize = 1000;

/// The most bytes in one round trip, but for the last publication.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What an attempt to connect gets, whoever waits meanwhile: some round trips to sentinels and server.
const CONNECT_TIME_MIN: Duration = Duration::from_secs(1);

/// Owns the writer thread.
#[derive(Debug)]
pub struct WriterHandle {
    publisher: Publisher,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread. Fails if `config` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub fn start_writer(config: Config, clock: Clock, status: Arc<SourceStatus>) -> io::Result<WriterHandle> {
    let form = Channels { idempotency_window: config.idempotency_window };
    start_writer_of(Arc::new(form), config, clock, status)
}

/// The same for publications that take another form.
pub(in crate::source) fn start_writer_of(
    form: Arc<dyn Form>,
    config: Config,
    clock: Clock,
    status: Arc<SourceStatus>,
) -> io::Result<WriterHandle> {
    let (publisher, queued) = publisher::queue(&config, form, clock, Arc::clone(&status));
    let (stop, stopped) = bounded(1);
    let mut writer = Writer {
        directory: directory(&config)?,
        link: None,
        knows_script: false,
        backoff: Backoff::new(config.backoff_min, config.backoff_max),
        retry: clock.now(),
        last_used: clock.now(),
        reader_disconnects: 0,
        failures: Throttle::default(),
        queued,
        pending: VecDeque::new(),
        pending_bytes: 0,
        commands: Vec::new(),
        stopped,
        stop_deadline: None,
        clock,
        status,
        config,
    };
    let thread = std::thread::Builder::new().name("redis-writer".to_owned()).spawn(move || writer.run())?;
    Ok(WriterHandle { publisher, stop, thread })
}

impl WriterHandle {
    /// Where to hand publications to; also what the bus is given as its outlet.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Sends what is queued, if the server takes it, and waits for the thread to end. Every publication is answered.
    pub fn stop(self) {
        // A second word to the same effect is not needed.
        let _ = self.stop.try_send(());
        if self.thread.join().is_err() {
            warn!("the Redis writer thread had panicked");
        }
    }
}

/// The same complaints about the files as the reader's, which are the better ones.
fn directory(config: &Config) -> io::Result<Directory> {
    if config.url.is_tls() {
        tls::client_config(config)?;
    }
    config.directory()
}

struct Writer {
    config: Config,
    clock: Clock,
    status: Arc<SourceStatus>,
    directory: Directory,
    link: Option<Link>,
    /// Whether the server at the other end has been told the script that publications may need.
    knows_script: bool,
    backoff: Backoff,
    /// When to try the next connection.
    retry: Moment,
    /// When the link last proved to be good.
    last_used: Moment,
    /// How many connections the reader had lost by then.
    reader_disconnects: u64,
    failures: Throttle,
    queued: Receiver<Queued>,
    /// Taken from the queue, to be sent next.
    pending: VecDeque<Queued>,
    pending_bytes: usize,
    /// The commands of a batch; kept for its capacity.
    commands: Vec<u8>,
    stopped: Receiver<()>,
    /// Until when what is queued may still be sent, once the end is near.
    stop_deadline: Option<Moment>,
}

impl Writer {
    /// What is still queued at the end is answered by being dropped.
    fn run(&mut self) {
        loop {
            self.gather();
            let now = self.clock.now();
            self.expire(now);
            if self.link.is_none() && self.retry <= now && self.stop_deadline.is_none() {
                self.connect();
            }
            self.check_link();
            self.publish_pending();
            if self.stop_deadline.is_some_and(|deadline| {
                self.link.is_none() || deadline <= now || (self.pending.is_empty() && self.queued.is_empty())
            }) {
                return;
            }
        }
    }

    /// Waits for something to do, then takes all that is queued, up to a batch.
    fn gather(&mut self) {
        let queued = if self.has_room() { self.queued.clone() } else { never() };
        select! {
            recv(queued) -> queued => self.pending_push(queued.ok()),
            recv(self.stopped) -> _ => self.stop_deadline = Some(self.clock.now() + self.config.publish_timeout),
            default(self.patience()) => {}
        }
        while self.has_room()
            && let Ok(queued) = self.queued.try_recv()
        {
            self.pending_push(Some(queued));
        }
    }

    fn has_room(&self) -> bool {
        self.pending.len() < BATCH_COUNT_MAX && self.pending_bytes < BATCH_BYTES_MAX
    }

    fn pending_push(&mut self, queued: Option<Queued>) {
        if let Some(queued) = queued {
            self.pending_bytes += queued.weight_bytes();
            self.pending.push_back(queued);
        }
    }

    fn pending_pop(&mut self) -> Option<Queued> {
        let queued = self.pending.pop_front()?;
        self.pending_bytes -= queued.weight_bytes();
        Some(queued)
    }

    /// How long there is nothing to do but to wait for publications.
    fn patience(&self) -> Duration {
        let deadline = match (&self.link, self.pending.front()) {
            (Some(_), None) => self.last_used + self.config.ping_interval,
            // The server had forgotten the script: they are to be sent again at once.
            (Some(_), Some(_)) => self.clock.now(),
            (None, None) => self.retry,
            (None, Some(oldest)) => self.retry.min(oldest.deadline),
        };
        deadline.since(self.clock.now())
    }

    /// Answers those that have waited too long for a connection: they were not sent.
    fn expire(&mut self, now: Moment) {
        while self.link.is_none()
            && self.pending.front().is_some_and(|oldest| oldest.deadline <= now)
            && let Some(queued) = self.pending_pop()
        {
            queued.answer(Err(PublishFailed::Unavailable));
        }
    }

    fn connect(&mut self) {
        // Whoever waits longest should not wait longer than it may. But under a steady stream of publications the oldest
        // is always about to give up, and a connection must be possible all the same.
        let patience = self.pending.front().map(|oldest| oldest.deadline.since(self.clock.now()));
        let patience = patience.map_or(Duration::MAX, |patience| patience.max(CONNECT_TIME_MIN));
        let timeout = patience.min(self.config.connect_timeout);
        let reader_disconnects = self.status.reader().disconnects();
        let opened = Link::open(&self.directory, self.status.consensus(), timeout.max(Duration::from_millis(1)));
        match opened.and_then(|link| link.set_timeout(self.config.publish_timeout).map(|()| link)) {
            Ok(link) => {
                self.link = Some(link);
                self.knows_script = false;
                self.backoff.reset();
                self.last_used = self.clock.now();
                self.reader_disconnects = reader_disconnects;
                self.status.writer().on_answer(self.last_used);
                self.status.writer().on_connected(self.last_used);
                info!("publishing through {}", self.config.url);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Asks for a sign of life when the link was idle, or when the reader lost its own since: a publication sent into a
    /// dead connection ends as [`PublishFailed::Unknown`], which this avoids.
    fn check_link(&mut self) {
        let now = self.clock.now();
        if self.link.as_mut().is_some_and(|link| link.is_outdated(self.status.consensus())) {
            self.fail(&(redis::ErrorKind::Client, "the sentinels name another server as the master").into());
            self.retry = now;
            return;
        }
        let disconnects = self.status.reader().disconnects();
        let is_idle = self.config.ping_interval <= now.since(self.last_used);
        let Some(link) = self.link.as_mut().filter(|_| is_idle || disconnects != self.reader_disconnects) else {
            return;
        };
        match link.ping() {
            Ok(()) => {
                self.last_used = self.clock.now();
                self.status.writer().on_answer(self.last_used);
                self.reader_disconnects = disconnects;
            }
            Err(error) => {
                self.fail(&error);
                // It was good until now, so the first attempt need not wait.
                self.retry = now;
            }
        }
    }

    /// One round trip with all that is pending.
    fn publish_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let Some(mut link) = self.link.take() else { return };
        self.commands.clear();
        let script = self.pending.iter().find_map(|queued| queued.request.script).filter(|_| !self.knows_script);
        self.commands.extend_from_slice(&load(script));
        for queued in &self.pending {
            queued.request.write(&mut self.commands);
        }
        let outcome = link.send(&self.commands).and_then(|()| self.receive_answers(&mut link, script));
        self.last_used = self.clock.now();
        self.commands.clear();
        self.commands.shrink_to(BATCH_BYTES_MAX);
        match outcome {
            Ok(()) => {
                self.status.writer().on_answer(self.last_used);
                self.link = Some(link);
            }
            Err(error) => {
                // Some of it may have reached the server, and there is no telling how much.
                while let Some(queued) = self.pending_pop() {
                    queued.answer(Err(PublishFailed::Unknown));
                }
                self.fail(&error);
            }
        }
    }

    /// The answers come in the order of the publications. One at a time, because the client library's own pipeline would
    /// wait out the timeout once for each of them.
    fn receive_answers(&mut self, link: &mut Link, loaded: Option<&Script>) -> Result<(), RedisError> {
        let deadline = self.clock.now() + self.config.publish_timeout;
        if loaded.is_some() {
            // Whether it was allowed shows when the script is called.
            link.skip_answer()?;
            self.knows_script = true;
        }
        let mut unknown = VecDeque::new();
        while !self.pending.is_empty() {
            let answer = link.receive_answer()?;
            let Some(queued) = self.pending_pop() else { break };
            match answer {
                Answer::Taken(id) => queued.answer(Ok(id)),
                // The server was told to forget its scripts; nothing was done, so it may be sent again.
                Answer::NoScript if loaded.is_none() => {
                    self.knows_script = false;
                    unknown.push_back(queued);
                }
                Answer::NoScript => self.refuse(queued, "it does not keep scripts"),
                Answer::Refused(error) => self.refuse(queued, &error),
            }
            if deadline <= self.clock.now() && !self.pending.is_empty() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
        unknown.into_iter().for_each(|queued| self.pending_push(Some(queued)));
        Ok(())
    }

    fn refuse(&mut self, queued: Queued, error: &str) {
        if let Some(suppressed) = self.failures.admit(self.clock.now()) {
            warn!(suppressed, "the server refuses a publication: {error}");
        }
        queued.answer(Err(PublishFailed::Unavailable));
    }

    fn fail(&mut self, error: &RedisError) {
        let now = self.clock.now();
        self.link = None;
        self.retry = now + self.backoff.next_delay(rand::random());
        self.status.writer().on_failure(&error.to_string(), now);
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "cannot publish through {}: {error}", self.config.url);
        }
    }
}

/// The command that makes the server know `script`.
fn load(script: Option<&Script>) -> Vec<u8> {
    let mut command = Vec::new();
    if let Some(script) = script {
        script.write_load(&mut command);
    }
    command
}
