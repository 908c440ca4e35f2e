//! Subscriptions by scenario.

use std::time::Duration;

use super::{
    super::subscriptions::{Admission, BATCH_CHANNELS_MAX, Batch, Notice, Subscriptions},
    topic,
};
use crate::{
    clock::Moment,
    source::{redis::RedisConfig, status::SubscriptionCounts},
};

pub(super) fn config(patterns: &[&str], always: &[&str]) -> RedisConfig {
    RedisConfig {
        subscribe: patterns.iter().map(|pattern| (*pattern).to_owned()).collect(),
        always: always.iter().map(|name| topic(name)).collect(),
        linger: Duration::from_secs(30),
        ..RedisConfig::default()
    }
}

pub(super) fn seconds(count: u64) -> Moment {
    Moment(count * 1_000_000_000)
}

/// Carries commands to a server that confirms everything but what is `denied`; returns the commands and the notices.
fn settle(subscriptions: &mut Subscriptions, denied: &[&str]) -> (Vec<String>, Vec<String>) {
    let mut commands = Vec::new();
    while let Some(batch) = subscriptions.next_batch() {
        let names = names(subscriptions, &batch);
        let verb = match &batch {
            Batch::Topics(_) => "SUBSCRIBE",
            Batch::Patterns(_) => "PSUBSCRIBE",
            Batch::Leave(_) => "UNSUBSCRIBE",
        };
        commands.push(format!("{verb} {}", names.join(" ")));
        if names.iter().any(|name| denied.contains(&name.as_str())) {
            subscriptions.on_refused(&batch, "NOPERM no", seconds(0));
        } else {
            confirm(subscriptions, &batch);
        }
    }
    (commands, notices(subscriptions))
}

pub(super) fn names(subscriptions: &Subscriptions, batch: &Batch) -> Vec<String> {
    match batch {
        Batch::Topics(topics) | Batch::Leave(topics) => topics.iter().map(ToString::to_string).collect(),
        Batch::Patterns(indices) => {
            indices.iter().map(|index| subscriptions.patterns().text(*index).to_owned()).collect()
        }
    }
}

pub(super) fn confirm(subscriptions: &mut Subscriptions, batch: &Batch) {
    match batch {
        Batch::Topics(topics) => topics.iter().for_each(|topic| subscriptions.on_subscribed(topic)),
        Batch::Patterns(indices) => indices.iter().for_each(|index| subscriptions.on_pattern_subscribed(*index)),
        Batch::Leave(_) => {}
    }
}

fn notices(subscriptions: &mut Subscriptions) -> Vec<String> {
    let show = |notice| match notice {
        Notice::Live(topic) => format!("live {topic}"),
        Notice::Stale(topic) => format!("stale {topic}"),
        Notice::Lost(topic) => format!("lost {topic}"),
        Notice::Left(topic) => format!("left {topic}"),
        Notice::LostUnder { index, kept } if kept.is_empty() => format!("lost under {index}"),
        Notice::LostUnder { index, kept } => format!("lost under {index} but {kept:?}"),
        Notice::Refused { topic, is_news: false, .. } => format!("still refused {topic}"),
        Notice::Refused { topic, was_delivered: false, .. } => format!("refused {topic}"),
        Notice::Refused { topic, .. } => format!("refused from now on {topic}"),
        Notice::Denied(name) => format!("denied {name}"),
    };
    subscriptions.take_notices().into_iter().map(show).collect()
}

#[test]
fn interest_subscribes_and_leaves_after_the_linger() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a"));
    subscriptions.want(topic("b"));
    let (commands, notices) = settle(&mut subscriptions, &[]);
    assert_eq!((commands, notices), (vec!["SUBSCRIBE a b".to_owned()], vec!["live a".to_owned(), "live b".to_owned()]));
    subscriptions.unwant(&topic("a"), seconds(10));
    assert_eq!(subscriptions.deadline(), Some(seconds(40)));
    subscriptions.expire(seconds(39));
    assert_eq!(settle(&mut subscriptions, &[]), (vec![], vec![]));
    subscriptions.expire(seconds(40));
    let (commands, notices) = settle(&mut subscriptions, &[]);
    assert_eq!(commands, ["UNSUBSCRIBE a"]);
    assert_eq!(notices, ["stale a", "left a"]);
    assert_eq!(subscriptions.tally(), SubscriptionCounts { wanted: 1, confirmed: 1, denied: 0, settled: true });
}

