//! A connection that leaves its thread to others while it waits: for a thread that has one to each master of a cluster.

use std::{io, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, Value};

use crate::{
    protocol::resp::{BadReply, Reply, RespLimits, parse},
    source::{
        read_buffer::{Filled, ReadBuffer},
        redis::{Directory, RedisConnection},
    },
};

/// What is read at once, in bytes, unless one answer is larger.
const BUFFER_BYTES: usize = 64 << 10;
/// The same as the client library's: a stream's entry may be as large as Redis lets it be.
const LIMITS: RespLimits =
    RespLimits { bulk_bytes_max: 512 << 20, line_bytes_max: 4096, elements_max: 1 << 22, depth_max: 32 };

/// A connection that is logged in.
pub(super) struct SharedConnection {
    connection: RedisConnection,
    received: ReadBuffer,
    /// How long commands and their answers may take.
    timeout: Duration,
}

impl SharedConnection {
    /// Connects, logs in, and makes itself known as `name`, within `connect_timeout`. A thread of its own does so, because the login
    /// waits for its answers.
    pub(super) async fn open(
        directory: &Arc<Directory>,
        name: &'static str,
        connect_timeout: Duration,
        timeout: Duration,
    ) -> Result<Self, RedisError> {
        let directory = Arc::clone(directory);
        let connecting = tokio::task::spawn_blocking(move || directory.connect(name, connect_timeout));
        let connection = connecting.await.map_err(|failed| io::Error::other(failed.to_string()))??;
        Ok(Self { connection: connection.into_shared()?, received: ReadBuffer::new(BUFFER_BYTES), timeout })
    }

    pub(super) fn inner(&mut self) -> &mut RedisConnection {
        &mut self.connection
    }

    /// Sends `commands` and returns the answers, `count` in all. An error says that the connection is of no more use.
    pub(super) async fn exchange(&mut self, commands: &[u8], count: usize) -> Result<Vec<Value>, RedisError> {
        let timeout = self.timeout;
        let exchanging = async {
            self.send(commands).await?;
            self.receive(count).await
        };
        tokio::time::timeout(timeout, exchanging).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    async fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        loop {
            let rest = &commands[sent..];
            let outcome = match rest.is_empty() {
                true => self.connection.flush().map(|()| 0),
                false => self.connection.write_some(rest),
            };
            match outcome {
                Ok(_) if rest.is_empty() => return Ok(()),
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.connection.shared_socket() {
                    Some(socket) => socket.writable().await?,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    async fn receive(&mut self, count: usize) -> Result<Vec<Value>, RedisError> {
        let mut answers = Vec::with_capacity(count);
        loop {
            while answers.len() < count
                && let Some(answer) = self.next_answer()?
            {
                answers.push(answer);
            }
            if answers.len() == count {
                return Ok(answers);
            }
            let connection = &mut self.connection;
            match self.received.fill(|room| connection.read_some(room)) {
                Filled::Full => {}
                Filled::Drained => {
                    if let Some(answer) = self.next_answer()? {
                        answers.push(answer);
                        continue;
                    }
                    match self.connection.shared_socket() {
                        Some(socket) => socket.readable().await?,
                        None => return Err(io::Error::from(io::ErrorKind::WouldBlock).into()),
                    }
                }
                Filled::End => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Filled::Failed(error) => return Err(error.into()),
            }
        }
    }

    fn next_answer(&mut self) -> Result<Option<Value>, RedisError> {
        let unparsed = self.received.unparsed();
        let bad = |reply: BadReply| {
            RedisError::from((ErrorKind::Parse, "the server's answer is not understood", reply.to_string()))
        };
        let Some((reply, length)) = parse(unparsed, &LIMITS).map_err(bad)? else { return Ok(None) };
        let answer = match reply {
            Reply::Null | Reply::Bulk(None) => Value::Nil,
            _ => redis::parse_redis_value(&unparsed[..length])?,
        };
        self.received.consume(length);
        Ok(Some(answer))
    }
}
