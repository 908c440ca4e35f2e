mod end_to_end;
mod known_latencies;

use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::{
    options::Options,
    order::{Arrival, Faults, Order},
    payload::{PAYLOAD_BYTES_MIN, PROBE, Stamp},
    plan::{Plan, PublishTarget},
    process,
    progress::Progress,
    schedule::{Arrivals, Pace, Schedule},
    slices::Slicing,
    tally::{Received, Tally},
    target::Target,
    topics::Audience,
    transport::Transport,
    wire::{ClientProfile, Wire},
    wire_event::WireEvent,
};
use crate::{clock::Moment, protocol::websocket};

#[derive(Parser)]
struct CommandLine {
    #[command(flatten)]
    options: Options,
}

/// What these arguments of `fanfare bench` mean.
pub(super) fn plan(arguments: &[&str]) -> Result<Plan, String> {
    Plan::new(&CommandLine::parse_from(["bench"].iter().chain(arguments)).options)
}

/// Of a subscriber that speaks `transport`.
fn wire(transport: Transport) -> Wire {
    let name = transport.to_possible_value().expect("no transport is hidden");
    manners(&plan(&["--transport", name.get_name(), "--token", "t.o.k"]).expect("a plan"))[0].wire()
}

/// Of the plan's first load.
fn manners(plan: &Plan) -> Vec<ClientProfile> {
    ClientProfile::of_load(plan, &plan.loads[0])
}

fn request(plan: &Plan) -> String {
    String::from_utf8(manners(plan).remove(0).request).expect("ASCII")
}

