//! The fleet: the hubs on one broker, and how they know of each other.
//!
//! Each hub publishes a *heartbeat* every `fleet.heartbeat` on a topic of hub commands, and lists every hub whose last heartbeat is
//! not older than three intervals. Heartbeats are for operators only: nothing that a client gets depends on them.
//!
//! Hubs of several versions may be on one broker. So a hub passes over members of a heartbeat that it does not know, and those that
//! are absent have defaults; a member keeps its name and its type for good. Anybody with access to the broker may publish
//! heartbeats, so their size and their number are bounded.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{
    bus::{Bus, HUB_COMMANDS, HubCommands},
    clock::Moment,
    metrics::Figure,
    topic::Topic,
};

/// A hub is forgotten after so many intervals without a heartbeat.
const INTERVALS_KEPT: u32 = 3;
/// A larger heartbeat is dropped unread. Today's have some 200 bytes.
const HEARTBEAT_BYTES_MAX: usize = 4096;
/// A heartbeat with a longer id, name or version is dropped.
const TEXT_BYTES_MAX: usize = 255;

/// The configuration of the fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FleetConfig {
    /// The time between two heartbeats. Zero: the hub sends none, and listens to none.
    pub heartbeat: Duration,
    /// The most other hubs that are remembered.
    pub hubs_max: usize,
}

impl Default for FleetConfig {
    fn default() -> Self {
        Self { heartbeat: Duration::from_secs(5), hubs_max: 1000 }
    }
}

/// What a hub says of itself.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default)]
pub(crate) struct Heartbeat {
    /// The major part of the ids that the hub gives: another one after each start. Never empty.
    pub(crate) id: String,
    /// The name of its host. Empty if unknown.
    pub(crate) name: String,
    pub(crate) version: String,
    /// Open connections.
    pub(crate) connections: u64,
    /// Topics that exist there.
    pub(crate) topics: u64,
    /// Whether it is about to end.
    pub(crate) draining: bool,
    /// Whether this is its last heartbeat.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) gone: bool,
}

impl Heartbeat {
    /// The heartbeat in a payload; `None` if it is none.
    fn read(data: &[u8]) -> Option<Self> {
        if HEARTBEAT_BYTES_MAX < data.len() {
            return None;
        }
        let heartbeat: Self = serde_json::from_slice(data).ok()?;
        let texts = [&heartbeat.id, &heartbeat.name, &heartbeat.version];
        let is_good = !heartbeat.id.is_empty() && texts.iter().all(|text| text.len() <= TEXT_BYTES_MAX);
        is_good.then_some(heartbeat)
    }

    /// The payload with this heartbeat.
    pub(crate) fn write(&self) -> Bytes {
        serde_json::to_vec(self).expect("texts and numbers always have a JSON form").into()
    }
}

/// The topic of heartbeats, to which each hub on a broker listens.
pub(crate) fn heartbeat_topic() -> Topic {
    Topic::parse(&format!("{HUB_COMMANDS}hubs")).expect("the constant is a good name")
}

/// The other hubs on this hub's broker.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    config: FleetConfig,
    /// This hub's id and name.
    id: String,
    name: String,
    /// The other hubs' last heartbeats by their ids, and when each of them came.
    others: Mutex<BTreeMap<String, (Heartbeat, Moment)>>,
    rejected: AtomicU64,
}

impl Fleet {
    /// The fleet as the hub `id` at the host `name` sees it: nobody else yet.
    pub(crate) fn new(config: FleetConfig, id: String, name: String) -> Self {
        Self { config, id, name, ..Self::default() }
    }

    /// The heartbeat of this hub, without its figures.
    pub(crate) fn own(&self) -> Heartbeat {
        Heartbeat { id: self.id.clone(), name: self.name.clone(), ..Heartbeat::default() }
    }

    /// The other hubs' last heartbeats in the order of their ids, each with its age.
    pub(crate) fn others(&self, now: Moment) -> Vec<(Heartbeat, Duration)> {
        let others = self.lock();
        let others = others.values().map(|(heartbeat, at)| (heartbeat.clone(), now.since(*at)));
        others.filter(|(_, age)| self.is_fresh(*age)).collect()
    }

