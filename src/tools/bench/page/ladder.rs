//! Ladders on a page: latency over rate, and the distributions of the steps.

use super::{
    super::{
        ladder::{Climb, P99_GROWTH_MAX, Step, Verdict, round},
        report::Report,
    },
    Series, by_percentile,
    chart::{Axis, Line},
    escape, legend, section, whole,
};

/// Ticks of the axis of rates, in each power of ten.
const TICKS: [f64; 3] = [1.0, 2.0, 5.0];

/// All that a page says of `ladders`.
pub(super) fn sections(ladders: &[(String, Climb)]) -> String {
    let mut text: String = ladders.iter().map(|(label, climb)| header(label, climb)).collect();
    text += &legend(ladders.iter().map(|(label, _)| &**label));
    text += &by_rate(ladders);
    text += &table(ladders);
    let curves: Vec<Series<'_>> = match ladders {
        [(_, climb)] => telling_steps(climb).into_iter().filter_map(|step| series(rate_label(step), step)).collect(),
        _ => ladders.iter().filter_map(|(label, climb)| knee_series(label, climb)).collect(),
    };
    text += &legend(curves.iter().map(|one| &*one.label));
    text + &by_percentile(&curves)
}

/// Knee beside knee, for a terminal.
pub(super) fn compare(ladders: &[(String, Climb)]) -> String {
    let width = ladders.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!("{:width$}", "ladder");
    COLUMNS.iter().for_each(|(name, _)| text += &format!(" {name:>14}"));
    text += "\n";
    for (label, climb) in ladders {
        text += &format!("{label:width$}");
        COLUMNS.iter().for_each(|(_, figure)| text += &format!(" {:>14}", figure(climb)));
        text += "\n";
        climb.void.iter().for_each(|reason| text += &format!("  VOID {reason}\n"));
    }
    text
}

type Column = (&'static str, fn(&Climb) -> String);

/// What is compared; latencies are per delivery, in microseconds.
const COLUMNS: &[Column] = &[
    ("knee ev/s", |climb| {
        let at_least = if climb.is_exact() { "" } else { "≥ " };
        of_knee(climb, |step| format!("{at_least}{}", round(step.figures.rate_hz)))
    }),
    ("deliveries/s", |climb| of_knee(climb, |step| whole(step.figures.deliveries_per_s))),
    ("p50 µs", |climb| of_knee(climb, |step| whole(step.figures.p50))),
    ("p99 µs", |climb| of_knee(climb, |step| whole(step.figures.p99))),
    ("p50 at 50 %", |climb| or_dash(climb.below.first(), |step| whole(step.figures.p50))),
    ("p99 at 50 %", |climb| or_dash(climb.below.first(), |step| whole(step.figures.p99))),
    ("p50 at 80 %", |climb| or_dash(climb.below.get(1), |step| whole(step.figures.p50))),
    ("p99 at 80 %", |climb| or_dash(climb.below.get(1), |step| whole(step.figures.p99))),
];

fn of_knee(climb: &Climb, figure: impl Fn(&Step) -> String) -> String {
    or_dash(climb.knee(), figure)
}

fn or_dash(step: Option<&Step>, figure: impl Fn(&Step) -> String) -> String {
    step.map_or_else(|| "–".to_owned(), figure)
}

fn header(label: &str, climb: &Climb) -> String {
    let mut text = format!("<header><h2>{}</h2>", escape(label));
    text +=
        &format!("<pre>{}</pre><p>begun at Unix time {}</p>", escape(&climb.command.join(" ")), climb.started_unix_s);
    for reason in &climb.void {
        text += &format!("<p class=\"void\">Void: {}</p>", escape(reason));
    }
    let tile = |(name, figure): &Column| format!("<div><b>{}</b><span>{name}</span></div>", escape(&figure(climb)));
    let tiles: String = COLUMNS.iter().map(tile).collect();
    text + &format!("<section class=\"tiles\">{tiles}</section></header>")
}

/// The last attempt at each rate.
fn final_steps(climb: &Climb) -> impl Iterator<Item = &Step> {
    let is_last = |step: &&Step| {
        let last = climb.steps.iter().rfind(|other| other.figures.rate_hz == step.figures.rate_hz);
        last.is_some_and(|last| std::ptr::eq(*step, last))
    };
    climb.steps.iter().filter(is_last).filter(|step| step.report.is_some())
}

/// Those whose distributions are drawn, by rate: the first step, those at shares of the knee, the knee, and what lies
/// beyond it. All of them would be more than there are colours.
fn telling_steps(climb: &Climb) -> Vec<&Step> {
    let knee_hz = climb.knee_hz.unwrap_or(0.0);
    let mut telling: Vec<&Step> = final_steps(climb)
        .enumerate()
        .filter(|(place, step)| *place == 0 || knee_hz <= step.figures.rate_hz)
        .map(|(_, step)| step)
        .chain(&climb.below)
        .collect();
    telling.sort_by(|one, other| one.figures.rate_hz.total_cmp(&other.figures.rate_hz));
    telling
}

fn series(label: String, step: &Step) -> Option<Series<'_>> {
    let report: &Report = step.report.as_ref()?;
    Some(Series { label, report, topic: report.topics.first()? })
}

