//! A visit: what lies between a subscriber's cursor and the head of its topic's log goes out.
//!
//! Subscribers of one format with the same cursor that follow one another in the lap are visited as a *cohort*: what they
//! are owed is looked up once, and each of them costs a look at its connection and a `send`.
//!
//! A connection that listens to several topics, or has frames of its own, is brought on in all of them by any of their laps
//! ([`MergedBatches`](super::merged_batch::MergedBatches)).

use std::{io, sync::Arc};

use super::frame_batch::{FrameBatch, FrameBatchCache};
use crate::{
    clock::Moment,
    close::Close,
    event::Position,
    index::{GroupIndex, Slot, SubscriberIndex, TopicIndex},
    log::{Ring, Subscriber},
    metrics::ReactorMetrics,
    reactor::{
        connection::{Connection, Unfinished},
        gaps::Lagged,
        net::Net,
        slab::Slab,
        state::{BEHIND, BLOCKED, POLL_PENDING, State},
        table::LocalTopic,
    },
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
    pub(super) frame_batches: &'r mut FrameBatchCache,
    pub(super) metrics: &'r ReactorMetrics,
    pub(super) outcomes: &'r mut VisitOutcomes,
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
            self.connections.at(subscriber.slot).is_some_and(|it| may_visit(it, subscriber.slot, self.outcomes))
        };
        let Some(first) = cohort.iter().position(is_first) else { return 0 };
        let mut batch = shared_batch(self.frame_batches, self.topic_index, ring, &cohort[first], self.metrics);
        let mut visits = 0;
        for subscriber in &mut cohort[first..] {
            let slot = subscriber.slot;
            let Some(connection) = self.connections.at(slot) else { continue };
            if !may_visit(connection, slot, self.outcomes) {
                continue;
            }
            visits += 1;
            connection.note_written(self.now);
            let outcome = match &mut batch {
                Some(batch) => write_batch(self.net, connection, subscriber, ring, batch, self.metrics),
                None => Visit::Lagged,
            };
            if outcome != Visit::AtHead {
                self.outcomes.record(outcome, slot, self.topic_index, &mut connection.state);
            }
        }
        visits
    }
}

