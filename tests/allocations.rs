//! A delivery allocates nothing: what one event costs in allocations does not depend on how many listen.

#[path = "../bench/deliveries/stub.rs"]
mod stub;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare::{
    bus::{self, Bus, Doorbell, Inbox, Wake},
    clock::{Clock, Moment},
    endpoint::{self, Cors, Hub},
    metrics::{Metrics, ReactorMetrics},
    reactor::{Config, Placement, Reactor},
    topic::Topic,
};
use stub::{StubNet, Written};

const WEBSOCKET_REQUEST: &[u8] =
    b"GET /ws?topic=news HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const STREAM_REQUEST: &[u8] = b"GET /sse?topic=news HTTP/1.1\r\nHost: h\r\n\r\n";

/// What one event itself may cost: the event, its frame, and the boxes around them.
const ALLOCATIONS_PER_EVENT_MAX: u64 = 8;

#[test]
fn a_websocket_delivery_allocates_nothing() {
    check(WEBSOCKET_REQUEST, 1, Room::Ample);
}

#[test]
fn a_stream_delivery_allocates_nothing() {
    check(STREAM_REQUEST, 1, Room::Ample);
}

#[test]
fn nor_does_one_of_several_events_at_a_time() {
    check(WEBSOCKET_REQUEST, 16, Room::Ample);
    check(STREAM_REQUEST, 16, Room::Ample);
}

#[test]
fn nor_does_one_that_is_cut_short() {
    check(WEBSOCKET_REQUEST, 1, Room::Scarce);
    check(STREAM_REQUEST, 1, Room::Scarce);
}

/// Whether sockets take all they are offered, or only half of it every other time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    Ample,
    Scarce,
}

fn check(request: &'static [u8], events: usize, room: Room) {
    let few = allocations(request, 10, events, room);
    let many = allocations(request, 1000, events, room);
    assert!(0 < many, "the event itself is allocated, or nothing is counted");
    assert_eq!(few, many, "allocations for {events} events to 10 and to 1000 listeners");
    assert!(many <= ALLOCATIONS_PER_EVENT_MAX * events as u64, "{many} allocations for {events} events");
}

/// How many allocations it takes to bring `events` more events to `listeners` listeners.
fn allocations(request: &'static [u8], listeners: u32, events: usize, room: Room) -> u64 {
    let mut stage = Stage::new(request, listeners, room);
    // The first rounds allocate what is kept for good.
    (0..WARM_UP_ROUNDS).for_each(|_| stage.broadcast(events));
    let calls_before = stage.written.calls();
    let allocated = allocation_counter::measure(|| stage.broadcast(events));
    let calls = stage.written.calls() - calls_before;
    assert_eq!(room == Room::Ample, calls == u64::from(listeners), "one write for each listener, if there is room");
    allocated.count_total
}

/// Enough for the topic's log to have all the room it will need.
const WARM_UP_ROUNDS: usize = 40;

struct Stage {
    hub: Arc<Hub>,
    reactor: Reactor<StubNet>,
    written: Arc<Written>,
    topic: Topic,
}

/// A doorbell nobody hears: the one thread here never sleeps.
#[derive(Debug)]
struct Silence;

impl Wake for Silence {
    fn wake(&self) {}
}

impl Stage {
    fn new(request: &'static [u8], listeners: u32, room: Room) -> Self {
        let written = Arc::new(Written::default());
        let net = StubNet::new(listeners, request, room == Room::Scarce, Arc::clone(&written));
        let doorbell = Arc::new(Doorbell::new(Arc::new(Silence)));
        let placement = Arc::new(Placement::new([Arc::clone(&doorbell)]));
        let hub = Arc::new(build_hub(doorbell));
        let reactor = Reactor::new(net, 0, Arc::clone(&hub), placement, Config::default());
        let topic = Topic::parse("news").expect("a good name");
        let mut stage = Self { hub, reactor, written, topic };
        stage.turn_until_quiet();
        stage
    }

    fn broadcast(&mut self, events: usize) {
        let mut feed = self.hub.bus.feed();
        for _ in 0..events {
            feed.publish(&self.topic, None, Bytes::from_static(&[b'x'; 200]), Moment(0)).expect("a good event");
        }
        drop(feed);
        self.turn_until_quiet();
    }

    fn turn_until_quiet(&mut self) {
        let mut quiet_turns = 0;
        while quiet_turns < 2 {
            let before = self.written.bytes();
            self.reactor.turn().expect("a poll that cannot fail");
            quiet_turns = if self.written.bytes() == before { quiet_turns + 1 } else { 0 };
        }
    }
}

/// A log of 32 events, so that it has long been full when it is measured.
fn build_hub(doorbell: Arc<Doorbell>) -> Hub {
    let bounds = fanfare::log::Bounds { count: 32, bytes: 1 << 20, age: Duration::from_secs(3600) };
    let retention = fanfare::log::Retention { history: bounds, lag: bounds };
    let config = bus::Config {
        reactors: 1,
        epoch_ms: 1,
        payload_bytes_max: 1024,
        default_class: bus::Class { retention, ..bus::Class::default() },
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
    Hub::new(Arc::new(Bus::new(config, vec![Inbox::new(1024, doorbell)], None)), Arc::new(metrics), endpoints)
}
