//! The configuration of the store.

use std::{path::PathBuf, time::Duration};

use super::StoreLogin;
use crate::source::credentials::{Credentials, Logins};

/// How the hub uses its database.
#[derive(Clone, Debug)]
pub struct Config {
    /// The database's URL, with the login of the start.
    pub login: StoreLogin,
    /// The login in force. It may have replaced the one in `url`.
    pub logins: Logins<StoreLogin>,
    /// For `sslmode=require`: PEM file of the authorities to trust, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Rows waiting to be stored.
    pub queue_rows_max: usize,
    /// The memory of these rows, in bytes.
    pub queue_bytes_max: usize,
    /// Rows of one transaction. The rows of one request stay together, even beyond this number.
    pub batch_rows_max: usize,
    /// How long a row may wait while the database is unreachable.
    pub queue_timeout: Duration,
    /// How long one transaction may take.
    pub write_timeout: Duration,
    /// How long connecting may take, migrations not included.
    pub connect_timeout: Duration,
    /// The wait after a first failure.
    pub backoff_min: Duration,
    /// The longest wait between two attempts.
    pub backoff_max: Duration,
    /// How often an idle connection is checked.
    pub ping_interval: Duration,
    /// The age at which a stored row without a mark of publication is published again.
    pub republish_after: Duration,
    /// How long the outbox remembers idempotency keys.
    pub idempotency_window: Duration,
    /// Threads that answer queries.
    pub readers: usize,
    /// Queries that may wait for them.
    pub read_queue_max: usize,
    /// How long one query may take.
    pub read_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            login: StoreLogin::default(),
            logins: Logins::default(),
            ca_file: None,
            queue_rows_max: 20_000,
            queue_bytes_max: 32 * 1024 * 1024,
            batch_rows_max: 2_000,
            queue_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(5),
            ping_interval: Duration::from_secs(5),
            republish_after: Duration::from_secs(10),
            idempotency_window: Duration::from_secs(24 * 3600),
            readers: 2,
            read_queue_max: 256,
            read_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// Puts the configured login into force if it differs from that of `former`. Otherwise the login in force stays. It may be
    /// newer, because a refused login is read again from its file.
    pub fn replace_login(&self, former: &Self) {
        if !self.login.is_same(&former.login) || self.login.url_file != former.login.url_file {
            self.logins.replace(self.login.clone());
        }
    }
}
