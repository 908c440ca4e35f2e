//! What was published against what arrived. Pure: each token costs the same, however many there are.

use std::{collections::HashMap, time::Duration};

use hdrhistogram::Histogram;

use super::{
    options::TOKENS_MAX,
    token::{Content, Message},
};

/// More counts as this in the percentiles, in µs: an hour.
const LATENCY_US_MAX: u64 = 3_600_000_000;
/// How many conversations of how many runs are followed when the runs are not our own; more are counted as foreign.
const CONVERSATIONS_TRACKED_MAX: usize = 1_000_000;

/// Tokens published and received, of all conversations.
#[derive(Debug)]
pub(super) struct Tally {
    /// The run whose tokens count; all runs do if there is none.
    own_run: Option<u64>,
    /// By run and conversation.
    conversations: HashMap<(u64, u32), ConversationCounters>,
    /// When each conversation's stream first opened, as a Unix time.
    opened: Vec<Option<Duration>>,
    /// Tokens that were published and have not arrived yet.
    missing: u64,
    /// Conversations that have received a probe.
    probed: u64,
    pub(super) counts: Counts,
    pub(super) latency: Latency,
}

/// Plain counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Tokens that Redis or the hub accepted.
    pub(super) published: u64,
    /// Different tokens that arrived.
    pub(super) received: u64,
    /// Arrivals of a token that had arrived before.
    pub(super) duplicates: u64,
    /// Tokens that first arrived after a higher number of their conversation.
    pub(super) out_of_order: u64,
    /// Gaps that the hub announced.
    pub(super) gaps: u64,
    /// Tokens that arrived on the stream of another conversation.
    pub(super) misdelivered: u64,
    /// Events that are no tokens of this run.
    pub(super) foreign: u64,
    /// Tokens that arrived before they were due by their publisher's clock.
    pub(super) early: u64,
}

/// One conversation of one run.
#[derive(Debug, Default)]
struct ConversationCounters {
    published: Bits,
    received: Bits,
    /// Different tokens that arrived, from `base` on.
    count: u32,
    /// The highest number that arrived; 0 for none.
    highest: u32,
    /// The first number that the stream could receive.
    base: u32,
    /// The number of published tokens, if the publisher has announced it.
    end: Option<u32>,
    heard_probe: bool,
}

/// A set of numbers from 1.
#[derive(Debug, Default)]
struct Bits(Vec<u64>);

impl Bits {
    fn contains(&self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, number % 64);
        self.0.get(word).is_some_and(|it| it >> bit & 1 == 1)
    }

    /// Adds a number; false if it was in the set.
    fn insert(&mut self, number: u32) -> bool {
        let (word, bit) = (number as usize / 64, number % 64);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let is_new = self.0[word] >> bit & 1 == 0;
        self.0[word] |= 1 << bit;
        is_new
    }
}

impl ConversationCounters {
    /// Tokens that did not arrive, judged by arrivals and the announced end.
    fn holes(&self) -> u32 {
        let last = self.end.unwrap_or(0).max(self.highest);
        (last + 1).saturating_sub(self.base.max(1)).saturating_sub(self.count)
    }
}

impl Tally {
    /// For `conversations` streams. With `own_run` only its tokens count, and tokens are lost that were passed to
    /// [`Tally::publish`] and did not arrive; without it, gaps in the arrivals are lost.
    pub(super) fn new(own_run: Option<u64>, conversations: u32) -> Self {
        Self {
            own_run,
            conversations: HashMap::new(),
            opened: vec![None; conversations as usize],
            missing: 0,
            probed: 0,
            counts: Counts::default(),
            latency: Latency::new(),
        }
    }

    /// The stream of a conversation, counted from 1, opened at this Unix time. Only the first time counts.
    pub(super) fn open(&mut self, conversation: u32, now: Duration) {
        self.opened[conversation as usize - 1].get_or_insert(now);
    }

    /// The number of streams that have opened.
    pub(super) fn opened_once(&self) -> u64 {
        self.opened.iter().flatten().count() as u64
    }

    /// A token was accepted.
    pub(super) fn publish(&mut self, run: u64, conversation: u32, sequence: u32) {
        self.counts.published += 1;
        let counters = self.conversations.entry((run, conversation)).or_default();
        if counters.published.insert(sequence) && !counters.received.contains(sequence) {
            self.missing += 1;
        }
    }

    /// The hub announced a gap.
    pub(super) fn note_gap(&mut self) {
        self.counts.gaps += 1;
    }

