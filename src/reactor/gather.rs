//! What a visit writes: the frames between a cursor and the head, in one piece.
//!
//! Listeners of one format that stand at the same place are owed the same bytes. So the frames are put together once and
//! sent to each in one `send`, which costs the kernel less than a list of pieces, and the reactor nothing per frame.
//! Deliveries are counted per such piece and written to the metrics when the clock is read or the piece changes.

use crate::{
    clock::Moment,
    event::Position,
    frame::{FORMAT_COUNT, Format, FormatCode},
    log::Ring,
    metrics::{ReactorMetrics, Transport},
    protocol::encode_frame,
};

/// Frames written in one visit.
pub(super) const FRAMES_PER_VISIT: usize = 64;
/// Bytes written in one visit, unless a single frame is larger.
pub(super) const BYTES_PER_VISIT: usize = 64 * 1024;

/// One [`Gather`] for each format, so that listeners of different formats may stand side by side.
#[derive(Debug, Default)]
pub(super) struct Gathers {
    by_format: [Gather; FORMAT_COUNT],
    /// One bit for each format of which something may not be in the metrics yet.
    unsettled: u16,
    /// The clock as it was read last.
    now: Moment,
}

impl Gathers {
    /// The frames between `from` and the ring's head in `format`, as far as one visit goes; `None` if what comes next has
    /// no form in it.
    #[inline]
    pub(super) fn gather(
        &mut self,
        topic: u32,
        ring: &Ring,
        format: FormatCode,
        from: Position,
        metrics: &ReactorMetrics,
    ) -> Option<&mut Gather> {
        self.unsettled |= 1 << format.index();
        let gather = &mut self.by_format[format.index()];
        let key = Key { topic, from, head: ring.next() };
        if gather.key != Some(key) {
            gather.settle(metrics, self.now);
            gather.fill(ring, format.format(), from);
            gather.key = (!gather.bytes.is_empty()).then_some(key);
            gather.key?;
        }
        Some(gather)
    }

    /// Writes to `metrics` what was delivered up to `now`.
    pub(super) fn settle(&mut self, metrics: &ReactorMetrics, now: Moment) {
        self.now = now;
        while self.unsettled != 0 {
            self.by_format[self.unsettled.trailing_zeros() as usize].settle(metrics, now);
            self.unsettled &= self.unsettled - 1;
        }
    }

    /// The clock as it was read last.
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// Forgets which topics the frames are of: topics have changed places.
    pub(super) fn forget(&mut self) {
        self.by_format.iter_mut().for_each(|gather| gather.key = None);
    }
}

/// The frames of consecutive events of one topic in one format.
#[derive(Debug, Default)]
pub(super) struct Gather {
    key: Option<Key>,
    bytes: Vec<u8>,
    /// Where each frame ends in `bytes`.
    ends: Vec<usize>,
    accepted: Vec<Moment>,
    transport: Transport,
    /// How many listeners have been sent all of it and are not in the metrics yet.
    served: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    topic: u32,
    from: Position,
    head: Position,
}

impl Gather {
    /// One more listener has been sent all of it.
    #[inline]
    pub(super) fn count_served(&mut self) {
        self.served += 1;
    }

    #[inline]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many frames there are.
    #[inline]
    pub(super) fn frames(&self) -> usize {
        self.ends.len()
    }

    /// After a write of `written` bytes: how many frames went out whole, and how much of the next.
    pub(super) fn split(&self, written: usize) -> (usize, usize) {
        let whole = self.ends.partition_point(|end| *end <= written);
        let begin = if whole == 0 { 0 } else { self.ends[whole - 1] };
        (whole, written - begin)
    }

    fn settle(&mut self, metrics: &ReactorMetrics, now: Moment) {
        if self.served == 0 {
            return;
        }
        let frames = self.served * self.ends.len() as u64;
        metrics.on_delivered(self.transport, frames, self.served * self.bytes.len() as u64);
        for accepted in &self.accepted {
            metrics.on_latency(self.transport, now.since(*accepted), self.served);
        }
        self.served = 0;
    }

    fn fill(&mut self, ring: &Ring, format: Format, from: Position) {
        self.transport = transport_of(format);
        self.bytes.clear();
        self.ends.clear();
        self.accepted.clear();
        for event in ring.events_from(from).take(FRAMES_PER_VISIT) {
            if event.gap.is_some() && format == Format::WebSocketRaw {
                // It has no frame: whoever comes to it with nothing else to write ends there.
                break;
            }
            let frame = event.frame(format, |event| encode_frame(event, format));
            if !self.ends.is_empty() && BYTES_PER_VISIT < self.bytes.len() + frame.len() {
                break;
            }
            self.bytes.extend_from_slice(&frame);
            self.ends.push(self.bytes.len());
            self.accepted.push(event.accepted);
        }
        // A rare huge frame must not keep its memory for good.
        if self.bytes.len() <= BYTES_PER_VISIT && 4 * BYTES_PER_VISIT < self.bytes.capacity() {
            self.bytes.shrink_to(BYTES_PER_VISIT);
        }
    }
}

/// What a connection that is written in `format` speaks.
pub(super) fn transport_of(format: Format) -> Transport {
    match format {
        Format::Sse(_) => Transport::Sse,
        Format::WebSocketRaw | Format::FanfareV1 => Transport::WebSocket,
        Format::SocketIo(_) => Transport::SocketIo,
    }
}
