//! Turns messages into events for the bus, and refuses those that are none.

use std::sync::Arc;

use tracing::warn;

use crate::{
    bus::{Feed, is_hub_command},
    clock::Moment,
    event::Payload,
    gap::GapReason,
    source::{
        LogRateLimiter, SourceStatus,
        channel_names::{ChannelNames, explain, show},
        nats::{
            link::Message,
            message::{EventHeaders, is_carried},
        },
    },
    topic::Topic,
};

/// Turns messages into events.
#[derive(Debug)]
pub(super) struct Intake {
    names: ChannelNames,
    status: Arc<SourceStatus>,
    refusals: LogRateLimiter,
}

impl Intake {
    pub(super) fn new(status: Arc<SourceStatus>) -> Self {
        Self { names: ChannelNames::default(), status, refusals: LogRateLimiter::default() }
    }

    /// The topic that the subject of a message is. A message on another one is refused and counted.
    pub(super) fn topic(&mut self, message: &Message, now: Moment) -> Option<Topic> {
        let topic = self.names.resolve(message.subject.as_bytes()).cloned();
        if topic.is_none() {
            self.refuse(&message.subject, "the subject is not a topic's name", now);
        }
        topic
    }

    /// Publishes a message. True if the bus accepted it as an event; if the bus refused it, the topic gets a gap and the refusal is
    /// counted. A hub command is no event.
    pub(super) fn take(&mut self, topic: &Topic, mut message: Message, feed: &mut Feed<'_>, now: Moment) -> bool {
        if !feed.gives_ids(topic) {
            self.refuse(topic.as_str(), "the topic's log is kept elsewhere: add the event there", now);
            return false;
        }
        // Readers get a gap in its place, whatever the fault was.
        let (why, reason) = if message.is_oversize {
            ("the payload or the headers are over the limit", GapReason::SourceLost)
        } else {
            let payload = Payload::looked_at(std::mem::take(&mut message.payload));
            let payload = Payload { is_carried: is_carried(&message), ..payload };
            let headers = EventHeaders::of(&message);
            let published = match &headers.key {
                Some(key) => feed.publish_once(key, topic, headers.kind.as_deref(), payload, now),
                None => feed.publish(topic, headers.kind.as_deref(), payload, now),
            };
            match published {
                Ok(_) => return !is_hub_command(topic),
                Err(refused) => explain(refused),
            }
        };
        feed.report_loss(topic, reason, now);
        self.status.on_loss();
        self.refuse(topic.as_str(), why, now);
        false
    }

    fn refuse(&mut self, subject: &str, why: &str, now: Moment) {
        self.status.on_refused();
        if let Some(suppressed) = self.refusals.admit(now) {
            warn!(suppressed, "message on subject `{}` refused: {why}", show(subject.as_bytes()));
        }
    }
}