/// Whether a lap may write to the connection at `slot`. If it cannot because requests carry it, the one that waits is noted.
#[inline]
pub(super) fn may_visit<S>(connection: &Connection<S>, slot: Slot, outcomes: &mut VisitOutcomes) -> bool {
    let is_clear = connection.state.is_clear();
    if !is_clear && connection.state.has(POLL_PENDING) {
        outcomes.polled.push(slot);
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
    let mut subscriber = *topic.subscribers.at(subscriber_index);
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
    topic.subscribers.at(subscriber_index).cursor = subscriber.cursor;
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
    let ShortWrite { cursor, frames, bytes, unfinished, conflated } = short_write(batch, subscriber.cursor, written);
    // The latency of these few is left out: the peer, not the hub, decides when they count as written.
    metrics.on_delivered(connection.transport, frames, bytes);
    metrics.on_conflated(conflated);
    subscriber.cursor = cursor;
    if let Some((position, written)) = unfinished
        && let Some(event) = ring.event(position)
    {
        let (event, format) = (Arc::clone(event), subscriber.format.format());
        connection.unfinished = Some(Unfinished { event, format, written });
    }
}

/// What a short write leaves.
#[derive(Debug, PartialEq, Eq)]
struct ShortWrite {
    /// Where the subscriber stands.
    cursor: Position,
    /// Frames that went out whole, and their bytes.
    frames: u64,
    bytes: u64,
    /// The event whose frame went out in part, and how many bytes of it.
    unfinished: Option<(Position, u32)>,
    /// Events that the cursor has passed without a frame: a newer one of the same key followed.
    conflated: u64,
}

/// After a write of `written` bytes of `batch`, of which some were left, to a subscriber that stood at `from`.
fn short_write(batch: &FrameBatch, from: Position, written: usize) -> ShortWrite {
    let (whole, part) = batch.frames.split(written);
    let unfinished = (0 < part).then(|| (batch.position(whole), part as u32));
    let cursor = match unfinished {
        Some((position, _)) => position + 1,
        None if 0 < whole => batch.position(whole - 1) + 1,
        None => from,
    };
    let frames = whole as u64;
    let conflated = cursor - from - frames - u64::from(unfinished.is_some());
    ShortWrite { cursor, frames, bytes: (written - part) as u64, unfinished, conflated }
}

/// What becomes of connections that a visit did not bring to the head.
#[derive(Debug, Default)]
pub(in crate::reactor) struct VisitOutcomes {
    /// How many wait for their peers to read.
    blocked: usize,
    /// Those that go on next turn: there was more than one visit may write.
    write_again: Vec<Slot>,
    /// Those found broken while something else was borrowed: they end in the same turn.
    broken: Vec<(Slot, Close)>,
    lagged: Vec<Lagged>,
    /// Sessions without a socket that a lap has come to, and for which a poll waits.
    polled: Vec<Slot>,
}

impl VisitOutcomes {
    /// After a visit that left the cursor behind the head.
    #[inline(always)]
    pub(super) fn record(&mut self, outcome: Visit, slot: Slot, topic: TopicIndex, state: &mut State) {
        match outcome {
            Visit::AtHead => {}
            // Several topics with a backlog are one reason to go on, not several.
            Visit::More if self.write_again.last() == Some(&slot) => {}
            Visit::More => self.write_again.push(slot),
            Visit::Blocked => self.block(state),
            Visit::Lagged => self.lagged.push(Lagged { slot, topic }),
            Visit::Broken => self.broken.push((slot, Close::PeerGone)),
        }
    }

    /// The connection's peer has to read before more can be written.
    #[inline]
    pub(super) fn block(&mut self, state: &mut State) {
        state.set(BLOCKED | BEHIND);
        self.blocked += 1;
    }

    /// The connection's peer has read, or there is nothing more to write to it. False if it was not blocked.
    pub(in crate::reactor) fn unblock(&mut self, state: &mut State) -> bool {
        let was_blocked = state.has(BLOCKED);
        if was_blocked {
            state.clear(BLOCKED);
            self.blocked -= 1;
        }
        was_blocked
    }

    /// How many connections wait for their peers to read.
    pub(in crate::reactor) fn blocked(&self) -> usize {
        self.blocked
    }

    /// The connection cannot be brought on in the topic.
    pub(in crate::reactor) fn lag(&mut self, lagged: Lagged) {
        self.lagged.push(lagged);
    }

    /// The connection's peer is gone.
    pub(super) fn break_off(&mut self, slot: Slot) {
        self.broken.push((slot, Close::PeerGone));
    }

    pub(in crate::reactor) fn goes_on(&self, slot: Slot) -> bool {
        self.write_again.contains(&slot)
    }

    pub(in crate::reactor) fn has_more(&self) -> bool {
        !self.write_again.is_empty()
    }

    pub(in crate::reactor) fn take_write_again(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.write_again)
    }

    pub(in crate::reactor) fn take_polled(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.polled)
    }

    pub(in crate::reactor) fn next_lagged(&mut self) -> Option<Lagged> {
        self.lagged.pop()
    }

    pub(in crate::reactor) fn next_broken(&mut self) -> Option<(Slot, Close)> {
        self.broken.pop()
    }

    /// Whether nothing is broken or lags.
    pub(in crate::reactor) fn is_settled(&self) -> bool {
        self.lagged.is_empty() && self.broken.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{state::DETACHED, tests::TestReactor};

    #[test]
    fn what_a_short_write_leaves() {
        // Frames of 10, 20 and 5 bytes, of events at 4, 5 and 9: those at 6 to 8 were left out.
        let batch = FrameBatch::of(&[(4, 10), (5, 20), (9, 5)]);
        let check = |written: usize, cursor: Position, frames: u64, bytes: u64, unfinished, conflated: u64| {
            let expected = ShortWrite { cursor, frames, bytes, unfinished, conflated };
            assert_eq!(short_write(&batch, 4, written), expected, "{written}");
        };
        check(0, 4, 0, 0, None, 0);
        check(1, 5, 0, 0, Some((4, 1)), 0);
        check(10, 5, 1, 10, None, 0);
        check(29, 6, 1, 10, Some((5, 19)), 0);
        check(30, 6, 2, 30, None, 0);
        check(31, 10, 2, 30, Some((9, 1)), 3);
        check(34, 10, 2, 30, Some((9, 4)), 3);
    }

    /// Whether a lap writes to a connection in this state, and whether a poll that waits for it is noted.
    #[test]
    fn a_session_for_which_a_poll_waits_is_noted() {
        let check = |flags: u16, is_visited: bool, is_noted: bool| {
            let mut test = TestReactor::new();
            let (slot, _) = test.open_sse(&["a"]);
            let mut outcomes = VisitOutcomes::default();
            test.connection(slot).state.set(flags);
            assert_eq!(may_visit(test.connection(slot), slot, &mut outcomes), is_visited, "{flags:b}");
            assert_eq!(outcomes.take_polled(), vec![slot; usize::from(is_noted)], "{flags:b}");
            assert!(outcomes.take_polled().is_empty(), "each is served once");
        };
        check(0, true, false);
        check(BLOCKED, false, false);
        check(DETACHED, false, false);
        check(DETACHED | POLL_PENDING, false, true);
    }

    #[test]
    fn what_becomes_of_a_connection_behind_the_head() {
        let [slot, other] = [1, 2].map(Slot::new);
        let topic = TopicIndex::new(3);
        let record = |visits: &[(Slot, Visit)]| {
            let (mut outcomes, mut state) = (VisitOutcomes::default(), State::default());
            visits.iter().for_each(|(slot, visit)| outcomes.record(*visit, *slot, topic, &mut state));
            (outcomes, state)
        };
        let (mut outcomes, state) = record(&[(slot, Visit::More), (slot, Visit::More), (slot, Visit::AtHead)]);
        assert!(outcomes.goes_on(slot) && !outcomes.goes_on(other) && outcomes.is_settled());
        assert_eq!((outcomes.take_write_again(), state), (vec![slot], State::default()), "once, for all its topics");
        let (mut outcomes, _) = record(&[(slot, Visit::More), (other, Visit::More)]);
        assert_eq!(outcomes.take_write_again(), [slot, other]);
        let (outcomes, state) = record(&[(slot, Visit::Blocked)]);
        assert!(state.has(BLOCKED) && state.has(BEHIND) && outcomes.blocked() == 1 && !outcomes.has_more());
        let (mut outcomes, _) = record(&[(slot, Visit::Broken)]);
        assert_eq!(outcomes.next_broken(), Some((slot, Close::PeerGone)));
        let (mut outcomes, _) = record(&[(slot, Visit::Lagged)]);
        outcomes.lag(Lagged { slot: other, topic });
        assert!(!outcomes.is_settled());
        assert_eq!([(); 3].map(|()| outcomes.next_lagged().map(|lagged| lagged.slot)), [Some(other), Some(slot), None]);
    }
}
