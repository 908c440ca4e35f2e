//! What a server is: a master or a replica, and of which version.
//!
//! A replica takes `PUBLISH` and answers it like a master, but only its own subscribers get the message. So the role is
//! asked after every connect and again with every probe, of every connection: an address may lead to another server
//! after a failover, and a master may become a replica under an open connection.

use std::fmt;

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use crate::protocol::resp::Reply;

/// What a server is to its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Master,
    /// A copy of a master. Without a link to it (`is_attached` false) nothing new arrives there.
    Replica {
        is_attached: bool,
    },
    /// It keeps no data at all.
    Sentinel,
    /// Not known: access rules forbid both commands that ask for it.
    Unknown,
}

/// Why a server is not one to read from or to publish to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It is a replica, and no key says that one is meant.
    Replica,
    /// It is a replica that its master does not feed.
    Detached,
    Sentinel,
}

impl Role {
    /// By the answer to `ROLE`; `None` if it is refused or no such answer.
    pub(super) fn of_reply(role: &Reply<'_>) -> Option<Self> {
        let Reply::Array(items) = role else { return None };
        let word = |index: usize| match items.get(index) {
            Some(Reply::Bulk(Some(word))) => Some(*word),
            _ => None,
        };
        Self::of_words(word(0)?, word(3))
    }

    /// The same for the client library's own form.
    pub(super) fn of_value(role: &Value) -> Option<Self> {
        let Value::Array(items) = role else { return None };
        let word = |index: usize| match items.get(index) {
            Some(Value::BulkString(word)) => Some(word.as_slice()),
            _ => None,
        };
        Self::of_words(word(0)?, word(3))
    }

    fn of_words(role: &[u8], link: Option<&[u8]>) -> Option<Self> {
        match role {
            b"master" => Some(Self::Master),
            b"slave" => Some(Self::Replica { is_attached: link == Some(b"connected") }),
            b"sentinel" => Some(Self::Sentinel),
            _ => None,
        }
    }

    /// By the word `role` of the answer to `HELLO`, which says nothing of a replica's link.
    pub(super) fn of_hello(role: &[u8]) -> Self {
        match role {
            b"master" => Self::Master,
            b"replica" | b"slave" => Self::Replica { is_attached: true },
            b"sentinel" => Self::Sentinel,
            _ => Self::Unknown,
        }
    }

    /// Fails unless a hub may use such a server. A role that nobody may ask for is taken for a master's.
    pub(super) fn check(self, allow_replica: bool) -> Result<(), Unfit> {
        match self {
            Self::Master | Self::Unknown => Ok(()),
            Self::Replica { .. } if !allow_replica => Err(Unfit::Replica),
            Self::Replica { is_attached: false } => Err(Unfit::Detached),
            Self::Replica { is_attached: true } => Ok(()),
            Self::Sentinel => Err(Unfit::Sentinel),
        }
    }

    pub(super) fn is_replica(self) -> bool {
        matches!(self, Self::Replica { .. })
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Replica => {
                "the server is not a master but a replica, where publications reach nobody else: connect to the \
                 master, or set redis.allow_replica to only read"
            }
            Self::Detached => "the server is not a master but a replica that has no connection to its master",
            Self::Sentinel => "the server is not a master but a sentinel: name it in a redis+sentinel:// URL",
        })
    }
}

impl From<Unfit> for RedisError {
    fn from(unfit: Unfit) -> Self {
        (ErrorKind::Server(ServerErrorKind::ReadOnly), "wrong server", unfit.to_string()).into()
    }
}

/// What the answer to `HELLO` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) version: Option<String>,
    pub(super) role: Option<Role>,
}

impl Hello {
    /// Reads the answer: a list of names and values, or a map. Empty if it is refused.
    pub(super) fn of_value(answer: &Value) -> Self {
        let mut hello = Self::default();
        let mut take = |name: &Value, value: &Value| {
            let (Value::BulkString(name), Value::BulkString(value)) = (name, value) else { return };
            match name.as_slice() {
                b"version" => hello.version = Some(String::from_utf8_lossy(value).into_owned()),
                b"role" => hello.role = Some(Role::of_hello(value)),
                _ => {}
            }
        };
        match answer {
            Value::Array(items) => items.chunks_exact(2).for_each(|pair| take(&pair[0], &pair[1])),
            Value::Map(pairs) => pairs.iter().for_each(|(name, value)| take(name, value)),
            _ => {}
        }
        hello
    }

    /// Fails if the server says that it is older than version `least`. One that may not be asked passes.
    pub(super) fn check_version(&self, least: u64) -> Result<(), RedisError> {
        let Some(version) = &self.version else { return Ok(()) };
        let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
        if major.is_none_or(|major| least <= major) {
            return Ok(());
        }
        let what =
            format!("topics with log = \"redis-stream\" need Redis {least}.0 or later; this server is {version}");
        Err((ErrorKind::Client, "the server is too old", what).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(word: &str) -> Value {
        Value::BulkString(word.as_bytes().to_vec())
    }

    #[test]
    fn roles_and_who_may_be_used() {
        let check = |answer: &[&str], expected: Option<Role>, may_be_used: [bool; 2]| {
            let value = Value::Array(answer.iter().map(|word| bulk(word)).collect());
            let reply = Reply::Array(answer.iter().map(|word| Reply::Bulk(Some(word.as_bytes()))).collect());
            assert_eq!((Role::of_value(&value), Role::of_reply(&reply)), (expected, expected), "{answer:?}");
            let allowed = |allow| expected.is_some_and(|role| role.check(allow).is_ok());
            assert_eq!([allowed(false), allowed(true)], may_be_used, "{answer:?}");
        };
        check(&["master", "0"], Some(Role::Master), [true, true]);
        let replica = |is_attached| Some(Role::Replica { is_attached });
        check(&["slave", "h", "1", "connected", "9"], replica(true), [false, true]);
        for link in ["connect", "connecting", "sync", "handshake"] {
            check(&["slave", "h", "1", link, "9"], replica(false), [false, false]);
        }
        check(&["sentinel"], Some(Role::Sentinel), [false, false]);
        check(&["other"], None, [false, false]);
        assert_eq!(Role::of_value(&Value::Int(1)), None);
        assert_eq!(Role::Unknown.check(false), Ok(()));
    }

    #[test]
    fn versions() {
        let check = |version: Option<&str>, is_enough: bool| {
            let mut words = vec![bulk("server"), bulk("redis"), bulk("role"), bulk("replica")];
            words.extend(version.into_iter().flat_map(|version| [bulk("version"), bulk(version)]));
            let hello = Hello::of_value(&Value::Array(words));
            assert_eq!(hello.role, Some(Role::Replica { is_attached: true }));
            assert_eq!(hello.check_version(7).is_ok(), is_enough, "{version:?}");
        };
        check(Some("7.0.15"), true);
        check(Some("8.0.0"), true);
        check(Some("10.1"), true);
        check(Some("6.2.14"), false);
        check(Some("6.3.4"), false);
        check(Some("255.255.255"), true);
        check(None, true);
        let error = Hello { version: Some("6.2.14".to_owned()), role: None }.check_version(7).expect_err("too old");
        assert!(error.to_string().contains("7.0 or later") && error.to_string().contains("6.2.14"), "{error}");
    }
}
