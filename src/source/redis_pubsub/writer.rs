//! The writer thread: publications of this hub, many to a round trip.
//!
//! It never sends anything twice. What was sent and not answered may have been delivered, so its publisher is told
//! [`PublishFailed::Unknown`] and decides; what was not sent waits for a connection, but no longer than
//! `publish_timeout`.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, never, select};
use redis::{ClientTlsConfig, ErrorKind, RedisError, TlsCertificates, Value};
use tracing::{info, warn};

use super::{Config, SourceStatus, backoff::Backoff, config::Target, envelope, throttle::Throttle};
use crate::{
    bus::{Outlet, Publication, PublishFailed, Reply},
    clock::{Clock, Moment},
    protocol::resp,
    topic::Topic,
};

/// The most publications in one round trip, and the most bytes.
const BATCH_COUNT_MAX: usize = 1000;
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// What the server lists the connection as.
const CLIENT_NAME: &[u8] = b"fanfare-writer";

/// Owns the writer thread.
#[derive(Debug)]
pub struct WriterHandle {
    publisher: Publisher,
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// Hands publications to the writer thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Publisher {
    queue: Sender<Queued>,
    queued_bytes: Arc<AtomicUsize>,
    queued_bytes_max: usize,
    timeout: Duration,
    clock: Clock,
    status: Arc<SourceStatus>,
}

/// A publication on its way.
struct Queued {
    topic: Topic,
    payload: Bytes,
    reply: Reply,
    /// Until when it may wait to be sent.
    deadline: Moment,
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queued").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// Starts the thread. Fails if `config` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub fn start_writer(config: Config, clock: Clock, status: Arc<SourceStatus>) -> io::Result<WriterHandle> {
    let (queue, queued) = bounded(config.publish_queue_max);
    let (stop, stopped) = bounded(1);
    let publisher = Publisher {
        queue,
        queued_bytes: Arc::default(),
        queued_bytes_max: config.publish_queue_bytes_max,
        timeout: config.publish_timeout,
        clock,
        status: Arc::clone(&status),
    };
    let mut writer = Writer {
        client: client(&config)?,
        connection: None,
        backoff: Backoff::new(config.backoff_min, config.backoff_max),
        retry: clock.now(),
        last_used: clock.now(),
        reader_disconnects: 0,
        failures: Throttle::default(),
        queued,
        queued_bytes: Arc::clone(&publisher.queued_bytes),
        pending: VecDeque::new(),
        pending_bytes: 0,
        command: Vec::new(),
        stopped,
        stop_deadline: None,
        clock,
        status,
        config,
    };
    let thread = std::thread::Builder::new().name("redis-writer".to_owned()).spawn(move || writer.run())?;
    Ok(WriterHandle { publisher, stop, thread })
}

impl WriterHandle {
    /// Where to hand publications to; also what the bus is given as its outlet.
    pub fn publisher(&self) -> Publisher {
        self.publisher.clone()
    }

    /// Sends what is queued, if the server takes it, and waits for the thread to end. Every publication is answered.
    pub fn stop(self) {
        // A second word to the same effect is not needed.
        let _ = self.stop.try_send(());
        if self.thread.join().is_err() {
            warn!("the Redis writer thread had panicked");
        }
    }
}

impl Outlet for Publisher {
    /// Queues `publication`; a full queue answers [`PublishFailed::QueueFull`] at once.
    fn publish(&self, publication: Publication) {
        let queued = Queued {
            payload: envelope::seal(publication.kind.as_deref(), &publication.data),
            topic: publication.topic,
            reply: publication.reply,
            deadline: self.clock.now() + self.timeout,
        };
        let weight = queued.weight_bytes();
        let before = self.queued_bytes.fetch_add(weight, Ordering::Relaxed);
        let refused = if self.queued_bytes_max < before + weight {
            Some(queued)
        } else {
            self.queue.try_send(queued).err().map(crossbeam_channel::TrySendError::into_inner)
        };
        if let Some(queued) = refused {
            self.queued_bytes.fetch_sub(weight, Ordering::Relaxed);
            self.status.on_published(0, 1);
            (queued.reply)(Err(PublishFailed::QueueFull));
        }
    }
}

impl Queued {
    fn weight_bytes(&self) -> usize {
        size_of::<Self>() + self.topic.as_str().len() + self.payload.len()
    }
}

