//! The login at NATS.

use std::{fmt, path::PathBuf};

use super::NatsUrl;
use crate::source::credentials::{Credentials, read_again};

/// How the hub shows a server who it is. `Debug` shows no secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum NatsAuth {
    /// Not at all.
    #[default]
    None,
    /// By name and password.
    User { user: String, password: String },
    /// By a token.
    Token(String),
    /// By the seed of an NKey (`SU…`), which signs the server's nonce.
    Nkey(String),
    /// By the text of a credentials file: a JWT and the seed of an NKey.
    Credentials(String),
}

/// A login, where it is shown, and where it is kept.
#[derive(Clone, Debug, Default)]
pub struct NatsLogin {
    /// The servers, and perhaps a login.
    pub url: NatsUrl,
    /// The login outside of `url`.
    pub auth: NatsAuth,
    /// The files that these were read from, if they were.
    pub files: NatsLoginFiles,
}

/// The files that a login was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatsLoginFiles {
    /// The file of the URL.
    pub url: Option<PathBuf>,
    /// The file of the password, the token, the seed or the credentials, whichever the login has.
    pub auth: Option<PathBuf>,
}

impl NatsAuth {
    /// The same with another secret.
    fn with_secret(&self, secret: String) -> Self {
        match self {
            Self::None => Self::None,
            Self::User { user, .. } => Self::User { user: user.clone(), password: secret },
            Self::Token(_) => Self::Token(secret),
            Self::Nkey(_) => Self::Nkey(secret),
            Self::Credentials(_) => Self::Credentials(secret),
        }
    }
}

impl NatsLogin {
    /// The login in force.
    pub(super) fn auth(&self) -> &NatsAuth {
        if self.auth == NatsAuth::None { self.url.auth() } else { &self.auth }
    }
}

impl Credentials for NatsLogin {
    fn is_same(&self, other: &Self) -> bool {
        self.auth() == other.auth()
    }

    fn has_files(&self) -> bool {
        self.files != NatsLoginFiles::default()
    }

    fn reread(&self) -> Result<Self, String> {
        let mut login = self.clone();
        if let Some(file) = &self.files.url {
            let url = NatsUrl::parse(&read_again(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
            if !url.is_of_same_servers(&self.url) {
                return Err(format!("{} names other servers, which wait for a restart", file.display()));
            }
            login.url = url;
        }
        if let Some(file) = &self.files.auth {
            login.auth = self.auth.with_secret(read_again(file)?);
        }
        Ok(login)
    }
}

impl fmt::Display for NatsLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl fmt::Debug for NatsAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::User { user, .. } => write!(f, "User({user:?}, ***)"),
            Self::Token(_) => f.write_str("Token(***)"),
            Self::Nkey(_) => f.write_str("Nkey(***)"),
            Self::Credentials(_) => f.write_str("Credentials(***)"),
        }
    }
}
