//! Messages on their way to the bus.

use super::{Target, conversation::Conversation, thread::PubSubThread};
use crate::{
    bus::Feed,
    clock::Moment,
    source::{
        nats::link::Message,
        subscriptions::{Admission, report_notices},
    },
    topic::Topic,
};

impl PubSubThread {
    /// Hands what came to the bus, as one batch.
    pub(super) fn receive(
        &mut self,
        messages: Vec<(Target, Vec<Message>)>,
        conversation: &mut Conversation,
        now: Moment,
    ) {
        if messages.is_empty() {
            return;
        }
        conversation.on_received(now);
        let bus = std::sync::Arc::clone(&self.bus);
        let mut feed = bus.feed();
        let mut received = 0;
        for (target, messages) in messages {
            received += match target {
                Target::Topic(topic) => self.receive_topic(&topic, messages, &mut feed, now),
                Target::Pattern(index) => self.receive_pattern(index, messages, &mut feed, now),
                Target::Probe => {
                    messages.iter().for_each(|message| conversation.on_probe(&message.payload));
                    0
                }
            };
        }
        drop(feed);
        if 0 < received {
            self.status.on_events(received, now);
        }
    }

    /// Messages of a topic's own subscription: how many the bus took.
    pub(super) fn receive_topic(
        &mut self,
        topic: &Topic,
        messages: Vec<Message>,
        feed: &mut Feed<'_>,
        now: Moment,
    ) -> u64 {
        let mut admission = self.subscriptions.admit(topic.as_str().as_bytes());
        if admission == Admission::Unasked {
            // What comes was subscribed, although the fence behind the subscription is not back yet.
            self.subscriptions.on_subscribed(topic);
            self.report_notices(feed, now);
            admission = self.subscriptions.admit(topic.as_str().as_bytes());
        }
        if admission != Admission::Wanted {
            return 0;
        }
        messages.into_iter().map(|message| u64::from(self.intake.take(topic, message, feed, now))).sum()
    }

    /// The same of a pattern's.
    pub(super) fn receive_pattern(
        &mut self,
        index: usize,
        messages: Vec<Message>,
        feed: &mut Feed<'_>,
        now: Moment,
    ) -> u64 {
        if !self.subscriptions.patterns().is_confirmed(index) {
            self.subscriptions.on_pattern_subscribed(index);
            self.report_notices(feed, now);
        }
        let mut received = 0;
        for message in messages {
            // Every hub's probes come through a pattern that covers all.
            if message.subject.starts_with(&*self.probe_prefix) {
                continue;
            }
            let Some(topic) = self.intake.topic(&message, now) else { continue };
            let patterns = self.subscriptions.patterns();
            if patterns.admit(patterns.text(index).as_bytes(), topic.as_str().as_bytes()) == Admission::Wanted {
                received += u64::from(self.intake.take(&topic, message, feed, now));
            }
        }
        received
    }

    fn report_notices(&mut self, feed: &mut Feed<'_>, now: Moment) {
        report_notices(&self.bus, feed, &mut self.subscriptions, &self.status, now);
        self.has_changed = true;
    }
}