    /// Adds a payload that arrived on the stream of `conversation`, counted from 1, at this Unix time. True if it is a token
    /// that had not arrived before.
    pub(super) fn receive(&mut self, conversation: u32, payload: &[u8], now: Duration) -> bool {
        let message = Message::read(payload);
        let Some(message) = message.filter(|message| self.own_run.is_none_or(|own| own == message.run)) else {
            self.counts.foreign += 1;
            return false;
        };
        if message.conversation != conversation {
            self.counts.misdelivered += 1;
            return false;
        }
        let key = (message.run, conversation);
        if CONVERSATIONS_TRACKED_MAX <= self.conversations.len() && !self.conversations.contains_key(&key) {
            self.counts.foreign += 1;
            return false;
        }
        let counters = self.conversations.entry(key).or_default();
        match message.content {
            Content::Probe => self.probed += u64::from(!std::mem::replace(&mut counters.heard_probe, true)),
            Content::End(count) => counters.end = Some(count.min(TOKENS_MAX)),
            Content::Token { sequence, .. } if TOKENS_MAX < sequence => self.counts.foreign += 1,
            Content::Token { sequence, due, began } => return self.take(key, sequence, (due, began), now),
        }
        false
    }

    fn take(&mut self, key: (u64, u32), sequence: u32, (due, began): (Duration, Duration), now: Duration) -> bool {
        let counters = self.conversations.entry(key).or_default();
        if !counters.received.insert(sequence) {
            self.counts.duplicates += 1;
            return false;
        }
        if counters.base == 0 {
            // A stream that opened in time could receive the first token; one that opened later does not miss earlier
            // tokens.
            let opened = self.opened[key.1 as usize - 1].unwrap_or_default();
            counters.base = if opened <= began { 1 } else { sequence };
        }
        if counters.published.contains(sequence) {
            self.missing -= 1;
        }
        counters.count += u32::from(counters.base <= sequence);
        self.counts.received += 1;
        self.counts.out_of_order += u64::from(sequence < counters.highest);
        counters.highest = counters.highest.max(sequence);
        self.counts.early += u64::from(now < due);
        self.latency.record(now.saturating_sub(due));
        true
    }

    /// Tokens that have not arrived: published ones of our own run, or else gaps in the arrivals.
    pub(super) fn lost(&self) -> u64 {
        match self.own_run {
            Some(_) => self.missing,
            None => self.conversations.values().map(|counters| u64::from(counters.holes())).sum(),
        }
    }

    /// The number of conversations that have received a probe.
    pub(super) fn probed(&self) -> u64 {
        self.probed
    }

    /// The conversations, counted from 1, that have not received the run's probe.
    pub(super) fn unprobed(&self, run: u64) -> Vec<u32> {
        let is_probed =
            |conversation: u32| self.conversations.get(&(run, conversation)).is_some_and(|it| it.heard_probe);
        (1..=u32::try_from(self.opened.len()).unwrap_or(u32::MAX)).filter(|&it| !is_probed(it)).collect()
    }

    /// The number of conversations that have received nothing, or no end of what they began to receive.
    pub(super) fn unended(&self) -> u64 {
        let mut is_ended = vec![None; self.opened.len()];
        for (&(_, conversation), counters) in &self.conversations {
            let slot: &mut Option<bool> = &mut is_ended[conversation as usize - 1];
            *slot = Some(slot.unwrap_or(true) && counters.end.is_some());
        }
        is_ended.into_iter().filter(|it| *it != Some(true)).count() as u64
    }
}

/// Latency of tokens, from when they were due to when their bytes were read.
#[derive(Debug)]
pub(super) struct Latency {
    /// In µs.
    histogram: Histogram<u64>,
    sum: Duration,
    min: Duration,
    max: Duration,
}

/// The figures, in ms.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(super) struct LatencyFigures {
    pub(super) min_ms: f64,
    pub(super) avg_ms: f64,
    pub(super) max_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p95_ms: f64,
    pub(super) p99_ms: f64,
}

impl Latency {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("constants within the allowed bounds");
        Self { histogram, sum: Duration::ZERO, min: Duration::MAX, max: Duration::ZERO }
    }

    pub(super) fn record(&mut self, span: Duration) {
        let us = u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
        self.histogram.saturating_record(us.clamp(1, LATENCY_US_MAX));
        self.sum += span;
        self.min = self.min.min(span);
        self.max = self.max.max(span);
    }

    /// `None` while there is no value.
    pub(super) fn figures(&self) -> Option<LatencyFigures> {
        if self.histogram.is_empty() {
            return None;
        }
        let ms = |span: Duration| round_ms(span.as_secs_f64() * 1e3);
        #[expect(clippy::cast_precision_loss, reason = "an hour in µs is far below 2^53")]
        // A histogram's step may lie above the longest span it holds.
        let at = |quantile| round_ms(self.histogram.value_at_quantile(quantile) as f64 / 1e3).min(ms(self.max));
        #[expect(clippy::cast_precision_loss, reason = "nobody receives more than 2^53 tokens")]
        let avg_ms = round_ms(self.sum.as_secs_f64() * 1e3 / self.histogram.len() as f64);
        let (min_ms, max_ms) = (ms(self.min), ms(self.max));
        Some(LatencyFigures { min_ms, avg_ms, max_ms, p50_ms: at(0.5), p95_ms: at(0.95), p99_ms: at(0.99) })
    }
}

/// To the microsecond.
fn round_ms(ms: f64) -> f64 {
    (ms * 1e3).round() / 1e3
}
