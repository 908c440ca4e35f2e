//! Tokens, keys, users and logins, by tables.

mod forms;
mod key_set;
mod login;
mod mapping;
mod parts;
mod revocation;
mod signatures;
mod tokens;

use std::{sync::Arc, time::Duration};

use super::*;

pub(super) const SECRET: &str = "a secret of forty-eight bytes, or somewhat more than that, for all three";
/// The time at which the tests play, in seconds since 1970, at [`NOW`].
pub(super) const UNIX_S: u64 = 1_300_819_000;
pub(super) const NOW: Moment = Moment(5_000_000_000);

pub(super) fn settings() -> AuthSettings {
    AuthSettings { mode: Mode::Jwt, ..AuthSettings::default() }
}

pub(super) fn secrets() -> Secrets {
    Secrets { secret: SECRET.into(), ..Secrets::default() }
}

pub(super) fn auth_of(settings: AuthSettings, secrets: Secrets) -> Auth {
    let rules = AuthRules::new(settings, secrets).unwrap_or_else(|(key, wrong)| panic!("{key}: {wrong}"));
    Auth::new(Arc::new(rules), NOW, Duration::from_secs(UNIX_S))
}

/// What [`Auth::identify`] says, in a word: the subject, or the code of the refusal.
#[track_caller]
pub(super) fn identify(auth: &Auth, token: &str, now: Moment) -> String {
    match auth.identify(Some(token), None, now) {
        Ok(Some(identity)) => identity.subject.to_string(),
        Ok(None) => "nobody".into(),
        Err(denied) => denied.code().into(),
    }
}
