//! The conversation with a node of a cluster. The topics a, b and c are in the slots 15495, 3300 and 7365, the probe's key in 5649.

use super::{
    super::fault::Fault,
    conversation::{
        GREETED,
        Line::{Do, Fault as Fails, Pass, They, We},
        MASTER,
        Seen::{Answer, Message, Nothing, Unasked},
        Talk, check_with, config,
    },
    topic,
};
use crate::source::redis::RedisConfig;

const PROBE_CONFIRMED: &str = ">3\r\n$10\r\nssubscribe\r\n$34\r\nfanfare.probe.{2}.000000000000beef\r\n:1\r\n";
const GREETING: &str = "ROLE\nSSUBSCRIBE fanfare.probe.{2}.000000000000beef\nSSUBSCRIBE a\nPING\nROLE";

fn talk() -> Talk {
    Talk::sharded(RedisConfig { always: vec![topic("a")], ..config("redis+cluster://h") })
}

#[test]
fn channels_are_subscribed_one_by_one_and_left() {
    check_with(
        &talk,
        &[
            We("HELLO 3 SETNAME fanfare-reader"),
            They(GREETED, &[Answer, Answer]),
            We(GREETING),
            They(PROBE_CONFIRMED, &[Answer]),
            They(">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n", &[Answer]),
            They(">3\r\n$8\r\nsmessage\r\n$1\r\na\r\n$2\r\nhi\r\n", &[Message("a", "hi")]),
            They(">3\r\n$8\r\nsmessage\r\n$1\r\nb\r\n$2\r\nhi\r\n", &[Unasked]),
            They("+PONG\r\n", &[Answer]),
            They(MASTER, &[Answer]),
            Do(|talk| ["b", "c"].into_iter().for_each(|name| talk.subscriptions.want(topic(name)))),
            We("SSUBSCRIBE b\nSSUBSCRIBE c"),
            They(
                ">3\r\n$10\r\nssubscribe\r\n$1\r\nb\r\n:1\r\n>3\r\n$10\r\nssubscribe\r\n$1\r\nc\r\n:1\r\n",
                &[Answer, Answer],
            ),
            Do(|talk| drop(talk.subscriptions.release(|name| name.as_str() != "a"))),
            Pass(5000),
            Do(|talk| {
                let sent = talk.sent();
                assert!(sent.contains("SUNSUBSCRIBE b") && sent.contains("SUNSUBSCRIBE c"), "{sent}");
                assert!(sent.ends_with("SPUBLISH fanfare.probe.{2}.000000000000beef 48880\nROLE"), "{sent}");
            }),
        ],
    );
}

#[test]
fn a_slot_that_leaves_ends_its_subscriptions_and_asking_again_tells_where_it_is() {
    check_with(
        &talk,
        &[
            We("HELLO 3 SETNAME fanfare-reader"),
            They(GREETED, &[Answer, Answer]),
            We(GREETING),
            They(PROBE_CONFIRMED, &[Answer]),
            They(">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n+PONG\r\n", &[Answer, Answer]),
            They(MASTER, &[Answer]),
            They(">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n", &[Answer]),
            Do(|talk| assert!(talk.session.take_slot_news().is_outdated)),
            We("SSUBSCRIBE a"),
            They("-MOVED 15495 h:7\r\n", &[Answer]),
            Do(|talk| {
                let news = talk.session.take_slot_news();
                assert_eq!(news.moved.iter().map(|moved| (moved.slot, moved.port)).collect::<Vec<_>>(), [(15_495, 7)]);
                assert!(talk.subscriptions.has_postponed());
            }),
            We(""),
            Do(|talk| talk.subscriptions.resume_postponed()),
            We("SSUBSCRIBE a"),
            They("-CLUSTERDOWN Hash slot not served\r\n", &[Answer]),
            Do(|talk| assert!(talk.session.take_slot_news().is_outdated && talk.subscriptions.has_postponed())),
            Do(|talk| talk.subscriptions.resume_postponed()),
            We("SSUBSCRIBE a"),
            They(">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n", &[Answer]),
            Do(|talk| assert!(talk.subscriptions.tally().settled)),
        ],
    );
}

/// The node ended the subscription before it read that it was to be left, so it answers twice.
#[test]
fn leaving_what_has_ended_already_is_no_contradiction() {
    check_with(
        &talk,
        &[
            We("HELLO 3 SETNAME fanfare-reader"),
            They(GREETED, &[Answer, Answer]),
            We(GREETING),
            They(PROBE_CONFIRMED, &[Answer]),
            They(">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n+PONG\r\n", &[Answer, Answer]),
            They(MASTER, &[Answer]),
            Do(|talk| drop(talk.subscriptions.release(|_| true))),
            We("SUNSUBSCRIBE a"),
            Do(|talk| talk.subscriptions.want(topic("b"))),
            We("SSUBSCRIBE b"),
            They(">3\r\n$12\r\nsunsubscribe\r\n$1\r\na\r\n:0\r\n-MOVED 15495 h:7\r\n", &[Answer, Answer]),
            They(">3\r\n$10\r\nssubscribe\r\n$1\r\nb\r\n:1\r\n", &[Answer]),
            They(">3\r\n$8\r\nsmessage\r\n$1\r\nb\r\n$2\r\nhi\r\n", &[Message("b", "hi")]),
            They(">3\r\n$12\r\nsunsubscribe\r\n$1\r\nc\r\n:0\r\n", &[Answer]),
            They(">2\r\n+invalidate\r\n_\r\n", &[Nothing]),
        ],
    );
}

#[test]
fn a_probe_whose_slot_leaves_moves_to_another_slot_of_the_node() {
    for lost in
        [">3\r\n$12\r\nsunsubscribe\r\n$34\r\nfanfare.probe.{2}.000000000000beef\r\n:0\r\n", "-MOVED 5649 h:7\r\n"]
    {
        check_with(
            &talk,
            &[
                We("HELLO 3 SETNAME fanfare-reader"),
                They(GREETED, &[Answer, Answer]),
                We(GREETING),
                They(PROBE_CONFIRMED, &[Answer]),
                They(">3\r\n$10\r\nssubscribe\r\n$1\r\na\r\n:1\r\n+PONG\r\n", &[Answer, Answer]),
                They(MASTER, &[Answer]),
                Pass(5000),
                We("SPUBLISH fanfare.probe.{2}.000000000000beef 48880\nROLE"),
                They(lost, &[Answer]),
                Do(|talk| talk.session.offer_probe_tag("5")),
                We("SSUBSCRIBE fanfare.probe.{5}.000000000000beef"),
            ],
        );
    }
}

#[test]
fn a_server_without_sharded_channels_says_so() {
    let old = "%2\r\n+version\r\n$6\r\n6.2.14\r\n+proto\r\n:3\r\n";
    let old = old.replace("+version", "$7\r\nversion");
    for (answer, what) in
        [(old.as_str(), "this server is 6.2.14"), ("-ERR unknown command `HELLO`\r\n", "this server knows no HELLO")]
    {
        let fault = Fault::TooOld(what.to_owned());
        assert!(fault.is_lasting() && fault.to_string().contains("7.0 or later"), "{fault}");
        let answer: &'static str = answer.to_owned().leak();
        check_with(&talk, &[We("HELLO 3 SETNAME fanfare-reader"), Fails(answer, fault)]);
    }
}
