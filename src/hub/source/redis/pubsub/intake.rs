//! Turns messages into events for the bus, and refuses those that are none.

use std::sync::Arc;

use bytes::Bytes;
use tracing::warn;

use super::envelope;
use crate::{
    bus::{Feed, is_hub_command},
    clock::Moment,
    event::Payload,
    gap::GapReason,
    source::{
        LogRateLimiter, SourceStatus,
        channel_names::{ChannelNames, explain, show},
    },
};

/// Turns messages into events.
#[derive(Debug)]
pub(super) struct Intake {
    names: ChannelNames,
    payload_bytes_max: usize,
    status: Arc<SourceStatus>,
    refusals: LogRateLimiter,
}

impl Intake {
    pub(super) fn new(payload_bytes_max: usize, status: Arc<SourceStatus>) -> Self {
        Self { names: ChannelNames::default(), payload_bytes_max, status, refusals: LogRateLimiter::default() }
    }

    /// Publishes a message. True if the bus accepted it as an event; if the bus refused it, the topic gets a gap and the refusal is
    /// counted. A hub command is no event.
    pub(super) fn take(&mut self, channel: &[u8], payload: &[u8], feed: &mut Feed<'_>, now: Moment) -> bool {
        let Some(topic) = self.names.resolve(channel) else {
            self.refuse(channel, "the channel is not a topic's name", now);
            return false;
        };
        if !feed.gives_ids(topic) {
            self.refuse(channel, "the topic is kept in a Redis Stream: add the event to the stream", now);
            return false;
        }
        let refusal = match envelope::open(payload) {
            Err(_) => ("the envelope is broken", GapReason::SourceLost),
            Ok(opened) if self.payload_bytes_max < opened.data.len() => {
                ("the payload is over the limit", GapReason::SourceLost)
            }
            Ok(opened) => {
                // The one copy: the event outlives the buffer.
                let payload = Payload::looked_at(Bytes::copy_from_slice(opened.data));
                match feed.publish(topic, opened.kind.as_deref(), payload, now) {
                    Ok(_) => return !is_hub_command(topic),
                    Err(refused) => explain(refused),
                }
            }
        };
        // Readers get a gap in its place, whatever the fault was.
        let (why, reason) = refusal;
        feed.report_loss(topic, reason, now);
        self.status.on_loss();
        self.refuse(channel, why, now);
        false
    }

    /// Reports a message over the size limit, which is skipped unread.
    pub(super) fn refuse_oversize(&mut self, channel: &[u8], feed: &mut Feed<'_>, now: Moment) {
        if let Some(topic) = self.names.resolve(channel) {
            feed.report_loss(topic, GapReason::SourceLost, now);
            self.status.on_loss();
        }
        self.refuse(channel, "the payload is over the limit", now);
    }

    fn refuse(&mut self, channel: &[u8], why: &str, now: Moment) {
        self.status.on_refused();
        if let Some(suppressed) = self.refusals.admit(now) {
            warn!(suppressed, "message on channel `{}` refused: {why}", show(channel));
        }
    }
}
