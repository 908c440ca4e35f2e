//! Socket.IO clients that have lost their session and may come back: what they listened to, and from where.
//!
//! A client comes back with its private name (`pid`) and, if it ever got an event, the *offset* that the last one carried: its
//! place in every topic it listened to at that time. At the hub that had it, what it listened to is remembered here; a hub
//! that never saw it takes the topics from the offset, if a broker keeps them all, so that their ids mean the same there.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    auth::Identity,
    budget::{Budget, Charge},
    clock::Moment,
    endpoint::{Hub, gate::access},
    event::EventId,
    protocol::{SessionId, socket_io},
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
    /// What it listens to, each with the last id it has.
    pub topics: Vec<(Topic, EventId)>,
}

/// The clients that may come back, those that are still there among them: the hub may learn later than the client that
/// their connection is lost. What they weigh counts against the memory budget: when that is spent, none is remembered, and
/// who comes back is told that it is new.
#[derive(Debug, Default)]
pub struct Recovery {
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_pid: HashMap<Box<str>, Entry, foldhash::fast::RandomState>,
    /// The lost, in the order in which they are forgotten.
    order: VecDeque<(Moment, Box<str>)>,
}

#[derive(Debug)]
struct Entry {
    remembered: Remembered,
    /// The session that has the client, or had it.
    session: SessionId,
    /// Until when it may come back, once it is lost.
    until: Option<Moment>,
    /// Lets go of its part of the memory budget with the entry.
    _charge: Charge,
}

impl Recovery {
    /// The client of `session` with this name would come back to this.
    pub fn note(&self, pid: &str, session: SessionId, remembered: Remembered, budget: &Arc<Budget>) {
        let weigh = |(topic, _): &(Topic, EventId)| size_of::<(Topic, EventId)>() + topic.as_str().len();
        let weight_bytes = ENTRY_BYTES + 2 * pid.len() + remembered.topics.iter().map(weigh).sum::<usize>();
        let mut known = self.lock();
        // What it would have come back to before is not what it has now.
        known.by_pid.remove(pid);
        let Some(charge) = budget.try_charge(weight_bytes) else { return };
        known.by_pid.insert(pid.into(), Entry { remembered, session, until: None, _charge: charge });
    }

    /// The client is lost, and may come back for `window`; unless it has come back already, by another session.
    pub fn lose(&self, pid: &str, session: SessionId, window: Duration, now: Moment) {
        let mut known = self.lock();
        known.forget_lost(now);
        let until = now + window;
        if let Some(entry) = known.by_pid.get_mut(pid).filter(|entry| entry.session == session) {
            entry.until = Some(until);
            known.order.push_back((until, pid.into()));
        }
    }

    /// The client has left, or had to.
    pub fn forget(&self, pid: &str, session: SessionId) {
        let mut known = self.lock();
        if known.by_pid.get(pid).is_some_and(|entry| entry.session == session) {
            known.by_pid.remove(pid);
        }
    }

