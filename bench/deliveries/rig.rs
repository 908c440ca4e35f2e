//! A reactor, its hub, and peers that cost nothing: what `bench/deliveries` and `tests/allocations` turn.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare::{
    bus::{self, Bus, Doorbell, Inbox, Outlets, Wake},
    clock::Clock,
    endpoint::{self, Cors, Hub},
    metrics::{Metrics, ReactorMetrics},
    reactor::{Config, Placement, Reactor},
    topic::Topic,
};

use crate::stub::{Script, StubNet, Written};

/// What the peers speak.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Transport {
    /// WebSocket, raw.
    Ws,
    /// Server-Sent Events.
    Sse,
    /// Socket.IO over WebSocket.
    #[value(name = "socketio")]
    SocketIo,
}

const WEBSOCKET_SCRIPT: Script = &[b"GET /ws?topic=bench HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"];
const STREAM_SCRIPT: Script = &[b"GET /sse?topic=bench HTTP/1.1\r\nHost: h\r\n\r\n"];

/// The upgrade, a connect packet and a subscription, the latter in frames whose mask is zero.
const SOCKET_IO_SCRIPT: Script = &[
    b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    b"\x81\x82\x00\x00\x00\x0040",
    b"\x81\xa1\x00\x00\x00\x0042[\"subscribe\",{\"topic\":\"bench\"}]",
];

/// A doorbell nobody hears: the one thread here never sleeps.
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
    topic: Topic,
}

impl Rig {
    /// With `connections` subscribers whose streams are open. `chokes`: sockets take half of a frame at first.
    pub(crate) fn new(connections: u32, transport: Transport, chokes: bool) -> io::Result<Self> {
        let script = match transport {
            Transport::Ws => WEBSOCKET_SCRIPT,
            Transport::Sse => STREAM_SCRIPT,
            Transport::SocketIo => SOCKET_IO_SCRIPT,
        };
        let written = Arc::new(Written::default());
        let net = StubNet::new(connections, script, chokes, Arc::clone(&written));
        let doorbell = Arc::new(Doorbell::new(Arc::new(Silence)));
        let placement = Arc::new(Placement::new([Arc::clone(&doorbell)]));
        let hub = Arc::new(build_hub(doorbell));
        let reactor = Reactor::new(net, 0, Arc::clone(&hub), placement, Config::default());
        let mut rig = Self { hub, reactor, written, topic: Topic::parse("bench").map_err(io::Error::other)? };
        rig.turn_until_quiet()?;
        Ok(rig)
    }

    /// Publishes `events` of `size_bytes`, `together` at a time, each time until all have them.
    pub(crate) fn publish(&mut self, events: u32, together: u32, size_bytes: usize) -> io::Result<()> {
        let payload = Bytes::from(vec![b'x'; size_bytes]);
        let mut left = events;
        while 0 < left {
            let mut feed = self.hub.bus.feed();
            for _ in 0..left.min(together) {
                let now = self.hub.metrics.clock.now();
                feed.publish(&self.topic, None, payload.clone(), now)
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

fn build_hub(doorbell: Arc<Doorbell>) -> Hub {
    let config = bus::Config { epoch: 1_795_233_070 << 32 | 0x5a5a_1234, ..bus::Config::default() };
    let metrics =
        Metrics { reactors: vec![Arc::new(ReactorMetrics::default())], sources: Vec::new(), clock: Clock::start() };
    let endpoints = endpoint::Config {
        default_topics: Vec::new(),
        topics_per_connection_max: 128,
        cors: Cors::default(),
        admin_apart: false,
        stuck_after: Duration::from_secs(10),
        ..endpoint::Config::default()
    };
    Hub::new(
        Arc::new(Bus::new(config, vec![Inbox::new(65_536, doorbell)], Outlets::default())),
        Arc::new(metrics),
        endpoints,
    )
}
