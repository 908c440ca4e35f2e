//! One reactor under a kernel that costs nothing: what it executes itself for each delivery, to be counted by callgrind
//! (`bench/instructions`).
//!
//! Everything is the hub's own, from the bus to the frames, but for the sockets: they take all that is written, or, with
//! `--choke`, only half of every frame at first, so that each delivery also takes the way of a full socket.

mod stub;

use std::{io, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use fanfare::{
    bus::{self, Bus, Doorbell, Inbox, Wake},
    clock::Clock,
    endpoint::{self, Cors, Hub},
    metrics::{Metrics, ReactorMetrics},
    reactor::{Config, Placement, Reactor},
    topic::Topic,
};
use stub::{StubNet, Written};

/// The options of the command line.
#[derive(Parser)]
struct Options {
    /// How many connections listen.
    #[arg(long, default_value_t = 1000)]
    connections: u32,
    /// How many events are published.
    #[arg(long, default_value_t = 100)]
    events: u32,
    /// How many of them come at a time.
    #[arg(long, default_value_t = 1)]
    together: u32,
    /// Bytes of each payload.
    #[arg(long, default_value_t = 200)]
    size: usize,
    /// What the connections speak.
    #[arg(long, value_enum, default_value = "ws")]
    transport: Transport,
    /// Sockets take only half of a frame at first.
    #[arg(long)]
    choke: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Transport {
    Ws,
    Sse,
}

const WEBSOCKET_REQUEST: &[u8] =
    b"GET /ws?topic=bench HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const STREAM_REQUEST: &[u8] = b"GET /sse?topic=bench HTTP/1.1\r\nHost: h\r\n\r\n";

/// A doorbell nobody hears: the one thread here never sleeps.
#[derive(Debug)]
struct Silence;

impl Wake for Silence {
    fn wake(&self) {}
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let request = match options.transport {
        Transport::Ws => WEBSOCKET_REQUEST,
        Transport::Sse => STREAM_REQUEST,
    };
    let written = Arc::new(Written::default());
    let net = StubNet::new(options.connections, request, options.choke, Arc::clone(&written));
    let doorbell = Arc::new(Doorbell::new(Arc::new(Silence)));
    let placement = Arc::new(Placement::new([Arc::clone(&doorbell)]));
    let hub = Arc::new(build_hub(doorbell));
    let mut reactor = Reactor::new(net, 0, Arc::clone(&hub), placement, Config::default());
    turn_until_quiet(&mut reactor, &written)?;
    let opening_bytes = written.bytes();
    publish_all(&options, &hub, &mut reactor, &written)?;
    let deliveries = options.events * options.connections;
    println!("deliveries {deliveries}, writes {}, bytes {}", written.calls(), written.bytes() - opening_bytes);
    Ok(())
}

fn build_hub(doorbell: Arc<Doorbell>) -> Hub {
    let config = bus::Config {
        reactors: 1,
        epoch_ms: 1_768_068_834_227,
        payload_bytes_max: 1024 * 1024,
        default_class: bus::Class::default(),
        classes: Vec::new(),
    };
    let metrics =
        Metrics { reactors: vec![Arc::new(ReactorMetrics::default())], sources: Vec::new(), clock: Clock::start() };
    let endpoints = endpoint::Config {
        default_topics: Vec::new(),
        topics_per_connection_max: 128,
        cors: Cors::default(),
        admin_apart: false,
        stuck_after: Duration::from_secs(10),
    };
    Hub::new(Arc::new(Bus::new(config, vec![Inbox::new(65_536, doorbell)], None)), Arc::new(metrics), endpoints)
}

fn publish_all(options: &Options, hub: &Hub, reactor: &mut Reactor<StubNet>, written: &Written) -> io::Result<()> {
    let topic = Topic::parse("bench").map_err(io::Error::other)?;
    let payload = bytes::Bytes::from(vec![b'x'; options.size]);
    let mut left = options.events;
    while 0 < left {
        let mut feed = hub.bus.feed();
        for _ in 0..left.min(options.together) {
            let now = hub.metrics.clock.now();
            feed.publish(&topic, None, payload.clone(), now)
                .map_err(|refused| io::Error::other(format!("{refused:?}")))?;
        }
        drop(feed);
        left = left.saturating_sub(options.together);
        turn_until_quiet(reactor, written)?;
    }
    Ok(())
}

/// Turns until two turns in a row have written nothing.
fn turn_until_quiet(reactor: &mut Reactor<StubNet>, written: &Written) -> io::Result<()> {
    let mut quiet_turns = 0;
    while quiet_turns < 2 {
        let before = written.bytes();
        reactor.turn()?;
        quiet_turns = if written.bytes() == before { quiet_turns + 1 } else { 0 };
    }
    Ok(())
}
