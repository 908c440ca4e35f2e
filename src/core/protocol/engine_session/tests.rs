//! What is worked on before a client has entered a namespace.

use super::*;
use crate::{
    event::EventId,
    gap::{Gap, GapReason},
    index::TopicIndex,
    json::LONG_TEXT_BYTES,
    protocol::{
        self,
        websocket::client::{write_masked_binary, write_masked_text},
    },
    topic::Topic,
};

const NOW: Moment = Moment(1_000_000_000);
const OUTSIDE: Close = Close::BadFrame("the client is not in this namespace");

/// A session of Socket.IO that a WebSocket carries, and whose client has entered these namespaces.
fn session(namespaces: &[&str]) -> EngineSession {
    let sid = SessionId::new(0, [7; 15]);
    let mut session = EngineSession::carried(sid, Layer::SocketIo, &EngineLimits::default(), NOW);
    let sockets = session.sockets.as_mut().expect("it is of Socket.IO");
    namespaces.iter().for_each(|name| sockets.enter(SocketIoClient::new((*name).into(), "s".into(), None, NOW)));
    session
}

/// What comes of `texts` that arrive together: the inputs, in short.
fn receive(session: &mut EngineSession, texts: &[&str]) -> (Result<(), Close>, Vec<String>) {
    let (mut bytes, mut inputs) = (Vec::new(), Vec::new());
    texts.iter().for_each(|text| write_masked_text(text.as_bytes(), [1, 2, 3, 4], &mut bytes));
    let outcome =
        session.receive(&mut bytes, &protocol::SessionLimits::default(), &mut Outbox::new(), &mut inputs, NOW);
    let shown = inputs.iter().map(|input| match input {
        PeerInput::Socket(SocketIoInput::Connect { namespace, .. }) => format!("connect {namespace}"),
        PeerInput::Socket(SocketIoInput::Disconnect { namespace }) => format!("disconnect {namespace}"),
        PeerInput::Socket(SocketIoInput::Event { namespace, name, arguments, .. }) => {
            format!("event {namespace} {name} {arguments}")
        }
        PeerInput::Held(Message::Text(text)) => format!("held {text}"),
        PeerInput::Held(Message::Binary(bytes)) => format!("held {bytes:?}"),
        PeerInput::End(close) => format!("end {close:?}"),
        other => format!("{other:?}"),
    });
    (outcome, shown.collect())
}

#[test]
fn outside_a_namespace_the_head_alone_is_read() {
    let check = |namespaces: &[&str], text: &str, expected: Result<(), Close>| {
        let (outcome, inputs) = receive(&mut session(namespaces), &[text]);
        assert_eq!(outcome, expected, "{namespaces:?}: {text}");
        assert_eq!(inputs.len(), usize::from(expected.is_ok()), "{namespaces:?}: {text}");
    };
    // None of these payloads is JSON: whoever reads them says so.
    for text in ["42{", "42[\"a\"", "4312[", "451-[{\"_placeholder\":true,\"num\":0}", "461-7[", "41{"] {
        check(&[], text, Err(OUTSIDE));
        check(&["/elsewhere"], text, Err(OUTSIDE));
    }
    check(&["/"], "42[", Err(Close::BadFrame("a payload is JSON")));
    check(&["/"], "451-[\"a\",{", Err(Close::BadFrame("a payload is JSON")));
    check(&["/"], "42[\"a\"]", Ok(()));
    check(&[], "40{\"token\":1}", Ok(()));
    check(&[], "40{", Err(Close::BadFrame("a payload is JSON")));
    check(&["/"], "40{", Err(Close::BadFrame("the client is in this namespace already")));
}

#[test]
fn few_bytes_are_taken_until_a_namespace_is_entered() {
    let limits = EngineLimits::default();
    let most = limits.connect_bytes_max;
    let check = |namespaces: &[&str], text: &str, expected: Result<(), Close>| {
        let (outcome, _) = receive(&mut session(namespaces), &[text]);
        assert_eq!(outcome, expected, "{namespaces:?}, {} bytes", text.len());
    };
    let connect = |bytes: usize| format!("40{{\"token\":\"{}\"}}", "x".repeat(bytes));
    let frame_bytes = r#"{"token":""}"#.len();
    check(&[], &connect(most - frame_bytes), Ok(()));
    check(&[], &connect(most - frame_bytes + 1), Err(Close::MessageTooBig));
    check(&["/elsewhere"], &connect(most), Err(Close::MessageTooBig));
    check(&["/"], &format!("42[\"a\",\"{}\"]", "x".repeat(2 * most)), Ok(()));
}

