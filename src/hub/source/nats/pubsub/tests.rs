//! What becomes of subscriptions and publications behind a fence, of a subscription that is denied later, and of messages.

use std::sync::{
    Arc,
    mpsc::{Receiver, channel},
};

use super::{
    PUBSUB_SOURCE,
    fence::{Fence, Outcome},
    thread::PubSubThread,
};
use crate::{
    bus::{self, Bus, EventSink, Publication, PublishFailed, Receipt, Refusal, SourcePort},
    clock::{Clock, Moment},
    log::Start,
    source::{
        SourceStatus,
        nats::{
            Connector, NatsConfig, SubjectFilter,
            link::Message,
            publication_queue::{PublicationQueue, Publisher, queue},
        },
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
        self.publisher.publish(Publication {
            topic: topic(name),
            kind: None,
            data,
            idempotency_key: None,
            bridged: None,
            reply,
        });
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
fn a_fence_has_the_deadline_of_what_still_waits() {
    let mut outlet = Outlet::new(&NatsConfig::default());
    ["a", "b"].into_iter().enumerate().for_each(|(number, name)| outlet.publish(number, name));
    let publications = outlet.queue.take_batch();
    let deadlines = [publications[0].deadline, publications[1].deadline];
    let mut fence = Fence::new(1, Moment(0), None, publications);
    assert_eq!(fence.deadline(), deadlines.into_iter().min());
    fence.refuse_publications(&topic("a"));
    assert_eq!(fence.deadline(), Some(deadlines[1]));
    fence.expire(Moment(0));
    assert_eq!(fence.deadline(), Some(deadlines[1]), "it is not time yet");
    fence.expire(deadlines[1]);
    assert_eq!(fence.deadline(), None);
    let unknown = (1, Err(PublishFailed::Unknown));
    assert_eq!(outlet.answers(), [(0, Err(PublishFailed::Refused(Refusal::Forbidden))), unknown]);
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
fn a_batch_is_bounded() {
    let mut outlet = Outlet::new(&NatsConfig::default());
    (0..2500).for_each(|number| outlet.publish(number, "a"));
    let sizes = [0; 4].map(|_| outlet.queue.take_batch().len());
    assert_eq!(sizes, [1024, 1024, 452, 0]);
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

/// A thread that is connected to nothing, and its bus. Its subscriptions are asked for, and not confirmed.
fn asked(config: &NatsConfig, topics: &[&str]) -> (PubSubThread, Arc<Bus>) {
    let (status, waker) = (Arc::new(SourceStatus::new(PUBSUB_SOURCE)), Arc::default());
    let (publisher, queue) = queue(config, Clock::start(), Arc::clone(&status), Arc::clone(&waker));
    let port = SourcePort { name: PUBSUB_SOURCE, is_default: true, sink: Some(Box::new(publisher)), log: None };
    let bus = Arc::new(Bus::new(bus::Config::default(), Vec::new(), vec![port]));
    let connector = Connector::new(config).expect("no files");
    let (_, interest) = crossbeam_channel::unbounded();
    let clock = Clock::start();
    let mut thread = PubSubThread::new(config, connector, queue, interest, Arc::clone(&bus), clock, status, waker);
    topics.iter().for_each(|name| thread.subscriptions.want(topic(name)));
    thread.subscriptions.on_connected();
    while thread.subscriptions.next_batch().is_some() {}
    (thread, bus)
}

fn messages(subject: &str, payloads: &[&'static str]) -> Vec<Message> {
    let message =
        |payload: &&'static str| Message { subject: subject.into(), payload: (*payload).into(), ..Message::default() };
    payloads.iter().map(message).collect()
}

/// The payloads that the bus has of a topic; a gap is `-`.
fn held(bus: &Bus, name: &str) -> Vec<String> {
    let page = bus.history(&topic(name), Start::First, 99, Moment(0));
    let events = page.into_iter().flat_map(|page| page.events);
    let text = |event: Arc<crate::event::Event>| match event.gap {
        Some(_) => "-".to_owned(),
        None => String::from_utf8_lossy(&event.data).into_owned(),
    };
    events.map(text).collect()
}

#[test]
fn a_message_confirms_its_subscription() {
    let config = NatsConfig { subscribe: vec!["p.*".to_owned()], ..NatsConfig::default() };
    let (mut thread, bus) = asked(&config, &["a", "p.x"]);
    let mut feed = bus.feed();
    assert_eq!(thread.receive_topic(&topic("a"), messages("a", &["1", "2"]), &mut feed, Moment(1)), 2);
    assert_eq!(thread.receive_pattern(0, messages("p.x", &["3"]), &mut feed, Moment(1)), 1);
    drop(feed);
    assert_eq!((held(&bus, "a"), held(&bus, "p.x")), (vec!["1".into(), "2".into()], vec!["3".into()]));
    assert_eq!(thread.subscriptions.tally().confirmed, 2);
    // After an outage the loss comes first.
    thread.subscriptions.on_disconnected();
    thread.subscriptions.on_connected();
    while thread.subscriptions.next_batch().is_some() {}
    let mut feed = bus.feed();
    assert_eq!(thread.receive_topic(&topic("a"), messages("a", &["4"]), &mut feed, Moment(2)), 1);
    assert_eq!(thread.receive_pattern(0, messages("p.x", &["5"]), &mut feed, Moment(2)), 1);
    drop(feed);
    assert_eq!(
        (held(&bus, "a"), held(&bus, "p.x")),
        (["1", "2", "-", "4"].map(str::to_owned).into(), ["3", "-", "5"].map(str::to_owned).into())
    );
}

#[test]
fn what_is_not_subscribed_or_comes_twice_is_no_event() {
    let config = NatsConfig { subscribe: vec!["p.*".to_owned(), ">".to_owned()], ..NatsConfig::default() };
    let (mut thread, bus) = asked(&config, &["a"]);
    let mut feed = bus.feed();
    let now = Moment(1);
    let mut count = |index, subject: &str| thread.receive_pattern(index, messages(subject, &["x"]), &mut feed, now);
    assert_eq!([count(0, "p.x"), count(1, "p.x"), count(1, "q"), count(1, "a")], [1, 0, 1, 1]);
    // Not under the pattern that it claims to come through; a probe; no topic's name.
    assert_eq!([count(0, "q.x"), count(1, "_INBOX.fanfare.00"), count(1, "$SYS.x"), count(1, "a b")], [0; 4]);
    assert_eq!(thread.receive_topic(&topic("a"), messages("a", &["x"]), &mut feed, now), 0, "the pattern brings it");
    assert_eq!(thread.receive_topic(&topic("left"), messages("left", &["x"]), &mut feed, now), 0);
    drop(feed);
    assert_eq!((thread.status.snapshot().refused, bus.received_total()), (2, 3));
}
