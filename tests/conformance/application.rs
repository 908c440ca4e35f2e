//! What the conformance server serves, and how: one reactor with raised limits and rows of its own.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use fanfare::{
    bus::{self, Bus, Doorbell, Inbox, Outlets},
    clock::Clock,
    endpoint::{self, Answer, Application, Context, Cors, Hub, OpenWebSocket, Phase, SocketHandlers, row},
    metrics::{Metrics, ReactorMetrics},
    protocol::{
        Dialect, Limits, RateLimit,
        http::{self, Method, Request, Response},
        websocket,
    },
    reactor::{self, MioNet, Placement, Reactor, bind_tcp},
};

/// The largest message and the largest body: public suites go up to it.
pub(crate) const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// The most frames of one message: Autobahn cuts one into 65,536 and ends it with an empty one.
pub(crate) const FRAGMENTS_MAX: u32 = 65_537;

static APPLICATION: Application = Application {
    routes: &[
        row("/", "index", &[(Method::Get, show_nothing), (Method::Post, echo_body)]),
        row("/echo", "ws", &[(Method::Get, open_echo)]),
        row("/headers", "other", &[(Method::Get, show_headers)]),
    ],
    answer_message: |message, _| match message {
        websocket::Message::Pong => None,
        message => Some(message),
    },
    sockets: SocketHandlers::NONE,
};

/// A server that runs until it is dropped, or its process ends.
pub(crate) struct Server {
    address: SocketAddr,
    hub: Arc<Hub>,
    doorbell: Arc<Doorbell>,
    reactor: Option<JoinHandle<io::Result<()>>>,
}

impl Server {
    /// Serves at `address`.
    pub(crate) fn start(address: SocketAddr) -> io::Result<Self> {
        let clock = Clock::start();
        let (address, listeners) = bind_tcp(address, 1)?;
        let (net, waker) = MioNet::new(listeners, clock)?;
        let doorbell = Arc::new(Doorbell::new(waker));
        let hub = Arc::new(build_hub(Arc::clone(&doorbell), clock));
        let placement = Arc::new(Placement::new([Arc::clone(&doorbell)]));
        let of_reactor = Arc::clone(&hub);
        let turn = move || Reactor::new(net, 0, of_reactor, placement, reactor_config()).run();
        let reactor = Some(thread::Builder::new().name("reactor".to_owned()).spawn(turn)?);
        Ok(Self { address, hub, doorbell, reactor })
    }

    /// Where it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hub.enter(Phase::Ending);
        self.doorbell.ring();
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
        Ok(accepted) => {
            OpenWebSocket { accepted, dialect: Dialect::Messages, topics: Vec::new(), identity: None }.into()
        }
        Err(refusal) => refusal.response().into(),
    }
}

fn build_hub(doorbell: Arc<Doorbell>, clock: Clock) -> Hub {
    let config = bus::Config { payload_bytes_max: MESSAGE_BYTES_MAX, ..bus::Config::default() };
    let metrics = Metrics { reactors: vec![Arc::new(ReactorMetrics::default())], sources: Vec::new(), clock };
    let endpoints = endpoint::Config {
        default_topics: Vec::new(),
        topics_per_connection_max: 1,
        cors: Cors { allow_origins: Vec::new(), allow_credentials: false },
        admin_apart: false,
        stuck_after: Duration::from_secs(10),
        ..endpoint::Config::default()
    };
    let bus = Bus::new(config, vec![Inbox::new(1024, doorbell)], Outlets::default());
    Hub::new(Arc::new(bus), Arc::new(metrics), endpoints).with_application(&APPLICATION)
}

fn reactor_config() -> reactor::Config {
    let limits = Limits {
        http: http::Limits { body_bytes_max: MESSAGE_BYTES_MAX, ..http::Limits::default() },
        websocket: websocket::Limits {
            message_bytes_max: MESSAGE_BYTES_MAX,
            fragments_max: FRAGMENTS_MAX,
            pong_bytes_max: MESSAGE_BYTES_MAX,
        },
        // So many messages are no limit.
        rate: RateLimit { messages_per_second: u32::MAX, patience: Duration::MAX },
        ..Limits::default()
    };
    // Room for the answers to several of the largest messages.
    reactor::Config { limits, outbox_bytes_max: 16 * MESSAGE_BYTES_MAX, ..reactor::Config::default() }
}
