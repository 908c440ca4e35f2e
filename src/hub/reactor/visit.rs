//! A visit: what lies between a subscriber's cursor and the head of its topic's log goes out.
//!
//! Subscribers of one format with the same cursor that follow one another in the lap are visited as a *cohort*: what they
//! are owed is looked up once, and each of them costs a look at its connection and a `send`.
//!
//! A connection that listens to several topics, or has frames of its own, is brought on in all of them by any of their laps
//! ([`MergedBatches`](super::merged_batch::MergedBatches)).

use std::{io, sync::Arc};

use super::{
    connection::{Connection, Unfinished},
    engine::Engines,
    frame_batch::{FrameBatch, FrameBatchCache},
    gaps::Lagged,
    net::Net,
    slab::Slab,
    state::{BEHIND, BLOCKED, POLL_PENDING},
    table::LocalTopic,
};
use crate::{
    clock::Moment,
    close::Close,
    index::{GroupIndex, Slot, SubscriberIndex, TopicIndex},
    log::{Ring, Subscriber},
    metrics::ReactorMetrics,
};

/// How a visit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    /// The cursor is at the head.
    AtHead,
    /// There is more than one visit may write.
    More,
    /// The peer's window is full.
    Blocked,
    /// The log has passed the cursor, or the transport has no form for the hole in the log that comes next.
    Lagged,
    /// The connection is broken.
    Broken,
}

/// What a lap's visits need of their reactor.
pub(super) struct Visitor<'r, N: Net> {
    pub(super) net: &'r mut N,
    pub(super) connections: &'r mut Slab<Connection<N::Stream>>,
    pub(super) engines: &'r mut Engines,
    pub(super) frame_batches: &'r mut FrameBatchCache,
    pub(super) metrics: &'r ReactorMetrics,
    pub(super) aside: VisitOutcomes<'r>,
    /// Connections that are written to from all their topics, and the group of each: they are left to the caller.
    pub(super) several: &'r mut Vec<(Slot, GroupIndex)>,
    pub(super) topic_index: TopicIndex,
    pub(super) now: Moment,
}

impl<N: Net> Visitor<'_, N> {
    /// Visits those of the topic's `subscribers` that are behind; returns how many were written to.
    pub(super) fn visit_all(&mut self, ring: &Ring, mut subscribers: &mut [Subscriber]) -> usize {
        let mut visits = 0;
        while let Some(&first) = subscribers.first() {
            let is_alike =
                |subscriber: &&Subscriber| subscriber.cursor == first.cursor && subscriber.format == first.format;
            let count = subscribers.iter().take_while(is_alike).count();
            let (cohort, others) = subscribers.split_at_mut(count);
            subscribers = others;
            if let Some(group) = first.group() {
                self.several.extend(cohort.iter().map(|subscriber| (subscriber.slot, group)));
            } else if first.cursor != ring.next() {
                visits += self.visit_cohort(ring, cohort);
            }
        }
        visits
    }

    /// Visits subscribers of one format with the same cursor.
    #[inline]
    fn visit_cohort(&mut self, ring: &Ring, cohort: &mut [Subscriber]) -> usize {
        // Blocked readers have old cursors, each its own: what they are owed is not put together in vain.
        let is_first = |subscriber: &Subscriber| {
            self.connections.at(subscriber.slot).is_some_and(|it| may_visit(it, subscriber.slot, self.engines))
        };
        let Some(first) = cohort.iter().position(is_first) else { return 0 };
        let mut batch = shared_batch(self.frame_batches, self.topic_index, ring, &cohort[first], self.metrics);
        let mut visits = 0;
        for subscriber in &mut cohort[first..] {
            let slot = subscriber.slot;
            let Some(connection) = self.connections.at(slot) else { continue };
            if !may_visit(connection, slot, self.engines) {
                continue;
            }
            visits += 1;
            connection.note_written(self.now);
            let outcome = match &mut batch {
                Some(batch) => write_batch(self.net, connection, subscriber, ring, batch, self.metrics),
                None => Visit::Lagged,
            };
            if outcome != Visit::AtHead {
                record_outcome(outcome, slot, self.topic_index, connection, &mut self.aside);
            }
        }
        visits
    }
}

/// Whether a lap may write to the connection at `slot`. If it cannot because requests carry it, the one that waits is noted.
#[inline]
pub(super) fn may_visit<S>(connection: &Connection<S>, slot: Slot, engines: &mut Engines) -> bool {
    let is_clear = connection.state.is_clear();
    if !is_clear && connection.state.has(POLL_PENDING) {
        engines.note_polled(slot);
    }
    is_clear
}

/// One visit outside of a lap.
pub(super) fn visit<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    subscriber: &mut Subscriber,
    topic_index: TopicIndex,
    ring: &Ring,
    frame_batches: &mut FrameBatchCache,
    metrics: &ReactorMetrics,
) -> Visit {
    match shared_batch(frame_batches, topic_index, ring, subscriber, metrics) {
        Some(batch) => write_batch(net, connection, subscriber, ring, batch, metrics),
        None => Visit::Lagged,
    }
}

