//! What a visit writes: the frames between a cursor and the head, in one piece.
//!
//! Subscribers of one format with the same cursor are owed the same bytes. So the frames are put together once and
//! sent to each in one `send`, which costs the kernel less than a list of pieces, and the reactor nothing per frame.
//! Deliveries are counted per such piece and written to the metrics when the clock is read or the piece changes.

use super::merged_batch::MergedBatches;
use crate::{
    clock::Moment,
    event::Position,
    frame::{FORMAT_COUNT, Format, FormatCode},
    index::TopicIndex,
    log::Ring,
    metrics::{ReactorMetrics, Transport},
    protocol::encode_frame,
    reactor::table::LocalTopic,
};

/// Frames written in one visit.
pub(super) const FRAMES_PER_VISIT: usize = 64;
/// Bytes written in one visit, unless a single frame is larger.
pub(super) const BYTES_PER_VISIT: usize = 64 * 1024;

/// One [`FrameBatch`] for each format, so that subscribers of different formats may stand side by side.
#[derive(Debug, Default)]
pub(super) struct FrameBatchCache {
    by_format: [FrameBatch; FORMAT_COUNT],
    /// What connections that listen to several topics are owed.
    pub(super) batches: MergedBatches,
    /// One bit for each format of which something may not be in the metrics yet.
    unsettled: u16,
    /// The clock as it was read last.
    now: Moment,
}

impl FrameBatchCache {
    /// The frames between `from` and the ring's head in `format`, as far as one visit goes; `None` if what comes next has
    /// no form in it.
    #[inline]
    pub(super) fn gather(
        &mut self,
        topic: TopicIndex,
        ring: &Ring,
        format: FormatCode,
        from: Position,
        metrics: &ReactorMetrics,
    ) -> Option<&mut FrameBatch> {
        self.unsettled |= 1 << format.index();
        let batch = &mut self.by_format[format.index()];
        let key = Key { topic, from, head: ring.next(), newest: false };
        if batch.key != Some(key) {
            batch.frames.settle(metrics, self.now);
            batch.fill(ring, format.format(), from, |_| false);
            batch.key = (batch.frames.len() != 0).then_some(key);
            batch.key?;
        }
        Some(batch)
    }

    /// The same without events that a newer one of the same key follows. There are no frames if what comes next, of those
    /// that are left, has no form in `format`.
    pub(super) fn gather_newest(
        &mut self,
        topic_index: TopicIndex,
        topic: &LocalTopic,
        format: FormatCode,
        from: Position,
        metrics: &ReactorMetrics,
    ) -> &mut FrameBatch {
        self.unsettled |= 1 << format.index();
        let batch = &mut self.by_format[format.index()];
        let key = Key { topic: topic_index, from, head: topic.ring.next(), newest: true };
        if batch.key != Some(key) {
            batch.frames.settle(metrics, self.now);
            batch.fill(&topic.ring, format.format(), from, |position| topic.is_superseded(position));
            batch.key = (batch.frames.len() != 0).then_some(key);
        }
        batch
    }

    /// Writes to `metrics` what was delivered up to `now`.
    pub(super) fn settle(&mut self, metrics: &ReactorMetrics, now: Moment) {
        self.now = now;
        while self.unsettled != 0 {
            self.by_format[self.unsettled.trailing_zeros() as usize].frames.settle(metrics, now);
            self.unsettled &= self.unsettled - 1;
        }
        self.batches.settle(metrics, now);
    }

    /// The same for what was delivered to a connection that is on its way from an old cursor to the head: it counts, and is not
    /// measured.
    pub(super) fn settle_history(&mut self, metrics: &ReactorMetrics) {
        while self.unsettled != 0 {
            self.by_format[self.unsettled.trailing_zeros() as usize].frames.settle_history(metrics);
            self.unsettled &= self.unsettled - 1;
        }
        self.batches.settle_history(metrics);
    }

    /// Forgets which topics the frames are of: an index may stand for another topic.
    pub(super) fn forget(&mut self) {
        self.by_format.iter_mut().for_each(|batch| batch.key = None);
    }
}

/// Frames in one piece, and how often they were sent.
#[derive(Debug, Default)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
    accepted: Vec<Moment>,
    transport: Transport,
    /// Events left out because a newer one of the same key follows.
    pub(super) conflated: u64,
    /// How many subscribers have been sent all of it and are not in the metrics yet.
    served: u64,
}

