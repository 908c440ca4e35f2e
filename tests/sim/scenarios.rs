//! What chance would seldom bring about.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use fanfare::{
    auth::{ApiKey, AuthRules, AuthSettings, Mode, Secrets},
    endpoint::ShutdownPhase,
};
use fanfare_core::{
    log::Policy,
    protocol::{
        http::{ResponsePart, ResponseReader},
        websocket,
    },
    topic::Topic,
};

use crate::{
    client::{Client, ClientProtocol},
    net::{SharedWire, Weather},
    plan::{Plan, SocketDialect, TopicPlan},
    truth::payload,
    world::World,
};

/// The rest of a request for a WebSocket.
const UPGRADE: &str = "HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
    Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

/// One reactor, one topic, and nothing that happens by chance.
fn calm_world(policy: Policy) -> World {
    calm_world_of(policy, 1)
}

/// The same, with another order of what happens at the same time.
fn calm_world_of(policy: Policy, seed: u64) -> World {
    World::new(calm_plan(policy), seed)
}

pub(crate) fn calm_plan(policy: Policy) -> Plan {
    Plan {
        reactors: 1,
        topics: vec![TopicPlan { policy, history_events: 100, lag_events: 100, priority: 0, is_stream: false }],
        clients_max: 10,
        inbox_events_max: 100,
        ages: false,
        budget_bytes: 0,
        sink: false,
        confirms: false,
        linger: Duration::from_secs(2),
        connections_max: 1000,
        connections_per_ip_max: 0,
        weather: Weather { short_write_odds: 0, drift: Duration::ZERO },
        dialect: SocketDialect { namespace: "/", recovers: false },
        auth: None,
        fault: None,
    }
}

/// A connection that has sent `request`, and all turns taken without anybody reading.
pub(crate) fn connect(world: &mut World, request: &[u8]) -> SharedWire {
    let wire = SharedWire::new(1000);
    wire.lock().send(request);
    let client = Client::new(wire.clone(), ClientProtocol::Garbage, Vec::new(), &world.truth);
    world.connect(client);
    while world.turn_any() {}
    wire
}

/// The hub has just been told to drain, and those who come before its listeners are closed are many.
#[test]
fn whoever_waits_at_a_drain_is_accepted_in_parts_and_answered() {
    const CLIENTS: usize = 300;
    let mut world = calm_world(Policy::Close);
    while world.turn_any() {}
    world.hub.enter(ShutdownPhase::Draining);
    world.hub.bus.inbox(0).notifier().notify();
    assert!(world.turn_any(), "it is told");
    let wires: Vec<SharedWire> = (0..CLIENTS)
        .map(|_| {
            let wire = SharedWire::new(1000);
            wire.lock().send(b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n");
            world.connect(Client::new(wire.clone(), ClientProtocol::Garbage, Vec::new(), &world.truth));
            wire
        })
        .collect();
    let mut waiting = CLIENTS;
    while 0 < waiting {
        assert_eq!(world.ports[0].borrow().waiting(), waiting);
        assert!(world.turn_any(), "it stops with {waiting} waiting");
        let left = world.ports[0].borrow().waiting();
        // The public's listener is at its end, and that for administration goes on.
        assert!((1..=2 * ACCEPTS_PER_TURN).contains(&(waiting - left)), "{} accepted in a turn", waiting - left);
        waiting = left;
    }
    while world.turn_any() {}
    let stopped: Vec<bool> = world.ports[0].borrow().listeners.iter().map(|listener| listener.stopped).collect();
    assert_eq!(stopped, [true, false], "those for the public are closed");
    for wire in &wires {
        let statuses: Vec<u16> = read_responses(&mut world, wire).iter().map(|(status, _)| *status).collect();
        assert_eq!(statuses, [200]);
    }
    world.drain();
}

/// What a peer has sent and not finished, or what waits behind a request that is not answered yet, is more than it may leave unread.
/// It goes on when more arrives, and not for what it has: whoever does nothing costs no turn.
#[test]
fn an_unfinished_request_costs_no_turns() {
    const LARGE: usize = 400_000;
    let head = format!("POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", 2 * LARGE);
    let body = "x".repeat(LARGE);
    let mut world = calm_world(Policy::Close);
    let wire = SharedWire::new(1000);
    wire.lock().send(head.as_bytes());
    world.connect(Client::new(wire.clone(), ClientProtocol::Garbage, Vec::new(), &world.truth));
    for half in 0..2 {
        wire.lock().send(body.as_bytes());
        let turns = std::iter::repeat_with(|| world.turn_any()).take_while(|took| *took).take(TURNS_MAX).count();
        assert!(turns < TURNS_MAX, "half {half}: it takes turn after turn");
    }
    let statuses: Vec<u16> = read_responses(&mut world, &wire).iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200]);
    world.drain();
}

