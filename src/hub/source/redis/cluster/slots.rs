//! Which node has which slots, by the answers of the nodes to `CLUSTER SLOTS`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use redis::Value;
use smallvec::SmallVec;

use crate::{
    protocol::resp::{SLOTS, key_slot},
    source::redis::url::NodeAddress,
    topic::Topic,
};

/// The slot of `topic`, as a channel and for its idempotency keys.
pub(super) fn slot_of(topic: &Topic) -> u16 {
    key_slot(topic.as_str().as_bytes())
}

/// The slot of the key that is `prefix` and the name of `topic`.
pub(in crate::source::redis) fn slot_of_key(prefix: &str, topic: &Topic) -> u16 {
    if prefix.is_empty() { slot_of(topic) } else { key_slot(format!("{prefix}{topic}").as_bytes()) }
}

/// Which master has which slots. A slot may have none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::source::redis) struct SlotMap {
    /// The masters.
    masters: Vec<NodeAddress>,
    /// All nodes that the cluster named, replicas included.
    nodes: Vec<NodeAddress>,
    /// For each slot the index of its master. Empty: no slot has one.
    owners: Vec<Option<u16>>,
}

/// What one node says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SlotAnswer {
    /// The node.
    by: NodeAddress,
    /// First slot, last slot, master.
    ranges: Vec<(u16, u16, NodeAddress)>,
    replicas: Vec<NodeAddress>,
}

impl SlotAnswer {
    /// Reads the answer to `CLUSTER SLOTS` of the node that was asked at `by`. It may leave out its own host: then it is that of `by`.
    /// `None` if it is no such answer.
    pub(super) fn parse(answer: &Value, by: &NodeAddress) -> Option<Self> {
        let Value::Array(entries) = answer else { return None };
        let mut parsed = Self { by: by.clone(), ranges: Vec::new(), replicas: Vec::new() };
        for entry in entries {
            let Value::Array(parts) = entry else { return None };
            let [Value::Int(first), Value::Int(last), master, replicas @ ..] = parts.as_slice() else { return None };
            let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
            if last < first || SLOTS <= last {
                return None;
            }
            parsed.ranges.push((first, last, read_node(master, &by.host)?));
            parsed.replicas.extend(replicas.iter().filter_map(|node| read_node(node, &by.host)));
        }
        Some(parsed)
    }

    /// Whether no slot has a master.
    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// What is said of one slot.
#[derive(Clone, Debug, Default)]
struct Claims {
    /// The masters that say that they have it themselves.
    own: SmallVec<[u16; 2]>,
    /// How many nodes say so of which master.
    votes: SmallVec<[(u16, u16); 2]>,
}

impl Claims {
    fn add(&mut self, master: u16, is_own: bool) {
        if is_own {
            self.own.push(master);
        }
        match self.votes.iter_mut().find(|(voted, _)| *voted == master) {
            Some((_, count)) => *count += 1,
            None => self.votes.push((master, 1)),
        }
    }

    fn decide(&self) -> Option<u16> {
        if let [master] = self.own.as_slice() {
            return Some(*master);
        }
        // The last of the greatest is taken, so the earliest has to come last.
        self.votes.iter().rev().max_by_key(|(_, count)| *count).map(|(master, _)| *master)
    }
}

fn read_node(node: &Value, asked: &str) -> Option<NodeAddress> {
    let Value::Array(parts) = node else { return None };
    let [host, Value::Int(port), ..] = parts.as_slice() else { return None };
    let host = match host {
        Value::BulkString(host) if !host.is_empty() => std::str::from_utf8(host).ok()?,
        Value::Nil | Value::BulkString(_) => asked,
        _ => return None,
    };
    // A node that shall not be found by an address has none here.
    let is_known = host != "?";
    is_known.then_some(NodeAddress { host: host.to_owned(), port: u16::try_from(*port).ok()? })
}

impl SlotMap {
    /// Which master has each slot, and whether two say that they have the same one. A master that says so itself knows best: the
    /// others hear of a change later. If none does, because it is lost or cut off, most nodes decide; of as many, the earlier answers.
    ///
    /// If two say so, the one that had the slot in `former` keeps it: it takes publications until it knows better, and whoever left it
    /// before would miss those without a word. One that is cut off never hears of it, so `former` is `None` once that has lasted; then
    /// most nodes decide.
    pub(super) fn agree(answers: &[SlotAnswer], former: Option<&Self>) -> (Self, bool) {
        let mut map = Self { owners: vec![None; usize::from(SLOTS)], ..Self::default() };
        let masters = answers.iter().flat_map(|answer| &answer.ranges).map(|(.., master)| master.clone());
        map.masters = masters.collect::<BTreeSet<_>>().into_iter().collect();
        let mut claims: Vec<Claims> = vec![Claims::default(); usize::from(SLOTS)];
        for answer in answers {
            for (first, last, master) in &answer.ranges {
                let index = map.masters.binary_search(master).unwrap_or(usize::MAX);
                let index = u16::try_from(index).unwrap_or(u16::MAX);
                for claims in &mut claims[usize::from(*first)..=usize::from(*last)] {
                    claims.add(index, answer.by == *master);
                }
            }
        }
        let mut is_disputed = false;
        for (slot, claims) in (0..).zip(&claims) {
            let former = former.and_then(|former| former.owner(slot));
            let is_former = |master: &&u16| map.masters.get(usize::from(**master)) == former;
            let kept = claims.own.iter().filter(|_| former.is_some()).find(is_former).copied();
            map.owners[usize::from(slot)] = kept.or_else(|| claims.decide());
            is_disputed |= 1 < claims.own.len();
        }
        let replicas = answers.iter().flat_map(|answer| answer.replicas.iter().cloned());
        map.nodes = map.masters.iter().cloned().chain(replicas).collect();
        map.nodes.sort();
        map.nodes.dedup();
        (map, is_disputed)
    }

