//! The hub's handle: what all endpoints share, their configuration, and how far the hub is in shutting down.

use std::{
    any::Any,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    audit::Audit,
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

/// The configuration of the endpoints.
#[derive(Clone, Debug)]
pub struct Config {
    /// The topics of a stream that names none.
    pub default_topics: Vec<Topic>,
    /// The most topics of one connection.
    pub topics_per_connection_max: usize,
    /// The most topics in one page of a listing.
    pub topics_per_page_max: usize,
    /// Which pages of other origins may use the hub.
    pub cors: Cors,
    /// The names under which a hub without tokens answers.
    pub hosts: Hosts,
    /// Whether health, readiness and metrics are served at the admin listeners only.
    pub admin_apart: bool,
    /// A reactor that has not finished a turn for this long counts as stuck.
    pub stuck_after: Duration,
    /// Names of the sources without which the hub is not ready. `*` stands for all.
    pub ready_require: Vec<String>,
    /// How long after these deliver for the first time the hub is ready.
    pub ready_delay: Duration,
    /// The compatibility APIs that are served.
    pub compat: CompatApis,
    /// The configuration of the ESP IoT platform's API.
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
            ready_delay: Duration::ZERO,
            compat: CompatApis::default(),
            esp: Esp::default(),
        }
    }
}

/// What a server serves. The hub has one; other servers on its reactors and protocols have others.
#[derive(Clone, Copy, Debug)]
pub struct Application {
    /// The tables of routes. The first route that matches decides.
    pub routes: &'static [&'static [Route]],
    /// Answers a message of a `Dialect::Messages` connection.
    pub answer_message: MessageHandler,
    /// Decides what Socket.IO clients may do.
    pub sockets: SocketHandlers,
}

/// Takes a message, and returns the message to send back, if any.
pub type MessageHandler = fn(Message, &Context<'_>) -> Option<Message>;

/// The hub's handle, shared by all endpoints; one per process.
#[derive(Debug)]
pub struct Hub {
    pub bus: Arc<Bus>,
    pub metrics: Arc<Metrics>,
    /// The configured limits that metrics show. Set once the hub has opened its listeners and files.
    pub(crate) maxima: Mutex<Maxima>,
    /// The configuration of the endpoints. Each reactor keeps a copy: [`Context::config`].
    pub config: Reloadable<Config>,
    /// Checks tokens, API keys and passwords.
    pub auth: Auth,
    /// Who signed in, who was refused, and what operators did.
    pub(crate) audit: Audit,
    /// The limits of each tenant.
    pub(crate) quotas: Quotas,
    /// Converts between the hub's clock and the wall clock.
    pub(crate) wall: WallClock,
    /// Socket.IO clients that may come back.
    pub recovery: Recovery,
    extensions: Extensions,
    application: &'static Application,
    /// When all required sources delivered for the first time.
    delivers_since: OnceLock<Moment>,
    phase: AtomicU8,
    leaving: AtomicBool,
}

/// How far the hub is in shutting down. The phases follow one another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownPhase {
    /// Normal operation.
    #[default]
    Serving,
    /// No new connections; those that are open are closed one by one.
    Draining,
    /// All connections are closed at once, except those of admin listeners.
    Ending,
    /// Only admin connections are left. Requests that came there are answered, and then the process ends.
    Leaving,
}

impl Hub {
    /// Makes `/ready` say that the hub is not ready, while the hub still serves. A load balancer then has time to stop sending
    /// clients.
    pub(crate) fn announce_end(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// When all required sources delivered for the first time: `since`, unless it is known.
    pub(crate) fn delivers_since(&self, since: Moment) -> Moment {
        *self.delivers_since.get_or_init(|| since)
    }

    /// Whether [`Hub::announce_end`] was called.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// A hub that serves `application`, without tokens and without quotas.
    pub fn new(application: &'static Application, bus: Arc<Bus>, metrics: Arc<Metrics>, config: Config) -> Self {
        let (auth, wall, phase) = (Auth::open(), WallClock::default(), AtomicU8::new(ShutdownPhase::Serving as u8));
        Self {
            bus,
            metrics,
            maxima: Mutex::default(),
            config: Reloadable::new(config),
            auth,
            audit: Audit::default(),
            quotas: Quotas::unlimited(),
            wall,
            recovery: Recovery::default(),
            extensions: Extensions::default(),
            application,
            phase,
            delivers_since: OnceLock::new(),
            leaving: AtomicBool::new(false),
        }
    }

    /// Adds authentication.
    #[must_use]
    pub fn with_auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// Adds the audit.
    #[must_use]
    pub fn with_audit(self, audit: Audit) -> Self {
        Self { audit, ..self }
    }

    /// Adds quotas.
    #[must_use]
    pub(crate) fn with_quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// Adds a value that an API keeps between requests: one for each type, in place of the type's default.
    #[must_use]
    pub(crate) fn with_extension<T: Any + Send + Sync>(self, value: T) -> Self {
        self.extensions.put(value);
        self
    }

    /// The value of this type that an API keeps between requests, or the type's default.
    pub fn extension<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        self.extensions.get()
    }

    pub fn application(&self) -> &'static Application {
        self.application
    }

    /// The message that the application sends back for `message`.
    pub fn answer_message(&self, message: Message, context: &Context<'_>) -> Option<Message> {
        (self.application.answer_message)(message, context)
    }

    /// The application's decisions about Socket.IO clients.
    pub fn sockets(&self) -> &SocketHandlers {
        &self.application.sockets
    }

    /// `moment` on the wall clock, in whole seconds, as RFC 3339 writes it: `2025-11-20T10:30:00Z`.
    pub fn timestamp(&self, moment: Moment) -> String {
        format_timestamp(self.wall.unix_ms(moment))
    }

    /// The current phase.
    pub fn phase(&self) -> ShutdownPhase {
        match self.phase.load(Ordering::Acquire) {
            0 => ShutdownPhase::Serving,
            1 => ShutdownPhase::Draining,
            2 => ShutdownPhase::Ending,
            _ => ShutdownPhase::Leaving,
        }
    }

    /// Sets the phase. A reactor sees it in its next turn, so notify all of them.
    pub fn enter(&self, phase: ShutdownPhase) {
        self.phase.store(phase as u8, Ordering::Release);
    }
}

/// `unix_ms` in whole seconds, as RFC 3339 writes it.
fn format_timestamp(unix_ms: u64) -> String {
    let unix_s = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let time = OffsetDateTime::from_unix_timestamp(unix_s).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // Fails only for years beyond 9999, which RFC 3339 cannot write.
    time.format(&Rfc3339).unwrap_or_default()
}
