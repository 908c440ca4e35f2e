//! The thread: how it is started and stopped, and what it does while there is no connection.

use std::{io, pin::pin, sync::Arc, thread::JoinHandle, time::Duration};

use crossbeam_channel::Receiver;
use tracing::warn;

use super::{PUBSUB_SOURCE, Target, conversation::probe_prefix, intake::Intake};
use crate::{
    bus::{Bus, Interest, PublishFailed, Refusal, Wake},
    clock::{Clock, Moment},
    source::{
        Backoff, LogRateLimiter, SourceSetup, SourceStatus,
        nats::{
            Connections, Connector, Fault, Link, NatsConfig, NatsLogin, SubjectFilter, ThreadWaker,
            publication_queue::PublicationQueue, unless_before,
        },
        processor::claim_processor,
        subscriptions::{Subscriptions, report_notices},
    },
};

/// Owns the thread.
#[derive(Debug)]
pub(super) struct ThreadHandle {
    waker: Arc<ThreadWaker>,
    thread: JoinHandle<()>,
}

impl ThreadHandle {
    /// Sends what is queued, if the server takes it, and waits for the thread to end. Topics stay as they are: the hub is going
    /// down.
    pub(super) fn stop(self) {
        self.waker.stop();
        if self.thread.join().is_err() {
            warn!("the NATS thread had panicked");
        }
    }
}

/// Starts the thread. An unreachable server is no failure but a [status](SourceStatus::ready).
pub(super) fn start_thread(
    config: &NatsConfig,
    connector: Connector,
    queue: PublicationQueue,
    bus: Arc<Bus>,
    setup: &SourceSetup,
    status: Arc<SourceStatus>,
    waker: Arc<ThreadWaker>,
) -> io::Result<ThreadHandle> {
    // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
    let (changes, interest) = crossbeam_channel::unbounded();
    let (own_bus, own_waker) = (Arc::clone(&bus), Arc::clone(&waker));
    let mut thread = PubSubThread::new(config, connector, queue, interest, own_bus, setup.clock, status, own_waker);
    thread.report_changes(setup.clock.now());
    bus.watch_interest(PUBSUB_SOURCE, changes, Arc::clone(&waker) as Arc<dyn Wake>);
    let pin = setup.core;
    let thread = std::thread::Builder::new().name("nats".to_owned()).spawn(move || {
        claim_processor("the NATS thread", pin, true);
        thread.live_on();
    })?;
    Ok(ThreadHandle { waker, thread })
}

/// The thread's state.
pub(super) struct PubSubThread {
    pub(super) config: NatsConfig,
    pub(super) connector: Connector,
    pub(super) bus: Arc<Bus>,
    pub(super) clock: Clock,
    pub(super) status: Arc<SourceStatus>,
    pub(super) waker: Arc<ThreadWaker>,
    interest: Receiver<Interest>,
    pub(super) queue: PublicationQueue,
    pub(super) subscriptions: Subscriptions<SubjectFilter>,
    pub(super) intake: Intake,
    pub(super) probe_prefix: String,
    pub(super) backoff: Backoff,
    /// The login that was used last.
    login: Arc<NatsLogin>,
    /// When to try the next connection.
    retry: Moment,
    /// Why publications are not worth waiting, while there is no connection: the server would refuse them.
    pub(super) refusal: Option<PublishFailed>,
    failures: LogRateLimiter,
    /// Until when what is queued may still be sent, once the end is near.
    pub(super) stop_deadline: Option<Moment>,
    /// Whether the bus and the status have something to learn.
    pub(super) has_changed: bool,
}

impl PubSubThread {
    /// A thread's state that connects at once.
    pub(super) fn new(
        config: &NatsConfig,
        connector: Connector,
        queue: PublicationQueue,
        interest: Receiver<Interest>,
        bus: Arc<Bus>,
        clock: Clock,
        status: Arc<SourceStatus>,
        waker: Arc<ThreadWaker>,
    ) -> Self {
        status.set_proof_age_max(config.proof_age_max);
        Self {
            login: connector.login(),
            connector,
            bus,
            clock,
            waker,
            interest,
            queue,
            subscriptions: Subscriptions::new(config),
            intake: Intake::new(Arc::clone(&status)),
            probe_prefix: probe_prefix(config),
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            retry: clock.now(),
            refusal: None,
            failures: LogRateLimiter::default(),
            stop_deadline: None,
            has_changed: true,
            status,
            config: config.clone(),
        }
    }

