//! A lease on a key: of all processes that ask for it, one has it at a time.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use redis::{RedisError, Value};

use super::{ClusterPlace, Directory, RedisConfig, RedisConnection};
use crate::{
    clock::{Clock, Moment},
    protocol::resp,
    source::Lease,
};

/// Takes the key, or keeps it, for so many milliseconds, unless another one has it.
const TAKE: &str = "\
    local owner = redis.call('GET', KEYS[1])
    if owner and owner ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
    return 1";

/// Gives the key back.
const GIVE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";

/// It asks so many times while a lease lasts.
const ASKS_PER_LEASE: u32 = 3;
/// What the connection is called at the server.
const CLIENT_NAME: &str = "fanfare-lease";

/// A lease at a Redis server. Its thread asks for it until it is dropped, which gives it back.
#[derive(Debug)]
pub(super) struct RedisLease {
    held_until: Arc<AtomicU64>,
    /// Dropped to stop the thread.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Keeper {
    directory: Directory,
    clock: Clock,
    connect_timeout: Duration,
    key: String,
    owner: String,
    lasts: Duration,
    held_until: Arc<AtomicU64>,
}

impl RedisLease {
    /// Begins to ask for the lease called `name`, which lasts so long. Fails if `config` names files that cannot be used.
    pub(super) fn start(config: &RedisConfig, clock: Clock, name: &str, lasts: Duration) -> io::Result<Self> {
        Self::start_at(config, config.directory()?, clock, key(name), lasts)
    }

    /// The same in a cluster; `place` tells the server that has the key.
    pub(super) fn start_in_cluster(
        config: &RedisConfig,
        clock: Clock,
        name: &str,
        lasts: Duration,
        place: impl FnOnce(&str) -> ClusterPlace,
    ) -> io::Result<Self> {
        let key = key(name);
        Self::start_at(config, config.directory()?.in_cluster(place(&key)), clock, key, lasts)
    }

    fn start_at(
        config: &RedisConfig,
        directory: Directory,
        clock: Clock,
        key: String,
        lasts: Duration,
    ) -> io::Result<Self> {
        let held_until = Arc::new(AtomicU64::new(0));
        let keeper = Keeper {
            directory,
            clock,
            connect_timeout: config.connect_timeout,
            key,
            owner: format!("{:032x}", rand::random::<u128>()),
            lasts,
            held_until: Arc::clone(&held_until),
        };
        let (stop, stopped) = bounded(0);
        let thread = thread::Builder::new().name("lease".to_owned()).spawn(move || keeper.run(&stopped))?;
        Ok(Self { held_until, stop: Some(stop), thread: Some(thread) })
    }
}

/// The key of the lease `name`.
pub(super) fn key(name: &str) -> String {
    format!("fanfare.lease.{name}")
}

impl Lease for RedisLease {
    fn is_held(&self, now: Moment) -> bool {
        now.0 < self.held_until.load(Ordering::Acquire)
    }
}

impl Drop for RedisLease {
    fn drop(&mut self) {
        self.stop = None;
        // A panic has ended the process.
        self.thread.take().into_iter().for_each(|thread| drop(thread.join()));
    }
}

impl Keeper {
    fn run(self, stopped: &Receiver<()>) {
        let mut connection = None;
        let mut was_refused = false;
        loop {
            match self.take(&mut connection) {
                Ok(()) => was_refused = false,
                Err(error) => {
                    connection = None;
                    if !std::mem::replace(&mut was_refused, true) {
                        tracing::warn!(%error, key = self.key, "Redis does not keep the lease; who waits for it stands by");
                    }
                }
            }
            if stopped.recv_timeout(self.lasts / ASKS_PER_LEASE) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
        if let Some(mut connection) = connection {
            // Otherwise it ends by itself.
            let _ = self.ask(&mut connection, GIVE);
        }
    }

    /// Asks for the lease. What was asked last counts from before it was asked, so that nobody has it longer than the server says.
    fn take(&self, connection: &mut Option<RedisConnection>) -> Result<(), RedisError> {
        if !connection.as_mut().is_some_and(RedisConnection::is_usable) {
            *connection = Some(self.directory.connect(CLIENT_NAME, self.connect_timeout.min(self.lasts))?);
        }
        let Some(open) = connection else { return Ok(()) };
        let asked = self.clock.now();
        let answer = self.ask(open, TAKE)?;
        // A part of the time is left for clocks that differ, and for what is on its way when it ends.
        let until = if answer == Value::Int(1) { asked + self.lasts.mul_f64(0.8) } else { Moment(0) };
        self.held_until.store(until.0, Ordering::Release);
        Ok(())
    }

    fn ask(&self, connection: &mut RedisConnection, script: &str) -> Result<Value, RedisError> {
        let mut command = Vec::new();
        let lasts_ms = self.lasts.as_millis().to_string();
        let words = ["EVAL", script, "1", &self.key, &self.owner, &lasts_ms];
        resp::write_command(&mut command, &words.map(str::as_bytes));
        connection.send(&command)?;
        match connection.receive()? {
            Value::ServerError(error) => Err(error.into()),
            answer => Ok(answer),
        }
    }
}