impl Frames {
    /// One more subscriber has been sent all of it.
    #[inline]
    pub(super) fn count_served(&mut self) {
        self.served += 1;
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many frames there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Where the frame at `index` ends.
    pub(super) fn end(&self, index: usize) -> usize {
        self.ends[index]
    }

    /// What the peers speak.
    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// Empties it, for frames in `format`. It has been settled.
    pub(super) fn begin(&mut self, format: Format) {
        self.transport = format.transport();
        self.bytes.clear();
        self.ends.clear();
        self.accepted.clear();
        self.conflated = 0;
    }

    /// Appends the frame of an event accepted at `accepted`, which `write` writes. False if there is no room for it.
    pub(super) fn push(&mut self, accepted: Moment, write: impl FnOnce(&mut Vec<u8>)) -> bool {
        let before = self.bytes.len();
        write(&mut self.bytes);
        if !self.ends.is_empty() && BYTES_PER_VISIT < self.bytes.len() {
            self.bytes.truncate(before);
            return false;
        }
        self.ends.push(self.bytes.len());
        self.accepted.push(accepted);
        true
    }

    /// All frames are there. A rare huge one must not keep its memory for good.
    pub(super) fn finish(&mut self) {
        if self.bytes.len() <= BYTES_PER_VISIT && 4 * BYTES_PER_VISIT < self.bytes.capacity() {
            self.bytes.shrink_to(BYTES_PER_VISIT);
        }
    }

    /// After a write of `written` bytes: how many frames went out whole, and how much of the next.
    pub(super) fn split(&self, written: usize) -> (usize, usize) {
        let whole = self.ends.partition_point(|end| *end <= written);
        let begin = if whole == 0 { 0 } else { self.ends[whole - 1] };
        (whole, written - begin)
    }

    /// Writes to `metrics` what was delivered up to `now`.
    pub(super) fn settle(&mut self, metrics: &ReactorMetrics, now: Moment) {
        if self.served == 0 {
            return;
        }
        for accepted in &self.accepted {
            metrics.on_latency(self.transport, now.since(*accepted), self.served);
        }
        self.settle_history(metrics);
    }

    /// The same without how long it took.
    pub(super) fn settle_history(&mut self, metrics: &ReactorMetrics) {
        if self.served == 0 {
            return;
        }
        let frames = self.served * self.ends.len() as u64;
        metrics.on_delivered(self.transport, frames, self.served * self.bytes.len() as u64);
        if 0 < self.conflated {
            metrics.on_conflated(self.served * self.conflated);
        }
        self.served = 0;
    }
}

/// The frames of events of one topic in one format.
#[derive(Debug, Default)]
pub(super) struct FrameBatch {
    key: Option<Key>,
    pub(super) frames: Frames,
    /// The position of each frame's event.
    positions: Vec<Position>,
    /// Where a subscriber stands that has been sent all of it.
    pub(super) reached: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    topic: TopicIndex,
    from: Position,
    head: Position,
    /// Without events that a newer one of the same key follows.
    newest: bool,
}

impl FrameBatch {
    /// The position of the event whose frame is at `index`.
    pub(super) fn position(&self, index: usize) -> Position {
        self.positions[index]
    }

    /// Frames of so many bytes each, of the events at these positions.
    #[cfg(test)]
    pub(super) fn of(frames: &[(Position, usize)]) -> Self {
        let mut batch = Self::default();
        for (position, bytes) in frames {
            batch.frames.push(Moment(0), |out| out.resize(out.len() + bytes, 0));
            batch.positions.push(*position);
        }
        batch
    }