    /// The master that has `slot`.
    pub(in crate::source::redis) fn owner(&self, slot: u16) -> Option<&NodeAddress> {
        let index = *self.owners.get(usize::from(slot))?;
        self.masters.get(usize::from(index?))
    }

    /// All nodes that the cluster named.
    pub(super) fn nodes(&self) -> &[NodeAddress] {
        &self.nodes
    }

    /// The masters that have slots.
    pub(in crate::source::redis) fn masters(&self) -> Vec<&NodeAddress> {
        let mut has_slots = vec![false; self.masters.len()];
        for index in self.owners.iter().flatten() {
            has_slots[usize::from(*index)] = true;
        }
        self.masters.iter().zip(has_slots).filter(|(_, has_slots)| *has_slots).map(|(master, _)| master).collect()
    }

    /// For each slot, in order, what `of` makes of its master; it is called once for each master.
    pub(super) fn map_owners<T: Copy>(&self, of: impl FnMut(&NodeAddress) -> T) -> impl Iterator<Item = Option<T>> {
        let of_masters: Vec<T> = self.masters.iter().map(of).collect();
        (0..usize::from(SLOTS)).map(move |slot| {
            let index = *self.owners.get(slot)?;
            of_masters.get(usize::from(index?)).copied()
        })
    }

    /// The masters that have slots, with their slots as text, such as `0-5460, 5462`.
    pub(super) fn shards(&self) -> BTreeMap<&NodeAddress, String> {
        let mut shards: BTreeMap<&NodeAddress, String> = BTreeMap::new();
        let mut slot = 0;
        for run in self.owners.chunk_by(|one, other| one == other) {
            let (first, last) = (slot, slot + run.len() - 1);
            slot += run.len();
            let Some(owner) = run[0].and_then(|index| self.masters.get(usize::from(index))) else { continue };
            let text = shards.entry(owner).or_default();
            let comma = if text.is_empty() { "" } else { ", " };
            // Writing to a text does not fail.
            let _ = match first == last {
                true => write!(text, "{comma}{first}"),
                false => write!(text, "{comma}{first}-{last}"),
            };
        }
        shards
    }

    /// Whether each slot has a master.
    pub(in crate::source::redis) fn is_complete(&self) -> bool {
        !self.owners.is_empty() && self.owners.iter().all(Option::is_some)
    }

    /// Gives `slot` to `master`. False if it has it already.
    pub(super) fn assign(&mut self, slot: u16, master: NodeAddress) -> bool {
        if self.owner(slot) == Some(&master) {
            return false;
        }
        self.owners.resize(usize::from(SLOTS), None);
        let index = self.masters.iter().position(|known| *known == master).unwrap_or_else(|| {
            self.masters.push(master.clone());
            self.nodes.push(master);
            self.masters.len() - 1
        });
        self.owners[usize::from(slot)] = u16::try_from(index).ok();
        true
    }

