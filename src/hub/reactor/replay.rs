//! Replays: a subscription that goes on after an id older than the log here, in a topic of which a broker keeps more. What
//! lies between comes from the archive in pages, through the connection's outbox, until the log joins on.

use std::{collections::HashMap, sync::Arc};

use smallvec::SmallVec;

use super::{
    Reactor,
    connection::Connection,
    net::{Net, Token},
    state::REPLAYING,
};
use crate::{
    bus::{ArchiveFailed, ArchivePage, ArchiveRequest, TopicKey},
    close::Close,
    event::{Event, EventId, Position, Start},
    gap::{Gap, GapReason},
    index::{Slot, TopicIndex},
    metrics::ReactorMetrics,
};

/// One page, so that a reader of an old id holds little, whatever it reads.
const PAGE_EVENTS: usize = 256;
const PAGE_BYTES: usize = 128 * 1024;

/// A subscription that is not in the lap yet.
#[derive(Debug)]
struct Replay {
    topic: TopicIndex,
    /// The client has, or is owed by its outbox, everything up to here.
    after: EventId,
    /// The digest of the event at `after`, if it came in this replay.
    content: Option<u64>,
    /// The log's change of epoch when the page was asked for.
    epoch: Position,
    /// Up to where the page asked for reaches, while it is under way.
    awaited: Option<EventId>,
    /// The client knows that ids began anew, and is not to get that gap again from the log.
    knows_epoch: bool,
    /// Set once the broker has said that the log which the reader knew is not the one there is: when the log here had changed last
    /// as that was asked. The log here may be the former one, too, until its source finds out.
    foreign_since: Option<Position>,
}

/// The replays of each connection.
#[derive(Debug, Default)]
pub(super) struct Replays {
    by_slot: HashMap<Slot, SmallVec<[Replay; 1]>, foldhash::fast::RandomState>,
}

/// What the archive has of a topic for a connection that goes on after an old id.
#[derive(Debug)]
pub(super) struct Archived {
    /// The topic.
    key: TopicKey,
    /// Behind which id, and up to which, it was asked for.
    asked: (EventId, EventId),
    /// The events.
    page: Result<ArchivePage, ArchiveFailed>,
}

impl<N: Net> Reactor<N> {
    /// Begins a replay of the topic after `seen`.
    pub(super) fn begin_replay(&mut self, slot: Slot, topic_index: TopicIndex, seen: EventId) {
        let (Some(connection), Some(topic)) = (self.connections.at(slot), self.topics.at(topic_index)) else { return };
        connection.state.set(REPLAYING);
        topic.replaying += 1;
        self.replays.by_slot.entry(slot).or_default().push(Replay {
            topic: topic_index,
            after: seen,
            content: None,
            epoch: topic.ring.epoch(),
            awaited: None,
            // A client that begins with everything has nothing of a log that was there before.
            knows_epoch: seen == EventId::default(),
            foreign_since: None,
        });
        self.mark_dirty(slot);
    }

    /// The outbox of a replaying connection is empty: its next pages are asked for.
    pub(super) fn continue_replays(&mut self, slot: Slot) {
        let token = self.connections.token(slot).pack();
        for replay in
            self.replays.by_slot.get_mut(&slot).into_iter().flatten().filter(|replay| replay.awaited.is_none())
        {
            let Some(topic) = self.topics.at(replay.topic) else { continue };
            let Some(archive) = self.hub.bus.archive_of(&topic.state.class) else { continue };
            // With what the log here has, too, where that has yet to show itself to be the broker's.
            let upto = if replay.foreign_since.is_some() { topic.ring.newest_id() } else { topic.ring.floor() };
            (replay.awaited, replay.epoch) = (Some(upto), topic.ring.epoch());
            let (bus, reactor, key) = (Arc::clone(&self.hub.bus), self.index, topic.state.key);
            let asked = (replay.after, upto);
            archive.fetch(ArchiveRequest {
                topic: topic.state.topic.clone(),
                start: Start::after(replay.after),
                content: replay.content,
                since: topic.ring.epoch_at(),
                upto: Some(upto),
                events_max: PAGE_EVENTS,
                bytes_max: PAGE_BYTES,
                reply: Box::new(move |page| bus.inbox(reactor).complete(token, Archived { key, asked, page })),
            });
        }
    }