#[test]
fn a_stamp_is_found_again() {
    let check = |stamp: Stamp, size_bytes: usize, before: &str, after: &str| {
        let mut message = before.as_bytes().to_vec();
        stamp.write(size_bytes, &mut message);
        assert_eq!(message.len() - before.len(), size_bytes.max(PAYLOAD_BYTES_MIN));
        serde_json::from_slice::<serde_json::Value>(&message[before.len()..]).expect("payloads are JSON");
        message.extend_from_slice(after.as_bytes());
        let (found, rest) = Stamp::find(&message).expect("it is there");
        assert_eq!((found, Stamp::find(rest)), (stamp, None));
        let twice = message.repeat(2);
        let (_, rest) = Stamp::find(&twice).expect("it is there");
        assert_eq!(Stamp::find(rest).expect("the second").0, stamp, "joined messages");
    };
    let stamp = Stamp { run: 0xbeef, sequence: 12, intended: Moment(123_456_789_012) };
    check(stamp, 200, "", "");
    check(stamp, 1, "", "");
    check(Stamp { run: 0, sequence: PROBE, intended: Moment(u64::MAX) }, PAYLOAD_BYTES_MIN, "", "");
    check(stamp, 100, r#"{"op":"event","topic":"a","id":"1-1","type":null,"data":"#, "}");
}

#[test]
fn what_carries_no_stamp_is_foreign() {
    let mut cut = Vec::new();
    Stamp { run: 1, sequence: 2, intended: Moment(3) }.write(100, &mut cut);
    cut.truncate(PAYLOAD_BYTES_MIN - 1);
    for message in
        [&b""[..], b"{}", br#"{"r":""#, br#"{"r":"zzzz","s":"00000000","t":"0000000000000000","p":""}"#, &cut]
    {
        assert_eq!(Stamp::find(message), None, "{}", String::from_utf8_lossy(message));
    }
}

#[test]
fn arrivals_are_told_apart() {
    use Arrival::{Ahead, InOrder, Late, Repeated};
    let check = |sequence: &[u32], expected: &[Arrival], missing_of_five: u32| {
        let mut order = Order::default();
        let told: Vec<Arrival> = sequence.iter().map(|&number| order.note(number, 1)).collect();
        assert_eq!(told, expected, "{sequence:?}");
        assert_eq!(order.missing(5, 1), missing_of_five, "{sequence:?}");
    };
    check(&[], &[], 5);
    check(&[0, 1, 2, 3, 4], &[InOrder; 5], 0);
    check(&[0, 0, 1, 0], &[InOrder, Repeated, InOrder, Repeated], 3);
    check(&[0, 3, 1, 1, 2, 4], &[InOrder, Ahead(2), Late, Repeated, Late, InOrder], 0);
    check(&[1, 0, 0], &[Ahead(1), Late, Repeated], 3);
    check(&[100, 36, 37, 37], &[Ahead(100), Late, Late, Repeated], 0);
}

#[test]
fn each_topic_has_its_own_numbers() {
    use Arrival::{Ahead, Foreign, InOrder, Late, Repeated};
    let check = |topic: u32, sequence: &[u32], expected: &[Arrival], missing_of_ten: u32| {
        let mut order = Order::of_topic(topic);
        let told: Vec<Arrival> = sequence.iter().map(|&number| order.note(number, 4)).collect();
        assert_eq!(told, expected, "{topic}: {sequence:?}");
        assert_eq!(order.missing(10, 4), missing_of_ten, "{topic}: {sequence:?}");
    };
    check(1, &[], &[], 3);
    check(2, &[], &[], 2);
    check(1, &[1, 5, 9], &[InOrder; 3], 0);
    check(1, &[1, 2, 4, 5], &[InOrder, Foreign, Foreign, InOrder], 1);
    check(0, &[8, 0, 4, 4, 0], &[Ahead(2), Late, Late, Repeated, Repeated], 0);
    check(3, &[3, 3, 11], &[InOrder, Repeated, Ahead(1)], 0);
}

#[test]
fn faults_add_up() {
    let check = |sequence: &[u32], (lost, repeated, reordered): (u64, u64, u64)| {
        let (mut order, mut faults) = (Order::default(), Faults::default());
        sequence.iter().for_each(|&number| faults.count(order.note(number, 1)));
        assert_eq!(faults, Faults { lost, repeated, reordered, foreign: 0 }, "{sequence:?}");
    };
    check(&[0, 1, 2], (0, 0, 0));
    check(&[0, 3], (2, 0, 0));
    check(&[0, 3, 1], (1, 0, 1));
    check(&[0, 0, 2, 2, 1], (0, 2, 1));
}

#[test]
fn schedules() {
    let check = |arrivals, due_ms: &[u64], measured| {
        let pace = Pace {
            arrivals,
            rate: 10.0,
            burst_events: 3,
            warmup: Duration::from_millis(200),
            duration: Duration::from_millis(300),
        };
        let schedule = Schedule::new(&pace);
        assert_eq!(schedule.due, due_ms.iter().map(|&due| Duration::from_millis(due)).collect::<Vec<_>>());
        assert_eq!(schedule.measured, measured);
    };
    check(Arrivals::Even, &[50, 150, 250, 350, 450], 2..5);
    check(Arrivals::Burst, &[150, 150, 150, 450, 450], 3..5);
}

#[test]
fn random_arrivals_keep_the_rate_and_repeat() {
    let pace = Pace {
        arrivals: Arrivals::Poisson,
        rate: 1000.0,
        burst_events: 1,
        warmup: Duration::from_secs(1),
        duration: Duration::from_secs(9),
    };
    let schedule = Schedule::new(&pace);
    // Four standard deviations of a Poisson count of 10,000.
    assert!((9_600..=10_400).contains(&schedule.event_count()), "{}", schedule.event_count());
    assert!(schedule.due.is_sorted());
    assert_eq!(schedule.due, Schedule::new(&pace).due);
}

#[test]
fn a_tally_knows_first_median_and_last() {
    let mut tally = Tally::new(
        10..12,
        Audience { first: 0, subscribers: 3, topics: 1 },
        Slicing { width: Duration::from_secs(1), count: 2, of_events: vec![0, 1] },
    );
    let ms = |count: u64| Moment(count * 1_000_000);
    let received = |at: u64| Received { read: ms(at), kernel: Some(ms(at - 1)) };
    for (sequence, at) in [(9, 5), (10, 12), (10, 14), (10, 19), (11, 21), (11, 22), (12, 30)] {
        tally.record(sequence, ms(10), received(at));
    }
    let events = tally.per_event();
    let near = |histogram: &hdrhistogram::Histogram<u64>, expected_ms: u64| {
        assert_eq!(histogram.len(), 1);
        assert!(histogram.max().abs_diff(expected_ms * 1_000_000) < 10_000, "{}", histogram.max());
    };
    near(&events.first, 2);
    near(&events.median, 4);
    near(&events.last, 9);
    near(&events.last_kernel, 8);
    assert_eq!((tally.read().len(), tally.kernel.len(), events.incomplete), (5, 5, 1));
}

/// What a wire hears of `bytes`, in pieces of any size: `<open>`, then the messages; and what it answers.
fn check_wire(transport: Transport, bytes: &[u8], expected: &[&str], answer_bytes: usize) {
    for piece_bytes in 1..=bytes.len() {
        let (mut wire, mut reply, mut events) = (wire(transport), Vec::new(), Vec::new());
        for piece in bytes.chunks(piece_bytes) {
            let mut on_event = |what: WireEvent<'_>| match what {
                WireEvent::Opened => events.push("<open>".to_owned()),
                WireEvent::Message(message) => events.push(String::from_utf8_lossy(message).into_owned()),
                WireEvent::Other(_) | WireEvent::Awaiting(_) => {}
                WireEvent::Response(status) => events.push(status.to_string()),
            };
            wire.receive(piece, &mut reply, &mut on_event).expect("well-formed");
        }
        assert_eq!(events, expected, "in pieces of {piece_bytes}");
        assert_eq!(reply.len(), answer_bytes, "in pieces of {piece_bytes}");
    }
}

#[test]
fn a_stream_is_heard() {
    let bytes = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n\
        2\r\n:\n\r\n11\r\nid: 1\ndata: one\n\n\r\nb\r\ndata: two\n\n\r\n";
    check_wire(Transport::Sse, bytes, &["<open>", "one", "two"], 0);
}

#[test]
fn frames_are_heard_and_pings_answered() {
    let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec();
    bytes.extend(websocket::encode_text(b"one"));
    bytes.extend(websocket::PING);
    bytes.extend(websocket::encode_text(b"two"));
    check_wire(Transport::Ws, &bytes, &["<open>", "one", "two"], 6 + websocket::PING.len() - 2);
}

/// Server frames, right behind a granted upgrade.
fn packets(each: &[&str]) -> Vec<u8> {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec();
    each.iter().fold(head, |bytes, packet| [bytes, websocket::encode_text(packet.as_bytes()).to_vec()].concat())
}

#[test]
fn a_room_is_entered_and_heard() {
    let entering = [r#"0{"sid":"a"}"#, "2", r#"40{"sid":"b"}"#, r#"42["connected",{"a":1}]"#, r#"42["subscribed",{}]"#];
    let events = [r#"42["message",{"a":1}]"#, "2", r#"42["x",2]"#];
    let mut answers = Vec::new();
    for answer in [r#"40{"token":"t.o.k"}"#, "3", r#"42["subscribe",{"topic":"bench"}]"#, "3"] {
        websocket::client::write_masked_text(answer.as_bytes(), [0; 4], &mut answers);
    }
    let bytes = packets(&[&entering[..], &events].concat());
    check_wire(Transport::SocketIo, &bytes, &["<open>", r#"["message",{"a":1}]"#, r#"["x",2]"#], answers.len());
}

/// The texts of a client's messages, each shorter than 126 bytes. No two may have the same mask (RFC 6455 section 5.3).
fn unmask(mut bytes: &[u8]) -> Vec<String> {
    let (mut texts, mut masks) = (Vec::new(), std::collections::BTreeSet::new());
    while let [0x81, length, a, b, c, d, rest @ ..] = bytes {
        let (payload, behind) = rest.split_at(usize::from(length & 0x7f));
        let mask = [*a, *b, *c, *d];
        assert!(masks.insert(mask), "{mask:x?} again");
        let unmasked = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| char::from(byte ^ mask));
        texts.push(unmasked.collect::<String>());
        bytes = behind;
    }
    assert!(bytes.is_empty(), "not a whole message: {bytes:x?}");
    texts
}

#[test]
fn rooms_may_have_names_of_their_own() {
    let check = |arguments: &[&str], server: &[&str], events: &[&str], said: &[&str]| {
        let plan = plan(&[&["--transport", "socketio", "--topic", "a.b"], arguments].concat()).expect("a plan");
        let (mut wire, mut reply, mut told) = (manners(&plan)[0].wire(), Vec::new(), Vec::new());
        let mut on_event = |what: WireEvent<'_>| match what {
            WireEvent::Opened => told.push("<open>".to_owned()),
            WireEvent::Message(text) | WireEvent::Other(text) => told.push(String::from_utf8_lossy(text).into_owned()),
            WireEvent::Awaiting(_) => {}
            WireEvent::Response(status) => told.push(status.to_string()),
        };
        wire.receive(&packets(server), &mut reply, &mut on_event).expect("well-formed");
        assert_eq!(told, events, "{arguments:?}");
        assert_eq!(unmask(&reply), said, "{arguments:?}");
    };
    check(
        &["--socketio-event", "join", "--socketio-args", r#""{topic}",1"#, "--socketio-confirmation", "in"],
        &["0{}", "40{}", r#"42["subscribed",1]"#, r#"42["in"]"#, r#"42["x"]"#],
        &[r#"42["subscribed",1]"#, "<open>", r#"["x"]"#],
        &["40", r#"42["join","a.b",1]"#],
    );
    check(
        &["--socketio-namespace", "/n", "--socketio-args", "", "--socketio-confirmation", "", "--token", "t"],
        &["0{}", r#"40/n,{"sid":"a"}"#, r#"42/n,["x",{}]"#],
        &["<open>", r#"/n,["x",{}]"#],
        &[r#"40/n,{"token":"t"}"#, r#"42/n,["subscribe"]"#],
    );
    for bad in [["--socketio-args", "x"], ["--socketio-args", "1]"], ["--socketio-namespace", "n"]] {
        assert!(plan(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn who_lets_nobody_in_is_quoted() {
    let progress = Progress::default();
    assert_eq!(progress.obstacle(), "");
    progress.set_awaited("joined");
    progress.remark(b"no");
    progress.remark(&[b'x'; 1000]);
    let obstacle = progress.obstacle();
    assert!(obstacle.starts_with("; awaited last: joined; what the server said instead: xxx"), "{obstacle}");
    assert!(obstacle.len() < 600, "{obstacle}");
}

#[test]
fn who_may_present_a_token_does() {
    let check = |transport: &str, expected: bool| {
        let plan = plan(&["--transport", transport, "--token", "t.o.k"]).expect("a plan");
        let request = request(&plan);
        assert_eq!(request.contains("\r\nAuthorization: Bearer t.o.k\r\n"), expected, "{request}");
    };
    check("sse", true);
    check("ws", true);
    check("socketio", false);
}

#[test]
fn refusals_are_told() {
    let check = |transport, bytes: &[u8], expected: &str| {
        let problem = wire(transport).receive(bytes, &mut Vec::new(), &mut |_| {}).expect_err("refused");
        assert!(problem.contains(expected), "{problem}");
    };
    check(Transport::Sse, b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", "503");
    check(Transport::Sse, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", "200");
    check(Transport::Ws, b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "404");
    let closed = b"HTTP/1.1 101 Yes\r\n\r\n\x88\x04\x03\xf5no";
    check(Transport::Ws, closed, "1013");
    check(Transport::SocketIo, b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n", "403");
    let check_packet = |before: &[&str], packet: &str| {
        check(Transport::SocketIo, &packets(&[before, &[packet]].concat()), packet);
    };
    check_packet(&[r#"0{"sid":"a"}"#], r#"44{"message":"token missing"}"#);
    check_packet(&[r#"0{"sid":"a"}"#, "40{}"], r#"42["error",{"message":"no such topic"}]"#);
    check_packet(&[r#"0{"sid":"a"}"#, "40{}", r#"42["subscribed",{}]"#], "41");
}

#[test]
fn targets() {
    let check = |url: &str, expected: Option<(&str, &str)>| {
        let parsed = Target::parse(url, "http://", 80).ok();
        let parsed = parsed.map(|target| (target.host, target.address.to_string()));
        assert_eq!(parsed, expected.map(|(host, address)| (host.to_owned(), address.to_owned())), "{url}");
    };
    check("http://127.0.0.1:8080", Some(("127.0.0.1:8080", "127.0.0.1:8080")));
    check("http://127.0.0.1/", Some(("127.0.0.1", "127.0.0.1:80")));
    check("http://[::1]:90", Some(("[::1]:90", "[::1]:90")));
    check("http://[::1]", Some(("[::1]", "[::1]:80")));
    for bad in ["", "127.0.0.1", "http://", "https://127.0.0.1", "http://u@127.0.0.1", "http://127.0.0.1/x"] {
        check(bad, None);
    }
}

#[test]
fn the_kernel_is_understood() {
    let used = process::CpuUse::of_process(std::process::id()).expect("this process lives");
    assert!(0 < used.run_ns && 0 < used.thread_count);
    let memory = process::MemoryUse::of_process(std::process::id()).expect("this process lives");
    // Bytes, not the KiB of the kernel's files: a test's process has more than a MiB, a machine's slab too.
    assert!(1 << 20 < memory.rss_bytes, "{memory:?}");
    assert!(0 < memory.pss_bytes && memory.pss_bytes <= memory.rss_bytes, "{memory:?}");
    assert!(1 << 20 < process::KernelMemory::now().slab_bytes);
    let cores = process::core_ticks();
    assert_eq!(cores.len(), std::fs::read_dir("/sys/devices/system/cpu").map_or(0, count_online));
    assert!(cores.iter().all(|core| 0 < core.busy + core.idle));
    process::wake_punctually().expect("a thread may ask for itself");
    assert!(process::own_thread().join("schedstat").is_file());
}

#[test]
fn full_queues_are_found() {
    let check = |netstat: &str, expected| assert_eq!(process::parse_listen_overflows(netstat), expected, "{netstat:?}");
    check("", 0);
    check("TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 23 4\nIpExt: A\nIpExt: 5\n", 23);
    check("IpExt: ListenOverflows\nIpExt: 5\nTcpExt: A B\nTcpExt: 1 2\n", 0);
}

fn count_online(folder: std::fs::ReadDir) -> usize {
    let names = folder.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let is_core = |name: &String| name.strip_prefix("cpu").is_some_and(|rest| rest.parse::<u32>().is_ok());
    names.filter(is_core).count()
}

#[test]
fn where_to_publish() {
    let check = |arguments: &[&str], expected: Option<&str>| {
        let publish = plan(arguments).map(|plan| match plan.publish.target {
            PublishTarget::Redis(address) => format!("{address:?}"),
            PublishTarget::Nats(broker) => format!("nats {}", broker.target.address),
            PublishTarget::Http(post) => format!("http {} {:?} {}", post.target.address, post.method, post.path),
        });
        assert_eq!(publish.ok().as_deref(), expected, "{arguments:?}");
    };
    check(&[], Some("http 127.0.0.1:8080 Post /publish/{topic}"));
    check(&["--publish", "redis://127.0.0.1"], Some("redis://127.0.0.1:6379/0"));
    check(&["--publish", "http://127.0.0.1:90/"], Some("http 127.0.0.1:90 Post /publish/{topic}"));
    check(&["--publish", "http://127.0.0.1:90?a={topic}"], Some("http 127.0.0.1:90 Post /?a={topic}"));
    check(&["--publish", "http://127.0.0.1/in/{topic}"], Some("http 127.0.0.1:80 Post /in/{topic}"));
    check(&["--publish-method", "put"], Some("http 127.0.0.1:8080 Put /publish/{topic}"));
    check(&["--publish", "nats://user:secret@127.0.0.1"], Some("nats 127.0.0.1:4222"));
    check(&["--publish", "redis://user:secret@127.0.0.1:7/3"], Some("redis://127.0.0.1:7/3"));
    check(&["--publish", "rediss://u:secret@127.0.0.1:7/3"], Some("rediss://127.0.0.1:7/3"));
    check(&["--publish", "rediss://127.0.0.1/#insecure"], None);
    check(&["--publish-body", "nothing"], None);
}

#[test]
fn what_subscribers_ask_of_any_server() {
    let check = |url: &str, expected: Option<(&str, &str)>| {
        let made = plan(&["--subscribe", url, "--publish", "redis://127.0.0.1", "--header", "X-Key: a b"]);
        let request = made.as_ref().ok().map(|plan| (plan.target.address.to_string(), request(plan)));
        assert_eq!(request.is_some(), expected.is_some(), "{url}: {made:?}");
        let Some(((address, request), (expected_address, target))) = request.zip(expected) else { return };
        assert_eq!(address, expected_address, "{url}");
        assert!(request.starts_with(&format!("GET {target} HTTP/1.1\r\n")), "{url}: {request}");
        assert!(request.contains("\r\nX-Key: a b\r\n"), "{request}");
    };
    check("ws://127.0.0.1:90/of/{topic}", Some(("127.0.0.1:90", "/of/bench")));
    check("http://127.0.0.1?t={topic}", Some(("127.0.0.1:80", "/?t=bench")));
    check("http://127.0.0.1", Some(("127.0.0.1:80", "/")));
    check("https://127.0.0.1/", Some(("127.0.0.1:443", "/")));
    check("wss://127.0.0.1:90/a", Some(("127.0.0.1:90", "/a")));
    check("ws://", None);
}

#[test]
fn cores_of_processes() {
    let check = |processes: &str, pin: &str, workers: [Option<usize>; 2], own: Option<usize>| {
        let arguments = ["--processes", processes, "--pin", pin];
        let plan = plan(if pin.is_empty() { &arguments[..2] } else { &arguments }).expect("a plan");
        assert_eq!(([0, 1].map(|worker| plan.worker_core(worker)), plan.own_core()), (workers, own), "{arguments:?}");
    };
    check("2", "", [None, None], None);
    check("2", "1", [Some(1), Some(2)], Some(1));
    check("2", "1,3", [Some(1), Some(3)], Some(1));
    check("2", "1,3,0", [Some(1), Some(3)], Some(0));
    check("1", "1", [Some(1), Some(2)], Some(1));
    assert!(plan(&["--pin", "1,2"]).is_err());
}
