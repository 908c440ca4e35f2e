//! `--ladder`: finds the rate at which a server's latency begins to rise, its *knee*, by whole runs at rising rates. Each
//! run has connections of its own, so that an overloaded step leaves no backlog behind.

#[cfg(test)]
mod tests;
mod text;

use serde::{Deserialize, Serialize};

use super::{
    conductor::conduct,
    plan::{LadderRules, Plan},
    report::{Report, is_of_client},
    secrets::command_line,
    watch::Watch,
};

/// A step is beyond the knee if its p99 is more than this many times the first step's.
pub(super) const P99_GROWTH_MAX: f64 = 2.0;

/// Shares of the knee at which the latency is measured as well, by steps at the end.
const SHARES: [f64; 2] = [0.5, 0.8];

/// The results of a ladder.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Climb {
    pub started_unix_s: u64,
    pub command: Vec<String>,
    pub rules: LadderRules,
    pub ending: Ending,
    /// The last good step's rate. The knee lies at it or, as [`Ending`] says, above it; `None` if no step was good.
    pub knee_hz: Option<f64>,
    /// Why the figures, or the knee, should not be trusted; empty if they may.
    pub void: Vec<String>,
    /// In the order of measurement, failed attempts included.
    pub steps: Vec<Step>,
    /// At half of the knee and at four fifths of it.
    pub below: Vec<Step>,
}

/// Why the ladder ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ending {
    /// A step failed twice because of the server: the last good one before it is the knee.
    Knee,
    /// The client was the bottleneck: the knee is the last good rate or more.
    ClientLimit,
    /// All steps that the rules allow were good: the knee is the last rate or more.
    Top,
    /// The user interrupted it.
    Interrupted,
}

/// One run of a ladder.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Step {
    #[serde(flatten)]
    pub figures: Figures,
    pub verdict: Verdict,
    /// Whether it is the second attempt at this rate.
    pub is_repeat: bool,
    /// `None` if the run could not be performed.
    pub report: Option<Report>,
}

/// The figures that decide about a step; latencies are those of the first topic's deliveries, in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Figures {
    pub rate_hz: f64,
    /// Within the measured span, over all topics.
    pub deliveries_per_s: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
    pub lost: u64,
    /// Whether every event reached every subscriber, once and in order.
    pub is_complete: bool,
    /// CPU share of one core, if the server's process is known.
    pub server_cpu_share: Option<f64>,
    /// Signs that the client was the bottleneck.
    pub client_limit: Option<String>,
    /// Other disturbances of the run.
    pub disturbances: Vec<String>,
    /// Why the run could not be performed.
    pub failure: Option<String>,
    pub is_interrupted: bool,
}

/// The verdict on a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Good,
    /// Its p99 is more than [`P99_GROWTH_MAX`] times the first step's.
    Slow,
    /// Not every event arrived once and in order.
    Incomplete,
    /// The client was the bottleneck, or lost a process.
    ClientLimit,
    /// The run could not be performed.
    Failed,
    Interrupted,
}

/// The outcome of a run.
#[derive(Debug)]
pub(super) struct Measured {
    pub figures: Figures,
    pub report: Option<Report>,
}

/// Runs the ladder of `plan` and `rules`. Fails if the first run cannot be performed.
pub(super) fn run(plan: &Plan, rules: LadderRules, watch: &Watch) -> Result<Climb, String> {
    watch.report(&text::head());
    climb(
        rules,
        |rate_hz| {
            watch.name_stage(&format!("{} ev/s: ", round(rate_hz)));
            match conduct(&plan.at_rate(rate_hz), watch) {
                Ok(record) => Ok(Some(Measured::new(rate_hz, watch, Report::new(&plan.at_rate(rate_hz), &record)))),
                Err(_) if watch.is_interrupted() => Ok(None),
                Err(problem) => Err(problem),
            }
        },
        |step| watch.report(&text::row(step)),
    )
}

/// Climbs with runs that `measure` makes at the rate it is given; it returns nothing if it was interrupted too early. Each
/// step is told to `on_event` when it is over.
fn climb(
    rules: LadderRules,
    mut measure: impl FnMut(f64) -> Result<Option<Measured>, String>,
    on_event: impl Fn(&Step),
) -> Result<Climb, String> {
    let mut climb = Climb::new(rules);
    let mut attempt = |rate_hz: f64, first: Option<f64>, is_repeat: bool, is_first: bool| {
        let measured = match measure(rate_hz) {
            Err(problem) if !is_first => Measured::failed(rate_hz, problem),
            Err(problem) => return Err(problem),
            Ok(None) => return Ok(None),
            Ok(Some(measured)) => measured,
        };
        let step = Step::new(measured, first, is_repeat);
        on_event(&step);
        Ok(Some(step))
    };
    for rate_hz in rules.rates() {
        for is_repeat in [false, true] {
            let Some(step) = attempt(rate_hz, climb.first_p99(), is_repeat, climb.steps.is_empty())? else {
                climb.ending = Ending::Interrupted;
                return Ok(climb.conclude());
            };
            climb.steps.push(step);
            if matches!(climb.last_verdict(), Verdict::Good | Verdict::Interrupted) {
                break;
            }
        }
        if let Some(ending) = climb.last_verdict().ending() {
            climb.ending = ending;
            break;
        }
    }
    let knee_hz = climb.knee().map(|step| step.figures.rate_hz).filter(|_| climb.ending != Ending::Interrupted);
    for rate_hz in knee_hz.iter().flat_map(|knee_hz| SHARES.map(|share| share * knee_hz)) {
        match attempt(rate_hz, climb.first_p99(), false, false)? {
            Some(step) if step.verdict != Verdict::Interrupted => climb.below.push(step),
            _ => break,
        }
    }
    Ok(climb.conclude())
}

