//! One connection's conversation, against scripted servers.

use std::time::Duration;

use super::{
    super::{
        fault::Fault,
        session::{Incoming, PubSubSession},
        subscriptions::{Notice, Subscriptions},
    },
    topic,
};
use crate::{
    clock::Moment,
    protocol::resp::{self, Reply, RespLimits},
    source::redis::{RedisConfig, RedisUrl, Unfit},
};

/// The answers to `HELLO` and to the `ROLE` that follows it.
pub(super) const GREETED: &str = "%2\r\n+server\r\n+redis\r\n+proto\r\n:3\r\n*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
pub(super) const MASTER: &str = "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
pub(super) const NONCE: u64 = 0xBEEF;

pub(super) fn config(url: &str) -> RedisConfig {
    RedisConfig {
        url: RedisUrl::parse(url).expect(url),
        message_bytes_max: 100,
        mark_interval: Duration::ZERO,
        ..RedisConfig::default()
    }
}

/// One side of a script.
pub(super) enum Line {
    /// What we must have sent, one command per line.
    We(&'static str),
    /// What the server sends, and what we must make of it.
    They(&'static str, &'static [Seen]),
    /// What must happen instead of an understanding.
    Fault(&'static str, Fault),
    /// Time passes.
    Pass(u64),
    /// Something else happens.
    Do(fn(&mut Talk)),
}

use Line::{Pass, They, We};

#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Message(&'static str, &'static str),
    Unasked,
    Nothing,
    Answer,
    Mark,
}

pub(super) struct Talk {
    config: RedisConfig,
    pub(super) session: PubSubSession,
    pub(super) subscriptions: Subscriptions,
    pub(super) now: Moment,
}

impl Talk {
    fn new(config: RedisConfig) -> Self {
        let subscriptions = Subscriptions::new(&config);
        let session = PubSubSession::open(&config, NONCE, Moment(0));
        Self { config, session, subscriptions, now: Moment(0) }
    }

    /// The same with sharded channels; the key 2 is in a slot of the node.
    pub(super) fn sharded(config: RedisConfig) -> Self {
        let session = PubSubSession::open_sharded(&config, Some("2"), NONCE, Moment(0));
        Self { session, ..Self::new(config) }
    }

    /// Feeds `bytes`, all at once or one at a time, and says what was seen.
    fn receive(&mut self, bytes: &[u8], one_at_a_time: bool) -> Result<Vec<String>, Fault> {
        let mut seen = Vec::new();
        let mut start = 0;
        let ends: Vec<usize> = if one_at_a_time { (1..=bytes.len()).collect() } else { vec![bytes.len()] };
        for end in ends {
            while start < end {
                let rest = &bytes[start..end];
                let found = self.session.receive(rest, &self.config.url, &mut self.subscriptions, self.now)?;
                let Some((incoming, consumed)) = found else { break };
                seen.push(show(&incoming));
                start += consumed;
                self.session.poll_commands(&mut self.subscriptions, self.now);
            }
        }
        Ok(seen)
    }

    pub(super) fn sent(&mut self) -> String {
        self.session.poll_commands(&mut self.subscriptions, self.now);
        let outgoing = std::mem::take(self.session.outgoing());
        commands(&outgoing)
    }
}

fn show(incoming: &Incoming<'_>) -> String {
    match incoming {
        Incoming::Message { channel, payload } => format!("{}: {}", channel.escape_ascii(), payload.escape_ascii()),
        Incoming::TooBig { channel } => format!("too big: {}", channel.escape_ascii()),
        Incoming::Unasked => "unasked".to_owned(),
        Incoming::Mark => "mark".to_owned(),
        Incoming::Nothing => "nothing".to_owned(),
        Incoming::Answer => "answer".to_owned(),
    }
}

fn show_expected(seen: &Seen) -> String {
    match seen {
        Seen::Message(channel, payload) => format!("{channel}: {payload}"),
        Seen::Unasked => "unasked".to_owned(),
        Seen::Mark => "mark".to_owned(),
        Seen::Nothing => "nothing".to_owned(),
        Seen::Answer => "answer".to_owned(),
    }
}

fn commands(mut bytes: &[u8]) -> String {
    let mut lines = Vec::new();
    while let Some((Reply::Array(items), consumed)) = resp::parse(bytes, &RespLimits::default()).expect("good commands")
    {
        let word = |item: &Reply<'_>| match item {
            Reply::Bulk(Some(word)) => word.escape_ascii().to_string(),
            other => panic!("{other:?} in a command"),
        };
        lines.push(items.iter().map(word).collect::<Vec<_>>().join(" "));
        bytes = &bytes[consumed..];
    }
    lines.join("\n")
}

