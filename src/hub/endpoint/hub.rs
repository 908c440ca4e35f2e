//! The hub as endpoints see it: what they share, what they are configured to do, and how far the hub is on its way out.

use std::{
    any::Any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    auth::{Auth, Quotas},
    bus::Bus,
    clock::{Moment, WallClock},
    endpoint::{
        CompatApis, Context, Cors, Esp, Hosts, Route, SocketHandlers, extensions::Extensions,
        socket_io::recovery::Recovery,
    },
    metrics::{Maxima, Metrics},
    protocol::websocket::Message,
    reload::Reloadable,
    topic::Topic,
};

/// What endpoints are told by the configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// The topics of a stream that names none.
    pub default_topics: Vec<Topic>,
    /// The most topics one connection may listen to.
    pub topics_per_connection_max: usize,
    /// Topics in one answer that lists them.
    pub topics_per_page_max: usize,
    /// Which pages of other origins may use it.
    pub cors: Cors,
    /// By which names it may be asked where it asks nobody who it is.
    pub hosts: Hosts,
    /// Health, readiness and metrics answer at the admin listeners only.
    pub admin_apart: bool,
    /// A reactor that has not finished a turn for so long is stuck.
    pub stuck_after: Duration,
    /// Sources without which the hub is not ready, by name; `*` stands for all there are.
    pub ready_require: Vec<String>,
    /// Which compatibility APIs are served.
    pub compat: CompatApis,
    /// What clients of the ESP IoT platform are told.
    pub esp: Esp,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            default_topics: Vec::new(),
            topics_per_connection_max: 128,
            topics_per_page_max: 1000,
            cors: Cors::default(),
            hosts: Hosts::default(),
            admin_apart: false,
            stuck_after: Duration::from_secs(5),
            ready_require: vec!["*".to_owned()],
            compat: CompatApis::default(),
            esp: Esp::default(),
        }
    }
}

/// What is served: one value for a hub, others for servers that share its reactors and protocols.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    /// Its routes, in tables. The first route that matches decides.
    pub routes: &'static [&'static [Route]],
    /// Answers a message that came in over a [`Dialect::Messages`] connection.
    pub answer_message: MessageHandler,
    /// What is done for Socket.IO clients.
    pub sockets: SocketHandlers,
}

/// Takes a message, and returns what is sent back, if anything is.
pub type MessageHandler = fn(Message, &Context<'_>) -> Option<Message>;

/// The hub as endpoints see it; one per process.
#[derive(Debug)]
pub struct Hub {
    /// The bus.
    pub bus: Arc<Bus>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// What is configured to be the most, for metrics: known once the hub's parts have opened what they need.
    pub(crate) maxima: Mutex<Maxima>,
    /// What endpoints are told by the configuration. Who answers requests keeps a copy: [`Context::config`].
    pub config: Reloadable<Config>,
    /// How clients are known.
    pub auth: Auth,
    /// How much each tenant may have.
    pub(crate) quotas: Quotas,
    /// What the wall clock says.
    pub(crate) wall: WallClock,
    /// Socket.IO clients that may come back.
    pub recovery: Recovery,
    extensions: Extensions,
    application: &'static Application,
    phase: AtomicU8,
    leaving: AtomicBool,
}

/// How far the hub has come on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    #[default]
    Serving,
    /// It takes nobody in and lets everybody go, one by one.
    Draining,
    /// Everybody has to go now, but for administration.
    Ending,
    /// Nobody but administration is left. Whoever has asked there is answered, and then the process ends.
    Leaving,
}

impl Hub {
    /// From now on the hub says that it is not ready, and serves all the same: who sends it clients has time to stop.
    pub(crate) fn announce_end(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether its end was announced.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// A hub that serves `application`.
    pub fn new(application: &'static Application, bus: Arc<Bus>, metrics: Arc<Metrics>, config: Config) -> Self {
        let (auth, wall, phase) = (Auth::open(), WallClock::default(), AtomicU8::new(Phase::Serving as u8));
        Self {
            bus,
            metrics,
            maxima: Mutex::default(),
            config: Reloadable::new(config),
            auth,
            quotas: Quotas::unlimited(),
            wall,
            recovery: Recovery::default(),
            extensions: Extensions::default(),
            application,
            phase,
            leaving: AtomicBool::new(false),
        }
    }

    /// With clients that have to say who they are.
    #[must_use]
    pub fn with_auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// With bounds to what each tenant may have.
    #[must_use]
    pub(crate) fn with_quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// With something that an API keeps between requests. There is one of each type, and by default it is the type's default.
    #[must_use]
    pub(crate) fn with_extension<T: Any + Send + Sync>(self, value: T) -> Self {
        self.extensions.put(value);
        self
    }

    /// What an API keeps between requests, by its type.
    pub fn extension<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        self.extensions.get()
    }

    /// What is served.
    pub fn application(&self) -> &'static Application {
        self.application
    }

    /// What the application sends back for `message`.
    pub fn answer_message(&self, message: Message, context: &Context<'_>) -> Option<Message> {
        (self.application.answer_message)(message, context)
    }

    /// What is done for Socket.IO clients.
    pub fn sockets(&self) -> &SocketHandlers {
        &self.application.sockets
    }

    /// `moment` on the wall clock, to the second: `2025-11-20T10:30:00Z` (RFC 3339).
    pub fn timestamp(&self, moment: Moment) -> String {
        format_timestamp(self.wall.unix_ms(moment))
    }

    /// How far it has come on its way out.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            2 => Phase::Ending,
            _ => Phase::Leaving,
        }
    }

    /// Goes on to `phase`. Reactors see it when they next look: notify them.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

/// `unix_ms`, to the second, in the form of RFC 3339.
fn format_timestamp(unix_ms: u64) -> String {
    let unix_s = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(unix_s).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // It fails for years beyond 9999 only, and those are not valid times here.
    time.format(&Rfc3339).unwrap_or_default()
}