fn knee_series<'a>(label: &str, climb: &'a Climb) -> Option<Series<'a>> {
    let knee = climb.knee()?;
    series(format!("{label} at {}", rate_label(knee)), knee)
}

fn rate_label(step: &Step) -> String {
    let verdict = if step.verdict == Verdict::Good { String::new() } else { format!(", {}", step.verdict) };
    format!("{} ev/s{verdict}", round(step.figures.rate_hz))
}

/// Rates to the right, on a logarithmic scale, as they rise by a factor.
fn by_rate(ladders: &[(String, Climb)]) -> String {
    let rates = || ladders.iter().flat_map(|(_, climb)| final_steps(climb)).map(|step| step.figures.rate_hz);
    let (low, high) = (rates().fold(f64::MAX, f64::min), rates().fold(f64::MIN_POSITIVE, f64::max));
    let place = |rate_hz: f64| (rate_hz / low).log10();
    let mut lines = Vec::new();
    for (label, climb) in ladders {
        for (name, is_dashed) in [("p50", true), ("p99", false)] {
            let latency = |step: &Step| if is_dashed { step.figures.p50 } else { step.figures.p99 };
            let points = final_steps(climb).map(|step| (place(step.figures.rate_hz), latency(step)));
            lines.push(Line { name: format!("{}: {name}", escape(label)), points: points.collect(), is_dashed });
        }
    }
    let ticks = (low.log10().floor() as i32..=high.log10().ceil() as i32)
        .flat_map(|exponent| TICKS.map(|tick| tick * 10.0_f64.powi(exponent)))
        .filter(|rate_hz| (low..=high).contains(rate_hz))
        .map(|rate_hz| (place(rate_hz), round(rate_hz)));
    let axis = Axis { end: place(high).max(0.01), ticks: ticks.collect() };
    let what = format!(
        "µs over events per second; p99 drawn through, p50 dashed. The knee is the last rate whose p99 is at most {} times \
         the first one's, and where nothing was lost.",
        P99_GROWTH_MAX
    );
    section("Latency by rate", &what, &lines, axis)
}

fn table(ladders: &[(String, Climb)]) -> String {
    let mut text = "<section><h2>Steps</h2><div class=\"wide\"><table><tr><th></th><th>ev/s</th>".to_owned();
    text += "<th>deliveries/s</th><th>p50 µs</th><th>p99 µs</th><th>p99.9 µs</th><th>lost</th>";
    text += "<th>server of a core</th><th>verdict</th></tr>";
    for (label, climb) in ladders {
        climb.steps.iter().chain(&climb.below).for_each(|step| text += &row(label, step));
    }
    text + "</table></div></section>"
}

fn row(label: &str, step: &Step) -> String {
    let figures = &step.figures;
    let cells = [
        round(figures.rate_hz),
        whole(figures.deliveries_per_s),
        whole(figures.p50),
        whole(figures.p99),
        whole(figures.p999),
        figures.lost.to_string(),
        figures.server_cpu_share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0)),
        format!("{}{}", step.verdict, if step.is_repeat { ", again" } else { "" }),
    ];
    let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
    format!("<tr><th>{}</th>{cells}</tr>", escape(label))
}