fn check(config: &RedisConfig, script: &[Line]) {
    check_with(&|| Talk::new(config.clone()), script);
}

pub(super) fn check_with(talk: &dyn Fn() -> Talk, script: &[Line]) {
    check_lines(talk, &script.iter().collect::<Vec<_>>());
}

fn check_lines(talk: &dyn Fn() -> Talk, script: &[&Line]) {
    for one_at_a_time in [false, true] {
        let mut talk = talk();
        for line in script {
            match line {
                We(expected) => assert_eq!(talk.sent(), *expected),
                They(bytes, expected) => {
                    let seen = talk.receive(bytes.as_bytes(), one_at_a_time);
                    assert_eq!(seen, Ok(expected.iter().map(show_expected).collect()), "{bytes:?}");
                    assert_eq!(talk.session.check_deadlines(talk.now), Ok(()), "{bytes:?}");
                }
                Line::Fault(bytes, expected) => {
                    let fault = talk.receive(bytes.as_bytes(), one_at_a_time).map(|_| ());
                    let silence = || talk.session.check_deadlines(talk.now);
                    assert_eq!(fault.and_then(|()| silence()), Err(expected.clone()), "{bytes:?}");
                }
                Line::Do(act) => act(&mut talk),
                Pass(millis) => talk.now = talk.now + Duration::from_millis(*millis),
            }
        }
    }
}

fn confirmed(kind: &str, name: &str) -> String {
    format!(">3\r\n${}\r\n{kind}\r\n${}\r\n{name}\r\n:1\r\n", kind.len(), name.len())
}

const PROBE_CONFIRMED: &str = ">3\r\n$9\r\nsubscribe\r\n$30\r\nfanfare.probe.000000000000beef\r\n:1\r\n";

