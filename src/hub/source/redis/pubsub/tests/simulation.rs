//! Subscriptions against a made-up server, under random orders of events.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::{
    super::subscriptions::{Batch, Notice, Subscriptions},
    subscribing::{config, confirm, names, seconds},
    topic,
};

/// What may happen to a source.
#[derive(Clone, Debug)]
enum Step {
    Want(usize),
    Unwant(usize),
    Pass(u64),
    Send,
    Answer,
    Disconnect,
    /// The server refuses the login.
    Expel,
    Retry,
    /// The server's access rules become others: whether they forbid anything.
    Rules(bool),
    /// They forbid something from here on, and the server takes back what it had confirmed, as NATS does.
    Withdraw,
}

const TOPICS: [&str; 5] = ["a.x", "a.y", "b.x", "c.x", "d"];
const FORBIDDEN: [&str; 2] = ["d", "b.*"];

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..TOPICS.len()).prop_map(Step::Want),
        3 => (0..TOPICS.len()).prop_map(Step::Unwant),
        3 => (1..40_u64).prop_map(Step::Pass),
        4 => Just(Step::Send),
        6 => Just(Step::Answer),
        1 => Just(Step::Disconnect),
        1 => Just(Step::Expel),
        2 => Just(Step::Retry),
        1 => any::<bool>().prop_map(Step::Rules),
        1 => Just(Step::Withdraw),
    ]
}

/// A server, the wire to it, and all that must hold.
struct World {
    subscriptions: Subscriptions,
    now: u64,
    connected: bool,
    forbids: bool,
    on_the_way: VecDeque<Batch>,
    /// What the server has subscribed for us.
    subscribed: BTreeSet<String>,
    /// What it had, and took back.
    withdrawn: BTreeSet<String>,
    wanted: BTreeSet<&'static str>,
    /// Topics the bus believes live.
    live: BTreeSet<String>,
    /// Topics whose readers know that they are refused.
    refused: BTreeSet<String>,
    /// Topics that were live and are not: whether their loss has been told since.
    owed: BTreeMap<String, bool>,
}

impl World {
    fn new() -> Self {
        Self {
            subscriptions: Subscriptions::new(&config(&["a.*", "b.*"], &[])),
            now: 0,
            connected: false,
            forbids: true,
            on_the_way: VecDeque::new(),
            subscribed: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            wanted: BTreeSet::new(),
            live: BTreeSet::new(),
            refused: BTreeSet::new(),
            owed: BTreeMap::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Want(index) if self.wanted.insert(TOPICS[*index]) => self.subscriptions.want(topic(TOPICS[*index])),
            Step::Unwant(index) if self.wanted.remove(TOPICS[*index]) => {
                self.subscriptions.unwant(&topic(TOPICS[*index]), seconds(self.now));
                self.forget(*index);
            }
            Step::Pass(span) => {
                self.now += span;
                self.subscriptions.expire(seconds(self.now));
            }
            Step::Send if !self.connected => {
                self.connected = true;
                self.subscriptions.on_connected();
            }
            Step::Send => self.on_the_way.extend(self.subscriptions.next_batch()),
            Step::Answer => self.answer(),
            Step::Disconnect => self.disconnect(),
            Step::Expel => {
                self.disconnect();
                self.subscriptions.on_source_refused();
            }
            Step::Retry => self.retry(),
            Step::Rules(forbids) => {
                // Redis ends the connection of a user who has subscribed what is forbidden from now on.
                if *forbids && !std::mem::replace(&mut self.forbids, *forbids) {
                    self.disconnect();
                }
                self.forbids = *forbids;
            }
            Step::Withdraw if !std::mem::replace(&mut self.forbids, true) => self.withdraw(),
            Step::Want(_) | Step::Unwant(_) | Step::Withdraw => {}
        }
        self.listen();
    }

    fn disconnect(&mut self) {
        self.connected = false;
        self.on_the_way.clear();
        self.subscribed.clear();
        self.withdrawn.clear();
        self.subscriptions.on_disconnected();
    }

    fn withdraw(&mut self) {
        for name in FORBIDDEN {
            if self.subscribed.remove(name) {
                self.withdrawn.insert(name.to_owned());
                let now = seconds(self.now);
                if self.subscriptions.on_pattern_denied(name, "no", now).is_none() {
                    self.subscriptions.on_topic_denied(&topic(name), "no", now);
                }
            }
        }
    }

    fn retry(&mut self) {
        self.now += 10;
        self.subscriptions.expire(seconds(self.now));
        self.subscriptions.retry_refused(seconds(self.now), 0);
    }

    /// A covered topic that nobody wants is no longer followed, though its pattern still delivers it: no loss.
    fn forget(&mut self, index: usize) {
        let stale = Notice::Stale(topic(TOPICS[index]));
        for notice in self.subscriptions.take_notices() {
            assert!(notice == stale || notice == Notice::Lost(topic(TOPICS[index])), "{notice:?}");
            self.live.remove(TOPICS[index]);
            self.refused.remove(TOPICS[index]);
            if notice != stale {
                self.tell_loss(|name| name == TOPICS[index]);
            }
        }
    }

