//! Socket.IO: namespaces, acknowledgements, and what clients may not do.

use fanfare_core::protocol::websocket::client::write_masked_text;
use serde_json::Value;

use crate::support::{
    hub::Hub,
    socket_io::{Carried, Polled, SocketClient, sessions},
    wait_until,
};

const IN_HASTE: (&str, &str) = ("limits.messages_per_second", "10000");
const TWO_NAMESPACES: (&str, &str) = ("esp.namespaces", "/,/wells");

fn hub() -> Hub {
    Hub::start_with(&["--reactors", "2"], &[IN_HASTE, TWO_NAMESPACES])
}

/// Enters `namespace`, which is not `/`.
#[track_caller]
fn enter(client: &mut impl SocketClient, namespace: &str) -> String {
    client.send(&format!("40{namespace},"));
    let packet = client.next_packet();
    let connected = packet.strip_prefix(&format!("40{namespace},"));
    let connected = connected.unwrap_or_else(|| panic!("it should be let in, not {packet}"));
    let greeting = client.next_event();
    assert_eq!((greeting.namespace.as_str(), greeting.name.as_str()), (namespace, "connected"));
    let connected: Value = serde_json::from_str(connected).expect("JSON");
    connected["sid"].as_str().expect("a text").to_owned()
}

fn each_transport(hub: &Hub, check: fn(&Hub, &mut dyn Talker)) {
    check(hub, &mut Carried::open(hub));
    check(hub, &mut Polled::open(hub));
}

/// Sends and receives texts, on either transport.
trait Talker {
    fn say(&mut self, packet: &str);
    fn receive(&mut self) -> String;
    fn enter(&mut self, namespace: &str);
}

impl<C: SocketClient> Talker for C {
    fn say(&mut self, packet: &str) {
        self.send(packet);
    }

    #[track_caller]
    fn receive(&mut self) -> String {
        self.next_packet()
    }

    #[track_caller]
    fn enter(&mut self, namespace: &str) {
        if namespace == "/" {
            self.enter_with(&Value::Null);
        } else {
            enter(self, namespace);
        }
    }
}

#[test]
fn a_namespace_is_left_and_entered_again() {
    each_transport(&hub(), |hub, client| {
        client.enter("/wells");
        client.enter("/");
        for _ in 0..3 {
            client.say("42/wells,[\"subscribe\",{\"topic\":\"t\"}]");
            assert!(client.receive().starts_with("42/wells,[\"subscribed\""));
            client.say("42[\"subscribe\",{\"topic\":\"t\"}]");
            assert!(client.receive().starts_with("42[\"subscribed\""));
            hub.publish("t", "1");
            let mut both = [client.receive(), client.receive()];
            both.sort();
            assert_eq!(both, ["42/wells,[\"message\",1]", "42[\"message\",1]"]);
            client.say("41/wells,");
            client.say("42[\"ping\"]");
            assert!(client.receive().starts_with("42[\"pong\""));
            hub.publish("t", "2");
            assert_eq!(client.receive(), "42[\"message\",2]", "the other namespace is as it was");
            client.say("42[\"unsubscribe\",{\"topic\":\"t\"}]");
            assert!(client.receive().starts_with("42[\"unsubscribed\""));
            hub.wait_for_listeners("t", 0);
            hub.publish("t", "3");
            client.enter("/wells");
            client.say("42/wells,[\"get_stats\"]");
            let stats = client.receive();
            assert!(stats.contains("\"subscriptions\":[]"), "it is a new one: {stats}");
        }
    });
}

#[test]
fn a_namespace_that_is_not_served_is_refused() {
    each_transport(&hub(), |_, client| {
        client.enter("/");
        client.say("40/nowhere,{\"token\":1}");
        assert_eq!(client.receive(), "44/nowhere,{\"message\":\"Invalid namespace\"}");
        client.say("42[\"ping\"]");
        assert!(client.receive().starts_with("42[\"pong\""), "which harms nobody");
    });
}