#[test]
fn greeting_subscribing_and_messages() {
    let config = RedisConfig { always: vec![topic("a")], ..config("redis://me:secret@h/3") };
    check(
        &config,
        &[
            We("HELLO 3 AUTH me secret SETNAME fanfare-reader"),
            They(GREETED, &[Seen::Answer, Seen::Answer]),
            We("ROLE\nSUBSCRIBE fanfare.probe.000000000000beef\nSUBSCRIBE a\nPING\nROLE"),
            They(PROBE_CONFIRMED, &[Seen::Answer]),
            They(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n", &[Seen::Unasked]),
            They(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n", &[Seen::Answer]),
            They(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n", &[Seen::Message("a", "hi")]),
            They(">3\r\n$7\r\nmessage\r\n$5\r\nother\r\n$2\r\nhi\r\n", &[Seen::Unasked]),
            They("+PONG\r\n", &[Seen::Answer]),
            They(MASTER, &[Seen::Answer]),
            They(">2\r\n+invalidate\r\n_\r\n", &[Seen::Nothing]),
            Pass(5000),
            We("PUBLISH fanfare.probe.000000000000beef 48880\nROLE"),
        ],
    );
}

#[test]
fn the_probe_proves_delivery() {
    check_proof(PROBE_CONFIRMED, "PUBLISH fanfare.probe.000000000000beef 48880", |session| {
        let answer = ">3\r\n$7\r\nmessage\r\n$30\r\nfanfare.probe.000000000000beef\r\n$5\r\n48880\r\n";
        assert_eq!(session(":1\r\n"), None, "that it was taken proves nothing");
        assert_eq!(session(&answer.replace("48880", "48879")), None, "the probe before this one");
        assert_eq!(session(&answer.replace("beef", "cafe")), None, "another hub's probe");
        assert_eq!(session(answer), Some(Duration::from_millis(7)));
    });
}

const MARKS_CONFIRMED: &str = ">3\r\n$9\r\nsubscribe\r\n$19\r\nfanfare.probe.marks\r\n:1\r\n";
const INFO: &str = "=44\r\ntxt:redis_mode:standalone\r\nrun_id:c0ffee01\r\n\r\n";
const MARK: &str = ">3\r\n$7\r\nmessage\r\n$19\r\nfanfare.probe.marks\r\n$1\r\nx\r\n";
const NOTHING_OF_MARKS: &str = "-NOPERM this user has no permissions to access one of the channels\r\n";

/// A conversation with marks, up to the confirmation of the topic `a`.
fn check_marks(info: &'static str, marks: &'static str, rest: &[Line]) {
    let mark_interval = Duration::from_secs(1);
    let config = RedisConfig { always: vec![topic("a")], mark_interval, ..config("redis://h") };
    let begin = [
        We("HELLO 3 SETNAME fanfare-reader"),
        They(GREETED, &[Seen::Answer, Seen::Answer]),
        We(
            "ROLE\nSUBSCRIBE fanfare.probe.000000000000beef\nINFO server\nSUBSCRIBE fanfare.probe.marks\nSUBSCRIBE a\nPING\nROLE",
        ),
        They(PROBE_CONFIRMED, &[Seen::Answer]),
        They(info, &[Seen::Answer]),
        They(marks, &[Seen::Answer]),
        They(">3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:2\r\n", &[Seen::Answer]),
        They("+PONG\r\n", &[Seen::Answer]),
        They(MASTER, &[Seen::Answer]),
    ];
    let script: Vec<&Line> = begin.iter().chain(rest).collect();
    check_lines(&|| Talk::new(config.clone()), &script);
}

#[test]
fn marks_are_read_and_published() {
    use Line::Do;
    let message = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\nhi\r\n";
    check_marks(
        INFO,
        MARKS_CONFIRMED,
        &[
            We("PUBLISH fanfare.probe.marks 000000000000beef.1"),
            They(":1\r\n", &[Seen::Answer]),
            They(MARK, &[Seen::Mark]),
            Pass(4000),
            We(""),
            They(message, &[Seen::Message("a", "hi")]),
            We("PUBLISH fanfare.probe.marks 000000000000beef.2"),
            // Whoever may not publish them waits for those of others.
            They(NOTHING_OF_MARKS, &[Seen::Answer]),
            They(message, &[Seen::Message("a", "hi")]),
            Do(|talk| talk.now = talk.now + Duration::from_millis(900)),
            We(""),
            They(MARK, &[Seen::Mark]),
        ],
    );
}

#[test]
fn where_marks_are_denied_the_hub_does_without() {
    let denied = "-NOPERM this user has no permissions to run the 'info' command\r\n";
    for (info, marks) in [(denied, MARKS_CONFIRMED), (INFO, NOTHING_OF_MARKS), ("$0\r\n\r\n", MARKS_CONFIRMED)] {
        check_marks(info, marks, &[We("")]);
    }
}

#[test]
fn where_the_probe_is_denied_a_ping_has_to_do() {
    check_proof("-NOPERM No permissions to access a channel\r\n", "PING", |session| {
        assert_eq!(session("+PONG\r\n"), Some(Duration::from_millis(7)));
    });
    check_proof("-NOPERM No permissions to access a channel\r\n", "PING", |session| {
        assert_eq!(
            session("-NOPERM this user has no permissions to run the 'ping' command\r\n"),
            Some(Duration::from_millis(7))
        );
    });
    check_proof("-NOPERM No permissions to access a channel\r\n", "PING", |session| {
        assert_eq!(session("-LOADING Redis is loading the dataset in memory\r\n"), None, "it serves nothing yet");
    });
}

#[test]
fn a_probe_that_passes_unanswered_is_tried_again() {
    let mut talk = Talk::new(config("redis://h"));
    let opening = format!("{GREETED}{PROBE_CONFIRMED}+PONG\r\n{MASTER}");
    talk.receive(opening.as_bytes(), false).expect("a good opening");
    talk.sent();
    for (answer, expected) in [("-BUSY a script\r\n", "PUBLISH"), ("-NOPERM no\r\n", "PUBLISH"), ("+PONG\r\n", "PING")]
    {
        talk.now = talk.now + Duration::from_secs(5);
        let sent = talk.sent();
        assert!(sent.starts_with(expected), "{sent}");
        talk.receive(format!("{answer}{MASTER}").as_bytes(), false).expect("a good answer");
    }
}

/// Greets, answers the probe's subscription with `confirmation`, expects the sign of life `command`, and lets `answers`
/// be given 7 ms later; the closure it gets says what proof came of an answer.
fn check_proof(confirmation: &str, command: &str, answers: impl FnOnce(&mut dyn FnMut(&str) -> Option<Duration>)) {
    let mut talk = Talk::new(config("redis://h"));
    let opening = format!("{GREETED}{confirmation}+PONG\r\n{MASTER}");
    talk.receive(opening.as_bytes(), false).expect("a good opening");
    talk.sent();
    talk.session.take_proof();
    talk.now = talk.now + Duration::from_secs(5);
    let sent = talk.sent();
    assert!(sent.ends_with(&format!("{command}\nROLE")), "{sent}");
    talk.now = talk.now + Duration::from_millis(7);
    answers(&mut |answer| {
        talk.receive(answer.as_bytes(), false).expect("a good answer");
        talk.session.take_proof()
    });
}

#[test]
fn a_server_without_resp3() {
    let config = RedisConfig { subscribe: vec!["a.*".to_owned()], ..config("redis://:secret@h") };
    check(
        &config,
        &[
            We("HELLO 3 AUTH default secret SETNAME fanfare-reader"),
            They("-ERR unknown command `HELLO`\r\n", &[Seen::Answer]),
            We("AUTH secret\nCLIENT SETNAME fanfare-reader\nPING"),
            They("+OK\r\n-ERR unknown subcommand\r\n", &[Seen::Answer, Seen::Answer]),
            They("+PONG\r\n", &[Seen::Answer]),
            We("ROLE"),
            They(MASTER, &[Seen::Answer]),
            We("PSUBSCRIBE a.*\nPING"),
            They("*3\r\n$10\r\npsubscribe\r\n$3\r\na.*\r\n:1\r\n", &[Seen::Answer]),
            They("*2\r\n$4\r\npong\r\n$0\r\n\r\n", &[Seen::Answer]),
            They("*4\r\n$8\r\npmessage\r\n$3\r\na.*\r\n$3\r\na.b\r\n$2\r\nhi\r\n", &[Seen::Message("a.b", "hi")]),
            They("*4\r\n$8\r\npmessage\r\n$3\r\nx.*\r\n$3\r\nx.b\r\n$2\r\nhi\r\n", &[Seen::Unasked]),
            They("*4\r\n$8\r\npmessage\r\n$3\r\na.*\r\n$3\r\nx.b\r\n$2\r\nhi\r\n", &[Seen::Unasked]),
        ],
    );
}

#[test]
fn refusals_end_it() {
    let rejected = |text: &str| Fault::Rejected(text.to_owned());
    let fault = |bytes, text| [Line::Fault(bytes, rejected(text))];
    check(&config("redis://:secret@h"), &fault("-WRONGPASS invalid\r\n", "WRONGPASS invalid"));
    check(&config("redis://h"), &fault("-DENIED protected mode\r\n", "DENIED protected mode"));
    check(
        &config("redis://h"),
        &[
            They("-NOAUTH HELLO must be called\r\n+OK\r\n", &[Seen::Answer, Seen::Answer]),
            Line::Fault("-NOAUTH Authentication required.\r\n", rejected("NOAUTH Authentication required.")),
        ],
    );
}

#[test]
fn a_passing_refusal_denies_nothing_but_ends_it() {
    let mut talk = Talk::new(RedisConfig { always: vec![topic("a")], ..config("redis://h") });
    let busy = format!("{GREETED}{PROBE_CONFIRMED}-BUSY Redis is busy running a script.\r\n");
    let fault = Fault::Rejected("BUSY Redis is busy running a script.".to_owned());
    assert_eq!(talk.receive(busy.as_bytes(), false), Err(fault));
    assert_eq!(talk.subscriptions.tally().denied, 0);
}

#[test]
fn what_is_not_redis_ends_it() {
    let bad = |text: &str| Fault::BadReply(text.to_owned());
    let check_ready = |bytes, fault| {
        check(&config("redis://h"), &[They(GREETED, &[Seen::Answer, Seen::Answer]), Line::Fault(bytes, fault)])
    };
    check(&config("redis://h"), &[Line::Fault("HTTP/1.1 400\r\n", bad("no RESP type begins with `H`"))]);
    check_ready(":1\r\n:1\r\n", bad("an answer that confirms nothing"));
    let wrong_kind = PROBE_CONFIRMED.replace("$9\r\nsubscribe", "$11\r\nunsubscribe");
    check_ready(wrong_kind.leak(), bad("a confirmation of nothing"));
    let confirmations = [PROBE_CONFIRMED, PROBE_CONFIRMED].concat();
    let mut talk = Talk::new(config("redis://h"));
    talk.receive(GREETED.as_bytes(), false).expect("a good opening");
    assert_eq!(talk.receive(confirmations.as_bytes(), false), Err(bad("a confirmation of nothing")));
}

#[test]
fn a_silent_server_is_given_up() {
    check(&config("redis://h"), &[Pass(4999), They("", &[]), Pass(1), Line::Fault("", Fault::Silent)]);
    check(
        &config("redis://h"),
        &[
            They(GREETED, &[Seen::Answer, Seen::Answer]),
            We("HELLO 3 SETNAME fanfare-reader\nROLE\nSUBSCRIBE fanfare.probe.000000000000beef\nPING\nROLE"),
            Pass(4999),
            They(">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n", &[Seen::Unasked]),
            Pass(4999),
            They("", &[]),
            We(""),
            Pass(1),
            Line::Fault("", Fault::Silent),
        ],
    );
}

#[test]
fn a_message_over_the_limit_is_passed_over() {
    let mut talk = Talk::new(config("redis://h"));
    talk.receive(GREETED.as_bytes(), false).expect("a good opening");
    let head = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$99999\r\n";
    let found = talk.session.receive(head.as_bytes(), &talk.config.url, &mut talk.subscriptions, talk.now);
    assert_eq!(found, Ok(Some((Incoming::Unasked, head.len() + 99_999 + 2))));
    talk.subscriptions.want(topic("a"));
    talk.sent();
    let answers = format!("{PROBE_CONFIRMED}+PONG\r\n{MASTER}{}", confirmed("subscribe", "a"));
    talk.receive(answers.as_bytes(), false).expect("good answers");
    let found = talk.session.receive(head.as_bytes(), &talk.config.url, &mut talk.subscriptions, talk.now);
    assert_eq!(found, Ok(Some((Incoming::TooBig { channel: b"a" }, head.len() + 99_999 + 2))));
    let name = ">3\r\n$7\r\nmessage\r\n$99999\r\n";
    let found = talk.session.receive(name.as_bytes(), &talk.config.url, &mut talk.subscriptions, talk.now);
    assert_eq!(found, Err(Fault::BadReply("a string is over its limit".to_owned())));
}

#[test]
fn a_denied_channel_is_told_and_the_rest_lives() {
    let mut talk = Talk::new(config("redis://h"));
    talk.receive(GREETED.as_bytes(), false).expect("a good opening");
    ["a", "b"].into_iter().for_each(|name| talk.subscriptions.want(topic(name)));
    talk.sent();
    let refusal = format!("{PROBE_CONFIRMED}+PONG\r\n{MASTER}-NOPERM no\r\n");
    talk.receive(refusal.as_bytes(), false).expect("a refusal is no fault");
    assert_eq!(talk.sent(), "SUBSCRIBE a\nSUBSCRIBE b");
    let answers = format!("-NOPERM no\r\n{}", confirmed("subscribe", "b"));
    talk.receive(answers.as_bytes(), false).expect("a refusal is no fault");
    let notices = talk.subscriptions.take_notices();
    let refused = Notice::Refused { topic: topic("a"), is_news: true, was_delivered: false };
    assert_eq!(notices, [refused, Notice::Denied("a".to_owned()), Notice::Live(topic("b"))]);
}

#[test]
fn a_stalled_server_does_not_pile_up_commands() {
    let mut talk = Talk::new(config("redis://h"));
    let name = |number: usize| topic(&format!("{number}.{}", "x".repeat(200)));
    (0..10_000).for_each(|number| talk.subscriptions.want(name(number)));
    talk.receive(GREETED.as_bytes(), false).expect("a good opening");
    (0..10).for_each(|_| talk.session.poll_commands(&mut talk.subscriptions, talk.now));
    assert!(talk.session.outgoing().len() < 200_000, "{}", talk.session.outgoing().len());
}

/// The answer to `ROLE` of a replica whose link to its master is in this state.
fn replica(link: &str) -> String {
    format!("*5\r\n$5\r\nslave\r\n$1\r\nh\r\n:1\r\n${}\r\n{link}\r\n:9\r\n", link.len())
}

#[test]
fn what_is_no_master_ends_it_unless_a_replica_is_meant() {
    let greeting = |role: &str| format!("%1\r\n$4\r\nrole\r\n$7\r\nreplica\r\n{role}");
    let check = |allow_replica: bool, role: &str, expected: Result<(), Unfit>| {
        let mut talk = Talk::new(RedisConfig { allow_replica, ..config("redis://h") });
        let outcome = talk.receive(greeting(role).as_bytes(), false);
        assert_eq!(outcome.map(drop), expected.map_err(Fault::Unfit), "{role:?} {allow_replica}");
        assert_eq!(talk.session.is_ready(), expected.is_ok());
    };
    check(true, MASTER, Ok(()));
    check(false, &replica("connected"), Err(Unfit::Replica));
    check(true, &replica("connected"), Ok(()));
    for link in ["connect", "connecting", "sync"] {
        check(true, &replica(link), Err(Unfit::Detached));
    }
    check(true, "*1\r\n$8\r\nsentinel\r\n", Err(Unfit::Sentinel));
    // Where `ROLE` is forbidden, the answer to the greeting has said it already.
    check(false, "-NOPERM no\r\n", Err(Unfit::Replica));
    check(true, "-NOPERM no\r\n", Ok(()));
}

#[test]
fn what_the_server_is_is_asked_with_every_sign_of_life() {
    let become_replica = |greeted: &str, question: &str, answer: &str| {
        let mut talk = Talk::new(config("redis://h"));
        let opening = format!("{greeted}{PROBE_CONFIRMED}+PONG\r\n");
        talk.receive(opening.as_bytes(), false).expect("a good opening");
        assert!(talk.sent().ends_with(&format!("PING\n{question}")));
        talk.receive(answer.as_bytes(), false).map(drop)
    };
    let replica = replica("connected");
    assert_eq!(become_replica(GREETED, "ROLE", MASTER), Ok(()));
    assert_eq!(become_replica(GREETED, "ROLE", &replica), Err(Fault::Unfit(Unfit::Replica)));
    let forbidden = "%1\r\n$4\r\nrole\r\n$6\r\nmaster\r\n-NOPERM no\r\n";
    let hello = |role: &str| format!("%1\r\n$4\r\nrole\r\n${}\r\n{role}\r\n", role.len());
    assert_eq!(become_replica(forbidden, "HELLO", &hello("master")), Ok(()));
    assert_eq!(become_replica(forbidden, "HELLO", &hello("replica")), Err(Fault::Unfit(Unfit::Replica)));
    assert_eq!(become_replica(forbidden, "HELLO", "-NOPERM no\r\n"), Ok(()), "nobody can tell");
}

#[test]
fn what_is_still_on_its_way_when_a_channel_is_left_is_no_surprise() {
    let message = ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nx\r\n";
    let mut talk = Talk::new(RedisConfig { linger: Duration::ZERO, ..config("redis://h") });
    talk.receive(GREETED.as_bytes(), false).expect("a good opening");
    talk.subscriptions.want(topic("a"));
    talk.sent();
    let answers = format!("{PROBE_CONFIRMED}+PONG\r\n{MASTER}{}", confirmed("subscribe", "a"));
    talk.receive(answers.as_bytes(), false).expect("good answers");
    talk.subscriptions.unwant(&topic("a"), talk.now);
    talk.subscriptions.expire(talk.now);
    assert_eq!(talk.receive(message.as_bytes(), false), Ok(vec!["nothing".to_owned()]));
    assert_eq!(talk.sent(), "UNSUBSCRIBE a");
    assert_eq!(talk.receive(message.as_bytes(), false), Ok(vec!["nothing".to_owned()]));
    talk.receive(confirmed("unsubscribe", "a").as_bytes(), false).expect("a good answer");
    assert_eq!(talk.receive(message.as_bytes(), false), Ok(vec!["unasked".to_owned()]));
}

#[test]
fn a_hub_that_may_publish_nothing_finds_out_and_finds_out_when_it_may() {
    let forbidden = "NOPERM User hub has no permissions to run the 'publish' command";
    let mut talk = Talk::new(config("redis://h"));
    let opening = format!("{GREETED}{PROBE_CONFIRMED}+PONG\r\n{MASTER}");
    talk.receive(opening.as_bytes(), false).expect("a good opening");
    talk.sent();
    let mut next = |answers: &str| {
        talk.now = talk.now + Duration::from_secs(5);
        let sent: Vec<String> = talk.sent().lines().map(|line| line[..line.len().min(7)].to_owned()).collect();
        talk.receive(answers.as_bytes(), false).expect("good answers");
        (sent.join(","), talk.session.take_publishing())
    };
    let (sent, found) = next(&format!("-{forbidden}\r\n{MASTER}"));
    assert_eq!((sent.as_str(), found), ("PUBLISH,ROLE", Some(Err(forbidden.to_owned()))));
    let (sent, found) = next(&format!("+PONG\r\n-{forbidden}\r\n{MASTER}"));
    assert_eq!((sent.as_str(), found), ("PING,PUBLISH,ROLE", Some(Err(forbidden.to_owned()))));
    let (_, found) = next(&format!("+PONG\r\n:1\r\n{MASTER}"));
    assert_eq!(found, Some(Ok(())));
    let (sent, found) = next(&format!(":1\r\n{MASTER}"));
    assert_eq!((sent.as_str(), found), ("PUBLISH,ROLE", Some(Ok(()))));
}

#[test]
fn a_hub_that_may_subscribe_to_nothing_finds_out_and_finds_out_when_it_may() {
    let forbidden = "-NOPERM User hub has no permissions to run the 'subscribe' command\r\n";
    let mut talk = Talk::new(config("redis://h"));
    talk.receive(format!("{GREETED}{forbidden}+PONG\r\n{MASTER}").as_bytes(), false).expect("a good opening");
    assert!(talk.subscriptions.take_refusals().is_some_and(|(_, _, every)| every.is_some()));
    talk.sent();
    for (answer, is_news) in [(forbidden, false), (PROBE_CONFIRMED, true)] {
        assert_eq!(talk.sent(), "", "not before the next sign of life");
        talk.now = talk.now + Duration::from_secs(5);
        assert_eq!(talk.sent(), "PING\nSUBSCRIBE fanfare.probe.000000000000beef\nROLE");
        talk.receive(format!("+PONG\r\n{answer}{MASTER}").as_bytes(), false).expect("good answers");
        assert_eq!(talk.subscriptions.take_refusals().is_some_and(|(_, _, every)| every.is_none()), is_news);
    }
    assert!(talk.sent().starts_with("PUBLISH fanfare.probe."));
}