    fn fill(&mut self, ring: &Ring, format: Format, from: Position, is_superseded: impl Fn(Position) -> bool) {
        self.frames.begin(format);
        self.positions.clear();
        self.reached = from;
        for event in ring.events_from(from) {
            if is_superseded(event.position) {
                self.frames.conflated += 1;
                self.reached = event.position + 1;
                continue;
            }
            if event.gap.is_some() && !format.has_gaps() {
                // It has no frame: a connection that comes to it with nothing else to write ends there.
                break;
            }
            let frame = event.frame(format, |event| encode_frame(event, format));
            let has_room = self.frames.len() < FRAMES_PER_VISIT;
            if !has_room || !self.frames.push(event.accepted, |out| out.extend_from_slice(&frame)) {
                break;
            }
            self.positions.push(event.position);
            self.reached = event.position + 1;
        }
        self.frames.finish();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{clock::Clock, metrics::Metrics};

    const NOW: Moment = Moment(5_000_000_000);

    impl FrameBatchCache {
        /// Whether it may send frames of this topic once more.
        pub(in crate::reactor::fan_out) fn has_frames_of(&self, topic: TopicIndex) -> bool {
            self.by_format.iter().any(|batch| batch.key.is_some_and(|key| key.topic == topic))
        }
    }

    fn frames() -> Frames {
        let mut frames = Frames::default();
        frames.begin(Format::WebSocketRaw);
        frames
    }

    /// Whether a frame of so many bytes was taken, accepted so many seconds ago.
    fn push(frames: &mut Frames, bytes: usize, seconds: u64) -> bool {
        frames.push(Moment(NOW.0 - seconds * 1_000_000_000), |out| out.resize(out.len() + bytes, b'x'))
    }

    #[test]
    fn a_visit_has_so_many_bytes_or_one_frame() {
        let check = |sizes: &[usize], expected: &[bool]| {
            let mut frames = frames();
            let taken: Vec<bool> = sizes.iter().map(|bytes| push(&mut frames, *bytes, 0)).collect();
            assert_eq!(taken, expected, "{sizes:?}");
            let sum: usize = sizes.iter().zip(expected).filter(|(_, taken)| **taken).map(|(bytes, _)| bytes).sum();
            assert_eq!((frames.bytes().len(), frames.end(frames.len() - 1)), (sum, sum), "{sizes:?}");
        };
        check(&[BYTES_PER_VISIT + 1], &[true]);
        check(&[BYTES_PER_VISIT + 1, 1], &[true, false]);
        check(&[1, BYTES_PER_VISIT - 1], &[true, true]);
        check(&[1, BYTES_PER_VISIT], &[true, false]);
    }

    #[test]
    fn a_huge_frame_does_not_keep_its_memory() {
        let mut frames = frames();
        assert!(push(&mut frames, 8 * BYTES_PER_VISIT, 0));
        frames.finish();
        assert!(8 * BYTES_PER_VISIT <= frames.bytes.capacity(), "it is in use");
        frames.begin(Format::WebSocketRaw);
        assert!(push(&mut frames, 10, 0));
        frames.finish();
        assert!(frames.bytes.capacity() <= 4 * BYTES_PER_VISIT, "{}", frames.bytes.capacity());
        // What is usual is kept, so that it is not asked for again.
        let mut usual = self::frames();
        usual.bytes.reserve_exact(3 * BYTES_PER_VISIT);
        assert!(push(&mut usual, 10, 0));
        usual.finish();
        assert!(3 * BYTES_PER_VISIT <= usual.bytes.capacity());
        usual.bytes.reserve_exact(4 * BYTES_PER_VISIT - usual.bytes.len());
        usual.finish();
        assert_eq!(usual.bytes.capacity(), 4 * BYTES_PER_VISIT);
    }

    #[test]
    fn what_was_sent_is_counted_once() {
        let reactor = Arc::new(ReactorMetrics::default());
        let metrics = Metrics { reactors: vec![Arc::clone(&reactor)], sources: Vec::new(), clock: Clock::start() };
        let mut frames = frames();
        assert!(push(&mut frames, 10, 1) && push(&mut frames, 20, 3) && push(&mut frames, 30, 3));
        let check = |deliveries: u64, bytes: u64, latencies: u64| {
            let totals = metrics.totals(frames_transport());
            let found = (totals.deliveries, totals.delivered_bytes, totals.latencies.count());
            assert_eq!(found, (deliveries, bytes, latencies));
        };
        frames.settle(&reactor, NOW);
        check(0, 0, 0);
        (0..4).for_each(|_| frames.count_served());
        frames.settle(&reactor, NOW);
        check(12, 240, 12);
        let latencies = metrics.totals(frames_transport()).latencies;
        assert!(latencies.quantile(0.1) < Duration::from_secs(2) && Duration::from_secs(2) < latencies.quantile(0.9));
        frames.settle(&reactor, NOW);
        check(12, 240, 12);
        // How long ago history was accepted says nothing of the hub.
        (0..2).for_each(|_| frames.count_served());
        frames.settle_history(&reactor);
        frames.settle_history(&reactor);
        check(18, 360, 12);
    }

    fn frames_transport() -> Transport {
        Format::WebSocketRaw.transport()
    }
}
