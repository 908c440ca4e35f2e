//! What was read becomes events of the bus.

use std::sync::Arc;

use super::{
    arrival::Arrival,
    entry::{NoEvent, StreamEntry},
    load::Loaded,
    position::{ReadPosition, Verdict},
    streams::{FollowedStreams, StreamStage},
    turn::StreamReader,
};
use crate::{
    bus::{Feed, PublishRefused},
    clock::Moment,
    event::{EventId, Payload},
    gap::{Gap, GapReason},
    topic::Topic,
};

impl StreamReader {
    /// Begins to follow `topic`, whose newest part was loaded.
    pub(super) fn begin(&mut self, streams: &mut FollowedStreams, topic: &Topic, loaded: Loaded, now: Moment) {
        let Loaded { floor, entries, position: end } = loaded;
        let bus = Arc::clone(&self.bus);
        let mut feed = bus.feed();
        let mut position = ReadPosition { last: floor, newest: floor, content: None, added: None, ..end };
        // Whoever reads already must not take what is loaded for the continuation of what it has.
        if streams.is_again(topic) | bus.take_unconfirmed(topic) {
            self.restart(&mut feed, topic, &mut position, floor, now);
        } else {
            bus.begin_log(topic, floor);
        }
        let is_whole = self.publish(&mut feed, topic, &mut position, entries, now);
        drop(feed);
        // Without room for all of it, reading goes on where it ended.
        let position = if is_whole { ReadPosition { newest: position.newest, ..end } } else { position };
        streams.set_stage(topic, StreamStage::Reading(position));
        streams.refused.remove(topic, &self.status);
        self.bus.mark_live(topic, now);
    }

    pub(super) fn deliver(&mut self, streams: &mut FollowedStreams, arrivals: Vec<Arrival>, now: Moment) {
        let bus = Arc::clone(&self.bus);
        let mut feed = bus.feed();
        for Arrival { topic, mut position, entries, verdict, info, .. } in arrivals {
            if streams.position(&topic).is_none_or(|known| known.last != position.last) {
                // Another reader has it by now.
                continue;
            }
            match (verdict, info) {
                (Verdict::Replaced, Some(info)) => {
                    // What came may not be all of it.
                    self.begin_anew(streams, &mut feed, &topic, position, &info, now);
                    continue;
                }
                (Verdict::Expired { to }, _) => {
                    let gap = Gap { from: position.newest, to, reason: GapReason::Expired };
                    self.report(&mut feed, &topic, &mut position, gap, now);
                }
                (Verdict::Whole | Verdict::Replaced, _) => {}
            }
            self.publish(&mut feed, &topic, &mut position, entries, now);
            streams.set_stage(&topic, StreamStage::Reading(position));
        }
    }

    /// Publishes `entries`, and brings `position` on; false if there was no room for all of them.
    fn publish(
        &mut self,
        feed: &mut Feed<'_>,
        topic: &Topic,
        position: &mut ReadPosition,
        entries: Vec<StreamEntry>,
        now: Moment,
    ) -> bool {
        let mut received = 0;
        let mut is_whole = true;
        for entry in entries {
            let digest = entry.digest();
            let StreamEntry { id, content } = entry;
            if let Err(NoEvent::Gap(reason, is_carried)) = content {
                let gap = Gap { from: position.newest, to: id, reason };
                feed.report_gap_of(topic, gap, is_carried, now);
                self.status.on_loss();
                position.skip_to(gap.to);
                position.pass(id, digest);
                continue;
            }
            let outcome = content.map_err(|_| PublishRefused::NotUtf8).and_then(|content| {
                let (kind, payload) = (content.kind.as_deref(), Payload::looked_at(content.data));
                let payload = Payload { is_carried: content.is_carried, ..payload };
                if !feed.publish_as(topic, id, kind, payload.clone(), now)? {
                    // Its id is not newer than the log's newest, although the broker says that it came later.
                    self.restart(feed, topic, position, id.before(), now);
                    feed.publish_as(topic, id, kind, payload, now)?;
                }
                Ok(())
            });
            match outcome {
                Ok(()) => received += 1,
                Err(PublishRefused::NoRoom) => {
                    is_whole = false;
                    break;
                }
                Err(refused) => {
                    let gap = Gap { from: position.newest, to: id, reason: GapReason::SourceLost };
                    self.report(feed, topic, position, gap, now);
                    self.status.on_refused();
                    self.log_refusal(&format!("entry {id} of `{topic}` is no event: {refused:?}"), now);
                }
            }
            position.pass(id, digest);
        }
        if 0 < received {
            self.status.on_events(received, now);
        }
        is_whole
    }

    pub(super) fn report(
        &self,
        feed: &mut Feed<'_>,
        topic: &Topic,
        position: &mut ReadPosition,
        gap: Gap,
        now: Moment,
    ) {
        feed.report_gap(topic, gap, now);
        self.status.on_loss();
        position.skip_to(gap.to);
    }

    pub(super) fn restart(
        &self,
        feed: &mut Feed<'_>,
        topic: &Topic,
        position: &mut ReadPosition,
        floor: EventId,
        now: Moment,
    ) {
        let to = Gap::resumable_end(floor);
        feed.restart_log(topic, to, now);
        self.status.on_loss();
        *position = ReadPosition { last: floor, newest: floor, content: None, added: None, ..*position };
    }
}
