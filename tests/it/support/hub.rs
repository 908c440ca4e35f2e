//! The hub as a process of its own.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::{Child, Command, ExitStatus, Stdio},
};

use fanfare_core::protocol::http::Method;
use serde_json::Value;
use socket2::Socket;

use super::{
    TIMEOUT,
    http::{HttpConnection, Response},
    send_signal, wait_until,
};

/// A hub that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Hub {
    child: Child,
    urls: Vec<String>,
}

impl Hub {
    /// With the defaults, on a port that the system chooses.
    pub(crate) fn start() -> Self {
        Self::start_with(&[], &[])
    }

    /// With further flags of `fanfare serve`, and settings such as `("sse.heartbeat", "1s")`.
    pub(crate) fn start_with(flags: &[&str], settings: &[(&str, &str)]) -> Self {
        Self::start_at("127.0.0.1:0", flags, settings)
    }

    /// At a chosen address, such as that of a hub that has ended.
    pub(crate) fn start_at(address: &str, flags: &[&str], settings: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["serve", "--listen", address]).args(flags);
        Self::spawn(command, settings)
    }

    /// With a command line of the caller's, for tests of `--listen` and of process limits.
    pub(crate) fn spawn(mut command: Command, settings: &[(&str, &str)]) -> Self {
        // A test that ends its hub need not spare its clients.
        command
            .env("FANFARE_LOG__LEVEL", "error")
            .env("FANFARE_DRAIN__WINDOW", "100ms")
            .env("FANFARE_DRAIN__DELAY", "0s");
        for (key, value) in settings {
            command.env(format!("FANFARE_{}", key.to_uppercase().replace('.', "__")), value);
        }
        Self::spawn_as_it_is(command)
    }

    /// With a command line and an environment of the caller's: variables override a file that is reloaded.
    pub(crate) fn spawn_as_it_is(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stdin(Stdio::null()).spawn().expect("the hub was just built");
        let stdout = child.stdout.take().expect("it was just asked for");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the hub says where it serves");
        let urls: Vec<String> = line.split_whitespace().skip(3).map(str::to_owned).collect();
        assert!(!urls.is_empty(), "the hub did not start; it said {line:?}, and ended with {:?}", child.wait());
        Self { child, urls }
    }

    /// The error of `command`, which must fail without starting a hub.
    #[track_caller]
    pub(crate) fn refusal(mut command: Command) -> String {
        let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the hub was just built");
        let stdout = child.stdout.take().expect("it was just asked for");
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).expect("the hub writes UTF-8");
        if !line.is_empty() {
            // The hub has started, and would run for ever.
            let _ = child.kill();
        }
        let output = child.wait_with_output().expect("it is our child");
        let said = String::from_utf8(output.stderr).expect("the hub writes UTF-8");
        assert_eq!((line.as_str(), output.status.code()), ("", Some(1)), "{said}");
        said
    }

    /// `http://host:port` or `unix:/path`, in the order of the flags, admin listeners last.
    pub(crate) fn url(&self, index: usize) -> &str {
        &self.urls[index]
    }

    /// `host:port` of the first address.
    pub(crate) fn address(&self) -> &str {
        self.urls[0].strip_prefix("http://").expect("the first address is a TCP port")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A new connection to the first address.
    pub(crate) fn connect(&self) -> Socket {
        self.connect_at(0)
    }

    /// A new connection to one of the addresses.
    pub(crate) fn connect_at(&self, index: usize) -> Socket {
        let url = self.url(index);
        let connected = match url.strip_prefix("unix:") {
            Some(path) => UnixStream::connect(path).map(Socket::from),
            None => TcpStream::connect(url.trim_start_matches("http://")).map(Socket::from),
        };
        let socket = connected.unwrap_or_else(|error| panic!("the hub should accept at {url}: {error}"));
        socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        socket
    }

    pub(crate) fn get(&self, target: &str) -> Response {
        HttpConnection::new(self.connect()).request(Method::Get, target, &[], b"")
    }

    pub(crate) fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Response {
        HttpConnection::new(self.connect()).request(Method::Post, target, &[], body.as_ref())
    }

    /// Publishes, and returns the event's id.
    #[track_caller]
    pub(crate) fn publish(&self, topic: &str, payload: impl AsRef<[u8]>) -> String {
        let response = self.post(&format!("/publish/{topic}"), payload);
        assert_eq!(response.status, 200, "{}", response.text());
        response.json()["id"].as_str().expect("an embedded hub gives ids").to_owned()
    }

    pub(crate) fn stats(&self) -> Value {
        self.get("/stats").json()
    }

    /// One series of `/metrics`, labels and all, such as `fanfare_connections{transport="sse"}`.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> f64 {
        let text = self.get("/metrics").text();
        let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{series} is not in\n{text}"))
    }

    /// Waits until `topic` has `count` subscribers. An unknown topic has none: the hub forgets a topic soon after its subscribers
    /// left.
    #[track_caller]
    pub(crate) fn wait_for_listeners(&self, topic: &str, count: u64) {
        let what = format!("{count} listeners of {topic}");
        wait_until(&what, || (self.listeners(topic).unwrap_or(0) == count).then_some(()));
    }

    /// The number of subscribers of `topic`, if the hub knows it.
    pub(crate) fn listeners(&self, topic: &str) -> Option<u64> {
        let described = self.get(&format!("/topics/{topic}"));
        (described.status == 200).then(|| described.json()["listeners"].as_u64())?
    }

    /// Terminates the hub, and waits until it has ended.
    pub(crate) fn terminate(self) -> ExitStatus {
        send_signal("TERM", self.pid());
        self.wait()
    }

    /// Terminates the hub, and waits until it accepts no more connections.
    pub(crate) fn drain(self) -> Self {
        send_signal("TERM", self.pid());
        wait_until("the hub stops listening", || TcpStream::connect(self.address()).is_err().then_some(()));
        self
    }

    /// Waits until the hub has ended.
    pub(crate) fn wait(mut self) -> ExitStatus {
        wait_until("the hub ends", || self.child.try_wait().expect("it is our child"))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
