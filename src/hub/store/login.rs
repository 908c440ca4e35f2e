//! The login to the database.

use std::{fmt, path::PathBuf};

use super::StoreUrl;
use crate::source::credentials::{Credentials, read_again};

/// A login, and the file that holds it.
#[derive(Clone, Debug, Default)]
pub struct StoreLogin {
    /// The URL of the database, with the login.
    pub url: StoreUrl,
    /// The file that the URL was read from, if it was.
    pub url_file: Option<PathBuf>,
}

impl Credentials for StoreLogin {
    fn is_same(&self, other: &Self) -> bool {
        self.url == other.url
    }

    fn has_files(&self) -> bool {
        self.url_file.is_some()
    }

    fn reread(&self) -> Result<Self, String> {
        let Some(file) = &self.url_file else { return Ok(self.clone()) };
        let url = StoreUrl::parse(&read_again(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
        if !url.is_of_same_database(&self.url) {
            return Err(format!("{} names another database, which waits for a restart", file.display()));
        }
        Ok(Self { url, ..self.clone() })
    }
}

impl fmt::Display for StoreLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}
