//! A climb as people read it.

use std::fmt;

use super::{Climb, Ending, Step, Verdict, round};

impl fmt::Display for Climb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(topic) = self.steps.iter().find_map(|step| step.report.as_ref()?.topics.first()) {
            write!(
                f,
                "ladder   {}: {} subscribers, events of {} bytes",
                topic.topic, topic.subscribers, topic.size_bytes
            )?;
            writeln!(f, ", {} times as many each step", self.rules.factor)?;
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
            writeln!(f, "at {share:2.0} %  {}{}", summary(step), remark(step))?;
        }
        self.void.iter().try_for_each(|reason| writeln!(f, "VOID     {reason}"))
    }
}

/// Names of the columns.
pub(super) fn head() -> String {
    let latencies = format!("{:>9} {:>9} {:>9}", "p50 µs", "p99 µs", "p99.9 µs");
    format!("{:>9} {:>12} {latencies} {:>8} {:>8}  verdict", "ev/s", "deliveries/s", "lost", "server")
}

/// One step.
pub(super) fn row(step: &Step) -> String {
    let figures = &step.figures;
    let (rate, throughput) = (round(figures.rate_hz), figures.deliveries_per_s);
    let server = figures.server_cpu_share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0));
    let latencies = format!("{:9.0} {:9.0} {:9.0}", figures.p50, figures.p99, figures.p999);
    let verdict = format!("{}{}", step.verdict, if step.is_repeat { ", repeated" } else { "" });
    format!("{rate:>9} {throughput:12.0} {latencies} {:8} {server:>8}  {verdict}{}", figures.lost, remark(step))
}

/// What else there is to say about a step.
fn remark(step: &Step) -> String {
    let figures = &step.figures;
    let said = figures.failure.iter().chain(&figures.client_limit).chain(&figures.disturbances);
    let said: Vec<&str> = said.map(String::as_str).collect();
    if said.is_empty() { String::new() } else { format!(" ({})", said.join("; ")) }
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
            Self::Slow => "p99 too high",
            Self::Incomplete => "incomplete",
            Self::ClientLimit => "client limit",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        })
    }
}