/// More than reading takes.
const TURNS_MAX: usize = 200;

/// The rules of a hub with one API key, by which all topics may be listened to.
fn rules_with_key(secret: &str) -> Arc<AuthRules> {
    let key = ApiKey { secret: secret.into(), name: "all".into(), subscribe: vec!["**".into()], ..ApiKey::default() };
    let secrets = Secrets { api_keys: vec![key], ..Secrets::default() };
    let settings = AuthSettings { mode: Mode::Jwt, ..AuthSettings::default() };
    Arc::new(AuthRules::new(settings, secrets).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}")))
}

/// A key is withdrawn by which many streams were opened: all of them end, and no turn goes by on them alone.
#[test]
fn streams_are_looked_at_in_parts_when_rights_change() {
    const CLIENTS: usize = 900;
    const KEY: &str = "0123456789abcdef";
    let plan = Plan { auth: Some(rules_with_key(KEY)), ..calm_plan(Policy::Close) };
    let mut world = World::new(plan, 1);
    let request = format!("GET /sse?topic=t&token={KEY} HTTP/1.1\r\nHost: h\r\n\r\n");
    let all: Vec<SharedWire> = (0..CLIENTS).map(|_| connect(&mut world, request.as_bytes())).collect();
    // The listener for administration takes few.
    let wires: Vec<SharedWire> = all.into_iter().filter(|wire| !wire.lock().server_ended).collect();
    let ended = || wires.iter().filter(|wire| wire.lock().server_ended).count();
    assert!(2 * ENDED_PER_TURN <= wires.len(), "{} streams are open", wires.len());
    // The same key again, and nothing happens.
    for (key, left) in [(KEY, 0), ("another key, as long", wires.len())] {
        world.hub.auth.replace(&rules_with_key(key));
        world.hub.bus.inbox(0).notifier().notify();
        let (mut before, mut turns) = (0, 0);
        while world.turn_any() {
            let now = ended();
            assert!(now - before <= ENDED_PER_TURN, "{} ended in a turn", now - before);
            (before, turns) = (now, turns + 1);
        }
        assert_eq!(before, left);
        assert!(wires.len() / ENDED_PER_TURN <= turns, "{turns} turns");
    }
}

/// As many streams of one topic as may be looked at in a turn when rights have changed.
const ENDED_PER_TURN: usize = 128;

/// As many connections as a reactor may accept in a turn.
const ACCEPTS_PER_TURN: usize = 64;

/// Reads until nothing more comes: the status and the length of every response.
fn read_responses(world: &mut World, wire: &SharedWire) -> Vec<(u16, usize)> {
    let (mut reader, mut responses) = (ResponseReader::new(), Vec::new());
    loop {
        let bytes = wire.lock().take(usize::MAX);
        if bytes.is_empty() {
            return responses;
        }
        let outcome = reader.receive(&bytes, |part| match part {
            ResponsePart::Head(head) => responses.push((head.status, 0)),
            ResponsePart::Body(body) => responses.last_mut().expect("a head came first").1 += body.len(),
            ResponsePart::End => {}
        });
        assert_eq!(outcome, Ok(()));
        while world.turn_any() {}
    }
}

