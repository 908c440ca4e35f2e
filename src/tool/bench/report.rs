//! What a run found, as JSON and as text.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{
    churn::Visits,
    conductor::{Outcome, Record, Voice},
    fleet::Harvest,
    logins::Attempts,
    options::Transport,
    order::Faults,
    plan::Plan,
    process::{KernelMemory, MemoryUse},
    secrets::command_line,
    slices::{Point, Slice, curve},
    tally::latency_histogram,
    window::Edge,
};

/// How doubts begin that say that the client was the bottleneck.
const CLIENT_SATURATED: &str = "client saturated";
/// And those that say that one of its processes died.
const CLIENT_DIED: &str = "the client lost a process";

/// Beyond these a run says more about the client or the machine than about the server.
const CLIENT_SHARE_MAX: f64 = 0.9;
const LATENESS_SHARE_MAX: f64 = 0.1;
/// Waking a sleeping thread takes so long on a virtual machine: in microseconds.
const LATENESS_US_TOLERATED: f64 = 200.0;
const STRANGERS_SHARE_MAX: f64 = 0.05;
/// A storm lasts some hundred milliseconds, and the kernel counts a core's time in ticks of ten.
const STORM_STRANGERS_SHARE_MAX: f64 = 0.2;
const STEAL_SHARE_MAX: f64 = 0.005;
const DRIFT_MAX: Duration = Duration::from_micros(100);

/// A run's report.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Report {
    pub started_unix_s: u64,
    pub command: Vec<String>,
    pub window_s: f64,
    /// Deliveries within it, of whatever event, over all topics.
    #[serde(default)]
    pub window_deliveries: u64,
    pub topics: Vec<TopicReport>,
    pub server: Option<ServerReport>,
    pub client: ClientReport,
    pub machine: MachineReport,
    pub churn: Option<ChurnReport>,
    pub logins: Option<LoginReport>,
    pub storm: Option<StormReport>,
    /// Why the figures should not be believed; empty if they may.
    pub void: Vec<String>,
    #[serde(skip, default = "latency_histogram")]
    deliveries: Histogram<u64>,
}

/// One topic's figures. Latencies count from the moment an event was due.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct TopicReport {
    pub topic: String,
    pub transport: Transport,
    pub subscribers: u32,
    pub rate_hz: f64,
    pub size_bytes: usize,
    /// Measured events.
    pub events: u32,
    /// Everything published: the probes, the warm-up's events and the measured.
    pub published: u64,
    /// Deliveries of measured events.
    pub deliveries: u64,
    pub faults: Faults,
    /// Connections that ended early, and why the first did.
    pub closed: u32,
    pub first_failure: Option<String>,
    /// Per delivery: until the client's read returned, and until the client's kernel had it.
    pub read: Percentiles,
    pub kernel: Percentiles,
    /// Per event: until the first, the middle and the last of its subscribers had it.
    pub event_first: Percentiles,
    pub event_median: Percentiles,
    pub event_last: Percentiles,
    pub event_last_kernel: Percentiles,
    pub events_incomplete: u32,
    /// How late the publisher was.
    pub lateness: Percentiles,
    pub refused: u64,
    /// Events that the server had not answered in the end.
    #[serde(default)]
    pub unanswered: u64,
    /// What the server said of the first event it refused.
    #[serde(default)]
    pub first_refusal: Option<String>,
    pub publisher_failure: Option<String>,
    /// From connecting to the answer.
    pub opening: Percentiles,
    /// The whole distribution of `read`, and how it went over the window.
    #[serde(default)]
    pub curve: Vec<Point>,
    #[serde(default)]
    pub slices: Vec<Slice>,
}

/// A distribution, in microseconds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(super) struct Percentiles {
    pub count: u64,
    #[serde(default)]
    pub min: f64,
    #[serde(default)]
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// What the server used.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ServerReport {
    /// Processor time in the window, per delivery in it.
    pub cpu_us_per_delivery: Option<f64>,
    /// Processor time per connection and second.
    pub cpu_us_per_connection_s: f64,
    /// Of one core.
    pub cpu_share: f64,
    /// Time it was ready but had no core, as a share of the window.
    pub wait_share: f64,
    pub threads: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub memory_before: MemoryUse,
    pub memory_open: MemoryUse,
    pub memory_after: MemoryUse,
    /// Growth of its PSS while the connections were opened, per connection.
    pub pss_bytes_per_connection: f64,
    /// Growth of its PSS from then to the end of the window.
    pub pss_growth_bytes: i64,
}