/// A client need not wait for the answer to its CONNECT. Packets behind a refused CONNECT are not even read.
#[test]
fn what_stands_behind_a_connect_is_done_once_it_is_answered() {
    let hub = hub();
    let mut client = Polled::open(&hub);
    client.send("40\u{1e}42[\"ping\"]\u{1e}41\u{1e}40/wells,\u{1e}42/wells,7[\"ping\"]");
    let packets: Vec<String> = (0..7).map(|_| client.receive()).collect();
    for (packet, begin) in
        packets.iter().zip(["40{", "42[\"connected\"", "42[\"pong\"", "40/wells,{", "42/wells,[\"connected\""])
    {
        assert!(packet.starts_with(begin), "{begin}: {packets:?}");
    }
    assert!(packets[6].starts_with("43/wells,7[") || packets[5].starts_with("43/wells,7["), "{packets:?}");
}

#[test]
fn acknowledgements_carry_the_answer_and_their_number() {
    each_transport(&hub(), |_, client| {
        client.enter("/wells");
        for (id, event, answer) in [
            (0, "[\"ping\"]", "pong"),
            (7, "[\"subscribe\",{\"well_id\":\"W1\"}]", "subscribed"),
            (123_456_789, "[\"subscribe\",{\"well_id\":\"W1\"}]", "subscribed"),
            (8, "[\"subscribe\",{\"topic\":\"no good name\"}]", "error"),
            (9, "[\"subscribe\"]", "error"),
            (10, "[\"nonsense\",1,2,3]", "error"),
            (11, "[\"unsubscribe\",{\"well_id\":\"W1\"}]", "unsubscribed"),
            (12, "[\"get_stats\"]", "stats"),
        ] {
            client.say(&format!("42/wells,{id}{event}"));
            let packet = client.receive();
            let data =
                packet.strip_prefix(&format!("42/wells,[\"{answer}\",")).unwrap_or_else(|| panic!("{event}: {packet}"));
            assert_eq!(client.receive(), format!("43/wells,{id}[{data}"), "{event}");
        }
    });
}

#[test]
fn attachments_of_a_client_reach_others_as_they_are() {
    let hub = hub();
    let (mut carried, mut polled) = (Carried::open(&hub).enter(), Polled::open(&hub).enter());
    carried.subscribe("t");
    polled.subscribe("t");
    let mut sender = Polled::open(&hub).enter();
    let event = r#"452-["publish",{"topic":"t","type":"blob","data":{"a":{"_placeholder":true,"num":1},"b":{"_placeholder":true,"num":0}}}]"#;
    // Each in its own request, and all in one.
    for packet in [event, "bAAEC", "b/w=="] {
        sender.send(packet);
    }
    sender.send(&[event, "bAAEC", "b/w=="].join("\u{1e}"));
    for _ in 0..2 {
        sender.expect_event("published");
        for event in [carried.next_event(), polled.next_event()] {
            assert_eq!(event.name, "blob");
            let index = |name: &str| event.arguments[0][name]["num"].as_u64().expect("a placeholder") as usize;
            assert_eq!(event.attachments[index("a")], [255]);
            assert_eq!(event.attachments[index("b")], [0, 1, 2]);
        }
    }
}

#[test]
fn a_client_that_sends_too_fast_gets_errors_and_then_ends() {
    let settings = [("limits.messages_per_second", "5"), ("limits.rate_limit_patience", "200ms")];
    let hub = Hub::start_with(&[], &settings);
    let mut client = Carried::open(&hub).enter();
    let (mut pongs, mut errors) = (0, 0);
    // Each waits for its answer, so no request is pending at the end.
    while let Some(packet) = {
        client.send("42[\"ping\"]");
        client.try_next()
    } {
        match packet {
            packet if packet.starts_with("42[\"pong\"") => pongs += 1,
            packet if packet.contains("\"RateLimited\"") => errors += 1,
            packet => panic!("{packet}"),
        }
        assert!(pongs + errors < 1_000_000, "it is never cut off");
    }
    assert_eq!(client.close_code, Some(1008));
    assert!((4..10).contains(&pongs) && 0 < errors, "{pongs} {errors}");

    let mut polled = Polled::open(&hub).enter();
    let many = ["42[\"ping\"]"; 10].join("\u{1e}");
    assert_eq!(polled.post(&many).status, 200);
    let names: Vec<String> = (0..10).map(|_| polled.next_event().name).collect();
    // The CONNECT counts as one of five.
    assert_eq!(names.iter().filter(|name| *name == "pong").count(), 4, "{names:?}");
    wait_until("it is cut off", || (polled.post(&many).status == 400).then_some(()));
    wait_until("no session is left", || (sessions(&hub) == 0).then_some(()));
}

