//! The configured patterns: which one each channel's messages come in through.

use super::{glob::Glob, subscriptions::BATCH_CHANNELS_MAX};
use crate::topic::Topic;

/// How far a subscription has come on the present connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Queued,
    Asked,
    Confirmed,
    /// The server's access rules forbid it.
    Denied,
}

/// All configured patterns, in their order.
#[derive(Debug)]
pub(super) struct Patterns {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    glob: Glob,
    phase: Phase,
    /// To be asked for without others, because a command with others was refused.
    alone: bool,
    /// Its delivery was interrupted, and that is not reported yet.
    interrupted: bool,
    /// It was delivered, or owed a report, when the last connection ended.
    carried: bool,
}

impl Patterns {
    pub(super) fn new(texts: &[String]) -> Self {
        let entry = |text: &String| Entry {
            glob: Glob::parse(text),
            phase: Phase::Queued,
            alone: false,
            interrupted: false,
            carried: false,
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

    pub(super) fn all_confirmed(&self) -> bool {
        self.entries.iter().all(|entry| entry.phase == Phase::Confirmed)
    }

    /// The pattern the messages of `topic` come in through, or will: the first that covers it and is not denied.
    pub(super) fn covering(&self, topic: &Topic) -> Option<usize> {
        let covers = |entry: &Entry| entry.phase != Phase::Denied && entry.glob.matches(topic.as_str().as_bytes());
        self.entries.iter().position(covers)
    }

    /// Whether a message that came through `pattern` is the one to take: of several patterns that cover a channel, the
    /// first that is confirmed speaks.
    pub(super) fn admits(&self, pattern: &[u8], channel: &[u8]) -> bool {
        let is_it = |entry: &&Entry| entry.glob.as_str().as_bytes() == pattern;
        let mut confirmed = self.entries.iter().filter(|entry| entry.phase == Phase::Confirmed);
        confirmed.find(|entry| is_it(entry) || entry.glob.matches(channel)).is_some_and(|entry| is_it(&entry))
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
        let queued = |entry: &Entry| entry.phase == Phase::Queued;
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

    /// The server confirmed the pattern; true if that is news.
    pub(super) fn on_confirmed(&mut self, index: usize) -> bool {
        let Some(entry) = self.entries.get_mut(index).filter(|entry| entry.phase == Phase::Asked) else { return false };
        entry.phase = Phase::Confirmed;
        true
    }

    /// The server refused a command with several patterns: each is to be asked for alone.
    pub(super) fn part(&mut self, indices: &[usize]) {
        for index in indices {
            self.entries[*index].phase = Phase::Queued;
            self.entries[*index].alone = true;
        }
    }

    pub(super) fn deny(&mut self, index: usize) {
        self.entries[index].phase = Phase::Denied;
    }

    pub(super) fn on_disconnected(&mut self) {
        for entry in &mut self.entries {
            entry.interrupted |= entry.phase == Phase::Confirmed;
            entry.carried = entry.interrupted;
            entry.phase = Phase::Queued;
            entry.alone = false;
        }
    }
}