    /// A page has come, or will not.
    pub(super) fn on_archived(&mut self, token: Token, Archived { key, asked, page }: Archived) {
        let (true, Some(topic_index)) = (self.connections.named(token).is_some(), self.topics.find_key(key)) else {
            return;
        };
        // The client may have given up the subscription that asked for it, and have begun another one since.
        let awaits = |replay: &mut Replay| (replay.after, replay.awaited) == (asked.0, Some(asked.1));
        if !self.replay(token.slot, topic_index).is_some_and(awaits) {
            return;
        }
        // The page may be of a stream that replaced the one here, and that may still be among what did not fit the inbox.
        self.resync(topic_index);
        match page {
            Ok(page) => self.take_page(token.slot, topic_index, &page),
            Err(failed) => self.end(
                token.slot,
                Close::TryLater(match failed {
                    ArchiveFailed::NoStream => "the broker keeps no stream under the topic's key",
                    ArchiveFailed::Forbidden => "the broker's access rules forbid the hub to read the topic",
                    ArchiveFailed::QueueFull | ArchiveFailed::Unavailable => {
                        "what the broker keeps of the topic cannot be read at present"
                    }
                }),
            ),
        }
    }

    fn take_page(&mut self, slot: Slot, topic_index: TopicIndex, page: &ArchivePage) {
        let Some(awaited) = self.replay(slot, topic_index).and_then(|replay| replay.awaited.take()) else { return };
        self.refresh_cursors(slot);
        if let Some(gap) = page.gap {
            self.tell_gap(slot, topic_index, Gap { to: Gap::resumable_end(gap.to), ..gap });
        }
        // The gap may have ended the connection.
        let Some(connection) = self.connections.at(slot) else { return };
        let Some(replay) = self.replays.by_slot.get_mut(&slot).and_then(|replays| of_topic(replays, topic_index))
        else {
            return;
        };
        page.events.iter().for_each(|event| write_logged(connection, topic_index, event, &self.metrics));
        let told = page.gap.map_or(replay.after, |gap| gap.to);
        let reached = page.events.last().map_or(told, |event| event.id);
        replay.content = match page.events.last() {
            Some(event) => event.digest(),
            None => replay.content.filter(|_| page.gap.is_none()),
        };
        replay.after = reached;
        let is_epoch = page.gap.is_some_and(|gap| gap.reason == GapReason::Epoch);
        if is_epoch {
            (replay.knows_epoch, replay.foreign_since) = (true, Some(replay.epoch));
        }
        if page.is_complete {
            self.join_log(slot, topic_index, awaited);
        }
        self.mark_dirty(slot);
    }

    /// The archive has no more up to `upto`, where the log began when it was asked: the reader goes on in the log, if that
    /// still joins on.
    fn join_log(&mut self, slot: Slot, topic_index: TopicIndex, upto: EventId) {
        let Some(topic) = self.topics.at(topic_index) else { return };
        let Some(replay) = self.replays.by_slot.get_mut(&slot).and_then(|replays| of_topic(replays, topic_index))
        else {
            return;
        };
        let is_same = replay.epoch == topic.ring.epoch();
        let hole = topic.ring.event(topic.ring.epoch());
        let cursor = if is_same
            && let Some(told) = replay.foreign_since
            && !topic.ring.is_empty()
        {
            // What the broker has last stands in this log, or the log is not the broker's: then the change of epoch that ends
            // it is yet to come, and nothing before that is for this reader. Or it has come since, and what follows it here
            // has yet to come as far as the reader has.
            let same = replay.content.and_then(|content| topic.ring.position_behind(replay.after, content));
            let is_level = upto == topic.ring.newest_id() && (replay.content.is_none() || told == topic.ring.epoch());
            same.or_else(|| is_level.then(|| topic.ring.next()))
        } else if is_same {
            // If it does not, the next page is asked for behind the event that has come: its content shows the stream.
            let reached = replay.after.max(upto);
            topic.ring.joins(reached).then(|| topic.ring.position_after(reached))
        } else {
            // The log was replaced meanwhile. Unless the event is there too, the broker is asked once more of which of the two
            // it is; it cannot know that of an id alone.
            let same = replay.content.and_then(|content| topic.ring.position_behind(replay.after, content));
            let is_unsure = replay.content.is_none() && !replay.knows_epoch;
            let former = hole.filter(|_| is_unsure && topic.ring.former_gap(replay.after).is_some());
            same.or_else(|| former.map(|hole| hole.position))
        };
        let Some(cursor) = cursor else { return };
        let skips = replay.knows_epoch && is_same && hole.is_some_and(|hole| hole.position == cursor);
        self.remove_replay(slot, topic_index);
        self.listen_at(slot, topic_index, cursor + Position::from(skips));
        self.drop_unused(topic_index);
    }

