//! Subscriptions that the server refuses: readers are notified at once, and the hub asks again from time to time.

use super::{
    Batch, ChannelPattern, Notice, RefusalReport, SubscriptionPhase, Subscriptions, TopicSubscription, is_live,
};
use crate::{
    clock::Moment,
    source::refusals::{NAMED_MAX, Refused},
    topic::Topic,
};

impl<P: ChannelPattern> Subscriptions<P> {
    /// Asks again for what the server refused, if it is time to; `random` draws the next wait.
    pub(in crate::source) fn retry_refused(&mut self, now: Moment, random: u32) {
        if self.retry.is_none_or(|due| now < due) {
            return;
        }
        if self.refused_count() == 0 {
            self.retry = None;
            return self.backoff.reset();
        }
        for topic in self.refused.keys() {
            if let Some(entry) = self.topics.get_mut(topic).filter(|entry| entry.phase == SubscriptionPhase::Denied) {
                entry.phase = SubscriptionPhase::Queued;
                self.alone.push_back(topic.clone());
            }
        }
        self.patterns.retry();
        self.retry = Some(now + self.backoff.next_delay(random));
    }

    /// The server does not let the hub in, and will not until somebody changes something. Call it after
    /// [`Self::on_disconnected`].
    pub(in crate::source) fn on_source_refused(&mut self) {
        self.source_refused = true;
        for (topic, entry) in &mut self.topics {
            notify_refusal(topic, entry, &mut self.notices);
        }
    }

    /// The server refused a whole command, for the reason `text`. One channel in it may be the cause: each is asked for
    /// alone, and what is refused alone is denied.
    pub(in crate::source) fn on_refused(&mut self, batch: &Batch, text: &str, now: Moment) {
        let refused = Refused::new(text, now);
        if P::is_of_every(text) && !matches!(batch, Batch::Leave(_)) {
            self.on_command_refused(text, now);
        }
        match batch {
            Batch::Topics(topics) => match topics.as_slice() {
                [topic] => self.deny_topic(topic, refused),
                topics => self.part_topics(topics),
            },
            Batch::Patterns(indices) => match indices.as_slice() {
                [index] => self.deny_pattern(*index, refused),
                indices => self.patterns.part(indices),
            },
            // Nothing subscribed is nothing to leave.
            Batch::Leave(_) => {}
        }
        if self.retry.is_none() && self.refused_count() != 0 {
            self.retry = Some(now + self.backoff.next_delay(0));
        }
    }

    /// The server denies `topic`, which it may have confirmed before: what comes from here on is lost, until it is confirmed again.
    pub(in crate::source) fn on_topic_denied(&mut self, topic: &Topic, text: &str, now: Moment) {
        if let Some(entry) = self.topics.get_mut(topic)
            && entry.cover.is_none()
            && entry.phase == SubscriptionPhase::Confirmed
        {
            self.confirmed -= 1;
            entry.interrupted = true;
        }
        self.on_refused(&Batch::Topics(vec![topic.clone()]), text, now);
    }

    /// The same of the pattern `pattern`, as it was configured, and its index; `None`: there is no such pattern.
    pub(in crate::source) fn on_pattern_denied(&mut self, pattern: &str, text: &str, now: Moment) -> Option<usize> {
        let index = self.patterns.index_of(pattern)?;
        if self.patterns.withdraw(index) {
            self.confirmed -= 1;
            for (topic, entry) in self.topics.iter_mut().filter(|(_, entry)| entry.cover == Some(index)) {
                entry.interrupted = true;
                self.notices.push(Notice::Stale(topic.clone()));
            }
        }
        self.on_refused(&Batch::Patterns(vec![index]), text, now);
        Some(index)
    }

    /// The server lets the hub subscribe to nothing, whatever it is.
    pub(in crate::source) fn on_command_refused(&mut self, text: &str, now: Moment) {
        if self.every_refused.is_none() {
            self.every_refused = Some(Refused::new(text, now));
            self.has_new_refusals = true;
        }
    }

    /// It lets the hub subscribe to something.
    pub(in crate::source) fn on_command_allowed(&mut self) {
        self.has_new_refusals |= self.every_refused.take().is_some();
    }