#[test]
fn wanted_again_within_the_linger_stays() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a"));
    settle(&mut subscriptions, &[]);
    subscriptions.unwant(&topic("a"), seconds(0));
    subscriptions.want(topic("a"));
    assert_eq!(notices(&mut subscriptions), ["live a"], "told again: the bus may have forgotten");
    subscriptions.unwant(&topic("a"), seconds(20));
    subscriptions.expire(seconds(30));
    assert_eq!(settle(&mut subscriptions, &[]), (vec![], vec![]));
    assert_eq!(subscriptions.deadline(), Some(seconds(50)));
    subscriptions.expire(seconds(50));
    assert_eq!(settle(&mut subscriptions, &[]).0, ["UNSUBSCRIBE a"]);
}

#[test]
fn left_and_wanted_again_in_one_turn_is_left_first() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a"));
    settle(&mut subscriptions, &[]);
    subscriptions.unwant(&topic("a"), seconds(0));
    subscriptions.expire(seconds(30));
    subscriptions.want(topic("a"));
    let (commands, notices) = settle(&mut subscriptions, &[]);
    assert_eq!(commands, ["UNSUBSCRIBE a", "SUBSCRIBE a"]);
    assert_eq!(notices, ["stale a", "left a", "live a"]);
}

#[test]
fn a_topic_is_not_left_while_its_confirmation_is_on_the_way() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a"));
    let batch = subscriptions.next_batch().expect("a subscription");
    subscriptions.unwant(&topic("a"), seconds(0));
    subscriptions.expire(seconds(30));
    assert_eq!(subscriptions.next_batch(), None);
    confirm(&mut subscriptions, &batch);
    subscriptions.expire(seconds(60));
    assert_eq!(settle(&mut subscriptions, &[]).0, ["UNSUBSCRIBE a"]);
}

#[test]
fn a_lost_connection_reports_one_loss_when_delivery_is_whole_again() {
    let mut subscriptions = Subscriptions::new(&config(&[], &["a"]));
    subscriptions.on_connected();
    settle(&mut subscriptions, &[]);
    subscriptions.on_disconnected();
    assert_eq!(notices(&mut subscriptions), ["stale a"]);
    subscriptions.on_disconnected();
    subscriptions.want(topic("new"));
    assert_eq!(notices(&mut subscriptions), Vec::<String>::new());
    assert_eq!(subscriptions.next_batch(), None, "nothing can be sent without a connection");
    subscriptions.on_connected();
    let (commands, mut told) = settle(&mut subscriptions, &[]);
    assert_eq!(commands.len(), 1);
    told.sort();
    assert_eq!(told, ["live a", "live new", "lost a"]);
}

#[test]
fn given_up_while_disconnected_still_reports_the_loss() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a"));
    settle(&mut subscriptions, &[]);
    subscriptions.unwant(&topic("a"), seconds(0));
    subscriptions.on_disconnected();
    subscriptions.expire(seconds(30));
    assert_eq!(notices(&mut subscriptions), ["stale a", "lost a"]);
    subscriptions.on_connected();
    assert_eq!(settle(&mut subscriptions, &[]), (vec![], vec![]));
}

#[test]
fn a_covered_topic_is_never_subscribed_by_itself() {
    let mut subscriptions = Subscriptions::new(&config(&["a.*", "*.b"], &["a.x"]));
    subscriptions.on_connected();
    subscriptions.want(topic("c.b"));
    subscriptions.want(topic("c.d"));
    let (commands, mut told) = settle(&mut subscriptions, &[]);
    assert_eq!(commands, ["PSUBSCRIBE a.* *.b", "SUBSCRIBE c.d"]);
    told.sort();
    assert_eq!(told, ["live a.x", "live c.b", "live c.d"]);
    subscriptions.want(topic("a.b"));
    assert_eq!(notices(&mut subscriptions), ["live a.b"]);
    subscriptions.unwant(&topic("a.b"), seconds(0));
    assert_eq!(notices(&mut subscriptions), ["stale a.b"], "no longer followed");
    assert_eq!(subscriptions.deadline(), None, "a pattern does not linger");
    assert_eq!(subscriptions.tally(), SubscriptionCounts { wanted: 3, confirmed: 3, denied: 0, settled: true });
}

