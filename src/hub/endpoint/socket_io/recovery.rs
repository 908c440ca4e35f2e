//! Connection state recovery of Socket.IO: what a client listened to, and after which ids, when its session ended.
//!
//! A client comes back with its private id (`pid`) and, if it ever got an event, the *offset* that the last one carried: the id
//! it had reached in every topic that it listened to at that time. The hub that had the client has saved what it listened to.
//! Any other hub takes the topics from the offset, if a broker keeps all of them, so that their ids mean the same there.

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

/// What a client that may come back listened to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SavedClient {
    /// Its public id.
    pub sid: Box<str>,
    /// Its namespace; it can come back to no other.
    pub namespace: Box<str>,
    /// The subject of its token; nobody else can come back as this client.
    pub subject: Option<Box<str>>,
    /// Its topics, each with the id after which its subscription began.
    pub topics: Vec<(Topic, EventId)>,
}

/// A client that has come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecoveredClient {
    /// Its private id.
    pub pid: Box<str>,
    /// Its public id, if this hub had the client.
    pub sid: Option<Box<str>>,
    /// Its topics, each with the last id that the client has.
    pub topics: Vec<(Topic, EventId)>,
}

/// The clients that may come back. Connected clients are among them: the hub may learn of a lost connection later than its
/// client, which then comes back first. Entries are charged to the memory budget. When the budget is spent, no client is saved,
/// and one that comes back is a new client.
#[derive(Debug, Default)]
pub struct Recovery {
    clients: Mutex<SavedClients>,
}

#[derive(Debug, Default)]
struct SavedClients {
    by_pid: HashMap<Box<str>, SavedEntry, foldhash::fast::RandomState>,
    /// Disconnected clients, in the order in which they expire.
    order: VecDeque<(Moment, Box<str>)>,
}

#[derive(Debug)]
struct SavedEntry {
    saved: SavedClient,
    /// The client's session, or its last one.
    session: SessionId,
    /// Until when a disconnected client may come back.
    until: Option<Moment>,
    _charge: Charge,
}

impl Recovery {
    /// Saves what the client `pid` of `session` would come back to, in place of what was saved before.
    pub(crate) fn save(&self, pid: &str, session: SessionId, saved: SavedClient, budget: &Arc<Budget>) {
        let weigh = |(topic, _): &(Topic, EventId)| size_of::<(Topic, EventId)>() + topic.as_str().len();
        let weight_bytes = ENTRY_BYTES + 2 * pid.len() + saved.topics.iter().map(weigh).sum::<usize>();
        let mut clients = self.lock();
        // Removed first: if the budget has no room now, the former entry would be wrong.
        clients.by_pid.remove(pid);
        let Some(charge) = budget.try_charge(weight_bytes) else { return };
        clients.by_pid.insert(pid.into(), SavedEntry { saved, session, until: None, _charge: charge });
    }

    /// Lets the client `pid` come back for `window` from now on. No effect if it has come back already, by another session.
    pub fn mark_disconnected(&self, pid: &str, session: SessionId, window: Duration, now: Moment) {
        let mut clients = self.lock();
        clients.forget_expired(now);
        let until = now + window;
        if let Some(entry) = clients.by_pid.get_mut(pid).filter(|entry| entry.session == session) {
            entry.until = Some(until);
            clients.order.push_back((until, pid.into()));
        }
    }

    /// Forgets a client that left its namespace, or was made to. No effect if another session has it now.
    pub(crate) fn forget(&self, pid: &str, session: SessionId) {
        let mut clients = self.lock();
        if clients.by_pid.get(pid).is_some_and(|entry| entry.session == session) {
            clients.by_pid.remove(pid);
        }
    }

    /// Calls `decide` with what is saved of the client `pid`. The entry is removed only if `decide` returns something, so that a
    /// refused attempt under the same `pid` costs the client nothing.
    fn take<T>(&self, pid: &str, now: Moment, decide: impl FnOnce(&SavedClient) -> Option<T>) -> TakeOutcome<T> {
        let mut clients = self.lock();
        clients.forget_expired(now);
        let Some(entry) = clients.by_pid.get(pid) else { return TakeOutcome::Unknown };
        let Some(decided) = decide(&entry.saved) else { return TakeOutcome::Refused };
        clients.by_pid.remove(pid);
        TakeOutcome::Recovered(decided)
    }

