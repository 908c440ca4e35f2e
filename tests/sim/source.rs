//! The simulated source behind the bus: takes what is published through the hub, and confirms topics, both in its own time.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use crossbeam_channel::{Receiver, unbounded};
use fanfare::{
    bus::{Bus, Interest, LogKind, Outlet, Publication, PublishFailed},
    clock::Moment,
    topic::Topic,
};
use rand::{RngExt, rngs::SmallRng};

use crate::net::SimBell;

/// Publications on their way to the source.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimOutlet(Arc<Mutex<VecDeque<Publication>>>);

impl Outlet for SimOutlet {
    fn publish(&self, publication: Publication) {
        self.0.lock().expect("one thread only").push_back(publication);
    }
}

impl SimOutlet {
    /// Takes at most `most` publications: publishes them and answers, or fails to.
    pub(crate) fn work(&self, bus: &Bus, most: usize, now: Moment, random: &mut SmallRng) {
        for _ in 0..most {
            let Some(publication) = self.0.lock().expect("one thread only").pop_front() else { return };
            let Publication { topic, kind, data, reply, .. } = publication;
            let luck = random.random_range(0..20);
            if luck == 0 {
                reply(Err(PublishFailed::Unavailable));
                continue;
            }
            bus.feed().publish(&topic, kind.as_deref(), data, now).expect("checked before");
            reply(if luck == 1 { Err(PublishFailed::Unknown) } else { Ok(None) });
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.0.lock().expect("one thread only").is_empty()
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
        bus.watch_interest(LogKind::Memory, changes, Arc::new(SimBell::default()));
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
