//! The report of a run, as text and as JSON. Pure.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    time::Duration,
};

use serde::Serialize;

use super::{
    faults::Faults,
    options::{Mode, Plan, PublishTarget},
    producer::{LATE_AFTER, Outcome},
    tally::{LatencyFigures, Tally},
};
use crate::client::{BusyTime, PoolCounts};

/// From this share of late tokens on, the producer was a bottleneck.
const LATE_SHARE: f64 = 0.01;
/// From this share of busy time on, the consumers' loop was one.
const BUSY_SHARE: f64 = 0.8;
/// A turn of the consumers' loop of this length delays what it measures.
const TURN_LONG: Duration = Duration::from_millis(100);

/// The results of a run.
#[derive(Debug)]
pub(super) struct Record<'r> {
    pub(super) plan: &'r Plan,
    pub(super) tally: &'r Tally,
    /// Counts and busy time of the streams, if there were any.
    pub(super) streams: Option<(PoolCounts, BusyTime)>,
    /// Results of the producer, if it ran.
    pub(super) outcome: Option<&'r Outcome>,
    pub(super) faults: &'r Faults,
    pub(super) notes: &'r [String],
    /// Publications to Redis channels without a subscriber.
    pub(super) unheard: u64,
    /// How long tokens were published and received.
    pub(super) measured: Duration,
    pub(super) is_interrupted: bool,
}

/// The report. Parts that the mode does not have are `None`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    mode: Mode,
    conversations: u32,
    tokens_per_conversation: u32,
    delay_ms: u64,
    measured_s: f64,
    published: Option<Published>,
    received: Option<Received>,
    connections: Option<Connections>,
    errors: u64,
    errors_by_kind: BTreeMap<&'static str, ErrorsOfKind>,
    latency: Option<LatencyFigures>,
    is_interrupted: bool,
    is_complete: bool,
    /// Warnings about the figures.
    notes: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
struct Published {
    /// `None` if it depends on speed alone: without pauses and with --repeat.
    tokens_planned: Option<u64>,
    /// Conversations whose last token was sent, with --repeat.
    conversations_completed: Option<u64>,
    /// Accepted by Redis or the hub.
    tokens_published: u64,
    /// Sent, and never answered.
    unanswered: u64,
    late: u64,
    lateness: Option<LatencyFigures>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Received {
    tokens_received: u64,
    tokens_lost: u64,
    duplicates: u64,
    out_of_order: u64,
    misdelivered: u64,
    foreign: u64,
    gaps: u64,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Connections {
    /// Including reconnections.
    opened: u64,
    /// Closed by the hub or the network; streams that were open at the end do not count.
    closed: u64,
    reconnects: u64,
    never_opened: u64,
}

#[derive(Clone, Debug, Serialize)]
struct ErrorsOfKind {
    count: u64,
    first: String,
}

/// The outcome that the exit code reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All published tokens arrived once and in order.
    Complete,
    /// Some did not, or none was published.
    Incomplete,
    /// A signal ended the run.
    Interrupted,
}

impl Report {
    pub(super) fn new(record: &Record<'_>) -> Self {
        let &Record { plan, tally, streams, outcome, faults, .. } = record;
        let counts = tally.counts;
        let errors_of_kind = |(first, count): (&str, u64)| ErrorsOfKind { count, first: first.to_owned() };
        let mut report = Self {
            mode: plan.mode,
            conversations: plan.conversations,
            tokens_per_conversation: plan.tokens,
            delay_ms: u64::try_from(plan.delay.as_millis()).unwrap_or(u64::MAX),
            measured_s: (record.measured.as_secs_f64() * 1e3).round() / 1e3,
            published: plan.mode.publishes().then(|| Published {
                tokens_planned: (!plan.repeats || !plan.delay.is_zero()).then(|| plan.token_sum()),
                conversations_completed: plan.repeats.then(|| plan.completed(outcome.map_or(0, |it| it.sent))),
                tokens_published: counts.published,
                unanswered: outcome.map_or(0, |outcome| outcome.unanswered),
                late: outcome.map_or(0, |outcome| outcome.late),
                lateness: outcome.and_then(|outcome| outcome.lateness.figures()),
            }),
            received: plan.mode.listens().then(|| Received {
                tokens_received: counts.received,
                tokens_lost: tally.lost(),
                duplicates: counts.duplicates,
                out_of_order: counts.out_of_order,
                misdelivered: counts.misdelivered,
                foreign: counts.foreign,
                gaps: counts.gaps,
            }),
            connections: streams.map(|(streams, _)| Connections {
                opened: streams.opened,
                closed: streams.closed,
                reconnects: streams.returns,
                never_opened: u64::from(plan.conversations) - tally.opened_once(),
            }),
            errors: faults.rows().map(|(_, count, _)| count).sum(),
            errors_by_kind: faults
                .rows()
                .map(|(it, count, first)| (it.name(), errors_of_kind((first, count))))
                .collect(),
            latency: tally.latency.figures(),
            is_interrupted: record.is_interrupted,
            is_complete: false,
            notes: [record.notes, &notes(record)].concat(),
        };
        report.is_complete = report.nothing_is_wrong() && !faults.rows().any(|(fault, ..)| fault.is_fatal());
        report
    }

