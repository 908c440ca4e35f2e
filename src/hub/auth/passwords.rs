//! Passwords: argon2id (RFC 9106), which takes tens of milliseconds by intention. Hence never on a reactor: checks go
//! through a short queue to threads of their own.

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

/// The longest password, in bytes: more are no safer, only slower to hash.
pub(super) const PASSWORD_BYTES_MAX: usize = 1024;

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

/// What checking a hash costs, in Argon2 blocks of 1 KiB that are filled: memory times passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HashCost {
    blocks: u64,
    /// The memory of one pass.
    kib: u32,
}

impl HashCost {
    /// Of a hash that [`check_form`] has accepted.
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

/// Fills as many blocks as the dearest hash of the users file takes beyond what `spent` took, for nothing. Returns how many.
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

/// For hashes that nobody looks at.
const PAD_SALT: &[u8] = b"no hash of anybody";

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PasswordOutcome {
    /// The password is right, and its user may sign in.
    Right,
    /// It is not, or the user may not, or there is no such user.
    KeyError,
    /// It was not looked at: others went first for too long.
    NotTried,
}

/// One password to be checked.
pub(super) struct PasswordCheck {
    pub(super) password: String,
    pub(super) hash: String,
    /// Whether the hash is that of a user who may sign in.
    pub(super) may_enter: bool,
    /// Every check that fails costs as much, so that its time does not say whose hash it was.
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
    /// Hashes, replies, and returns the blocks that were filled.
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

/// The way to the threads that check; clones share the queue.
#[derive(Clone, Debug)]
pub struct PasswordWork(Arc<PasswordQueue>);

#[derive(Debug)]
struct PasswordQueue {
    queue: Mutex<FairQueue<PasswordCheck>>,
    is_filled: Condvar,
    wait_max: Duration,
}

impl PasswordWork {
    /// A queue of at most `waiting_max` checks, each of which waits for `wait_max` at most.
    pub(super) fn new(waiting_max: usize, wait_max: Duration) -> Self {
        let queue = Mutex::new(FairQueue::new(waiting_max));
        Self(Arc::new(PasswordQueue { queue, is_filled: Condvar::new(), wait_max }))
    }

    /// Queues `check`, or returns the one there is no room for, which may be another.
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

    /// Checks passwords as long as the process lives. `now` reads the clock that [`Self::submit`] is told.
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

    /// Checks the one whose turn it is, if any waits. Returns the blocks that were filled.
    #[cfg(test)]
    pub(super) fn run_one(&self) -> Option<u64> {
        let next = self.queue().pop();
        next.map(PasswordCheck::run)
    }

    /// Checks those that wait. Returns the blocks that each took.
    #[cfg(test)]
    pub(super) fn run_waiting(&self) -> Vec<u64> {
        std::iter::from_fn(|| self.run_one()).collect()
    }
}

enum NextCheck {
    PasswordCheck(PasswordCheck),
    Expired(PasswordCheck),
}
