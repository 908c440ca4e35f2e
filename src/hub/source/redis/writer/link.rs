//! The writer's connection: publications out, answers in, and checks of the server's role.

use std::time::Duration;

use redis::{RedisError, ServerError, Value};

use crate::{
    bus::Refusal,
    event::EventId,
    protocol::resp,
    source::redis::{
        Directory, MasterLease, RedisConnection, SendFailed, SentinelView,
        error_codes::{Elsewhere, is_outdated},
    },
};

/// What the server lists the connection as.
const CLIENT_NAME: &str = "fanfare-writer";

/// A connection that is logged in.
pub(super) struct WriterLink {
    connection: RedisConnection,
    lease: MasterLease,
}

/// The server's answer to a publication.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PublishAnswer {
    /// The server took it, and gave it this id if it gives ids.
    Taken(Option<EventId>),
    /// It does not know the script: nothing was done.
    NoScript,
    /// The server did not take it: nothing was done.
    Refused(RefusedPublication),
}

/// A refusal, in the server's own words, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RefusedPublication {
    pub(super) refusal: Refusal,
    pub(super) text: String,
    /// The server is no longer one to talk to.
    pub(super) is_outdated: bool,
    /// In a cluster: another node may take it, or this one later.
    pub(super) elsewhere: Option<Elsewhere>,
}

impl WriterLink {
    /// Connects, logs in and makes sure that commands are served, by a server that may be used, within `timeout`.
    pub(super) fn open(directory: &Directory, view: &SentinelView, timeout: Duration) -> Result<Self, RedisError> {
        let connection = directory.connect(CLIENT_NAME, timeout)?;
        let lease = MasterLease::new(connection.target().clone(), view);
        Ok(Self { connection, lease })
    }

    /// How long one write or one answer may take from now on.
    pub(super) fn set_timeout(&self, timeout: Duration) -> Result<(), RedisError> {
        Ok(self.connection.set_timeout(timeout)?)
    }

    /// Whether the sentinels want another server.
    pub(super) fn is_outdated(&mut self, view: &SentinelView) -> bool {
        self.lease.is_outdated(view)
    }

    /// Whether the server has neither closed the idle connection nor said anything unasked.
    pub(super) fn is_usable(&mut self) -> bool {
        self.connection.is_usable()
    }

    /// Whether it leads to a replica, which is only read from.
    pub(super) fn is_replica(&self) -> bool {
        self.connection.role().is_replica()
    }

    /// Whether commands are served, by a server that may be used.
    pub(super) fn ping(&mut self) -> Result<(), RedisError> {
        self.connection.check_role()
    }

    /// Appends the command that asks what the server is; [`Self::receive_role`] takes the answer.
    pub(super) fn write_role_question(&self, commands: &mut Vec<u8>) {
        resp::write_command(commands, self.connection.role_question());
    }

    /// Fails unless the server still is what it was: one that became a replica has taken publications for nobody.
    pub(super) fn receive_role(&mut self) -> Result<(), RedisError> {
        let answer = self.connection.receive()?;
        self.connection.take_role(&answer)
    }

    pub(super) fn send(&mut self, commands: &[u8]) -> Result<(), SendFailed> {
        self.connection.send(commands)
    }

    /// The next publication's answer. An error says that the link is of no more use.
    pub(super) fn receive_answer(&mut self) -> Result<PublishAnswer, RedisError> {
        match self.connection.receive()? {
            // How many subscribers the server counted says nothing about ours.
            Value::Int(_) => Ok(PublishAnswer::Taken(None)),
            Value::BulkString(id) => {
                let id = std::str::from_utf8(&id).ok().and_then(|id| id.parse().ok());
                id.map(|id| PublishAnswer::Taken(Some(id))).ok_or_else(unexpected)
            }
            Value::ServerError(error) if error.code() == "NOSCRIPT" => Ok(PublishAnswer::NoScript),
            Value::ServerError(error) => Ok(PublishAnswer::Refused(refused(&error))),
            _ => Err(unexpected()),
        }
    }

    /// Passes over an answer that does not matter.
    pub(super) fn skip_answer(&mut self) -> Result<(), RedisError> {
        self.connection.receive().map(drop)
    }
}

fn refused(error: &ServerError) -> RefusedPublication {
    let text = match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    };
    // What a script ran into is in the text only, behind the script's own words.
    let says = |code: &str| error.code() == code || text.contains(&format!("-{code} "));
    let refusal = if says("NOPERM") || says("NOAUTH") || text.contains("ACL failure") {
        Refusal::Forbidden
    } else if says("READONLY") || text.contains("Write commands not allowed") {
        Refusal::ReadOnly
    } else if says("NOREPLICAS") {
        Refusal::TooFewReplicas
    } else if says("OOM") {
        Refusal::OutOfMemory
    } else if ["MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "CLUSTERDOWN"].into_iter().any(says) {
        Refusal::Elsewhere
    } else if says("WRONGTYPE") {
        Refusal::NoStream
    } else {
        Refusal::Other
    };
    let is_outdated = is_outdated(error.code()) || refusal == Refusal::ReadOnly;
    let elsewhere = Elsewhere::parse(&text);
    RefusedPublication { refusal, text, is_outdated, elsewhere }
}

fn unexpected() -> RedisError {
    (redis::ErrorKind::UnexpectedReturnType, "a publication is answered by a number or an id").into()
}