const HISTORY_REQUEST: &[u8] = b"GET /topics/topic.0/history HTTP/1.1\r\nHost: h\r\n\r\n";
const EVENT_BYTES: usize = 90_000;
const EVENTS: usize = 5;

/// The topic's history is longer than an outbox may be.
fn fill_history(world: &World) {
    let mut feed = world.hub.bus.feed();
    for tag in 0..EVENTS {
        let data = Bytes::from(payload(tag as u64, EVENT_BYTES));
        feed.publish(&world.truth.topics[0], None, data, world.clock.now()).expect("a good event");
    }
}

#[test]
fn a_long_response_is_no_reason_to_end() {
    let mut world = calm_world(Policy::Close);
    fill_history(&world);
    let wire = connect(&mut world, HISTORY_REQUEST);
    for _ in 0..2 {
        let responses = read_responses(&mut world, &wire);
        assert!(matches!(responses[..], [(200, bytes)] if EVENTS * EVENT_BYTES < bytes), "{responses:?}");
        wire.lock().send(HISTORY_REQUEST);
        while world.turn_any() {}
    }
}

/// What a client asks ahead waits until it has read the answers before: no more than one of them is held.
#[test]
fn a_flood_of_requests_goes_on_as_its_client_reads() {
    let mut world = calm_world(Policy::Close);
    fill_history(&world);
    let before = world.hub.bus.budget().used();
    let wire = connect(&mut world, &HISTORY_REQUEST.repeat(100));
    let held = world.hub.bus.budget().used() - before;
    assert!(held < 2 * EVENTS * EVENT_BYTES, "{held} bytes");
    let statuses: Vec<u16> = read_responses(&mut world, &wire).iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200; 100]);
    assert!(!wire.lock().server_ended);
}

/// A client that reads nothing for the time that a connection may be idle is let go; one that reads a little is not.
#[test]
fn a_flood_of_requests_without_a_reader_is_let_go() {
    let is_gone_after = |seconds: usize, read_bytes: usize| {
        let mut world = calm_world(Policy::Close);
        fill_history(&world);
        let wire = connect(&mut world, &HISTORY_REQUEST.repeat(100));
        for _ in 0..seconds {
            world.clock.advance(Duration::from_secs(1));
            wire.lock().take(read_bytes);
            while world.turn_any() {}
        }
        wire.lock().server_gone
    };
    assert!(!is_gone_after(70, 0));
    assert!(is_gone_after(90, 0));
    assert!(!is_gone_after(200, 500));
}

/// The answers take several turns, more requests stand in a row than are answered in one, and the end of the client's half is read
/// before all of them.
#[test]
fn whoever_asks_and_ends_at_once_is_answered() {
    let mut world = calm_world(Policy::Close);
    for number in 0..100 {
        let topic = Topic::parse(&format!("more.{number}")).expect("a good name");
        let data = Bytes::from_static(b"1");
        world.hub.bus.feed().publish(&topic, None, data, world.clock.now()).expect("a good event");
    }
    let wire = SharedWire::new(100);
    let requests =
        [&b"GET /topics HTTP/1.1\r\nHost: h\r\n\r\n"[..], &b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n".repeat(50)];
    wire.lock().send(&requests.concat());
    wire.lock().half_close();
    let client = Client::new(wire.clone(), ClientProtocol::Garbage, Vec::new(), &world.truth);
    world.connect(client);
    while world.turn_any() {}
    let statuses: Vec<u16> = read_responses(&mut world, &wire).iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [200; 51]);
    assert!(wire.lock().server_gone);
}

