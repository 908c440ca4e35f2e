//! One server that the reader follows: the connection or the attempts at one, the session on it, and what is subscribed there.
//!
//! Its owner calls [`ReaderLink::drive`] and [`ReaderLink::converse`] in each turn. Neither waits, but for the look-up of the
//! server's name while there is no connection.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use mio::{Registry, Token};
use tracing::{info, warn};

use super::{
    delivery::Delivery,
    fault::Fault,
    intake::Intake,
    session::{PubSubSession, SlotNews},
    socket::{Candidate, Dialer, ReaderSocket},
    subscriptions::{Subscriptions, report_notices},
};
use crate::{
    bus::{Bus, Interest},
    clock::Moment,
    source::{
        Backoff, Filled, LogRateLimiter, ReadBuffer, SourceStatus,
        redis::{ClusterView, Directory, MasterLease, NodeAddress, RedisConfig, ServerView, Unfit},
    },
};

/// Between two lines about messages that nobody asked for: the server chooses how many there are.
const UNASKED_LINE_INTERVAL: Duration = Duration::from_secs(60);

/// What is wrong with a server that is one node of a cluster.
const CLUSTER_NODE: &str = "the server is a node of a Redis Cluster: what other nodes keep is refused (MOVED); \
     name it as redis+cluster://, or use one server, or sentinels";

/// What the server is a part of.
#[derive(Clone, Debug)]
pub(in crate::source::redis) enum LinkKind {
    /// It is the only one, at present.
    Single,
    /// It is a master of a cluster, whose channels are sharded. `tag` is a key in a slot of it, if it has any; `names` knows the
    /// addresses of nodes.
    Shard { node: NodeAddress, tag: Option<String>, names: Arc<ClusterView> },
}

/// A server, and what the reader knows of it.
pub(in crate::source::redis) struct ReaderLink {
    config: RedisConfig,
    kind: LinkKind,
    /// What the server is called in log lines.
    name: String,
    bus: Arc<Bus>,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
    /// What the poll calls the socket.
    token: Token,
    dialer: Dialer,
    state: LinkState,
    backoff: Backoff,
    subscriptions: Subscriptions,
    intake: Intake,
    buffer: ReadBuffer,
    failures: LogRateLimiter,
    unasked: LogRateLimiter,
    /// The socket may hold more without a further edge.
    again: bool,
    /// What the server has told of slots.
    slot_news: SlotNews,
}

/// The state of the connection.
#[derive(Debug)]
enum LinkState {
    Down { retry: Moment },
    Dialing { connection: ReaderSocket, rest: VecDeque<Candidate>, deadline: Moment },
    Up { connection: ReaderSocket, session: Box<PubSubSession>, lease: MasterLease, demotions: u64, ready: bool },
}

impl ReaderLink {
    /// A link that dials in its first turn, to the server in `directory`, and whose socket the poll calls `token`.
    pub(in crate::source::redis) fn new(
        config: RedisConfig,
        directory: Directory,
        kind: LinkKind,
        token: Token,
        bus: Arc<Bus>,
        status: Arc<SourceStatus>,
        view: Arc<ServerView>,
        now: Moment,
    ) -> Self {
        status.set_proof_age_max(config.proof_age_max);
        let dialer = Dialer::new(directory, config.connect_timeout);
        let (name, dialer) = match &kind {
            LinkKind::Single => (config.url.to_string(), dialer),
            LinkKind::Shard { node, names, .. } => {
                (config.url.at(node).to_string(), dialer.with_names(Arc::clone(names)))
            }
        };
        let mut link = Self {
            dialer,
            state: LinkState::Down { retry: now },
            backoff: Backoff::new(config.backoff_min, config.backoff_max),
            subscriptions: Subscriptions::new(&config),
            intake: Intake::new(config.message_bytes_max, Arc::clone(&status)),
            buffer: ReadBuffer::new(config.read_buffer_bytes),
            failures: LogRateLimiter::default(),
            unasked: LogRateLimiter::every(UNASKED_LINE_INTERVAL),
            again: true,
            slot_news: SlotNews::default(),
            kind,
            name,
            token,
            bus,
            status,
            view,
            config,
        };
        link.report_counts(now);
        link
    }

