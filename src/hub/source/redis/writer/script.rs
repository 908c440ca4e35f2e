//! Scripts that publish at most once per idempotency key, for all hubs: the server runs check, publication and record as one step.

use std::sync::LazyLock;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::protocol::resp;

/// A script, called by its digest.
#[derive(Debug)]
pub(in crate::source::redis) struct Script {
    text: &'static str,
    digest: LazyLock<String>,
}

/// A publication as one command.
#[derive(Debug)]
pub(in crate::source::redis) struct PublishCommand {
    /// Set: `arguments` are the script's, from the number of keys on. Else they are the whole command.
    pub(in crate::source::redis) script: Option<&'static Script>,
    pub(in crate::source::redis) arguments: Vec<Bytes>,
}

impl Script {
    pub(in crate::source::redis) const fn new(text: &'static str, digest: LazyLock<String>) -> Self {
        Self { text, digest }
    }

    /// Makes the server know the script.
    pub(super) fn write_load(&self, out: &mut Vec<u8>) {
        resp::write_command(out, &[b"SCRIPT", b"LOAD", self.text.as_bytes()]);
    }
}

impl PublishCommand {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut words: SmallVec<[&[u8]; 16]> = SmallVec::new();
        if let Some(script) = self.script {
            words.extend([b"EVALSHA".as_slice(), script.digest.as_bytes()]);
        }
        words.extend(self.arguments.iter().map(AsRef::as_ref));
        resp::write_command(out, &words);
    }

    /// Its estimated size in memory, in bytes.
    pub(super) fn weight_bytes(&self) -> usize {
        self.arguments.iter().map(|argument| argument.len() + size_of::<Bytes>()).sum()
    }
}

/// The key under which the server remembers that something was published to `place` under `key`. No topic contains a
/// space, so no two of them meet.
pub(in crate::source::redis) fn memory_key(place: &str, key: &str) -> Bytes {
    format!("fanfare.once.{place} {key}").into()
}

/// The digest (SHA-1) by which `EVALSHA` names a script.
pub(in crate::source::redis) fn digest(text: &str) -> String {
    redis::Script::new(text).get_hash().to_owned()
}
