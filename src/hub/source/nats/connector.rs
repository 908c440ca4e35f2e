//! Makes connections to NATS servers: finds a server, speaks TLS where one side wants it, and logs in.

use std::{io, sync::Arc};

use super::{Fault, Link, NatsAuth, NatsConfig, NatsLogin, link::Wire, signing::sign, url::NatsAddress};
use crate::{
    protocol::nats::{ConnectOptions, NatsLimits, Operation, PING, PONG, ServerInfo, write_connect},
    source::{credentials::Logins, tls::client_config},
};

/// What the server lists the connection as.
const CLIENT_NAME: &str = "fanfare";

/// Makes connections.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    config: NatsConfig,
    limits: NatsLimits,
}

impl Connector {
    /// Fails if `config` names files that cannot be used.
    pub(super) fn new(config: &NatsConfig) -> io::Result<Self> {
        let files = config.tls_files();
        // They are read again at each connection; what cannot be used stops the start.
        if config.login.url.is_tls() || files != Default::default() {
            client_config(&files)?;
        }
        let limits = NatsLimits {
            payload_bytes_max: config.message_bytes_max,
            header_bytes_max: config.header_bytes_max,
            ..NatsLimits::default()
        };
        Ok(Self { config: config.clone(), limits })
    }

    pub(super) fn config(&self) -> &NatsConfig {
        &self.config
    }

    /// The login in force.
    pub(super) fn login(&self) -> Arc<NatsLogin> {
        self.config.logins.current(&self.config.login)
    }

    /// The login in force, which `replace_login` of the configuration changes.
    pub(super) fn logins(&self) -> &Logins<NatsLogin> {
        &self.config.logins
    }

    /// Connects to one of the servers, and logs in. What a server says against the login counts more than that another is away.
    pub(super) async fn connect<T: Clone>(&self, login: &NatsLogin) -> Result<Link<T>, Fault> {
        let servers = login.url.servers();
        let first = rand::random::<u32>() as usize % servers.len().max(1);
        let mut failure = Fault::Unreachable("no server is named".to_owned());
        for server in servers.iter().cycle().skip(first).take(servers.len()) {
            let attempt = tokio::time::timeout(self.config.connect_timeout, self.log_in(server, login.auth())).await;
            let attempt = attempt.unwrap_or_else(|_| Err(Fault::Unreachable(format!("{server}: no answer in time"))));
            match attempt {
                Ok((wire, info)) => return Ok(Link::new(wire, info, self.limits)),
                Err(fault) if failure.is_refused_login() => drop(fault),
                Err(fault) => failure = fault,
            }
        }
        Err(failure)
    }

    /// INFO comes in plain text; then TLS, if one side wants it; then CONNECT, and a PONG says that the server lets the hub in.
    async fn log_in(&self, server: &NatsAddress, auth: &NatsAuth) -> Result<(Wire, ServerInfo), Fault> {
        let unreachable = |error: io::Error| Fault::Unreachable(format!("{server}: {error}"));
        let refused = |text: String| {
            if is_about_login(&text) { Fault::Rejected(text) } else { unreachable(io::Error::other(text)) }
        };
        let wire = Wire::connect(&server.host, server.port, self.config.read_buffer_bytes).await;
        let mut wire = wire.map_err(unreachable)?;
        let info = wire.converse(&self.limits, |operation, _| match operation {
            Operation::Info(json) => Some(ServerInfo::parse(json).map_err(|bad| bad.to_string())),
            Operation::Error(text) => Some(Err(text.to_owned())),
            Operation::Ping | Operation::Pong | Operation::Ok | Operation::Message(_) => None,
        });
        let info = info.await.map_err(unreachable)?.map_err(refused)?;
        let is_tls = server.is_tls || info.tls_required;
        if is_tls && !info.tls_required && !info.tls_available {
            return Err(unreachable(io::Error::other("the server has no TLS, which the URL demands (tls://)")));
        }
        if is_tls {
            let config = client_config(&self.config.tls_files()).map_err(unreachable)?;
            wire = wire.secure(config, &server.host).await.map_err(unreachable)?;
        }
        let login = sign(auth, info.nonce.as_deref()).map_err(|problem| Fault::Rejected(problem.to_owned()))?;
        let login = login.as_ref();
        let wants_no_responders = info.headers;
        let options = ConnectOptions { name: CLIENT_NAME, login, is_verbose: false, is_tls, wants_no_responders };
        write_connect(&options, wire.outgoing());
        wire.outgoing().extend_from_slice(PING);
        let answer = wire.converse(&self.limits, |operation, outgoing| match operation {
            Operation::Pong => Some(Ok(())),
            Operation::Error(text) => Some(Err(text.to_owned())),
            Operation::Ping => {
                outgoing.extend_from_slice(PONG);
                None
            }
            Operation::Info(_) | Operation::Ok | Operation::Message(_) => None,
        });
        answer.await.map_err(unreachable)?.map_err(refused)?;
        Ok((wire, info))
    }
}

/// Whether the server's error is that the login does not count, or no longer: `Authorization Violation`,
/// `User Authentication Expired`, `Account Authentication Expired`, `User Authentication Revoked`. A timeout is not.
fn is_about_login(error: &str) -> bool {
    let error = error.to_ascii_lowercase();
    ["authorization violation", "authentication expired", "authentication revoked"]
        .iter()
        .any(|text| error.contains(text))
}

#[cfg(test)]
mod tests;
