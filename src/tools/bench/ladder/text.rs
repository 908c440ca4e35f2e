//! The results of a ladder as text.

use std::fmt;

use super::{Climb, Ending, Step, Verdict, round};

impl fmt::Display for Climb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(topic) = self.steps.iter().find_map(|step| step.report.as_ref()?.topics.first()) {
            write!(f, "ladder   {}: {} subscribers, {} bytes, ", topic.topic, topic.subscribers, topic.size_bytes)?;
            writeln!(f, "× {} at each step", self.rules.factor)?;
        }
        writeln!(f, "{}", head())?;
        self.steps.iter().try_for_each(|step| writeln!(f, "{}", row(step)))?;
        match self.knee() {
            None => writeln!(f, "knee     unknown: no step was good")?,
            Some(knee) => {
                let at_least = if self.is_exact() { "" } else { "at least " };
                writeln!(f, "knee     {at_least}{}", summary(knee))?;
            }
        }
        if self.ending == Ending::Top {
            writeln!(f, "         every step was good: --ladder-steps-max or --ladder-max ended the climb")?;
        }
        for step in &self.below {
            let share = step.figures.rate_hz / self.knee_hz.unwrap_or(f64::NAN) * 100.0;
            writeln!(f, "at {share:2.0} %  {}", summary(step))?;
            remarks(step).try_for_each(|remark| writeln!(f, "{:9}{remark}", ""))?;
        }
        self.void.iter().try_for_each(|reason| writeln!(f, "VOID     {reason}"))
    }
}

/// Names of the columns: with the verdict they fill a terminal of 80.
pub(super) fn head() -> String {
    let latencies = format!("{:>8} {:>8} {:>9}", "p50 µs", "p99 µs", "p99.9 µs");
    format!("{:>8} {:>12} {latencies} {:>6} {:>6}  verdict", "ev/s", "deliveries/s", "lost", "server")
}

/// One step, and on lines of their own what else there is to say about it.
pub(super) fn row(step: &Step) -> String {
    let figures = &step.figures;
    let (rate, throughput) = (round(figures.rate_hz), figures.deliveries_per_s);
    let server = figures.server_cpu_share.map_or_else(|| "–".to_owned(), |share| format!("{:.0} %", share * 100.0));
    let latencies = format!("{:8.0} {:8.0} {:9.0}", figures.p50, figures.p99, figures.p999);
    let verdict = format!("{}{}", step.verdict, if step.is_repeat { ", again" } else { "" });
    let remarks: String = remarks(step).map(|remark| format!("\n{:9}{remark}", "")).collect();
    format!("{rate:>8} {throughput:12.0} {latencies} {:6} {server:>6}  {verdict}{remarks}", figures.lost)
}

fn remarks(step: &Step) -> impl Iterator<Item = &String> {
    let figures = &step.figures;
    figures.failure.iter().chain(&figures.client_limit).chain(&figures.disturbances)
}

fn summary(step: &Step) -> String {
    let figures = &step.figures;
    let (rate, throughput) = (round(figures.rate_hz), figures.deliveries_per_s);
    format!("{rate} ev/s: {throughput:.0} deliveries/s, p50 {:.0} µs, p99 {:.0} µs", figures.p50, figures.p99)
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Good => "good",
            Self::Slow => "too slow",
            Self::Incomplete => "faulty",
            Self::ClientLimit => "client",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        })
    }
}
