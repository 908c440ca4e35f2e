//! Logs between two brokers that the test plays: one that adds, delays and trims, and one that fails, forgets to answer, and knows
//! again what comes twice.

use std::{collections::VecDeque, sync::Mutex};

use bytes::Bytes;

use super::*;
use crate::{
    bus::{PublishFailed, Refusal},
    event::{Event, Position},
    gap::{Gap, GapReason},
};

/// A generator of numbers, the same for the same seed (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

const KEY: TopicKey = TopicKey(7);

fn topic() -> Topic {
    Topic::parse("a.1").expect("a good name")
}

fn id(minor: u64) -> EventId {
    EventId::new(1, minor)
}

fn event(minor: u64, position: Position) -> Arc<Event> {
    Arc::new(Event::new(topic(), id(minor), position, None, Bytes::from(minor.to_string()), Moment(0)))
}

/// What the relay asked for.
#[derive(Default)]
struct Asked {
    publications: VecDeque<Publication>,
    pages: VecDeque<(PageAsked, u64)>,
    places: usize,
}

impl LogIo for Asked {
    fn publish(&mut self, publication: Publication) {
        self.publications.push_back(publication);
    }

    fn fetch(&mut self, _: &Topic, asked: PageAsked, start: Start, _: Option<u64>) {
        let after = match start {
            Start::After(id) => id.minor,
            _ => 0,
        };
        self.pages.push_back((asked, after));
    }

    fn ask_place(&mut self, log: CarriedLog) {
        assert_eq!((&*log.origin, log.target.as_str()), ("redis_stream:a.1", "b.1"));
        self.places += 1;
    }

    fn remember(&mut self, _: CarriedLog, _: EventId) {}
}

struct World {
    relay: LogRelay,
    asked: Asked,
    outcomes: Arc<Mutex<Vec<LogOutcome>>>,
    tally: Tally,
    now: Moment,
    /// The newest id of the source's log, and the oldest that is left.
    newest: u64,
    oldest: u64,
    /// What the hub's copy has yet to hand over.
    copy: VecDeque<Arc<Event>>,
    /// The other side's log: payloads and gaps. Of a chained one, whose script compares, only what comes in turn gets there.
    taken: Vec<String>,
    keys: std::collections::HashSet<Box<str>>,
    carried: Option<EventId>,
    is_chained: bool,
}

impl World {
    fn new(to: &str) -> Self {
        let outcomes: Arc<Mutex<Vec<LogOutcome>>> = Arc::default();
        let own = Arc::clone(&outcomes);
        let report: LogReport = Arc::new(move |outcome| own.lock().expect("no panic before").push(outcome));
        let maps = vec!["a.*=>b.*".parse().expect("a map")];
        let config = BridgeConfig {
            from: "redis_stream".into(),
            to: to.into(),
            maps,
            in_flight_max: 8,
            ..BridgeConfig::default()
        };
        let mut relay = LogRelay::new(&config, report);
        let target = relay.target_of(&topic()).expect("a map names it");
        relay.add(topic(), KEY, target, Moment(0));
        Self {
            relay,
            asked: Asked::default(),
            outcomes,
            tally: Tally::default(),
            now: Moment(0),
            newest: 0,
            oldest: 1,
            copy: VecDeque::new(),
            taken: Vec::new(),
            keys: std::collections::HashSet::new(),
            carried: None,
            is_chained: to == "redis_stream",
        }
    }

    /// Events are added to the source's log, and so to the hub's copy, whose positions are the ids here.
    fn add(&mut self, count: u64) {
        for _ in 0..count {
            self.newest += 1;
            self.copy.push_back(event(self.newest, self.newest));
        }
    }

    /// The hub's copy hands over what came.
    fn hand_over(&mut self, count: usize) {
        for event in self.copy.drain(..count.min(self.copy.len())) {
            self.relay.take_event(&EventMessage { key: KEY, event });
        }
    }

    fn answer_page(&mut self, most: u64) {
        let Some((asked, after)) = self.asked.pages.pop_front() else { return };
        let is_cut = after + 1 < self.oldest;
        let gap = is_cut.then(|| Gap { from: id(after), to: id(self.oldest - 1), reason: GapReason::Expired });
        let first = (after + 1).max(self.oldest);
        let last = self.newest.min(first + most - 1);
        let events = (first..=last).map(|number| event(number, 0)).collect();
        let page = ArchivePage { events, is_complete: last == self.newest, gap };
        self.relay.take_page(asked, &Ok(page), self.now);
    }

