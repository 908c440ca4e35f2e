//! The steady publisher: sends on schedule, and records the outcome of each event.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use fanfare_core::{
    event::EventId,
    protocol::{
        http::{Method, ResponsePart, ResponseReader, write_request},
        resp,
    },
};
use serde_json::Value;
use socket2::Socket;

use super::{
    lock,
    payload::{Origin, Payload},
};
use crate::support::{TIMEOUT, wait_until};

/// Unanswered publications at most. Beyond that, events are skipped.
const UNANSWERED_MAX: usize = 500;

/// Delay before reconnecting.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How events are published.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// `POST /publish/{topic}` at this `host:port`.
    Http(String),
    /// `PUBLISH` at the unix socket of this path, as any client of Redis does it.
    Redis(String),
    /// `XADD` at the unix socket of this path, with the payload as the field `data`.
    Stream(String),
}

/// What is published, and how often.
#[derive(Clone, Debug)]
pub(crate) struct Steady {
    /// The names, in the order of the plan. The publisher takes them in turn.
    pub(crate) topics: Vec<String>,
    /// All topics together.
    pub(crate) events_per_second: u32,
    /// Added to each payload.
    pub(crate) padding_bytes: usize,
    pub(crate) origin: Origin,
}

/// What became of one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Published; the id, if the answer has one.
    Acknowledged(Option<EventId>),
    /// Not published, says the answer.
    Refused(String),
    /// No answer came, or it said that it is not known.
    Unknown,
}

/// What became of all events: by topic, the event of number `n` at `n - 1`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Truth {
    pub(crate) topics: Vec<Vec<Outcome>>,
    /// Refusals without a retry time.
    pub(crate) unhelpful: u32,
}

/// Publishes from a thread of its own, until [`Publisher::finish`].
#[derive(Debug)]
pub(crate) struct Publisher {
    shared: Arc<PublisherShared>,
    thread: Option<JoinHandle<Truth>>,
}

#[derive(Debug)]
struct PublisherShared {
    route: Mutex<Route>,
    /// Incremented with every change of the route.
    route_version: AtomicU32,
    is_ending: AtomicBool,
    acknowledged: AtomicU32,
    refused: AtomicU32,
}

impl Publisher {
    pub(crate) fn start(steady: Steady, route: Route) -> Self {
        let shared = Arc::new(PublisherShared {
            route: Mutex::new(route),
            route_version: AtomicU32::new(0),
            is_ending: AtomicBool::new(false),
            acknowledged: AtomicU32::new(0),
            refused: AtomicU32::new(0),
        });
        let thread_state = PublisherThread::new(steady, Arc::clone(&shared));
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(move || thread_state.run());
        Self { shared, thread: Some(thread.expect("threads are at hand")) }
    }

    /// Publishes by this route from now on.
    pub(crate) fn reroute(&self, route: Route) {
        *lock(&self.shared.route) = route;
        self.shared.route_version.fetch_add(1, Ordering::AcqRel);
    }

    /// How many events were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> u32 {
        self.shared.acknowledged.load(Ordering::Acquire)
    }

    /// How many events were refused so far.
    pub(crate) fn refused(&self) -> u32 {
        self.shared.refused.load(Ordering::Acquire)
    }

    /// Waits until `count` more events are acknowledged.
    #[track_caller]
    pub(crate) fn wait_for_more(&self, count: u32) {
        let goal = self.acknowledged() + count;
        wait_until(&format!("{count} more events are published"), || (goal <= self.acknowledged()).then_some(()));
    }

    /// Publishes to each topic once more, until that event is acknowledged, and returns the outcome of all.
    pub(crate) fn finish(mut self) -> Truth {
        self.shared.is_ending.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it is taken here only");
        thread.join().expect("the publisher's thread does not panic")
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.shared.is_ending.store(true, Ordering::Release);
    }
}

impl Truth {
    /// Of each topic, the number of the last event that was acknowledged.
    pub(super) fn last_acknowledged(&self) -> HashMap<usize, u32> {
        let is_acknowledged = |outcome: &Outcome| matches!(outcome, Outcome::Acknowledged(_));
        let last = |(topic, outcomes): (usize, &Vec<Outcome>)| {
            Some((topic, outcomes.iter().rposition(is_acknowledged)? as u32 + 1))
        };
        self.topics.iter().enumerate().filter_map(last).collect()
    }

    /// How many events had an outcome that `is` finds.
    pub(crate) fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.topics.iter().flatten().filter(|outcome| is(outcome)).count()
    }
}

