//! What a connection is owed that listens to several topics, or has frames of its own: the frames between its cursors and the
//! heads of all its topics, in one piece and so in one call.
//!
//! Events of different topics stand in the order in which they were accepted. Members of a [group](super::group) that stand
//! with the same cursors are owed the same bytes: a batch is made for the first of them, from its own session, and the others
//! compare their cursors, send it, and move on.

use std::{io, sync::Arc};

use super::{
    frame_batch::{FRAMES_PER_VISIT, Frames},
    group::APART,
    visit::Visit,
};
use crate::{
    clock::Moment,
    event::{EventId, Position},
    frame::Format,
    index::{GroupIndex, SubscriptionIndex, TopicIndex},
    metrics::ReactorMetrics,
    protocol::Session,
    reactor::{
        connection::{Connection, Subscription, Unfinished},
        net::Net,
        table::{CARRIED_MAX, TopicTable},
    },
};

/// How many batches are kept; a group's number says which.
const BATCHES: usize = 16;

/// The batches of a reactor, the last one for connections that are apart.
#[derive(Debug)]
pub(super) struct MergedBatches {
    batches: [MergedBatch; BATCHES + 1],
    /// One bit for each batch of which something may not be in the metrics yet.
    unsettled: u32,
    /// Counts the events that have come: a batch of another version does not reach the heads any more.
    version: u64,
    /// Topics that batches were made of lately, some of them ([`CARRIED_MAX`]).
    pub(super) carried: Vec<TopicIndex>,
    active: Vec<Active>,
    /// Where a session stood before its batch was made.
    saved_ids: Vec<EventId>,
    /// Kept to spare the allocation.
    scratch: String,
}

/// The frames that members of one group with the same cursors are owed.
#[derive(Debug)]
struct MergedBatch {
    group: GroupIndex,
    version: u64,
    /// Whether events are left out that a newer one of the same key follows, where the topic's policy is so.
    newest: bool,
    /// Whether it reaches the heads.
    is_complete: bool,
    /// The cursors of those it is for, in the order of their subscriptions, and where they stand afterwards.
    from: Vec<Position>,
    to: Vec<Position>,
    /// Which of the cursors move.
    moves: Vec<SubscriptionIndex>,
    frames: Frames,
    origins: Vec<Origin>,
}

/// Where a frame comes from.
#[derive(Clone, Copy, Debug)]
struct Origin {
    subscription: SubscriptionIndex,
    position: Position,
    /// How many bytes stand ahead of the event's shared frame; `None` if that is not what follows.
    lead_bytes: Option<u32>,
}

/// A subscription with events that a batch may yet take.
#[derive(Clone, Copy, Debug)]
struct Active {
    subscription: SubscriptionIndex,
    /// When the next of them was accepted.
    accepted: Moment,
}

/// What [`MergedBatches::fill`] found.
enum Filled {
    /// Frames.
    Some,
    /// The connection is at the head of all its topics.
    Level,
    /// The log of this topic has passed the cursor, or holds a hole that has no form in the connection's format.
    Lagged(TopicIndex),
}

impl Default for MergedBatches {
    fn default() -> Self {
        Self {
            batches: std::array::from_fn(|_| MergedBatch::new()),
            unsettled: 0,
            version: 0,
            carried: Vec::new(),
            active: Vec::new(),
            saved_ids: Vec::new(),
            scratch: String::new(),
        }
    }
}

impl MergedBatches {
    /// A topic has news.
    #[inline]
    pub(super) fn note_news(&mut self) {
        self.version += 1;
    }

    /// The number `group` stands for another group from now on.
    pub(super) fn forget(&mut self, group: GroupIndex) {
        let batch = &mut self.batches[index_of(group)];
        if batch.group == group {
            batch.group = APART;
        }
    }

    /// Writes to `metrics` what was delivered up to `now`.
    pub(super) fn settle(&mut self, metrics: &ReactorMetrics, now: Moment) {
        while self.unsettled != 0 {
            self.batches[self.unsettled.trailing_zeros() as usize].frames.settle(metrics, now);
            self.unsettled &= self.unsettled - 1;
        }
    }

