//! The login at Redis: at the server, and at the sentinels.

use std::{fmt, path::PathBuf};

use redis::{ErrorKind, RedisError};

use super::{RedisUrl, SentinelLogin, error_codes::is_refusal};
use crate::source::credentials::{Credentials, read_again};

/// A login, and where it is kept.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The server's, and where that is.
    pub url: RedisUrl,
    /// The sentinels' own.
    pub sentinel: SentinelLogin,
    /// The files that these were read from, if they were.
    pub files: LoginFiles,
}

/// The files that a login was read from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginFiles {
    /// The file of the URL.
    pub url: Option<PathBuf>,
    /// The file of the sentinels' password.
    pub sentinel_password: Option<PathBuf>,
}

impl Credentials for Login {
    fn is_same(&self, other: &Self) -> bool {
        let of_server =
            |login: &Self| (login.url.username().map(str::to_owned), login.url.password().map(str::to_owned));
        of_server(self) == of_server(other) && self.sentinel == other.sentinel
    }

    fn has_files(&self) -> bool {
        self.files != LoginFiles::default()
    }

    fn reread(&self) -> Result<Self, String> {
        let mut login = self.clone();
        if let Some(file) = &self.files.url {
            let url = RedisUrl::parse(&read_again(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
            if !url.is_of_same_server(&self.url) {
                return Err(format!("{} names another server, which waits for a restart", file.display()));
            }
            login.url = url;
        }
        if let Some(file) = &self.files.sentinel_password {
            login.sentinel.password = read_again(file)?;
        }
        Ok(login)
    }
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

/// Whether an error says that the login is not good.
pub(super) fn is_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code().is_some_and(is_refusal)
}
