//! Classes of topics: what a topic keeps, and what happens to a slow reader, by pattern of the topic's name.

use std::{fmt, str::FromStr};

use crate::{
    bus::{Class, SourceName},
    log::Policy,
    source::LOG_WORDS,
    topic::Pattern,
};

/// The classes of topics; the first whose pattern matches decides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Topics {
    /// The class of topics that no pattern matches.
    pub default: Class,
    /// The classes by pattern, in the order of the file.
    pub classes: Vec<(Pattern, Class)>,
    /// The source of topics whose class names none, where more than one could be.
    pub source: Option<SourceName>,
}

/// The pattern of a class and its text. Empty until it is set.
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

/// Parses the name of a policy.
pub(super) fn parse_policy(name: &str) -> Result<Policy, String> {
    let known = Policy::ALL.into_iter().find(|policy| policy.name() == name);
    known.ok_or_else(|| "the policy is `close`, `skip` or `latest`".into())
}

/// Parses where a log is kept, and sets the source and the log of `class` accordingly.
pub(super) fn read_log(class: &mut Class, word: &str) -> Result<(), String> {
    let known = LOG_WORDS.into_iter().find(|(known, ..)| *known == word);
    let words = || LOG_WORDS.map(|(word, ..)| format!("`{word}`")).join(" or ");
    let (_, source, log) = known.ok_or_else(|| format!("a log is {}", words()))?;
    (class.source, class.log) = (source, log);
    Ok(())
}

/// The word that [`read_log`] parses into the source and the log of `class`.
pub(super) fn log_word(class: &Class) -> &'static str {
    let known = LOG_WORDS.into_iter().find(|(_, source, log)| (*source, *log) == (class.source, class.log));
    known.map_or("memory", |(word, ..)| word)
}
