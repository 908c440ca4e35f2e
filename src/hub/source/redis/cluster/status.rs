//! The status of a source that is a cluster: each shard has a status of its own, and here is what they come to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::slots::SlotMap;
use crate::{
    bus::SourceName,
    clock::{Clock, Moment},
    metrics::{Figure, SourceHealth},
    source::{
        SourceStatus,
        redis::{ClusterPubSub, NodeAddress, PUBSUB_SOURCE},
        status::Sides,
    },
};

/// The status of the source. A shard that is away makes it degraded, not unready, unless all are away.
#[derive(Debug)]
pub(in crate::source::redis) struct ClusterStatus {
    name: SourceName,
    kind: ClusterPubSub,
    clock: Clock,
    /// Counts publications, which may pass several shards. It is also the reader's, where one reads for all shards.
    common: Arc<SourceStatus>,
    /// Counts what shards did that are forgotten.
    former: SourceStatus,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the address of the master. One that has no slots any more is forgotten once no thread needs its status.
    shards: BTreeMap<NodeAddress, Shard>,
    /// Why no node says who has which slots, and since when.
    problem: Option<(String, Moment)>,
    /// Topics in slots that no node has.
    unplaced: usize,
    /// Each shard has been tried: until then the hub is not ready.
    is_started: bool,
}

#[derive(Debug)]
struct Shard {
    status: Arc<SourceStatus>,
    /// Its slots as text; `None`: it has none any more.
    slots: Option<String>,
}

impl ClusterStatus {
    pub(super) fn new(name: SourceName, kind: ClusterPubSub, clock: Clock) -> Self {
        let common = Arc::new(SourceStatus::of_sides(name, Sides::Reader));
        let former = SourceStatus::of_sides(name, Sides::Reader);
        Self { name, kind, clock, common, former, state: Mutex::default() }
    }

    /// Where publications are counted; and the status of the reader, if one reads for all shards.
    pub(in crate::source::redis) fn common(&self) -> Arc<SourceStatus> {
        Arc::clone(&self.common)
    }

    /// The status of the shard whose master is `node`.
    pub(in crate::source::redis) fn shard(&self, node: &NodeAddress) -> Arc<SourceStatus> {
        Arc::clone(&self.state().shard(node, self.name, self.kind).status)
    }

    /// Which shards there are.
    pub(super) fn set_map(&self, map: &SlotMap) {
        let mut state = self.state();
        state.shards.values_mut().for_each(|shard| shard.slots = None);
        for (master, slots) in map.shards() {
            state.shard(master, self.name, self.kind).slots = Some(slots);
            state.problem = None;
        }
        // The threads of a master that lost its slots just now are still ending: it is forgotten when the map changes again.
        state.shards.retain(|_, shard| {
            let is_needed = shard.slots.is_some() || 1 < Arc::strong_count(&shard.status);
            if !is_needed {
                self.former.absorb(&shard.status);
            }
            is_needed
        });
    }

    /// No node says who has which slots.
    pub(super) fn set_problem(&self, problem: &str, now: Moment) {
        let mut state = self.state();
        let since = state.problem.take().map_or(now, |(_, since)| since);
        state.problem = Some((problem.to_owned(), since));
    }

    /// So many topics are in slots that no node has.
    pub(in crate::source::redis) fn set_unplaced(&self, topics: usize) {
        self.state().unplaced = topics;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A figure of all shards there were.
    fn sum(&self, figure: impl Fn(&SourceStatus) -> u64) -> u64 {
        let state = self.state();
        let shards = state.shards.values().map(|shard| &*shard.status);
        shards.chain([&*self.common, &self.former]).map(figure).sum()
    }
}

impl State {
    fn shard(&mut self, node: &NodeAddress, name: SourceName, kind: ClusterPubSub) -> &mut Shard {
        let sides = match kind {
            ClusterPubSub::Sharded => Sides::Both,
            ClusterPubSub::Classic => Sides::Writer,
        };
        let shard = || Shard { status: Arc::new(SourceStatus::of_sides(name, sides)), slots: None };
        self.shards.entry(node.clone()).or_insert_with(shard)
    }

    /// The shards that have slots.
    fn present(&self) -> impl Iterator<Item = (&NodeAddress, &Shard)> {
        self.shards.iter().filter(|(_, shard)| shard.slots.is_some())
    }