#[test]
fn the_first_confirmed_pattern_speaks() {
    let mut subscriptions = Subscriptions::new(&config(&["a.*", "*.b", "a.b"], &[]));
    use Admission::{Repeated, Unasked, Wanted};
    let admit = |subscriptions: &Subscriptions, pattern: &str, channel: &str| {
        subscriptions.patterns().admit(pattern.as_bytes(), channel.as_bytes())
    };
    let check = |subscriptions: &Subscriptions, expected: [Admission; 3]| {
        assert_eq!(["a.*", "*.b", "a.b"].map(|pattern| admit(subscriptions, pattern, "a.b")), expected);
    };
    check(&subscriptions, [Unasked; 3]);
    subscriptions.on_connected();
    settle(&mut subscriptions, &[]);
    check(&subscriptions, [Wanted, Repeated, Repeated]);
    assert_eq!(admit(&subscriptions, "*.b", "c.b"), Wanted);
    assert_eq!(admit(&subscriptions, "unknown", "c.b"), Unasked);
    assert_eq!(admit(&subscriptions, "*.b", "c.d"), Unasked, "not under the pattern it claims to come through");
    subscriptions.on_disconnected();
    subscriptions.on_connected();
    settle(&mut subscriptions, &["a.*"]);
    check(&subscriptions, [Unasked, Wanted, Repeated]);
}

#[test]
fn a_pattern_reports_the_loss_of_all_it_carried() {
    let mut subscriptions = Subscriptions::new(&config(&["a.*", "*"], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a.b"));
    settle(&mut subscriptions, &[]);
    subscriptions.on_disconnected();
    assert_eq!(notices(&mut subscriptions), ["stale a.b"]);
    subscriptions.on_connected();
    let (_, told) = settle(&mut subscriptions, &[]);
    assert_eq!(told, ["lost under 0", "live a.b", "lost under 1"]);
    let carried = |index, name| subscriptions.patterns().carried(index, &topic(name));
    assert_eq!([carried(0, "a.c"), carried(1, "a.c"), carried(0, "b"), carried(1, "b")], [true, false, false, true]);
}

#[test]
fn one_denied_channel_does_not_take_the_others_down() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    ["a", "b", "c"].into_iter().for_each(|name| subscriptions.want(topic(name)));
    let (commands, told) = settle(&mut subscriptions, &["b"]);
    assert_eq!(commands, ["SUBSCRIBE a b c", "SUBSCRIBE a", "SUBSCRIBE b", "SUBSCRIBE c"]);
    assert_eq!(told, ["live a", "refused b", "denied b", "live c"]);
    assert_eq!(subscriptions.tally(), SubscriptionCounts { wanted: 3, confirmed: 2, denied: 1, settled: true });
    subscriptions.want(topic("b"));
    let (commands, told) = settle(&mut subscriptions, &[]);
    assert_eq!(commands, ["SUBSCRIBE b"], "at once: somebody new wants it");
    assert_eq!(told, ["still refused b", "lost b", "live b"]);
    assert_eq!(subscriptions.tally(), SubscriptionCounts { wanted: 3, confirmed: 3, denied: 0, settled: true });
}

#[test]
fn topics_of_a_denied_pattern_are_subscribed_by_themselves() {
    let mut subscriptions = Subscriptions::new(&config(&["a.*", "b.*"], &["a.x"]));
    subscriptions.on_connected();
    let (commands, told) = settle(&mut subscriptions, &["a.*"]);
    assert_eq!(commands, ["PSUBSCRIBE a.* b.*", "PSUBSCRIBE a.*", "PSUBSCRIBE b.*", "SUBSCRIBE a.x"]);
    assert_eq!(told, ["denied a.*", "live a.x"]);
    assert_eq!(subscriptions.tally(), SubscriptionCounts { wanted: 3, confirmed: 2, denied: 1, settled: true });
}

#[test]
fn without_interest_only_the_configured_counts() {
    let without = RedisConfig { interest: false, ..config(&["a.*"], &["b"]) };
    let mut subscriptions = Subscriptions::new(&without);
    subscriptions.on_connected();
    subscriptions.want(topic("a.x"));
    subscriptions.want(topic("c"));
    let (commands, mut told) = settle(&mut subscriptions, &[]);
    told.sort();
    assert_eq!(
        (commands, told),
        (vec!["PSUBSCRIBE a.*".to_owned(), "SUBSCRIBE b".to_owned()], vec!["live a.x".to_owned(), "live b".to_owned()])
    );
    subscriptions.unwant(&topic("b"), seconds(0));
    assert_eq!(subscriptions.deadline(), None, "always means always");
}

#[test]
fn commands_are_bounded() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    (0..BATCH_CHANNELS_MAX * 2 + 1).for_each(|number| subscriptions.want(topic(&number.to_string())));
    let (commands, _) = settle(&mut subscriptions, &[]);
    let lengths: Vec<usize> = commands.iter().map(|command| command.split(' ').count() - 1).collect();
    assert_eq!(lengths, [BATCH_CHANNELS_MAX, BATCH_CHANNELS_MAX, 1]);
}

