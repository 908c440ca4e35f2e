//! What becomes of subscriptions and publications behind a fence, and of a subscription that is denied later.

use std::sync::{
    Arc,
    mpsc::{Receiver, channel},
};

use super::{
    PUBSUB_SOURCE,
    fence::{Fence, Outcome},
    queue::{PublicationQueue, Publisher, queue},
};
use crate::{
    bus::{EventSink, Publication, PublishFailed, Receipt, Refusal},
    clock::{Clock, Moment},
    source::{
        SourceStatus,
        nats::{NatsConfig, SubjectFilter},
        subscriptions::{Batch, Notice, Subscriptions},
    },
    topic::Topic,
};

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a good name")
}

/// A publication's number, and the answer to it.
type Answer = (usize, Receipt);

/// A queue, and the answers to what is published through it, by number.
struct Outlet {
    publisher: Publisher,
    queue: PublicationQueue,
    status: Arc<SourceStatus>,
    answers: (std::sync::mpsc::Sender<Answer>, Receiver<Answer>),
}

impl Outlet {
    fn new(config: &NatsConfig) -> Self {
        let status = Arc::new(SourceStatus::new(PUBSUB_SOURCE));
        let (publisher, queue) = queue(config, Clock::start(), Arc::clone(&status), Arc::default());
        Self { publisher, queue, status, answers: channel() }
    }

    fn publish(&self, number: usize, name: &str) {
        let sender = self.answers.0.clone();
        let reply = Box::new(move |receipt| sender.send((number, receipt)).expect("the test waits for it"));
        let data = "x".into();
        self.publisher.publish(Publication { topic: topic(name), kind: None, data, idempotency_key: None, reply });
    }

    fn answers(&self) -> Vec<(usize, Receipt)> {
        let mut answers: Vec<_> = self.answers.1.try_iter().collect();
        answers.sort_by_key(|(number, _)| *number);
        answers
    }
}

#[test]
fn every_publication_is_answered_by_what_becomes_of_its_fence() {
    let forbidden = Err(PublishFailed::Refused(Refusal::Forbidden));
    let check = |act: &dyn Fn(Fence, &SourceStatus), expected: [Receipt; 3]| {
        let mut outlet = Outlet::new(&NatsConfig::default());
        ["a", "b", "a"].into_iter().enumerate().for_each(|(number, name)| outlet.publish(number, name));
        let fence = Fence::new(1, Moment(0), None, outlet.queue.take_batch());
        assert_eq!(outlet.answers(), [], "before the nonce is back");
        act(fence, &outlet.status);
        assert_eq!(outlet.answers(), expected.into_iter().enumerate().collect::<Vec<_>>());
    };
    let complete = |fence: Fence, status: &SourceStatus| drop(fence.complete(status));
    check(&complete, [Ok(None); 3]);
    check(&|fence, _| fence.abandon(), [Err(PublishFailed::Unknown); 3]);
    check(
        &|mut fence, status| {
            assert_eq!(fence.refuse_publications(&topic("a")), 2);
            complete(fence, status);
        },
        [forbidden, Ok(None), forbidden],
    );
    check(
        &|mut fence, status| {
            fence.on_unclear("something else");
            complete(fence, status);
        },
        [Err(PublishFailed::Unknown); 3],
    );
    check(&|mut fence, _| fence.expire(Moment(u64::MAX)), [Err(PublishFailed::Unknown); 3]);
}

#[test]
fn what_nobody_sends_was_not_published() {
    let config = NatsConfig { publish_queue_max: 2, ..NatsConfig::default() };
    let mut outlet = Outlet::new(&config);
    (0..3).for_each(|number| outlet.publish(number, "a"));
    assert_eq!(outlet.answers(), [(2, Err(PublishFailed::QueueFull))]);
    outlet.queue.expire(None, Moment(0));
    assert_eq!(outlet.answers(), [], "it is not time yet");
    outlet.queue.expire(None, Moment(u64::MAX));
    let unavailable = Err(PublishFailed::Unavailable);
    assert_eq!(outlet.answers(), [(0, unavailable), (1, unavailable)]);
    outlet.publish(3, "a");
    let refused = PublishFailed::Refused(Refusal::Forbidden);
    outlet.queue.expire(Some(refused), Moment(0));
    assert_eq!(outlet.answers(), [(3, Err(refused))], "no connection would help");
    outlet.publish(4, "a");
    drop(outlet.queue);
    assert_eq!(outlet.answers.1.try_iter().collect::<Vec<_>>(), [(4, unavailable)]);
    let heavy = NatsConfig { publish_queue_bytes_max: 1, ..NatsConfig::default() };
    let outlet = Outlet::new(&heavy);
    outlet.publish(0, "a");
    assert_eq!(outlet.answers(), [(0, Err(PublishFailed::QueueFull))]);
}