struct Writer {
    config: Config,
    clock: Clock,
    status: Arc<SourceStatus>,
    client: redis::Client,
    connection: Option<redis::Connection>,
    backoff: Backoff,
    retry: Moment,
    last_used: Moment,
    /// How many connections the reader had lost when this one was last known to be good.
    reader_disconnects: u64,
    failures: Throttle,
    queued: Receiver<Queued>,
    queued_bytes: Arc<AtomicUsize>,
    /// Taken from the queue, to be sent next.
    pending: VecDeque<Queued>,
    pending_bytes: usize,
    command: Vec<u8>,
    stopped: Receiver<()>,
    /// Until when what is queued may still be sent, once the end is near.
    stop_deadline: Option<Moment>,
}

impl Writer {
    fn run(&mut self) {
        loop {
            self.gather();
            let now = self.clock.now();
            self.expire(now);
            if self.connection.is_none() && self.retry <= now && self.stop_deadline.is_none() {
                self.connect();
            }
            self.check_connection();
            self.publish_pending();
            if let Some(deadline) = self.stop_deadline
                && (self.connection.is_none() || self.queued.is_empty() || deadline <= now)
            {
                return self.abandon();
            }
        }
    }

    /// Waits for something to do, then takes all that is queued, up to a batch.
    fn gather(&mut self) {
        let has_room = self.has_room();
        let queued = if has_room { self.queued.clone() } else { never() };
        let first = select! {
            recv(queued) -> queued => queued.ok(),
            recv(self.stopped) -> _ => {
                self.stop_deadline = Some(self.clock.now() + self.config.publish_timeout);
                None
            }
            default(self.patience()) => None,
        };
        self.pending_push(first);
        while self.has_room()
            && let Ok(queued) = self.queued.try_recv()
        {
            self.pending_push(Some(queued));
        }
    }

    fn has_room(&self) -> bool {
        self.pending.len() < BATCH_COUNT_MAX && self.pending_bytes < BATCH_BYTES_MAX
    }

    fn pending_push(&mut self, queued: Option<Queued>) {
        if let Some(queued) = queued {
            self.pending_bytes += queued.weight_bytes();
            self.pending.push_back(queued);
        }
    }

    fn pending_pop(&mut self) -> Option<Queued> {
        let queued = self.pending.pop_front()?;
        self.pending_bytes -= queued.weight_bytes();
        self.queued_bytes.fetch_sub(queued.weight_bytes(), Ordering::Relaxed);
        Some(queued)
    }

    /// How long there is nothing to do but to wait for publications.
    fn patience(&self) -> Duration {
        let now = self.clock.now();
        match (&self.connection, self.pending.front()) {
            (Some(_), _) => (self.last_used + self.config.ping_interval).since(now),
            (None, None) => self.retry.since(now),
            (None, Some(oldest)) => self.retry.min(oldest.deadline).since(now),
        }
    }

    /// Answers those that have waited too long for a connection: they were not sent.
    fn expire(&mut self, now: Moment) {
        while self.connection.is_none()
            && self.pending.front().is_some_and(|oldest| oldest.deadline <= now)
            && let Some(queued) = self.pending_pop()
        {
            self.answer(queued.reply, Err(PublishFailed::Unavailable));
        }
    }

