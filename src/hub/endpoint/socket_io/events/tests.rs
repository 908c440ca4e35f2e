//! Events of clients, and the actions that follow.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use super::*;
use crate::{
    auth::Grants,
    bus::{self, Bus, Inbox, Notifier, Wake},
    clock::{Clock, Moment},
    endpoint::{self, HUB, Hub},
    event::EventId,
    metrics::{Metrics, ReactorMetrics},
    protocol::socket_io::Args,
    topic::Pattern,
};

const NOW: Moment = Moment(10_000_000_000);
const NOW_TEXT: &str = "2026-01-10T18:13:54Z";

#[derive(Debug)]
struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn hub() -> Hub {
    let inbox = Inbox::new(16, Arc::new(Notifier::new(Arc::new(Nobody))));
    let config = bus::Config { payload_bytes_max: 100, ..bus::Config::default() };
    let reactors = vec![Arc::new(ReactorMetrics::default())];
    let metrics = Metrics { reactors, sources: Vec::new(), clock: Clock::start() };
    let bus = Bus::new(config, vec![inbox], Vec::new());
    let hub = Hub::new(&HUB, Arc::new(bus), Arc::new(metrics), ENDPOINTS.clone());
    hub.wall.set(NOW, Duration::from_millis(1_768_068_834_227));
    hub
}

static ENDPOINTS: LazyLock<endpoint::Config> =
    LazyLock::new(|| endpoint::Config { topics_per_connection_max: 2, ..endpoint::Config::default() });

fn context(hub: &Hub) -> Context<'_> {
    Context {
        hub,
        config: &ENDPOINTS,
        reactor: 0,
        token: 1,
        now: NOW,
        admin: false,
        overload: None,
        identity: None,
        peer: None,
        audited: None,
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a good name")
}

fn grants(pattern: &str) -> Grants {
    Grants::new([Pattern::parse(pattern).expect("a good pattern")])
}

fn operator() -> Identity {
    Identity {
        subject: "user-123".into(),
        username: Some("john.doe".into()),
        role: Some("operator".into()),
        subscribe: grants("wells.*"),
        publish: grants("wells.W1"),
        expires: Some(Moment(20_000_000_000)),
        ..Identity::default()
    }
}

/// Actions as text, one line each.
fn show(actions: &[SocketAction]) -> String {
    let lines: Vec<String> = actions.iter().map(show_one).collect();
    lines.join("\n")
}

fn show_one(reply: &SocketAction) -> String {
    match reply {
        SocketAction::Emit(Emit { name, arguments, wants_ack: false }) => format!("{name} {}", arguments.join(",")),
        SocketAction::Emit(Emit { name, .. }) => panic!("no event of the server is acknowledged: {name}"),
        SocketAction::Ack(arguments) => format!("ack {}", arguments.join(",")),
        SocketAction::Subscribe { topic, start, done, refused } => {
            format!("subscribe {topic} {start:?}; {}; {}", show(done), show(refused))
        }
        SocketAction::Unsubscribe { topic, done, refused } => {
            assert_eq!(show(done), show(refused));
            format!("unsubscribe {topic}; {}", show(done))
        }
        SocketAction::Publish(SocketPublication { batch, .. }) => {
            let show = |event: &CheckedEvent| {
                format!("publish {} {:?} {}", event.topic, event.kind, String::from_utf8_lossy(&event.payload.data))
            };
            batch.iter().map(show).collect::<Vec<_>>().join("\n")
        }
        SocketAction::Disconnect => "disconnect".to_owned(),
    }
}

/// The actions for `event` with the JSON array `arguments`, in a hub of its own.
fn actions(
    event: &str,
    arguments: &str,
    wants_ack: bool,
    topics: &[&str],
    identity: Option<&Identity>,
) -> Vec<SocketAction> {
    let hub = hub();
    let arguments = Args::from_array(arguments);
    let topics: Vec<Topic> = topics.iter().map(|name| topic(name)).collect();
    let incoming = SocketEvent { name: event, arguments, wants_ack };
    let (namespace, sid, since) = ("/", "sid", Moment(1_000_000_000));
    let client = SocketClient { namespace, sid, since, messages: 7, topics: &topics, identity };
    answer_event(&incoming, &client, &context(&hub))
}