/// What the instrument used.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ClientReport {
    /// Of one core, all threads of all processes together.
    pub cpu_share: f64,
    /// This process, which publishes, and then those that have the subscribers; empty if it is one that does both.
    #[serde(default)]
    pub processes: Vec<ProcessReport>,
    /// Of one core, the subscribers' threads.
    pub fleet_cpu_shares: Vec<f64>,
    pub fleet_cpu_us_per_delivery: Option<f64>,
    pub involuntary_switches: u64,
    /// How far the wall clock moved against the monotonic one, in microseconds.
    pub clock_drift_us: Option<f64>,
}

/// One of several processes of the instrument.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ProcessReport {
    pub name: String,
    pub pid: u32,
    /// Where it was pinned.
    pub core: Option<usize>,
    pub subscribers: u32,
    /// To its subscribers, the warm-up's too.
    pub deliveries: u64,
    /// Of one core.
    pub cpu_share: f64,
    /// Why it ended early: what it was to see is in no figure then.
    pub death: Option<String>,
}

/// What the subscribers found that came and went.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ChurnReport {
    pub rate_hz: f64,
    /// Visits begun, and from connecting to the answer of those that were let in.
    pub began: u64,
    pub opening: Percentiles,
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// What became of those who signed in.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct LoginReport {
    pub rate_hz: f64,
    pub began: u64,
    /// Signed in; refused for a wrong name or password; sent away as there were too many.
    pub accepted: u64,
    pub refused: u64,
    pub turned_away: u64,
    /// Not answered, or otherwise.
    pub failed: u64,
    pub first_failure: Option<String>,
    /// From connecting to the answer of the accepted and the refused.
    pub answering: Percentiles,
}

/// How those came back who were cut at once.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct StormReport {
    /// How many were cut, and how many events each of them missed.
    pub cut: u32,
    pub missed_events: u32,
    /// How many came back and got all of these.
    pub caught_up: u64,
    /// From the first one's connecting until the last one had got them, and until the last one began to connect.
    pub span_ms: f64,
    pub connecting_ms: f64,
    /// From the first one's connecting until each of them had caught up.
    pub catching_up: Percentiles,
    /// From its own connecting to the answer.
    pub opening: Percentiles,
    /// Processor time of the server for each of them.
    pub server_cpu_us_per_return: Option<f64>,
    /// Of one core, over the span. Near 1: the one that the others waited for.
    pub server_cpu_share: Option<f64>,
    pub client_cpu_share: f64,
    pub strangers_share: Option<f64>,
    /// Connections that found the listener's queue full.
    pub listen_overflows: u64,
}

/// What else there was to see.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct MachineReport {
    pub core_busy_shares: Vec<f64>,
    pub core_steal_shares: Vec<f64>,
    /// Of one core, what processes used that do not belong to the run; known only with the server's process.
    pub strangers_share: Option<f64>,
    pub kernel_before: KernelMemory,
    pub kernel_open: KernelMemory,
    pub kernel_after: KernelMemory,
    /// Growth of the kernel's own objects while the connections were opened, both ends of each together.
    pub slab_bytes_per_connection: f64,
}

