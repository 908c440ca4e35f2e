//! What a topic remembers and how it treats a slow reader: the default class and the classes by pattern.

use std::{fmt, str::FromStr};

use crate::{bus::Class, log::Policy, source::LOG_WORDS, topic::Pattern};

/// The classes of topics; the first whose pattern matches decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topics {
    /// For topics that no pattern matches.
    pub default: Class,
    /// In the order written.
    pub classes: Vec<(Pattern, Class)>,
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

/// Reads a policy's name.
pub(super) fn parse_policy(name: &str) -> Result<Policy, String> {
    let known = Policy::ALL.into_iter().find(|policy| policy.name() == name);
    known.ok_or_else(|| "the policy is `close`, `skip` or `latest`".into())
}

/// Reads a word for the source and the keeper of the log of `class`.
pub(super) fn read_log(class: &mut Class, word: &str) -> Result<(), String> {
    let known = LOG_WORDS.into_iter().find(|(known, ..)| *known == word);
    let (_, source, log) = known.ok_or("a log is `memory` or `redis-stream`")?;
    (class.source, class.log) = (source, log);
    Ok(())
}

/// The word that [`read_log`] reads so.
pub(super) fn log_word(class: &Class) -> &'static str {
    let known = LOG_WORDS.into_iter().find(|(_, source, log)| (*source, *log) == (class.source, class.log));
    known.map_or("memory", |(word, ..)| word)
}
