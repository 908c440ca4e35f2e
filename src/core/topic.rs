//! Topic names, parsed once at the edge: a [`Topic`] that exists is valid.

use std::{borrow::Borrow, fmt, sync::Arc};

use serde::{Serialize, Serializer};

/// The most bytes a topic name may have.
pub const NAME_BYTES_MAX: usize = 255;

/// A topic's name: 1–255 bytes of `A–Z a–z 0–9 . _ - : /`, without an empty segment (segments are parted by `.`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a text is not a topic's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadTopic {
    /// Nothing at all.
    Empty,
    /// More than [`NAME_BYTES_MAX`] bytes.
    TooLong,
    /// A byte outside the alphabet, and where it stands.
    BadByte(usize),
    /// Two dots in a row, or a dot at either end.
    EmptySegment,
    /// A slash at the end, where the name stands in a path ([`Topic::parse_in_path`]).
    TrailingSlash,
}

impl Topic {
    /// Checks `name` and keeps it.
    pub fn parse(name: &str) -> Result<Self, BadTopic> {
        if name.is_empty() {
            return Err(BadTopic::Empty);
        }
        if NAME_BYTES_MAX < name.len() {
            return Err(BadTopic::TooLong);
        }
        if let Some(at) = name.bytes().position(|byte| !is_name_byte(byte)) {
            return Err(BadTopic::BadByte(at));
        }
        if name.split('.').any(str::is_empty) {
            return Err(BadTopic::EmptySegment);
        }
        Ok(Self(name.into()))
    }

    /// The same for a name at the end of a URL's path. A slash behind it is a slip, and not a part of the name: it would be the name
    /// of another topic. Brokers may bring a topic of such a name all the same, and a query may ask for it.
    pub fn parse_in_path(name: &str) -> Result<Self, BadTopic> {
        if name.ends_with('/') { Err(BadTopic::TrailingSlash) } else { Self::parse(name) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Serialize for Topic {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A topic is found, and sorted, by its name.
impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b':' | b'/')
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for BadTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "a topic needs a name"),
            Self::TooLong => write!(f, "a topic name has at most {NAME_BYTES_MAX} bytes"),
            Self::BadByte(at) => {
                write!(f, "byte {at} of the topic name is not one of A-Z a-z 0-9 . _ - : /")
            }
            Self::TrailingSlash => write!(f, "the path ends in a slash: leave it out"),
            Self::EmptySegment => write!(f, "a topic name has no empty segment: no dot at an end, no two in a row"),
        }
    }
}

impl std::error::Error for BadTopic {}

/// A pattern over topic names, as classes and grants use it: `*` stands for one segment, `**` (last) for the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Checks `text` and keeps it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut rest = text.split('.').peekable();
        while let Some(segment) = rest.next() {
            match segment {
                "" => return Err(format!("pattern `{text}` has an empty segment")),
                "**" if rest.peek().is_some() => return Err(format!("in pattern `{text}`, `**` must come last")),
                "*" | "**" => {}
                plain if plain.bytes().all(is_name_byte) => {}
                other => return Err(format!("segment `{other}` of pattern `{text}`: use a whole `*`, `**` or a name")),
            }
        }
        Ok(Self(text.into()))
    }

    /// What it is written as.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What all names that fall under it begin with.
    pub fn literal_prefix(&self) -> &str {
        self.0.find('*').map_or(&self.0, |at| &self.0[..at])
    }

    /// Whether `topic` falls under it. `**` stands for one segment or more.
    pub fn matches(&self, topic: &Topic) -> bool {
        let mut segments = topic.as_str().split('.');
        for wanted in self.0.split('.') {
            match (wanted, segments.next()) {
                (_, None) => return false,
                ("**", Some(_)) => return true,
                ("*", Some(_)) => {}
                (plain, Some(segment)) if plain == segment => {}
                _ => return false,
            }
        }
        segments.next().is_none()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expected: Option<BadTopic>| assert_eq!(Topic::parse(name).err(), expected, "{name}");
        check("events.critical", None);
        check("pods.alice.changes", None);
        check("a:b/c_d-e.9", None);
        check("", Some(BadTopic::Empty));
        check(".", Some(BadTopic::EmptySegment));
        check("a..b", Some(BadTopic::EmptySegment));
        check("a.", Some(BadTopic::EmptySegment));
        check("a b", Some(BadTopic::BadByte(1)));
        check("é", Some(BadTopic::BadByte(0)));
        check("a*", Some(BadTopic::BadByte(1)));
        check(&"x".repeat(255), None);
        check(&"x".repeat(256), Some(BadTopic::TooLong));
    }

    #[test]
    fn patterns() {
        let check = |pattern: &str, topic: &str, expected: bool| {
            let topic = Topic::parse(topic).expect("a good name");
            assert_eq!(Pattern::parse(pattern).expect("a good pattern").matches(&topic), expected, "{pattern} {topic}");
        };
        check("orders.*", "orders.eu", true);
        check("orders.*", "orders", false);
        check("orders.*", "orders.eu.1", false);
        check("orders.**", "orders.eu.1", true);
        check("orders.**", "orders", false);
        check("**", "anything.at.all", true);
        check("*.eu", "orders.eu", true);
        check("*.eu", "orders.us", false);
        check("a.b", "a.b", true);
        check("a.b", "a.b.c", false);
        for bad in ["", "a..b", "**.a", "a*", "a b"] {
            assert!(Pattern::parse(bad).is_err(), "{bad}");
        }
    }
}