/// The same as text.
fn answered(event: &str, arguments: &str, wants_ack: bool, topics: &[&str], identity: Option<&Identity>) -> String {
    show(&actions(event, arguments, wants_ack, topics, identity))
}

/// The answer to a subscription that is refused.
const NOT_SUBSCRIBED: &str = r#"error {"error":"TooManyTopics","message":"this client listens to as many topics as it may, or is about to listen to this one"}"#;

#[test]
fn events_and_their_answers() {
    let check = |event: &str, arguments: &str, expected: &str| {
        let expected = expected.replace("NOW", NOW_TEXT).replace("REFUSED", NOT_SUBSCRIBED);
        assert_eq!(answered(event, arguments, false, &[], None), expected, "{event} {arguments}");
    };
    check("ping", "[]", r#"pong {"timestamp":"NOW"}"#);
    check("ping", r#"[{"whatever":1},2]"#, r#"pong {"timestamp":"NOW"}"#);
    check(
        "subscribe",
        r#"[{"well_id":"WELL-001"}]"#,
        r#"subscribe wells.WELL-001 Live; subscribed {"well_id":"WELL-001","timestamp":"NOW"}; REFUSED"#,
    );
    check(
        "subscribe",
        r#"[{"topic":"orders.eu","since":"7-3","more":true}]"#,
        r#"subscribe orders.eu After(EventId { major: 7, minor: 3 }); subscribed {"topic":"orders.eu","timestamp":"NOW"}; REFUSED"#,
    );
    let unsubscribed = r#"unsubscribe wells.W1; unsubscribed {"well_id":"W1","timestamp":"NOW"}"#;
    check("unsubscribe", r#"[{"well_id":"W1"}]"#, unsubscribed);
    check(
        "publish",
        r#"[{"well_id":"W1","type":"alert","data":{"a": [1,  null]}}]"#,
        r#"publish wells.W1 Some("alert") {"a": [1,  null]}"#,
    );
    check("publish", r#"[{"topic":"t","data":null}]"#, "publish t None null");
}

#[test]
fn what_a_client_did_wrong() {
    let check = |event: &str, arguments: &str, error: &str, message: &str| {
        let seen = answered(event, arguments, false, &["wells.W1"], None);
        assert_eq!(seen, format!(r#"error {{"error":"{error}","message":"{message}"}}"#), "{event} {arguments}");
    };
    let invalid = "ValidationError";
    for event in ["subscribe", "unsubscribe", "publish"] {
        for arguments in ["[]", "[null]", "[{}]", r#"[{"well_id":null}]"#, r#"[{"well_id":""}]"#] {
            check(event, arguments, invalid, "well_id is required");
        }
        for arguments in [r#"["WELL-001"]"#, "[7]", r#"[["WELL-001"]]"#] {
            check(event, arguments, invalid, "the argument is an object");
        }
        let two = r#"[{"well_id":"W1","topic":"t"}]"#;
        check(event, two, invalid, "well_id and topic exclude each other");
        let bad_well = "well_id has 1 to 249 of the characters A-Z a-z 0-9 _ - : /";
        check(event, r#"[{"well_id":"a.b"}]"#, invalid, bad_well);
        check(event, r#"[{"well_id":"é"}]"#, invalid, bad_well);
        check(event, r#"[{"topic":""}]"#, invalid, "topic: a topic needs a name");
    }
    check("subscribe", r#"[{"well_id":7}]"#, invalid, "well_id is a string");
    check("subscribe", r#"[{"topic":"a","t\u006fpic":"b"}]"#, invalid, "topic is given twice");
    check("publish", r#"[{"topic":"a","data":1,"data":2}]"#, invalid, "data is given twice");
    let bad_since =
        "since: neither an event id (two decimal numbers joined by a dash) nor one of: first, 0, last:N, live";
    check("subscribe", r#"[{"well_id":"W2","since":"x"}]"#, invalid, bad_since);
    let no_choice = "since: it is subscribed already; unsubscribe first";
    check("subscribe", r#"[{"well_id":"W1","since":"first"}]"#, invalid, no_choice);
    check("publish", r#"[{"well_id":"W1"}]"#, invalid, "data is required");
    let gap = format!("type: {RESERVED_KIND}");
    check("publish", r#"[{"well_id":"W1","data":1,"type":"gap"}]"#, invalid, &gap);
    let large = format!(r#"[{{"well_id":"W1","data":"{}"}}]"#, "x".repeat(100));
    check("publish", &large, "TooBig", "data is over the limit");
    check("shout", "[]", "UnknownEvent", r#"there is no event \"shout\""#);
    let long = "é".repeat(1000);
    check(&long, "[]", "UnknownEvent", &format!(r#"there is no event \"{}\""#, &long[..128]));
}

#[test]
fn subscribing_again_changes_nothing() {
    let seen = answered("subscribe", r#"[{"well_id":"W1"}]"#, false, &["a", "wells.W1"], None);
    assert_eq!(seen, format!(r#"subscribed {{"well_id":"W1","timestamp":"{NOW_TEXT}"}}"#));
    assert_eq!(answered("subscribe", r#"[{"well_id":"W1"}]"#, false, &["a", "b"], None), NOT_SUBSCRIBED);
}

#[test]
fn acknowledgements_say_what_the_event_says() {
    let check = |event: &str, arguments: &str, expected: &str| {
        let seen = answered(event, arguments, true, &["wells.W1"], None);
        let refused_ack = NOT_SUBSCRIBED.replace("error {", "ack {");
        let expected = expected.replace("NOW", NOW_TEXT).replace("REFUSED_ACK", &refused_ack);
        assert_eq!(seen, expected.replace("REFUSED", NOT_SUBSCRIBED), "{event} {arguments}");
    };
    check("ping", "[]", "pong {\"timestamp\":\"NOW\"}\nack {\"timestamp\":\"NOW\"}");
    check(
        "subscribe",
        r#"[{"topic":"t"}]"#,
        "subscribe t Live; subscribed {\"topic\":\"t\",\"timestamp\":\"NOW\"}\nack {\"topic\":\"t\",\"timestamp\":\"NOW\"}; \
         REFUSED\nREFUSED_ACK",
    );
    let error = r#"{"error":"ValidationError","message":"well_id is required"}"#;
    check("subscribe", "[]", &format!("error {error}\nack {error}"));
}

#[test]
fn who_may_what() {
    let (operator, nobody) = (operator(), Identity::default());
    let expired = Identity { expires: Some(NOW), ..operator.clone() };
    let no_right = r#"error {"error":"AuthorizationError","message":"The token gives no right to this"}"#;
    let check = |event: &str, arguments: &str, identity: &Identity, expected: &str| {
        let seen = answered(event, arguments, false, &[], Some(identity));
        let first = seen.split(';').next().unwrap_or_default();
        assert_eq!(first, expected.replace("NOW", NOW_TEXT), "{event} {arguments} {identity:?}");
    };
    let (well, other) = (r#"[{"well_id":"W2"}]"#, r#"[{"topic":"orders"}]"#);
    check("subscribe", well, &operator, "subscribe wells.W2 Live");
    check("subscribe", other, &operator, no_right);
    check("subscribe", well, &nobody, no_right);
    check("publish", r#"[{"well_id":"W1","data":1}]"#, &operator, "publish wells.W1 None 1");
    check("publish", r#"[{"well_id":"W2","data":1}]"#, &operator, no_right);
    // A client may always unsubscribe.
    check("unsubscribe", other, &nobody, "unsubscribe orders");
    check("ping", "[]", &nobody, r#"pong {"timestamp":"NOW"}"#);
    let gone = r#"error {"error":"AuthenticationError","message":"Invalid or expired authentication token"}"#;
    check("ping", "[]", &expired, &format!("{gone}\ndisconnect"));
}

#[test]
fn full_figures_are_for_admins() {
    let admin = Identity { role: Some("admin".into()), ..operator() };
    let check = |identity: Option<&Identity>, is_full: bool| {
        let seen = answered("get_stats", "[]", false, &["wells.W1", "orders.eu"], identity);
        let stats: Value = serde_json::from_str(seen.strip_prefix("stats ").expect("the event's name")).expect("JSON");
        assert_eq!(stats["connected_at"], "2026-01-10T18:13:45Z");
        assert_eq!(stats["message_count"], 7);
        assert_eq!(stats["subscriptions"], serde_json::json!(["W1", "orders.eu"]));
        assert_eq!(stats["server"]["connections"].is_object(), is_full, "{identity:?}");
    };
    check(Some(&operator()), false);
    check(Some(&admin), true);
    check(None, true);
}

#[test]
fn connecting() {
    let hub = hub();
    let welcome = |auth: Option<&str>| {
        let auth = auth.map(|text| serde_json::from_str::<&RawValue>(text).expect("JSON"));
        connect("/", auth, &context(&hub)).expect("nobody has to say who he is")
    };
    for auth in [None, Some("null"), Some("{}"), Some(r#"{"token":null,"more":1}"#), Some(r#"{"token":"x"}"#)] {
        let ConnectAccepted { identity, emits } = welcome(auth);
        assert!(identity.is_none());
        let data = r#"{"message":"Connected to ESP IoT Platform","user_id":null,"username":null,"timestamp":"NOW"}"#;
        assert_eq!(emits, [Emit::new("connected", data.replace("NOW", NOW_TEXT))]);
    }
    let refused = connect("/other", None, &context(&hub)).expect_err("it is not served");
    assert_eq!(refused, ConnectRefused { message: "Invalid namespace".into(), data: None });
}

#[test]
fn tokens_of_the_auth_object() {
    let check = |auth: Option<&str>, expected: Option<&str>| {
        let auth_value = auth.map(|text| serde_json::from_str::<&RawValue>(text).expect("JSON"));
        assert_eq!(parse_token(auth_value).as_deref(), expected, "{auth:?}");
    };
    check(None, None);
    check(Some("null"), None);
    check(Some("{}"), None);
    check(Some(r#"{"token":"abc","x":[1]}"#), Some("abc"));
    // A wrong token, rather than none.
    check(Some(r#"{"token":7}"#), Some(""));
    check(Some("[]"), Some(""));
    check(Some(r#""abc""#), Some(""));
}

#[test]
fn publications_are_answered_with_their_receipts() {
    let check = |receipt: Receipt, expected: &str| {
        let mut actions = actions("publish", r#"[{"well_id":"W1","data":1}]"#, true, &[], None);
        let Some(SocketAction::Publish(publication)) = actions.pop() else { panic!("{}", show(&actions)) };
        let (name, data) = expected.split_once(' ').expect("a name and data");
        assert_eq!(show(&(publication.complete)(&[receipt])), format!("{name} {data}\nack {data}"));
    };
    check(Ok(None), r#"published {"well_id":"W1","id":null}"#);
    check(Ok(Some(EventId::new(1, 2))), r#"published {"well_id":"W1","id":"1-2"}"#);
    check(
        Err(bus::PublishFailed::QueueFull),
        r#"error {"error":"ServiceUnavailable","message":"too many events wait for the source; nothing was published"}"#,
    );
    check(
        Err(bus::PublishFailed::Unknown),
        r#"error {"error":"UnknownOutcome","message":"the source did not answer; the event may have been published"}"#,
    );
}

/// No tree of values is built of a large payload, and it is copied once. The arguments of an unknown event are not looked at.
#[test]
fn a_large_payload_is_copied_once() {
    let data = format!("[{}0]", "{},".repeat(100_000));
    let check = |arguments: &str, copies: u64| {
        let list = Args::from_array(arguments);
        let counted = allocation_counter::measure(|| drop(parse_publish(list, true)));
        assert!(counted.count_total < 20, "{counted:?}");
        assert!(counted.bytes_total < copies * data.len() as u64 + 1024, "{counted:?}");
    };
    check(&format!(r#"[{{"data":{data},"topic":"t"}}]"#), 1);
    check(&format!(r#"[{{"other":{data},"topic":"t"}},{data}]"#), 0);
}