/// The beginning of a long message, alone or behind others.
#[test]
fn little_is_held_until_a_namespace_is_entered() {
    let most = EngineLimits::default().connect_bytes_max;
    let check = |namespaces: &[&str], before: &[&str], begun: usize, expected: Result<(), Close>| {
        let mut bytes = Vec::new();
        before.iter().for_each(|text| write_masked_text(text.as_bytes(), [1, 2, 3, 4], &mut bytes));
        let whole = bytes.len();
        write_masked_text("4".repeat(8 * most).as_bytes(), [1, 2, 3, 4], &mut bytes);
        bytes.truncate(whole + begun);
        let (limits, mut outbox) = (protocol::SessionLimits::default(), Outbox::new());
        let outcome = session(namespaces).receive(&mut bytes, &limits, &mut outbox, &mut Vec::new(), NOW);
        assert_eq!(outcome, expected, "{namespaces:?}, {before:?}, {begun} bytes");
    };
    check(&[], &[], most, Ok(()));
    check(&[], &[], most + 100, Err(Close::MessageTooBig));
    check(&["/"], &[], 2 * most, Ok(()));
    check(&[], &["40"], 2 * most, Ok(()));
}

/// What a client has begun to say counts, in frames and in attachments that are to follow.
#[test]
fn what_is_held_is_counted() {
    let limits = protocol::SessionLimits::default();
    let receive = |session: &mut EngineSession, bytes: &[u8]| {
        let outcome = session.receive(&mut bytes.to_vec(), &limits, &mut Outbox::new(), &mut Vec::new(), NOW);
        (outcome, session.held_bytes())
    };
    let (mut announced, mut begun) = (Vec::new(), Vec::new());
    let json = r#"["a",{"_placeholder":true,"num":0}]"#;
    write_masked_text(format!("451-{json}").as_bytes(), [1, 2, 3, 4], &mut announced);
    write_masked_binary(&[7; 500], [1, 2, 3, 4], &mut begun);
    begun.truncate(300);
    assert_eq!(receive(&mut session(&["/"]), b""), (Ok(()), 0));
    let (_, frame) = receive(&mut session(&["/"]), &begun);
    assert!((290..2_000).contains(&frame), "{frame}");
    for (connect_bytes_max, expected) in [(frame, Ok(())), (frame - 1, Err(Close::MessageTooBig))] {
        let mut limits = limits;
        limits.engine.connect_bytes_max = connect_bytes_max;
        let outcome = session(&[]).receive(&mut begun.clone(), &limits, &mut Outbox::new(), &mut Vec::new(), NOW);
        assert_eq!(outcome, expected, "at most {connect_bytes_max} outside a namespace");
    }
    let mut session = session(&["/"]);
    assert_eq!(receive(&mut session, &announced), (Ok(()), json.len()));
    assert_eq!(receive(&mut session, &begun), (Ok(()), json.len() + frame));
}

/// What is longer is looked at in parts.
#[test]
fn an_event_is_long_beyond_a_limit() {
    let check = |bytes: usize, is_long: bool| {
        let frame_bytes = r#"2["a",""]"#.len();
        let text = format!("42[\"a\",\"{}\"]", "x".repeat(bytes - frame_bytes));
        let (outcome, inputs) = receive(&mut session(&["/"]), &[&text]);
        assert_eq!((outcome, inputs.len(), inputs[0].starts_with("Long")), (Ok(()), 1, is_long), "{bytes} bytes");
    };
    check(LONG_TEXT_BYTES, false);
    check(LONG_TEXT_BYTES + 1, true);
    check(LONG_TEXT_BYTES + 1_000, true);
}

