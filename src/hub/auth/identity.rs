//! A client that is known, and its rights.

use crate::{clock::Moment, topic::Topic};

use super::{Credential, Denied, Grants};

/// The role that may see and do everything.
const ADMIN_ROLE: &str = "admin";

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
    /// When it gave its password, in seconds since 1970, if it is a user of the users file: its tokens are the hub's own.
    pub login_unix_s: Option<u64>,
    /// Whether it has shown nothing yet, and has until `expires` to do so.
    pub is_guest: bool,
    /// Whether it has shown an API key, whose name is its subject.
    pub is_api_key: bool,
    /// What it has shown, to be asked again whether that still counts.
    pub credential: Credential,
    /// The rules that gave it these rights ([`super::Auth::generation`]).
    pub generation: u64,
}

impl Identity {
    /// Whoever is still to say who it is, until `expires`.
    pub(crate) fn guest(expires: Moment) -> Self {
        Self { expires: Some(expires), is_guest: true, ..Self::default() }
    }

    /// Whether it has the role that may see and do everything.
    pub(crate) fn is_admin(&self) -> bool {
        self.role.as_deref() == Some(ADMIN_ROLE)
    }

    /// What people call it.
    pub fn name(&self) -> &str {
        self.username.as_deref().unwrap_or(&self.subject)
    }

    /// Whether it may listen to `topic`.
    pub fn may_subscribe(&self, topic: &Topic) -> Result<(), Denied> {
        self.permit(self.subscribe.allow(topic))
    }

    /// The first name from `name` on that a topic could have that it may listen to; `None`: there is none.
    pub fn next_subscribable(&self, name: &str) -> Option<String> {
        self.subscribe.next_from(name).map(str::to_owned)
    }

    pub fn may_publish(&self, topic: &Topic) -> Result<(), Denied> {
        self.permit(self.publish.allow(topic))
    }

    /// What its parts hold in the heap, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let texts = [Some(&self.subject), self.username.as_ref(), self.role.as_ref()];
        let text_bytes: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        text_bytes + self.subscribe.held_bytes() + self.publish.held_bytes()
    }

    /// Whether its time is over.
    pub(crate) fn has_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn permit(&self, granted: bool) -> Result<(), Denied> {
        match granted || self.is_admin() {
            _ if self.is_guest => Err(Denied::Missing),
            true => Ok(()),
            false => Err(Denied::Forbidden),
        }
    }
}