    fn lock(&self) -> MutexGuard<'_, SavedClients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SavedClients {
    fn forget_expired(&mut self, now: Moment) {
        while let Some((until, pid)) = self.order.pop_front_if(|(until, _)| *until <= now) {
            // It may have come back and been lost again since.
            if self.by_pid.get(&pid).is_some_and(|entry| entry.until == Some(until)) {
                self.by_pid.remove(&pid);
            }
        }
    }
}

/// The outcome of [`Recovery::take`].
#[derive(Debug, PartialEq, Eq)]
enum TakeOutcome<T> {
    /// No client is saved under this id.
    Unknown,
    /// The saved client is another one.
    Refused,
    Recovered(T),
}

/// The weight of an entry besides its texts, in bytes.
const ENTRY_BYTES: usize = 256;

/// The members of a CONNECT packet's payload that ask for recovery.
#[derive(Deserialize)]
struct Claim {
    pid: Option<Box<str>>,
    offset: Option<String>,
}

/// The client that comes back to `namespace` with the CONNECT payload `payload`, as `identity`. It gets its topics, at most
/// `topics_max`. `None`: it is a new client.
pub(crate) fn recover(
    payload: Option<&RawValue>,
    namespace: &str,
    identity: Option<&Identity>,
    (hub, topics_max): (&Hub, usize),
    now: Moment,
) -> Option<RecoveredClient> {
    let Claim { pid, offset } = serde_json::from_str(payload?.get()).ok()?;
    let pid = pid?;
    let acknowledged = offset.and_then(|offset| socket_io::parse_offset(&offset, topics_max));
    let is_permitted = |(topic, _): &(Topic, EventId)| access::may_subscribe(identity, topic).is_ok();
    let taken = hub.recovery.take(&pid, now, |lost| {
        let is_same = *lost.namespace == *namespace && lost.subject.as_deref() == identity.map(|it| &*it.subject);
        if !is_same || !lost.topics.iter().all(is_permitted) {
            return None;
        }
        let topics = lost.topics.iter().map(|(topic, began)| {
            let acknowledged = acknowledged.iter().flatten().find(|(known, _)| known == topic);
            let has_order = hub.bus.archive(topic).is_some();
            (topic.clone(), acknowledged.map_or(*began, |(_, id)| resume_id(*began, *id, has_order)))
        });
        Some((lost.sid.clone(), topics.collect::<Vec<_>>()))
    });
    let (sid, topics) = match taken {
        TakeOutcome::Recovered((sid, topics)) => (Some(sid), topics),
        TakeOutcome::Refused => return None,
        TakeOutcome::Unknown => {
            let is_kept = |(topic, _): &(Topic, EventId)| hub.bus.archive(topic).is_some();
            (None, acknowledged.filter(|topics| topics.iter().all(|topic| is_kept(topic) && is_permitted(topic)))?)
        }
    };
    Some(RecoveredClient { pid, sid, topics })
}