#[test]
fn what_stands_behind_a_connect_waits_for_its_answer() {
    let check = |namespaces: &[&str], texts: &[&str], expected: &[&str]| {
        let (outcome, inputs) = receive(&mut session(namespaces), texts);
        assert_eq!(
            (outcome, inputs),
            (Ok(()), expected.iter().map(|input| (*input).to_owned()).collect()),
            "{texts:?}"
        );
    };
    check(&[], &["40", "42{"], &["connect /", "held 2{"]);
    check(
        &["/"],
        &["42[\"a\",1]", "40/b,", "42[\"c\"]", "42[\"d\"]"],
        &["event / a 1", "connect /b", "held 2[\"c\"]", "held 2[\"d\"]"],
    );
    check(&["/"], &["41", "42[\"a\"]"], &["disconnect /", "held 2[\"a\"]"]);
    // The end comes behind all that was said before it.
    check(&[], &["40", "7"], &["connect /", "end BadFrame(\"a packet's type is a digit from 0 to 6\")"]);
}

/// Whatever an event holds, it is checked where it stands and its text is copied: no value is built for a part of it.
#[test]
fn a_large_event_is_copied_and_not_built() {
    for part in ["{},", "1,", "\"\",", "{\"$binary\":1},"] {
        let text = format!("42[\"a\",[{}0]]", part.repeat(300_000 / part.len()));
        let mut session = session(&["/"]);
        let counted = allocation_counter::measure(|| {
            let (mut outbox, mut inputs) = (Outbox::new(), Vec::new());
            let message = Message::Text(text.clone());
            let taken = session.take(message, &protocol::SessionLimits::default(), &mut outbox, &mut inputs, NOW);
            assert_eq!((taken, inputs.len()), (Ok(()), 1));
        });
        assert!(counted.count_total < 20, "{part}: {counted:?}");
        // One copy is the test's own, and one is of the arguments.
        assert!(counted.bytes_total < 2 * text.len() as u64 + 16 * 1024, "{part}: {counted:?}");
    }
}

#[test]
fn a_client_is_pinged_and_has_to_answer() {
    let limits = EngineLimits::default();
    let at = |since: Duration| NOW + since;
    let begin = || EngineSession::polled(SessionId::new(7, [7; 15]), Layer::Raw, &limits, NOW);
    let expire = |session: &mut EngineSession, now: Moment| {
        let mut outbox = Outbox::new();
        session.expire(&limits, &mut outbox, now).map(|()| !outbox.is_empty())
    };
    let (interval, timeout) = (limits.ping_interval, limits.ping_timeout);
    let mut session = begin();
    assert_eq!((session.sid.reactor(), session.is_carried(), session.deadline()), (7, false, at(interval)));
    session.extend(at(2 * timeout));
    assert_eq!(session.deadline(), at(interval), "it was not pinged");
    assert_eq!(expire(&mut session, Moment(at(interval).0 - 1)), Ok(false));
    assert_eq!(expire(&mut session, at(interval)), Ok(true), "a ping");
    assert_eq!(session.deadline(), at(interval + timeout));
    assert_eq!(expire(&mut session, at(interval)), Ok(false));
    session.extend(at(interval + 2 * timeout));
    assert_eq!(expire(&mut session, at(interval + timeout)), Ok(false));
    assert_eq!(expire(&mut session, at(interval + 2 * timeout)), Err(Close::PeerGone));
    // A hub that is late itself leaves most of the time.
    let mut late = begin();
    assert_eq!(expire(&mut late, at(interval + timeout)), Ok(true));
    assert_eq!(late.deadline(), at(interval + timeout + timeout * 3 / 4));
}

#[test]
fn messages_are_counted_and_attachments_not() {
    let rate = RateLimit { messages_per_second: 5, cutoff_timeout: Duration::ZERO };
    let limits = protocol::SessionLimits { rate, ..protocol::SessionLimits::default() };
    let take = |count: usize| {
        let mut session = session(&["/"]);
        assert!(session.is_carried());
        (0..count).try_for_each(|_| {
            let message = Message::Text("42[\"a\"]".to_owned());
            session.take(message, &limits, &mut Outbox::new(), &mut Vec::new(), NOW)
        })
    };
    assert_eq!((take(5), take(6)), (Ok(()), Err(Close::RateLimited)));
}

