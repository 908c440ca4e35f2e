//! The two text formats of exported metrics, for the hub's `/metrics` and the tools'.

use prometheus_client::{encoding::text::encode, registry::Registry};

/// A text format of metrics. The scraper chooses it by its `Accept` field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpositionFormat {
    /// The text format of Prometheus, version 0.0.4, which every scraper reads, also `promtool check metrics`.
    #[default]
    Prometheus,
    /// OpenMetrics 1.0.0. A Prometheus server asks for it first.
    OpenMetrics,
}

impl ExpositionFormat {
    /// The form that the `Accept` fields `values` ask for: [`ExpositionFormat::Prometheus`] unless `application/openmetrics-text`
    /// is named, in a version that is written here, and the plain text form is not preferred by its weight (RFC 9110
    /// section 12.5.1). A wildcard does not ask for OpenMetrics.
    pub fn negotiate<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let (mut open, mut plain) = (0.0_f32, 0.0_f32);
        for range in values.filter_map(|value| std::str::from_utf8(value).ok()).flat_map(|value| value.split(',')) {
            let Some(range) = MediaRange::parse(range) else { continue };
            if range.is("application/openmetrics-text", "1.0.0") {
                open = open.max(range.weight);
            } else if range.is("text/plain", "0.0.4") {
                plain = plain.max(range.weight);
            }
        }
        if 0.0 < open && plain <= open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// The `Content-Type` of the form.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Encodes the metrics of `registry`.
    pub fn encode(self, registry: &Registry) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail, and no collector here has an error of its own.
        let _ = encode(&mut text, registry);
        match self {
            Self::Prometheus => to_prometheus(&text),
            Self::OpenMetrics => text,
        }
    }
}

/// One media range of an `Accept` field.
struct MediaRange<'a> {
    kind: &'a str,
    version: Option<&'a str>,
    /// From 0 (not acceptable) to 1.
    weight: f32,
}

impl<'a> MediaRange<'a> {
    /// `None` if the weight is no number from 0 to 1.
    fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let mut range = Self { kind: parts.next()?, version: None, weight: 1.0 };
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim_end() {
                name if name.eq_ignore_ascii_case("version") => range.version = Some(value.trim().trim_matches('"')),
                name if name.eq_ignore_ascii_case("q") => range.weight = value.trim().parse().ok()?,
                _ => {}
            }
        }
        (0.0..=1.0).contains(&range.weight).then_some(range)
    }

    /// Whether the range is of `kind`, in this version or in any.
    fn is(&self, kind: &str, version: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind) && self.version.is_none_or(|wanted| wanted == version)
    }
}

/// Converts OpenMetrics text into the text format of Prometheus. The samples are the same. The lines that begin with `#` differ:
/// a counter has the name of its sample there, some types have other names, and there is no end mark.
fn to_prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ').map(|(_, help)| help);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = rest.trim_end().split_once(' ').unwrap_or_else(|| (rest.trim_end(), "unknown"));
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "unknown" => ("", "untyped"),
                kind => ("", kind),
            };
            if let Some(help) = help.take() {
                text.extend(["# HELP ", family, suffix, " ", help]);
            }
            text.extend(["# TYPE ", family, suffix, " ", kind, "\n"]);
        } else if !line.starts_with('#') {
            text.push_str(line);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram, info::Info};

    use super::*;

    #[test]
    fn a_scraper_chooses_the_form() {
        let check = |fields: &[&str], expected: ExpositionFormat| {
            let found = ExpositionFormat::negotiate(fields.iter().map(|field| field.as_bytes()));
            assert_eq!(found, expected, "{fields:?}");
        };
        let (plain, open) = (ExpositionFormat::Prometheus, ExpositionFormat::OpenMetrics);
        check(&[], plain);
        check(&[""], plain);
        check(&["*/*"], plain);
        check(&["text/html,application/xhtml+xml,*/*;q=0.8"], plain);
        check(&["text/plain; version=0.0.4"], plain);
        check(&["application/openmetrics-text"], open);
        check(&["Application/OpenMetrics-Text; Version=\"1.0.0\"; charset=utf-8"], open);
        check(&["application/openmetrics-text; version=1.0.0"], open);
        check(&["application/openmetrics-text; version=2.0.0"], plain);
        check(&["application/openmetrics-text; q=0"], plain);
        check(&["application/openmetrics-text; q=high"], plain);
        check(&["application/openmetrics-text; q=7"], plain);
        check(&["application/openmetrics-text;q=0.2, text/plain;q=0.5"], plain);
        check(&["application/openmetrics-text;q=0.2", "*/*;q=0.5"], open);
        check(&["text/plain", "application/openmetrics-text"], open);
        // As Prometheus 2.42 and 3.5 ask.
        check(
            &[
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
            open,
        );
        check(
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ],
            open,
        );
    }

    #[test]
    fn the_older_form_names_counters_after_their_samples() {
        let mut registry = Registry::default();
        let events = Counter::<u64>::default();
        events.inc_by(3);
        registry.register("events", "Events # received", events);
        registry.register("streams", "Open streams", Gauge::<i64>::default());
        let latency = Histogram::new([0.5]);
        latency.observe(0.25);
        registry.register("latency_seconds", "How long", latency);
        registry.register("build", "What runs", Info::new([("version", "# \"1\"")]));
        let expected = [
            "# HELP events_total Events # received.",
            "# TYPE events_total counter",
            "events_total 3",
            "# HELP streams Open streams.",
            "# TYPE streams gauge",
            "streams 0",
            "# HELP latency_seconds How long.",
            "# TYPE latency_seconds histogram",
            "latency_seconds_sum 0.25",
            "latency_seconds_count 1",
            "latency_seconds_bucket{le=\"0.5\"} 1",
            "latency_seconds_bucket{le=\"+Inf\"} 1",
            "# HELP build_info What runs.",
            "# TYPE build_info gauge",
            "build_info{version=\"# \\\"1\\\"\"} 1",
        ];
        assert_eq!(ExpositionFormat::Prometheus.encode(&registry).lines().collect::<Vec<_>>(), expected);
        assert!(ExpositionFormat::OpenMetrics.encode(&registry).ends_with("# EOF\n"));
    }
}