/// The publisher's thread.
#[derive(Debug)]
struct PublisherThread {
    steady: Steady,
    shared: Arc<PublisherShared>,
    truth: Truth,
    connection: Option<Connection>,
    reconnect_at: Instant,
}

/// A connection, and what is under way on it.
#[derive(Debug)]
struct Connection {
    socket: Socket,
    route: Route,
    route_version: u32,
    outgoing: Vec<u8>,
    /// Topic and number of what is not answered, in the order in which it was sent.
    unanswered: VecDeque<(usize, u32)>,
    replies: Replies,
}

#[derive(Debug)]
enum Replies {
    Http { reader: Box<ResponseReader>, answer: Answer },
    Redis { held: Vec<u8> },
}

/// An HTTP answer under way.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    has_retry_after: bool,
    body: Vec<u8>,
}

impl PublisherThread {
    fn new(steady: Steady, shared: Arc<PublisherShared>) -> Self {
        let truth = Truth { topics: vec![Vec::new(); steady.topics.len()], unhelpful: 0 };
        Self { steady, shared, truth, connection: None, reconnect_at: Instant::now() }
    }

    fn run(mut self) -> Truth {
        let pause = Duration::from_secs(1) / self.steady.events_per_second.max(1);
        let (mut due, mut turn) = (Instant::now(), 0);
        while !self.shared.is_ending.load(Ordering::Acquire) {
            while due <= Instant::now() {
                self.send(turn % self.steady.topics.len());
                turn += 1;
                due += pause;
            }
            self.work();
            thread::park_timeout(due.saturating_duration_since(Instant::now()).min(Duration::from_millis(5)));
        }
        self.close();
        self.truth
    }

    /// The last event of each topic is acknowledged, so that subscribers have something to wait for.
    fn close(&mut self) {
        let deadline = Instant::now() + TIMEOUT;
        self.settle(deadline);
        for topic in 0..self.steady.topics.len() {
            let is_acknowledged = |truth: &Truth| matches!(truth.topics[topic].last(), Some(Outcome::Acknowledged(_)));
            self.send(topic);
            self.settle(deadline);
            while !is_acknowledged(&self.truth) && Instant::now() < deadline {
                thread::park_timeout(RECONNECT_PAUSE);
                self.send(topic);
                self.settle(deadline);
            }
        }
    }

