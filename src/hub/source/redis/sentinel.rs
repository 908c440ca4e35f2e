//! One sentinel: asks it for the master's address.

use std::time::{Duration, Instant};

use redis::{ConnectionInfo, RedisConnectionInfo, RedisError};

use super::{SentinelLogin, login};

/// A sentinel's address. Connections are made for one question each: failovers are rare.
#[derive(Debug)]
pub(super) struct Sentinel {
    info: ConnectionInfo,
}

/// Why there is no address.
#[derive(Debug)]
pub(super) struct AskFailed {
    pub(super) text: String,
    /// Whether the login was not good.
    pub(super) is_refused: bool,
}

impl Sentinel {
    /// At the address in `info`, whose login is another server's.
    pub(super) fn new(info: ConnectionInfo) -> Self {
        Self { info }
    }

    /// The address of the master of `service` that the sentinel knows. The error names the sentinel.
    pub(super) fn ask_master(
        &self,
        service: &str,
        login: &SentinelLogin,
        timeout: Duration,
    ) -> Result<(String, u16), AskFailed> {
        let failed = |text, is_refused| AskFailed { text, is_refused };
        match self.ask(service, login, timeout) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(failed(format!("{} does not know it", self.info.addr()), false)),
            Err(error) => Err(failed(format!("{}: {error}", self.info.addr()), login::is_refused(&error))),
        }
    }

    fn info_for(&self, login: &SentinelLogin) -> ConnectionInfo {
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if !login.password.is_empty() {
            settings = settings.set_password(&login.password);
            if !login.username.is_empty() {
                settings = settings.set_username(&login.username);
            }
        }
        self.info.clone().set_redis_settings(settings)
    }

    fn ask(
        &self,
        service: &str,
        login: &SentinelLogin,
        timeout: Duration,
    ) -> Result<Option<(String, u16)>, RedisError> {
        let started = Instant::now();
        let mut connection = redis::Client::open(self.info_for(login))?.get_connection_with_timeout(timeout)?;
        let left = timeout.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        connection.set_read_timeout(Some(left))?;
        connection.set_write_timeout(Some(left))?;
        redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(service).query(&mut connection)
    }
}