    /// A short key in a slot that `master` has; `None` if it has none.
    pub(super) fn tag_of(&self, master: &NodeAddress) -> Option<String> {
        let index = u16::try_from(self.masters.iter().position(|known| known == master)?).ok();
        if !self.owners.contains(&index) {
            return None;
        }
        // Each slot has a key among the first 200,000 numbers, as a test shows.
        let has = |key: &String| self.owners[usize::from(key_slot(key.as_bytes()))] == index;
        (0..u32::MAX).map(|number| number.to_string()).find(has)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeAddress {
        let (host, port) = name.split_once(':').expect("host:port");
        NodeAddress { host: host.to_owned(), port: port.parse().expect("a port") }
    }

    fn agree(answers: &[SlotAnswer]) -> SlotMap {
        SlotMap::agree(answers, None).0
    }

    fn answer_by(by: &str, ranges: &[(u16, u16, &str)]) -> SlotAnswer {
        let ranges = ranges.iter().map(|(first, last, master)| (*first, *last, node(master))).collect();
        SlotAnswer { by: node(by), ranges, replicas: Vec::new() }
    }

    fn answer(ranges: &[(u16, u16, &str)]) -> SlotAnswer {
        answer_by("replica:1", ranges)
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn member(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), bulk("id"), Value::Array(Vec::new())])
    }