    fn replay(&mut self, slot: Slot, topic_index: TopicIndex) -> Option<&mut Replay> {
        of_topic(self.replays.by_slot.get_mut(&slot)?, topic_index)
    }

    /// Gives up all that a connection replays.
    pub(super) fn end_replays(&mut self, slot: Slot) {
        while let Some(topic_index) =
            self.replays.by_slot.get(&slot).and_then(|replays| replays.first()).map(|replay| replay.topic)
        {
            self.end_replay(slot, topic_index);
        }
    }

    /// Gives up the replay of one topic; false if there is none.
    pub(super) fn end_replay(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        let was_there = self.remove_replay(slot, topic_index);
        if was_there {
            self.drop_unused(topic_index);
        }
        was_there
    }

    fn remove_replay(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        let Some(replays) = self.replays.by_slot.get_mut(&slot) else { return false };
        let Some(index) = replays.iter().position(|replay| replay.topic == topic_index) else { return false };
        replays.remove(index);
        if let Some(topic) = self.topics.at(topic_index) {
            topic.replaying -= 1;
        }
        if self.replays.by_slot.get(&slot).is_some_and(SmallVec::is_empty) {
            self.replays.by_slot.remove(&slot);
            if let Some(connection) = self.connections.at(slot) {
                connection.state.clear(REPLAYING);
            }
        }
        true
    }

    /// Whether a connection replays the topic.
    pub(super) fn is_replaying(&mut self, slot: Slot, topic_index: TopicIndex) -> bool {
        self.replay(slot, topic_index).is_some()
    }

    /// How far a connection that replays one topic has come.
    pub(super) fn replayed_id(&self, slot: Slot) -> Option<EventId> {
        self.replays.by_slot.get(&slot)?.first().map(|replay| replay.after)
    }

    /// The topics that a connection replays.
    pub(super) fn replayed_topics(&self, slot: Slot) -> impl Iterator<Item = TopicIndex> {
        self.replays.by_slot.get(&slot).into_iter().flatten().map(|replay| replay.topic)
    }

    /// How many topics a connection replays.
    pub(super) fn replay_count(&self, slot: Slot) -> usize {
        self.replays.by_slot.get(&slot).map_or(0, SmallVec::len)
    }
}

fn of_topic(replays: &mut [Replay], topic_index: TopicIndex) -> Option<&mut Replay> {
    replays.iter_mut().find(|replay| replay.topic == topic_index)
}

/// Appends an event's frame, as the connection's session has it, to its outbox. The session knows where it stands in its other
/// topics ([`Reactor::refresh_cursors`]).
pub(super) fn write_logged<S>(
    connection: &mut Connection<S>,
    topic_index: TopicIndex,
    event: &Event,
    metrics: &ReactorMetrics,
) {
    let Ok(session) = &mut connection.session else { return };
    let Some(format) = session.format() else { return };
    let before = connection.outbox.len();
    session.write_event(topic_index, event, format, &mut String::new(), connection.outbox.buffer());
    session.pass(topic_index, event.id);
    metrics.on_delivered(format.transport(), 1, (connection.outbox.len() - before) as u64);
}