    /// Forgets the hubs that have been silent for too long, so that others have room.
    pub(crate) fn forget(&self, now: Moment) {
        self.lock().retain(|_, (_, at)| self.is_fresh(now.since(*at)));
    }

    /// The figures for `/metrics`.
    pub(crate) fn figures(&self, now: Moment) -> Vec<Figure> {
        let others = self.lock().values().filter(|(_, at)| self.is_fresh(now.since(*at))).count();
        vec![
            Figure::gauge(
                "fanfare_fleet_hubs",
                "Hubs on this hub's broker whose heartbeats arrive, this one included",
                1 + others as u64,
            ),
            Figure::counter(
                "fanfare_fleet_rejected_heartbeats",
                "Messages on the channel of heartbeats that are none, or for which there is no room",
                self.rejected.load(Ordering::Relaxed),
            ),
        ]
    }

    fn is_fresh(&self, age: Duration) -> bool {
        age < self.config.heartbeat * INTERVALS_KEPT
    }

    /// Takes a heartbeat. False if there is no room for another hub.
    fn insert(&self, heartbeat: Heartbeat, now: Moment) -> bool {
        let mut others = self.lock();
        if heartbeat.gone {
            others.remove(&heartbeat.id);
            return true;
        }
        let has_room = others.len() < self.config.hubs_max || others.contains_key(&heartbeat.id);
        if has_room {
            others.insert(heartbeat.id.clone(), (heartbeat, now));
        }
        has_room
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, (Heartbeat, Moment)>> {
        self.others.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HubCommands for Fleet {
    fn take(&self, topic: &Topic, _: Option<&str>, data: Bytes, _: &Bus, now: Moment) {
        if *topic != heartbeat_topic() {
            return;
        }
        let is_taken = match Heartbeat::read(&data) {
            // A hub hears itself, too.
            Some(heartbeat) => heartbeat.id == self.id || self.insert(heartbeat, now),
            None => false,
        };
        if !is_taken {
            self.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::tests::{FormKind, LATER_MEMBER, check_forms, members, object};

    const SECOND: Duration = Duration::from_secs(1);

    fn fleet(hubs_max: usize) -> Fleet {
        Fleet::new(FleetConfig { heartbeat: 5 * SECOND, hubs_max }, "1".to_owned(), "here".to_owned())
    }

    fn at(seconds: u32) -> Moment {
        Moment(0) + SECOND * seconds
    }

    fn send(fleet: &Fleet, data: &str, seconds: u32) {
        let bus = Bus::new(crate::bus::Config::default(), Vec::new(), Vec::new());
        fleet.take(&heartbeat_topic(), None, Bytes::copy_from_slice(data.as_bytes()), &bus, at(seconds));
    }

    fn ids(fleet: &Fleet, seconds: u32) -> Vec<String> {
        fleet.others(at(seconds)).into_iter().map(|(heartbeat, _)| heartbeat.id).collect()
    }

    fn rejected(fleet: &Fleet) -> u64 {
        fleet.rejected.load(Ordering::Relaxed)
    }

    #[test]
    fn hubs_of_other_versions_are_understood() {
        let newer = r#"{"id":"7","name":"b","version":"9.0.0","connections":3,"topics":4,"draining":true,"gone":false,
                        "zone":{"name":"eu","racks":[1,2]},"load":0.5,"state":null}"#;
        let older = r#"{"id":"8"}"#;
        let fleet = fleet(10);
        send(&fleet, newer, 0);
        send(&fleet, older, 0);
        let found: Vec<Heartbeat> = fleet.others(at(0)).into_iter().map(|(heartbeat, _)| heartbeat).collect();
        let [text, version] = ["b", "9.0.0"].map(str::to_owned);
        let newer = Heartbeat {
            id: "7".to_owned(),
            name: text,
            version,
            connections: 3,
            topics: 4,
            draining: true,
            gone: false,
        };
        assert_eq!(found, [newer, Heartbeat { id: "8".to_owned(), ..Heartbeat::default() }]);
        assert_eq!(rejected(&fleet), 0);
    }

    #[test]
    fn what_is_written_is_read() {
        let own = Heartbeat { version: "1.2.3".to_owned(), connections: u64::MAX, draining: true, ..fleet(1).own() };
        assert_eq!(Heartbeat::read(&own.write()), Some(own.clone()));
        let last = Heartbeat { gone: true, ..own };
        assert_eq!(Heartbeat::read(&last.write()), Some(last));
    }

    #[test]
    fn the_forms_of_heartbeats_are_kept() {
        let own =
            Heartbeat { version: "1.2.3".to_owned(), connections: 5, topics: 6, draining: true, ..fleet(1).own() };
        let form = |heartbeat: &Heartbeat| {
            [vec![heartbeat_topic().as_str().as_bytes().to_vec()], members(&heartbeat.write())].concat()
        };
        let written = vec![("a heartbeat", form(&own)), ("the last one", form(&Heartbeat { gone: true, ..own }))];
        let read = |parts: &[Vec<u8>]| {
            let heartbeat = Heartbeat::read(&object(&parts[1..])).expect("a heartbeat");
            let Heartbeat { id, name, version, connections, topics, draining, gone } = heartbeat;
            format!(
                "on {}: {id} at {name}, {version}, {connections} connections, {topics} topics, draining {draining}, gone {gone}",
                parts[0].escape_ascii()
            )
        };
        let later = |parts: &mut Vec<Vec<u8>>| parts.push(LATER_MEMBER.to_vec());
        check_forms(&FormKind { name: "heartbeats", written, read: &read, extend: Some(&later) });
    }

    #[test]
    fn a_hub_is_kept_for_three_intervals_or_until_it_says_that_it_goes() {
        let fleet = fleet(10);
        send(&fleet, r#"{"id":"2"}"#, 0);
        send(&fleet, r#"{"id":"3"}"#, 10);
        send(&fleet, r#"{"id":"1"}"#, 10);
        assert_eq!(
            (ids(&fleet, 14), ids(&fleet, 15), ids(&fleet, 25)),
            (vec!["2".to_owned(), "3".to_owned()], vec!["3".to_owned()], Vec::new())
        );
        assert_eq!(fleet.others(at(14))[0].1, 14 * SECOND);
        send(&fleet, r#"{"id":"3","gone":true}"#, 15);
        assert_eq!(ids(&fleet, 15), [""; 0]);
        assert_eq!(rejected(&fleet), 0);
    }

    #[test]
    fn what_is_no_heartbeat_is_counted_and_dropped() {
        let fleet = fleet(10);
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let cases = [
            String::new(),
            "junk".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"id":""}"#.to_owned(),
            r#"{"id":7}"#.to_owned(),
            r#"{"id":"7","connections":-1}"#.to_owned(),
            r#"{"id":"7","id":"8"}"#.to_owned(),
            "[".repeat(HEARTBEAT_BYTES_MAX),
            format!(r#"{{"id":"{long}"}}"#),
            format!(r#"{{"id":"7","name":"{long}"}}"#),
            format!(r#"{{"id":"7","version":"{long}"}}"#),
            format!(r#"{{"id":"7"}}{}"#, " ".repeat(HEARTBEAT_BYTES_MAX)),
        ];
        for (index, case) in cases.iter().enumerate() {
            send(&fleet, case, 0);
            assert_eq!((rejected(&fleet), ids(&fleet, 0).len()), (index as u64 + 1, 0), "{case}");
        }
    }

    #[test]
    fn the_number_of_hubs_is_bounded() {
        let fleet = fleet(2);
        for id in ["2", "3", "4", "2"] {
            send(&fleet, &format!(r#"{{"id":"{id}"}}"#), 0);
        }
        assert_eq!((ids(&fleet, 0), rejected(&fleet)), (vec!["2".to_owned(), "3".to_owned()], 1));
        // Those that are silent make room.
        send(&fleet, r#"{"id":"3"}"#, 10);
        fleet.forget(at(15));
        send(&fleet, r#"{"id":"4"}"#, 15);
        assert_eq!((ids(&fleet, 15), rejected(&fleet)), (vec!["3".to_owned(), "4".to_owned()], 1));
    }

    #[test]
    fn commands_of_others_are_passed_over() {
        let fleet = fleet(2);
        let bus = Bus::new(crate::bus::Config::default(), Vec::new(), Vec::new());
        fleet.take(&crate::bus::losses_topic(), None, Bytes::from_static(b"{\"id\":\"2\"}"), &bus, at(0));
        assert_eq!((ids(&fleet, 0).len(), rejected(&fleet)), (0, 0));
    }
}