    /// The same without how long it took.
    pub(super) fn settle_history(&mut self, metrics: &ReactorMetrics) {
        while self.unsettled != 0 {
            self.batches[self.unsettled.trailing_zeros() as usize].frames.settle_history(metrics);
            self.unsettled &= self.unsettled - 1;
        }
    }

    /// Brings a connection on in all its topics, as far as one visit goes. `newest`: without events that a newer one of the
    /// same key follows, in topics with that policy. With the topic in which it lags, if it does.
    #[inline]
    pub(super) fn visit<N: Net>(
        &mut self,
        net: &mut N,
        connection: &mut Connection<N::Stream>,
        group: GroupIndex,
        newest: bool,
        topics: &TopicTable,
        metrics: &ReactorMetrics,
        now: Moment,
    ) -> Outcome {
        let index = index_of(group);
        let batch = &self.batches[index];
        let is_known =
            batch.group == group && group != APART && batch.version == self.version && batch.newest == newest;
        if !(is_known && stands_at(&connection.subscriptions, &batch.from)) {
            if is_known && batch.is_complete && stands_at(&connection.subscriptions, &batch.to) {
                return Outcome::LEVEL;
            }
            match self.fill(connection, group, newest, topics, metrics, now) {
                Filled::Some => {}
                Filled::Level => return Outcome::LEVEL,
                Filled::Lagged(topic) => return Outcome { visit: Visit::Lagged, topic, is_level: false },
            }
        }
        self.unsettled |= 1 << index;
        let batch = &mut self.batches[index];
        connection.note_written(now);
        let bytes = batch.frames.bytes();
        let visit = match net.write(&mut connection.stream, bytes) {
            Ok(written) if written == bytes.len() => {
                batch.frames.count_served();
                for moved in &batch.moves {
                    connection.subscriptions[moved.get()].cursor = batch.to[moved.get()];
                }
                if batch.is_complete { Visit::AtHead } else { Visit::More }
            }
            Ok(written) => {
                batch.cut_short(connection, topics, metrics, written);
                Visit::Blocked
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Visit::Blocked,
            Err(_) => Visit::Broken,
        };
        Outcome { visit, topic: TopicIndex::NONE, is_level: false }
    }

    /// Finds the subscriptions that are behind. The topic whose log has passed its cursor, if there is one.
    fn find_active(&mut self, subscriptions: &[Subscription], topics: &TopicTable) -> Option<TopicIndex> {
        self.active.clear();
        for (index, it) in subscriptions.iter().enumerate() {
            let Some(topic) = topics.get(it.topic) else { continue };
            if it.cursor < topic.ring.oldest() {
                return Some(it.topic);
            }
            if let Some(event) = topic.ring.event(it.cursor) {
                self.active.push(Active { subscription: SubscriptionIndex::new(index), accepted: event.accepted });
            }
        }
        None
    }

    /// Makes the batch that the connection is owed.
    #[inline(never)]
    fn fill<S>(
        &mut self,
        connection: &mut Connection<S>,
        group: GroupIndex,
        newest: bool,
        topics: &TopicTable,
        metrics: &ReactorMetrics,
        now: Moment,
    ) -> Filled {
        if let Some(topic) = self.find_active(&connection.subscriptions, topics) {
            return Filled::Lagged(topic);
        }
        let Ok(session) = &mut connection.session else { return Filled::Level };
        let Some(format) = session.format().filter(|_| !self.active.is_empty()) else { return Filled::Level };
        for active in &self.active {
            let topic = connection.subscriptions[active.subscription.get()].topic;
            if self.carried.len() < CARRIED_MAX && !self.carried.contains(&topic) {
                self.carried.push(topic);
            }
        }
        self.saved_ids.clear();
        if !format.is_shared() {
            refresh_cursors(session, &connection.subscriptions, topics);
            session.each_cursor(|it| self.saved_ids.push(*it.id));
        }
        let batch = &mut self.batches[index_of(group)];
        batch.frames.settle(metrics, now);
        batch.begin(group, self.version, newest, &connection.subscriptions, format);
        let hole = self.merge(session, &connection.subscriptions, group, newest, format, topics);
        // Nothing of it is written yet.
        let mut saved_ids = self.saved_ids.drain(..);
        session.each_cursor(|it| *it.id = saved_ids.next().unwrap_or(*it.id));
        drop(saved_ids);
        let batch = &mut self.batches[index_of(group)];
        batch.finish(self.active.is_empty());
        match hole.filter(|_| batch.frames.len() == 0) {
            None => Filled::Some,
            Some(topic) => {
                batch.group = APART;
                connection.subscriptions.iter_mut().zip(&batch.to).for_each(|(it, to)| it.cursor = *to);
                Filled::Lagged(topic)
            }
        }
    }

    /// Adds the events to the batch, in the order in which they were accepted, as far as one visit goes. Returns the topic with a hole
    /// that has no form in `format`, if the batch ends there.
    fn merge(
        &mut self,
        session: &mut Session,
        subscriptions: &[Subscription],
        group: GroupIndex,
        newest: bool,
        format: Format,
        topics: &TopicTable,
    ) -> Option<TopicIndex> {
        let batch = &mut self.batches[index_of(group)];
        while let Some(next) = earliest(&self.active) {
            let at = self.active[next].subscription.get();
            let it = subscriptions[at];
            let Some(topic) = topics.get(it.topic) else { break };
            let Some(event) = topic.ring.event(batch.to[at]) else { break };
            if newest && topic.is_superseded(event.position) {
                // The one that follows it is enough.
            } else if event.gap.is_some() && !format.has_gaps() {
                // It has no frame: a connection that comes to it with nothing else to write ends there.
                return Some(it.topic);
            } else {
                let (scratch, mut lead_bytes) = (&mut self.scratch, None);
                let mut write =
                    |out: &mut Vec<u8>| lead_bytes = session.write_event(it.topic, event, format, scratch, out);
                let has_room = batch.frames.len() < FRAMES_PER_VISIT;
                if !has_room || !batch.frames.push(event.accepted, &mut write) {
                    break;
                }
                batch.origins.push(Origin {
                    subscription: SubscriptionIndex::new(at),
                    position: event.position,
                    lead_bytes,
                });
            }
            batch.to[at] += 1;
            match topic.ring.event(batch.to[at]) {
                Some(event) => self.active[next].accepted = event.accepted,
                None => drop(self.active.swap_remove(next)),
            }
        }
        None
    }
}

/// How [`MergedBatches::visit`] ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    pub(super) visit: Visit,
    /// Where it lags, if it does.
    pub(super) topic: TopicIndex,
    /// Whether there was nothing to write.
    pub(super) is_level: bool,
}

