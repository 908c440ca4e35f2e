//! A client that is known, and its rights.

use crate::{
    clock::Moment,
    topic::{Pattern, Topic},
};

/// Who a client is, by the token it has shown, and what it may do until when.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Whom the token was given to (`sub`).
    pub subject: Box<str>,
    /// Its name for people, if the token has one; else the subject stands for it.
    pub username: Option<Box<str>>,
    /// Its role, such as `admin`.
    pub role: Option<Box<str>>,
    /// The topics it may listen to.
    pub subscribe: Grants,
    /// The topics it may publish to.
    pub publish: Grants,
    /// When all this ends.
    pub expires: Option<Moment>,
}

impl Identity {
    /// Whether it has the role that may see and do everything.
    pub fn is_admin(&self) -> bool {
        self.role.as_deref() == Some("admin")
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        self.username.as_deref().unwrap_or(&self.subject)
    }
}

/// Topics, by pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(Box<[Pattern]>);

impl Grants {
    /// Those that fall under one of `patterns`.
    pub fn new(patterns: impl IntoIterator<Item = Pattern>) -> Self {
        Self(patterns.into_iter().collect())
    }

    /// Whether `topic` is one of them.
    pub fn allow(&self, topic: &Topic) -> bool {
        self.0.iter().any(|pattern| pattern.matches(topic))
    }
}