    /// What is subscribed at the server.
    pub(in crate::source::redis) fn subscriptions(&mut self) -> &mut Subscriptions {
        &mut self.subscriptions
    }

    /// Whether the server serves the hub.
    pub(in crate::source::redis) fn is_ready(&self) -> bool {
        matches!(self.state, LinkState::Up { ready: true, .. })
    }

    /// What the server has told of slots since the last call; its end, too, says that something may have changed.
    pub(in crate::source::redis) fn take_slot_news(&mut self) -> SlotNews {
        std::mem::take(&mut self.slot_news)
    }

    /// Whether the probe's slot has left the server.
    pub(in crate::source::redis) fn has_lost_probe(&self) -> bool {
        matches!(&self.state, LinkState::Up { session, .. } if session.has_lost_probe())
    }

    /// The slots of the server have changed: `tag` is a key in one of them.
    pub(in crate::source::redis) fn set_probe_tag(&mut self, tag: &str) {
        if let LinkKind::Shard { tag: known, .. } = &mut self.kind {
            *known = Some(tag.to_owned());
        }
        if let LinkState::Up { session, .. } = &mut self.state {
            session.offer_probe_tag(tag);
        }
    }

    /// When it has something to do next without an edge; `None`: at once.
    pub(in crate::source::redis) fn deadline(&self) -> Option<Moment> {
        if self.again {
            return None;
        }
        let link = match &self.state {
            LinkState::Down { retry } => *retry,
            LinkState::Dialing { deadline, .. } => *deadline,
            LinkState::Up { session, .. } => session.deadline(),
        };
        Some(self.subscriptions.deadline().map_or(link, |linger| linger.min(link)))
    }

    /// Does everything that the socket's readiness and the link's timers ask for: one [`Feed`](crate::bus::Feed) with all that came,
    /// so that each reactor is woken at most once. `edge`: the poll has named the socket.
    pub(in crate::source::redis) fn drive(&mut self, registry: &Registry, edge: bool, now: Moment) {
        let readable = edge || std::mem::take(&mut self.again);
        let outcome = match &mut self.state {
            LinkState::Down { retry } if *retry <= now => {
                let candidates = self.dialer.candidates().map_err(|error| Fault::Unreachable(error.to_string()));
                candidates.and_then(|candidates| self.dial(candidates.into(), registry, now))
            }
            LinkState::Down { .. } => Ok(()),
            LinkState::Dialing { .. } => self.finish_dialing(registry, now),
            LinkState::Up { .. } if readable => self.receive(now),
            LinkState::Up { .. } => Ok(()),
        };
        if let Err(fault) = outcome {
            self.fail(&fault, now);
        }
    }

    /// Sends the commands that are due, takes proofs, and ends the connection if the server has been silent for too long.
    pub(in crate::source::redis) fn converse(&mut self, now: Moment) {
        if let Err(fault) = self.try_converse(now) {
            self.fail(&fault, now);
        }
    }

    /// Whether a timer of the subscriptions is due: then [`Self::take_interest`] has something to do without a change.
    pub(in crate::source::redis) fn is_interest_due(&self, now: Moment) -> bool {
        self.subscriptions.deadline().is_some_and(|due| due <= now)
    }

    /// Takes what changed in the interest, and what timers brought. The bus learns of it by [`Self::report_to_bus`].
    pub(in crate::source::redis) fn take_interest(&mut self, changes: impl Iterator<Item = Interest>, now: Moment) {
        for change in changes {
            match change {
                Interest::Wanted(topic) => self.subscriptions.want(topic),
                Interest::Unwanted(topic) => self.subscriptions.unwant(&topic, now),
            }
        }
        self.subscriptions.expire(now);
        self.subscriptions.retry_refused(now, rand::random());
    }

