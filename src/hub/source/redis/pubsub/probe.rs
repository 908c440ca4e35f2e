//! Proof of delivery: the hub publishes a nonce to a channel of its own and waits until it arrives.

use std::time::Duration;

use crate::clock::Moment;

/// ChannelEncoder that begin so carry the hubs' probes and no events.
const PREFIX: &str = "fanfare.probe.";

/// The probe of one connection.
#[derive(Debug)]
pub(super) struct ChannelProbe {
    seed: u64,
    channel: String,
    is_on: bool,
    nonce: u64,
    sent: Moment,
}

impl ChannelProbe {
    /// A probe that is off until its channel is subscribed. `seed` makes its channel differ from those of other hubs.
    pub(super) fn new(seed: u64, now: Moment) -> Self {
        Self { seed, channel: format!("{PREFIX}{seed:016x}"), is_on: false, nonce: seed, sent: now }
    }

    /// Moves the probe to a channel in the slot of the key `tag`. It is off until that channel is subscribed.
    pub(super) fn move_to(&mut self, tag: &str) {
        self.channel = format!("{PREFIX}{{{tag}}}.{:016x}", self.seed);
        self.is_on = false;
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    pub(super) fn switch(&mut self, is_on: bool) {
        self.is_on = is_on;
    }

    /// When the last nonce was published.
    pub(super) fn sent(&self) -> Moment {
        self.sent
    }

    /// The nonce to publish now.
    pub(super) fn next_nonce(&mut self, now: Moment) -> String {
        self.nonce = self.nonce.wrapping_add(1);
        self.sent = now;
        self.nonce.to_string()
    }

    /// How long the nonce took, if this message is it.
    pub(super) fn proof(&self, channel: &[u8], payload: &[u8], now: Moment) -> Option<Duration> {
        let is_it = channel == self.channel.as_bytes() && payload == self.nonce.to_string().as_bytes();
        is_it.then(|| now.since(self.sent))
    }
}

/// Whether `channel` belongs to some hub's probe.
pub(super) fn is_probe(channel: &[u8]) -> bool {
    channel.starts_with(PREFIX.as_bytes())
}
