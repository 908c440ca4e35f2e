//! A report as text.

use std::fmt;

use super::report::{LoginReport, Percentiles, Report, ServerReport, StormReport, TopicReport};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.topics.iter().try_for_each(|topic| write_topic(f, topic))?;
        if let Some(churn) = &self.churn {
            writeln!(f, "visitors {} a second; {} came, {} failed", churn.rate_hz, churn.began, churn.failed)?;
            write_row(f, "opening", &churn.opening)?;
        }
        if let Some(logins) = &self.logins {
            write_logins(f, logins)?;
        }
        if let Some(storm) = &self.storm {
            write_storm(f, storm)?;
        }
        if let Some(server) = &self.server {
            write_server(f, server)?;
        }
        self.write_client(f)?;
        for reason in &self.void {
            writeln!(f, "VOID     {reason}")?;
        }
        Ok(())
    }
}

impl Report {
    fn write_client(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = &self.client;
        write!(f, "client   {} of a core", percent(client.cpu_share))?;
        if let Some(cost) = client.fleet_cpu_us_per_delivery {
            write!(f, ", {cost:.3} µs a delivery")?;
        }
        writeln!(f, "; {} involuntary switches", client.involuntary_switches)?;
        for process in &self.client.processes {
            let core = process.core.map_or_else(String::new, |core| format!(" on core {core}"));
            write!(f, "         {}{core}: {} of a core", process.name, percent(process.cpu_share))?;
            match process.subscribers {
                0 => writeln!(f)?,
                count => writeln!(f, ", {count} subscribers, {} deliveries", process.deliveries)?,
            }
        }
        let cores = self.machine.core_busy_shares.iter().zip(&self.machine.core_steal_shares).enumerate();
        for (core, (&busy, &steal)) in cores {
            writeln!(f, "core {core}   {} busy, {} stolen", percent(busy), percent(steal))?;
        }
        if let Some(share) = self.machine.strangers_share {
            writeln!(f, "others   {} of a core", percent(share))?;
        }
        Ok(())
    }
}

fn write_topic(f: &mut fmt::Formatter<'_>, topic: &TopicReport) -> fmt::Result {
    let TopicReport { topic: name, subscribers, rate_hz, size_bytes, events, deliveries, .. } = topic;
    writeln!(f, "topic    {name}: {subscribers} subscribers, {rate_hz} ev/s of {size_bytes} bytes")?;
    let faults = &topic.faults;
    write!(f, "         {events} events, {deliveries} deliveries; ")?;
    writeln!(f, "closed {}, refused {}", topic.closed, topic.refused)?;
    write!(f, "         lost {}, repeated {}, ", faults.lost, faults.repeated)?;
    writeln!(f, "reordered {}, foreign {}", faults.reordered, faults.foreign)?;
    if 0 < topic.unanswered {
        writeln!(f, "         {} events were published and not answered", topic.unanswered)?;
    }
    if let Some(refusal) = &topic.first_refusal {
        writeln!(f, "         refused: {refusal}")?;
    }
    for failure in topic.first_failure.iter().chain(&topic.publisher_failure) {
        writeln!(f, "         {failure}")?;
    }
    let rows = [
        ("delivery", &topic.read),
        ("in kernel", &topic.kernel),
        ("first", &topic.event_first),
        ("median", &topic.event_median),
        ("last", &topic.event_last),
        ("last kern", &topic.event_last_kernel),
        ("late by", &topic.lateness),
        ("opening", &topic.opening),
    ];
    writeln!(f, "         {:>10} {:>10} {:>10} {:>10} {:>10}  µs", "p50", "p90", "p99", "p99.9", "max")?;
    rows.iter().filter(|(_, row)| 0 < row.count).try_for_each(|(label, row)| write_row(f, label, row))
}

fn write_row(f: &mut fmt::Formatter<'_>, label: &str, row: &Percentiles) -> fmt::Result {
    let Percentiles { p50, p90, p99, p999, max, .. } = row;
    writeln!(f, "{label:9}{p50:10.0} {p90:10.0} {p99:10.0} {p999:10.0} {max:10.0}")
}

fn write_logins(f: &mut fmt::Formatter<'_>, logins: &LoginReport) -> fmt::Result {
    let LoginReport { rate_hz, began, accepted, refused, turned_away, failed, .. } = logins;
    write!(f, "logins   {rate_hz} a second; {began} came, {accepted} accepted, {refused} refused, ")?;
    writeln!(f, "{turned_away} turned away, {failed} failed")?;
    logins.first_failure.iter().try_for_each(|failure| writeln!(f, "         {failure}"))?;
    write_row(f, "answering", &logins.answering)
}

fn write_storm(f: &mut fmt::Formatter<'_>, storm: &StormReport) -> fmt::Result {
    let StormReport { cut, missed_events, caught_up, span_ms, connecting_ms, client_cpu_share, .. } = storm;
    writeln!(f, "storm    {cut} cut, {missed_events} events missed; {caught_up} caught up in {span_ms:.1} ms")?;
    writeln!(f, "         all connecting after {connecting_ms:.1} ms, {} found no room", storm.listen_overflows)?;
    write!(f, "         client {} of a core", percent(*client_cpu_share))?;
    if let Some((share, cost)) = storm.server_cpu_share.zip(storm.server_cpu_us_per_return) {
        write!(f, ", server {}, {cost:.1} µs for each", percent(share))?;
    }
    writeln!(f)?;
    write_row(f, "caught up", &storm.catching_up)?;
    write_row(f, "opening", &storm.opening)
}

fn write_server(f: &mut fmt::Formatter<'_>, server: &ServerReport) -> fmt::Result {
    write!(f, "server   ")?;
    if let Some(cost) = server.cpu_us_per_delivery {
        write!(f, "{cost:.3} µs a delivery, ")?;
    }
    write!(f, "{} of a core, {} threads; ", percent(server.cpu_share), server.threads)?;
    writeln!(f, "switches {} + {} involuntary", server.voluntary_switches, server.involuntary_switches)?;
    write!(f, "         PSS {} KiB, ", server.memory_after.pss_bytes / 1024)?;
    writeln!(f, "{:.0} bytes a connection, then {:+} bytes", server.pss_bytes_per_connection, server.pss_growth_bytes)
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}