    /// Reports to the bus, and to the status, what the subscriptions found.
    pub(in crate::source::redis) fn report_to_bus(&mut self, now: Moment) {
        let mut feed = self.bus.feed();
        if let LinkState::Up { session, .. } = &self.state {
            feed.read_behind(session.newest_mark());
        }
        report_notices(&self.bus, &mut feed, &mut self.subscriptions, &self.status, now);
        let needs_mark = feed.take_needs_mark();
        drop(feed);
        if let LinkState::Up { session, .. } = &mut self.state
            && needs_mark
        {
            session.hurry_mark();
        }
        self.report_counts(now);
    }

    /// Tries one candidate after the other until an attempt is under way.
    fn dial(&mut self, mut rest: VecDeque<Candidate>, registry: &Registry, now: Moment) -> Result<(), Fault> {
        let mut failure = "the name has no address".to_owned();
        while let Some(candidate) = rest.pop_front() {
            match self.dialer.connect(&candidate, registry, self.token) {
                Ok(connection) => {
                    self.state = LinkState::Dialing { connection, rest, deadline: now + self.config.connect_timeout };
                    // A Unix socket is connected at once, and its edge may already have passed.
                    self.again = true;
                    return Ok(());
                }
                Err(error) => failure = error.to_string(),
            }
        }
        Err(Fault::Unreachable(failure))
    }

    fn finish_dialing(&mut self, registry: &Registry, now: Moment) -> Result<(), Fault> {
        let LinkState::Dialing { connection, rest, deadline } = &mut self.state else { return Ok(()) };
        let failure = match connection.poll_connected() {
            Ok(true) => {
                self.greet(now);
                return Ok(());
            }
            Ok(false) if now < *deadline => return Ok(()),
            Ok(false) => "no answer in time".to_owned(),
            Err(error) => error.to_string(),
        };
        if rest.is_empty() {
            return Err(Fault::Unreachable(failure));
        }
        let rest = std::mem::take(rest);
        self.dial(rest, registry, now)
    }

    fn greet(&mut self, now: Moment) {
        let LinkState::Dialing { connection, .. } = std::mem::replace(&mut self.state, LinkState::Down { retry: now })
        else {
            return;
        };
        self.config.take_login();
        let session = match &self.kind {
            LinkKind::Single => PubSubSession::open(&self.config, rand::random(), now),
            LinkKind::Shard { tag, .. } => {
                PubSubSession::open_sharded(&self.config, tag.as_deref(), rand::random(), now)
            }
        };
        let session = Box::new(session);
        let lease = MasterLease::new(self.dialer.target().clone(), self.view.sentinels());
        let demotions = self.view.demotions();
        self.state = LinkState::Up { connection, session, lease, demotions, ready: false };
        self.again = true;
    }

    /// Reads what there is, up to a buffer full, and hands it to the bus as one batch.
    fn receive(&mut self, now: Moment) -> Result<(), Fault> {
        let LinkState::Up { connection, .. } = &mut self.state else { return Ok(()) };
        let filled = self.buffer.fill(|room| connection.read(room));
        // What was just read may follow a loss: a fault found here reports the loss first, and drops the read data as a part of it.
        self.check_standing()?;
        let LinkState::Up { session, .. } = &mut self.state else { return Ok(()) };
        let mut feed = self.bus.feed();
        feed.read_behind(session.newest_mark());
        let mut delivery = Delivery {
            session,
            config: &self.config,
            subscriptions: &mut self.subscriptions,
            intake: &mut self.intake,
            bus: &self.bus,
            status: &self.status,
            received: 0,
            unasked: 0,
            answers: false,
        };
        let parsed = delivery.parse(&mut self.buffer, &mut feed, now);
        let needs_mark = feed.take_needs_mark();
        let (received, unasked, answers) = (delivery.received, delivery.unasked, delivery.answers);
        drop(feed);
        if needs_mark {
            session.hurry_mark();
        }
        if answers {
            self.slot_news.merge(session.take_slot_news());
        }
        if 0 < unasked {
            self.status.on_unasked(unasked);
            if let Some(suppressed) = self.unasked.admit(now) {
                warn!(suppressed, "{} sends messages on channels that are not subscribed: dropped", self.name);
            }
        }
        if 0 < received {
            self.status.on_events(received, now);
        }
        if answers {
            self.report_counts(now);
        }
        parsed?;
        match filled {
            Filled::Drained => Ok(()),
            Filled::Full => {
                self.again = true;
                Ok(())
            }
            Filled::End => Err(Fault::Closed),
            Filled::Failed(error) => Err(Fault::Broken(error.to_string())),
        }
    }

