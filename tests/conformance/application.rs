//! What the conformance server serves, and how: one reactor with raised limits and routes of its own.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use fanfare::{
    bus::{self, Bus, Inbox, Notifier},
    endpoint::{
        self, Answer, Application, ConnectAccepted, ConnectRefused, Context, Cors, Emit, Hub, OpenStream,
        ShutdownPhase, SocketAction, SocketClient, SocketEvent, SocketHandlers, public_route,
    },
    metrics::{Metrics, ReactorMetrics},
    reactor::{self, MioNet, Placement, Reactor, bind_tcp},
};
use fanfare_core::{
    clock::Clock,
    label::RouteLabel,
    protocol::{
        Dialect, EngineLimits, Layer, RateLimit, SessionLimits, WebSocketOpening,
        http::{self, Method, Request, Response},
        socket_io::Args,
        websocket,
    },
};
use serde_json::value::RawValue;

/// The largest message and the largest body: public suites go up to it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most frames of one message: Autobahn cuts one into 65,536 and ends it with an empty one.
pub(crate) const FRAGMENTS_MAX: u32 = 65_537;

static APPLICATION: Application = Application {
    routes: &[&[
        public_route("/", RouteLabel::Index, &[(Method::Get, show_nothing), (Method::Post, echo_body)]),
        public_route("/echo", RouteLabel::WebSocket, &[(Method::Get, open_echo)]),
        public_route("/headers", RouteLabel::Other, &[(Method::Get, show_headers)]),
        public_route(
            "/engine.io/",
            RouteLabel::Other,
            &[(Method::Get, open_raw), (Method::Post, open_raw), (Method::Put, open_raw)],
        ),
        public_route(
            "/socket.io/",
            RouteLabel::SocketIo,
            &[(Method::Get, open_sockets), (Method::Post, open_sockets), (Method::Put, open_sockets)],
        ),
    ]],
    answer_message: |message, _| match message {
        websocket::Message::Pong => None,
        message => Some(message),
    },
    sockets: SocketHandlers { connect: welcome, answer_event, answer_ack },
};

/// What the public suites of Engine.IO and Socket.IO expect to find.
pub(crate) fn suite_limits() -> EngineLimits {
    EngineLimits {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        payload_bytes_max: 1_000_000,
        connect_timeout: Duration::from_millis(1000),
        ..EngineLimits::default()
    }
}

/// A server that runs until it is dropped, or its process ends.
pub(crate) struct Server {
    address: SocketAddr,
    hub: Arc<Hub>,
    notifier: Arc<Notifier>,
    reactor: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Serves at `address`, with sessions of Engine.IO bounded by `engine`.
    pub(crate) fn start(address: SocketAddr, engine: EngineLimits) -> io::Result<Self> {
        let clock = Clock::start();
        let (address, listeners) = bind_tcp(address, 1)?;
        let (net, waker) = MioNet::new(listeners, clock)?;
        let notifier = Arc::new(Notifier::new(waker));
        let hub = Arc::new(build_hub(Arc::clone(&notifier), clock));
        let placement = Arc::new(Placement::new([Arc::clone(&notifier)]));
        let of_reactor = Arc::clone(&hub);
        let turn = move || Reactor::new(net, 0, of_reactor, placement, reactor_config(engine)).run();
        let reactor = Some(thread::Builder::new().name("reactor".to_owned()).spawn(turn)?);
        Ok(Self { address, hub, notifier, reactor })
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hub.enter(ShutdownPhase::Ending);
        self.notifier.notify();
        let outcome = self.reactor.take().map(JoinHandle::join);
        assert!(matches!(outcome, Some(Ok(Ok(())))) || thread::panicking(), "the reactor ended by {outcome:?}");
    }
}

fn show_nothing(_: &Request, _: &str, _: &Context<'_>) -> Answer {
    Response::text(200, "").into()
}

fn echo_body(request: &Request, _: &str, _: &Context<'_>) -> Answer {
    let content_type = request.header_text("content-type").unwrap_or("application/octet-stream").to_owned();
    Response { status: 200, headers: vec![("Content-Type", content_type)], body: request.body.clone() }.into()
}

