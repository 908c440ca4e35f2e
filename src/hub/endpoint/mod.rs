//! What a URL does: the [`routes`] table and one file per API. A function here takes a request and its context and
//! returns an [`Answer`]; it never sees a socket.

mod access;
mod admission;
mod auth;
mod batch;
mod command;
mod compat;
mod cors;
mod engine_io;
mod error_form;
mod events;
mod health;
mod later;
mod origin;
mod overload;
mod pages;
mod pods;
mod publish;
mod query;
mod recovery;
mod routes;
mod socket_events;
mod sockets;
mod stream;
mod telemetry;
mod topics;
mod wells;
mod work;

use core::net::IpAddr;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    time::Duration,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

pub use admission::{Sender, admit_body, refuse_body};
pub use command::{Reply, answer_command, answer_long_command};
pub use compat::{CompatApi, CompatApis};
pub use cors::Cors;
pub use engine_io::{EngineAsk, EngineKind, EngineRefusal, open as open_engine};
pub use error_form::refuse_request;
pub use events::{Broadcasts, demo_streams, order_topics};
pub use later::Later;
pub use origin::Hosts;
pub use overload::{Overload, STREAMS_USED_UP};
pub use publish::{complete_command, complete_frames, complete_request};
pub use recovery::{Recovered, Recovery, Remembered, recover};
pub use routes::{Handler, Route, public_route, route};
pub use sockets::{
    ConnectRefused, Emit, Incoming, SocketClient, SocketHandlers, SocketPublication, SocketReply, Welcome,
    publish_for_socket, write_replies,
};
pub use telemetry::Telemetry;
pub use topics::complete_history;
pub use wells::Esp;
pub use work::{OpenWork, Step, Work};

use error_form::unix_s;
use routes::{ROUTES, find_route};

use crate::{
    auth::{Asker, Auth, ConnectionId, Identity, Quotas, TokenOrigin},
    bus::{Bus, Generators},
    clock::{Moment, WallClock},
    close::Close,
    label::RouteLabel,
    log::Start,
    metrics::{Maxima, Metrics},
    protocol::{
        Dialect,
        http::{Method, Request, Response},
        sse::{Greeting, SseProfile},
        websocket::{Accepted, Message},
    },
    reload::Reloadable,
    share::Hold,
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
    /// Its routes. The first route that matches decides.
    pub routes: &'static [Route],
    /// Answers a message that came in over a [`Dialect::Messages`] connection.
    pub answer_message: MessageHandler,
    /// What is done for Socket.IO clients.
    pub sockets: SocketHandlers,
}

