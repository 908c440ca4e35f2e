//! What differs from seed to seed.

use std::{sync::Arc, time::Duration};

use fanfare::{
    bus::{Class, LogKind},
    reactor::Config,
};
use fanfare_core::{
    budget::Budget,
    log::{Bounds, Policy, Retention},
    protocol::{EngineLimits, RateLimit, SessionLimits, websocket},
    topic::Pattern,
};
use rand::{RngExt, rngs::SmallRng};

use crate::{
    broken::Fault,
    net::Weather,
    source::STREAM_SOURCE,
    truth::{Rules, topic_name},
};

/// What differs from seed to seed.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) reactors: usize,
    /// The class of each topic.
    pub(crate) topics: Vec<TopicPlan>,
    /// Clients at once.
    pub(crate) clients_max: usize,
    pub(crate) inbox_events_max: usize,
    /// Events grow too old within the simulated time.
    pub(crate) ages: bool,
    /// What the hub may hold; zero: whatever it likes.
    pub(crate) budget_bytes: usize,
    /// Publications travel through a source.
    pub(crate) sink: bool,
    /// Topics are confirmed by a source.
    pub(crate) confirms: bool,
    /// How long a closing connection may take to take its last bytes.
    pub(crate) linger: Duration,
    pub(crate) connections_max: usize,
    pub(crate) connections_per_ip_max: usize,
    pub(crate) weather: Weather,
    /// How Socket.IO clients speak.
    pub(crate) dialect: SocketDialect,
    /// By which rules clients have to show who they are; `None`: nobody has to.
    pub(crate) auth: Option<Arc<fanfare::auth::AuthRules>>,
    /// What is broken on purpose.
    pub(crate) fault: Option<Fault>,
}

/// How Socket.IO clients speak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SocketDialect {
    /// The namespace they enter.
    pub(crate) namespace: &'static str,
    /// Events carry the places in all their topics.
    pub(crate) recovers: bool,
}

/// A topic's class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TopicPlan {
    pub(crate) policy: Policy,
    pub(crate) history_events: usize,
    pub(crate) lag_events: usize,
    pub(crate) priority: i8,
    pub(crate) is_stream: bool,
}

/// A namespace of Socket.IO that is not the one of clients that name none.
pub(crate) const ELSEWHERE: &str = "/elsewhere";

/// The longest silence on a stream.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(3);

/// Clients here stand still for as long as they like.
const NEVER: Duration = Duration::from_secs(1_000_000);

/// However tight the memory is, so much is kept for readers that are behind: this many events …
const KEPT_EVENTS_TIGHT: usize = 64;
/// … of these bytes, where there is a budget at all.
const KEPT_BYTES_TIGHT: usize = 20_000;

impl Plan {
    pub(crate) fn choose(random: &mut SmallRng) -> Self {
        // Now and then so many at one place that a lap takes several slices.
        let is_crowded = random.random_range(0..12) == 0;
        let count = if is_crowded { 1 } else { random.random_range(1..=6) };
        let has_streams = random.random_range(0..3) == 0;
        let budget_bytes = pick(random, &[0, 0, 0, 0, 0, 300_000, 1_000_000]);
        // Where memory is tight, a log that need not keep anything would keep nothing.
        let lag_least = if budget_bytes == 0 { 0 } else { 40 };
        Self {
            reactors: if is_crowded { 1 } else { random.random_range(1..=3) },
            topics: (0..count).map(|_| TopicPlan::choose(random, has_streams, lag_least)).collect(),
            clients_max: if is_crowded { 100 } else { 24 },
            inbox_events_max: pick(random, &[1, 2, 8, 64, 10_000]),
            ages: random.random_range(0..8) == 0,
            budget_bytes,
            sink: random.random_range(0..5) < 2,
            confirms: random.random_range(0..3) == 0,
            linger: Duration::from_secs(pick(random, &[2, 10_000]) as u64),
            connections_max: pick(random, &[3, 1000, 1000, 1000]),
            connections_per_ip_max: pick(random, &[0, 0, 0, 4]),
            weather: Weather {
                short_write_odds: pick(random, &[0, 3, 20]) as u32,
                drift: Duration::from_micros(pick(random, &[0, 20, 400]) as u64),
            },
            dialect: SocketDialect::of(0),
            auth: None,
            fault: None,
        }
    }

    /// What the truth must know of the topics.
    pub(crate) fn rules(&self) -> Vec<Rules> {
        self.topics.iter().map(|topic| self.rules_of(topic)).collect()
    }

