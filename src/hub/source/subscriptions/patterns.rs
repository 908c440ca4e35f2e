//! The configured patterns: which one each channel's messages come in through.

use super::ChannelPattern;
use crate::{source::refusals::Refused, topic::Topic};

/// How far a subscription has come on the present connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum SubscriptionPhase {
    Queued,
    Asked,
    Confirmed,
    /// The server's access rules forbid it. It is asked for again from time to time.
    Denied,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Admission {
    /// It is an event.
    Wanted,
    /// The same message comes through another subscription.
    Repeated,
    /// Its channel is not subscribed.
    Unasked,
}

/// All configured patterns, in their order.
#[derive(Debug)]
pub(in crate::source) struct Patterns<P> {
    entries: Vec<PatternSubscription<P>>,
}

#[derive(Debug)]
struct PatternSubscription<P> {
    pattern: P,
    phase: SubscriptionPhase,
    /// To be asked for without others, because a command with others was refused.
    alone: bool,
    /// Its delivery was interrupted, and that is not reported yet.
    interrupted: bool,
    /// It was delivered, or owed a report, when the last connection ended.
    carried: bool,
    /// Set while the server's access rules forbid it, also while it is asked for again.
    refused: Option<Refused>,
}

impl<P: ChannelPattern> Patterns<P> {
    pub(in crate::source) fn new(patterns: Vec<P>) -> Self {
        let entry = |pattern| PatternSubscription {
            pattern,
            phase: SubscriptionPhase::Queued,
            alone: false,
            interrupted: false,
            carried: false,
            refused: None,
        };
        Self { entries: patterns.into_iter().map(entry).collect() }
    }

    pub(in crate::source) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The pattern at `index`, as it was configured.
    pub(in crate::source) fn text(&self, index: usize) -> &str {
        self.entries[index].pattern.as_str()
    }

    /// The index of the pattern that was configured as `text`.
    pub(in crate::source) fn index_of(&self, text: &str) -> Option<usize> {
        self.entries.iter().position(|entry| entry.pattern.as_str() == text)
    }

    pub(in crate::source) fn is_confirmed(&self, index: usize) -> bool {
        self.entries[index].phase == SubscriptionPhase::Confirmed
    }

    /// Whether each of them is confirmed or refused.
    pub(in crate::source) fn all_settled(&self) -> bool {
        self.entries.iter().all(|entry| entry.phase == SubscriptionPhase::Confirmed || entry.refused.is_some())
    }

    /// Those that are refused, and why.
    pub(in crate::source) fn refused(&self) -> impl Iterator<Item = (&str, &Refused)> {
        self.entries.iter().filter_map(|entry| Some((entry.pattern.as_str(), entry.refused.as_ref()?)))
    }

    /// The pattern the messages of `topic` come in through, or will: the first that covers it and is not refused.
    pub(in crate::source) fn covering(&self, topic: &Topic) -> Option<usize> {
        let covers = |entry: &PatternSubscription<P>| {
            entry.refused.is_none() && entry.pattern.matches(topic.as_str().as_bytes())
        };
        self.entries.iter().position(covers)
    }

    /// What to do with a message that came through `pattern`: of several patterns that cover a channel, the first that is
    /// confirmed speaks. Nobody asked for a message whose channel its pattern does not cover, or whose pattern is unknown.
    pub(in crate::source) fn admit(&self, pattern: &[u8], channel: &[u8]) -> Admission {
        let confirmed = self.entries.iter().filter(|entry| entry.phase == SubscriptionPhase::Confirmed);
        let mut first = None;
        for entry in confirmed.filter(|entry| entry.pattern.matches(channel)) {
            let is_it = entry.pattern.as_str().as_bytes() == pattern;
            match (first, is_it) {
                (None, true) => return Admission::Wanted,
                (Some(_), true) => return Admission::Repeated,
                (None, false) => first = Some(()),
                (Some(_), false) => {}
            }
        }
        Admission::Unasked
    }