    /// Since when it is so, and what is wrong if no shard is ready.
    fn check(&mut self, name: SourceName, now: Moment) -> (Moment, Result<(), String>) {
        let states: Vec<_> = self.present().map(|(node, shard)| (node.clone(), shard.status.state(now))).collect();
        if states.is_empty() {
            let (reason, since) = self.problem.clone().unwrap_or_else(|| ("connecting".to_owned(), Moment::default()));
            return (since, Err(format!("{name}: {reason}")));
        }
        if !self.is_started {
            let starting = self.present().find(|(_, shard)| shard.status.is_starting(now));
            if let Some((node, shard)) = starting {
                let (since, outcome) = shard.status.state(now);
                let reason = outcome.err().unwrap_or_default();
                return (since, Err(format!("{reason} (shard {node})")));
            }
            self.is_started = true;
        }
        let ready = states.iter().filter(|(_, (_, outcome))| outcome.is_ok()).map(|(_, (since, _))| *since).min();
        if let Some(since) = ready {
            return (since, Ok(()));
        }
        let since = states.iter().map(|(_, (since, _))| *since).max().unwrap_or_default();
        let reasons: Vec<String> = states
            .into_iter()
            .filter_map(|(node, (_, outcome))| Some(format!("shard {node}: {}", outcome.err()?)))
            .collect();
        (since, Err(reasons.join("; ")))
    }
}

impl ClusterStatus {
    /// Since when it is so, and what is wrong if it is not ready.
    fn state_at(&self, now: Moment) -> (Moment, Result<(), String>) {
        let shards = self.state().check(self.name, now);
        if self.kind == ClusterPubSub::Sharded || shards.1.is_err() {
            return shards;
        }
        let (since, reading) = self.common.state(now);
        (since.max(shards.0), reading)
    }
}

impl SourceHealth for ClusterStatus {
    fn name(&self) -> &str {
        self.name.0
    }

    fn check(&self, now: Moment) -> Result<(), String> {
        self.state_at(now).1
    }

    fn since(&self, now: Moment) -> Option<Moment> {
        Some(self.state_at(now).0)
    }

    fn degraded(&self, now: Moment) -> Vec<String> {
        let state = self.state();
        let mut lines = Vec::new();
        for (node, shard) in state.present() {
            if let Err(reason) = shard.status.ready(now) {
                let slots = shard.slots.as_deref().unwrap_or_default();
                lines.push(format!("the shard at {node} (slots {slots}) is away: {reason}"));
            }
            lines.extend(shard.status.degraded(now));
        }
        lines.extend(self.common.degraded(now));
        if state.unplaced != 0 {
            lines.push(format!("topics in slots that no node has: {}", state.unplaced));
        }
        if let Some((problem, _)) = state.problem.as_ref().filter(|_| state.present().next().is_some()) {
            lines.push(problem.clone());
        }
        lines
    }

    fn refused_subscriptions(&self) -> u64 {
        let shards: u64 = self.state().present().map(|(_, shard)| shard.status.refused_subscriptions()).sum();
        shards + self.common.refused_subscriptions()
    }

    fn refused_publications_total(&self) -> u64 {
        self.sum(SourceStatus::refused_publications_total)
    }

    fn unasked_total(&self) -> u64 {
        self.sum(SourceStatus::unasked_total)
    }

    fn rejected_messages_total(&self) -> u64 {
        self.sum(SourceStatus::rejected_messages_total)
    }

    fn last_event(&self) -> Option<Moment> {
        let of_shards = self.state().shards.values().filter_map(|shard| shard.status.last_event()).max();
        of_shards.max(self.common.last_event()).max(self.former.last_event())
    }

    fn received_total(&self) -> u64 {
        self.sum(SourceStatus::received_total)
    }

    /// The slowest shard's.
    fn probe(&self) -> Option<Duration> {
        let of_shards = self.state().present().filter_map(|(_, shard)| shard.status.probe()).max();
        of_shards.max(self.common.probe())
    }

    /// How often the connection to a master was lost: the next one is often to another master.
    fn reconnects_total(&self) -> u64 {
        self.sum(|status| status.reader().disconnects())
    }

    fn losses_total(&self) -> u64 {
        self.sum(SourceStatus::losses_total)
    }