/// Lets the wait before the next attempt pass, and settles.
fn retry(subscriptions: &mut Subscriptions, denied: &[&str]) -> (Vec<String>, Vec<String>) {
    let due = subscriptions.deadline().expect("something is refused");
    subscriptions.retry_refused(due, u32::MAX);
    settle(subscriptions, denied)
}

#[test]
fn what_is_refused_is_asked_for_again_after_waits_that_grow_and_its_readers_are_told_once() {
    let mut subscriptions = Subscriptions::new(&config(&[], &["always"]));
    subscriptions.on_connected();
    subscriptions.want(topic("a"));
    settle(&mut subscriptions, &[]);
    subscriptions.on_disconnected();
    notices(&mut subscriptions);
    subscriptions.on_connected();
    let (_, mut told) = settle(&mut subscriptions, &["a", "always"]);
    told.sort();
    let expected = ["denied a", "denied always", "refused from now on a", "refused from now on always"];
    assert_eq!(told, expected);
    assert!(subscriptions.tally().settled, "nothing more can be done here");
    let mut before = Moment(0);
    let mut waits = Vec::new();
    for _ in 0..9 {
        let due = subscriptions.deadline().expect("something is refused");
        waits.push(due.since(before));
        before = due;
        let (commands, told) = retry(&mut subscriptions, &["a", "always"]);
        assert_eq!((commands, told), (vec!["SUBSCRIBE a".to_owned(), "SUBSCRIBE always".to_owned()], vec![]));
    }
    assert!(waits.is_sorted() && waits.last() == Some(&RedisConfig::default().backoff_max), "{waits:?}");
    let (_, told) = retry(&mut subscriptions, &["always"]);
    assert_eq!(told, ["lost a", "live a"]);
    let (report, count, every) = subscriptions.take_refusals().expect("it has changed");
    assert_eq!((report[0].0.as_str(), count, every), ("always", 1, None));
    let (_, told) = retry(&mut subscriptions, &[]);
    assert_eq!(told, ["lost always", "live always"]);
    assert_eq!(retry(&mut subscriptions, &[]), (vec![], vec![]));
    assert_eq!(subscriptions.deadline(), None, "nothing is refused any more");
}

