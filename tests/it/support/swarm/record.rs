//! What one subscriber has seen.

use std::fmt;

use fanfare_core::event::EventId;

use super::Dialect;

/// What a subscriber received, by topic, and the history of its connections.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) dialect: Dialect,
    /// Index of the topic, and its marks in the order of arrival.
    pub(crate) topics: Vec<(usize, Vec<Mark>)>,
    /// Connections after the first.
    pub(crate) reconnects: u32,
    /// Connections that were refused: the HTTP status, or the WebSocket close code and its reason.
    pub(crate) refusals: Vec<String>,
    /// Ends that the hub explained: an SSE `error`, or a WebSocket close code and its reason.
    pub(crate) goodbyes: Vec<String>,
    /// What no client should ever see: broken framing, payloads that were not published.
    pub(crate) faults: Vec<String>,
}

/// One thing that a subscriber received on a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The event of this number. Raw WebSockets get no id.
    Event { number: u32, id: Option<EventId> },
    /// Events are missing here: after `from`, up to and with `to`.
    Gap { from: Option<EventId>, to: Option<EventId>, reason: String },
    /// A connection without an id to resume from: events published in between are not due.
    Fresh,
}

impl Mark {
    pub(crate) fn is_gap(&self) -> bool {
        matches!(self, Self::Gap { .. })
    }
}

impl Record {
    pub(super) fn new(dialect: Dialect, topics: &[usize]) -> Self {
        Self {
            dialect,
            topics: topics.iter().map(|topic| (*topic, Vec::new())).collect(),
            reconnects: 0,
            refusals: Vec::new(),
            goodbyes: Vec::new(),
            faults: Vec::new(),
        }
    }

    /// Adds a mark to a topic. A topic without a subscription is a fault.
    pub(super) fn note(&mut self, topic: usize, mark: Mark) {
        match self.topics.iter_mut().find(|(topic_index, _)| *topic_index == topic) {
            Some((_, marks)) => marks.push(mark),
            None => self.faults.push(format!("topic {topic} was not asked for: {mark:?}")),
        }
    }

    pub(super) fn note_fresh(&mut self) {
        self.topics.iter_mut().for_each(|(_, marks)| marks.push(Mark::Fresh));
    }
}

/// Short: runs of events as `1..40`, gaps as `[7-40 to 7-110 overflow]`, a fresh beginning as `|`.
impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}, {} reconnects", self.dialect, self.reconnects)?;
        for (topic, marks) in &self.topics {
            write!(f, "; topic {topic}:")?;
            write_marks(marks, f)?;
        }
        write!(f, "; refusals {:?}, goodbyes {:?}, faults {:?}", self.refusals, self.goodbyes, self.faults)
    }
}

fn write_marks(marks: &[Mark], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let follows = |pair: &[Mark]| match (&pair[0], &pair[1]) {
        (Mark::Event { number, .. }, Mark::Event { number: next, .. }) => *next == number + 1,
        _ => false,
    };
    for (index, mark) in marks.iter().enumerate() {
        let goes_on = marks.get(index..index + 2).is_some_and(follows);
        let went_on = 0 < index && marks.get(index - 1..=index).is_some_and(follows);
        let shown = |id: &Option<EventId>| id.map_or_else(|| "?".to_owned(), |id| id.to_string());
        match mark {
            Mark::Event { .. } if went_on && goes_on => {}
            Mark::Event { number, .. } if went_on => write!(f, "..{number}")?,
            Mark::Event { number, .. } => write!(f, " {number}")?,
            Mark::Gap { from, to, reason } => write!(f, " [{} to {} {reason}]", shown(from), shown(to))?,
            Mark::Fresh => write!(f, " |")?,
        }
    }
    Ok(())
}