    fn figures(&self) -> Vec<Figure> {
        let (state, now) = (self.state(), self.clock.now());
        let count = |shards: usize| shards as u64;
        let away = state.present().filter(|(_, shard)| shard.status.ready(now).is_err()).count();
        let present = count(state.present().count());
        let [all, lost] = match self.name == PUBSUB_SOURCE {
            true => ["fanfare_redis_shards", "fanfare_redis_shards_away"],
            false => ["fanfare_redis_stream_shards", "fanfare_redis_stream_shards_away"],
        };
        vec![
            Figure::gauge(all, "Masters with slots", present),
            Figure::gauge(lost, "Those that do not serve the hub", count(away)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::status::SubscriptionCounts;

    fn node(port: u16) -> NodeAddress {
        NodeAddress { host: "h".to_owned(), port }
    }

    fn at(second: u64) -> Moment {
        Moment(second * 1_000_000_000)
    }

    fn make_ready(status: &SourceStatus, now: Moment) {
        for side in [status.reader(), status.writer()] {
            side.on_connected(now);
        }
        status.set_subscriptions(SubscriptionCounts { wanted: 0, confirmed: 0, denied: 0, settled: true }, now);
        status.on_proof(Duration::from_millis(1), now);
        status.writer().on_answer(now);
    }

    #[test]
    fn a_shard_that_is_away_is_named_and_only_all_of_them_are_a_failure() {
        let status = ClusterStatus::new(SourceName("redis"), ClusterPubSub::Sharded, Clock::start());
        let reason = |now| status.check(now).expect_err("not ready");
        assert_eq!(reason(at(1)), "redis: connecting");
        status.set_problem("nobody answers", at(2));
        assert_eq!((reason(at(3)), status.since(at(3))), ("redis: nobody answers".to_owned(), Some(at(2))));
        let mut map = SlotMap::default();
        assert!(map.assign(0, node(1)) && map.assign(1, node(2)));
        status.set_map(&map);
        make_ready(&status.shard(&node(1)), at(4));
        assert!(reason(at(4)).ends_with("connecting (shard h:2)"), "{}", reason(at(4)));
        status.shard(&node(2)).reader().on_failure("refused", at(5));
        assert_eq!(status.check(at(5)), Ok(()), "one is tried, and is away");
        let degraded = status.degraded(at(5));
        assert!(degraded.len() == 1 && degraded[0].starts_with("the shard at h:2 (slots 1) is away: "), "{degraded:?}");
        assert!(degraded[0].ends_with("refused"), "{degraded:?}");
        make_ready(&status.shard(&node(2)), at(6));
        assert_eq!((status.check(at(6)), status.degraded(at(6))), (Ok(()), Vec::new()));
        [1, 2].into_iter().for_each(|port| status.shard(&node(port)).reader().on_failure("gone", at(7)));
        let all = reason(at(8));
        assert!(all.contains("shard h:1: ") && all.contains("; shard h:2: "), "{all}");
    }

    #[test]
    fn where_one_reads_for_all_shards_it_has_to_read() {
        let status = ClusterStatus::new(SourceName("redis"), ClusterPubSub::Classic, Clock::start());
        let mut map = SlotMap::default();
        assert!(map.assign(0, node(1)) && map.assign(1, node(2)));
        status.set_map(&map);
        for port in [1, 2] {
            let shard = status.shard(&node(port));
            shard.writer().on_connected(at(1));
            shard.writer().on_answer(at(1));
        }
        let reason = |now| status.check(now).expect_err("not ready");
        assert!(reason(at(2)).contains("redis reader: not connected"), "{}", reason(at(2)));
        make_ready(&status.common(), at(3));
        assert_eq!((status.check(at(3)), status.degraded(at(3))), (Ok(()), Vec::new()));
        status.shard(&node(2)).writer().on_failure("refused", at(4));
        let degraded = status.degraded(at(4));
        assert!(degraded.len() == 1 && degraded[0].contains("h:2 (slots 1)"), "{degraded:?}");
        assert_eq!(status.check(at(4)), Ok(()));
        status.common().reader().on_failure("gone", at(5));
        assert!(reason(at(5)).ends_with("gone"));
    }

    #[test]
    fn a_master_that_serves_no_more_is_forgotten_and_its_counts_are_not() {
        let status = ClusterStatus::new(SourceName("redis"), ClusterPubSub::Sharded, Clock::start());
        let mut map = SlotMap::default();
        let known = || status.state().shards.len();
        for port in 1..=100 {
            assert!(map.assign(0, node(port)));
            status.set_map(&map);
            let thread = status.shard(&node(port));
            thread.on_events(1, at(u64::from(port)));
            thread.on_loss();
            thread.reader().on_connected(at(1));
            thread.reader().on_failure("gone", at(2));
        }
        assert_eq!(known(), 1);
        assert_eq!((status.received_total(), status.losses_total(), status.reconnects_total()), (100, 100, 100));
        let thread = status.shard(&node(100));
        assert!(map.assign(0, node(1)));
        status.set_map(&map);
        // Its thread still ends.
        thread.on_events(1, at(200));
        assert_eq!((known(), status.received_total(), status.last_event()), (2, 101, Some(at(200))));
        drop(thread);
        status.set_map(&map);
        assert_eq!((known(), status.received_total(), status.last_event()), (1, 101, Some(at(200))));
    }

    #[test]
    fn a_master_without_slots_counts_and_is_not_missed() {
        let status = ClusterStatus::new(SourceName("redis"), ClusterPubSub::Sharded, Clock::start());
        let mut map = SlotMap::default();
        assert!(map.assign(0, node(1)));
        status.set_map(&map);
        status.shard(&node(1)).on_events(3, at(1));
        status.shard(&node(1)).reader().on_failure("killed", at(2));
        assert!(map.assign(0, node(2)));
        status.set_map(&map);
        make_ready(&status.shard(&node(2)), at(3));
        status.shard(&node(2)).on_events(4, at(3));
        assert_eq!((status.check(at(3)), status.degraded(at(3))), (Ok(()), Vec::new()));
        assert_eq!((status.received_total(), status.last_event()), (7, Some(at(3))));
        status.set_unplaced(2);
        assert_eq!(status.degraded(at(3)), ["topics in slots that no node has: 2"]);
    }
}