    /// Whether the messages of `topic` came in through the pattern at `index` until the last connection ended.
    pub(in crate::source) fn carried(&self, index: usize, topic: &Topic) -> bool {
        let channel = topic.as_str().as_bytes();
        self.entries.iter().position(|entry| entry.carried && entry.pattern.matches(channel)) == Some(index)
    }

    /// Whether the pattern at `index` still owes the report of an interruption.
    pub(in crate::source) fn is_interrupted(&self, index: usize) -> bool {
        self.entries[index].interrupted
    }

    /// Takes what the pattern at `index` owes.
    pub(in crate::source) fn take_interruption(&mut self, index: usize) -> bool {
        std::mem::take(&mut self.entries[index].interrupted)
    }

    /// Marks the next patterns as asked for.
    pub(in crate::source) fn ask(&mut self, batch_max: usize) -> Vec<usize> {
        let queued = |entry: &PatternSubscription<P>| entry.phase == SubscriptionPhase::Queued;
        let Some(first) = self.entries.iter().position(queued) else { return Vec::new() };
        let together = |index: &usize| queued(&self.entries[*index]) && !self.entries[*index].alone;
        let chosen: Vec<usize> = if self.entries[first].alone {
            vec![first]
        } else {
            (first..self.entries.len()).filter(together).take(batch_max).collect()
        };
        for index in &chosen {
            self.entries[*index].phase = SubscriptionPhase::Asked;
        }
        chosen
    }

    /// The server confirmed the pattern: whether it had been refused until now. `None` if it was not asked for.
    pub(in crate::source) fn on_confirmed(&mut self, index: usize) -> Option<bool> {
        let entry = self.entries.get_mut(index).filter(|entry| entry.phase == SubscriptionPhase::Asked)?;
        entry.phase = SubscriptionPhase::Confirmed;
        Some(entry.refused.take().is_some())
    }

    /// The server refused a command with several patterns: each is to be asked for alone.
    pub(in crate::source) fn part(&mut self, indices: &[usize]) {
        for index in indices {
            self.entries[*index].phase = SubscriptionPhase::Queued;
            self.entries[*index].alone = true;
        }
    }

    /// The server refuses the pattern; true if it did not before. What the pattern carried is lost from here on, which is to be
    /// reported when it is back.
    pub(in crate::source) fn deny(&mut self, index: usize, refused: Refused) -> bool {
        let entry = &mut self.entries[index];
        entry.phase = SubscriptionPhase::Denied;
        let is_news = entry.refused.is_none();
        if is_news {
            entry.refused = Some(refused);
        }
        is_news
    }

    /// The server takes back its confirmation of the pattern; true if there was one. What it carried is to be reported as lost.
    pub(in crate::source) fn withdraw(&mut self, index: usize) -> bool {
        let entry = &mut self.entries[index];
        let was_confirmed = entry.phase == SubscriptionPhase::Confirmed;
        if was_confirmed {
            (entry.phase, entry.interrupted, entry.carried) = (SubscriptionPhase::Asked, true, true);
        }
        was_confirmed
    }

    /// The report of an interruption was made, and another one will be due.
    pub(in crate::source) fn interrupt(&mut self, index: usize) {
        self.entries[index].interrupted = self.entries[index].carried;
    }

    /// Those that are refused are to be asked for again. Until the server confirms one, it covers nothing.
    pub(in crate::source) fn retry(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.phase == SubscriptionPhase::Denied) {
            entry.phase = SubscriptionPhase::Queued;
            entry.alone = true;
        }
    }

    pub(in crate::source) fn on_disconnected(&mut self) {
        for entry in &mut self.entries {
            entry.interrupted |= entry.phase == SubscriptionPhase::Confirmed;
            entry.carried = entry.interrupted;
            entry.phase = SubscriptionPhase::Queued;
            entry.alone = false;
            entry.refused = None;
        }
    }
}
