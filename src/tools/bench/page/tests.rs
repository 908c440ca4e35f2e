use hdrhistogram::Histogram;
use serde_json::json;

use super::*;
use crate::bench::{
    histogram::latency_histogram,
    slices::{Slicing, curve},
};

/// 1 to 10,000 µs, each once.
fn uniform() -> Histogram<u64> {
    let mut histogram = latency_histogram();
    (1..=10_000).for_each(|latency_us| histogram.saturating_record(latency_us * 1_000));
    histogram
}

#[test]
fn a_known_distribution_comes_out_right() {
    let near = |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 0.002, "{found}, not {expected}");
    let percentiles = Percentiles::of(&uniform());
    let json = serde_json::to_value(percentiles).expect("plain numbers");
    for (name, expected) in [("mean", 5_000.5), ("p50", 5_000.0), ("p90", 9_000.0), ("p99", 9_900.0), ("max", 10_000.0)]
    {
        near(json[name].as_f64().expect("a number"), expected);
    }
    let curve = curve(&uniform());
    assert!(curve.is_sorted_by_key(|point| point.quantile) && 40 < curve.len(), "{}", curve.len());
    // A step of the curve holds all up to the next recorded value.
    for point in curve.iter().filter(|point| 0.1 < point.quantile) {
        assert!((point.latency_us - point.quantile * 10_000.0).abs() < 20.0, "{point:?}");
    }
    assert_eq!(curve.last().map(|point| point.quantile), Some(1.0));
}

#[test]
fn slices_add_up() {
    let slicing = Slicing { width: std::time::Duration::from_secs(1), count: 2, of_events: vec![] };
    let slices = slicing.report(&[uniform(), latency_histogram()]);
    assert_eq!(slices.iter().map(|slice| slice.deliveries).collect::<Vec<_>>(), [10_000, 0]);
    assert_eq!(slices[1].start_s, 1.0);
}

#[test]
fn outside_text_is_escaped() {
    let check = |text: &str, expected: &str| assert_eq!(escape(text), expected);
    check("a<b>&\"'", "a&lt;b&gt;&amp;&quot;&#39;");
    check("\u{1b}[31m", "\u{fffd}[31m");
    assert!(json!({"a": escape("µ")})["a"] == "µ");
}

#[test]
fn tags_balance() {
    let line = || Line { name: escape("<script>"), points: vec![(0.0, 10.0), (2.0, 900.0)], is_dashed: false };
    let axis = Axis { end: 2.0, ticks: vec![(1.0, "90 %".to_owned())] };
    let text = section("t", "w", &[line(), line()], axis);
    assert!(!text.contains("<script") && !text.contains("://"), "{text}");
    check_balanced(&text);
}

#[test]
fn an_empty_page_is_one() {
    check_balanced(&page(&Results::default()));
    assert!(!page(&Results::default()).contains("://"));
}

/// Each element ends where it should.
#[track_caller]
fn check_balanced(text: &str) {
    let mut open = Vec::new();
    for tag in text.split('<').skip(1).map(|rest| rest.split('>').next().unwrap_or_default()) {
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "{text}");
        } else if !tag.ends_with('/') && !tag.starts_with('!') {
            open.push(tag.split(' ').next().unwrap_or_default());
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