impl Outcome {
    const LEVEL: Self = Self { visit: Visit::AtHead, topic: TopicIndex::NONE, is_level: true };
}

impl MergedBatch {
    fn new() -> Self {
        Self {
            group: APART,
            version: 0,
            newest: false,
            is_complete: false,
            from: Vec::new(),
            to: Vec::new(),
            moves: Vec::new(),
            frames: Frames::default(),
            origins: Vec::new(),
        }
    }

    fn begin(&mut self, group: GroupIndex, version: u64, newest: bool, subscriptions: &[Subscription], format: Format) {
        (self.group, self.version, self.newest) = (group, version, newest);
        self.from.clear();
        self.from.extend(subscriptions.iter().map(|it| it.cursor));
        self.to.clear();
        self.to.extend_from_slice(&self.from);
        self.frames.begin(format);
        self.origins.clear();
    }

    fn finish(&mut self, is_complete: bool) {
        self.is_complete = is_complete;
        self.frames.finish();
        if self.newest && !is_complete && 0 < self.frames.len() {
            // A client stands behind what it was sent last: what was left out after that is left out once more.
            self.to.clone_from(&self.from);
            for origin in &self.origins {
                self.to[origin.subscription.get()] = origin.position + 1;
            }
        }
        let passed: Position = self.from.iter().zip(&self.to).map(|(from, to)| to - from).sum();
        self.frames.conflated = passed - self.frames.len() as Position;
        self.moves.clear();
        let pairs = self.from.iter().zip(&self.to).enumerate();
        self.moves.extend(pairs.filter(|(_, (from, to))| from != to).map(|(index, _)| SubscriptionIndex::new(index)));
    }

