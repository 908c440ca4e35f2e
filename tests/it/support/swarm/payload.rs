//! The payload of events, which the publisher writes and the subscribers read.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// One event's payload, as JSON.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Payload {
    /// The index of the topic in the plan.
    pub(super) topic: usize,
    /// The number of the event in its topic, from 1.
    pub(super) number: u32,
    /// When it was sent, in µs since the origin.
    pub(super) sent_us: u64,
}

/// The origin of the times in payloads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin(Instant);

impl Origin {
    pub(crate) fn now() -> Self {
        Self(Instant::now())
    }

    /// In µs.
    pub(super) fn elapsed_us(self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}

impl Payload {
    /// As JSON, with so much padding at its end.
    pub(super) fn write(&self, padding_bytes: usize) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("numbers are JSON");
        if 0 < padding_bytes {
            text.pop();
            text.extend_from_slice(b",\"padding\":\"");
            text.resize(text.len() + padding_bytes, b'x');
            text.extend_from_slice(b"\"}");
        }
        text
    }

    /// `None` if it is no payload of the publisher.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        serde_json::from_slice(text).ok()
    }
}

/// Up to ten minutes, in µs.
pub(super) fn latency_histogram() -> Histogram<u64> {
    let most = u64::try_from(Duration::from_secs(600).as_micros()).unwrap_or(u64::MAX);
    Histogram::new_with_bounds(1, most, 2).expect("the bounds are in order")
}
