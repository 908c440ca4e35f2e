//! The lines that a measuring subscriber prints before the first event.

use std::net::SocketAddr;

use super::{Options, report::REPORT_INTERVAL};
use crate::{
    client::{HubUrl, Transport},
    duration::describe_duration,
    pod::DEFAULT_POD,
};

/// The most topics that are named.
const NAMES_MAX: usize = 10;

/// The banner; `metrics` is the address at which they are served, if they are. Programs read these lines, so labels such as
/// `Kvasir URL` stay as documented.
pub(super) fn banner(options: &Options, url: &HubUrl, metrics: Option<SocketAddr>) -> String {
    let transport = match options.transport {
        Transport::Sse => "SSE",
        Transport::Ws => "WebSocket",
        Transport::FanfareV1 => "fanfare.v1 WebSocket",
    };
    let mut rows = vec![
        format!("📡 Starting Realtime {transport} Subscriber"),
        format!("🔗 Kvasir URL: {url}"),
        format!("Listening to: {}", describe_events(options)),
    ];
    if 1 < options.clients {
        rows.push(format!("Clients: {}", options.clients));
    }
    if let Some(since) = &options.since {
        rows.push(format!("Beginning: behind {since}"));
    }
    rows.push(format!("⏰ Duration: {}", describe_duration(options.duration)));
    rows.push(format!("Report interval: {}s", options.report.unwrap_or(REPORT_INTERVAL).as_secs_f64()));
    rows.extend(metrics.map(|place| format!("Metrics: http://{place}/metrics")));
    rows.join("\n")
}

fn describe_events(options: &Options) -> String {
    let sensor = options.sensor.as_deref();
    let names: Vec<&str> = options.topics.iter().take(NAMES_MAX).map(|topic| topic.as_str()).collect();
    let more = match options.topics.len() - names.len() {
        0 => String::new(),
        count => format!(" and {count} more"),
    };
    let topics = match names.as_slice() {
        [] if options.pod == DEFAULT_POD => return sensor.unwrap_or("ALL sensors").to_owned(),
        [] => return format!("{} of pod {}", sensor.unwrap_or("ALL sensors"), options.pod),
        [name] => format!("topic {name}"),
        names => format!("topics {}{more}", names.join(", ")),
    };
    sensor.map_or_else(|| topics.clone(), |sensor| format!("{sensor} in {topics}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        options: Options,
    }

    #[test]
    fn banners() {
        let url: HubUrl = "http://localhost:8080".parse().expect("a good URL");
        let check = |arguments: &[&str], metrics: Option<&str>, expected: [&str; 5]| {
            let options = CommandLine::parse_from(["subscribe"].iter().chain(arguments)).options;
            let metrics = metrics.map(|place| place.parse().expect("an address"));
            let said = banner(&options, &url, metrics);
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines[1], "🔗 Kvasir URL: http://localhost:8080");
            let [transport, events, more, duration, interval] = expected;
            assert_eq!(lines[0], format!("📡 Starting Realtime {transport} Subscriber"), "{arguments:?}");
            assert_eq!(lines[2], format!("Listening to: {events}"), "{arguments:?}");
            let rest = format!("{more}⏰ Duration: {duration}\nReport interval: {interval}");
            assert_eq!(lines[3..].join("\n"), rest, "{arguments:?}");
        };
        let endless = "Infinite (press Ctrl+C to stop)";
        check(&[], None, ["SSE", "ALL sensors", "", endless, "10s"]);
        check(&["-d", "60", "-r", "5", "-s", "Sensor1"], None, ["SSE", "Sensor1", "", "60 seconds", "5s"]);
        check(&["--pod", "bob"], None, ["SSE", "ALL sensors of pod bob", "", endless, "10s"]);
        let raw = ["--topic", "a", "--transport", "ws", "--clients", "50", "--since", "1-2"];
        check(&raw, None, ["WebSocket", "topic a", "Clients: 50\nBeginning: behind 1-2\n", endless, "10s"]);
        let envelopes = ["--topic", "a", "--topic", "b.c", "-s", "S", "--transport", "fanfare.v1"];
        let interval = "10s\nMetrics: http://127.0.0.1:9/metrics";
        check(&envelopes, Some("127.0.0.1:9"), ["fanfare.v1 WebSocket", "S in topics a, b.c", "", endless, interval]);
        let many: Vec<String> = (0..12).flat_map(|number| ["--topic".to_owned(), format!("t{number}")]).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        check(&many, None, ["SSE", "topics t0, t1, t2, t3, t4, t5, t6, t7, t8, t9 and 2 more", "", endless, "10s"]);
    }
}
