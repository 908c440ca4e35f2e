//! Names of sessions and clients.

use std::{fmt, str::FromStr};

use data_encoding::BASE64URL_NOPAD;

/// An Engine.IO session's name: random, and beginning with the reactor that has the session, so that a request that comes
/// in at another one finds it. 22 characters of base64url.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId([u8; 16]);

/// A text that is no [`SessionId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSessionId;

impl SessionId {
    /// A session of the reactor of this index.
    pub fn new(reactor: usize, random: [u8; 15]) -> Self {
        let mut bytes = [0; 16];
        bytes[0] = reactor as u8;
        bytes[1..].copy_from_slice(&random);
        Self(bytes)
    }

    /// The reactor that has the session, if there is one.
    pub fn reactor(self) -> usize {
        usize::from(self.0[0])
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64URL_NOPAD.encode(&self.0))
    }
}

impl FromStr for SessionId {
    type Err = BadSessionId;

    fn from_str(text: &str) -> Result<Self, BadSessionId> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).map_err(|_| BadSessionId)?;
        bytes.try_into().map(Self).map_err(|_| BadSessionId)
    }
}
