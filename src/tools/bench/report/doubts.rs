//! Reasons why the figures of a run should not be trusted.

use std::time::Duration;

use super::{ClientReport, Report};
use crate::bench::conductor::Record;

/// The beginning of doubts that say that the client was the bottleneck.
const CLIENT_SATURATED: &str = "client saturated";
/// The beginning of doubts that say that a worker died.
const CLIENT_DIED: &str = "the client lost a process";

/// Beyond these limits a run measures the client or the machine rather than the server.
const CLIENT_SHARE_MAX: f64 = 0.9;
const LATENESS_SHARE_MAX: f64 = 0.1;
/// The time to wake a sleeping thread on a virtual machine, in microseconds.
const LATENESS_US_TOLERATED: f64 = 200.0;
const STRANGERS_SHARE_MAX: f64 = 0.05;
/// A storm lasts some hundred milliseconds, and the kernel counts a core's time in ticks of ten.
const STORM_STRANGERS_SHARE_MAX: f64 = 0.2;
const STEAL_SHARE_MAX: f64 = 0.005;
const DRIFT_MAX: Duration = Duration::from_micros(100);

impl Report {
    /// All doubts about the run.
    pub(super) fn doubts(&self, record: &Record) -> Vec<String> {
        let mut doubts = Vec::new();
        if record.is_interrupted {
            doubts.push(format!("interrupted after {:.1} s", self.window_s));
        }
        doubts.extend(self.client.doubts());
        for topic in &self.topics {
            let (late, p99) = (topic.lateness.p99, topic.read.p99);
            if LATENESS_US_TOLERATED.max(LATENESS_SHARE_MAX * p99) < late {
                doubts.push(format!("{CLIENT_SATURATED}: {}: lateness p99 {late:.0} µs of {p99:.0} µs", topic.topic));
            }
        }
        if self.machine.strangers_share.is_some_and(|share| STRANGERS_SHARE_MAX < share) {
            doubts.push("other processes used more than 5 % of a core".to_owned());
        }
        let storm_strangers = self.storm.as_ref().and_then(|storm| storm.strangers_share);
        if storm_strangers.is_some_and(|share| STORM_STRANGERS_SHARE_MAX < share) {
            doubts.push("other processes used more than 20 % of a core in the storm".to_owned());
        }
        if self.machine.core_steal_shares.iter().any(|&share| STEAL_SHARE_MAX < share) {
            doubts.push("the hypervisor took more than 0.5 % of a core".to_owned());
        }
        if record.drift.is_some_and(|drift| DRIFT_MAX < drift) {
            doubts.push("the wall clock was set: kernel figures are off".to_owned());
        }
        doubts
    }
}

impl ClientReport {
    /// Each process has one core at most, so the busiest one counts, not their sum.
    fn doubts(&self) -> Vec<String> {
        let of_all = ("it", self.cpu_share);
        let of_each = self.processes.iter().map(|process| (&*process.name, process.cpu_share));
        let shares = if self.processes.is_empty() { vec![of_all] } else { of_each.collect() };
        let busiest = shares.into_iter().max_by(|one, other| one.1.total_cmp(&other.1));
        let busiest = busiest.filter(|(_, share)| CLIENT_SHARE_MAX < *share);
        let deaths = self.processes.iter().filter_map(|process| process.death.as_ref());
        let deaths = deaths.map(|death| format!("{CLIENT_DIED}, its subscribers are in no figure: {death}"));
        let saturated =
            busiest.map(|(name, share)| format!("{CLIENT_SATURATED}: {name} used {:.0} % of a core", share * 100.0));
        deaths.chain(saturated).collect()
    }
}

/// Whether this doubt says that the client was the bottleneck.
pub(in crate::bench) fn is_of_client(doubt: &str) -> bool {
    doubt.starts_with(CLIENT_SATURATED) || doubt.starts_with(CLIENT_DIED)
}
