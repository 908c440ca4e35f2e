//! The address of the database: `postgres://user:password@host:port/database?sslmode=require`.

use std::{fmt, str::FromStr};

use tokio_postgres::config::{Host, SslMode};

/// A URL of PostgreSQL's own form. `Display` and `Debug` leave out the password.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreUrl(tokio_postgres::Config);

/// Why a text is not such a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadStoreUrl(String);

impl StoreUrl {
    /// Reads `text`. `sslmode=require`, `verify-ca` and `verify-full` all mean TLS to a server whose certificate is
    /// verified; without one of them the connection is plain.
    pub fn parse(text: &str) -> Result<Self, BadStoreUrl> {
        if !(text.starts_with("postgres://") || text.starts_with("postgresql://")) {
            return Err(BadStoreUrl("it does not begin with postgres://".to_owned()));
        }
        let verified = ["verify-ca", "verify-full"];
        let text = verified
            .iter()
            .fold(text.to_owned(), |text, mode| text.replace(&format!("sslmode={mode}"), "sslmode=require"));
        let mut config = tokio_postgres::Config::from_str(&text).map_err(|error| BadStoreUrl(describe(&error)))?;
        if config.get_hosts().is_empty() {
            return Err(BadStoreUrl("it names no host".to_owned()));
        }
        if config.get_ssl_mode() != SslMode::Require {
            config.ssl_mode(SslMode::Disable);
        }
        if config.get_application_name().is_none() {
            config.application_name("fanfare");
        }
        Ok(Self(config))
    }

    /// Whether the connection is to be encrypted.
    pub fn is_tls(&self) -> bool {
        self.0.get_ssl_mode() == SslMode::Require
    }

    /// Whether `other` is the same database, whatever the login.
    pub fn is_of_same_database(&self, other: &Self) -> bool {
        let as_nobody = |url: &Self| {
            let mut config = url.0.clone();
            config.user("").password("");
            config
        };
        as_nobody(self) == as_nobody(other)
    }

    /// The configuration for the client library.
    pub(super) fn client_config(&self) -> tokio_postgres::Config {
        self.0.clone()
    }
}

/// The error with its cause, which the library's own text leaves out.
fn describe(error: &tokio_postgres::Error) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    cause.unwrap_or_else(|| error.to_string())
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(user) = self.0.get_user() {
            let password = if self.0.get_password().is_some() { ":***" } else { "" };
            write!(f, "{user}{password}@")?;
        }
        for (index, host) in self.0.get_hosts().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            let ports = self.0.get_ports();
            if let Some(port) = ports.get(index).or_else(|| ports.first()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}", self.0.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for BadStoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a PostgreSQL URL (postgres://[user[:password]@]host[:port]/database): {}", self.0)
    }
}

impl std::error::Error for BadStoreUrl {}