    fn answer_place(&mut self) {
        for _ in 0..std::mem::take(&mut self.asked.places) {
            let carried = self.carried.map(|id| CarriedUpto { id, content: None });
            self.relay.take_place(&topic(), Some(carried), self.now);
        }
    }

    /// The other side takes a publication, unless it is out of turn or has been there.
    fn take(&mut self, publication: &Publication) -> Result<(), PublishFailed> {
        let bridged = publication.bridged.as_ref().expect("it is a bridge's");
        let carried = bridged.carried.as_ref().expect("it is of a log");
        if self.is_chained && carried.after != self.carried.unwrap_or_default() {
            return Err(PublishFailed::Refused(Refusal::Other));
        }
        let key = publication.idempotency_key.clone().expect("it has one");
        if self.is_chained || self.keys.insert(key) {
            self.taken.push(match bridged.gap {
                Some(gap) => gap.to_string(),
                None => String::from_utf8(publication.data.to_vec()).expect("text"),
            });
            self.carried = Some(carried.upto);
        }
        Ok(())
    }

    /// The next publication reaches the other side, and is answered. `outcome`: what becomes of it.
    fn answer(&mut self, outcome: Becomes) {
        let Some(publication) = self.asked.publications.pop_front() else { return };
        let is_broken = publication.bridged.as_ref().is_some_and(|bridged| bridged.is_broken());
        let receipt = match outcome {
            _ if is_broken => Err(PublishFailed::Unavailable),
            Becomes::Taken => self.take(&publication),
            Becomes::TakenUnheard => self.take(&publication).and(Err(PublishFailed::Unknown)),
            Becomes::Lost => Err(PublishFailed::Unknown),
            Becomes::Refused(refusal) => Err(PublishFailed::Refused(refusal)),
        };
        if let (Err(_), Some(bridged), false) = (receipt, &publication.bridged, self.is_chained) {
            // As the queue of publications to NATS does.
            bridged.set_broken();
        }
        (publication.reply)(receipt.map(|()| None));
    }

    fn settle(&mut self) {
        for outcome in std::mem::take(&mut *self.outcomes.lock().expect("no panic before")) {
            self.relay.settle(outcome, &mut self.tally, self.now);
        }
    }

    /// Runs until there is nothing left to do.
    fn finish(&mut self) {
        for _ in 0..10_000 {
            self.now = self.now + Duration::from_millis(100);
            let has_more = self.relay.run(&mut self.asked, self.now);
            let is_done = self.copy.is_empty()
                && self.asked.publications.is_empty()
                && self.asked.pages.is_empty()
                && self.asked.places == 0;
            if is_done && !has_more && self.relay.is_idle() && self.relay.waiting.is_empty() {
                return;
            }
            self.hand_over(usize::MAX);
            self.answer_place();
            self.answer_page(100);
            (0..100).for_each(|_| self.answer(Becomes::Taken));
            self.settle();
        }
        panic!("it never comes to rest: {:?}", self.relay.topics);
    }

    fn numbers(&self) -> Vec<u64> {
        self.taken.iter().filter_map(|shown| shown.parse().ok()).collect()
    }
}

#[derive(Clone, Copy)]
enum Becomes {
    Taken,
    TakenUnheard,
    Lost,
    Refused(Refusal),
}

#[test]
fn what_is_there_and_what_comes_is_carried() {
    for to in ["jetstream", "redis_stream"] {
        let mut world = World::new(to);
        world.add(3);
        world.finish();
        assert_eq!(world.numbers(), [1, 2, 3]);
        world.add(2);
        world.finish();
        assert_eq!((world.numbers(), world.tally.relayed, world.tally.failed), (vec![1, 2, 3, 4, 5], 5, 0));
    }
}

#[test]
fn new_events_need_no_page() {
    let mut world = World::new("jetstream");
    world.add(1);
    world.finish();
    for number in 2..=50 {
        world.add(1);
        world.hand_over(1);
        world.relay.run(&mut world.asked, world.now);
        assert!(world.asked.pages.is_empty(), "{number}");
        world.answer(Becomes::Taken);
        world.settle();
    }
    assert_eq!(world.numbers(), (1..=50).collect::<Vec<_>>());
}