    /// What `decide` makes of the client of this name. It is forgotten if that is something: whoever fails to come back as it must
    /// not cost it what it would come back to.
    fn take<T>(&self, pid: &str, now: Moment, decide: impl FnOnce(&Remembered) -> Option<T>) -> Taken<T> {
        let mut known = self.lock();
        known.forget_lost(now);
        let Some(entry) = known.by_pid.get(pid) else { return Taken::Unknown };
        let Some(decided) = decide(&entry.remembered) else { return Taken::Refused };
        known.by_pid.remove(pid);
        Taken::Known(decided)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn forget_lost(&mut self, now: Moment) {
        while let Some((until, pid)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            // It may have come back and been lost again since.
            if self.by_pid.get(&pid).is_some_and(|entry| entry.until == Some(until)) {
                self.by_pid.remove(&pid);
            }
        }
    }
}

/// What becomes of somebody who shows the name of a client that was lost.
#[derive(Debug, PartialEq, Eq)]
enum Taken<T> {
    /// Nobody here is remembered by it.
    Unknown,
    /// It is another client's.
    Refused,
    /// It is back.
    Known(T),
}

/// What an entry is taken to weigh besides its names.
const ENTRY_BYTES: usize = 256;

/// What a client shows to come back, beside what it shows to be let in.
#[derive(Deserialize)]
struct Claim {
    pid: Option<Box<str>>,
    offset: Option<String>,
}

/// The client that comes back to `namespace` with `payload`, as `identity`, to at most
/// `topics_max` topics; `None`: it is a new one.
pub fn recover(
    payload: Option<&RawValue>,
    namespace: &str,
    identity: Option<&Identity>,
    (hub, topics_max): (&Hub, usize),
    now: Moment,
) -> Option<Recovered> {
    let Claim { pid, offset } = serde_json::from_str(payload?.get()).ok()?;
    let pid = pid?;
    let told = offset.and_then(|offset| socket_io::parse_offset(&offset, topics_max));
    let is_permitted = |(topic, _): &(Topic, EventId)| access::may_subscribe(identity, topic).is_ok();
    let taken = hub.recovery.take(&pid, now, |lost| {
        let is_same = *lost.namespace == *namespace && lost.subject.as_deref() == identity.map(|it| &*it.subject);
        if !is_same || !lost.topics.iter().all(is_permitted) {
            return None;
        }
        let places = lost.topics.iter().map(|(topic, began)| {
            let told = told.iter().flatten().find(|(known, _)| known == topic);
            let has_order = hub.bus.archive(topic).is_some();
            (topic.clone(), told.map_or(*began, |(_, id)| later(*began, *id, has_order)))
        });
        Some((lost.sid.clone(), places.collect::<Vec<_>>()))
    });
    let (sid, topics) = match taken {
        Taken::Known((sid, topics)) => (Some(sid), topics),
        Taken::Refused => return None,
        Taken::Unknown => {
            let is_kept = |(topic, _): &(Topic, EventId)| hub.bus.archive(topic).is_some();
            (None, told.filter(|places| places.iter().all(|place| is_kept(place) && is_permitted(place)))?)
        }
    };
    Some(Recovered { pid, sid, topics })
}

/// Where a client goes on that began to listen after `began`, and was `told` last where it stands: it may have left the topic
/// since, and have come back to it later. Unless the ids of all majors have an order, as a broker's have, those of another
/// major are another log's: then what the client says counts, and a gap follows from it.
fn later(began: EventId, told: EventId, has_order: bool) -> EventId {
    if has_order || began.major == told.major { began.max(told) } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    fn session(number: u8) -> SessionId {
        SessionId::new(0, [number; 15])
    }

    fn client(sid: &str) -> Remembered {
        Remembered { sid: sid.into(), namespace: "/".into(), subject: None, topics: Vec::new() }
    }

    /// Whoever shows the name `p` comes back, if it is remembered.
    fn take(recovery: &Recovery, now: Moment) -> Option<Remembered> {
        match recovery.take("p", now, |lost| Some(lost.clone())) {
            Taken::Known(lost) => Some(lost),
            Taken::Refused | Taken::Unknown => None,
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    #[test]
    fn a_client_may_come_back_for_a_while_and_once() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.note("p", session(1), client("a"), &budget);
        recovery.lose("p", session(1), WINDOW, at(1));
        assert_eq!(take(&recovery, at(10)), Some(client("a")));
        assert_eq!(take(&recovery, at(10)), None);
        recovery.note("p", session(1), client("a"), &budget);
        recovery.lose("p", session(1), WINDOW, at(1));
        assert_eq!(take(&recovery, at(11)), None);
        assert_eq!(budget.used(), 0);
    }

    /// Who merely knows the name, and is not let back in, takes nothing from the client.
    #[test]
    fn a_failed_attempt_costs_nothing() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.note("p", session(1), client("a"), &budget);
        for lost in [false, true] {
            if lost {
                recovery.lose("p", session(1), WINDOW, at(1));
            }
            assert_eq!(recovery.take("p", at(2), |_| None::<()>), Taken::Refused);
        }
        assert_eq!(recovery.take("q", at(2), |_| Some(())), Taken::Unknown);
        assert_eq!(take(&recovery, at(3)), Some(client("a")));
    }

    #[test]
    fn a_client_comes_back_before_its_loss_is_noticed() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.note("p", session(1), client("a"), &budget);
        assert_eq!(take(&recovery, at(1)), Some(client("a")));
        recovery.note("p", session(2), client("a"), &budget);
        // The first session ends in its own time, and has no say any more.
        recovery.lose("p", session(1), WINDOW, at(2));
        recovery.forget("p", session(1));
        assert_eq!(take(&recovery, at(20)), Some(client("a")));
    }

    #[test]
    fn a_client_that_has_left_is_forgotten() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.note("p", session(1), client("a"), &budget);
        recovery.forget("p", session(1));
        assert_eq!((take(&recovery, at(1)), budget.used()), (None, 0));
    }

    /// Ids of another hub are neither older nor newer than this one's, however their numbers compare.
    #[test]
    fn ids_of_another_epoch_are_taken_as_they_are() {
        let began = EventId { major: 20, minor: 5 };
        let check = |told: EventId, has_order: bool, expected: EventId| {
            assert_eq!(later(began, told, has_order), expected, "{told} {has_order}");
        };
        let id = |major, minor| EventId { major, minor };
        check(id(20, 7), false, id(20, 7));
        check(id(20, 3), false, began);
        check(id(10, 9), false, id(10, 9));
        check(id(30, 1), false, id(30, 1));
        check(id(10, 9), true, began);
        check(id(30, 1), true, id(30, 1));
    }

    #[test]
    fn a_spent_budget_remembers_nobody() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::new(1)));
        recovery.note("p", session(1), client("a"), &budget);
        assert_eq!(take(&recovery, at(1)), None);
    }
}
