//! Socket.IO clients that have lost their session and may come back: what they listened to, and from where.
//!
//! A client comes back with its private name (`pid`) and, if it ever got an event, the *offset* that the last one carried: its
//! place in every topic it listened to at that time. At the hub that had it, what it listened to is remembered here; a hub
//! that never saw it takes the topics from the offset, if a broker keeps them all, so that their ids mean the same there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Hub, access};
use crate::{
    auth::Identity,
    budget::{Budget, Charge},
    clock::Moment,
    event::{EventId, Start},
    protocol::socket_io,
    topic::Topic,
};

/// What a client that may come back had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its public name.
    pub sid: Box<str>,
    /// Where it was.
    pub namespace: Box<str>,
    /// Who it was.
    pub subject: Option<Box<str>>,
    /// What it listened to, each with the id after which that began.
    pub topics: Vec<(Topic, EventId)>,
}

/// A client that has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Its private name.
    pub pid: Box<str>,
    /// Its public name, if this hub knows it.
    pub sid: Option<Box<str>>,
    /// What it listens to, and from where.
    pub topics: Vec<(Topic, Start)>,
}

/// The clients that may come back. What they weigh counts against the memory budget: when that is spent, none is
/// remembered, and who comes back is told that it is new.
#[derive(Debug, Default)]
pub struct Recovery {
    lost: Mutex<Lost>,
}

#[derive(Debug, Default)]
struct Lost {
    by_pid: HashMap<Box<str>, Entry, foldhash::fast::RandomState>,
    /// In the order in which they are forgotten.
    order: VecDeque<(Moment, Box<str>)>,
}

#[derive(Debug)]
struct Entry {
    remembered: Remembered,
    until: Moment,
    /// Lets go of its part of the memory budget with the entry.
    _charge: Charge,
}

impl Recovery {
    /// Remembers for `window` a client that was lost `now`.
    pub fn remember(&self, pid: &str, remembered: Remembered, window: Duration, budget: &Arc<Budget>, now: Moment) {
        let names: usize =
            remembered.topics.iter().map(|(topic, _)| size_of::<(Topic, EventId)>() + topic.as_str().len()).sum();
        let weight_bytes = ENTRY_BYTES + 2 * pid.len() + names;
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.forget(now);
        let Some(charge) = budget.try_charge(weight_bytes) else { return };
        let until = now + window;
        lost.by_pid.insert(pid.into(), Entry { remembered, until, _charge: charge });
        lost.order.push_back((until, pid.into()));
    }

    /// The client of this name, which is not remembered any longer.
    fn take(&self, pid: &str, now: Moment) -> Option<Remembered> {
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        lost.forget(now);
        lost.by_pid.remove(pid).map(|entry| entry.remembered)
    }
}

impl Lost {
    fn forget(&mut self, now: Moment) {
        while let Some((until, pid)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            // It may have come back and been lost again since.
            if self.by_pid.get(&pid).is_some_and(|entry| entry.until == until) {
                self.by_pid.remove(&pid);
            }
        }
    }
}

/// What an entry is taken to weigh besides its names.
const ENTRY_BYTES: usize = 256;

/// What a client shows to come back, beside what it shows to be let in.
#[derive(Deserialize)]
struct Claim {
    pid: Option<Box<str>>,
    offset: Option<String>,
}

/// The client that comes back to `namespace` with `payload`, as `identity`; `None`: it is a new one.
pub fn recover(
    payload: Option<&RawValue>,
    namespace: &str,
    identity: Option<&Identity>,
    hub: &Hub,
    now: Moment,
) -> Option<Recovered> {
    let Claim { pid, offset } = serde_json::from_str(payload?.get()).ok()?;
    let (pid, most) = (pid?, hub.config.topics_per_connection_max);
    let told = offset.and_then(|offset| socket_io::parse_offset(&offset, most));
    let remembered = hub.recovery.take(&pid, now);
    let (sid, topics) = match remembered {
        Some(lost) if *lost.namespace == *namespace && lost.subject.as_deref() == identity.map(|it| &*it.subject) => {
            let places = lost.topics.into_iter().map(|(topic, began)| {
                let told = told.iter().flatten().find(|(known, _)| *known == topic);
                // It may have left the topic since that, and have come back to it later.
                let id = told.map_or(began, |(_, id)| began.max(*id));
                (topic, Start::After(id))
            });
            (Some(lost.sid), places.collect::<Vec<_>>())
        }
        Some(_) => return None,
        None => {
            let places = told.filter(|places| places.iter().all(|(topic, _)| hub.bus.archive(topic).is_some()))?;
            (None, places.into_iter().map(|(topic, id)| (topic, Start::After(id))).collect())
        }
    };
    let permitted = topics.iter().all(|(topic, _)| access::may_subscribe(identity, topic).is_ok());
    permitted.then_some(Recovered { pid, sid, topics })
}
