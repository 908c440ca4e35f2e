//! A NATS server that dies, hangs or overruns the hub: subscribers get gaps where events may be missing, and the hub recovers by
//! itself.

use crate::support::{
    hub::Hub,
    nats::NatsServer,
    send_signal,
    sse::{Received, SseClient},
    wait_until,
    websocket::WebSocketClient,
};

fn hub_on(server: &NatsServer, settings: &[(&str, &str)]) -> Hub {
    let mut all = vec![
        ("nats.linger", "100ms"),
        ("nats.backoff_min", "20ms"),
        ("nats.backoff_max", "200ms"),
        ("server.live_timeout", "200ms"),
        ("server.default_topics", ""),
    ];
    all.extend_from_slice(settings);
    Hub::start_with(&["--nats", &server.url_as("")], &all)
}

fn wait_until_ready(hub: &Hub) {
    wait_until("the hub is ready", || (hub.get("/ready").status == 200).then_some(()));
}

fn wait_until_unready(hub: &Hub, text: &str) {
    wait_until(&format!("the hub is not ready: {text}"), || {
        let ready = hub.get("/ready");
        (ready.status == 503 && ready.text().contains(text)).then_some(())
    });
}

#[track_caller]
fn expect_gap(received: &Received) {
    assert!(received.kind == "gap" && received.data.contains(r#""reason":"source_lost""#), "{received:?}");
}

#[test]
fn a_server_that_dies_leaves_a_gap_in_every_topic_and_it_heals() {
    let mut server = NatsServer::start();
    let hub = hub_on(&server, &[("nats.subscribe", "kept.*"), ("nats.publish_timeout", "300ms")]);
    let mut streams = ["a", "b", "kept.x"].map(|topic| SseClient::open(&hub, &format!("/sse?topic={topic}")));
    let mut socket = WebSocketClient::open(&hub, "/ws?topic=a");
    ["a", "b", "kept.x"].into_iter().for_each(|topic| server.publish(topic, "before"));
    // It has no subscribers, but a client may resume there.
    server.publish("kept.y", "before");
    for stream in &mut streams {
        assert_eq!(stream.next_data(), "before");
    }
    assert_eq!(socket.next_text(), "before");
    wait_until("it came", || (hub.get("/topics/kept.y").status == 200).then_some(()));
    server.kill();
    wait_until_unready(&hub, "nats reader: not connected");
    let response = hub.post("/publish/a", "meanwhile");
    assert_eq!((response.status, response.error_code().as_str()), (503, "unavailable"));
    server.restart();
    wait_until_ready(&hub);
    server.wait_for_subjects(&["a", "b", "kept.*"]);
    for (stream, topic) in streams.iter_mut().zip(["a", "b", "kept.x"]) {
        expect_gap(&stream.next());
        server.publish(topic, "after");
        assert_eq!(stream.next_data(), "after");
    }
    // Raw WebSocket has no form for a gap.
    assert_eq!(socket.close_code(), Some(4408));
    let mut late = SseClient::open(&hub, "/sse?topic=kept.y&last_event_id=first");
    assert_eq!(late.next_data(), "before");
    expect_gap(&late.next());
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"nats\"}"), 1.0);
    assert_eq!(hub.metric("fanfare_source_losses_total{source=\"nats\"}"), 4.0);
}

#[test]
fn a_server_that_hangs_is_given_up() {
    let server = NatsServer::start();
    let settings = [("nats.ping_interval", "100ms"), ("nats.ping_timeout", "300ms"), ("nats.proof_age_max", "200ms")];
    let hub = hub_on(&server, &[&settings[..], &[("nats.publish_timeout", "200ms")]].concat());
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    server.publish("t", "before");
    assert_eq!(stream.next_data(), "before");
    wait_until_ready(&hub);
    server.freeze();
    let response = hub.post("/publish/t", "unknown");
    // Unless the fence before it was still pending: then it was not sent.
    assert!(matches!(response.status, 503 | 504), "{}", response.text());
    wait_until_unready(&hub, "the server does not answer");
    server.thaw();
    wait_until_ready(&hub);
    wait_until("it takes events again", || (hub.post("/publish/t", "after").status == 200).then_some(()));
    let events: Vec<Received> =
        std::iter::repeat_with(|| stream.next()).take_while(|event| event.data != "after").collect();
    assert!(events.iter().any(|event| event.kind == "gap"), "{events:?}");
}

