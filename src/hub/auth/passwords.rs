//! Passwords: argon2id (RFC 9106), which takes tens of milliseconds on purpose. So passwords are never checked on a reactor:
//! checks go through a short queue to threads of their own.

use std::{
    fmt,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use argon2::{
    Algorithm, Argon2, Params, Version,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};

use super::{
    fair_queue::{FairQueue, Pushed},
    throttle::AdmittedLogin,
};
use crate::clock::Moment;

/// The longest password, in bytes.
pub(super) const PASSWORD_BYTES_MAX: usize = 1024;

/// Parameters of new hashes: of the equally strong settings in OWASP's Password Storage Cheat Sheet, one that uses little of
/// the processor's cache.
const HASH_KIB: u32 = 7 * 1024;
const HASH_PASSES: u32 = 5;
const HASH_LANES: u32 = 1;

/// The hash of `password` with a random salt, as a PHC string for the users file.
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

/// Fails unless `text` is an argon2id hash (PHC string).
pub(super) fn check_form(text: &str) -> Result<(), String> {
    let hint = "the password must be an argon2id hash: make one with `fanfare hash-password`";
    match PasswordHash::new(text) {
        Ok(hash) if hash.algorithm.as_str() == "argon2id" && hash.hash.is_some() => Ok(()),
        _ => Err(hint.into()),
    }
}

/// The cost of checking a password against a hash: Argon2 blocks of 1 KiB that are filled (memory times passes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HashCost {
    blocks: u64,
    /// The memory of one pass.
    kib: u32,
}

impl HashCost {
    /// The cost of a hash that [`check_form`] has accepted.
    pub(super) fn of(hash: &str) -> Self {
        let parsed = PasswordHash::new(hash).ok();
        let params = parsed.and_then(|hash| Params::try_from(&hash).ok()).unwrap_or_default();
        Self { blocks: u64::from(params.m_cost()) * u64::from(params.t_cost()), kib: params.m_cost() }
    }
}

fn is_password(password: &str, hash: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// Fills the blocks that the most expensive hash of the users file takes beyond `spent`, so that all failures take equally
/// long. Returns their number.
fn pad(password: &str, spent: HashCost, dearest: HashCost) -> u64 {
    let missing = dearest.blocks.saturating_sub(spent.blocks);
    let kib = u64::from(dearest.kib.max(1));
    let whole_passes = u32::try_from(missing / kib).unwrap_or(u32::MAX);
    let rest_kib = u32::try_from(missing % kib).unwrap_or_default();
    let fill = |kib: u32, passes: u32| {
        // Argon2 knows no less than 8 blocks; those are a few microseconds.
        let params = Params::new(kib, passes, 1, None).ok()?;
        let filled = u64::from(kib) * u64::from(passes);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut out = [0; 32];
        argon2.hash_password_into(password.as_bytes(), PAD_SALT, &mut out).ok()?;
        std::hint::black_box(out);
        Some(filled)
    };
    fill(dearest.kib, whole_passes).unwrap_or_default() + fill(rest_kib, 1).unwrap_or_default()
}

/// The salt of hashes whose result is not used.
const PAD_SALT: &[u8] = b"no hash of anybody";

/// The outcome of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordOutcome {
    /// The password is right, and its user may sign in.
    Right,
    /// The password is wrong, the user may not sign in, or there is no such user.
    KeyError,
    /// The password was not checked: others went first for too long.
    NotTried,
}

/// A password to check.
pub(super) struct PasswordCheck {
    pub(super) password: String,
    pub(super) hash: String,
    /// Whether the hash is that of a user who may sign in.
    pub(super) may_enter: bool,
    /// The most expensive hash: every failed check costs as much, so that its time does not reveal the hash.
    pub(super) dearest: HashCost,
    /// Gets the outcome.
    pub(super) reply: Box<dyn FnOnce(PasswordOutcome) + Send>,
}

impl fmt::Debug for PasswordCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordCheck")
    }
}

impl PasswordCheck {
    /// Checks the password and replies. Returns the number of blocks filled.
    fn run(self) -> u64 {
        let cost = HashCost::of(&self.hash);
        let is_right = is_password(&self.password, &self.hash) && self.may_enter;
        let padded = if is_right { 0 } else { pad(&self.password, cost, self.dearest) };
        (self.reply)(if is_right { PasswordOutcome::Right } else { PasswordOutcome::KeyError });
        cost.blocks + padded
    }

    pub(super) fn give_up(self) {
        (self.reply)(PasswordOutcome::NotTried);
    }
}

/// The queue of passwords to check. Clones share it.
#[derive(Clone, Debug)]
pub struct PasswordWork(Arc<PasswordQueue>);

#[derive(Debug)]
struct PasswordQueue {
    queue: Mutex<FairQueue<PasswordCheck>>,
    is_filled: Condvar,
    wait_max: Duration,
}

impl PasswordWork {
    /// A queue of at most `waiting_max` checks, each of which waits at most `wait_max`.
    pub(super) fn new(waiting_max: usize, wait_max: Duration) -> Self {
        let queue = Mutex::new(FairQueue::new(waiting_max));
        Self(Arc::new(PasswordQueue { queue, is_filled: Condvar::new(), wait_max }))
    }

    /// Queues `check`. Returns the check that there is no room for, if the queue is full: this one or another.
    pub(super) fn submit(&self, check: PasswordCheck, admitted: AdmittedLogin, now: Moment) -> Option<PasswordCheck> {
        let pushed = self.queue().push(check, admitted, now);
        let left_out = match pushed {
            Pushed::Refused(check) => return Some(check),
            Pushed::Displaced(check) => Some(check),
            Pushed::Queued => None,
        };
        self.0.is_filled.notify_one();
        left_out
    }

    /// Checks passwords until the process ends. `now` reads the same clock as the `now` of [`Self::submit`].
    pub fn run(self, now: impl Fn() -> Moment) {
        loop {
            match self.next(now()) {
                NextCheck::PasswordCheck(check) => drop(check.run()),
                NextCheck::Expired(check) => check.give_up(),
            }
        }
    }

    fn next(&self, now: Moment) -> NextCheck {
        let mut queue = self.queue();
        if let Some(check) = queue.pop_expired(now, self.0.wait_max) {
            return NextCheck::Expired(check);
        }
        loop {
            match queue.pop() {
                Some(check) => return NextCheck::PasswordCheck(check),
                None => queue = self.0.is_filled.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }

    fn queue(&self) -> MutexGuard<'_, FairQueue<PasswordCheck>> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Checks the next password, if any waits. Returns the number of blocks filled.
    #[cfg(test)]
    pub(super) fn run_one(&self) -> Option<u64> {
        let next = self.queue().pop();
        next.map(PasswordCheck::run)
    }

    /// Checks all waiting passwords. Returns the number of blocks that each took.
    #[cfg(test)]
    pub(super) fn run_waiting(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.run_one()).collect()
    }
}

enum NextCheck {
    PasswordCheck(PasswordCheck),
    Expired(PasswordCheck),
}
