//! One sentinel, and the one question to it.

use std::time::{Duration, Instant};

use redis::{ConnectionInfo, RedisConnectionInfo, RedisError};

use super::SentinelLogin;

/// A sentinel's address and login. Connections are made for one question each: failovers are rare.
#[derive(Debug)]
pub(super) struct Sentinel {
    info: ConnectionInfo,
}

impl Sentinel {
    /// At the address in `info`, whose login is another server's.
    pub(super) fn new(info: ConnectionInfo, login: &SentinelLogin) -> Self {
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if !login.password.is_empty() {
            settings = settings.set_password(&login.password);
            if !login.username.is_empty() {
                settings = settings.set_username(&login.username);
            }
        }
        Self { info: info.set_redis_settings(settings) }
    }

    /// Where it believes the master of `service` to be. The error names the sentinel.
    pub(super) fn ask_master(&self, service: &str, timeout: Duration) -> Result<(String, u16), String> {
        match self.ask(service, timeout) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => Err(format!("{} does not know it", self.info.addr())),
            Err(error) => Err(format!("{}: {error}", self.info.addr())),
        }
    }

    fn ask(&self, service: &str, timeout: Duration) -> Result<Option<(String, u16)>, RedisError> {
        let started = Instant::now();
        let mut connection = redis::Client::open(self.info.clone())?.get_connection_with_timeout(timeout)?;
        let left = timeout.saturating_sub(started.elapsed()).max(Duration::from_millis(1));
        connection.set_read_timeout(Some(left))?;
        connection.set_write_timeout(Some(left))?;
        redis::cmd("SENTINEL").arg("get-master-addr-by-name").arg(service).query(&mut connection)
    }
}
