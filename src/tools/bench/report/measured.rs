//! Builds a report from the measurements of a run.

use hdrhistogram::Histogram;

use super::{
    ChurnReport, ClientReport, LoginReport, MachineReport, Percentiles, ProcessReport, Report, ServerReport,
    StormReport, TopicReport,
};
use crate::bench::{
    churn::Visits,
    conductor::{Outcome, Record},
    fleet::FleetResult,
    histogram::latency_histogram,
    logins::Attempts,
    plan::Plan,
    run::LoadRun,
    secrets::command_line,
    slices::curve,
    window::Edge,
};

impl Report {
    pub(in crate::bench) fn new(plan: &Plan, record: &Record) -> Self {
        let mut report = Self {
            started_unix_s: record.started.as_secs(),
            command: command_line(std::env::args()),
            window_s: window_s(record),
            window_deliveries: window_deliveries(record),
            topics: record.outcomes.iter().map(|outcome| TopicReport::new(plan, outcome)).collect(),
            server: ServerReport::new(plan, record),
            client: ClientReport::new(plan, record),
            machine: MachineReport::new(plan, record),
            churn: record.visits.as_ref().map(|visits| ChurnReport::new(plan, visits)),
            logins: plan
                .sign_in
                .as_ref()
                .zip(record.attempts.as_ref())
                .map(|(plan, it)| LoginReport::new(plan.rate, it)),
            storm: StormReport::new(plan, record),
            void: Vec::new(),
            deliveries: first_deliveries(record),
        };
        report.void = report.doubts(record);
        report
    }
}

impl TopicReport {
    fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let Outcome { run: LoadRun { load, progress, .. }, result: FleetResult { tally, opening, .. }, .. } = outcome;
        let published = outcome.published.as_ref();
        let (events, read) = (tally.per_event(), tally.read());
        Self {
            topic: load.topic.to_string(),
            transport: load.transport,
            subscribers: load.subscribers,
            rate_hz: load.pace.rate,
            size_bytes: plan.size_bytes,
            events: tally.event_count(),
            published: published.map_or(0, |published| published.sent),
            deliveries: read.len(),
            faults: tally.faults,
            closed: progress.closed.now(),
            first_failure: progress.first_failure(),
            read: Percentiles::of(&read),
            kernel: Percentiles::of(&tally.kernel),
            event_first: Percentiles::of(&events.first),
            event_median: Percentiles::of(&events.median),
            event_last: Percentiles::of(&events.last),
            event_last_kernel: Percentiles::of(&events.last_kernel),
            events_incomplete: events.incomplete,
            lateness: published.map_or_else(Percentiles::default, |published| Percentiles::of(&published.lateness)),
            refused: published.map_or(0, |published| published.refused),
            unanswered: published.map_or(0, |published| published.sent.saturating_sub(published.answered)),
            first_refusal: published.and_then(|published| published.first_refusal.clone()),
            publisher_failure: published.and_then(|published| published.failure.clone()),
            opening: Percentiles::of(opening),
            curve: curve(&read),
            slices: tally.slices(),
        }
    }
}

impl ServerReport {
    fn new(plan: &Plan, record: &Record) -> Option<Self> {
        let [start, end] = &record.window;
        let used = end.server?.since(&start.server?);
        let [before, open, after] = record.memory.map(|edge| edge.server.unwrap_or_default());
        let window_ns = window_s(record) * 1e9;
        let connections = connection_count(plan);
        Some(Self {
            cpu_us_per_delivery: per_delivery_us(used.run_ns, record),
            cpu_us_per_connection_s: used.run_ns as f64 / 1e3 / connections / window_s(record),
            cpu_share: used.run_ns as f64 / window_ns,
            wait_share: used.wait_ns as f64 / window_ns,
            threads: used.thread_count,
            voluntary_switches: used.voluntary_switches,
            involuntary_switches: used.involuntary_switches,
            memory_before: before,
            memory_open: open,
            memory_after: after,
            pss_bytes_per_connection: growth(before.pss_bytes, open.pss_bytes) as f64 / connections,
            pss_growth_bytes: growth(open.pss_bytes, after.pss_bytes),
        })
    }
}

impl ClientReport {
    fn new(plan: &Plan, record: &Record) -> Self {
        let [start, end] = &record.window;
        let used = end.client.since(&start.client);
        let window_ns = window_s(record) * 1e9;
        let fleets_ns: Vec<u64> =
            end.fleets_ns.iter().zip(&start.fleets_ns).map(|(end, start)| end.saturating_sub(*start)).collect();
        Self {
            cpu_share: used.run_ns as f64 / window_ns,
            processes: ProcessReport::all(plan, record),
            fleet_cpu_shares: fleets_ns.iter().map(|&fleet_ns| fleet_ns as f64 / window_ns).collect(),
            fleet_cpu_us_per_delivery: per_delivery_us(fleets_ns.iter().sum(), record),
            involuntary_switches: used.involuntary_switches,
            clock_drift_us: record.drift.map(|drift| drift.as_secs_f64() * 1e6),
        }
    }
}

