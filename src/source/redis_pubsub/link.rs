//! The writer's blocking connection: the client library's, with a timeout on everything.

use std::time::Duration;

use redis::{Connection, RedisError, Value};

use super::fault::{is_outdated, is_served};
use crate::{
    event::EventId,
    protocol::resp,
    source::redis_address::{Allegiance, Consensus, Directory, check_master},
};

/// What the server lists the connection as.
const CLIENT_NAME: &[u8] = b"fanfare-writer";

/// A connection that is logged in.
pub(super) struct Link {
    connection: Connection,
    must_be_master: bool,
    allegiance: Allegiance,
}

/// The server's answer to a publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The server took it, and gave it this id if it gives ids.
    Taken(Option<EventId>),
    /// It does not know the script: nothing was done.
    NoScript,
    /// The server did not take it.
    Refused(String),
}

impl Link {
    /// Connects, logs in and makes sure that commands are served, each within `timeout`.
    pub(super) fn open(directory: &Directory, consensus: &Consensus, timeout: Duration) -> Result<Self, RedisError> {
        let (connection, target) = directory.connect_somewhere(timeout)?;
        let allegiance = Allegiance::new(target, consensus);
        let mut link = Self { connection, must_be_master: directory.must_be_master(), allegiance };
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

    /// Whether the sentinels want another server.
    pub(super) fn is_outdated(&mut self, consensus: &Consensus) -> bool {
        self.allegiance.is_outdated(consensus)
    }

    /// Whether commands are served, and by a master if it must be one: what is published at a replica reaches nobody
    /// else, and the replica does not say so.
    pub(super) fn ping(&mut self) -> Result<(), RedisError> {
        let mut command = Vec::new();
        if self.must_be_master {
            resp::write_command(&mut command, &[b"ROLE"]);
            self.send(&command)?;
            return check_master(&self.receive()?);
        }
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
            // How many subscribers the server counted says nothing about ours.
            Value::Int(_) => Ok(Answer::Taken(None)),
            Value::BulkString(id) => {
                let id = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok());
                id.map(|id| Answer::Taken(Some(id))).ok_or_else(unexpected)
            }
            Value::ServerError(error) if error.code() == "NOSCRIPT" => Ok(Answer::NoScript),
            Value::ServerError(error) if is_outdated(error.code()) => Err(error.into()),
            Value::ServerError(error) => Ok(Answer::Refused(error.to_string())),
            _ => Err(unexpected()),
        }
    }

    /// Passes over an answer that does not matter.
    pub(super) fn skip_answer(&mut self) -> Result<(), RedisError> {
        self.receive().map(drop)
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

fn unexpected() -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "a publication is answered by a number or an id").into()
}