/// Takes a message, and returns what is sent back, if anything is.
pub type MessageHandler = fn(Message, &Context<'_>) -> Option<Message>;

/// The hub itself. It has dialects of its own for all its messages.
static HUB: Application = Application { routes: ROUTES, answer_message: |_, _| None, sockets: socket_events::HANDLERS };

/// The hub as endpoints see it; one per process.
#[derive(Debug)]
pub struct Hub {
    /// The bus.
    pub bus: Arc<Bus>,
    /// The figures.
    pub metrics: Arc<Metrics>,
    /// What is configured to be the most, for metrics: known once the hub's parts have opened what they need.
    pub maxima: Mutex<Maxima>,
    /// What endpoints are told by the configuration. Who answers requests keeps a copy: [`Context::config`].
    pub config: Reloadable<Config>,
    /// How clients are known.
    pub auth: Auth,
    /// How much each tenant may have.
    pub quotas: Quotas,
    /// What makes demonstration events up, if anything does.
    pub generators: Option<Box<dyn Generators>>,
    /// What the wall clock says.
    pub wall: WallClock,
    /// Socket.IO clients that may come back.
    pub recovery: Recovery,
    /// How telemetry comes in, and where it is kept.
    pub telemetry: Telemetry,
    /// Broadcasts to all streams of a mount. A thread must [`run`](Broadcasts::run) them.
    pub broadcasts: Arc<Broadcasts>,
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
    pub fn announce_end(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether its end was announced.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// A hub that serves.
    pub fn new(bus: Arc<Bus>, metrics: Arc<Metrics>, config: Config) -> Self {
        let (auth, wall, phase) = (Auth::open(), WallClock::default(), AtomicU8::new(Phase::Serving as u8));
        let (recovery, telemetry, broadcasts) = (Recovery::default(), Telemetry::default(), Arc::default());
        Self {
            bus,
            metrics,
            maxima: Mutex::default(),
            config: Reloadable::new(config),
            auth,
            quotas: Quotas::unlimited(),
            generators: None,
            wall,
            recovery,
            telemetry,
            broadcasts,
            application: &HUB,
            phase,
            leaving: AtomicBool::new(false),
        }
    }

    /// With other doors than a hub's.
    #[must_use]
    pub fn with_application(self, application: &'static Application) -> Self {
        Self { application, ..self }
    }

    /// With clients that have to say who they are.
    #[must_use]
    pub fn with_auth(self, auth: Auth) -> Self {
        Self { auth, ..self }
    }

    /// With bounds to what each tenant may have.
    #[must_use]
    pub fn with_quotas(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// With limits of its own to telemetry, or a place where it is kept.
    #[must_use]
    pub fn with_telemetry(self, telemetry: Telemetry) -> Self {
        Self { telemetry, ..self }
    }

    /// With events that make themselves up.
    #[must_use]
    pub fn with_generators(self, generators: Option<Box<dyn Generators>>) -> Self {
        Self { generators, ..self }
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

    /// Goes on to `phase`. Reactors see it when they next look: ring their notifiers.
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

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'hub> {
    /// The hub.
    pub hub: &'hub Hub,
    /// The reactor's copy of what endpoints are told by the configuration.
    pub config: &'hub Config,
    /// The reactor that asks.
    pub reactor: usize,
    /// The connection, in the reactor's own terms.
    pub token: u64,
    /// The moment it is.
    pub now: Moment,
    /// Whether it came through an admin listener.
    pub admin: bool,
    /// The limit that the connection is beyond, if it is: whatever it asks for is refused.
    pub overload: Option<Overload>,
    /// Whose stream or request it is; `None` where nobody has to say so, and at doors that see to it themselves.
    pub identity: Option<&'hub Identity>,
    /// The client's address, if it has one. A trusted proxy's own address is not a client's.
    pub peer: Option<IpAddr>,
}

impl<'hub> Context<'hub> {
    /// Who asks, as quotas count it.
    pub(crate) fn asker(&self) -> Asker<'hub> {
        Asker { identity: self.identity, address: self.peer }
    }

    /// The connection that asks.
    pub(crate) fn connection(&self) -> ConnectionId {
        ConnectionId { reactor: self.reactor, token: self.token }
    }

    /// Who shows a token.
    pub(crate) fn token_origin(&self) -> TokenOrigin {
        TokenOrigin { address: self.peer, connection: Some(self.connection()) }
    }
}

/// What is to be done about a request.
#[derive(Debug)]
pub enum Answer {
    /// This response.
    Response(Response),
    /// A note on the bus will bring what the response is made of; it gets these fields besides its own.
    Later(Vec<(&'static str, String)>),
    /// Work that goes on over several turns, and ends with a response.
    Work(OpenWork),
    /// A Server-Sent Events stream.
    Sse(Box<OpenSse>),
    /// An upgrade.
    WebSocket(Box<OpenWebSocket>),
    /// Something of Engine.IO.
    Engine(Box<EngineAsk>),
    /// A stream that ends as soon as it is open: the one refusal from which a browser learns when to come back.
    Ended {
        /// What is opened.
        stream: Box<Self>,
        /// Why it ends.
        close: Close,
    },
}

/// A Server-Sent Events stream to be opened.
#[derive(Debug, Default)]
pub struct OpenSse {
    /// What it carries, in the order of the URL.
    pub topics: Vec<(Topic, Start)>,
    /// With `event:` lines.
    pub named: bool,
    /// Whether the client is told where it stands before the first event.
    pub tells_place: bool,
    /// What the client is told first. The greeting tells it where it stands, so `tells_place` is not needed with it.
    pub greeting: Option<Greeting>,
    /// What its clients expect besides the events, if they do.
    pub profile: Option<Box<SseProfile>>,
    /// Fields for its head.
    pub headers: Vec<(&'static str, String)>,
    /// Whose it is.
    pub identity: Option<Arc<Identity>>,
    /// Its part of what its tenant may have open, where a quota bounds that.
    pub hold: Option<Hold>,
}

/// A WebSocket to be opened.
#[derive(Debug)]
pub struct OpenWebSocket {
    /// What the handshake agreed on.
    pub accepted: Accepted,
    /// What its messages mean.
    pub dialect: Dialect,
    /// What it carries from the start.
    pub topics: Vec<(Topic, Start)>,
    /// Whose it is.
    pub identity: Option<Arc<Identity>>,
    /// Its part of what its tenant may have open, where a quota bounds that.
    pub hold: Option<Hold>,
}

impl Answer {
    /// A note will bring the answer.
    pub fn later() -> Self {
        Self::Later(Vec::new())
    }
}

impl From<OpenSse> for Answer {
    fn from(open: OpenSse) -> Self {
        Self::Sse(Box::new(open))
    }
}

impl From<OpenWebSocket> for Answer {
    fn from(open: OpenWebSocket) -> Self {
        Self::WebSocket(Box::new(open))
    }
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        Self::Response(response)
    }
}

/// Answers `request`, and says what it was for.
pub fn answer(request: &Request, context: &Context<'_>) -> (RouteLabel, Answer) {
    let found = find_route(&request.path, context);
    let answer = match (found, context.overload) {
        // Whoever looks after the hub must see what is the matter with it, all the more so now.
        (Some((route, topic)), Some(Overload::Connections | Overload::Memory)) if route.admin => {
            overload::answer_once(dispatch(route, request, topic, context))
        }
        (_, Some(overload)) => overload::refuse(request, overload),
        (None, _) if matches!((request.method, &*request.path), (Method::Options, "*") | (Method::Connect, _)) => {
            answer_for_all(request)
        }
        (None, _) => {
            Response::error(404, "not_found", "there is nothing at this path; GET / lists what there is", None).into()
        }
        (Some((route, topic)), _) => dispatch(route, request, topic, context),
    };
    finish(found.map(|(route, _)| route), answer, request, context)
}

/// `answer` with what all answers of `route` have in common, and its label.
fn finish(route: Option<&Route>, answer: Answer, request: &Request, context: &Context<'_>) -> (RouteLabel, Answer) {
    access::count_forbidden(&answer, context);
    let answer = if request.method == Method::Head { stream::show_head(answer) } else { answer };
    let answer = access::end_flood(answer, context);
    let answer = overload::refuse_surplus(request, answer, context);
    let answer = overload::refuse_while_spent(request, answer, context.hub.bus.budget());
    let answer = overload::refuse_while_ending(request, answer, context.hub.phase());
    let answer = match (answer, route) {
        (Answer::Response(response), Some(route)) => route.errors.put(response, unix_s(context)).into(),
        (answer, _) => answer,
    };
    let is_public = route.is_some_and(|route| route.is_public);
    let label = route.map_or(RouteLabel::Other, |route| route.label);
    (label, cors::allow(answer, request, context, is_public))
}

/// Answers a request whose target is the server as a whole: `OPTIONS *` (RFC 9110 section 9.3.7), and CONNECT, which none
/// of the doors has.
fn answer_for_all(request: &Request) -> Answer {
    let response = match request.method {
        Method::Options => Response::empty(204),
        _ => Response::error(405, "method_not_allowed", "the hub is no proxy", None),
    };
    response.with("Allow", "GET, HEAD, POST, OPTIONS").into()
}

fn dispatch(route: &Route, request: &Request, topic: &str, context: &Context<'_>) -> Answer {
    // A HEAD is a GET whose body is not sent (RFC 9110 section 9.3.2); the session leaves it out.
    let wanted = if request.method == Method::Head { Method::Get } else { request.method };
    match route.methods.iter().find(|(method, _)| *method == wanted) {
        Some((_, handler)) if route.is_open => handler(request, topic, context),
        Some((_, handler)) => match access::identify(request, context) {
            Ok(identity) => handler(request, topic, &Context { identity: identity.as_deref(), ..*context }),
            Err(denied) => access::turn_away(request, denied),
        },
        None if request.method == Method::Options => {
            cors::preflight(request, &allowed(route), context, route.is_public)
        }
        None => {
            let message = format!("{} is not among this path's methods: {}", request.method, allowed(route));
            Response::error(405, "method_not_allowed", &message, None).with("Allow", allowed(route)).into()
        }
    }
}

/// The methods of `route`, as `Allow` lists them.
fn allowed(route: &Route) -> String {
    let mut names: Vec<&str> = route.methods.iter().map(|(method, _)| method.as_str()).collect();
    if names.contains(&"GET") {
        names.push("HEAD");
    }
    names.push("OPTIONS");
    names.join(", ")
}

/// The topic that a query or a body names, or the 400 that says what is wrong with it.
fn parse_topic(name: &str, field: &str) -> Result<Topic, Response> {
    Topic::parse(name).map_err(|bad| Response::error(400, "bad_topic", &bad.to_string(), Some(field)))
}

/// The same for a topic that a path names.
fn parse_topic_in_path(name: &str) -> Result<Topic, Response> {
    Topic::parse_in_path(name).map_err(|bad| Response::error(400, "bad_topic", &bad.to_string(), Some("topic")))
}