#[test]
fn a_page_that_brings_nothing_is_not_asked_for_again_at_once() {
    let mut world = World::new("jetstream");
    world.finish();
    world.add(1);
    // The hub's copy has it, and the archive not yet.
    world.newest = 0;
    world.hand_over(1);
    for expected in [1, 0, 0] {
        world.relay.run(&mut world.asked, world.now);
        assert_eq!(world.asked.pages.len(), expected);
        world.answer_page(1);
    }
    world.newest = 1;
    world.finish();
    assert_eq!(world.numbers(), [1]);
}

#[test]
fn what_was_trimmed_is_a_gap_at_its_place() {
    let mut world = World::new("jetstream");
    world.add(2);
    world.finish();
    world.relay.unjoin(KEY);
    world.add(8);
    world.copy.clear();
    world.oldest = 9;
    world.finish();
    assert_eq!(world.taken, ["1", "2", "expired", "9", "10"]);
    assert_eq!(world.tally.losses, 1);
}

#[test]
fn what_is_too_big_is_a_gap_at_its_place() {
    for to in ["jetstream", "redis_stream"] {
        let mut world = World::new(to);
        world.add(1);
        world.finish();
        world.add(3);
        world.hand_over(3);
        world.relay.run(&mut world.asked, world.now);
        world.answer(Becomes::Refused(Refusal::TooBig));
        world.finish();
        assert_eq!(world.taken, ["1", "source_lost", "3", "4"], "{to}");
    }
}

/// As a server does that has refused one publication and taken those that were behind it on the way.
#[test]
fn what_was_overtaken_is_a_gap() {
    let mut world = World::new("jetstream");
    world.add(1);
    world.finish();
    world.add(3);
    world.hand_over(3);
    world.relay.run(&mut world.asked, world.now);
    let refused = world.asked.publications.pop_front().expect("it was sent");
    world.answer(Becomes::Taken);
    world.answer(Becomes::Taken);
    (refused.reply)(Err(PublishFailed::Refused(Refusal::OutOfMemory)));
    world.finish();
    assert_eq!(world.taken, ["1", "3", "4", "source_lost"]);
}

#[test]
fn a_bridge_that_has_lost_its_lease_begins_where_the_other_one_ended() {
    let mut world = World::new("jetstream");
    world.add(2);
    world.finish();
    world.relay.unplace_all();
    // The other one.
    world.carried = Some(id(4));
    world.add(5);
    world.finish();
    assert_eq!(world.numbers(), [1, 2, 5, 6, 7]);
}

/// Any order of what may happen, for many seeds. What the other side has in the end is the source's log: each event once, in order.
#[test]
fn nothing_is_lost_or_doubled_whatever_fails() {
    for (to, seed) in ["jetstream", "redis_stream"].into_iter().flat_map(|to| (1..=150).map(move |seed| (to, seed))) {
        let mut random = Random(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut world = World::new(to);
        for _ in 0..300 {
            world.now = world.now + Duration::from_millis(random.below(300));
            match random.below(8) {
                0 | 1 => world.add(random.below(5)),
                2 => world.hand_over(random.below(6) as usize),
                3 => world.answer_page(1 + random.below(6)),
                4 => world.answer_place(),
                5 => world.settle(),
                6 if random.one_in(6) => {
                    // The hub's copy loses what it had no room for.
                    let lost = random.below(1 + world.copy.len() as u64) as usize;
                    world.copy.drain(..lost);
                    world.relay.unjoin(KEY);
                }
                6 if random.one_in(6) => world.relay.unplace_all(),
                _ => {
                    for _ in 0..random.below(8) {
                        world.answer(match random.below(12) {
                            0 => Becomes::TakenUnheard,
                            1 => Becomes::Lost,
                            2 => Becomes::Refused(Refusal::OutOfMemory),
                            _ => Becomes::Taken,
                        });
                        world.relay.run(&mut world.asked, world.now);
                    }
                }
            }
            world.relay.run(&mut world.asked, world.now);
        }
        world.finish();
        assert_eq!(world.taken.len(), world.numbers().len(), "{to} {seed}: no gap: {:?}", world.taken);
        assert_eq!(world.numbers(), (1..=world.newest).collect::<Vec<_>>(), "{to} {seed}");
    }
}
