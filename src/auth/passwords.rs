//! Passwords: argon2id (RFC 9106), which takes tens of milliseconds by intention. Hence never on a reactor: checks go
//! through a short queue to threads of their own.

use std::fmt;

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

/// The longest password, in bytes: more are no safer, only slower to hash.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// What a hash costs: one of the settings that OWASP's Password Storage Cheat Sheet holds to be equally strong; of those,
/// one that leaves most of a processor's cache to the others.
const HASH_KIB: u32 = 7 * 1024;
const HASH_PASSES: u32 = 5;
const HASH_LANES: u32 = 1;

/// The hash of `password` with a salt of its own, as the users file takes it (a PHC string).
pub fn hash_password(password: &str) -> Result<String, String> {
    if password.is_empty() || PASSWORD_BYTES_MAX < password.len() {
        return Err(format!("a password has 1 to {PASSWORD_BYTES_MAX} bytes"));
    }
    let params =
        Params::new(HASH_KIB, HASH_PASSES, HASH_LANES, None).map_err(|error| format!("cannot hash: {error}"))?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let hash = argon2.hash_password(password.as_bytes());
    hash.map(|hash| hash.to_string()).map_err(|error| format!("cannot hash: {error}"))
}

/// Whether `text` is a hash that passwords can be checked against.
pub(super) fn check_form(text: &str) -> Result<(), String> {
    let hint = "the password must be an argon2id hash: make one with `fanfare hash-password`";
    match PasswordHash::new(text) {
        Ok(hash) if hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() => Ok(()),
        _ => Err(hint.into()),
    }
}

/// Whether `password` is the one of `hash`.
fn is_password(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// One password to be checked.
pub(super) struct Check {
    pub(super) password: String,
    pub(super) hash: String,
    /// Gets the outcome.
    pub(super) reply: Box<dyn FnOnce(bool) + Send>,
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Check")
    }
}

/// The way to the threads that check.
#[derive(Clone, Debug)]
pub(super) struct PasswordQueue(Sender<Check>);

/// The work of such a thread; clones share it.
#[derive(Clone, Debug)]
pub struct PasswordWork(Receiver<Check>);

/// A queue of at most `waiting_max` checks.
pub(super) fn password_queue(waiting_max: usize) -> (PasswordQueue, PasswordWork) {
    let (sender, receiver) = bounded(waiting_max);
    (PasswordQueue(sender), PasswordWork(receiver))
}

impl PasswordQueue {
    /// Whether there was room for `check`.
    pub(super) fn submit(&self, check: Check) -> bool {
        match self.0.try_send(check) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

impl PasswordWork {
    /// Checks passwords until nobody can ask any more.
    pub fn run(self) {
        for Check { password, hash, reply } in self.0 {
            reply(is_password(&password, &hash));
        }
    }

    /// Checks those that wait.
    #[cfg(test)]
    pub(super) fn run_waiting(&self) {
        for Check { password, hash, reply } in self.0.try_iter() {
            reply(is_password(&password, &hash));
        }
    }
}
