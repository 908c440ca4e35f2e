//! Lists of operations on a bus and on reactors' copies of its logs, with a naive model beside them: whatever is published,
//! lost, trimmed, resynchronised or swept in whatever order, each reader gets every entry of its topic in order and once,
//! or is told of exactly the hole that the retention allows for.

mod side;
mod truth;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fanfare::bus::{self, Bus, Class, Inbox, Notifier, Wake};
use fanfare_core::{
    clock::Moment,
    event::{EventId, Start},
    gap::GapReason,
    log::{Bounds, Retention},
    topic::Topic,
};

use super::{hub::EPOCH, input::Input};
use side::Side;
use truth::Truth;

pub(super) const TOKENS: &[&str] =
    &["\0\0", "\u{1}\0", "\u{2}\0", "\u{3}\0", "\u{6}\u{7f}", "\u{7}\u{7f}", "\u{8}\0", "\u{9}\0"];

/// The first knob chooses the retention, the second the inboxes; then come two bytes for each operation.
pub(super) fn check(data: &[u8]) {
    let Some(input) = Input::split(data) else { return };
    let mut world = World::new(input.knob, input.cut);
    for [operation, argument] in input.payload.as_chunks::<2>().0.iter().take(OPERATIONS_MAX) {
        world.act(*operation, *argument);
        world.check();
    }
    world.settle();
}

const OPERATIONS_MAX: usize = 200;
const TOPICS: usize = 3;
const SIDES: usize = 2;
const KEY_WINDOW: Duration = Duration::from_secs(20);

struct World {
    bus: Bus,
    topics: [Topic; TOPICS],
    truths: [Truth; TOPICS],
    sides: [Side; SIDES],
    wakers: [Arc<Waker>; SIDES],
    /// The publications under keys, by topic and key.
    keys: HashMap<(usize, u8), (EventId, Moment)>,
    now: Moment,
}

#[derive(Debug, Default)]
struct Waker(AtomicUsize);

impl Wake for Waker {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl World {
    fn new(knob: u8, inbox_knob: u8) -> Self {
        let retention = retention(knob);
        let wakers: [Arc<Waker>; SIDES] = Default::default();
        let notifiers = wakers.each_ref().map(|waker| Arc::new(Notifier::new(Arc::clone(waker) as Arc<dyn Wake>)));
        let inbox_events_max = 1 + usize::from(inbox_knob % 8);
        let inboxes = notifiers.iter().map(|notifier| Inbox::new(inbox_events_max, Arc::clone(notifier)));
        let config = bus::Config {
            reactors: SIDES,
            epoch: EPOCH,
            default_class: Class { retention, ..Class::default() },
            idempotency_window: KEY_WINDOW,
            ..bus::Config::default()
        };
        Self {
            bus: Bus::new(config, inboxes.collect(), Vec::new()),
            topics: ["a", "b.c", "d"].map(|name| Topic::parse(name).expect("a good name")),
            truths: std::array::from_fn(|_| Truth::new(retention)),
            sides: std::array::from_fn(Side::new),
            wakers,
            keys: HashMap::new(),
            now: Moment(1),
        }
    }

    fn act(&mut self, operation: u8, argument: u8) {
        let topic = usize::from(argument) % TOPICS;
        let side = usize::from(argument / 4) % SIDES;
        let rest = argument / 8;
        match operation % 12 {
            0 | 1 => self.publish(&[topic; 4][..1 + usize::from(rest % 4)]),
            2 => self.publish(&[topic, (topic + 1) % TOPICS, topic]),
            3 => self.publish_once(topic, rest % 4),
            4 => self.report_loss(topic, rest),
            5 | 6 => self.subscribe(side, topic, rest),
            7 => self.sides[side].unsubscribe(&self.bus, topic, usize::from(rest)),
            8 => self.sides[side].take_inbox(&self.bus, &self.truths, usize::from(rest), self.now),
            9 => self.sides[side].visit(&self.truths, topic, usize::from(rest), self.now),
            10 => self.sides[side].toggle_reader(&self.truths, topic, usize::from(rest), self.now),
            _ => self.pass_time(rest),
        }
    }

    fn publish(&mut self, topics: &[usize]) {
        let asleep = self.prepare_park();
        let mut feed = self.bus.feed();
        for topic in topics {
            self.truths[*topic].settle_lost(self.now);
            let tag = self.truths[*topic].next();
            let data = Bytes::from(tag.to_string());
            let id = feed.publish(&self.topics[*topic], None, data, self.now).expect("a good event");
            assert_eq!(id, truth::id(tag));
            self.truths[*topic].push(None, self.now);
        }
        drop(feed);
        self.check_woken(asleep);
    }

