//! The reader's thread: how it is started and stopped, and what it does while there is no connection.

use std::{pin::pin, sync::Arc, thread::JoinHandle, time::Duration};

use crossbeam_channel::Receiver;
use tracing::warn;

use super::{
    JETSTREAM_SOURCE,
    api::Api,
    config::{JetStreamConfig, StreamSpec},
    link::JetLink,
    quiet::QuietTopics,
    stream::KeptStream,
    topics::{FollowedTopics, Stage},
};
use crate::{
    bus::{Bus, Interest, Wake},
    clock::{Clock, Moment},
    event::EventId,
    source::{
        Backoff, LogRateLimiter, SourceSetup, SourceStatus,
        channel_names::ChannelNames,
        log_refusals::LogRefusals,
        nats::{Connections, Connector, Fault, NatsConfig, NatsLogin, ThreadWaker, unless_before},
        processor::claim_processor,
        status::SubscriptionCounts,
    },
};

/// Owns the thread.
#[derive(Debug)]
pub(super) struct ReaderHandle {
    waker: Arc<ThreadWaker>,
    thread: JoinHandle<()>,
}

impl ReaderHandle {
    /// Waits for the thread to end. Topics stay as they are: the hub is going down.
    pub(super) fn stop(self) {
        self.waker.stop();
        if self.thread.join().is_err() {
            warn!("the JetStream reader had panicked");
        }
    }
}

/// Starts the thread. An unreachable server is no failure but a [status](SourceStatus::ready).
pub(super) fn start_reader(
    nats: &NatsConfig,
    config: &JetStreamConfig,
    specs: &[StreamSpec],
    quiet: &[Arc<QuietTopics>],
    connector: Connector,
    bus: Arc<Bus>,
    setup: &SourceSetup,
    status: Arc<SourceStatus>,
) -> std::io::Result<ReaderHandle> {
    // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
    let (changes, interest) = crossbeam_channel::unbounded();
    let waker = Arc::<ThreadWaker>::default();
    status.set_proof_age_max(nats.proof_age_max);
    let now = setup.clock.now();
    let mut reader = Reader {
        api: Api::new(&config.domain),
        login: connector.login(),
        connector,
        bus: Arc::clone(&bus),
        clock: setup.clock,
        waker: Arc::clone(&waker),
        interest,
        streams: specs
            .iter()
            .zip(quiet)
            .map(|(spec, quiet)| KeptStream::new(spec.clone(), Arc::clone(quiet), now))
            .collect(),
        topics: FollowedTopics::new(nats.linger),
        names: ChannelNames::default(),
        refused: LogRefusals::default(),
        has_flow_control: true,
        backoff: Backoff::new(nats.backoff_min, nats.backoff_max),
        retry: now,
        failures: LogRateLimiter::default(),
        refusals: LogRateLimiter::default(),
        status,
        nats: nats.clone(),
    };
    reader.report_counts();
    bus.watch_interest(JETSTREAM_SOURCE, changes, Arc::clone(&waker) as Arc<dyn Wake>);
    let pin = setup.core;
    let thread = std::thread::Builder::new().name("jetstream".to_owned()).spawn(move || {
        claim_processor("the JetStream thread", pin, true);
        reader.live_on();
    })?;
    Ok(ReaderHandle { waker, thread })
}

/// The thread's state.
pub(super) struct Reader {
    pub(super) nats: NatsConfig,
    pub(super) api: Api,
    connector: Connector,
    /// The login that was used last.
    login: Arc<NatsLogin>,
    pub(super) bus: Arc<Bus>,
    pub(super) clock: Clock,
    pub(super) status: Arc<SourceStatus>,
    pub(super) waker: Arc<ThreadWaker>,
    interest: Receiver<Interest>,
    pub(super) streams: Vec<KeptStream>,
    pub(super) topics: FollowedTopics,
    pub(super) names: ChannelNames,
    pub(super) refused: LogRefusals,
    /// Whether the server lets the hub answer flow control.
    pub(super) has_flow_control: bool,
    pub(super) backoff: Backoff,
    /// When to try the next connection.
    retry: Moment,
    failures: LogRateLimiter,
    refusals: LogRateLimiter,
}