/// A reader that was behind gets what was under way to it, and then the newest event of each key.
#[test]
fn whoever_was_behind_gets_the_newest_of_each_key() {
    let check = |policy: Policy, expected: std::ops::Range<usize>| {
        let mut world = calm_world(policy);
        let wire = connect(&mut world, b"GET /sse?topic=topic.0 HTTP/1.1\r\nHost: h\r\n\r\n");
        for tag in 0..60 {
            let data = Bytes::from(payload(tag, 200));
            let now = world.clock.now();
            world.hub.bus.feed().publish(&world.truth.topics[0], None, data, now).expect("a good event");
            world.clock.advance(Duration::from_millis(5));
            while world.turn_any() {}
        }
        let [(200, bytes)] = read_responses(&mut world, &wire)[..] else { panic!("not a stream") };
        let events = bytes / 200;
        assert!(expected.contains(&events), "{policy:?}: {events} events");
    };
    check(Policy::Skip, 60..80);
    check(Policy::Latest, 4..12);
}

/// The broker has one more entry of the first topic for each of these tags.
pub(crate) fn add_entries(world: &mut World, tags: std::ops::Range<u64>) {
    for tag in tags {
        world.broker.append(0, payload(tag, 0), &mut world.truth, &mut world.random);
    }
}

/// Everything comes to the end: the source works, and the reactors, until nothing is left to do.
pub(crate) fn work_off(world: &mut World) {
    loop {
        let is_quiet = world.source_turn(100);
        if !world.turn_any() && is_quiet {
            return;
        }
        while world.turn_any() {}
    }
}

/// A stream is replaced while clients read it from the beginning. The reactor's inbox is full, so it copies the log, which is
/// so short that the change of stream is no longer in it. Whoever gets its page only then has all the same nothing of the
/// former stream: it is told of no gap, gets nothing twice, and misses nothing, though ids of the two streams overlap.
#[test]
fn a_replay_goes_on_in_a_log_that_was_replaced_by_a_copy() {
    const REWIND: &[u8] = b"GET /sse?topic=topic.0 HTTP/1.1\r\nHost: h\r\nLast-Event-ID: 0-0\r\n\r\n";
    /// Requests that the archive takes at once, and entries that the hub reads at once.
    const BATCH: usize = 4;
    const INBOX_EVENTS: usize = 2;
    let expected: String = (10..16).map(|tag| payload(tag, 0)).collect();
    let mut served = 0;
    for seed in 0..16 {
        let plan = calm_plan(Policy::Close);
        let in_memory = plan.topics[0];
        let stream = TopicPlan { history_events: 3, lag_events: 0, is_stream: true, ..in_memory };
        let topics = vec![stream, in_memory];
        let mut world = World::new(Plan { topics, inbox_events_max: INBOX_EVENTS, ..plan }, seed);
        connect(&mut world, b"GET /sse?topic=topic.0&topic=topic.1 HTTP/1.1\r\nHost: h\r\n\r\n");
        add_entries(&mut world, 0..5);
        work_off(&mut world);
        let wires: Vec<SharedWire> = (0..=BATCH).map(|_| connect(&mut world, REWIND)).collect();
        world.broker.replace(0, &mut world.truth, &mut world.random);
        add_entries(&mut world, 10..14);
        for tag in 20..20 + INBOX_EVENTS as u64 {
            let (topic, now) = (&world.truth.topics[1], world.clock.now());
            world.hub.bus.feed().publish(topic, None, Bytes::from(payload(tag, 0)), now).expect("a good event");
        }
        // The hub reads the other stream, and all but one get their page.
        world.source_turn(BATCH);
        while world.turn_any() {}
        // The last page is on its way when more comes.
        world.source_turn(BATCH);
        add_entries(&mut world, 14..16);
        work_off(&mut world);
        for wire in wires {
            // The archive may not answer, and the listener for administration takes few.
            if wire.lock().server_ended {
                continue;
            }
            let text = String::from_utf8(wire.lock().take(usize::MAX)).expect("UTF-8");
            assert!(!text.contains("event: gap"), "seed {seed}: {text}");
            let data: String = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            assert_eq!(data, expected, "seed {seed}: {text}");
            served += 1;
        }
    }
    assert!(8 * BATCH < served, "the archive served {served}");
}