    /// What is refused, if that has changed since the last time.
    pub(in crate::source) fn take_refusals(&mut self) -> Option<RefusalReport> {
        if !std::mem::take(&mut self.has_new_refusals) {
            return None;
        }
        let patterns = self.patterns.refused().map(|(text, refused)| (text.to_owned(), refused.clone()));
        let topics = self.refused.iter().map(|(topic, refused)| (topic.to_string(), refused.clone()));
        Some((patterns.chain(topics).take(NAMED_MAX).collect(), self.refused_count(), self.every_refused.clone()))
    }

    pub(super) fn refused_count(&self) -> usize {
        self.refused.len() + self.patterns.refused().count()
    }

    /// A pattern that was refused is confirmed: what it covers comes through it from here on. Returns the topics that were
    /// delivered until now.
    pub(super) fn cover_again(&mut self, index: usize) -> Vec<Topic> {
        let mut kept = Vec::new();
        for (topic, entry) in &mut self.topics {
            if entry.cover == Some(index) || self.patterns.covering(topic) != Some(index) {
                continue;
            }
            if is_live(&self.patterns, entry) {
                kept.push(topic.clone());
            }
            if entry.cover.is_none() {
                self.direct -= 1;
                self.refused.remove(topic);
                if entry.phase == SubscriptionPhase::Confirmed {
                    self.confirmed -= 1;
                    self.leaving.push_back(topic.clone());
                }
            }
            entry.cover = Some(index);
            if entry.phase != SubscriptionPhase::Asked {
                entry.phase = SubscriptionPhase::Queued;
            }
        }
        kept
    }

    fn part_topics(&mut self, topics: &[Topic]) {
        for topic in topics {
            if let Some(entry) = self.topics.get_mut(topic) {
                entry.phase = SubscriptionPhase::Queued;
                self.alone.push_back(topic.clone());
            }
        }
    }

    fn deny_topic(&mut self, topic: &Topic, refused: Refused) {
        let Some(entry) = self.topics.get_mut(topic) else { return };
        if entry.cover.is_some() {
            entry.phase = SubscriptionPhase::Queued;
            return;
        }
        entry.phase = SubscriptionPhase::Denied;
        notify_refusal(topic, entry, &mut self.notices);
        if !self.refused.contains_key(topic) {
            self.refused.insert(topic.clone(), refused);
            self.has_new_refusals = true;
            self.notices.push(Notice::Denied(topic.to_string()));
        }
    }

    /// The topics it covered go through the next pattern that covers them, or by themselves.
    fn deny_pattern(&mut self, index: usize, refused: Refused) {
        if !self.patterns.deny(index, refused) {
            return;
        }
        self.has_new_refusals = true;
        self.notices.push(Notice::Denied(self.patterns.text(index).to_owned()));
        if self.patterns.take_interruption(index) {
            self.notices.push(Notice::LostUnder { index, kept: Vec::new() });
            self.patterns.interrupt(index);
        }
        let covered = self.topics.extract_if(|_, entry| entry.cover == Some(index));
        for (topic, entry) in covered.collect::<Vec<_>>() {
            self.move_topic(topic, &entry);
        }
    }

    /// Takes `topic` in anew, with its linger and the report that it still owes.
    fn move_topic(&mut self, topic: Topic, old: &TopicSubscription) {
        self.insert(topic.clone(), old.always);
        let mut is_owed = old.interrupted;
        if let Some(entry) = self.topics.get_mut(&topic) {
            (entry.unwanted, entry.lingers) = (old.unwanted, old.lingers);
            entry.notified |= old.notified && !is_live(&self.patterns, entry);
            entry.interrupted = is_owed && !is_live(&self.patterns, entry);
            is_owed &= !entry.interrupted;
        }
        if is_owed {
            self.notices.push(Notice::Lost(topic));
        }
    }
}

/// Notifies the topic's readers that it is refused, once until it is delivered again.
pub(super) fn notify_refusal(topic: &Topic, entry: &mut TopicSubscription, notices: &mut Vec<Notice>) {
    if !std::mem::replace(&mut entry.notified, true) {
        let was_delivered = std::mem::replace(&mut entry.interrupted, true);
        notices.push(Notice::Refused { topic: topic.clone(), is_news: true, was_delivered });
    }
}
