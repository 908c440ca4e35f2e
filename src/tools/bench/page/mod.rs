//! Reports as one self-contained page: data in, text out. Nothing is loaded from anywhere, and no script is needed.

mod chart;
mod ladder;
#[cfg(test)]
mod tests;

use super::{
    report::{Percentiles, Report, TopicReport},
    results::Results,
};
use chart::{Axis, Line, chart};

const STYLE: &str = include_str!("style.css");

/// One topic of one result, as it is drawn and compared.
#[derive(Debug)]
pub(super) struct Series<'a> {
    /// What the legend calls it.
    pub label: String,
    pub report: &'a Report,
    pub topic: &'a TopicReport,
}

/// All topics of the labelled reports.
pub(super) fn series(reports: &[(String, Report)]) -> Vec<Series<'_>> {
    reports
        .iter()
        .flat_map(|(label, report)| {
            report.topics.iter().map(move |topic| {
                let label = match report.topics.len() {
                    1 => label.clone(),
                    _ => format!("{label} · {}", topic.topic),
                };
                Series { label, report, topic }
            })
        })
        .collect()
}

/// The page of these results.
pub(super) fn page(results: &Results) -> String {
    let mut text = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>".to_owned();
    text += "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/><title>fanfare bench</title>";
    text += &format!("<style>{STYLE}</style></head><body><main><h1>fanfare bench</h1>");
    if !results.ladders.is_empty() {
        text += &ladder::sections(&results.ladders);
    }
    if !results.runs.is_empty() || results.ladders.is_empty() {
        text += &runs(&results.runs);
    }
    text + "</main></body></html>\n"
}

fn runs(reports: &[(String, Report)]) -> String {
    let all = series(reports);
    let mut text: String = reports.iter().map(|(label, report)| header(label, report)).collect();
    if let [one] = &all[..] {
        text += &tiles(one);
    }
    text += &legend(all.iter().map(|one| &*one.label));
    text += &by_percentile(&all);
    text += &over_time(&all);
    text + &table(&all)
}

/// The same comparison for a terminal.
pub(super) fn comparison(results: &Results) -> String {
    let mut text = String::new();
    if !results.runs.is_empty() {
        text += &compare_runs(&series(&results.runs));
    }
    if !results.ladders.is_empty() {
        text += &ladder::compare(&results.ladders);
    }
    text
}

fn compare_runs(all: &[Series<'_>]) -> String {
    let width = all.iter().map(|one| one.label.chars().count()).max().unwrap_or(0).max(6);
    let mut text = format!("{:width$}", "result");
    COLUMNS.iter().for_each(|(name, _)| text += &format!(" {name:>14}"));
    text += "\n";
    for one in all {
        text += &format!("{:width$}", one.label);
        COLUMNS.iter().for_each(|(_, figure)| text += &format!(" {:>14}", figure(one)));
        text += "\n";
        one.report.void.iter().for_each(|reason| text += &format!("  VOID {reason}\n"));
    }
    text
}

type Column = (&'static str, fn(&Series<'_>) -> String);

/// What is compared; latencies are per delivery, in microseconds.
const COLUMNS: &[Column] = &[
    ("subscribers", |one| one.topic.subscribers.to_string()),
    ("events/s", |one| one.topic.rate_hz.to_string()),
    ("deliveries", |one| one.topic.deliveries.to_string()),
    ("lost", |one| one.topic.faults.lost.to_string()),
    ("p50 µs", |one| whole(one.topic.read.p50)),
    ("p90 µs", |one| whole(one.topic.read.p90)),
    ("p99 µs", |one| whole(one.topic.read.p99)),
    ("p99.9 µs", |one| whole(one.topic.read.p999)),
    ("max µs", |one| whole(one.topic.read.max)),
    ("server µs/del", |one| {
        let cost = one.report.server.as_ref().and_then(|server| server.cpu_us_per_delivery);
        cost.map_or_else(|| "–".to_owned(), |cost| format!("{cost:.2}"))
    }),
    ("client core", |one| format!("{:.0} %", one.report.client.cpu_share * 100.0)),
];

/// Text from outside, harmless in elements and attributes.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe += "&amp;",
            '<' => safe += "&lt;",
            '>' => safe += "&gt;",
            '"' => safe += "&quot;",
            '\'' => safe += "&#39;",
            // No control character may stand in a page.
            letter if letter.is_control() => safe.push('\u{fffd}'),
            letter => safe.push(letter),
        }
    }
    safe
}

fn header(label: &str, report: &Report) -> String {
    let mut text = format!("<header><h2>{}</h2>", escape(label));
    text += &format!("<pre>{}</pre>", escape(&report.command.join(" ")));
    let cores = report.machine.core_busy_shares.len();
    text += &format!(
        "<p>{cores} cores; {:.1} s measured; begun at Unix time {}</p>",
        report.window_s, report.started_unix_s
    );
    for reason in &report.void {
        text += &format!("<p class=\"void\">Void: {}</p>", escape(reason));
    }
    match (report.void.is_empty(), report.is_complete()) {
        (_, false) => text += "<p class=\"void\">Not every event reached every subscriber once and in order.</p>",
        (true, true) => text += "<p class=\"good\">Valid: every event reached every subscriber, once and in order.</p>",
        (false, true) => {}
    }
    text + "</header>"
}