    /// Waits until all is answered.
    fn settle(&mut self, deadline: Instant) {
        while self.connection.as_ref().is_some_and(|connection| !connection.unanswered.is_empty())
            && Instant::now() < deadline
        {
            self.work();
            thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// Sends one event. Skips the event if there is no connection or too much is unanswered.
    fn send(&mut self, topic: usize) {
        self.connect();
        let version = self.shared.route_version.load(Ordering::Acquire);
        let is_ready = |connection: &&mut Connection| {
            connection.route_version == version && connection.unanswered.len() < UNANSWERED_MAX
        };
        let Some(connection) = self.connection.as_mut().filter(is_ready) else { return };
        let outcomes = &mut self.truth.topics[topic];
        outcomes.push(Outcome::Unknown);
        let number = outcomes.len() as u32;
        let payload = Payload { topic, number, sent_us: self.steady.origin.elapsed_us() };
        connection.append(&self.steady.topics[topic], &payload.write(self.steady.padding_bytes));
        connection.unanswered.push_back((topic, number));
        self.work();
    }

    fn connect(&mut self) {
        let route_version = self.shared.route_version.load(Ordering::Acquire);
        // Pending publications are answered first, so that events stay in order.
        let is_stale =
            |connection: &Connection| connection.route_version != route_version && connection.unanswered.is_empty();
        if self.connection.as_ref().is_some_and(is_stale) {
            self.connection = None;
        }
        if self.connection.is_none() && self.reconnect_at <= Instant::now() {
            let route = lock(&self.shared.route).clone();
            self.connection = Connection::connect(route, route_version).ok();
            self.reconnect_at = Instant::now() + RECONNECT_PAUSE;
        }
    }

    /// Writes what the socket takes, and reads what was answered.
    fn work(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        let outcome = connection.flush().and_then(|()| connection.receive(&mut |key, answer| self.enter(key, answer)));
        match outcome {
            Ok(()) => self.connection = Some(connection),
            // Pending events may have been published. Their outcome stays unknown.
            Err(_) => self.reconnect_at = Instant::now() + RECONNECT_PAUSE,
        }
    }

    fn enter(&mut self, (topic, number): (usize, u32), (outcome, is_helpful): (Outcome, bool)) {
        match outcome {
            Outcome::Acknowledged(_) => drop(self.shared.acknowledged.fetch_add(1, Ordering::AcqRel)),
            Outcome::Refused(_) => drop(self.shared.refused.fetch_add(1, Ordering::AcqRel)),
            Outcome::Unknown => {}
        }
        self.truth.unhelpful += u32::from(!is_helpful);
        self.truth.topics[topic][number as usize - 1] = outcome;
    }
}

impl Connection {
    fn connect(route: Route, route_version: u32) -> io::Result<Self> {
        let socket: Socket = match &route {
            Route::Http(address) => {
                let socket = TcpStream::connect(address)?;
                socket.set_nodelay(true)?;
                socket.into()
            }
            Route::Redis(path) | Route::Stream(path) => UnixStream::connect(path)?.into(),
        };
        socket.set_nonblocking(true)?;
        let replies = match &route {
            Route::Http(_) => Replies::Http { reader: Box::new(ResponseReader::new()), answer: Answer::default() },
            Route::Redis(_) | Route::Stream(_) => Replies::Redis { held: Vec::new() },
        };
        Ok(Self { socket, route, route_version, outgoing: Vec::new(), unanswered: VecDeque::new(), replies })
    }

    fn append(&mut self, topic: &str, payload: &[u8]) {
        match &self.route {
            Route::Http(host) => {
                let path = format!("/publish/{topic}");
                write_request(Method::Post, host, &path, &[], payload, &mut self.outgoing);
            }
            Route::Redis(_) => {
                resp::write_command(&mut self.outgoing, &[b"PUBLISH", topic.as_bytes(), payload]);
            }
            Route::Stream(_) => {
                resp::write_command(&mut self.outgoing, &[b"XADD", topic.as_bytes(), b"*", b"data", payload]);
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.outgoing.is_empty() {
            match self.socket.write(&self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self, enter: &mut impl FnMut((usize, u32), (Outcome, bool))) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = match self.socket.read(&mut buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let unanswered = &mut self.unanswered;
            self.replies.receive(&buffer[..count], &mut |answer| {
                if let Some(key) = unanswered.pop_front() {
                    enter(key, answer);
                }
            })?;
        }
    }
}

impl Replies {
    /// Calls `each` with every answer complete with `bytes`, and whether a refusal has its retry time.
    fn receive(&mut self, bytes: &[u8], each: &mut impl FnMut((Outcome, bool))) -> io::Result<()> {
        match self {
            Self::Http { reader, answer } => {
                let received = reader.receive(bytes, |part| answer.take_part(part, each));
                received.map_err(|close| io::Error::other(close.to_string()))
            }
            Self::Redis { held } => {
                held.extend_from_slice(bytes);
                let taken = parse_replies(held, each)?;
                held.drain(..taken);
                Ok(())
            }
        }
    }
}

impl Answer {
    fn take_part(&mut self, part: ResponsePart<'_>, each: &mut impl FnMut((Outcome, bool))) {
        match part {
            ResponsePart::Head(head) => {
                let has_retry_after = head.header("retry-after").is_some();
                *self = Self { status: head.status, has_retry_after, body: Vec::new() };
            }
            ResponsePart::Body(bytes) => self.body.extend_from_slice(bytes),
            ResponsePart::End => each(self.judge()),
        }
    }

    fn judge(&self) -> (Outcome, bool) {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        match self.status {
            200 => (Outcome::Acknowledged(body["id"].as_str().and_then(|id| id.parse().ok())), true),
            // A proxy without an answer does not know the outcome of the request either.
            502 | 504 => (Outcome::Unknown, true),
            status => {
                let reason = format!("{status} {}", body["error"]["code"].as_str().unwrap_or_default());
                (Outcome::Refused(reason), status != 503 || self.has_retry_after)
            }
        }
    }
}

/// Returns how many bytes the replies took.
fn parse_replies(bytes: &[u8], each: &mut impl FnMut((Outcome, bool))) -> io::Result<usize> {
    let limits = resp::RespLimits::default();
    let mut start = 0;
    loop {
        let parsed = resp::parse(&bytes[start..], &limits).map_err(|bad| io::Error::other(bad.to_string()))?;
        let Some((reply, length)) = parsed else { return Ok(start) };
        let outcome = match reply {
            resp::Reply::Error(error) => Outcome::Refused(error.to_owned()),
            resp::Reply::Bulk(Some(id)) => {
                Outcome::Acknowledged(std::str::from_utf8(id).ok().and_then(|id| id.parse().ok()))
            }
            _ => Outcome::Acknowledged(None),
        };
        each((outcome, true));
        start += length;
    }
}
