//! Tokens that were checked lately: a check costs 2 µs with a secret and up to 100 µs with a pair of keys, and a storm of
//! requests shows the same few tokens again and again.

use std::{collections::HashMap, fmt, sync::Arc};

use super::Identity;
use crate::clock::Moment;

/// What an entry costs besides its token's text and what its identity holds, in bytes.
const ENTRY_BYTES: usize = 256;

/// Valid tokens and whose they are, bounded in bytes. Only tokens whose signature was right come in, so nobody fills it
/// with others; the map compares whole tokens, so none is mistaken for another.
#[derive(Default)]
pub(super) struct TokenCache {
    young: HashMap<Box<str>, Arc<Identity>>,
    old: HashMap<Box<str>, Arc<Identity>>,
    young_bytes: usize,
    bytes_max: usize,
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCache({} + {})", self.young.len(), self.old.len())
    }
}

impl TokenCache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, ..Self::default() }
    }

    /// Whose `token` is, if it is known and its time is not over.
    pub(super) fn find(&mut self, token: &str, now: Moment) -> Option<Arc<Identity>> {
        if let Some(identity) = self.young.get(token) {
            return (!identity.has_expired(now)).then(|| Arc::clone(identity));
        }
        let (token, identity) = self.old.remove_entry(token)?;
        if identity.has_expired(now) {
            return None;
        }
        self.keep(token, Arc::clone(&identity));
        Some(identity)
    }

    /// Remembers whose `token` is. What was not asked for while half of the bytes came in is forgotten.
    pub(super) fn keep(&mut self, token: Box<str>, identity: Arc<Identity>) {
        let entry_bytes = token.len() + identity.held_bytes() + ENTRY_BYTES;
        if self.bytes_max / 2 < entry_bytes {
            return;
        }
        if self.bytes_max / 2 < self.young_bytes + entry_bytes {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        if self.young.insert(token, identity).is_none() {
            self.young_bytes += entry_bytes;
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