    /// Fails if the sentinels agree on another server, or if the writer found that this one is no master any more.
    fn check_standing(&mut self) -> Result<(), Fault> {
        let LinkState::Up { lease, demotions, .. } = &mut self.state else { return Ok(()) };
        if lease.is_outdated(self.view.sentinels()) {
            return Err(Fault::Outdated);
        }
        // The writer found a replica there. It may be the master again by now, but what was published meanwhile is lost.
        if *demotions != self.view.demotions() {
            return Err(Fault::Unfit(Unfit::Replica));
        }
        Ok(())
    }

    fn try_converse(&mut self, now: Moment) -> Result<(), Fault> {
        self.check_standing()?;
        let LinkState::Up { connection, session, ready, .. } = &mut self.state else { return Ok(()) };
        session.poll_commands(&mut self.subscriptions, now);
        connection.send(session.outgoing()).map_err(|error| Fault::Broken(error.to_string()))?;
        if let Some(took) = session.take_proof() {
            self.status.on_proof(took, now);
        }
        match session.take_publishing() {
            Some(Ok(())) => self.status.on_publish_taken(None),
            Some(Err(text)) => self.status.on_publish_refused(None, &text, true, now),
            None => {}
        }
        if session.is_ready() && !*ready {
            *ready = true;
            self.backoff.reset();
            self.status.reader().on_connected(now);
            info!("connected to {}", self.name);
            // Where the URL names a cluster, this is no surprise.
            let is_lone_node = session.is_cluster_node() && !self.config.url.names_cluster();
            self.status.set_limitation(is_lone_node.then_some(CLUSTER_NODE));
            if is_lone_node {
                warn!("{}: {CLUSTER_NODE}", self.name);
            }
        }
        session.check_deadlines(now)
    }

    /// Ends the connection; the next attempt waits.
    pub(super) fn fail(&mut self, fault: &Fault, now: Moment) {
        let is_renewed = fault.is_refused_login() && self.config.renew_login();
        let delay = if is_renewed { Duration::ZERO } else { self.backoff.next_delay(rand::random()) };
        let was_ready = matches!(self.state, LinkState::Up { ready: true, .. });
        self.state = LinkState::Down { retry: now + delay };
        self.buffer.clear();
        self.again = false;
        self.subscriptions.on_disconnected();
        self.slot_news.is_outdated = true;
        // During a failover the sentinels, or the other nodes, name another server soon.
        let may_move = self.config.url.names_sentinels() || self.config.url.names_cluster();
        let is_passing = matches!(fault, Fault::Unfit(_)) && may_move;
        if fault.is_lasting() && !is_passing && !is_renewed {
            self.subscriptions.on_source_refused();
        }
        // The bus first: a client that reads the status afterwards finds the topics stale already.
        self.report_to_bus(now);
        self.status.reader().on_failure(&fault.to_string(), now);
        if let Some(suppressed) = self.failures.admit(now).or_else(|| was_ready.then_some(0)) {
            warn!(suppressed, "no connection to {}: {fault}; next attempt in {} ms", self.name, delay.as_millis());
        }
    }

    fn report_counts(&mut self, now: Moment) {
        if let Some((named, total, every)) = self.subscriptions.take_refusals() {
            self.status.set_refused(named, total, every);
        }
        self.status.set_subscriptions(self.subscriptions.tally(), now);
    }
}