fn tiles(one: &Series<'_>) -> String {
    let tiles = COLUMNS.iter().filter(|(name, _)| !["subscribers", "events/s", "p90 µs"].contains(name));
    let tiles = tiles.map(|(name, figure)| format!("<div><b>{}</b><span>{name}</span></div>", escape(&figure(one))));
    format!("<section class=\"tiles\">{}</section>", tiles.collect::<String>())
}

fn legend<'a>(labels: impl Iterator<Item = &'a str>) -> String {
    let rows = labels.enumerate();
    let rows = rows.map(|(index, label)| format!("<li class=\"c{}\">{}</li>", index % 6, escape(label)));
    format!("<ul class=\"legend\">{}</ul>", rows.collect::<String>())
}

fn by_percentile(all: &[Series<'_>]) -> String {
    let nines = |one: &Series<'_>| (one.topic.read.count.max(10) as f64).log10();
    let end = all.iter().map(nines).fold(1.0, f64::max);
    let lines = all.iter().map(|one| {
        let place = |quantile: f64| if quantile < 1.0 { (1.0 / (1.0 - quantile)).log10() } else { nines(one) };
        let points = one.topic.curve.iter().map(|point| (place(point.quantile).min(nines(one)), point.latency_us));
        Line { name: escape(&one.label), points: points.collect(), is_dashed: false }
    });
    let names = ["0 %", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %", "99.9999 %", "99.99999 %"];
    let ticks = names.iter().enumerate().map(|(place, name)| (place as f64, (*name).to_owned()));
    let ticks = ticks.filter(|(place, _)| *place <= end).collect();
    let lines: Vec<Line> = lines.collect();
    section("Latency by percentile", "µs per delivery, from the moment the event was due", &lines, Axis { end, ticks })
}

fn over_time(all: &[Series<'_>]) -> String {
    let end = all.iter().map(|one| one.report.window_s).fold(0.1, f64::max);
    let mut lines = Vec::new();
    for one in all {
        let filled = || one.topic.slices.iter().filter(|slice| 0 < slice.deliveries);
        let name = escape(&one.label);
        lines.push(Line {
            name: format!("{name}: p50"),
            points: filled().map(|slice| (slice.start_s, slice.p50)).collect(),
            is_dashed: true,
        });
        lines.push(Line {
            name: format!("{name}: p99"),
            points: filled().map(|slice| (slice.start_s, slice.p99)).collect(),
            is_dashed: false,
        });
    }
    let ticks = (0..=5).map(|tick| end * f64::from(tick) / 5.0).map(|at| (at, format!("{at:.1} s"))).collect();
    section("Latency over time", "µs; p99 drawn through, p50 dashed", &lines, Axis { end, ticks })
}

fn section(title: &str, what: &str, lines: &[Line], axis: Axis) -> String {
    let picture = match lines.iter().any(|line| !line.points.is_empty()) {
        true => chart(title, lines, &axis),
        false => "<p>Nothing was recorded for this picture.</p>".to_owned(),
    };
    format!("<section><h2>{title}</h2><p>{what}</p>{picture}</section>")
}

fn table(all: &[Series<'_>]) -> String {
    let names: String = COLUMNS.iter().map(|(name, _)| format!("<th>{name}</th>")).collect();
    let row = |one: &Series<'_>| {
        let figures: String = COLUMNS.iter().map(|(_, figure)| format!("<td>{}</td>", escape(&figure(one)))).collect();
        format!("<tr><th>{}</th>{figures}</tr>", escape(&one.label))
    };
    let rows: String = all.iter().map(row).collect();
    let mut text =
        format!("<section><h2>Results</h2><div class=\"wide\"><table><tr><th></th>{names}</tr>{rows}</table></div>");
    text += "<h2>All latencies, µs</h2><div class=\"wide\"><table><tr><th></th><th></th><th>count</th><th>min</th>";
    text += "<th>mean</th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th></tr>";
    all.iter().for_each(|one| text += &latencies(one));
    text + "</table></div></section>"
}

fn latencies(one: &Series<'_>) -> String {
    let topic = one.topic;
    let rows: [(&str, &Percentiles); 8] = [
        ("delivery", &topic.read),
        ("in kernel", &topic.kernel),
        ("first", &topic.event_first),
        ("median", &topic.event_median),
        ("last", &topic.event_last),
        ("last in kernel", &topic.event_last_kernel),
        ("publisher late by", &topic.lateness),
        ("opening", &topic.opening),
    ];
    let filled = rows.iter().filter(|(_, row)| 0 < row.count);
    let line = |(name, row): &(&str, &Percentiles)| {
        let figures = [row.min, row.mean, row.p50, row.p90, row.p99, row.p999, row.max];
        let figures: String = figures.into_iter().map(|figure| format!("<td>{}</td>", whole(figure))).collect();
        format!("<tr><th>{}</th><th>{name}</th><td>{}</td>{figures}</tr>", escape(&one.label), row.count)
    };
    filled.map(line).collect()
}

fn whole(figure: f64) -> String {
    format!("{figure:.0}")
}