    #[test]
    fn answers_of_nodes() {
        let range = |first, last, members: Vec<Value>| {
            Value::Array([vec![Value::Int(first), Value::Int(last)], members].concat())
        };
        let answer = Value::Array(vec![
            range(0, 5460, vec![member(bulk("10.0.0.1"), 7000), member(bulk("10.0.0.4"), 7003)]),
            range(5461, 5461, vec![member(Value::Nil, 7001), member(bulk("?"), 7004)]),
            range(5462, 16_383, vec![member(bulk(""), 7002)]),
        ]);
        let found = SlotAnswer::parse(&answer, &node("asked:7001")).expect("a good answer");
        let map = agree(&[found]);
        for (slot, master) in
            [(0, "10.0.0.1:7000"), (5460, "10.0.0.1:7000"), (5461, "asked:7001"), (5462, "asked:7002")]
        {
            assert_eq!(map.owner(slot), Some(&node(master)), "{slot}");
        }
        let names: Vec<String> = map.nodes().iter().map(ToString::to_string).collect();
        assert_eq!(names, ["10.0.0.1:7000", "10.0.0.4:7003", "asked:7001", "asked:7002"]);
        assert!(map.is_complete());
        let bad = [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![range(0, 16_384, vec![member(bulk("h"), 1)])]),
            Value::Array(vec![range(2, 1, vec![member(bulk("h"), 1)])]),
            Value::Array(vec![range(-1, 1, vec![member(bulk("h"), 1)])]),
            Value::Array(vec![range(0, 1, vec![])]),
            Value::Array(vec![range(0, 1, vec![member(bulk("h"), 65_536)])]),
        ];
        for bad in bad {
            assert_eq!(SlotAnswer::parse(&bad, &node("asked:1")), None, "{bad:?}");
        }
        let alone = SlotAnswer::parse(&Value::Array(Vec::new()), &node("asked:1"));
        assert_eq!((alone.as_ref().map(SlotAnswer::is_empty), alone), (Some(true), Some(answer_by("asked:1", &[]))));
    }

    #[test]
    fn most_nodes_decide_and_of_as_many_the_first() {
        let old = || answer(&[(0, 99, "a:1"), (100, 199, "b:1")]);
        let new = || answer(&[(0, 98, "a:1"), (99, 199, "b:1")]);
        let check = |answers: &[SlotAnswer], expected: &str| {
            let map = agree(answers);
            assert_eq!(map.owner(99).map(ToString::to_string).as_deref(), Some(expected), "{answers:?}");
            assert_eq!((map.owner(0), map.owner(199)), (Some(&node("a:1")), Some(&node("b:1"))));
            assert_eq!(map.owner(200), None);
            assert!(!map.is_complete());
        };
        check(&[old(), new(), new()], "b:1");
        check(&[old(), old(), new()], "a:1");
        check(&[old(), new()], "a:1");
        check(&[new(), old()], "b:1");
        check(&[answer(&[]), new(), answer(&[])], "b:1");
        assert_eq!(agree(&[]).owner(0), None);
        assert_eq!(SlotMap::default().owner(0), None);
    }

    #[test]
    fn a_master_that_has_a_slot_knows_best() {
        let old = |by: &str| answer_by(by, &[(0, 99, "a:1"), (100, 199, "b:1")]);
        let new = |by: &str| answer_by(by, &[(0, 98, "a:1"), (99, 199, "b:1")]);
        let check = |answers: &[SlotAnswer], expected: &str| {
            let map = agree(answers);
            assert_eq!(map.owner(99).map(ToString::to_string).as_deref(), Some(expected), "{answers:?}");
        };
        check(&[new("a:1"), new("b:1"), old("c:1"), old("d:1"), old("e:1")], "b:1");
        check(&[new("b:1"), old("c:1"), old("d:1"), old("e:1")], "b:1");
        // Two say so: one of them is cut off, or has not heard of it.
        check(&[old("a:1"), new("b:1"), old("c:1")], "a:1");
        check(&[old("a:1"), new("b:1"), new("c:1")], "b:1");
        // It is lost: the others decide.
        check(&[new("a:1"), new("c:1"), old("d:1")], "b:1");
    }

    #[test]
    fn of_two_that_claim_a_slot_the_former_keeps_it_for_a_while() {
        let had = |master: &str| agree(&[answer(&[(0, 199, master)])]);
        let claims = |by: &str, slots: &[(u16, u16, &str)]| answer_by(by, slots);
        let all = [
            claims("a:1", &[(0, 99, "a:1"), (100, 199, "b:1")]),
            claims("b:1", &[(0, 98, "a:1"), (99, 199, "b:1")]),
            claims("c:1", &[(0, 98, "a:1"), (99, 199, "b:1")]),
        ];
        let check = |answers: &[SlotAnswer], former: Option<&str>, expected: &str, is_disputed: bool| {
            let former = former.map(had);
            let (map, found) = SlotMap::agree(answers, former.as_ref());
            let owner = map.owner(99).map(ToString::to_string);
            assert_eq!((owner.as_deref(), found), (Some(expected), is_disputed), "{answers:?} {former:?}");
        };
        check(&all, Some("a:1"), "a:1", true);
        check(&all, Some("b:1"), "b:1", true);
        check(&all, Some("c:1"), "b:1", true);
        check(&all, None, "b:1", true);
        // The former says no more that it has it, or nothing at all.
        check(&all[1..], Some("a:1"), "b:1", false);
        let conceded = [claims("a:1", &[(0, 98, "a:1"), (99, 199, "b:1")]), claims("c:1", &[(0, 99, "a:1")])];
        check(&conceded, Some("a:1"), "b:1", false);
    }

    #[test]
    fn shards_and_their_slots() {
        let mut map = agree(&[answer(&[(0, 99, "a:1"), (100, 100, "b:1"), (102, 16_383, "a:1")])]);
        let shown = |map: &SlotMap| -> Vec<String> {
            map.shards().iter().map(|(master, slots)| format!("{master} {slots}")).collect()
        };
        assert_eq!(shown(&map), ["a:1 0-99, 102-16383", "b:1 100"]);
        assert!(map.assign(100, node("c:1")) && map.assign(101, node("a:1")));
        assert!(!map.assign(100, node("c:1")), "no news");
        assert_eq!(shown(&map), ["a:1 0-99, 101-16383", "c:1 100"], "who has no slots is no shard");
        assert!(map.is_complete());
        let mut empty = SlotMap::default();
        assert!(empty.assign(7, node("c:1")));
        assert_eq!(shown(&empty), ["c:1 7"]);
    }

    #[test]
    fn a_tag_is_in_a_slot_of_its_shard() {
        let map = agree(&[answer(&[(0, 16_000, "a:1"), (16_001, 16_001, "b:1"), (16_002, 16_383, "c:1")])]);
        for name in ["a:1", "b:1", "c:1"] {
            let tag = map.tag_of(&node(name)).expect("it has slots");
            let channel = format!("fanfare.probe.{{{tag}}}.0");
            assert_eq!(map.owner(key_slot(channel.as_bytes())), Some(&node(name)), "{channel}");
        }
        assert_eq!(map.tag_of(&node("d:1")), None);
    }

    #[test]
    fn each_slot_has_a_key_that_is_found_soon() {
        let mut missing: Vec<bool> = vec![true; usize::from(SLOTS)];
        let mut left = missing.len();
        let mut number = 0_u32;
        while left != 0 {
            let slot = usize::from(key_slot(number.to_string().as_bytes()));
            left -= usize::from(std::mem::take(&mut missing[slot]));
            number += 1;
        }
        assert!(number < 200_000, "{number}");
    }
}
