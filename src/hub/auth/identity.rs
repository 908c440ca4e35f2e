//! An authenticated client and its rights.

use crate::{clock::Moment, topic::Topic};

use super::{AccessDenied, Credential, Grants};

/// The role that may see and do everything.
const ADMIN_ROLE: &str = "admin";

/// Who a client is, by its credential, and what it may do until when.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// The token's subject (`sub`).
    pub subject: Box<str>,
    /// A readable name, if the token has one.
    pub username: Option<Box<str>>,
    /// Its role, such as `admin`.
    pub role: Option<Box<str>>,
    /// The topics it may listen to.
    pub subscribe: Grants,
    /// The topics it may publish to.
    pub publish: Grants,
    /// When the identity expires.
    pub expires: Option<Moment>,
    /// For users of the users file: when the user signed in with a password, in seconds since 1970.
    pub login_unix_s: Option<u64>,
    /// Whether it has not authenticated yet, and may do so until `expires`.
    pub is_guest: bool,
    /// Whether its credential is an API key, whose name is the subject.
    pub is_api_key: bool,
    /// Who made the token (`iss`), if it says so.
    pub issuer: Option<Box<str>>,
    /// The id of the key that verified the token (`kid`), if the key has one.
    pub key_id: Option<Box<str>>,
    /// The `[[auth.rule]]` tables that hold for the token, by number, from 1.
    pub rules: Box<[u32]>,
    /// The claims of the token, as JSON, to be mapped again after a reload. `None` if no rule maps claims.
    pub claims: Option<Box<str>>,
    /// The credential, to be checked again after a reload.
    pub credential: Credential,
    /// The generation of the rules that gave it these rights ([`super::Auth::generation`]).
    pub generation: u64,
}

impl Identity {
    /// A client that has until `expires` to authenticate.
    pub(crate) fn guest(expires: Moment) -> Self {
        Self { expires: Some(expires), is_guest: true, ..Self::default() }
    }

    /// Whether it has the role `admin`, which may do everything.
    pub(crate) fn is_admin(&self) -> bool {
        self.role.as_deref() == Some(ADMIN_ROLE)
    }

    /// The readable name, else the subject.
    pub fn name(&self) -> &str {
        self.username.as_deref().unwrap_or(&self.subject)
    }

    /// Whether it may listen to `topic`.
    pub fn may_subscribe(&self, topic: &Topic) -> Result<(), AccessDenied> {
        self.permit(self.subscribe.allow(topic))
    }

    /// The first topic name, from `name` on, that it might subscribe to; `None` if there is none.
    pub fn next_subscribable(&self, name: &str) -> Option<String> {
        self.subscribe.next_from(name).map(str::to_owned)
    }

    pub fn may_publish(&self, topic: &Topic) -> Result<(), AccessDenied> {
        self.permit(self.publish.allow(topic))
    }

    /// `renewed`, which other rules made of the same token.
    pub(super) fn of_same_token(&self, renewed: Self) -> Self {
        let Self { credential, issuer, key_id, .. } = self.clone();
        Self { credential, issuer, key_id, ..renewed }
    }

    /// Its heap memory, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let subject = Some(&self.subject);
        let further = [&self.username, &self.role, &self.claims, &self.issuer, &self.key_id].map(Option::as_ref);
        let text_bytes: usize = further.into_iter().chain([subject]).flatten().map(|text| text.len()).sum();
        text_bytes + size_of_val(&*self.rules) + self.subscribe.held_bytes() + self.publish.held_bytes()
    }

    /// Whether it has expired.
    pub(crate) fn has_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    fn permit(&self, granted: bool) -> Result<(), AccessDenied> {
        match granted || self.is_admin() {
            _ if self.is_guest => Err(AccessDenied::Missing),
            true => Ok(()),
            false => Err(AccessDenied::Forbidden),
        }
    }
}
