//! The configured patterns: which one each channel's messages come in through.

use super::{glob::Glob, subscriptions::BATCH_CHANNELS_MAX};
use crate::{source::refusals::Refused, topic::Topic};

/// How far a subscription has come on the present connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Queued,
    Asked,
    Confirmed,
    /// The server's access rules forbid it. It is asked for again from time to time.
    Denied,
}

/// What to do with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It is an event.
    Wanted,
    /// The same message comes through another subscription.
    Repeated,
    /// Its channel is not subscribed.
    Unasked,
}

/// All configured patterns, in their order.
#[derive(Debug)]
pub(super) struct Patterns {
    entries: Vec<PatternSubscription>,
}

#[derive(Debug)]
struct PatternSubscription {
    glob: Glob,
    phase: Phase,
    /// To be asked for without others, because a command with others was refused.
    alone: bool,
    /// Its delivery was interrupted, and that is not reported yet.
    interrupted: bool,
    /// It was delivered, or owed a report, when the last connection ended.
    carried: bool,
    /// Set while the server's access rules forbid it, also while it is asked for again.
    refused: Option<Refused>,
}

impl Patterns {
    pub(super) fn new(texts: &[String]) -> Self {
        let entry = |text: &String| PatternSubscription {
            glob: Glob::parse(text),
            phase: Phase::Queued,
            alone: false,
            interrupted: false,
            carried: false,
            refused: None,
        };
        Self { entries: texts.iter().map(entry).collect() }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The pattern at `index`, as it was configured.
    pub(super) fn text(&self, index: usize) -> &str {
        self.entries[index].glob.as_str()
    }

    pub(super) fn is_confirmed(&self, index: usize) -> bool {
        self.entries[index].phase == Phase::Confirmed
    }

    /// Whether each of them is confirmed or refused.
    pub(super) fn all_settled(&self) -> bool {
        self.entries.iter().all(|entry| entry.phase == Phase::Confirmed || entry.refused.is_some())
    }

    /// Those that are refused, and why.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&str, &Refused)> {
        self.entries.iter().filter_map(|entry| Some((entry.glob.as_str(), entry.refused.as_ref()?)))
    }

    /// The pattern the messages of `topic` come in through, or will: the first that covers it and is not refused.
    pub(super) fn covering(&self, topic: &Topic) -> Option<usize> {
        let covers =
            |entry: &PatternSubscription| entry.refused.is_none() && entry.glob.matches(topic.as_str().as_bytes());
        self.entries.iter().position(covers)
    }

    /// What to do with a message that came through `pattern`: of several patterns that cover a channel, the first that is
    /// confirmed speaks. Nobody asked for a message whose channel its pattern does not cover, or whose pattern is unknown.
    pub(super) fn admit(&self, pattern: &[u8], channel: &[u8]) -> Admission {
        let confirmed = self.entries.iter().filter(|entry| entry.phase == Phase::Confirmed);
        let mut first = None;
        for entry in confirmed.filter(|entry| entry.glob.matches(channel)) {
            let is_it = entry.glob.as_str().as_bytes() == pattern;
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
    pub(super) fn carried(&self, index: usize, topic: &Topic) -> bool {
        let channel = topic.as_str().as_bytes();
        self.entries.iter().position(|entry| entry.carried && entry.glob.matches(channel)) == Some(index)
    }

    /// Whether the pattern at `index` still owes the report of an interruption.
    pub(super) fn is_interrupted(&self, index: usize) -> bool {
        self.entries[index].interrupted
    }

    /// Takes what the pattern at `index` owes.
    pub(super) fn take_interruption(&mut self, index: usize) -> bool {
        std::mem::take(&mut self.entries[index].interrupted)
    }

    /// Marks the next patterns as asked for.
    pub(super) fn ask(&mut self) -> Vec<usize> {
        let queued = |entry: &PatternSubscription| entry.phase == Phase::Queued;
        let Some(first) = self.entries.iter().position(queued) else { return Vec::new() };
        let together = |index: &usize| queued(&self.entries[*index]) && !self.entries[*index].alone;
        let chosen: Vec<usize> = if self.entries[first].alone {
            vec![first]
        } else {
            (first..self.entries.len()).filter(together).take(BATCH_CHANNELS_MAX).collect()
        };
        for index in &chosen {
            self.entries[*index].phase = Phase::Asked;
        }
        chosen
    }

    /// The server confirmed the pattern: whether it had been refused until now. `None` if it was not asked for.
    pub(super) fn on_confirmed(&mut self, index: usize) -> Option<bool> {
        let entry = self.entries.get_mut(index).filter(|entry| entry.phase == Phase::Asked)?;
        entry.phase = Phase::Confirmed;
        Some(entry.refused.take().is_some())
    }

    /// The server refused a command with several patterns: each is to be asked for alone.
    pub(super) fn part(&mut self, indices: &[usize]) {
        for index in indices {
            self.entries[*index].phase = Phase::Queued;
            self.entries[*index].alone = true;
        }
    }

    /// The server refuses the pattern; true if it did not before. What the pattern carried is lost from here on, which is to be
    /// reported when it is back.
    pub(super) fn deny(&mut self, index: usize, refused: Refused) -> bool {
        let entry = &mut self.entries[index];
        entry.phase = Phase::Denied;
        let is_news = entry.refused.is_none();
        if is_news {
            entry.refused = Some(refused);
        }
        is_news
    }

    /// The report of an interruption was made, and another one will be due.
    pub(super) fn interrupt(&mut self, index: usize) {
        self.entries[index].interrupted = self.entries[index].carried;
    }

    /// Those that are refused are to be asked for again. Until the server confirms one, it covers nothing.
    pub(super) fn retry(&mut self) {
        for entry in self.entries.iter_mut().filter(|entry| entry.phase == Phase::Denied) {
            entry.phase = Phase::Queued;
            entry.alone = true;
        }
    }

    pub(super) fn on_disconnected(&mut self) {
        for entry in &mut self.entries {
            entry.interrupted |= entry.phase == Phase::Confirmed;
            entry.carried = entry.interrupted;
            entry.phase = Phase::Queued;
            entry.alone = false;
            entry.refused = None;
        }
    }
}