/// Of a long message that was checked.
#[test]
fn an_event_is_its_name_and_its_arguments() {
    let check = |text: &str, heeded: bool, expected: &str| {
        let (mut outbox, mut inputs) = (Outbox::new(), Vec::new());
        let mut session = session(&["/"]);
        let sockets = session.sockets.as_mut().expect("it is of Socket.IO");
        assert_eq!(sockets.take_checked(text.to_owned(), heeded, &mut outbox, &mut inputs), Ok(()), "{text}");
        let shown = inputs.iter().map(|input| match input {
            PeerInput::Socket(SocketIoInput::Event { name, arguments, ack, .. }) => {
                format!("{name} {arguments} {ack:?}")
            }
            PeerInput::Socket(SocketIoInput::Ack { id, arguments, .. }) => format!("ack {id} {arguments}"),
            other => format!("{other:?}"),
        });
        assert_eq!(shown.collect::<Vec<_>>().join(", "), expected, "{text}");
    };
    check("2[\"a\"]", true, "a  None");
    check("2[\"a\", 1 ,[2]]", true, "a 1 ,[2] None");
    check("27[\"abc\",{\"d\":1}]", true, "abc {\"d\":1} Some(7)");
    check("37[1,2]", true, "ack 7 1,2");
    check("2[\"a\",1]", false, "");
}

#[test]
fn a_session_has_frames_of_its_own_if_they_name_more() {
    let listening = |namespace: &str, topics: &[usize]| {
        let mut client = SocketIoClient::new(namespace.into(), "s".into(), None, NOW);
        client.topics = topics.iter().map(|index| subscription(*index)).collect();
        client
    };
    let check = |clients: &[(&str, &[usize])], recovers: bool, own: bool| {
        let mut sockets = Sockets::new(NOW);
        sockets.recovers = recovers;
        clients.iter().for_each(|(namespace, topics)| sockets.enter(listening(namespace, topics)));
        let form = sockets.form();
        assert_eq!((form.offset, form.own), (recovers, own), "{clients:?}");
    };
    check(&[("/", &[1, 2])], false, false);
    check(&[("/", &[1])], true, false);
    check(&[("/", &[1, 2])], true, true);
    check(&[("/a", &[])], false, false);
    check(&[("/a", &[1])], false, true);
    check(&[("/", &[1]), ("/a", &[])], true, false);
    let mut sockets = Sockets::new(NOW);
    sockets.enter(listening("/", &[1, 2]));
    let [first, second, third] = [1, 2, 3].map(TopicIndex::new);
    assert!(sockets.listens(first) && !sockets.listens(third));
    sockets.begin(first, 5);
    sockets.pass(second, EventId::new(1, 9));
    let found: Vec<_> = sockets.subscriptions().map(|it| (it.began_at, it.passed.minor)).collect();
    assert_eq!(found, [(5, 0), (0, 9)]);
    let told = |topic: TopicIndex| {
        let mut out = Vec::new();
        let gap = Gap { from: EventId::default(), to: EventId::default(), reason: GapReason::Expired };
        sockets.write_gap(topic, &Topic::parse("t").expect("a good name"), gap, &mut out);
        !out.is_empty()
    };
    assert!(told(first) && !told(third));
}

fn subscription(index: usize) -> SocketIoSubscription {
    let (topic_index, topic) = (TopicIndex::new(index), Topic::parse("t").expect("a good name"));
    SocketIoSubscription { topic_index, topic, began: EventId::default(), passed: EventId::default(), began_at: 0 }
}

#[test]
fn a_denial_takes_clients_out_of_their_namespaces() {
    let mut outbox = Outbox::new();
    session(&["/", "/a"]).write_denial("{}", &mut outbox);
    let written = String::from_utf8_lossy(outbox.pending()).into_owned();
    for packet in ["42[\"error\",{}]", "41", "42/a,[\"error\",{}]", "41/a,"] {
        assert!(written.contains(packet), "{packet} in {written:?}");
    }
}