/// Ascending numbers for a hub that stands still: the server keeps some for it, then closes the connection.
#[test]
fn what_the_server_drops_for_a_slow_hub_is_told() {
    const COUNT: usize = 30_000;
    let server = NatsServer::start_with("max_pending: 1MB\nwrite_deadline: \"100ms\"");
    let hub = hub_on(&server, &[]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut client = server.client();
    send_signal("STOP", hub.pid());
    // More than the sockets' buffers and the server's queue hold together.
    client.publish_all("t", (0..COUNT).map(|number| format!("{number:01000}")));
    wait_until("the server drops the hub", || (server.slow_consumers() != 0).then_some(()));
    send_signal("CONT", hub.pid());
    wait_until("a loss", || (0.0 < hub.metric("fanfare_source_losses_total{source=\"nats\"}")).then_some(()));
    wait_until_ready(&hub);
    server.wait_for_subjects(&["t"]);
    client.publish("t", "end");
    let (mut expected, mut gaps) = (Some(0), 0);
    loop {
        let event = stream.next();
        if event.kind == "gap" {
            expect_gap(&event);
            gaps += 1;
            expected = None;
        } else if event.data == "end" {
            break;
        } else {
            let number: usize = event.data.parse().expect("a number");
            assert!(expected.is_none_or(|expected| expected == number), "{number}, not {expected:?}");
            expected = Some(number + 1);
        }
    }
    assert!(0 < gaps, "the last of {COUNT} events was {expected:?}, and no gap");
}

#[test]
fn a_hub_moves_to_another_server_of_the_cluster() {
    let mut servers = NatsServer::start_pair();
    let urls = servers.each_ref().map(|server| server.url_as("")).join(",");
    let settings = [("nats.backoff_min", "20ms"), ("nats.backoff_max", "200ms"), ("server.default_topics", "")];
    let hub = Hub::start_with(&["--nats", &urls], &settings);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    for server in &servers {
        // The other server may not know the subscription yet.
        wait_until("it is passed on", || {
            server.publish("t", "before");
            (0 < hub.stats()["events_received"].as_u64()?).then_some(())
        });
    }
    let used = usize::from(servers[0].subjects().is_empty());
    servers[used].kill();
    let gap = std::iter::repeat_with(|| stream.next()).find(|event| event.data != "before").expect("a stream");
    expect_gap(&gap);
    wait_until_ready(&hub);
    servers[1 - used].publish("t", "after");
    assert_eq!(stream.next_data(), "after");
    assert_eq!(hub.post("/publish/t", "through it").status, 200);
    assert_eq!(stream.next_data(), "through it");
}

/// Any client can publish any bytes as headers and as a subject: no such message ends the connection, whoever it is for.
#[test]
fn what_is_no_text_ends_no_connection() {
    let server = NatsServer::start();
    let hub = hub_on(&server, &[("nats.subscribe", ">"), ("nats.header_bytes_max", "1KiB")]);
    let mut stream = SseClient::open(&hub, "/sse?topic=t");
    let mut client = server.client();
    let mut check = |message: &[u8], kind: &str, data: &str| {
        client.send(&[message, b"\r\n"].concat());
        let event = stream.next();
        assert_eq!((event.kind.as_str(), event.data.as_str()), (kind, data), "{}", message.escape_ascii());
    };
    check(b"HPUB t 18 19\r\nNATS/1.0\r\nA: \xFF\r\n\r\n1", "", "1");
    check(b"HPUB t 28 29\r\nNATS/1.0\r\nEvent-Type: \xFFa\r\n\r\n2", "%FFa", "2");
    check(b"HPUB t 24 25\r\nNATS/1.0\r\nEvent-Type: ab3", "ab", "3");
    check(b"HPUB t 18 19\r\nNATS/1.0\r\nnone\r\n\r\n4", "", "4");
    check(b"HPUB t 2 3\r\n\r\n5", "", "5");
    check(b"PUB a\xFFb 1\r\nx\r\nPUB t 1\r\n6", "", "6");
    assert_eq!(hub.metric("fanfare_source_rejected_messages_total{source=\"nats\"}"), 1.0, "no topic has such a name");
    let long = format!("HPUB t 1100 1101\r\nNATS/1.0\r\n{}\r\n\r\nx\r\n", "x".repeat(1100 - 14));
    client.send(long.as_bytes());
    expect_gap(&stream.next());
    client.publish("t", "7");
    assert_eq!(stream.next_data(), "7");
    assert_eq!(hub.metric("fanfare_source_rejected_messages_total{source=\"nats\"}"), 2.0);
    assert_eq!(hub.metric("fanfare_source_reconnects_total{source=\"nats\"}"), 0.0);
}

/// Every number is delivered or covered by a gap, however often the server dies. Every confirmed number is delivered.
#[test]
fn events_while_the_server_dies_are_delivered_or_covered_by_a_gap() {
    const ROUNDS: u64 = 3;
    let mut server = NatsServer::start();
    let hub = hub_on(&server, &[("nats.publish_timeout", "200ms")]);
    let topics: Vec<String> = (0..10).map(|number| format!("t{number}")).collect();
    let mut streams: Vec<SseClient> =
        topics.iter().map(|topic| SseClient::open(&hub, &format!("/sse?topic={topic}"))).collect();
    wait_until_ready(&hub);
    let publish_round = |round: u64| -> Vec<u64> {
        let numbers = round * 20..(round + 1) * 20;
        numbers
            .filter(|number| {
                topics.iter().all(|topic| hub.post(&format!("/publish/{topic}"), number.to_string()).status == 200)
            })
            .collect()
    };
    let mut confirmed = publish_round(0);
    for round in 1..=ROUNDS {
        server.kill();
        wait_until_unready(&hub, "not connected");
        assert_eq!(hub.post("/publish/t0", "0").status, 503, "nothing is confirmed without a server");
        server.restart();
        wait_until_ready(&hub);
        server.wait_for_subjects(&topics.iter().map(String::as_str).collect::<Vec<_>>());
        confirmed.extend(publish_round(round));
    }
    server.client().publish_all("t0", ["end"]);
    topics[1..].iter().for_each(|topic| server.publish(topic, "end"));
    for stream in &mut streams {
        let all: Vec<Received> =
            std::iter::repeat_with(|| stream.next()).take_while(|event| event.data != "end").collect();
        let (gaps, events): (Vec<Received>, Vec<Received>) = all.into_iter().partition(|event| event.kind == "gap");
        let numbers: Vec<u64> = events.iter().map(|event| event.data.parse().expect("a number")).collect();
        assert_eq!(numbers, confirmed);
        assert_eq!(gaps.len() as u64, ROUNDS, "one outage is one gap");
    }
}
