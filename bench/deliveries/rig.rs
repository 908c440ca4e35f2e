//! A reactor, its hub, and peers that cost nothing: what `bench/deliveries` and `tests/allocations` turn.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare::{
    bus::{self, Bus, Class, Inbox, Notifier, Wake},
    endpoint::{self, Cors, HUB, Hub},
    metrics::{Metrics, ReactorMetrics},
    reactor::{Config, Placement, Reactor},
};
use fanfare_core::{
    clock::Clock,
    log::Policy,
    topic::{Pattern, Topic},
};

use crate::stub::{Script, StubNet, Written};

/// What the peers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Transport {
    /// WebSocket, raw.
    Ws,
    /// WebSocket, fanfare.v1.
    V1,
    /// Server-Sent Events.
    Sse,
    /// Socket.IO over WebSocket.
    #[value(name = "socketio")]
    SocketIo,
}

/// What the peers listen to, and how.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Form {
    /// What the connections speak.
    #[arg(long, value_enum, default_value = "ws")]
    pub(crate) transport: Transport,
    /// How many topics each connection listens to.
    #[arg(long, default_value_t = 1)]
    pub(crate) topics: usize,
    /// How many of them have events, in turn; the others are silent.
    #[arg(long, default_value_t = 1)]
    pub(crate) active: usize,
    /// Over Socket.IO: events carry the places in all topics.
    #[arg(long)]
    pub(crate) recovery: bool,
    /// Over Socket.IO: in another namespace than `/`.
    #[arg(long)]
    pub(crate) namespace: bool,
    /// Readers that are behind get the newest event of each key only.
    #[arg(long)]
    pub(crate) latest: bool,
}

impl Form {
    fn topic_names(&self) -> impl Iterator<Item = String> {
        (0..self.topics).map(|number| format!("bench.{number}"))
    }

    /// What a peer says.
    fn script(&self) -> Script {
        let query = self.topic_names().map(|name| format!("topic={name}")).collect::<Vec<_>>().join("&");
        let upgrade = |target: &str, fields: &str| {
            format!(
                "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n{fields}\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            )
            .into_bytes()
        };
        match self.transport {
            Transport::Ws => [upgrade(&format!("/ws?{query}"), "")].into(),
            Transport::V1 => [upgrade(&format!("/ws?{query}"), "Sec-WebSocket-Protocol: fanfare.v1\r\n")].into(),
            Transport::Sse => [format!("GET /sse?{query} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes()].into(),
            Transport::SocketIo => {
                let namespace = if self.namespace { "/bench," } else { "" };
                let mut script =
                    vec![upgrade("/socket.io/?EIO=4&transport=websocket", ""), text_frame(&format!("40{namespace}"))];
                let subscribe = |name| text_frame(&format!("42{namespace}[\"subscribe\",{{\"topic\":\"{name}\"}}]"));
                script.extend(self.topic_names().map(subscribe));
                script.into()
            }
        }
    }
}

/// A client's frame of one short text message, with a mask of zeros.
fn text_frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81, 0x80 | text.len() as u8, 0, 0, 0, 0];
    frame.extend_from_slice(text.as_bytes());
    frame
}

/// A notifier nobody hears: the one thread here never sleeps.
#[derive(Debug)]
struct Silence;

impl Wake for Silence {
    fn wake(&self) {}
}

/// One reactor with its subscribers.
pub(crate) struct Rig {
    hub: Arc<Hub>,
    reactor: Reactor<StubNet>,
    /// What the peers were given.
    pub(crate) written: Arc<Written>,
    /// Those that have events, and whose turn is next.
    topics: Vec<Topic>,
    turn: usize,
    has_keys: bool,
}

impl Rig {
    /// With `connections` subscribers whose streams are open. `chokes`: sockets take half of a frame at first.
    pub(crate) fn new(connections: u32, form: Form, chokes: bool) -> io::Result<Self> {
        let written = Arc::new(Written::default());
        let net = StubNet::new(connections, form.script(), chokes, Arc::clone(&written));
        let notifier = Arc::new(Notifier::new(Arc::new(Silence)));
        let placement = Arc::new(Placement::new([Arc::clone(&notifier)]));
        let hub = Arc::new(build_hub(form, notifier)?);
        let mut config = Config::default();
        config.limits.engine.recovery = Duration::from_secs(if form.recovery { 60 } else { 0 });
        let reactor = Reactor::new(net, 0, Arc::clone(&hub), placement, config);
        let topics = form.topic_names().take(form.active).map(|name| Topic::parse(&name));
        let topics = topics.collect::<Result<_, _>>().map_err(io::Error::other)?;
        let mut rig = Self { hub, reactor, written, topics, turn: 0, has_keys: form.latest };
        rig.turn_until_quiet()?;
        Ok(rig)
    }

    /// Publishes `events` of `size_bytes`, `together` at a time, each time until all have them.
    pub(crate) fn publish(&mut self, events: u32, together: u32, size_bytes: usize) -> io::Result<()> {
        let padding = "x".repeat(size_bytes);
        let payload = if self.has_keys { format!(r#"{{"key":1,"padding":"{padding}"}}"#) } else { padding };
        let payload = Bytes::from(payload);
        let mut left = events;
        while 0 < left {
            let mut feed = self.hub.bus.feed();
            for _ in 0..left.min(together) {
                let now = self.hub.metrics.clock.now();
                let topic = &self.topics[self.turn % self.topics.len()];
                self.turn += 1;
                feed.publish(topic, None, payload.clone(), now)
                    .map_err(|refused| io::Error::other(format!("{refused:?}")))?;
            }
            drop(feed);
            left = left.saturating_sub(together);
            self.turn_until_quiet()?;
        }
        Ok(())
    }

    /// Turns until two turns in a row have written nothing.
    fn turn_until_quiet(&mut self) -> io::Result<()> {
        let mut quiet_turns = 0;
        while quiet_turns < 2 {
            let before = self.written.bytes();
            self.reactor.turn()?;
            quiet_turns = if self.written.bytes() == before { quiet_turns + 1 } else { 0 };
        }
        Ok(())
    }
}

fn build_hub(form: Form, notifier: Arc<Notifier>) -> io::Result<Hub> {
    let policy = if form.latest { Policy::Latest } else { Policy::Skip };
    let class = Class { policy, key: form.latest.then(|| "/key".into()), ..Class::default() };
    let classes = vec![(Pattern::parse("bench.*").map_err(io::Error::other)?, class)];
    let config = bus::Config { epoch: 1_795_233_070 << 32 | 0x5a5a_1234, classes, ..bus::Config::default() };
    let metrics =
        Metrics { reactors: vec![Arc::new(ReactorMetrics::default())], sources: Vec::new(), clock: Clock::start() };
    let endpoints = endpoint::Config {
        default_topics: Vec::new(),
        topics_per_connection_max: 128,
        cors: Cors::open(),
        admin_apart: false,
        stuck_after: Duration::from_secs(10),
        esp: endpoint::Esp {
            namespaces: vec![if form.namespace { "/bench" } else { "/" }.to_owned()],
            ..endpoint::Esp::default()
        },
        ..endpoint::Config::default()
    };
    Ok(Hub::new(
        &HUB,
        Arc::new(Bus::new(config, vec![Inbox::new(65_536, notifier)], Vec::new())),
        Arc::new(metrics),
        endpoints,
    ))
}
