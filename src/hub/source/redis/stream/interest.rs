//! Who listens: which streams are followed, and since when nobody wants one any more.

use super::{
    config::RedisStreamConfig,
    streams::{FollowedStreams, StreamStage},
};
use crate::{
    bus::{Bus, Interest},
    clock::Moment,
    event::EventId,
    source::SourceStatus,
    topic::Topic,
};

/// Takes out of `streams` what nobody came back to in time; returns how far each was read.
pub(super) fn take_left(
    streams: &mut FollowedStreams,
    bus: &Bus,
    status: &SourceStatus,
    now: Moment,
) -> Vec<(Topic, StreamStage)> {
    let expired = streams.take_expired(now);
    for (topic, _) in &expired {
        bus.mark_stale(topic);
        streams.refused.remove(topic, status);
    }
    expired.into_iter().map(|(topic, stream)| (topic, stream.stage)).collect()
}

/// Follows a change of the interest. To be called after [`take_left`], with what that returned: whoever came just before a topic was
/// marked stale reads already.
pub(super) fn follow_interest(
    streams: &mut FollowedStreams,
    change: Interest,
    left: &[(Topic, StreamStage)],
    config: &RedisStreamConfig,
    bus: &Bus,
    now: Moment,
) {
    match change {
        Interest::Wanted(topic) => {
            let left = left.iter().find(|(known, _)| *known == topic).map(|(_, stage)| *stage);
            want(streams, &topic, left, config, bus, now);
        }
        Interest::Unwanted(topic) => streams.unwant(&topic, now),
    }
}

fn want(
    streams: &mut FollowedStreams,
    topic: &Topic,
    left: Option<StreamStage>,
    config: &RedisStreamConfig,
    bus: &Bus,
    now: Moment,
) {
    let position = streams.want(topic, config.key(topic));
    let position = position.or(match left {
        Some(StreamStage::Reading(position)) => Some(position),
        _ => None,
    });
    match position {
        // Its log is as it was left, so reading goes on there.
        Some(position) if bus.newest_id(topic) == position.newest => {
            streams.set_stage(topic, StreamStage::Reading(position));
            bus.mark_live(topic, now);
        }
        Some(_) => {
            // Empty from the start: nobody can have seen the log that was left.
            let again = bus.newest_id(topic) != EventId::default();
            streams.set_stage(topic, StreamStage::New { due: now, again });
        }
        None => {}
    }
}
