//! The writer's blocking connection: the client library's, with a timeout on everything.

use std::{io, time::Duration};

use redis::{ClientTlsConfig, Connection, RedisError, TlsCertificates, Value, io::tcp::TcpSettings};

use super::{Config, config::Target, fault::is_served, tls};
use crate::protocol::resp;

/// What the server lists the connection as.
const CLIENT_NAME: &[u8] = b"fanfare-writer";

/// A connection that is logged in.
pub(super) struct Link {
    connection: Connection,
}

/// The server's answer to a publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It went to so many subscribers.
    Receivers(u64),
    /// The server did not take it.
    Refused(String),
}

impl Link {
    /// Connects, logs in and makes sure that commands are served, each within `timeout`.
    pub(super) fn open(client: &redis::Client, timeout: Duration) -> Result<Self, RedisError> {
        let connection = client.get_connection_with_timeout(timeout)?;
        let mut link = Self { connection };
        link.set_timeout(timeout)?;
        let mut command = Vec::new();
        resp::write_command(&mut command, &[b"CLIENT", b"SETNAME", CLIENT_NAME]);
        link.send(&command)?;
        // Access rules may forbid the name; that is no reason not to publish.
        link.receive()?;
        link.ping()?;
        Ok(link)
    }

    /// How long one write or one answer may take from now on.
    pub(super) fn set_timeout(&self, timeout: Duration) -> Result<(), RedisError> {
        self.connection.set_read_timeout(Some(timeout))?;
        self.connection.set_write_timeout(Some(timeout))
    }

    /// Whether commands are served.
    pub(super) fn ping(&mut self) -> Result<(), RedisError> {
        let mut command = Vec::new();
        resp::write_command(&mut command, &[b"PING"]);
        self.send(&command)?;
        match self.receive()? {
            Value::ServerError(error) if !is_served(Some(error.code())) => Err(error.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn send(&mut self, commands: &[u8]) -> Result<(), RedisError> {
        self.connection.send_packed_command(commands)
    }

    /// The next publication's answer. An error says that the link is of no more use.
    pub(super) fn receive_answer(&mut self) -> Result<Answer, RedisError> {
        match self.receive()? {
            Value::Int(receivers) => Ok(Answer::Receivers(u64::try_from(receivers).unwrap_or_default())),
            Value::ServerError(error) => Ok(Answer::Refused(error.to_string())),
            _ => Err((redis::ErrorKind::UnexpectedReturnType, "PUBLISH is answered by a number").into()),
        }
    }

    /// The next answer; what the server pushes between answers is none.
    fn receive(&mut self) -> Result<Value, RedisError> {
        loop {
            match self.connection.recv_response()? {
                Value::Push { .. } => {}
                value => return Ok(value),
            }
        }
    }
}

/// What makes connections as `config` says. Fails if it names files that cannot be used.
pub(super) fn client(config: &Config) -> io::Result<redis::Client> {
    let info = config.url.connection_info().clone();
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true)).set_redis_settings(settings);
    if !matches!(config.url.target(), Target::Tls { .. }) {
        return redis::Client::open(info).map_err(io::Error::other);
    }
    // The client library takes the process's provider; if there is one already, it stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The same files, and the same complaints about them, as the reader's.
    tls::client_config(config)?;
    redis::Client::build_with_tls(info, certificates(config)?).map_err(io::Error::other)
}

fn certificates(config: &Config) -> io::Result<TlsCertificates> {
    let client_tls = match (&config.certificate_file, &config.key_file) {
        (Some(certificate), Some(key)) => {
            Some(ClientTlsConfig { client_cert: std::fs::read(certificate)?, client_key: std::fs::read(key)? })
        }
        _ => None,
    };
    Ok(TlsCertificates { client_tls, root_cert: config.ca_file.as_ref().map(std::fs::read).transpose()? })
}
