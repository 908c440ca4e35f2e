//! A connection with a timeout on everything. It blocks its thread, or leaves it to others while it waits.

use std::{
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use redis::{ErrorKind, RedisError, Value};

use super::{entry::BadAnswer, shared_link::SharedConnection};
use crate::{
    protocol::resp,
    source::redis::{Directory, RedisConnection, error_codes::Elsewhere},
};

/// Before version 7 no server says how many entries were ever added to a stream, so that it is unknown whether the first
/// event of a reader is the first one there was.
pub(super) const LEAST_VERSION: u64 = 7;

/// A connection that is logged in. What is asked by an `async` function blocks the thread where the connection does, and so is done at
/// once: then [`run_blocking`] runs it.
pub(super) struct StreamLink {
    connection: Connection,
    commands: Commands,
}

enum Connection {
    Blocking(RedisConnection),
    Shared(Box<SharedConnection>),
}

/// Commands on their way, so that several need one round trip.
#[derive(Debug, Default)]
pub(super) struct Commands {
    bytes: Vec<u8>,
    count: usize,
}

impl Commands {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

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
    /// Connects, logs in, and makes itself known as `name`, within `timeout`. Blocks the thread, as all does that is asked.
    pub(super) fn open(directory: &Directory, name: &str, timeout: Duration) -> Result<Self, RedisError> {
        let connection = Connection::Blocking(directory.connect(name, timeout)?);
        Ok(Self { connection, commands: Commands::default() })
    }

    /// The same, and the thread is left to others. One question may take `timeout`.
    pub(super) async fn open_shared(
        directory: &Arc<Directory>,
        name: &'static str,
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self, RedisError> {
        let connection = SharedConnection::open(directory, name, connect_timeout, timeout).await?;
        Ok(Self { connection: Connection::Shared(Box::new(connection)), commands: Commands::default() })
    }

    fn inner(&mut self) -> &mut RedisConnection {
        match &mut self.connection {
            Connection::Blocking(connection) => connection,
            Connection::Shared(connection) => connection.inner(),
        }
    }

    /// How long one write or one answer may take from now on, where the thread is blocked.
    pub(super) fn set_timeout(&self, timeout: Duration) -> Result<(), RedisError> {
        match &self.connection {
            Connection::Blocking(connection) => Ok(connection.set_timeout(timeout)?),
            Connection::Shared(_) => Ok(()),
        }
    }

    /// Whether the server has neither closed the idle connection nor said anything unasked.
    pub(super) fn is_usable(&mut self) -> bool {
        self.inner().is_usable()
    }

    /// Whether it leads to a replica, to which nothing can be added.
    pub(super) fn is_replica(&mut self) -> bool {
        self.inner().role().is_replica()
    }

    /// Fails unless the server still is one that may be used.
    pub(super) async fn check_role(&mut self) -> Result<(), RedisError> {
        let question = self.inner().role_question();
        let answer = self.request(|commands| commands.push(question)).await?.pop().unwrap_or(Value::Nil);
        self.inner().accept_role(answer)
    }

    /// Sends the commands that `write` pushes, and returns the answers to them in order; what the server refuses is an
    /// answer too. An error says that the link is of no more use.
    pub(super) async fn request(&mut self, write: impl FnOnce(&mut Commands)) -> Result<Vec<Value>, RedisError> {
        let mut commands = std::mem::take(&mut self.commands);
        commands.clear();
        write(&mut commands);
        let answers = self.exchange(&commands).await;
        self.commands = commands;
        answers
    }

    /// The same for one command.
    pub(super) async fn request_one(&mut self, words: &[&str]) -> Result<Value, RedisError> {
        Ok(self.request(|commands| commands.push_words(words)).await?.pop().unwrap_or(Value::Nil))
    }

    /// The same for commands that are written already.
    pub(super) async fn exchange(&mut self, commands: &Commands) -> Result<Vec<Value>, RedisError> {
        match &mut self.connection {
            Connection::Blocking(connection) => {
                connection.send(&commands.bytes)?;
                (0..commands.count).map(|_| connection.receive()).collect()
            }
            Connection::Shared(connection) => connection.exchange(&commands.bytes, commands.count).await,
        }
    }

    /// [`Self::request`] where the connection blocks the thread.
    pub(super) fn ask(&mut self, write: impl FnOnce(&mut Commands)) -> Result<Vec<Value>, RedisError> {
        run_blocking(self.request(write))
    }

    /// [`Self::request_one`] where the connection blocks the thread.
    pub(super) fn ask_one(&mut self, words: &[&str]) -> Result<Value, RedisError> {
        run_blocking(self.request_one(words))
    }
}

/// Runs what blocks the thread wherever it waits.
pub(super) fn run_blocking<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return outcome;
        }
    }
}

/// The answer to a transaction, of those to all its commands: the last one, unless a node of a cluster says of one of the commands that
/// it does not serve the key. Then the transaction is given up, and the last answer does not say why.
pub(super) fn transaction_answer(answers: impl IntoIterator<Item = Value>) -> Value {
    let mut last = Value::Nil;
    for answer in answers {
        if let Value::ServerError(error) = &answer
            && (is_down(&error.clone().into()) || elsewhere(&error.clone().into()).is_some())
        {
            return answer;
        }
        last = answer;
    }
    last
}

/// What of `answers` says that a node of a cluster does not serve a key, or any.
pub(super) fn find_unserved(answers: &[Value]) -> Option<RedisError> {
    answers.iter().find_map(|answer| match answer {
        Value::ServerError(error) => {
            Some(RedisError::from(error.clone())).filter(|error| is_down(error) || elsewhere(error).is_some())
        }
        _ => None,
    })
}

/// Whether an error is that a node of a cluster does not serve the key, but others.
pub(super) fn elsewhere(error: &RedisError) -> Option<Elsewhere> {
    let code = error.code().filter(|_| !is_down(error))?;
    Elsewhere::parse(&format!("{code} {}", error.detail().unwrap_or_default()))
}

/// Whether a node says that the cluster is down: it serves nothing.
pub(super) fn is_down(error: &RedisError) -> bool {
    error.code() == Some("CLUSTERDOWN")
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