#[test]
fn a_batch_is_bounded_by_what_the_library_can_tell_of() {
    let mut outlet = Outlet::new(&NatsConfig::default());
    (0..150).for_each(|number| outlet.publish(number, "a"));
    let sizes = [0; 4].map(|_| outlet.queue.take_batch().len());
    assert_eq!(sizes, [60, 60, 30, 0]);
}

#[test]
fn an_error_that_names_nothing_concerns_the_whole_batch() {
    let status = SourceStatus::new(PUBSUB_SOURCE);
    let check = |batch: Option<Batch>, unclear: Option<&str>, expected: Outcome| {
        let mut fence = Fence::new(1, Moment(0), batch, Vec::new());
        unclear.iter().for_each(|text| fence.on_unclear(text));
        assert_eq!(fence.complete(&status), expected);
    };
    let topics = || Batch::Topics(vec![topic("a"), topic("b")]);
    check(None, None, Outcome::Taken(None));
    check(None, Some("x"), Outcome::Taken(None));
    check(Some(topics()), None, Outcome::Taken(Some(topics())));
    check(Some(topics()), Some("x"), Outcome::Unclear(topics(), "x".to_owned()));
    let leave = || Batch::Leave(vec![topic("a")]);
    check(Some(leave()), Some("x"), Outcome::Taken(Some(leave())));
}

/// Subscriptions to `a`, and to `p.x` through the pattern `p.*`, all of them confirmed.
fn confirmed() -> Subscriptions<SubjectFilter> {
    let config = NatsConfig { subscribe: vec!["p.*".to_owned()], ..NatsConfig::default() };
    let mut subscriptions = Subscriptions::new(&config);
    subscriptions.on_connected();
    ["a", "p.x"].into_iter().for_each(|name| subscriptions.want(topic(name)));
    confirm_all(&mut subscriptions);
    subscriptions.take_notices();
    assert_eq!(subscriptions.tally().confirmed, 2);
    subscriptions
}

fn confirm_all(subscriptions: &mut Subscriptions<SubjectFilter>) {
    while let Some(batch) = subscriptions.next_batch() {
        match batch {
            Batch::Topics(topics) => topics.iter().for_each(|topic| subscriptions.on_subscribed(topic)),
            Batch::Patterns(indices) => indices.iter().for_each(|index| subscriptions.on_pattern_subscribed(*index)),
            Batch::Leave(_) => {}
        }
    }
}

#[test]
fn a_topic_that_is_denied_later_is_lost_until_it_is_back() {
    let mut subscriptions = confirmed();
    subscriptions.on_topic_denied(&topic("a"), "no", Moment(1));
    let refused = Notice::Refused { topic: topic("a"), is_news: true, was_delivered: true };
    assert_eq!(subscriptions.take_notices(), [refused, Notice::Denied("a".to_owned())]);
    assert_eq!((subscriptions.tally().confirmed, subscriptions.tally().denied), (1, 1));
    // Once more, as an answer to the next attempt: no news.
    let due = subscriptions.deadline().expect("it is asked for again");
    subscriptions.retry_refused(due, 0);
    assert_eq!(subscriptions.next_batch(), Some(Batch::Topics(vec![topic("a")])));
    subscriptions.on_topic_denied(&topic("a"), "no", due);
    assert_eq!(subscriptions.take_notices(), []);
    let due = subscriptions.deadline().expect("it is asked for again");
    subscriptions.retry_refused(due, 0);
    confirm_all(&mut subscriptions);
    assert_eq!(subscriptions.take_notices(), [Notice::Lost(topic("a")), Notice::Live(topic("a"))]);
    assert_eq!((subscriptions.tally().confirmed, subscriptions.tally().denied), (2, 0));
    subscriptions.on_topic_denied(&topic("unknown"), "no", due);
    assert_eq!(subscriptions.take_notices(), []);
}

#[test]
fn a_pattern_that_is_denied_later_is_lost_with_all_it_carried() {
    let mut subscriptions = confirmed();
    assert_eq!(subscriptions.on_pattern_denied("q.*", "no", Moment(1)), None);
    assert_eq!(subscriptions.on_pattern_denied("p.*", "no", Moment(1)), Some(0));
    let lost = Notice::LostUnder { index: 0, kept: Vec::new() };
    let told = [Notice::Stale(topic("p.x")), Notice::Denied("p.*".to_owned()), lost];
    assert_eq!(subscriptions.take_notices(), told);
    assert!(subscriptions.patterns().carried(0, &topic("p.other")));
    assert_eq!((subscriptions.tally().confirmed, subscriptions.tally().denied), (1, 1));
    // Its topic is subscribed by itself, and what came between is reported before it is live.
    confirm_all(&mut subscriptions);
    assert_eq!(subscriptions.take_notices(), [Notice::Lost(topic("p.x")), Notice::Live(topic("p.x"))]);
}