    fn publish_once(&mut self, topic: usize, key: u8) {
        let known = self.keys.get(&(topic, key)).filter(|(_, since)| self.now.since(*since) <= KEY_WINDOW).copied();
        if known.is_none() {
            self.truths[topic].settle_lost(self.now);
        }
        let tag = self.truths[topic].next();
        let (text, data) = (key.to_string(), Bytes::from(tag.to_string()));
        let id = self.bus.feed().publish_once(&text, &self.topics[topic], None, data, self.now).expect("a good event");
        if let Some((first, _)) = known {
            assert_eq!(id, first);
        } else {
            assert_eq!(id, truth::id(tag));
            self.keys.insert((topic, key), (id, self.now));
            self.truths[topic].push(None, self.now);
        }
    }

    fn report_loss(&mut self, topic: usize, rest: u8) {
        let reason = [GapReason::SourceLost, GapReason::Overflow][usize::from(rest % 2)];
        self.bus.feed().report_loss(&self.topics[topic], reason, self.now);
        self.truths[topic].report_loss(reason, self.now);
    }

    fn subscribe(&mut self, side: usize, topic: usize, rest: u8) {
        let minor = self.truths[topic].next().saturating_sub(u64::from(rest / 4));
        let start = match rest % 8 {
            0 => Start::Live,
            1 => Start::First,
            2 => Start::Last(usize::from(rest / 8)),
            3 => Start::After(EventId::new(EPOCH - 1, minor)),
            4 => Start::After(EventId::new(EPOCH + 1, minor)),
            _ => Start::After(EventId::new(EPOCH, minor)),
        };
        self.truths[topic].exists = true;
        self.sides[side].subscribe(&self.bus, &self.truths, topic, &self.topics[topic], start, self.now);
    }

    fn pass_time(&mut self, rest: u8) {
        self.now = self.now + Duration::from_secs(u64::from(rest));
        self.bus.sweep(self.now);
        for (index, truth) in self.truths.iter_mut().enumerate() {
            truth.sweep(self.sides.iter().any(|side| side.listens_to(index)), self.now);
        }
    }

    /// Both reactors announce sleep, and have counted so many wakes.
    fn prepare_park(&self) -> [(usize, bool); SIDES] {
        std::array::from_fn(|side| {
            self.bus.inbox(side).notifier().prepare_park();
            (self.wakers[side].0.load(Ordering::Relaxed), self.bus.inbox(side).is_empty())
        })
    }

    /// Whoever had nothing and has something now was woken, once; and nobody who has nothing.
    fn check_woken(&self, before: [(usize, bool); SIDES]) {
        for (side, (count, was_empty)) in before.into_iter().enumerate() {
            let woken = self.wakers[side].0.load(Ordering::Relaxed) - count;
            let has_events = !self.bus.inbox(side).is_empty();
            assert!(woken <= 1);
            assert!(!was_empty || (woken == 1) == has_events, "woken {woken} times, events: {has_events}");
            self.bus.inbox(side).notifier().unpark();
        }
    }

    fn check(&self) {
        for (topic, truth) in self.topics.iter().zip(&self.truths) {
            let page = self.bus.history(topic, Start::After(truth::id(truth.oldest() - 1)), usize::MAX, self.now);
            assert_eq!(page.is_some(), truth.exists);
            let Some(page) = page else { continue };
            assert_eq!(page.gap, None);
            assert!(page.events.iter().map(|event| event.position).eq(truth.oldest()..truth.next()), "{page:?}");
            page.events.iter().for_each(|event| truth.check_entry(event));
        }
    }

    /// Everybody takes everything: then every reader has come to the end of its topic.
    fn settle(&mut self) {
        for side in &mut self.sides {
            while !self.bus.inbox(side.index).is_empty() {
                side.take_inbox(&self.bus, &self.truths, usize::MAX, self.now);
            }
            side.check_at_end(&self.truths, self.now);
        }
    }
}

fn retention(knob: u8) -> Retention {
    let bounds = |count: u8, bytes: u8| Bounds {
        count: [0, 1, 3, 10][usize::from(count % 4)],
        bytes: [1000, 1 << 20][usize::from(bytes % 2)],
        age: Duration::from_secs([5, 1000][usize::from(bytes / 2 % 2)]),
    };
    Retention { history: bounds(knob, knob / 16), lag: bounds(knob / 4, knob / 64) }
}
