//! A blocking connection: the client library's, with a timeout on everything.

use std::time::Duration;

use redis::{ErrorKind, RedisError, Value};

use super::entry::BadAnswer;
use crate::{
    protocol::resp,
    source::redis::{Directory, RedisConnection},
};

/// Before version 7 no server says how many entries were ever added to a stream, so that it is unknown whether the first
/// event of a reader is the first one there was.
pub(super) const LEAST_VERSION: u64 = 7;

/// A connection that is logged in.
pub(super) struct StreamLink {
    connection: RedisConnection,
    commands: Commands,
}

/// Commands on their way, so that several need one round trip.
#[derive(Debug, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    count: usize,
}

impl Commands {
    pub(super) fn push(&mut self, words: &[&[u8]]) {
        resp::write_command(&mut self.bytes, words);
        self.count += 1;
    }

    /// The same for words that are text.
    pub(super) fn push_words(&mut self, words: &[&str]) {
        let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
        self.push(&words);
    }
}

impl StreamLink {
    /// Connects, logs in, and makes itself known as `name`, within `timeout`.
    pub(super) fn open(directory: &Directory, name: &str, timeout: Duration) -> Result<Self, RedisError> {
        Ok(Self { connection: directory.connect(name, timeout)?, commands: Commands::default() })
    }

    /// How long one write or one answer may take from now on.
    pub(super) fn set_timeout(&self, timeout: Duration) -> Result<(), RedisError> {
        Ok(self.connection.set_timeout(timeout)?)
    }

    /// Whether the server has neither closed the idle connection nor said anything unasked.
    pub(super) fn is_usable(&mut self) -> bool {
        self.connection.is_usable()
    }

    /// Whether it leads to a replica, to which nothing can be added.
    pub(super) fn is_replica(&self) -> bool {
        self.connection.role().is_replica()
    }

    /// Fails unless the server still is one that may be used.
    pub(super) fn check_role(&mut self) -> Result<(), RedisError> {
        self.connection.check_role()
    }

    /// Sends the commands that `write` pushes, and returns the answers to them in order; what the server refuses is an
    /// answer too. An error says that the link is of no more use.
    pub(super) fn ask(&mut self, write: impl FnOnce(&mut Commands)) -> Result<Vec<Value>, RedisError> {
        self.commands.bytes.clear();
        self.commands.count = 0;
        write(&mut self.commands);
        self.connection.send(&self.commands.bytes)?;
        (0..self.commands.count).map(|_| self.connection.receive()).collect()
    }

    /// The same for one command.
    pub(super) fn ask_one(&mut self, words: &[&str]) -> Result<Value, RedisError> {
        Ok(self.ask(|commands| commands.push_words(words))?.pop().unwrap_or(Value::Nil))
    }
}

/// Takes an answer that is a refusal for an error.
pub(super) fn accept(answer: Value) -> Result<Value, RedisError> {
    match answer {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

/// Whether the server refuses something for the key that it is about, and serves others.
pub(super) fn is_of_key(error: &RedisError) -> bool {
    is_no_stream(error) || error.code() == Some("NOPERM")
}

/// Whether the key that a command is about holds something else than a stream.
pub(super) fn is_no_stream(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

impl From<BadAnswer> for RedisError {
    fn from(_: BadAnswer) -> Self {
        (ErrorKind::UnexpectedReturnType, "the server's answer is not what the command is answered by").into()
    }
}
