//! The writer thread: takes the queued records, commits them, has them published, and answers.

use std::{
    collections::VecDeque,
    io, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use tracing::{info, warn};

use super::{
    Config, KeepFailed, Record, StoreStatus,
    announcer::Announcer,
    backlog::Submission,
    batch::{Mark, Statements, Stored},
    fault::Fault,
    link::{Connector, Link},
    schema,
};
use crate::{
    clock::{Clock, Moment},
    source::{Backoff, LogRateLimiter},
};

/// Time limit of the migrations, which another hub may be running.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);
/// How often old keys are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);
/// Publications that are marked in one transaction.
const MARKS_MAX: usize = 5_000;

/// The running thread.
#[derive(Debug)]
pub(super) struct WriterHandle {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Starts the thread.
pub(super) fn start_writer(
    config: &Config,
    connector: Connector,
    clock: Clock,
    status: Arc<StoreStatus>,
    queued: Receiver<Submission>,
    announcer: Announcer,
    marked: Receiver<Mark>,
) -> io::Result<WriterHandle> {
    let (stop, stopped) = bounded(1);
    let mut writer = Writer {
        connector,
        session: None,
        backoff: Backoff::new(config.backoff_min, config.backoff_max),
        retry: clock.now(),
        opened: clock.now(),
        last_used: clock.now(),
        failures: LogRateLimiter::default(),
        refusals: LogRateLimiter::default(),
        queued,
        pending: VecDeque::new(),
        alone: 0,
        marked,
        marks: Vec::new(),
        announcer,
        sweep_due: clock.now(),
        is_sweeping: Arc::default(),
        prune_due: clock.now(),
        stopped,
        stop_deadline: None,
        clock,
        status,
        config: config.clone(),
    };
    let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || writer.run())?;
    Ok(WriterHandle { stop, thread })
}

impl WriterHandle {
    /// Stores the queued records if the database is reachable, and waits until the thread ends.
    pub(super) fn stop(self) {
        // If the channel is full, the message is there already.
        let _ = self.stop.try_send(());
        if self.thread.join().is_err() {
            warn!("the store's writer had panicked");
        }
    }
}

struct Session {
    link: Link,
    statements: Statements,
}

struct Writer {
    config: Config,
    clock: Clock,
    status: Arc<StoreStatus>,
    connector: Connector,
    session: Option<Session>,
    backoff: Backoff,
    /// When to try the next connection.
    retry: Moment,
    /// When the connection was made.
    opened: Moment,
    /// When the database last answered.
    last_used: Moment,
    failures: LogRateLimiter,
    refusals: LogRateLimiter,
    queued: Receiver<Submission>,
    /// Submissions taken from the queue, to be stored next.
    pending: VecDeque<Submission>,
    /// The number of submissions that are stored one by one, because the database refused them together and one may be the cause.
    alone: usize,
    marked: Receiver<Mark>,
    marks: Vec<Mark>,
    announcer: Announcer,
    sweep_due: Moment,
    /// Whether rows that were found in the outbox are still being published.
    is_sweeping: Arc<AtomicBool>,
    prune_due: Moment,
    stopped: Receiver<()>,
    /// The time limit for queued records during shutdown.
    stop_deadline: Option<Moment>,
}

impl Writer {
    /// Submissions that are still queued at the end are dropped, which answers them.
    fn run(&mut self) {
        while !self.is_done() {
            self.gather();
            let now = self.clock.now();
            self.expire(now);
            if self.session.is_none() && self.retry <= now && self.stop_deadline.is_none() {
                self.connect();
            }
            self.store_pending();
            self.remember_marks();
            self.look_after();
        }
    }

    fn is_done(&self) -> bool {
        let is_idle = self.pending.is_empty() && self.queued.is_empty();
        self.stop_deadline.is_some_and(|deadline| self.session.is_none() || deadline <= self.clock.now() || is_idle)
    }

    /// Waits for work, then takes the queued submissions, up to a batch.
    fn gather(&mut self) {
        let nothing = never();
        let queued = if self.has_room() { self.queued.clone() } else { nothing };
        let stopped = if self.stop_deadline.is_none() { self.stopped.clone() } else { never() };
        select! {
            recv(queued) -> submission => self.pending.extend(submission.ok()),
            recv(self.marked) -> mark => self.marks_push(mark.ok()),
            recv(stopped) -> _ => self.stop_deadline = Some(self.clock.now() + self.config.write_timeout),
            default(self.idle_time()) => {}
        }
        while self.has_room()
            && let Ok(submission) = self.queued.try_recv()
        {
            self.pending.push_back(submission);
        }
        while self.marks.len() < MARKS_MAX
            && let Ok(mark) = self.marked.try_recv()
        {
            self.marks_push(Some(mark));
        }
    }

    fn marks_push(&mut self, mark: Option<Mark>) {
        if let Some(mark) = mark {
            self.status.on_published(mark.took);
            self.marks.push(mark);
        }
    }

    fn has_room(&self) -> bool {
        let rows: usize = self.pending.iter().map(|submission| submission.records.len()).sum();
        rows < self.config.batch_rows_max
    }

    /// The time until the next task is due.
    fn idle_time(&self) -> Duration {
        let due = match (&self.session, self.pending.front()) {
            (Some(_), Some(_)) => return Duration::ZERO,
            (Some(_), None) => (self.last_used + self.config.ping_interval).min(self.sweep_due).min(self.prune_due),
            (None, None) => self.retry,
            (None, Some(oldest)) => self.retry.min(oldest.deadline),
        };
        due.since(self.clock.now())
    }

    /// Answers submissions that have waited too long for the database.
    fn expire(&mut self, now: Moment) {
        while self.session.is_none() && self.pending.front().is_some_and(|oldest| oldest.deadline <= now) {
            // Dropping it answers with what is known.
            self.pending.pop_front();
            self.alone = self.alone.saturating_sub(1);
        }
    }

    fn connect(&mut self) {
        match self.open() {
            Ok(session) => {
                self.session = Some(session);
                self.last_used = self.clock.now();
                self.opened = self.last_used;
                self.status.on_connected(self.last_used);
                info!("storing at {}", self.config.login.url);
            }
            Err(fault) => self.fail(&fault),
        }
    }

    fn open(&self) -> Result<Session, Fault> {
        let mut link = self.connector.open()?;
        let statements = link.run(MIGRATION_TIMEOUT, async |client| {
            schema::migrate(client).await?;
            Statements::prepare(client).await
        })?;
        Ok(Session { link, statements })
    }

    /// One transaction with all pending submissions, or with the first of those that are stored one by one.
    fn store_pending(&mut self) {
        let Some(mut session) = self.session.take() else { return };
        if self.pending.is_empty() {
            self.session = Some(session);
            return;
        }
        let count = if 0 < self.alone { 1 } else { self.pending.len() };
        self.alone = self.alone.saturating_sub(1);
        let began = self.clock.now();
        let mut is_committing = false;
        let outcome = self.store_first(count, &mut session, &mut is_committing);
        self.last_used = self.clock.now();
        match outcome {
            Ok(stored) => {
                self.session = Some(session);
                // Not when connecting: a server whose disk is full still accepts connections.
                self.backoff.reset();
                self.status.on_batch(stored.len(), self.last_used.since(began));
                self.status.on_answer(began, self.last_used);
                self.deliver(count, stored);
            }
            Err(fault) if fault.is_refusal() && !is_committing => {
                self.session = Some(session);
                self.status.on_answer(began, self.last_used);
                self.refuse(count, &fault);
            }
            // Nothing was stored, so another connection may store it.
            Err(fault) if !is_committing && self.was_closed_idle(&fault) => self.connect(),
            Err(fault) => {
                self.pending.iter_mut().take(count).for_each(|submission| submission.is_doubtful |= is_committing);
                self.fail(&fault);
            }
        }
    }

    fn store_first(&self, count: usize, session: &mut Session, is_committing: &mut bool) -> Result<Vec<Stored>, Fault> {
        let records: Vec<&Record> =
            self.pending.iter().take(count).flat_map(|submission| &submission.records).collect();
        let Session { link, statements } = session;
        link.run(self.config.write_timeout, async |client| statements.store(client, &records, is_committing).await)
    }

    /// Has the first `count` submissions published, which are then answered.
    fn deliver(&mut self, count: usize, stored: Vec<Stored>) {
        let mut stored = stored.into_iter();
        for mut submission in self.pending.drain(..count) {
            let records = mem::take(&mut submission.records);
            let of_it = stored.by_ref().take(records.len()).collect();
            let owners = submission.take_owners();
            self.announcer.announce(records, owners, of_it, submission.into_reply());
        }
    }

    /// The database refuses the first `count` submissions: each is tried alone. A single one is answered with the refusal.
    fn refuse(&mut self, count: usize, fault: &Fault) {
        if 1 < count {
            self.alone = count;
            return;
        }
        if let Some(suppressed) = self.refusals.admit(self.clock.now()) {
            warn!(suppressed, "the database refuses a record: {fault}");
        }
        if let Some(submission) = self.pending.pop_front() {
            self.status.on_refused();
            submission.answer(Err(KeepFailed::Refused));
        }
    }

    fn remember_marks(&mut self) {
        // If more is queued, the marks wait and join the next transaction.
        if self.marks.is_empty() || (!self.queued.is_empty() && self.marks.len() < MARKS_MAX) {
            return;
        }
        let marks = mem::take(&mut self.marks);
        if !self.ask(async |client, statements| statements.mark(client, &marks).await) {
            self.marks = marks;
        }
    }

    /// Publishes rows of the outbox, deletes old keys, checks the connection: each when it is due.
    fn look_after(&mut self) {
        let now = self.clock.now();
        if self.session.is_none() || self.stop_deadline.is_some() {
            return;
        }
        if self.sweep_due <= now {
            self.sweep_due = now + self.config.republish_after;
            self.sweep();
        } else if self.prune_due <= now {
            self.prune_due = now + PRUNE_INTERVAL;
            let age = self.config.idempotency_window;
            self.ask(async |client, statements| statements.prune(client, age).await.map(drop));
        } else if self.config.ping_interval <= now.since(self.last_used) {
            self.ask(async |client, _| Ok(client.batch_execute("").await?));
        }
    }

    /// Publishes rows that this hub, or another one, has stored and not published.
    fn sweep(&mut self) {
        if self.is_sweeping.load(Ordering::Acquire) {
            return;
        }
        let age = self.config.republish_after;
        let mut left = Vec::new();
        self.ask(async |client, statements| {
            left = statements.unpublished(client, age).await?;
            Ok(())
        });
        let (records, stored): (Vec<Record>, Vec<Stored>) =
            left.into_iter().filter_map(|mut stored| Some((stored.earlier.take()?, stored))).unzip();
        if records.is_empty() {
            return;
        }
        info!(rows = records.len(), "publishing what was stored and not published");
        self.status.on_republished(records.len());
        self.is_sweeping.store(true, Ordering::Release);
        let is_sweeping = Arc::clone(&self.is_sweeping);
        self.announcer.announce(records, None, stored, Box::new(move |_| is_sweeping.store(false, Ordering::Release)));
    }

    /// Does `work` if there is a connection. False if it failed, or there is none.
    fn ask(&mut self, work: impl AsyncFnOnce(&mut tokio_postgres::Client, &Statements) -> Result<(), Fault>) -> bool {
        let Some(mut session) = self.session.take() else { return false };
        let asked = self.clock.now();
        let Session { link, statements } = &mut session;
        let outcome = link.run(self.config.write_timeout, async |client| work(client, statements).await);
        self.last_used = self.clock.now();
        match outcome {
            Ok(()) => {
                self.backoff.reset();
                self.status.on_answer(asked, self.last_used);
                self.session = Some(session);
                true
            }
            Err(fault) if self.was_closed_idle(&fault) => {
                self.connect();
                false
            }
            Err(fault) => {
                self.fail(&fault);
                false
            }
        }
    }

    /// Whether a connection that has worked before was found closed. A server may close idle connections, which is no fault if
    /// another connection can be made at once.
    fn was_closed_idle(&self, fault: &Fault) -> bool {
        fault.is_closed() && self.config.backoff_min <= self.clock.now().since(self.opened)
    }

    fn fail(&mut self, fault: &Fault) {
        let now = self.clock.now();
        self.session = None;
        self.retry = now + self.backoff.next_delay(rand::random());
        self.status.on_failure(&fault.to_string(), now);
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "cannot store at {}: {fault}", self.config.login.url);
        }
    }
}
