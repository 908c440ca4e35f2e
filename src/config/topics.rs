//! What a topic remembers and how it treats a slow reader: the default class and the classes by pattern.

use std::{fmt, str::FromStr, time::Duration};

use crate::topic::{Pattern, Topic};

/// The classes of topics; the first whose pattern matches decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topics {
    /// For topics that no pattern matches.
    pub default: Class,
    /// In the order written.
    pub classes: Vec<(Pattern, Class)>,
}

/// How the topics of one class behave.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    /// What is kept.
    pub history: History,
    /// What happens to a reader that history has left behind.
    pub policy: Policy,
    /// Whose turn comes first when several topics have news: lower goes first.
    pub priority: i64,
}

/// The pattern a class is for, and the text it was written as; empty until it is set.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct ClassMatch(Option<(String, Pattern)>);

impl ClassMatch {
    pub(super) fn pattern(&self) -> Option<&Pattern> {
        self.0.as_ref().map(|(_, pattern)| pattern)
    }
}

impl FromStr for ClassMatch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(Some((text.to_owned(), Pattern::parse(text)?))))
    }
}

impl fmt::Display for ClassMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |(text, _)| f.write_str(text))
    }
}

/// The bounds of a topic's log; whichever is reached first trims it.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Events.
    pub count: usize,
    /// Bytes of all events together.
    pub bytes: usize,
    /// How old an event gets.
    pub age: Duration,
}

/// What happens to a reader that history has left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Its connection is closed and told why.
    #[default]
    Close,
}

impl Topics {
    /// The class `topic` belongs to.
    pub fn class_of(&self, topic: &Topic) -> &Class {
        let matching = self.classes.iter().find(|(pattern, _)| pattern.matches(topic));
        matching.map_or(&self.default, |(_, class)| class)
    }
}

impl Default for History {
    fn default() -> Self {
        Self { count: 100, bytes: 1024 * 1024, age: Duration::from_secs(300) }
    }
}

impl FromStr for Policy {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "close" => Ok(Self::Close),
            _ => Err("the policy is `close`"),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Close => f.write_str("close"),
        }
    }
}