    fn answer(&mut self) {
        let Some(batch) = self.on_the_way.pop_front() else { return };
        let names = names(&self.subscriptions, &batch);
        match batch {
            Batch::Leave(_) => names.iter().for_each(|name| {
                assert!(self.subscribed.remove(name) || self.withdrawn.remove(name), "{name}");
            }),
            _ if self.forbids && names.iter().any(|name| FORBIDDEN.contains(&name.as_str())) => {
                self.subscriptions.on_refused(&batch, "NOPERM no", seconds(self.now));
            }
            _ => {
                names.iter().for_each(|name| assert!(self.subscribed.insert(name.clone()), "{name} twice"));
                confirm(&mut self.subscriptions, &batch);
            }
        }
    }

    fn listen(&mut self) {
        for notice in self.subscriptions.take_notices() {
            match notice {
                Notice::Live(topic) => {
                    assert_ne!(self.owed.remove(topic.as_str()), Some(false), "{topic} live again without a word");
                    self.refused.remove(topic.as_str());
                    self.live.insert(topic.to_string());
                }
                Notice::Stale(topic) => {
                    let was_refused = self.refused.remove(topic.as_str());
                    let was_live = self.live.remove(topic.as_str());
                    assert!(was_live || was_refused, "{topic} stale twice");
                    if was_live {
                        self.owed.insert(topic.to_string(), false);
                    }
                }
                Notice::Lost(topic) | Notice::Left(topic) => self.tell_loss(|name| name == topic.as_str()),
                Notice::Refused { topic, is_news, .. } => {
                    assert_eq!(self.refused.insert(topic.to_string()), is_news, "{topic} refused, told twice or never");
                    // Told now, and once more when it is over.
                    if self.live.remove(topic.as_str()) {
                        self.owed.insert(topic.to_string(), false);
                    }
                    if let Some(told) = self.owed.get_mut(topic.as_str()) {
                        *told = false;
                    }
                }
                Notice::LostUnder { index, .. } => {
                    let carried: Vec<&str> = TOPICS
                        .into_iter()
                        .filter(|name| self.subscriptions.patterns().carried(index, &topic(name)))
                        .collect();
                    self.tell_loss(|name| carried.contains(&name));
                }
                Notice::Denied(name) => assert!(FORBIDDEN.contains(&name.as_str()), "{name}"),
            }
        }
    }

    fn tell_loss(&mut self, is_lost: impl Fn(&str) -> bool) {
        self.owed.iter_mut().filter(|(name, _)| is_lost(name)).for_each(|(_, told)| *told = true);
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        for round in 1..=200 {
            [Step::Send, Step::Answer].iter().for_each(|step| self.take(step));
            if round % 10 == 0 {
                [Step::Retry, Step::Pass(31)].iter().for_each(|step| self.take(step));
            }
        }
        let is_allowed = |name: &&str| !self.forbids || *name != "d";
        let expected: BTreeSet<&str> = self.wanted.iter().copied().filter(is_allowed).collect();
        let live = self.live.iter().map(String::as_str).filter(|name| self.wanted.contains(name)).collect();
        assert_eq!(expected, live);
        assert_eq!(self.refused.contains("d"), self.forbids && self.wanted.contains("d"));
        let is_covered = |name: &&str| name.starts_with('a') || (!self.forbids && name.starts_with('b'));
        let patterns = if self.forbids { vec!["a.*"] } else { vec!["a.*", "b.*"] };
        let direct = expected.into_iter().filter(|name| !is_covered(name)).chain(patterns);
        assert_eq!(self.subscribed, direct.map(str::to_owned).collect());
        // What is still refused owes another word when it is not.
        let is_settled = |name: &str| name.starts_with(['a', 'b']) || self.refused.contains(name);
        assert!(self.owed.iter().all(|(name, told)| *told || is_settled(name)), "{:?}", self.owed);
    }
}

#[test]
fn orders_that_once_went_wrong() {
    use Step::{Answer, Disconnect, Pass, Rules, Send, Unwant, Want, Withdraw};
    let check = |steps: &[Step]| {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.settle();
    };
    // A lingering topic whose denied pattern is hoped for again owes its loss when the linger ends.
    check(&[Want(2), Send, Send, Answer, Send, Answer, Send, Answer, Send, Answer, Unwant(2), Disconnect, Pass(31)]);
    // A confirmed pattern is taken back, and with it what it covers; then a topic of its own.
    check(&[Rules(false), Want(2), Send, Send, Answer, Withdraw, Send, Answer]);
    check(&[Rules(false), Want(4), Send, Send, Answer, Send, Answer, Withdraw, Unwant(4), Pass(31), Want(4)]);
    // And it goes on lingering when the pattern is denied again.
    check(&[Send, Send, Answer, Send, Send, Answer, Want(2), Answer, Unwant(2), Disconnect, Send, Send, Answer, Send]);
}

proptest! {
    /// In whatever order things happen: nothing is subscribed twice, no topic comes back to life without its loss being
    /// told, and in the end exactly what is wanted is subscribed.
    #[test]
    fn any_order_of_events(steps in prop::collection::vec(step(), 0..80)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take(step));
        world.settle();
    }
}