fn show_headers(request: &Request, _: &str, _: &Context<'_>) -> Answer {
    let lines = request.headers().map(|(name, value)| [name.as_bytes(), b": ", value, b"\n"].concat());
    let headers = vec![("Content-Type", "text/plain".to_owned())];
    Response { status: 200, headers, body: lines.collect::<Vec<_>>().concat() }.into()
}

fn open_echo(request: &Request, _: &str, _: &Context<'_>) -> Answer {
    match websocket::accept(request, &["echo"]) {
        Ok(accepted) => OpenStream::new(WebSocketOpening { accepted, dialect: Dialect::Messages }).into(),
        Err(refusal) => refusal.response().into(),
    }
}

fn open_raw(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    endpoint::open_engine(request, Layer::Raw, context)
}

fn open_sockets(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    endpoint::open_engine(request, Layer::SocketIo, context)
}

/// Two namespaces are open to everyone, who is told at once what was said with CONNECT.
fn welcome(namespace: &str, payload: Option<&RawValue>, _: &Context<'_>) -> Result<ConnectAccepted, ConnectRefused> {
    if !matches!(namespace, "/" | "/custom") {
        return Err(ConnectRefused { message: "Invalid namespace".to_owned(), data: None });
    }
    let payload = payload.map_or("{}", RawValue::get);
    Ok(ConnectAccepted { emits: vec![Emit::new("auth", payload)], ..ConnectAccepted::default() })
}

fn answer_event(event: &SocketEvent<'_>, _: &SocketClient<'_>, _: &Context<'_>) -> Vec<SocketAction> {
    let arguments = texts(event.arguments);
    match event.name {
        "message" => vec![emit("message-back", arguments, false)],
        "message-with-ack" => vec![SocketAction::Ack(arguments)],
        "ask-me" => vec![emit("question", arguments, true)],
        "leave-me" => vec![SocketAction::Disconnect],
        _ => Vec::new(),
    }
}

/// Tells the client which of the server's events it has acknowledged, and with what.
fn answer_ack(id: u64, arguments: Args<'_>, _: &SocketClient<'_>, _: &Context<'_>) -> Vec<SocketAction> {
    let mut told = vec![id.to_string()];
    told.extend(texts(arguments));
    vec![emit("answered", told, false)]
}

fn emit(name: &str, arguments: Vec<String>, wants_ack: bool) -> SocketAction {
    SocketAction::Emit(Emit { name: name.to_owned(), arguments, wants_ack })
}

fn texts(values: Args<'_>) -> Vec<String> {
    values.map(ToOwned::to_owned).collect()
}

fn build_hub(notifier: Arc<Notifier>, clock: Clock) -> Hub {
    let config = bus::Config { payload_bytes_max: MESSAGE_BYTES_MAX, ..bus::Config::default() };
    let metrics = Metrics { reactors: vec![Arc::new(ReactorMetrics::default())], sources: Vec::new(), clock };
    let endpoints = endpoint::Config {
        default_topics: Vec::new(),
        topics_per_connection_max: 1,
        cors: Cors::open(),
        admin_apart: false,
        stuck_after: Duration::from_secs(10),
        ..endpoint::Config::default()
    };
    let bus = Bus::new(config, vec![Inbox::new(1024, notifier)], Vec::new());
    Hub::new(&APPLICATION, Arc::new(bus), Arc::new(metrics), endpoints)
}

fn reactor_config(engine: EngineLimits) -> reactor::Config {
    let limits = SessionLimits {
        http: http::HttpLimits { body_bytes_max: MESSAGE_BYTES_MAX, ..http::HttpLimits::default() },
        websocket: websocket::WebSocketLimits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            fragments_max: FRAGMENTS_MAX,
            pong_bytes_max: MESSAGE_BYTES_MAX,
        },
        // So many messages are no limit.
        rate: RateLimit { messages_per_second: u32::MAX, cutoff_timeout: Duration::MAX },
        engine,
        ..SessionLimits::default()
    };
    // Room for the answers to several of the largest messages.
    reactor::Config { limits, outbox_bytes_max: 16 * MESSAGE_BYTES_MAX, ..reactor::Config::default() }
}