/// The id after which a client goes on in a topic to which it subscribed after `began`, and of which its offset has the id
/// `acknowledged`. The later one counts, because it may have left the topic and subscribed again. If the ids of different majors
/// have no order, as those of a hub's own logs have none, an id of another major is of another log: then the client's id counts,
/// and a gap follows from it.
fn resume_id(began: EventId, acknowledged: EventId, has_order: bool) -> EventId {
    if has_order || began.major == acknowledged.major { began.max(acknowledged) } else { acknowledged }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::{FormKind, check_forms, part, text};

    const WINDOW: Duration = Duration::from_secs(10);

    fn session(number: u8) -> SessionId {
        SessionId::new(0, [number; 15])
    }

    fn client(sid: &str) -> SavedClient {
        SavedClient { sid: sid.into(), namespace: "/".into(), subject: None, topics: Vec::new() }
    }

    /// The client that comes back as `p`.
    fn take(recovery: &Recovery, now: Moment) -> Option<SavedClient> {
        match recovery.take("p", now, |lost| Some(lost.clone())) {
            TakeOutcome::Recovered(lost) => Some(lost),
            TakeOutcome::Refused | TakeOutcome::Unknown => None,
        }
    }

    fn at(seconds: u64) -> Moment {
        Moment(seconds * 1_000_000_000)
    }

    /// A client comes back with the offset of one hub to another.
    #[test]
    fn the_form_of_offsets_is_kept() {
        let places = [("a.b", EventId::new(7, 1)), ("c", EventId::new(8, 2))];
        let places = places.map(|(name, id)| (Topic::parse(name).expect("a good name"), id));
        let mut offset = String::new();
        socket_io::write_offset(places.iter().map(|(topic, id)| (topic, *id)), &mut offset);
        let read = |parts: &[Vec<u8>]| {
            let places = socket_io::parse_offset(text(parts), 9).expect("an offset");
            places.iter().map(|(topic, id)| format!("{topic} after {id}")).collect::<Vec<_>>().join(", ")
        };
        let written = vec![("an offset", part(offset))];
        check_forms(&FormKind { name: "socket-io-offsets", written, read: &read, extend: None });
    }

    #[test]
    fn a_client_may_come_back_for_a_while_and_once() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.save("p", session(1), client("a"), &budget);
        recovery.mark_disconnected("p", session(1), WINDOW, at(1));
        assert_eq!(take(&recovery, at(10)), Some(client("a")));
        assert_eq!(take(&recovery, at(10)), None);
        recovery.save("p", session(1), client("a"), &budget);
        recovery.mark_disconnected("p", session(1), WINDOW, at(1));
        assert_eq!(take(&recovery, at(11)), None);
        assert_eq!(budget.used(), 0);
    }

    /// An attempt that is refused takes nothing from the client.
    #[test]
    fn a_failed_attempt_costs_nothing() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.save("p", session(1), client("a"), &budget);
        for lost in [false, true] {
            if lost {
                recovery.mark_disconnected("p", session(1), WINDOW, at(1));
            }
            assert_eq!(recovery.take("p", at(2), |_| None::<()>), TakeOutcome::Refused);
        }
        assert_eq!(recovery.take("q", at(2), |_| Some(())), TakeOutcome::Unknown);
        assert_eq!(take(&recovery, at(3)), Some(client("a")));
    }

    #[test]
    fn a_client_comes_back_before_its_loss_is_noticed() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.save("p", session(1), client("a"), &budget);
        assert_eq!(take(&recovery, at(1)), Some(client("a")));
        recovery.save("p", session(2), client("a"), &budget);
        // The first session ends in its own time, and has no say any more.
        recovery.mark_disconnected("p", session(1), WINDOW, at(2));
        recovery.forget("p", session(1));
        assert_eq!(take(&recovery, at(20)), Some(client("a")));
    }

    #[test]
    fn a_client_that_has_left_is_forgotten() {
        let (recovery, budget) = (Recovery::default(), Arc::new(Budget::unlimited()));
        recovery.save("p", session(1), client("a"), &budget);
        recovery.forget("p", session(1));
        assert_eq!((take(&recovery, at(1)), budget.used()), (None, 0));
    }

    /// Ids of another hub are neither older nor newer than this one's, however their numbers compare.
    #[test]
    fn ids_of_another_epoch_are_taken_as_they_are() {
        let began = EventId::new(20, 5);
        let check = |acknowledged: EventId, has_order: bool, expected: EventId| {
            assert_eq!(resume_id(began, acknowledged, has_order), expected, "{acknowledged} {has_order}");
        };
        let id = |major, minor| EventId::new(major, minor);
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
        recovery.save("p", session(1), client("a"), &budget);
        assert_eq!(take(&recovery, at(1)), None);
    }
}
