//! The users file: users who may sign in with a password, and their rights.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    Grants, Identity,
    passwords::{self, HashCost},
};
use crate::clock::Moment;

/// The users of a hub, by name.
#[derive(Debug, Default)]
pub(super) struct Users {
    by_name: HashMap<String, User>,
    /// The name of a user with the most expensive hash.
    dearest: String,
}

/// One user of the file.
#[derive(Debug)]
pub(super) struct User {
    /// An argon2id hash (PHC string).
    pub(super) password_hash: String,
    /// The cost of checking a password against it.
    pub(super) cost: HashCost,
    pub(super) is_disabled: bool,
    role: Option<Box<str>>,
    subscribe: Grants,
    publish: Grants,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UsersFile {
    #[serde(default)]
    user: Vec<UserEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserEntry {
    username: String,
    password: String,
    role: Option<Box<str>>,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    disabled: bool,
}

/// The longest name of a user, in bytes.
pub(super) const USERNAME_BYTES_MAX: usize = 255;

impl Users {
    /// Parses `[[user]]` tables in TOML.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The parser quotes what it refuses, and that may be a password.
        let file: UsersFile = toml::from_str(text).map_err(|error| without_texts(error.message()))?;
        let mut users = HashMap::new();
        for entry in file.user {
            let name = entry.username.clone();
            let user = entry.check().map_err(|wrong| format!("user `{name}`: {wrong}"))?;
            if users.insert(name.clone(), user).is_some() {
                return Err(format!("user `{name}` is there twice"));
            }
        }
        if users.is_empty() {
            return Err("it names nobody: write a [[user]] table with username, password, subscribe and publish".into());
        }
        let cost = |user: &(&String, &User)| user.1.cost;
        let dearest = users.iter().max_by_key(cost).map(|(name, _)| name.clone()).unwrap_or_default();
        Ok(Self { by_name: users, dearest })
    }

    /// The user `name`, disabled or not.
    pub(super) fn find(&self, name: &str) -> Option<&User> {
        self.by_name.get(name)
    }

    /// The user with the most expensive hash. Passwords of unknown names are checked against it.
    pub(super) fn dearest(&self) -> Option<&User> {
        self.by_name.get(&self.dearest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

/// A parser's `message` without the texts that it quotes.
pub(super) fn without_texts(message: &str) -> String {
    let mut parts = message.split('"');
    let first = parts.next().unwrap_or_default().to_owned();
    let mut is_inside = false;
    parts.fold(first, |shown, part| {
        is_inside = !is_inside;
        if is_inside { shown + "\"…\"" } else { shown + part }
    })
}

impl User {
    /// The identity of a token that the user `name` got by a login at `login_unix_s`. Its rights are those in the file now,
    /// whatever the token says.
    pub(super) fn identify(&self, name: &str, login_unix_s: u64, expires: Moment) -> Identity {
        Identity {
            subject: name.into(),
            role: self.role.clone(),
            subscribe: self.subscribe.clone(),
            publish: self.publish.clone(),
            expires: Some(expires),
            login_unix_s: Some(login_unix_s),
            ..Identity::default()
        }
    }
}

impl UserEntry {
    fn check(self) -> Result<User, String> {
        if self.username.is_empty() || USERNAME_BYTES_MAX < self.username.len() {
            return Err(format!("a username has 1 to {USERNAME_BYTES_MAX} bytes"));
        }
        passwords::check_form(&self.password)?;
        Ok(User {
            cost: HashCost::of(&self.password),
            password_hash: self.password,
            is_disabled: self.disabled,
            role: self.role,
            subscribe: Grants::parse(&self.subscribe)?,
            publish: Grants::parse(&self.publish)?,
        })
    }
}
