//! Families of metrics: a name, a help text, and the series.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use super::{Figure, FigureValue, Snapshot};

/// Histogram bounds in µs, from 64 µs to 17 s, each on the edge of a bucket. They are closer around half a millisecond, a slice's
/// length, where deliveries to small topics end up.
const BOUNDS_US: [u64; 19] = [
    64, 128, 256, 512, 768, 1024, 1536, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576,
    4_194_304, 16_777_216,
];

type Labels = Vec<(&'static str, String)>;

#[derive(Debug)]
pub(super) enum Value {
    Number(u64),
    Decimal(f64),
    Histogram(Box<Snapshot>),
}

/// A metric name with its series.
#[derive(Debug)]
pub(super) struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    series: Vec<(Labels, Value)>,
}

impl Family {
    fn new(name: &'static str, help: &'static str, kind: MetricType) -> Self {
        Self { name, help, kind, series: Vec::new() }
    }

    pub(super) fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, MetricType::Counter)
    }

    pub(super) fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, MetricType::Gauge)
    }

    pub(super) fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(name, help, MetricType::Histogram)
    }

    pub(super) fn add(&mut self, labels: Labels, value: Value) {
        self.series.push((labels, value));
    }

    pub(super) fn with(mut self, labels: Labels, value: Value) -> Self {
        self.add(labels, value);
        self
    }

    pub(super) fn of(self, number: u64) -> Self {
        self.with(Vec::new(), Value::Number(number))
    }
}

impl From<Figure> for Family {
    fn from(Figure { name, help, value }: Figure) -> Self {
        match value {
            FigureValue::Counter(number) => Self::counter(name, help).of(number),
            FigureValue::Gauge(number) => Self::gauge(name, help).of(number),
            FigureValue::Histogram(snapshot) => {
                Self::histogram(name, help).with(Vec::new(), Value::Histogram(snapshot))
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Families {
    pub(super) rows: Vec<Family>,
}

impl Collector for Families {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for family in &self.rows {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, family.kind)?;
            for (labels, value) in &family.series {
                if labels.is_empty() {
                    encode_value(value, family.kind, &mut metric)?;
                } else {
                    encode_value(value, family.kind, &mut metric.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

fn encode_value(value: &Value, kind: MetricType, metric: &mut MetricEncoder<'_>) -> fmt::Result {
    match (value, kind) {
        (Value::Histogram(snapshot), _) => {
            let buckets = snapshot.by_bounds(&BOUNDS_US);
            metric.encode_histogram::<NoLabelSet>(snapshot.sum_s(), snapshot.count(), &buckets, None)
        }
        (Value::Number(number), MetricType::Counter) => metric.encode_counter::<NoLabelSet, u64, f64>(number, None),
        (Value::Number(number), _) => metric.encode_gauge(&i64::try_from(*number).unwrap_or(i64::MAX)),
        (Value::Decimal(number), MetricType::Counter) => metric.encode_counter::<NoLabelSet, f64, f64>(number, None),
        (Value::Decimal(number), _) => metric.encode_gauge(number),
    }
}
