//! The simulated sources behind the bus: they take what is published through the hub, confirm topics, and read the streams
//! of a broker, all in their own time.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    sync::{Arc, Mutex},
};

use crossbeam_channel::{Receiver, unbounded};
use fanfare::bus::{Bus, EventSink, Interest, Publication, PublishFailed, PublishRefused, SourceName};
use fanfare_core::{clock::Moment, gap::GapReason, topic::Topic};
use rand::{RngExt, rngs::SmallRng};

use crate::{broken::Fault, net::SimBell};

/// The source of topics whose logs the hub keeps, and that of topics whose logs a broker keeps.
pub(crate) const DEFAULT_SOURCE: SourceName = SourceName("default");
pub(crate) const STREAM_SOURCE: SourceName = SourceName("stream");

/// Publications on their way to a source.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimSink(Arc<Mutex<Outgoing>>);

#[derive(Debug, Default)]
struct Outgoing {
    waiting: VecDeque<Publication>,
    /// Keys of what was published already.
    seen: HashSet<Box<str>>,
}

impl EventSink for SimSink {
    fn publish(&self, publication: Publication) {
        self.0.lock().expect("one thread only").waiting.push_back(publication);
    }
}

impl SimSink {
    /// Takes at most `most` publications: publishes them and answers, or fails to. Those of the topics `unheard` wait.
    pub(crate) fn work(
        &self,
        bus: &Bus,
        most: usize,
        unheard: &BTreeSet<Topic>,
        now: Moment,
        random: &mut SmallRng,
        fault: Option<Fault>,
    ) {
        for _ in 0..most {
            let Some(publication) = self.next(unheard, random) else { return };
            let luck = random.random_range(0..20);
            if luck == 0 {
                (publication.reply)(Err(PublishFailed::Unavailable));
                continue;
            }
            let copies = match fault {
                Some(Fault::PublicationLost) if luck == 2 => 0,
                Some(Fault::PublicationRepeated) if luck == 2 => 2,
                _ => usize::from(self.is_new(&publication)),
            };
            let Publication { topic, kind, data, reply, idempotency_key, .. } = publication;
            let mut receipt = if luck == 1 { Err(PublishFailed::Unknown) } else { Ok(None) };
            for _ in 0..copies {
                if bus.feed().publish(&topic, kind.as_deref(), data.clone(), now) == Err(PublishRefused::NoRoom) {
                    bus.feed().report_loss(&topic, GapReason::Overflow, now);
                    receipt = Err(PublishFailed::NoRoom);
                }
            }
            if receipt == Err(PublishFailed::NoRoom) {
                self.forget(idempotency_key);
            }
            reply(receipt);
        }
    }

    /// Nothing was published under this key after all.
    fn forget(&self, key: Option<Box<str>>) {
        if let Some(key) = key {
            self.0.lock().expect("one thread only").seen.remove(&key);
        }
    }

    /// One of the publications, but for those of the topics `unheard`. They travel over several connections, so that any of them may
    /// be the first.
    pub(crate) fn next(&self, unheard: &BTreeSet<Topic>, random: &mut SmallRng) -> Option<Publication> {
        let waiting = &mut self.0.lock().expect("one thread only").waiting;
        let heard: Vec<usize> = (0..waiting.len()).filter(|index| !unheard.contains(&waiting[*index].topic)).collect();
        if heard.is_empty() { None } else { waiting.remove(heard[random.random_range(0..heard.len())]) }
    }

    /// Whether nothing was published under its key before.
    pub(crate) fn is_new(&self, publication: &Publication) -> bool {
        let key = publication.idempotency_key.clone();
        key.is_none_or(|key| self.0.lock().expect("one thread only").seen.insert(key))
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.0.lock().expect("one thread only").waiting.is_empty()
    }
}

/// Confirms topics that the hub has become interested in.
#[derive(Debug)]
pub(crate) struct Confirmer {
    interest: Receiver<Interest>,
    wanted: Vec<Topic>,
}

impl Confirmer {
    pub(crate) fn watch(bus: &Bus) -> Self {
        let (changes, interest) = unbounded();
        bus.watch_interest(DEFAULT_SOURCE, changes, Arc::new(SimBell::default()));
        Self { interest, wanted: Vec::new() }
    }

    /// Hears what is wanted, and confirms one of the topics; false if there is none.
    pub(crate) fn work(&mut self, bus: &Bus, random: &mut SmallRng, now: Moment) -> bool {
        for change in self.interest.try_iter() {
            match change {
                Interest::Wanted(topic) => self.wanted.push(topic),
                Interest::Unwanted(topic) => {
                    self.wanted.retain(|wanted| *wanted != topic);
                    bus.mark_stale(&topic);
                }
            }
        }
        if self.wanted.is_empty() {
            return false;
        }
        let place = random.random_range(0..self.wanted.len());
        bus.mark_live(&self.wanted.swap_remove(place), now);
        true
    }
}