impl Report {
    /// Draws up the report of a run.
    pub(super) fn new(plan: &Plan, record: &Record) -> Self {
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

    /// Whether every event reached every subscriber, once and in order.
    pub(super) fn is_complete(&self) -> bool {
        self.topics.iter().all(TopicReport::is_complete)
            && self.client.processes.iter().all(|process| process.death.is_none())
            && self.churn.as_ref().is_none_or(|churn| churn.failed == 0)
            && self.logins.as_ref().is_none_or(|logins| logins.failed == 0)
            && self.storm.as_ref().is_none_or(StormReport::is_complete)
    }

    /// The distribution of the first topic's deliveries, in microseconds, in the text form of HdrHistogram's tools.
    pub(super) fn hgrm(&self) -> String {
        hgrm(&self.deliveries)
    }

    fn doubts(&self, record: &Record) -> Vec<String> {
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

impl TopicReport {
    fn new(plan: &Plan, outcome: &Outcome) -> Self {
        let Outcome { voice: Voice { load, progress, .. }, harvest: Harvest { tally, opening, .. }, .. } = outcome;
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

    fn is_complete(&self) -> bool {
        self.faults.is_none() && self.closed == 0 && self.refused == 0 && self.publisher_failure.is_none()
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

impl ClientReport {
    /// Each process has a core at most, so the busiest is asked, not their sum.
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

impl ProcessReport {
    fn all(plan: &Plan, record: &Record) -> Vec<Self> {
        if record.crew.is_empty() {
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
        let members = record.crew.iter().zip(&shares[1..]).zip(1..).map(|((portrait, &cpu_share), number)| Self {
            name: format!("process {number} of {}", record.crew.len()),
            pid: portrait.pid,
            core: portrait.core,
            subscribers: portrait.subscribers,
            deliveries: portrait.deliveries,
            cpu_share,
            death: portrait.death.clone(),
        });
        std::iter::once(own).chain(members).collect()
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
        let Outcome { voice, harvest, .. } = record.outcomes.first()?;
        let homecoming = harvest.homecoming.as_ref()?;
        let [before, after] = &storm.window;
        let span = homecoming.ended.since(homecoming.began);
        let count = homecoming.caught_up.len();
        let server_ns = after.server.zip(before.server).map(|(after, before)| after.since(&before).run_ns);
        let share = |used_ns: u64| used_ns as f64 / span.as_nanos().max(1) as f64;
        Some(Self {
            cut: voice.load.subscribers - 1,
            missed_events: plan.storm?,
            caught_up: count,
            span_ms: span.as_secs_f64() * 1e3,
            connecting_ms: homecoming.last_began.since(homecoming.began).as_secs_f64() * 1e3,
            catching_up: Percentiles::of(&homecoming.caught_up),
            opening: Percentiles::of(&homecoming.opening),
            server_cpu_us_per_return: server_ns.map(|used_ns| used_ns as f64 / 1e3 / count.max(1) as f64),
            server_cpu_share: server_ns.map(share),
            strangers_share: strangers_share(&storm.window),
            client_cpu_share: share(after.client.since(&before.client).run_ns),
            listen_overflows: storm.listen_overflows,
        })
    }

    fn is_complete(&self) -> bool {
        self.caught_up == u64::from(self.cut)
    }
}

impl Percentiles {
    pub(super) fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| microseconds(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            min: microseconds(histogram.min()),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: microseconds(histogram.max()),
        }
    }
}

/// Whether this doubt says that the client was the bottleneck.
pub(super) fn is_of_client(doubt: &str) -> bool {
    doubt.starts_with(CLIENT_SATURATED) || doubt.starts_with(CLIENT_DIED)
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

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

fn first_deliveries(record: &Record) -> Histogram<u64> {
    record.outcomes.first().map_or_else(latency_histogram, |outcome| outcome.harvest.tally.read())
}

/// A distribution, in microseconds, in the text form of HdrHistogram's tools.
pub(super) fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = "       Value     Percentile TotalCount 1/(1-Percentile)\n\n".to_owned();
    let mut below = 0;
    for step in histogram.iter_quantiles(5) {
        below += step.count_since_last_iteration();
        let share = step.quantile_iterated_to();
        let value = microseconds(step.value_iterated_to());
        text += &match share < 1.0 {
            true => format!("{value:12.3} {share:2.12} {below:10} {:14.2}\n", 1.0 / (1.0 - share)),
            false => format!("{value:12.3} {share:2.12} {below:10}\n"),
        };
    }
    let (mean, deviation) = (histogram.mean() / 1e3, histogram.stdev() / 1e3);
    text += &format!("#[Mean    = {mean:12.3}, StdDeviation   = {deviation:12.3}]\n");
    text += &format!("#[Max     = {:12.3}, Total count    = {:12}]\n", microseconds(histogram.max()), histogram.len());
    text
}
