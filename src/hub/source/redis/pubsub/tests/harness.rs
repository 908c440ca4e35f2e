//! A `redis-server` of one's own, and a hub's bus with both threads on it.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    super::{PUBSUB_SOURCE, ReaderHandle, start_reader, start_writer},
    topic,
};
use crate::{
    bus::{self, Bus, ControlMessage, EventSink, Inbox, Notifier, Publication, Receipt, SourcePort, Wake},
    clock::Clock,
    event::Event,
    source::{
        SourceStatus,
        redis::{RedisConfig, RedisUrl, WriterHandle},
    },
};

/// Where a publication's answer comes out.
pub(super) type Answer = Receiver<Receipt>;

/// The longest any condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(10);

/// Pattern, channel, and whether Redis says that the one covers the other; a test asks it.
pub(super) const GLOBS: &[(&str, &str, bool)] = &[
    ("", "a", false),
    ("a", "a", true),
    ("a", "b", false),
    ("a", "ab", false),
    ("*", "anything.at:all/x", true),
    ("**", "ab", true),
    ("a.*", "a.b.c", true),
    ("a.*", "a.", true),
    ("a.*", "a", false),
    ("*.b", "a.b", true),
    ("*.b", "a.b.c", false),
    ("*a*b", "xaxbxb", true),
    ("*a*b", "xbxa", false),
    ("?", "a", true),
    ("a?c", "abc", true),
    ("a?c", "ac", false),
    ("[ab]c", "bc", true),
    ("[ab]c", "cc", false),
    ("[^ab]c", "cc", true),
    ("[^ab]c", "ac", false),
    ("[a-c]x", "bx", true),
    ("[c-a]x", "bx", true),
    ("[a-c]x", "dx", false),
    ("[a-", "-", true),
    ("[a-", "a", true),
    ("[a-]", "]", true),
    ("[ab", "b", true),
    ("[ab", "c", false),
    ("[]", "a", false),
    ("[^]", "a", true),
    ("[\\]]", "]", true),
    ("[\\^a]", "^", true),
    ("[\\a-c]", "b", false),
    ("\\*", "*", true),
    ("\\*", "a", false),
    ("\\a", "a", true),
    ("a\\", "a\\", true),
    ("a\\", "a", false),
    ("[", "a", false),
    ("[^", "a", true),
    ("a[", "a", false),
];

/// Waits until `is_so`.
pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::park_timeout(Duration::from_millis(2));
    }
}

/// A directory that goes with the test.
#[derive(Debug)]
pub(super) struct Scratch(pub(super) PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("fanfare-redis-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A running `redis-server`.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    options: Vec<String>,
    pub(super) scratch: Scratch,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::with(&[])
    }

    /// With more options than the usual.
    pub(super) fn with(options: &[&str]) -> Self {
        let scratch = Scratch::new();
        let port = free_port();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let mut server = Self { child: spawn(port, &options, &scratch.0), port, options, scratch };
        server.wait();
        server
    }

    pub(super) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.scratch.path("r.sock")
    }

    /// A connection of the test's own, through the Unix socket: it works whatever the ports speak.
    pub(super) fn client(&self) -> redis::Connection {
        let client = redis::Client::open(format!("unix://{}", self.socket().display())).expect("a good URL");
        client.get_connection().expect("the server runs")
    }

    /// How many connections received it.
    pub(super) fn publish(&self, channel: &str, payload: impl redis::ToRedisArgs) -> i64 {
        redis::cmd("PUBLISH").arg(channel).arg(payload).query(&mut self.client()).expect("a number")
    }

    pub(super) fn subscribers(&self, channel: &str) -> i64 {
        let command = || redis::cmd("PUBSUB").arg("NUMSUB").arg(channel).to_owned();
        let (_, count): (String, i64) = command().query(&mut self.client()).expect("a name and a number");
        count
    }

    /// As `kill -9` does it.
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Keeps every connection and answers nothing, until it goes on.
    pub(super) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(super) fn go_on(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    pub(super) fn restart(&mut self) {
        self.child = spawn(self.port, &self.options, &self.scratch.0);
        self.wait();
    }

    fn wait(&mut self) {
        let path = self.socket();
        wait_until("redis-server comes up", || {
            if let Some(status) = self.child.try_wait().expect("it is our child") {
                panic!("redis-server ended: {status}");
            }
            std::os::unix::net::UnixStream::connect(&path).is_ok()
        });
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, options: &[String], directory: &Path) -> Child {
    // A server that was killed leaves its socket behind.
    let _ = fs::remove_file(directory.join("r.sock"));
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .args(["--unixsocket", "r.sock", "--dir", "."])
        .args(options)
        .current_dir(directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server runs: apt-get install redis-server")
}

/// A port nobody listens on at present.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port");
    listener.local_addr().expect("a bound socket").port()
}

/// Settings that do not make a test wait.
pub(super) fn quick(url: &str) -> RedisConfig {
    RedisConfig {
        url: RedisUrl::parse(url).expect(url),
        linger: Duration::from_millis(50),
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        ping_interval: Duration::from_millis(200),
        ..RedisConfig::default()
    }
}

/// Wakes the test, which plays the reactor.
#[derive(Debug)]
struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(&self) {
        let _ = self.0.try_send(());
    }
}