    fn rules_of(&self, topic: &TopicPlan) -> Rules {
        let TopicPlan { policy, history_events, lag_events, is_stream, .. } = *topic;
        let (kept_events, kept_bytes) = match (self.ages, self.budget_bytes) {
            (true, _) => (0, 0),
            (false, 0) => (history_events.max(lag_events), usize::MAX),
            // Nothing of the history; and of what is kept for those who are behind, this much.
            (false, _) => (lag_events.min(KEPT_EVENTS_TIGHT), KEPT_BYTES_TIGHT),
        };
        Rules { policy, is_stream, kept_events, kept_bytes, history_events }
    }

    /// The longest payload.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        if self.budget_bytes == 0 { 90_000 } else { KEPT_BYTES_TIGHT / 4 }
    }

    /// Whether last bytes may be lost to a reader that takes its time.
    pub(crate) fn cuts_off(&self) -> bool {
        self.linger < Duration::from_secs(10)
    }

    /// Whether newcomers may be refused.
    pub(crate) fn refuses(&self) -> bool {
        self.connections_max < 1000 || 0 < self.connections_per_ip_max || 0 < self.budget_bytes
    }

    pub(crate) fn has_streams(&self) -> bool {
        self.topics.iter().any(|topic| topic.is_stream)
    }

    pub(crate) fn budget(&self) -> Arc<Budget> {
        Arc::new(if self.budget_bytes == 0 { Budget::unlimited() } else { Budget::new(self.budget_bytes) })
    }

    pub(crate) fn classes(&self) -> Vec<(Pattern, Class)> {
        let pattern = |index| Pattern::parse(topic_name(index).as_str()).expect("a name is a pattern");
        self.topics.iter().enumerate().map(|(index, topic)| (pattern(index), topic.class(self))).collect()
    }

    pub(crate) fn reactor_config(&self, seed: u64) -> Config {
        let rate = RateLimit { messages_per_second: 1_000_000, ..RateLimit::default() };
        let websocket =
            websocket::WebSocketLimits { message_bytes_max: 1 << 20, ..websocket::WebSocketLimits::default() };
        let engine = EngineLimits {
            ping_interval: Duration::from_secs(2),
            ping_timeout: NEVER,
            connect_timeout: NEVER,
            recovery: if self.dialect.recovers { Duration::from_secs(10) } else { Duration::ZERO },
            ..EngineLimits::default()
        };
        Config {
            limits: SessionLimits { rate, engine, websocket, ..SessionLimits::default() },
            linger: self.linger,
            connections_max: self.connections_max,
            // Each of the clients may be one for administration.
            admin_connections_max: 1000,
            connections_per_ip_max: self.connections_per_ip_max,
            heartbeat_interval: HEARTBEAT,
            ping_interval: Duration::from_secs(2),
            pong_timeout: Duration::MAX,
            admin_listeners_from: 1,
            seed,
            ..Config::default()
        }
    }
}

impl SocketDialect {
    /// The dialect of a seed: all of them in turn.
    pub(crate) fn of(seed: u64) -> Self {
        Self { namespace: if seed % 4 == 1 { ELSEWHERE } else { "/" }, recovers: !seed.is_multiple_of(3) }
    }
}

impl TopicPlan {
    fn choose(random: &mut SmallRng, may_stream: bool, lag_least: usize) -> Self {
        let is_stream = may_stream && random.random();
        Self {
            policy: Policy::ALL[random.random_range(0..Policy::ALL.len())],
            // Long enough for the truth to have copied all that one turn may publish.
            history_events: pick(random, if is_stream { &[3, 20, 200] } else { &[20, 50, 200] }),
            lag_events: pick(random, &[0, 40, 1000]).max(lag_least),
            priority: random.random_range(-1..=1),
            is_stream,
        }
    }

    fn class(&self, plan: &Plan) -> Class {
        let age = Duration::from_secs(if plan.ages { 4 } else { 1_000_000 });
        let bounds = |count| Bounds { count, bytes: 1 << 30, age };
        let lag_bytes = if plan.budget_bytes == 0 { 1 << 30 } else { KEPT_BYTES_TIGHT };
        Class {
            retention: Retention {
                history: bounds(self.history_events),
                lag: Bounds { bytes: lag_bytes, ..bounds(self.lag_events) },
            },
            policy: self.policy,
            key: Some("/key".into()),
            priority: self.priority,
            source: self.is_stream.then_some(STREAM_SOURCE),
            log: if self.is_stream { LogKind::Broker } else { LogKind::Memory },
        }
    }
}

fn pick(random: &mut SmallRng, from: &[usize]) -> usize {
    from[random.random_range(0..from.len())]
}