    /// Connects, while interest and publications go on being looked after. `None` at the end of the hub.
    async fn connect(&mut self) -> Result<Option<Link<Target>>, Fault> {
        let connector = self.connector.clone();
        self.login = connector.login();
        let login = Arc::clone(&self.login);
        let mut connecting = pin!(connector.connect(&login));
        loop {
            let far = self.clock.now() + self.config.ping_interval;
            match unless_before(connecting.as_mut(), self.wait(far)).await {
                Some(connected) => return connected.map(Some),
                None if self.waker.is_stopped() => return Ok(None),
                None => {}
            }
        }
    }

    /// Looks after interest and publications once, then waits for the next occasion, `deadline` at the latest. False at the end of
    /// the hub.
    async fn wait(&mut self, deadline: Moment) -> bool {
        let now = self.clock.now();
        self.tend(now);
        self.report_changes(now);
        if self.waker.is_stopped() {
            return false;
        }
        let own = [self.subscriptions.deadline(), self.queue.deadline()];
        let deadline = own.into_iter().flatten().fold(deadline, Moment::min);
        // Whether something came or not, the caller looks.
        let _ = tokio::time::timeout(deadline.since(now), self.waker.notify().notified()).await;
        true
    }

    /// Takes what changed in the interest and what timers brought, and answers publications that nobody could send in time.
    pub(super) fn tend(&mut self, now: Moment) {
        for change in self.interest.try_iter() {
            match change {
                Interest::Wanted(topic) => self.subscriptions.want(topic),
                Interest::Unwanted(topic) => self.subscriptions.unwant(&topic, now),
            }
            self.has_changed = true;
        }
        if self.subscriptions.deadline().is_some_and(|deadline| deadline <= now) {
            self.subscriptions.expire(now);
            self.subscriptions.retry_refused(now, rand::random());
            self.has_changed = true;
        }
        self.queue.expire(self.refusal, now);
    }

    /// Whether the thread is to end now: it was asked to, and no publication waits, whether in the queue or (unless `is_quiet`)
    /// for its confirmation. Or it waited long enough.
    pub(super) fn is_done(&mut self, is_quiet: bool, now: Moment) -> bool {
        if !self.waker.is_stopped() {
            return false;
        }
        let deadline = *self.stop_deadline.get_or_insert(now + self.config.publish_timeout);
        deadline <= now || (is_quiet && self.queue.is_empty())
    }

    /// Tells the bus and the status what has changed.
    pub(super) fn report_changes(&mut self, now: Moment) {
        if !std::mem::take(&mut self.has_changed) {
            return;
        }
        let mut feed = self.bus.feed();
        report_notices(&self.bus, &mut feed, &mut self.subscriptions, &self.status, now);
        drop(feed);
        if let Some((named, total, every)) = self.subscriptions.take_refusals() {
            self.status.set_refused(named, total, every);
        }
        self.status.set_subscriptions(self.subscriptions.tally(), now);
    }
}

impl Connections for PubSubThread {
    const NAME: &str = "the NATS thread";

    fn waker(&self) -> &ThreadWaker {
        &self.waker
    }

    fn backoff_max(&self) -> Duration {
        self.config.backoff_max
    }

    async fn live(&mut self) -> Result<(), Fault> {
        while self.clock.now() < self.retry {
            if !self.wait(self.retry).await {
                return Ok(());
            }
        }
        match self.connect().await? {
            Some(link) => self.serve(link).await,
            None => Ok(()),
        }
    }

    fn fail(&mut self, fault: &Fault) {
        let now = self.clock.now();
        let is_renewed = fault.is_refused_login() && self.connector.logins().renew(&self.login).is_some();
        let delay = if is_renewed { Duration::ZERO } else { self.backoff.next_delay(rand::random()) };
        let is_refused = fault.is_lasting() && !is_renewed;
        self.retry = now + delay;
        self.refusal = is_refused.then_some(PublishFailed::Refused(Refusal::Forbidden));
        self.subscriptions.on_disconnected();
        if is_refused {
            self.subscriptions.on_source_refused();
        }
        self.has_changed = true;
        // The bus first: a client that reads the status afterwards finds the topics stale already.
        self.report_changes(now);
        let was_connected = self.status.snapshot().connected;
        let status = Arc::clone(&self.status);
        [status.reader(), status.writer()].into_iter().for_each(|side| side.on_failure(&fault.to_string(), now));
        if let Some(suppressed) = self.failures.admit(now).or_else(|| was_connected.then_some(0)) {
            let delay_ms = delay.as_millis();
            warn!(suppressed, "no connection to {}: {fault}; next attempt in {delay_ms} ms", self.config.login);
        }
    }
}