#[test]
fn a_pattern_that_is_allowed_again_takes_over_without_a_repeat() {
    use Admission::{Repeated, Wanted};
    let mut subscriptions = Subscriptions::new(&config(&["a.*"], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a.b"));
    let (commands, told) = settle(&mut subscriptions, &["a.*"]);
    assert_eq!(commands, ["PSUBSCRIBE a.*", "SUBSCRIBE a.b"]);
    assert_eq!(told, ["denied a.*", "live a.b"]);
    assert_eq!(subscriptions.admit(b"a.b"), Wanted);
    let (commands, told) = retry(&mut subscriptions, &[]);
    assert_eq!(commands, ["PSUBSCRIBE a.*", "UNSUBSCRIBE a.b"]);
    assert_eq!(told, ["live a.b"]);
    assert_eq!(subscriptions.admit(b"a.b"), Repeated, "it comes through the pattern from here on");
    assert_eq!(subscriptions.patterns().admit(b"a.*", b"a.b"), Wanted);
    assert_eq!(subscriptions.tally(), SubscriptionCounts { wanted: 1, confirmed: 1, denied: 0, settled: true });
}

#[test]
fn a_server_that_lets_nobody_in_is_told_to_all_once() {
    let mut subscriptions = Subscriptions::new(&config(&[], &[]));
    subscriptions.on_connected();
    subscriptions.want(topic("a"));
    settle(&mut subscriptions, &[]);
    for expected in [vec!["stale a", "refused from now on a"], vec![]] {
        subscriptions.on_disconnected();
        subscriptions.on_source_refused();
        assert_eq!(notices(&mut subscriptions), expected);
    }
    subscriptions.want(topic("new"));
    assert_eq!(notices(&mut subscriptions), ["refused new"]);
    subscriptions.on_connected();
    let (_, mut told) = settle(&mut subscriptions, &[]);
    told.sort();
    assert_eq!(told, ["live a", "live new", "lost a", "lost new"]);
}

#[test]
fn a_command_that_is_forbidden_is_told_from_a_channel_that_is() {
    let mut subscriptions = Subscriptions::new(&config(&[], &["a"]));
    subscriptions.on_connected();
    let refuse = |subscriptions: &mut Subscriptions, text: &str| {
        let batch = subscriptions.next_batch().expect("a subscription");
        subscriptions.on_refused(&batch, text, seconds(1));
        subscriptions.take_refusals().is_some_and(|(_, _, every)| every.is_some())
    };
    assert!(!refuse(&mut subscriptions, "NOPERM No permissions to access a channel"));
    subscriptions.retry_refused(seconds(99), 0);
    assert!(refuse(&mut subscriptions, "NOPERM User hub has no permissions to run the 'subscribe' command"));
    subscriptions.retry_refused(seconds(999), 0);
    settle(&mut subscriptions, &[]);
    assert!(subscriptions.take_refusals().is_some_and(|(_, count, every)| (count, every) == (0, None)));
}

#[test]
fn a_topic_that_moves_is_reported_lost_where_it_arrives() {
    let [mut from, mut to] = [(); 2].map(|()| Subscriptions::new(&config(&[], &[])));
    from.want(topic("away"));
    from.want(topic("stays"));
    let moving = from.release(|topic| topic.as_str() == "away");
    assert_eq!(notices(&mut from), Vec::<String>::new(), "it was not delivered yet");
    moving.into_iter().for_each(|topic| to.adopt(topic));
    [&mut from, &mut to].into_iter().for_each(Subscriptions::on_connected);
    settle(&mut from, &[]);
    let (commands, told) = settle(&mut to, &[]);
    assert_eq!(
        (commands.as_slice(), told.as_slice()),
        (["SUBSCRIBE away".to_owned()].as_slice(), ["live away".to_owned()].as_slice())
    );
    // Back again, from a server that delivered it.
    to.unwant(&topic("away"), seconds(5));
    let moving = to.release(|_| true);
    assert_eq!(settle(&mut to, &[]), (vec!["UNSUBSCRIBE away".to_owned()], vec!["stale away".to_owned()]));
    assert_eq!(to.tally(), SubscriptionCounts { wanted: 0, confirmed: 0, denied: 0, settled: true });
    moving.into_iter().for_each(|topic| from.adopt(topic));
    let (commands, told) = settle(&mut from, &[]);
    assert_eq!(
        (commands.as_slice(), told),
        (["SUBSCRIBE away".to_owned()].as_slice(), vec!["lost away".to_owned(), "live away".to_owned()])
    );
    assert_eq!(from.deadline(), Some(seconds(35)), "its linger goes on");
    from.expire(seconds(35));
    let (commands, told) = settle(&mut from, &[]);
    assert_eq!(
        (commands, told),
        (vec!["UNSUBSCRIBE away".to_owned()], vec!["stale away".to_owned(), "left away".to_owned()])
    );
}

#[test]
fn a_topic_that_the_server_ends_is_asked_for_again_and_one_that_it_has_not_waits() {
    let mut subscriptions = Subscriptions::new(&config(&[], &["a"]));
    subscriptions.on_connected();
    settle(&mut subscriptions, &[]);
    assert!(!subscriptions.on_ended(b"b") && !subscriptions.on_ended(b"\xFF"), "no topic of ours");
    assert!(subscriptions.on_ended(b"a"));
    assert!(!subscriptions.on_ended(b"a"), "it is not confirmed any more");
    assert!(!subscriptions.tally().settled);
    let batch = subscriptions.next_batch().expect("it is asked for again");
    assert_eq!(names(&subscriptions, &batch), ["a"]);
    subscriptions.postpone(&topic("a"));
    assert_eq!((subscriptions.next_batch(), subscriptions.has_postponed()), (None, true));
    subscriptions.resume_postponed();
    let (commands, told) = settle(&mut subscriptions, &[]);
    assert_eq!(
        (commands, told),
        (vec!["SUBSCRIBE a".to_owned()], vec!["stale a".to_owned(), "lost a".to_owned(), "live a".to_owned()])
    );
}