impl LadderRules {
    fn rates(&self) -> impl Iterator<Item = f64> + use<> {
        let Self { first_hz, factor, steps_max, max_hz } = *self;
        let rates = (0..steps_max).map(move |step| first_hz * factor.powi(step as i32));
        rates.take_while(move |&rate_hz| max_hz.is_none_or(|max_hz| rate_hz <= max_hz))
    }
}

impl Climb {
    fn new(rules: LadderRules) -> Self {
        Self {
            started_unix_s: super::conductor::unix_now().as_secs(),
            command: command_line(std::env::args()),
            rules,
            ending: Ending::Top,
            knee_hz: None,
            void: Vec::new(),
            steps: Vec::new(),
            below: Vec::new(),
        }
    }

    /// The last good step.
    pub(super) fn knee(&self) -> Option<&Step> {
        self.steps.iter().rfind(|step| step.verdict == Verdict::Good)
    }

    /// Whether the knee lies at the last good step, not anywhere above it.
    pub(super) fn is_exact(&self) -> bool {
        self.ending == Ending::Knee
    }

    /// The p99 of the first good step, in microseconds, to which others are compared.
    pub(super) fn first_p99(&self) -> Option<f64> {
        self.steps.iter().find(|step| step.verdict == Verdict::Good).map(|step| step.figures.p99)
    }

    fn last_verdict(&self) -> Verdict {
        self.steps.last().map_or(Verdict::Good, |step| step.verdict)
    }

    fn conclude(mut self) -> Self {
        self.knee_hz = self.knee().map(|step| step.figures.rate_hz);
        let at_least = match self.knee_hz {
            Some(knee_hz) => format!("the knee is at least {} ev/s", round(knee_hz)),
            None => "no step was good".to_owned(),
        };
        match self.ending {
            Ending::Knee | Ending::Top => {}
            Ending::Interrupted => self.void.push(format!("interrupted: {at_least}")),
            Ending::ClientLimit => {
                let limit = self.steps.last().and_then(|step| step.figures.client_limit.clone()).unwrap_or_default();
                self.void.push(format!("the client is the limit, not the server: {at_least} ({limit})"));
            }
        }
        // Noise in the first step shifts the yardstick, in the last one the end; between them it can only do harm that a
        // repetition mends.
        let mut edges = vec![self.steps.first(), self.steps.last()];
        edges.dedup_by_key(|step| step.map(std::ptr::from_ref));
        for figures in edges.into_iter().flatten().map(|step| &step.figures) {
            let rate = round(figures.rate_hz);
            for what in figures.disturbances.iter().map(|what| format!("at {rate} ev/s: {what}")) {
                if !self.void.contains(&what) {
                    self.void.push(what);
                }
            }
        }
        self
    }

    /// The distribution at the knee, in the text form of HdrHistogram's tools, if there is a knee.
    pub(super) fn hgrm(&self) -> Option<String> {
        self.knee()?.report.as_ref().map(Report::hgrm)
    }
}

impl Step {
    fn new(measured: Measured, first_p99: Option<f64>, is_repeat: bool) -> Self {
        let Measured { figures, report } = measured;
        Self { verdict: judge(first_p99, &figures), figures, is_repeat, report }
    }
}

impl Measured {
    fn new(rate_hz: f64, watch: &Watch, report: Report) -> Self {
        let topic = &report.topics[0];
        let (client, disturbances) = report.void.iter().cloned().partition::<Vec<_>, _>(|reason| is_of_client(reason));
        let figures = Figures {
            rate_hz,
            deliveries_per_s: report.window_deliveries as f64 / report.window_s.max(f64::MIN_POSITIVE),
            p50: topic.read.p50,
            p99: topic.read.p99,
            p999: topic.read.p999,
            lost: report.topics.iter().map(|topic| topic.faults.lost).sum(),
            is_complete: report.is_complete(),
            server_cpu_share: report.server.as_ref().map(|server| server.cpu_share),
            client_limit: client.into_iter().next(),
            disturbances,
            failure: None,
            is_interrupted: watch.is_interrupted(),
        };
        Self { figures, report: Some(report) }
    }

    fn failed(rate_hz: f64, problem: String) -> Self {
        Self { figures: Figures { rate_hz, failure: Some(problem), ..Figures::default() }, report: None }
    }
}

/// What a step shows whose predecessor, if there is one, began with `first_p99`. What the client did to the run is asked
/// first: of a server behind a saturated client nothing is known.
fn judge(first_p99: Option<f64>, figures: &Figures) -> Verdict {
    if figures.is_interrupted {
        Verdict::Interrupted
    } else if figures.failure.is_some() {
        Verdict::Failed
    } else if figures.client_limit.is_some() {
        Verdict::ClientLimit
    } else if !figures.is_complete {
        Verdict::Incomplete
    } else if first_p99.is_some_and(|first| P99_GROWTH_MAX * first < figures.p99) {
        Verdict::Slow
    } else {
        Verdict::Good
    }
}

impl Verdict {
    /// What a climb ends with whose last step shows this; `None` if it goes on.
    fn ending(self) -> Option<Ending> {
        match self {
            Self::Good => None,
            Self::Slow | Self::Incomplete | Self::Failed => Some(Ending::Knee),
            Self::ClientLimit => Some(Ending::ClientLimit),
            Self::Interrupted => Some(Ending::Interrupted),
        }
    }
}

/// A rate as text: at least three digits, and no trailing zeros after the point.
pub(super) fn round(rate_hz: f64) -> String {
    let decimals = match rate_hz {
        ..10.0 => 2,
        10.0..1_000.0 => 1,
        _ => return format!("{rate_hz:.0}"),
    };
    format!("{rate_hz:.decimals$}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