/// A calm world whose topic a broker keeps.
fn calm_stream(policy: Policy) -> World {
    let plan = calm_plan(policy);
    let topics = vec![TopicPlan { is_stream: true, ..plan.topics[0] }];
    World::new(Plan { topics, ..plan }, 1)
}

/// All that comes to the client at `wire`, which reads it as it comes.
fn read_out(world: &mut World, wire: &SharedWire) -> String {
    work_off(world);
    let bytes = wire.lock().take(usize::MAX);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if bytes.is_empty() { text } else { text + &read_out(world, wire) }
}

/// A stream is replaced, and replaced again, before its readers have been told: they stand ahead of a change of stream that the
/// log has passed. Nothing of what they lack is anywhere, so none is taken for a slow one: all are told of the newest change,
/// from where they stand, and get everything that follows it.
#[test]
fn whoever_a_change_of_stream_has_passed_is_told_of_it() {
    let check = |policy: Policy, unread: u64, changes: usize, is_blocked: bool| {
        let case = format!("{policy:?}, {unread} unread, {changes} changes, blocked: {is_blocked}");
        let mut world = calm_stream(policy);
        let wire = connect(&mut world, b"GET /sse?topic=topic.0 HTTP/1.0\r\nHost: h\r\n\r\n");
        add_entries(&mut world, 0..3);
        read_out(&mut world, &wire);
        if is_blocked {
            // More than the client's window takes.
            world.broker.append(0, payload(3, 5000), &mut world.truth, &mut world.random);
            work_off(&mut world);
        }
        let last = world.truth.log(0).last().expect("an entry").id;
        add_entries(&mut world, 4..4 + unread);
        world.source_turn(100);
        for _ in 0..changes {
            world.broker.replace(0, &mut world.truth, &mut world.random);
            world.source_turn(100);
        }
        add_entries(&mut world, 10..14);
        let text = read_out(&mut world, &wire);
        assert!(!wire.lock().server_ended, "{case}: ended after {text}");
        let (_, told) = text.split_once("event: gap\ndata: ").unwrap_or_else(|| panic!("{case}: {text}"));
        let begins = format!("{{\"topic\":\"topic.0\",\"from\":\"{last}\"");
        assert!(told.starts_with(&begins) && told.contains("\"epoch\""), "{case}: {told}");
        let events: String = told.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(events, (10..14).map(|tag| payload(tag, 0)).collect::<String>(), "{case}: {text}");
    };
    for policy in Policy::ALL {
        for case in 0..8 {
            check(policy, case & 2, 1 + (case & 1) as usize, 4 <= case);
        }
    }
}

/// A raw client comes back with an id of a stream that was replaced. Whether the hub saw the change or the broker has to tell, the
/// close frame says where the new stream begins, and from there on the client gets all of it.
#[test]
fn a_raw_client_gets_all_of_a_stream_that_replaced_its_own() {
    for is_read in [true, false] {
        let mut world = calm_stream(Policy::Close);
        if is_read {
            connect(&mut world, b"GET /sse?topic=topic.0 HTTP/1.1\r\nHost: h\r\n\r\n");
        }
        add_entries(&mut world, 0..3);
        work_off(&mut world);
        let seen = world.truth.entry(0, 2).id.to_string();
        world.broker.replace(0, &mut world.truth, &mut world.random);
        add_entries(&mut world, 10..14);
        work_off(&mut world);
        let mut come_back = |since: &str| {
            let target = format!("GET /ws?topic=topic.0&last_event_id={since}");
            let wire = connect(&mut world, format!("{target} {UPGRADE}\r\n").as_bytes());
            read_out(&mut world, &wire)
        };
        let told = come_back(&seen);
        let to = told.split("\"to\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let to = to.filter(|_| told.contains("\"gap\":\"epoch\"")).unwrap_or_else(|| panic!("{told}"));
        let text = come_back(to);
        assert!((10..14).all(|tag| text.contains(&payload(tag, 0))), "{is_read}: {text} follows {told}");
    }
}