    /// After a short write: the cursors pass the frames that went out and the one that went out in part. The connection
    /// finishes that one by itself: it holds the event while what is left is all of its shared frame, and a copy of what is
    /// left otherwise.
    #[cold]
    fn cut_short<S>(
        &self,
        connection: &mut Connection<S>,
        topics: &TopicTable,
        metrics: &ReactorMetrics,
        written: usize,
    ) {
        let (whole, part) = self.frames.split(written);
        // The latency of these few is left out: the peer, not the hub, decides when they count as written.
        metrics.on_delivered(self.frames.transport(), whole as u64, (written - part) as u64);
        let passed = if 0 < part { whole + 1 } else { whole };
        for origin in &self.origins[..passed] {
            connection.subscriptions[origin.subscription.get()].cursor = origin.position + 1;
        }
        let moved = connection.subscriptions.iter().zip(&self.from).map(|(it, from)| it.cursor - from);
        metrics.on_conflated(moved.sum::<Position>() - passed as Position);
        if part == 0 {
            return;
        }
        let Origin { subscription, position, lead_bytes } = self.origins[whole];
        let topic = connection.subscriptions[subscription.get()].topic;
        let event = topics.get(topic).and_then(|topic| topic.ring.event(position));
        let format = connection.session.as_ref().ok().and_then(Session::format);
        match (event, format, lead_bytes.filter(|lead| *lead as usize <= part)) {
            (Some(event), Some(format), Some(lead)) => {
                let written = part as u32 - lead;
                connection.unfinished = Some(Unfinished { event: Arc::clone(event), format, written });
            }
            _ => {
                connection.outbox.put(&self.frames.bytes()[written..self.frames.end(whole)]);
                let frame_bytes = self.frames.end(whole) - (written - part);
                metrics.on_delivered(self.frames.transport(), 1, frame_bytes as u64);
            }
        }
    }
}

fn index_of(group: GroupIndex) -> usize {
    if group == APART { BATCHES } else { group.get() % BATCHES }
}

#[inline]
fn stands_at(subscriptions: &[Subscription], cursors: &[Position]) -> bool {
    subscriptions.len() == cursors.len() && subscriptions.iter().zip(cursors).all(|(it, cursor)| it.cursor == *cursor)
}

/// Which of `active` has the event that was accepted first; of several, the one whose subscription comes first.
fn earliest(active: &[Active]) -> Option<usize> {
    let key = |(_, active): &(usize, &Active)| (active.accepted, active.subscription);
    active.iter().enumerate().min_by_key(key).map(|(index, _)| index)
}

/// Writes into the session where the client stands in each of the topics it listens to. Sessions write that with each
/// event, and it follows from the cursors; but not for topics that they wait for or replay, or in which they have had nothing
/// since they began.
pub(in crate::reactor) fn refresh_cursors(session: &mut Session, subscriptions: &[Subscription], topics: &TopicTable) {
    session.each_cursor(|it| {
        let found = find_cursor(subscriptions, topics, (it.index, it.topic));
        if let Some((_, derived)) = found.filter(|(cursor, _)| *cursor != it.began) {
            *it.id = derived;
        }
    });
}

/// Whether the session knows one of its cursors by another id than the log does. Others with that cursor do not.
pub(super) fn has_odd_cursor(session: &mut Session, subscriptions: &[Subscription], topics: &TopicTable) -> bool {
    let mut is_odd = false;
    session.each_cursor(|it| {
        let found = find_cursor(subscriptions, topics, (it.index, it.topic));
        is_odd |= found.is_some_and(|(cursor, derived)| cursor == it.began && derived != *it.id);
    });
    is_odd
}

/// Where the subscription to `topic` stands, if there is one, and the id before that.
/// `index` is where the subscription is likely to be.
fn find_cursor(
    subscriptions: &[Subscription],
    topics: &TopicTable,
    (index, topic): (usize, TopicIndex),
) -> Option<(Position, EventId)> {
    // Those of sessions are in the order of the topics, those of streams in that of the id.
    let in_order = || Some(&subscriptions[subscriptions.binary_search_by_key(&topic, |it| it.topic).ok()?]);
    let likely = subscriptions.get(index).filter(|it| it.topic == topic);
    let subscription = likely.or_else(in_order).or_else(|| subscriptions.iter().find(|it| it.topic == topic))?;
    let topic = topics.get(topic)?;
    let cursor = topic.cursor(subscription);
    Some((cursor, topic.ring.id_before(cursor)))
}

#[cfg(test)]
mod tests;
