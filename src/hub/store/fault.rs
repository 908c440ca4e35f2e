//! Failures between the hub and its database.

use std::{fmt, io, time::Duration};

use tokio_postgres::error::SqlState;

/// Why an operation on the database failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// An error of the client library.
    Database(tokio_postgres::Error),
    /// There are no file descriptors left for a connection.
    Machine(io::Error),
    /// No answer within this time.
    Silent(Duration),
    /// The tables have a later layout, which this program cannot use.
    Newer(i32),
}

impl Fault {
    /// Whether the server refuses the statement itself, so that another connection would not help.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // Data exceptions, integrity, rights and names: https://www.postgresql.org/docs/current/errcodes-appendix.html
        error.code().is_some_and(|state| ["22", "23", "42", "54"].contains(&class(state)))
    }

    /// Whether the server does not accept the login.
    pub(super) fn is_login_refused(&self) -> bool {
        let Self::Database(error) = self else { return false };
        // Invalid authorization.
        error.code().is_some_and(|state| class(state) == "28")
    }

    /// Whether the connection was closed.
    pub(super) fn is_closed(&self) -> bool {
        let Self::Database(error) = self else { return false };
        let is_broken = std::error::Error::source(error).is_some_and(|cause| cause.is::<io::Error>());
        // The server closed the connection: by an administrator's command, or because it was idle for too long.
        let was_ended = error.code().is_some_and(|state| ["57P01", "57P02", "57P05"].contains(&state.code()));
        error.is_closed() || is_broken || was_ended
    }

    /// Whether a timeout of the server or of the hub expired.
    pub(super) fn is_timeout(&self) -> bool {
        match self {
            Self::Database(error) => error.code() == Some(&SqlState::QUERY_CANCELED),
            Self::Silent(_) => true,
            Self::Machine(_) | Self::Newer(_) => false,
        }
    }
}

fn class(state: &SqlState) -> &str {
    state.code().get(..2).unwrap_or_default()
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Database(error) => match (error.as_db_error(), std::error::Error::source(error)) {
                (Some(server), _) => write!(f, "{}: {}", server.severity(), server.message()),
                (None, Some(cause)) => write!(f, "{error}: {cause}"),
                (None, None) => write!(f, "{error}"),
            },
            Self::Machine(error) => write!(f, "cannot connect: {error}"),
            Self::Silent(limit) => write!(f, "no answer within {limit:?}"),
            Self::Newer(version) => write!(
                f,
                "its tables have layout {version}, of a later version of the hub, which this one cannot use: upgrade this hub"
            ),
        }
    }
}
