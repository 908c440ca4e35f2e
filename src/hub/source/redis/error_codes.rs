//! What the server's refusals mean, by the codes that its errors begin with.

use crate::protocol::resp::SLOTS;

/// Whether an error says that the login is not good.
pub(super) fn is_refusal(text: &str) -> bool {
    ["WRONGPASS", "NOAUTH"].iter().any(|code| text.starts_with(code))
}

/// Whether an error says that this command will never do here: access rules forbid it, or the server does not know it.
/// Anything else (`LOADING`, `BUSY`, `MASTERDOWN` …) passes.
pub(super) fn is_denial(error: &str) -> bool {
    error.starts_with("NOPERM") || error.starts_with("ERR")
}

/// Whether access rules forbid a command as such, whatever channel or key it is about. Redis says so in a sentence only.
pub(super) fn is_of_command(error: &str) -> bool {
    error.contains("NOPERM") && error.contains("to run the '")
}

/// Whether a refusal of `HELLO` is about us rather than about RESP3, so that RESP2 would fare no better.
pub(super) fn is_final(error: &str) -> bool {
    ["WRONGPASS", "DENIED", "ERR max number of clients"].iter().any(|prefix| error.starts_with(prefix))
}

/// Whether the answer to a `PING` shows that commands are served; an access rule against the `PING` itself shows it too.
pub(super) fn is_served(error: Option<&str>) -> bool {
    error.is_none_or(|error| error.starts_with("NOPERM"))
}

/// Whether a refusal says that the server is no longer the one to talk to: it has become a replica.
pub(super) fn is_outdated(code: &str) -> bool {
    ["READONLY", "MASTERDOWN"].contains(&code)
}

/// A node of a cluster says that another one has a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) slot: u16,
    /// Empty: the host of the node that says so.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Moved {
    /// Reads `MOVED 3999 127.0.0.1:6381`; `None` if it is something else.
    pub(super) fn parse(error: &str) -> Option<Self> {
        let mut words = error.strip_prefix("MOVED ")?.split(' ');
        let slot = words.next()?.parse().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let host = if host == "?" { "" } else { host };
        (slot < SLOTS).then_some(Self { slot, host: host.to_owned(), port: port.parse().ok()? })
    }
}

/// Why a node of a cluster does not serve a key. It did nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// Another node has the slot.
    Moved(Moved),
    /// The slot, or the key, is on its way, or the slot has no node at present.
    Unserved,
}

impl Elsewhere {
    /// Reads a refusal; `None` if it is about something else.
    pub(super) fn parse(error: &str) -> Option<Self> {
        match Moved::parse(error) {
            Some(moved) => Some(Self::Moved(moved)),
            None => is_unserved(error).then_some(Self::Unserved),
        }
    }
}

/// Whether a node of a cluster says that it does not serve a slot at present, or not all keys of it, and does not say who does.
pub(super) fn is_unserved(error: &str) -> bool {
    ["ASK", "TRYAGAIN", "CLUSTERDOWN"].iter().any(|code| error.split(' ').next() == Some(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_slot() {
        let check = |error: &str, expected: Option<(u16, &str, u16)>| {
            let found = Moved::parse(error);
            let found = found.as_ref().map(|moved| (moved.slot, moved.host.as_str(), moved.port));
            assert_eq!(found, expected, "{error}");
        };
        check("MOVED 3999 127.0.0.1:6381", Some((3999, "127.0.0.1", 6381)));
        check("MOVED 0 :6381", Some((0, "", 6381)));
        check("MOVED 1 ::1:6381", Some((1, "::1", 6381)));
        check("MOVED 1 [::1]:6381", Some((1, "::1", 6381)));
        check("MOVED 16383 node-7.example:6379", Some((16_383, "node-7.example", 6379)));
        for other in ["", "MOVED", "MOVED x h:1", "MOVED 1 h", "MOVED 16384 h:1", "MOVED 1 h:70000", "ASK 1 h:1"] {
            check(other, None);
        }
        for (error, expected) in [
            ("ASK 3999 127.0.0.1:6381", true),
            ("CLUSTERDOWN Hash slot not served", true),
            ("TRYAGAIN Multiple keys request during rehashing of slot", true),
            ("MOVED 3999 127.0.0.1:6381", false),
            ("ASKING", false),
            ("", false),
        ] {
            assert_eq!(is_unserved(error), expected, "{error}");
        }
    }
}