    fn nothing_is_wrong(&self) -> bool {
        let is_published = self.published.as_ref().is_none_or(|it| 0 < it.tokens_published && it.unanswered == 0);
        let is_received = self.received.is_none_or(|it| {
            0 < it.tokens_received && [it.tokens_lost, it.duplicates, it.out_of_order, it.misdelivered] == [0; 4]
        });
        let is_open = self.connections.is_none_or(|it| it.never_opened == 0);
        is_published && is_received && is_open
    }

    /// The outcome that the exit code reports.
    pub(super) fn verdict(&self) -> Verdict {
        match (self.is_interrupted, self.is_complete) {
            (true, _) => Verdict::Interrupted,
            (false, true) => Verdict::Complete,
            (false, false) => Verdict::Incomplete,
        }
    }
}

/// Warnings about the figures.
fn notes(record: &Record<'_>) -> Vec<String> {
    let &Record { plan, tally, outcome, .. } = record;
    let late = outcome.filter(|it| LATE_SHARE <= share(it.late, it.sent)).map(|it| {
        let (late, p99) = (percent(share(it.late, it.sent)), it.lateness.figures().map_or(0.0, |it| it.p99_ms));
        format!(
            "this client was a bottleneck: {late} of the tokens were sent more than {} ms late (p99 {p99} ms). Their latency \
             includes that. Either this machine is too busy, or the server takes tokens too slowly.",
            LATE_AFTER.as_millis()
        )
    });
    let busy = record.streams.filter(|_| !record.measured.is_zero()).and_then(|(_, busy)| {
        let share = busy.sum.as_secs_f64() / record.measured.as_secs_f64();
        let longest_ms = busy.longest.as_millis();
        (BUSY_SHARE <= share || TURN_LONG <= busy.longest).then(|| {
            format!(
                "this client was a bottleneck: its loop was busy {} of the time, for {longest_ms} ms at once. Latency includes \
                 what it kept waiting.",
                percent(share.min(1.0))
            )
        })
    });
    let cut = outcome.filter(|it| it.sent < wanted(plan) && !record.is_interrupted).map(|it| {
        format!("{} of {} tokens were sent when --duration was over, or publishing failed.", it.sent, plan.token_sum())
    });
    let account = outcome.filter(|it| plan.repeats && plan.account_max() <= it.sent).map(|it| {
        format!(
            "publishing ended before --duration did: no account is kept of more than {} tokens. A longer --delay makes them last.",
            it.sent
        )
    });
    let unheard = (0 < record.unheard).then(|| {
        format!("nobody was subscribed at Redis to {}: is the hub at the same Redis?", counted(record.unheard, "token"))
    });
    let early = (0 < tally.counts.early).then(|| {
        let (count, was) = (tally.counts.early, if tally.counts.early == 1 { "it was" } else { "they were" });
        format!("{} came before {was} due: the publisher's clock is ahead of ours.", counted(count, "token"))
    });
    let unended = match (plan.mode, tally.unended()) {
        (Mode::Consumer, count @ 1..) => Some(format!(
            "{} did not hear an end: the producer was not done, or the last tokens were lost.",
            counted(count, "conversation")
        )),
        _ => None,
    };
    [late, busy, cut, account, unheard, early, unended].into_iter().flatten().collect()
}

/// How many tokens must have been sent in the end. With --repeat the last ones fall due as the duration ends: a moment's
/// lateness leaves them out. Without pauses there are as many as there are.
fn wanted(plan: &Plan) -> u64 {
    match (plan.repeats, plan.delay.is_zero()) {
        (false, _) => plan.token_sum(),
        (true, false) => plan.due_before(plan.duration.saturating_sub(LATE_AFTER)),
        (true, true) => 0,
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// `1 token`, `2 tokens`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// What is said before the first token.
pub(super) fn banner(plan: &Plan) -> String {
    let target = match &plan.target {
        PublishTarget::Redis(url) => url.to_string(),
        PublishTarget::Hub(url) => format!("{url}/publish"),
    };
    let (to, at) = (format!("to {target}"), format!("at {}/sse", plan.sse));
    let ways = match plan.mode {
        Mode::Producer => to,
        Mode::Consumer => at,
        Mode::Both => format!("{to}, {at}"),
    };
    let again = if plan.repeats { format!(", again and again for {:?}", plan.duration) } else { String::new() };
    format!(
        "fanfare load: {} of {}, {} ms apart{again}, {ways}",
        counted(plan.conversations.into(), "conversation"),
        counted(plan.tokens.into(), "token"),
        plan.delay.as_millis()
    )
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match self.mode {
            Mode::Producer => "producer",
            Mode::Consumer => "consumer",
            Mode::Both => "producer and consumer",
        };
        let conversations = counted(self.conversations.into(), "conversation");
        writeln!(f, "=== Load test: {mode}, {conversations}, {:.1} s ===", self.measured_s)?;
        let mut row = |name: &str, value: &dyn Display| writeln!(f, "{:20} {value}", format!("{name}:"));
        if let Some(it) = &self.published {
            let planned = it.tokens_planned.map(|planned| format!(" of {planned}")).unwrap_or_default();
            row("Tokens Published", &format_args!("{}{planned}", it.tokens_published))?;
            if let Some(count) = it.conversations_completed {
                row("Conversations Ended", &count)?;
            }
        }
        if let Some(it) = &self.received {
            row("Tokens Received", &it.tokens_received)?;
            row("Tokens Lost", &it.tokens_lost)?;
            row("Duplicates", &it.duplicates)?;
            row("Out of Order", &it.out_of_order)?;
            row("Gaps Announced", &it.gaps)?;
            // Only where there are any: nobody expects them.
            for (name, count) in [("Misdelivered", it.misdelivered), ("Foreign Events", it.foreign)] {
                if 0 < count {
                    row(name, &count)?;
                }
            }
        }
        if let Some(it) = &self.connections {
            row("Connections Opened", &it.opened)?;
            row("Connections Closed", &it.closed)?;
            row("Reconnects", &it.reconnects)?;
        }
        row("Errors", &self.errors)?;
        for (kind, errors) in &self.errors_by_kind {
            row(&format!("  {kind}"), &format_args!("{} (the first: {})", errors.count, errors.first))?;
        }
        if self.received.is_some() {
            write_latency(f, self.latency)?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "Note: {note}"))?;
        if self.is_interrupted { writeln!(f, "Interrupted: the run was ended early.") } else { Ok(()) }
    }
}

fn write_latency(f: &mut fmt::Formatter<'_>, figures: Option<LatencyFigures>) -> fmt::Result {
    let Some(it) = figures else { return writeln!(f, "{:20} no token arrived", "Latency:") };
    let rows = [
        ("Latency (min)", it.min_ms),
        ("Latency (avg)", it.avg_ms),
        ("Latency (max)", it.max_ms),
        ("Latency (p50)", it.p50_ms),
        ("Latency (p95)", it.p95_ms),
        ("Latency (p99)", it.p99_ms),
    ];
    rows.into_iter().try_for_each(|(name, ms)| writeln!(f, "{:20} {ms:.3} ms", format!("{name}:")))
}