/// A bus with one reactor, which is the test, and the source on it.
#[derive(Debug)]
pub(super) struct Hub {
    pub(super) bus: Arc<Bus>,
    pub(super) status: Arc<SourceStatus>,
    pub(super) clock: Clock,
    rung: Receiver<()>,
    reader: Option<ReaderHandle>,
    writer: Option<WriterHandle>,
}

impl Hub {
    /// A hub that does not wait for anything.
    pub(super) fn start(config: &RedisConfig) -> Self {
        Self::with_inbox(config, 100_000)
    }

    /// With an inbox that holds so many events.
    pub(super) fn with_inbox(config: &RedisConfig, events_max: usize) -> Self {
        let clock = Clock::start();
        let status = Arc::new(SourceStatus::new(PUBSUB_SOURCE));
        let (bell, rung) = bounded(1);
        let inbox = Inbox::new(events_max, Arc::new(Notifier::new(Arc::new(Bell(bell)))));
        let bus_config = bus::Config { payload_bytes_max: config.message_bytes_max, ..bus::Config::default() };
        let view = Arc::default();
        let writer =
            start_writer(config.clone(), clock, Arc::clone(&status), Arc::clone(&view)).expect("usable settings");
        let sink = Some(Box::new(writer.publisher()) as Box<_>);
        let port = SourcePort { name: PUBSUB_SOURCE, is_default: true, sink, log: None };
        let bus = Arc::new(Bus::new(bus_config, vec![inbox], vec![port]));
        let reader = start_reader(config.clone(), Arc::clone(&bus), clock, Arc::clone(&status), view, None, true);
        Self { bus, status, clock, rung, reader: Some(reader.expect("usable settings")), writer: Some(writer) }
    }

    /// A hub whose source is ready.
    pub(super) fn ready(config: &RedisConfig) -> Self {
        let hub = Self::start(config);
        hub.wait_ready();
        hub
    }

    pub(super) fn wait_ready(&self) {
        let mut reason = Ok(());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            reason = self.status.ready(self.clock.now());
            if reason.is_ok() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        panic!("never ready: {reason:?}");
    }

    /// Listens to `name` and waits until its source delivers.
    pub(super) fn listen(&self, name: &str) {
        let attachment = self.bus.attach(&topic(name), 0);
        if !attachment.live {
            self.wait_live(&attachment.state.key);
        }
    }

    pub(super) fn wait_live(&self, key: &bus::TopicKey) {
        self.wait_for("the topic becomes live", |inbox| {
            std::iter::from_fn(|| inbox.next_control())
                .find(|note| matches!(note, ControlMessage::Live(live) if live == key))
        });
    }

    /// The next event.
    pub(super) fn next(&self) -> Arc<Event> {
        loop {
            let event = self.wait_for("an event comes", Inbox::next_event).event;
            if event.gap.is_none() {
                return event;
            }
        }
    }

    /// The next `count` payloads.
    pub(super) fn payloads(&self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.next().text().to_owned()).collect()
    }

    /// Publishes through the writer and waits for the answer.
    pub(super) fn publish(&self, name: &str, kind: Option<&str>, data: &str) -> Receipt {
        let answer = publish(self.writer.as_ref().expect("not stopped"), name, kind, data);
        answer.recv_timeout(PATIENCE).expect("every publication is answered")
    }

    pub(super) fn writer(&self) -> &WriterHandle {
        self.writer.as_ref().expect("not stopped")
    }

    pub(super) fn stop_writer(&mut self) {
        self.writer.take().expect("not stopped").stop();
    }

    pub(super) fn stop_reader(&mut self) {
        self.reader.take().expect("not stopped").stop();
    }

    /// As a reactor waits: announces its sleep, looks once more, and sleeps.
    fn wait_for<T>(&self, what: &str, mut look: impl FnMut(&Inbox) -> Option<T>) -> T {
        let inbox = self.bus.inbox(0);
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(inbox) {
                return found;
            }
            inbox.notifier().prepare_park();
            let found = look(inbox);
            if found.is_none() {
                self.rung.recv_deadline(deadline).unwrap_or_else(|_| panic!("in vain: {what}"));
            }
            inbox.notifier().unpark();
            if let Some(found) = found {
                return found;
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.stop();
        }
        if let Some(writer) = self.writer.take() {
            writer.stop();
        }
    }
}

/// Hands a publication to `writer`; the answer comes through the channel.
pub(super) fn publish(writer: &WriterHandle, name: &str, kind: Option<&str>, data: &str) -> Answer {
    publish_through(&writer.publisher(), name, kind, data)
}

/// The same for a publisher that may have outlived its writer.
pub(super) fn publish_through(publisher: &dyn EventSink, name: &str, kind: Option<&str>, data: &str) -> Answer {
    let (answered, answer) = bounded(1);
    publisher.publish(Publication {
        topic: topic(name),
        kind: kind.map(Box::from),
        data: Bytes::copy_from_slice(data.as_bytes()),
        idempotency_key: None,
        bridged: None,
        reply: Box::new(move |result| {
            // A test that wants only some of the answers has gone on.
            let _ = answered.send(result);
        }),
    });
    answer
}
