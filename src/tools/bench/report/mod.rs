//! The report of a run, as JSON and as text.

mod doubts;
mod measured;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub(super) use doubts::is_of_client;

use super::{
    histogram::latency_histogram,
    order::Faults,
    process::{KernelMemory, MemoryUse},
    slices::{Point, Slice},
    transport::Transport,
};

/// A run's report.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Report {
    pub started_unix_s: u64,
    pub command: Vec<String>,
    pub window_s: f64,
    /// Deliveries in the window, of any event, over all topics.
    #[serde(default)]
    pub window_deliveries: u64,
    pub topics: Vec<TopicReport>,
    pub server: Option<ServerReport>,
    pub client: ClientReport,
    pub machine: MachineReport,
    pub churn: Option<ChurnReport>,
    pub logins: Option<LoginReport>,
    pub storm: Option<StormReport>,
    /// Why the figures should not be trusted; empty if they may.
    pub void: Vec<String>,
    #[serde(skip, default = "latency_histogram")]
    deliveries: Histogram<u64>,
}

/// The figures of one topic. Latencies count from when an event was due.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct TopicReport {
    pub topic: String,
    pub transport: Transport,
    pub subscribers: u32,
    pub rate_hz: f64,
    pub size_bytes: usize,
    /// Measured events.
    pub events: u32,
    /// All published events: probes, warm-up and measured ones.
    pub published: u64,
    /// Deliveries of measured events.
    pub deliveries: u64,
    pub faults: Faults,
    /// Connections that ended early, and why the first did.
    pub closed: u32,
    pub first_failure: Option<String>,
    /// Latency per delivery: until the client's read returned, and until the client's kernel had the bytes.
    pub read: Percentiles,
    pub kernel: Percentiles,
    /// Latency per event: until the first, the median and the last of its subscribers had it.
    pub event_first: Percentiles,
    pub event_median: Percentiles,
    pub event_last: Percentiles,
    pub event_last_kernel: Percentiles,
    pub events_incomplete: u32,
    /// Lateness of the publisher.
    pub lateness: Percentiles,
    pub refused: u64,
    /// Events that the server had not answered at the end.
    #[serde(default)]
    pub unanswered: u64,
    /// The message of the server's first refusal.
    #[serde(default)]
    pub first_refusal: Option<String>,
    pub publisher_failure: Option<String>,
    /// From connecting to the response.
    pub opening: Percentiles,
    /// The distribution of `read`, and its course over the window.
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

/// Resources that the server used.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ServerReport {
    /// CPU time in the window per delivery.
    pub cpu_us_per_delivery: Option<f64>,
    /// CPU time per connection and second.
    pub cpu_us_per_connection_s: f64,
    /// Share of one core.
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

/// Resources that the client used.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ClientReport {
    /// Share of one core, of all threads of all processes together.
    pub cpu_share: f64,
    /// This process, which publishes, and then the workers with the subscribers; empty with one process.
    #[serde(default)]
    pub processes: Vec<ProcessReport>,
    /// Shares of one core, of the subscribers' threads.
    pub fleet_cpu_shares: Vec<f64>,
    pub fleet_cpu_us_per_delivery: Option<f64>,
    pub involuntary_switches: u64,
    /// Drift between the wall clock and the monotonic clock, in microseconds.
    pub clock_drift_us: Option<f64>,
}

/// One of several client processes.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ProcessReport {
    pub name: String,
    pub pid: u32,
    /// The core to which the process was pinned.
    pub core: Option<usize>,
    pub subscribers: u32,
    /// Deliveries to its subscribers, including the warm-up.
    pub deliveries: u64,
    /// Share of one core.
    pub cpu_share: f64,
    /// Why the process ended early: its subscribers are then missing in all figures.
    pub death: Option<String>,
}

/// Results of the short-lived subscribers.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct ChurnReport {
    pub rate_hz: f64,
    /// Connections begun, and the time from connecting to the granted request.
    pub began: u64,
    pub opening: Percentiles,
    pub failed: u64,
    pub first_failure: Option<String>,
}

/// Results of the sign-ins.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct LoginReport {
    pub rate_hz: f64,
    pub began: u64,
    /// Signed in; refused for a wrong name or password; refused by a limit.
    pub accepted: u64,
    pub refused: u64,
    pub turned_away: u64,
    /// Any other outcome.
    pub failed: u64,
    pub first_failure: Option<String>,
    /// From connecting to the response, of accepted and refused sign-ins.
    pub answering: Percentiles,
}

/// Results of a storm.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct StormReport {
    /// The number of disconnected subscribers, and of events that each missed.
    pub cut: u32,
    pub missed_events: u32,
    /// The number of subscribers that reconnected and caught up.
    pub caught_up: u64,
    /// From the first reconnection until the last subscriber had caught up, and until the last one began to connect.
    pub span_ms: f64,
    pub connecting_ms: f64,
    /// From the first reconnection until each subscriber had caught up.
    pub catching_up: Percentiles,
    /// From a subscriber's connecting to the response.
    pub opening: Percentiles,
    /// CPU time of the server per subscriber.
    pub server_cpu_us_per_return: Option<f64>,
    /// Share of one core during the reconnections. Near 1: the bottleneck.
    pub server_cpu_share: Option<f64>,
    pub client_cpu_share: f64,
    pub strangers_share: Option<f64>,
    /// Connections that found the listener's queue full.
    pub listen_overflows: u64,
}

/// Figures of the machine.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct MachineReport {
    pub core_busy_shares: Vec<f64>,
    pub core_steal_shares: Vec<f64>,
    /// Share of one core that processes outside the run used; known only with --server-pid.
    pub strangers_share: Option<f64>,
    pub kernel_before: KernelMemory,
    pub kernel_open: KernelMemory,
    pub kernel_after: KernelMemory,
    /// Growth of the kernel's own objects while the connections were opened, both ends of each together.
    pub slab_bytes_per_connection: f64,
}

impl Report {
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
}

impl TopicReport {
    fn is_complete(&self) -> bool {
        self.faults.is_none() && self.closed == 0 && self.refused == 0 && self.publisher_failure.is_none()
    }
}

impl StormReport {
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

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
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
