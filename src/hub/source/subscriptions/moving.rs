//! Topics that change their server: one server gives a topic up, and another one takes it, with the report that is still owed.

use super::{ChannelPattern, Notice, SubscriptionPhase, Subscriptions, TopicSubscription, is_live};
use crate::{clock::Moment, topic::Topic};

/// A topic on its way from one server's subscriptions to another's.
#[derive(Debug)]
pub(in crate::source) struct MovingTopic {
    topic: Topic,
    always: bool,
    unwanted: Option<Moment>,
    interrupted: bool,
    notified: bool,
}

impl MovingTopic {
    pub(in crate::source) fn topic(&self) -> &Topic {
        &self.topic
    }
}

impl<P: ChannelPattern> Subscriptions<P> {
    /// Gives up the topics of which `is_moving` says so, but for those that a pattern covers. What comes on them from here on is lost,
    /// which the server that takes them reports.
    pub(in crate::source) fn release(&mut self, mut is_moving: impl FnMut(&Topic) -> bool) -> Vec<MovingTopic> {
        let moving = self.topics.extract_if(|topic, entry| entry.cover.is_none() && is_moving(topic));
        let moving: Vec<(Topic, TopicSubscription)> = moving.collect();
        moving.into_iter().map(|(topic, entry)| self.give_up(topic, &entry)).collect()
    }

    fn give_up(&mut self, topic: Topic, entry: &TopicSubscription) -> MovingTopic {
        let is_live = is_live(&self.patterns, entry);
        self.direct -= 1;
        self.has_new_refusals |= self.refused.remove(&topic).is_some();
        if is_live {
            self.confirmed -= 1;
            self.notices.push(Notice::Stale(topic.clone()));
            self.leaving.push_back(topic.clone());
        }
        MovingTopic {
            always: entry.always,
            unwanted: entry.unwanted,
            interrupted: entry.interrupted || is_live,
            notified: entry.notified,
            topic,
        }
    }

    /// Takes a topic that another server gave up.
    pub(in crate::source) fn adopt(&mut self, moving: MovingTopic) {
        let MovingTopic { topic, always, unwanted, interrupted, notified } = moving;
        self.insert(topic.clone(), always);
        let Some(entry) = self.topics.get_mut(&topic) else { return };
        entry.interrupted |= interrupted;
        entry.notified |= notified;
        if let Some(since) = unwanted {
            (entry.unwanted, entry.lingers) = (Some(since), true);
            self.lingering.push_back((since + self.linger, topic));
        }
    }

    /// The server has ended the subscription to the channel `name`, because it has it no more: asks for it again, which tells who
    /// has it. False: it was none of a confirmed topic.
    pub(in crate::source) fn on_ended(&mut self, name: &[u8]) -> bool {
        let Ok(name) = std::str::from_utf8(name) else { return false };
        let is_confirmed = |(_, entry): &(&Topic, &TopicSubscription)| entry.phase == SubscriptionPhase::Confirmed;
        let Some((topic, _)) = self.topics.get_key_value(name).filter(is_confirmed) else { return false };
        let topic = topic.clone();
        if let Some(entry) = self.topics.get_mut(&topic) {
            (entry.phase, entry.interrupted) = (SubscriptionPhase::Queued, true);
            self.confirmed -= 1;
            self.notices.push(Notice::Stale(topic.clone()));
            self.queue.push_back(topic);
        }
        true
    }

    /// The server does not take `topic` at present, though it refuses nothing: it waits for [`Self::resume_postponed`].
    pub(in crate::source) fn postpone(&mut self, topic: &Topic) {
        if let Some(entry) = self.topics.get_mut(topic).filter(|entry| entry.phase == SubscriptionPhase::Asked) {
            entry.phase = SubscriptionPhase::Queued;
            self.postponed.push(topic.clone());
        }
    }

    /// Asks again for what was postponed.
    pub(in crate::source) fn resume_postponed(&mut self) {
        self.queue.extend(self.postponed.drain(..));
    }

    /// Whether a topic waits that was postponed.
    pub(in crate::source) fn has_postponed(&self) -> bool {
        !self.postponed.is_empty()
    }

    /// How many topics there are.
    pub(in crate::source) fn topic_count(&self) -> usize {
        self.topics.len()
    }
}