impl Reader {
    /// Takes what changed in the interest.
    pub(super) fn take_interest(&mut self, now: Moment) {
        let expired = self.topics.take_expired(now);
        for (topic, _) in &expired {
            self.bus.mark_stale(topic);
            self.refused.remove(topic, &self.status);
        }
        let mut has_changed = !expired.is_empty();
        for change in self.interest.try_iter().collect::<Vec<Interest>>() {
            has_changed = true;
            match change {
                Interest::Wanted(topic) => {
                    let Some(stream) = self.streams.iter().position(|stream| stream.spec.keeps(&topic)) else {
                        continue;
                    };
                    // Whoever came just before the topic was marked stale reads already. Empty from the start: nobody has seen it.
                    let left = expired.iter().find(|(known, _)| *known == topic).map(|(_, stage)| *stage);
                    let left = left.filter(|_| self.bus.newest_id(&topic) != EventId::default());
                    self.topics.want(&topic, stream, left.is_some());
                    if left == Some(Stage::Live) && self.streams[stream].follower.is_some() {
                        self.topics.set_stage(&topic, Stage::Live);
                        self.bus.mark_live(&topic, now);
                    }
                    if self.streams[stream].follower.is_none() {
                        self.streams[stream].check_due = self.streams[stream].check_due.min(self.retry_at(stream, now));
                    }
                }
                Interest::Unwanted(topic) => self.topics.unwant(&topic, now),
            }
        }
        if has_changed {
            self.report_counts();
        }
    }

    /// When a stream that is wanted may be looked at: at once, unless that has just failed.
    fn retry_at(&self, stream: usize, now: Moment) -> Moment {
        if self.streams[stream].failures == 0 { now } else { self.streams[stream].check_due }
    }

    pub(super) fn log_refusal(&mut self, what: &str, now: Moment) {
        if let Some(suppressed) = self.refusals.admit(now) {
            warn!(suppressed, "{what}");
        }
    }

    pub(super) fn report_counts(&self) {
        let (wanted, confirmed) = self.topics.counts();
        let tally = SubscriptionCounts { wanted, confirmed, denied: self.refused.count(), settled: true };
        self.status.set_subscriptions(tally, self.clock.now());
    }
}

impl Connections for Reader {
    const NAME: &str = "JetStream's reader";

    fn waker(&self) -> &ThreadWaker {
        &self.waker
    }

    fn backoff_max(&self) -> Duration {
        self.nats.backoff_max
    }

    async fn live(&mut self) -> Result<(), Fault> {
        while self.clock.now() < self.retry {
            let now = self.clock.now();
            self.take_interest(now);
            if self.waker.is_stopped() {
                return Ok(());
            }
            // Woken or not, the loop looks at everything.
            let _ = tokio::time::timeout(self.retry.since(now), self.waker.notify().notified()).await;
        }
        self.login = self.connector.login();
        let (connector, login) = (self.connector.clone(), Arc::clone(&self.login));
        let mut opening = pin!(JetLink::open(&connector, &login));
        let link = loop {
            match unless_before(opening.as_mut(), self.waker.notify().notified()).await {
                Some(opened) => break opened?,
                None if self.waker.is_stopped() => return Ok(()),
                None => {}
            }
        };
        self.serve(link).await
    }

    fn fail(&mut self, fault: &Fault) {
        let now = self.clock.now();
        let is_renewed = fault.is_refused_login() && self.connector.logins().renew(&self.login).is_some();
        let delay = if is_renewed { Duration::ZERO } else { self.backoff.next_delay(rand::random()) };
        self.retry = now + delay;
        // The next server, or the next rights, may let it.
        self.has_flow_control = true;
        for stream in &mut self.streams {
            stream.follower = None;
            stream.check_due = now;
        }
        let was_connected = self.status.snapshot().connected;
        self.status.reader().on_failure(&fault.to_string(), now);
        if let Some(suppressed) = self.failures.admit(now).or_else(|| was_connected.then_some(0)) {
            let delay_ms = delay.as_millis();
            warn!(suppressed, "cannot read streams of {}: {fault}; next attempt in {delay_ms} ms", self.nats.login);
        }
    }
}