/// A client library waits for each acknowledgement. Beyond the limit the acknowledgement carries the error.
#[test]
fn a_client_that_sends_too_fast_gets_every_acknowledgement() {
    const PINGS: usize = 20;
    let hub = Hub::start_with(&[], &[("limits.messages_per_second", "5")]);
    let long = format!("42{PINGS}[\"x\",\"{}\"]", "x".repeat(70_000));
    let packets: Vec<String> = (0..PINGS).map(|id| format!("42{id}[\"ping\"]")).chain([long]).collect();
    let check = |client: &mut dyn Talker, count: usize| {
        let mut answered = vec![0; count];
        let mut limited = 0;
        while answered.contains(&0) {
            let packet = client.receive();
            let Some((id, data)) = packet.strip_prefix("43").and_then(|ack| ack.split_once('[')) else { continue };
            answered[id.parse::<usize>().expect("a number")] += 1;
            limited += usize::from(data.contains("\"RateLimited\""));
        }
        assert!(answered.iter().all(|count| *count == 1), "{answered:?}");
        assert!(count / 2 < limited, "{limited}");
    };
    let mut carried = Carried::open(&hub).enter();
    packets.iter().for_each(|packet| carried.send(packet));
    check(&mut carried, packets.len());
    let mut polled = Polled::open(&hub).enter();
    let binary =
        format!("451-{}[\"publish\",{{\"topic\":\"t\",\"data\":{{\"_placeholder\":true,\"num\":0}}}}]", PINGS + 1);
    let all = [packets, vec![binary, "bAAEC".to_owned()]].concat();
    assert_eq!(polled.post(&all.join("\u{1e}")).status, 200);
    check(&mut polled, PINGS + 2);
}

#[test]
fn a_broken_rule_ends_the_session() {
    let hub = hub();
    let broken = [
        "2",
        "0{}",
        "7",
        "x",
        "",
        "4",
        "49",
        "4x",
        "42",
        "42[",
        "42[]",
        "42{}",
        "42[\"ping\"",
        "42\"ping\"",
        "42[\"ping\"]x",
        "40",
        "42/wells,[\"ping\"]",
        "41/wells,",
        "43/wells,1[]",
        "44{\"message\":\"no\"}",
        "42/wells",
        "45-[\"a\"]",
        "4511-[\"a\"]",
        "bAAAA",
        "42[\"connect\"]",
        "42[\"disconnect\",1]",
        "4299999999999999999999[\"ping\"]",
    ];
    for packet in broken {
        let mut polled = Polled::open(&hub).enter();
        let answer = polled.post(packet);
        assert_eq!(answer.status, 400, "{packet:?}: {}", answer.text());
        polled.wait_for_end();
        if packet.starts_with('b') {
            continue;
        }
        let mut carried = Carried::open(&hub).enter();
        carried.send(packet);
        carried.wait_for_end();
        assert_eq!(carried.close_code, Some(1002), "{packet:?}");
    }
    wait_until("no session is left", || (sessions(&hub) == 0).then_some(()));
}

#[test]
fn what_was_asked_before_the_end_is_answered() {
    let hub = hub();
    let mut carried = Carried::open(&hub).enter();
    let mut bytes = Vec::new();
    let packets = [["42[\"ping\"]"; 100].as_slice(), &["nonsense"]].concat();
    packets.iter().for_each(|packet| write_masked_text(packet.as_bytes(), [1, 2, 3, 4], &mut bytes));
    carried.websocket.send_bytes(&bytes);
    for _ in 0..100 {
        carried.expect_event("pong");
    }
    carried.wait_for_end();
    assert_eq!(carried.close_code, Some(1002));
}

#[test]
fn a_session_that_has_ended_is_unknown() {
    let hub = hub();
    for (packets, status) in [("42[\"ping\"]\u{1e}nonsense", 400), ("42[\"ping\"]\u{1e}1", 200)] {
        let polled = Polled::open(&hub).enter();
        assert_eq!(polled.post(packets).status, status);
        wait_until("it is gone", || (polled.poll().status == 400).then_some(()));
        wait_until("no session is left", || (sessions(&hub) == 0).then_some(()));
    }
}