impl ProcessReport {
    fn all(plan: &Plan, record: &Record) -> Vec<Self> {
        if record.workers.is_empty() {
            return Vec::new();
        }
        let [start, end] = &record.window;
        let used = end.processes.iter().zip(&start.processes).map(|(end, start)| end.since(start).run_ns);
        let shares: Vec<f64> = used.map(|used_ns| used_ns as f64 / (window_s(record) * 1e9)).collect();
        let own = Self {
            name: "the publisher's process".to_owned(),
            pid: std::process::id(),
            core: plan.own_core(),
            subscribers: 0,
            deliveries: 0,
            cpu_share: shares[0],
            death: None,
        };
        let workers = record.workers.iter().zip(&shares[1..]).zip(1..).map(|((stats, &cpu_share), number)| Self {
            name: format!("process {number} of {}", record.workers.len()),
            pid: stats.pid,
            core: stats.core,
            subscribers: stats.subscribers,
            deliveries: stats.deliveries,
            cpu_share,
            death: stats.death.clone(),
        });
        std::iter::once(own).chain(workers).collect()
    }
}

impl MachineReport {
    fn new(plan: &Plan, record: &Record) -> Self {
        let [start, end] = &record.window;
        let shares = end.cores.iter().zip(&start.cores).map(|(end, start)| end.shares_since(start));
        let (core_busy_shares, core_steal_shares): (Vec<f64>, Vec<f64>) = shares.unzip();
        let [kernel_before, kernel_open, kernel_after] = record.memory.map(|edge| edge.kernel);
        let slab_growth = growth(kernel_before.slab_bytes, kernel_open.slab_bytes);
        Self {
            strangers_share: strangers_share(&record.window),
            core_busy_shares,
            core_steal_shares,
            kernel_before,
            kernel_open,
            kernel_after,
            slab_bytes_per_connection: slab_growth as f64 / connection_count(plan),
        }
    }
}

impl ChurnReport {
    fn new(plan: &Plan, visits: &Visits) -> Self {
        Self {
            rate_hz: plan.churn.rate,
            began: visits.began,
            opening: Percentiles::of(&visits.opening),
            failed: visits.failed,
            first_failure: visits.first_failure.clone(),
        }
    }
}

impl LoginReport {
    fn new(rate_hz: f64, attempts: &Attempts) -> Self {
        Self {
            rate_hz,
            began: attempts.began,
            accepted: attempts.accepted,
            refused: attempts.refused,
            turned_away: attempts.turned_away,
            failed: attempts.failed,
            first_failure: attempts.first_failure.clone(),
            answering: Percentiles::of(&attempts.answering),
        }
    }
}

impl StormReport {
    fn new(plan: &Plan, record: &Record) -> Option<Self> {
        let storm = record.storm.as_ref()?;
        let Outcome { run, result, .. } = record.outcomes.first()?;
        let reconnect = result.reconnect.as_ref()?;
        let [before, after] = &storm.window;
        let span = reconnect.ended.since(reconnect.began);
        let count = reconnect.caught_up.len();
        let server_ns = after.server.zip(before.server).map(|(after, before)| after.since(&before).run_ns);
        let share = |used_ns: u64| used_ns as f64 / span.as_nanos().max(1) as f64;
        Some(Self {
            cut: run.load.subscribers - 1,
            missed_events: plan.storm?,
            caught_up: count,
            span_ms: span.as_secs_f64() * 1e3,
            connecting_ms: reconnect.last_began.since(reconnect.began).as_secs_f64() * 1e3,
            catching_up: Percentiles::of(&reconnect.caught_up),
            opening: Percentiles::of(&reconnect.opening),
            server_cpu_us_per_return: server_ns.map(|used_ns| used_ns as f64 / 1e3 / count.max(1) as f64),
            server_cpu_share: server_ns.map(share),
            strangers_share: strangers_share(&storm.window),
            client_cpu_share: share(after.client.since(&before.client).run_ns),
            listen_overflows: storm.listen_overflows,
        })
    }
}

fn strangers_share([start, end]: &[Edge; 2]) -> Option<f64> {
    let busy_share: f64 = end.cores.iter().zip(&start.cores).map(|(end, start)| end.shares_since(start).0).sum();
    let server_ns = end.server?.since(&start.server?).run_ns;
    let own_ns = server_ns + end.client.since(&start.client).run_ns + end.beside_ns.saturating_sub(start.beside_ns);
    Some((busy_share - own_ns as f64 / end.at.since(start.at).as_nanos() as f64).max(0.0))
}

fn window_s(record: &Record) -> f64 {
    let [start, end] = &record.window;
    end.at.since(start.at).as_secs_f64()
}

fn connection_count(plan: &Plan) -> f64 {
    let subscribers: u32 = plan.loads.iter().map(|load| load.subscribers).sum();
    f64::from((subscribers + plan.stalled).max(1))
}

fn window_deliveries(record: &Record) -> u64 {
    let [start, end] = &record.window;
    end.delivery_sum() - start.delivery_sum()
}

/// `None` if nothing was delivered in the window.
fn per_delivery_us(used_ns: u64, record: &Record) -> Option<f64> {
    let deliveries = window_deliveries(record);
    (0 < deliveries).then(|| used_ns as f64 / 1e3 / deliveries as f64)
}

fn growth(before: u64, after: u64) -> i64 {
    after as i64 - before as i64
}

fn first_deliveries(record: &Record) -> Histogram<u64> {
    record.outcomes.first().map_or_else(latency_histogram, |outcome| outcome.result.tally.read())
}