/// One visit to a connection that was behind in a topic of which such readers get the newest event of each key only.
pub(super) fn visit_newest<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    subscriber_index: SubscriberIndex,
    topic_index: TopicIndex,
    topic: &mut LocalTopic,
    frame_batches: &mut FrameBatchCache,
    metrics: &ReactorMetrics,
) -> Visit {
    let mut subscriber = *topic.lap.subscriber(subscriber_index);
    if subscriber.cursor < topic.ring.oldest() {
        return Visit::Lagged;
    }
    let batch = frame_batches.gather_newest(topic_index, topic, subscriber.format, subscriber.cursor, metrics);
    let visit = if batch.frames.len() == 0 {
        subscriber.cursor = batch.reached;
        Visit::Lagged
    } else {
        write_batch(net, connection, &mut subscriber, &topic.ring, batch, metrics)
    };
    topic.lap.subscriber(subscriber_index).cursor = subscriber.cursor;
    visit
}

/// The frames that the subscriber is owed; `None` if the log has passed it, or what comes next has no form in its format.
#[inline]
fn shared_batch<'g>(
    frame_batches: &'g mut FrameBatchCache,
    topic_index: TopicIndex,
    ring: &Ring,
    subscriber: &Subscriber,
    metrics: &ReactorMetrics,
) -> Option<&'g mut FrameBatch> {
    if ring.oldest() <= subscriber.cursor {
        frame_batches.gather(topic_index, ring, subscriber.format, subscriber.cursor, metrics)
    } else {
        None
    }
}

/// Writes the frames that the subscriber is owed.
#[inline]
fn write_batch<N: Net>(
    net: &mut N,
    connection: &mut Connection<N::Stream>,
    subscriber: &mut Subscriber,
    ring: &Ring,
    batch: &mut FrameBatch,
    metrics: &ReactorMetrics,
) -> Visit {
    let bytes = batch.frames.bytes();
    match net.write(&mut connection.stream, bytes) {
        Ok(written) if written == bytes.len() => {
            batch.frames.count_served();
            subscriber.cursor = batch.reached;
            if subscriber.cursor == ring.next() { Visit::AtHead } else { Visit::More }
        }
        Ok(written) => {
            cut_short(connection, subscriber, ring, batch, metrics, written);
            Visit::Blocked
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Visit::Blocked,
        Err(_) => Visit::Broken,
    }
}

/// After a short write: the cursor passes the frames that went out and the one that went out in part, which the
/// connection finishes by itself.
#[cold]
fn cut_short<S>(
    connection: &mut Connection<S>,
    subscriber: &mut Subscriber,
    ring: &Ring,
    batch: &FrameBatch,
    metrics: &ReactorMetrics,
    written: usize,
) {
    let (whole, part) = batch.frames.split(written);
    // The latency of these few is left out: the peer, not the hub, decides when they count as written.
    metrics.on_delivered(connection.transport, whole as u64, (written - part) as u64);
    let (from, mut passed) = (subscriber.cursor, whole as u64);
    if 0 < whole {
        subscriber.cursor = batch.position(whole - 1) + 1;
    }
    if 0 < part
        && let Some(event) = ring.event(batch.position(whole))
    {
        let event = Arc::clone(event);
        let format = subscriber.format.format();
        connection.unfinished = Some(Unfinished { event, format, written: part as u32 });
        subscriber.cursor = batch.position(whole) + 1;
        passed += 1;
    }
    metrics.on_conflated(subscriber.cursor - from - passed);
}

/// Where connections go that a visit did not bring to the head: how many are blocked, who writes again next turn, who is
/// to be ended, and who is stranded.
pub(super) type VisitOutcomes<'r> = (&'r mut usize, &'r mut Vec<Slot>, &'r mut Vec<(Slot, Close)>, &'r mut Vec<Lagged>);

/// After a visit that left the cursor behind the head: puts the connection where it goes on, or ends.
#[inline(always)]
pub(super) fn record_outcome<S>(
    outcome: Visit,
    slot: Slot,
    topic: TopicIndex,
    connection: &mut Connection<S>,
    (blocked, write_again, to_end, stranded): &mut VisitOutcomes<'_>,
) {
    match outcome {
        Visit::AtHead => {}
        // Several topics with a backlog are one reason to go on, not several.
        Visit::More if write_again.last() == Some(&slot) => {}
        Visit::More => write_again.push(slot),
        Visit::Blocked => {
            connection.state.set(BLOCKED | BEHIND);
            **blocked += 1;
        }
        Visit::Lagged => stranded.push(Lagged { slot, topic }),
        Visit::Broken => to_end.push((slot, Close::PeerGone)),
    }
}