/// Reads all that has come to the client at `wire`, which is whole responses: how many.
fn take_responses(wire: &SharedWire) -> usize {
    let bytes = wire.lock().take(usize::MAX);
    bytes.windows(9).filter(|window| window == b"HTTP/1.1 ").count()
}

/// Publications that one connection sends at once, and the most of them that may be answered before another connection's
/// request, whenever that comes: what a reactor answers of one connection in a turn.
const FLOOD: usize = 1000;
const FLOOD_AHEAD_MAX: usize = 16;

#[test]
fn a_pipelined_flood_does_not_delay_another_connection() {
    let publication = |tag: u64| {
        let data = payload(tag, 0);
        format!("POST /publish/topic.0 HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n{data}", data.len())
    };
    let publications: String = (0..FLOOD as u64).map(publication).collect();
    let request = b"GET /topics/topic.0 HTTP/1.1\r\nHost: h\r\n\r\n";
    let mut most_ahead = 0;
    for seed in 0..16 {
        let mut world = calm_world_of(Policy::Skip, seed);
        let [flood, other] = [(); 2].map(|()| {
            let wire = connect(&mut world, request);
            wire.lock().reads_fast = true;
            assert_eq!(read_responses(&mut world, &wire).len(), 1);
            wire
        });
        // Both come in the same moment, in either order; later the flood is under way when the other's request comes.
        flood.lock().send(publications.as_bytes());
        let mut answered = 0;
        for _ in 0..20 {
            let before = answered;
            other.lock().send(request);
            while take_responses(&other) == 0 {
                assert!(world.turn_any(), "the request should be answered");
                answered += take_responses(&flood);
            }
            most_ahead = most_ahead.max(answered - before);
        }
        assert!(answered < FLOOD, "the flood should last longer than the requests beside it");
        while world.turn_any() {
            answered += take_responses(&flood);
        }
        assert_eq!(answered, FLOOD, "the flood is answered all the same");
    }
    assert!(
        (1..=FLOOD_AHEAD_MAX).contains(&most_ahead),
        "{most_ahead} of the flood's were answered before the other's"
    );
}

/// The clock moves within a turn, as it does on a busy machine: a long message is checked in several turns. In each of them more
/// bytes come, for which there may be no time, so that the session has to go on in the next turn: behind the close frame.
#[test]
fn messages_before_a_close_frame_are_published() {
    let weather = Weather { short_write_odds: 0, drift: Duration::from_millis(5) };
    let mut world = World::new(Plan { weather, ..calm_plan(Policy::Close) }, 1);
    let mut said = format!("GET /ws {UPGRADE}Sec-WebSocket-Protocol: fanfare.v1\r\n\r\n").into_bytes();
    // Numbers, because a string is checked at a stroke.
    let long = payload(0, 1).replace("\"x\"", &format!("[{}0]", "0,".repeat(LONG_BYTES / 2)));
    for data in [long, payload(1, 1)] {
        let publish = format!(r#"{{"op":"publish","topic":"topic.0","data":{data}}}"#);
        websocket::client::write_masked_text(publish.as_bytes(), [1, 2, 3, 4], &mut said);
    }
    websocket::client::write_masked_close(1000, "", [1, 2, 3, 4], &mut said);
    let wire = SharedWire::new(1000);
    world.connect(Client::new(wire.clone(), ClientProtocol::Garbage, Vec::new(), &world.truth));
    wire.lock().send(&said);
    while !wire.lock().server_ended {
        assert!(world.turn_any(), "there is always something to read");
        wire.lock().send(b"more");
    }
    assert_eq!(world.hub.bus.received_total(), 2);
}

/// So long that it is checked in more than ten steps.
const LONG_BYTES: usize = 200_000;
