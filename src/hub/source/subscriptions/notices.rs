//! Reports to the bus what the subscriptions found.

use std::sync::Arc;

use tracing::warn;

use super::{ChannelPattern, Notice, Subscriptions};
use crate::{
    bus::{Bus, Feed, TopicState, is_hub_command},
    clock::Moment,
    gap::GapReason,
    source::SourceStatus,
};

/// Reports to the bus and the status what the subscriptions found.
pub(in crate::source) fn report_notices<P: ChannelPattern>(
    bus: &Bus,
    feed: &mut Feed<'_>,
    subscriptions: &mut Subscriptions<P>,
    status: &SourceStatus,
    now: Moment,
) {
    for notice in subscriptions.take_notices() {
        match notice {
            Notice::Live(topic) => {
                bus.mark_live(&topic, now);
                feed.begin_sequence(&topic);
            }
            Notice::Stale(topic) => bus.mark_stale(&topic),
            // No reader has anything of an order; what it would have brought is lost with the streams' own channels.
            Notice::Lost(topic) if is_hub_command(&topic) => {}
            Notice::Lost(topic) => {
                feed.report_loss(&topic, GapReason::SourceLost, now);
                status.on_loss();
            }
            // Expected, and so no loss of the source's; the log has a hole all the same.
            Notice::Left(topic) => feed.report_loss(&topic, GapReason::SourceLost, now),
            Notice::Refused { topic, is_news, was_delivered } => {
                let has_readers = bus.mark_refused(&topic);
                if is_news && (was_delivered || has_readers) {
                    feed.report_loss(&topic, GapReason::SourceLost, now);
                    status.on_loss();
                }
            }
            Notice::LostUnder { index, kept } => {
                let carried = |state: &Arc<TopicState>| {
                    !kept.contains(&state.topic) && subscriptions.patterns().carried(index, &state.topic)
                };
                for state in bus.topics().filter(carried) {
                    feed.report_loss(&state.topic, GapReason::SourceLost, now);
                    status.on_loss();
                }
            }
            Notice::Denied(name) => warn!("the server's access rules forbid to subscribe to `{name}`"),
        }
    }
}
