//! A blocking connection: the client library's, with a timeout on everything.

use std::time::Duration;

use redis::{Connection, ErrorKind, RedisError, Value};

use super::entry::BadAnswer;
use crate::{protocol::resp, source::redis_address::Directory};

/// A connection that is logged in.
pub(super) struct Link {
    connection: Connection,
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

impl Link {
    /// Connects, logs in, and makes itself known as `name`, each within `timeout`.
    pub(super) fn open(directory: &Directory, name: &str, timeout: Duration) -> Result<Self, RedisError> {
        let mut link = Self { connection: directory.connect(timeout)?, commands: Commands::default() };
        link.set_timeout(timeout)?;
        // Access rules may forbid the name; that is no reason not to go on. Nor is a `PING` refused by them.
        let answers = link.ask(|commands| {
            commands.push_words(&["CLIENT", "SETNAME", name]);
            commands.push_words(&["PING"]);
        })?;
        match answers.into_iter().next_back() {
            Some(Value::ServerError(error)) if error.code() != "NOPERM" => Err(error.into()),
            _ => Ok(link),
        }
    }

    /// How long one write or one answer may take from now on.
    pub(super) fn set_timeout(&self, timeout: Duration) -> Result<(), RedisError> {
        self.connection.set_read_timeout(Some(timeout))?;
        self.connection.set_write_timeout(Some(timeout))
    }

    /// Sends the commands that `write` pushes, and returns the answers to them in order; what the server refuses is an
    /// answer too. An error says that the link is of no more use.
    pub(super) fn ask(&mut self, write: impl FnOnce(&mut Commands)) -> Result<Vec<Value>, RedisError> {
        self.commands.bytes.clear();
        self.commands.count = 0;
        write(&mut self.commands);
        self.connection.send_packed_command(&self.commands.bytes)?;
        (0..self.commands.count).map(|_| self.receive()).collect()
    }

    /// The same for one command.
    pub(super) fn ask_one(&mut self, words: &[&str]) -> Result<Value, RedisError> {
        Ok(self.ask(|commands| commands.push_words(words))?.pop().unwrap_or(Value::Nil))
    }

    /// What the server pushes between answers is none.
    fn receive(&mut self) -> Result<Value, RedisError> {
        loop {
            match self.connection.recv_response()? {
                Value::Push { .. } => {}
                value => return Ok(value),
            }
        }
    }
}

/// Takes an answer that is a refusal for an error.
pub(super) fn accept(answer: Value) -> Result<Value, RedisError> {
    match answer {
        Value::ServerError(error) => Err(error.into()),
        answer => Ok(answer),
    }
}

impl From<BadAnswer> for RedisError {
    fn from(_: BadAnswer) -> Self {
        (ErrorKind::UnexpectedReturnType, "the server's answer is not what the command is answered by").into()
    }
}