    fn connect(&mut self) {
        let patience = self.pending.front().map(|oldest| oldest.deadline.since(self.clock.now()));
        let timeout = patience.unwrap_or(self.config.connect_timeout).min(self.config.connect_timeout);
        match self.open(timeout.max(Duration::from_millis(1))) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.backoff.reset();
                self.last_used = self.clock.now();
                self.reader_disconnects = self.status.reader().disconnects();
                self.status.writer().on_connected(self.last_used);
                info!("publishing through {}", self.config.url);
            }
            Err(error) => self.fail(&error),
        }
    }

    /// Logs in and makes sure that the server answers.
    fn open(&mut self, timeout: Duration) -> Result<redis::Connection, RedisError> {
        let mut connection = self.client.get_connection_with_timeout(timeout)?;
        connection.set_read_timeout(Some(timeout))?;
        connection.set_write_timeout(Some(self.config.publish_timeout))?;
        self.command.clear();
        resp::write_command(&mut self.command, &[b"CLIENT", b"SETNAME", CLIENT_NAME]);
        resp::write_command(&mut self.command, &[b"PING"]);
        connection.send_packed_command(&self.command)?;
        // Access rules may forbid the name; that is no reason not to publish.
        receive(&mut connection)?;
        if let Value::ServerError(error) = receive(&mut connection)? {
            return Err(error.into());
        }
        connection.set_read_timeout(Some(self.config.publish_timeout))?;
        Ok(connection)
    }

    /// Asks for a sign of life when the connection was idle, or when the reader lost its own since: a publication sent
    /// into a dead connection ends as [`PublishFailed::Unknown`], which this avoids.
    fn check_connection(&mut self) {
        let disconnects = self.status.reader().disconnects();
        let idle = self.clock.now().since(self.last_used);
        if idle < self.config.ping_interval && disconnects == self.reader_disconnects {
            return;
        }
        let Some(connection) = &mut self.connection else { return };
        match ping(connection) {
            Ok(()) => {
                self.last_used = self.clock.now();
                self.reader_disconnects = disconnects;
            }
            Err(error) => {
                self.fail(&error);
                self.retry = self.clock.now();
            }
        }
    }

    /// One round trip with all that is pending.
    fn publish_pending(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let Some(mut connection) = self.connection.take() else { return };
        self.command.clear();
        for queued in &self.pending {
            let arguments = [b"PUBLISH".as_slice(), queued.topic.as_str().as_bytes(), &queued.payload];
            resp::write_command(&mut self.command, &arguments);
        }
        let outcome =
            connection.send_packed_command(&self.command).and_then(|()| self.receive_answers(&mut connection));
        self.last_used = self.clock.now();
        self.command.shrink_to(BATCH_BYTES_MAX);
        match outcome {
            Ok(()) => self.connection = Some(connection),
            Err(error) => {
                // Some of it may have reached the server, and there is no telling how much.
                while let Some(queued) = self.pending_pop() {
                    self.answer(queued.reply, Err(PublishFailed::Unknown));
                }
                self.fail(&error);
            }
        }
    }

    /// The answers come in the order of the publications. One at a time, because a batch's reader in the client library
    /// would wait out the timeout once for each of them.
    fn receive_answers(&mut self, connection: &mut redis::Connection) -> Result<(), RedisError> {
        let deadline = self.clock.now() + self.config.publish_timeout;
        while !self.pending.is_empty() {
            let value = receive(connection)?;
            let result = match value {
                Value::Int(receivers) => Ok(u64::try_from(receivers).unwrap_or_default()),
                Value::ServerError(error) => {
                    self.log_refusal(&error.to_string());
                    Err(PublishFailed::Unavailable)
                }
                _ => return Err((ErrorKind::UnexpectedReturnType, "PUBLISH is answered by a number").into()),
            };
            if let Some(queued) = self.pending_pop() {
                self.answer(queued.reply, result);
            }
            if deadline <= self.clock.now() {
                return Err(io::Error::from(io::ErrorKind::TimedOut).into());
            }
        }
        Ok(())
    }

    fn answer(&self, reply: Reply, result: Result<u64, PublishFailed>) {
        self.status.on_published(u64::from(result.is_ok()), u64::from(result.is_err()));
        reply(result);
    }

    fn fail(&mut self, error: &RedisError) {
        let now = self.clock.now();
        let delay = self.backoff.next_delay(rand::random());
        self.connection = None;
        self.retry = now + delay;
        self.status.writer().on_failure(&error.to_string(), now);
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "cannot publish through {}: {error}", self.config.url);
        }
    }

    fn log_refusal(&mut self, error: &str) {
        if let Some(suppressed) = self.failures.admit(self.clock.now()) {
            warn!(suppressed, "the server refuses a publication: {error}");
        }
    }

    /// The end: what could not be sent is answered all the same.
    fn abandon(&mut self) {
        loop {
            while let Some(queued) = self.pending_pop() {
                self.answer(queued.reply, Err(PublishFailed::Unavailable));
            }
            let Ok(queued) = self.queued.try_recv() else { return };
            self.pending_push(Some(queued));
        }
    }
}

fn ping(connection: &mut redis::Connection) -> Result<(), RedisError> {
    let mut command = Vec::new();
    resp::write_command(&mut command, &[b"PING"]);
    connection.send_packed_command(&command)?;
    receive(connection).map(drop)
}

/// The next answer; what the server pushes between answers is none.
fn receive(connection: &mut redis::Connection) -> Result<Value, RedisError> {
    loop {
        match connection.recv_response()? {
            Value::Push { .. } => {}
            value => return Ok(value),
        }
    }
}

fn client(config: &Config) -> io::Result<redis::Client> {
    let info = config.url.connection_info().clone();
    let settings = info.redis_settings().clone().set_skip_set_lib_name();
    let info =
        info.set_tcp_settings(redis::io::tcp::TcpSettings::default().set_nodelay(true)).set_redis_settings(settings);
    if !matches!(config.url.target(), Target::Tls { .. }) {
        return redis::Client::open(info).map_err(io::Error::other);
    }
    // The client library takes the process's provider; if there is one already, it stays.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // The same files and the same complaints as the reader's.
    super::tls::client_config(config)?;
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
