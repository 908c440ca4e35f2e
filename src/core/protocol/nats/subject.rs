//! Subjects. They are checked when they are made, so that each can be written into a line of the protocol.
//! (<https://docs.nats.io/nats-concepts/subjects>)

use std::fmt;

/// The most bytes a subject may have here. A server's line, with all else in it, has 4 KiB by default
/// (`max_control_line`).
pub(super) const SUBJECT_BYTES_MAX: usize = 2048;

/// A subject to publish to: tokens separated by dots, none of them empty, without spaces, control characters, `*` and
/// `>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(Box<str>);

/// A subject to subscribe to, with wildcards: a token `*` matches any one token, and `>` as the last token matches one or
/// more.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectPattern(Box<str>);

/// Why a text is not a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSubject {
    /// More than `SUBJECT_BYTES_MAX` bytes.
    TooLong,
    /// Nothing at all, two dots in a row, or a dot at either end.
    EmptyToken,
    /// A space or a control character, and its position.
    BadByte(usize),
    /// `*` or `>` where it must not be.
    Wildcard,
}

impl Subject {
    /// Checks `name` and keeps it.
    pub fn parse(name: &str) -> Result<Self, BadSubject> {
        check(name)?;
        if name.contains(['*', '>']) {
            return Err(BadSubject::Wildcard);
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl SubjectPattern {
    /// Checks `text` and keeps it.
    pub fn parse(text: &str) -> Result<Self, BadSubject> {
        check(text)?;
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            let is_wildcard = token == "*" || (token == ">" && tokens.peek().is_none());
            if token.contains(['*', '>']) && !is_wildcard {
                return Err(BadSubject::Wildcard);
            }
        }
        Ok(Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Subject> for SubjectPattern {
    fn from(subject: Subject) -> Self {
        Self(subject.0)
    }
}

fn check(text: &str) -> Result<(), BadSubject> {
    if SUBJECT_BYTES_MAX < text.len() {
        return Err(BadSubject::TooLong);
    }
    if let Some(at) = text.find(|letter: char| letter.is_whitespace() || letter.is_control()) {
        return Err(BadSubject::BadByte(at));
    }
    if text.split('.').any(str::is_empty) {
        return Err(BadSubject::EmptyToken);
    }
    Ok(())
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BadSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "a subject has at most {SUBJECT_BYTES_MAX} bytes"),
            Self::EmptyToken => write!(f, "a subject has no empty token: no dot at an end, no two in a row"),
            Self::BadByte(at) => write!(f, "byte {at} of the subject is a blank or a control character"),
            Self::Wildcard => write!(f, "* and > stand for tokens, and only in what is subscribed to"),
        }
    }
}

impl std::error::Error for BadSubject {}
