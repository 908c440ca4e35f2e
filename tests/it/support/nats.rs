//! A NATS server for a test, and clients that use the hub's codec.

use std::{
    collections::HashMap,
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use fanfare_core::protocol::{
    http::Method,
    nats::{
        ConnectOptions, NatsLimits, NatsLogin, Operation, PING, PONG, Subject, SubjectPattern, parse, write_connect,
        write_publish, write_publish_with_headers, write_subscribe,
    },
};
use serde_json::Value;
use socket2::Socket;

use super::{
    Folder, TIMEOUT,
    http::HttpConnection,
    redis::{HOST, free_port, make_certificate},
    send_signal, wait_until,
};

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct NatsServer {
    child: Child,
    port: u16,
    monitor: u16,
    folder: Folder,
}

/// Three servers with JetStream that are one cluster.
#[derive(Debug)]
pub(crate) struct NatsCluster(Vec<NatsServer>);

/// A client of the server besides the hub.
pub(crate) struct NatsClient {
    socket: TcpStream,
}

impl NatsServer {
    pub(crate) fn start() -> Self {
        Self::start_with("")
    }

    /// With further lines of its configuration file.
    pub(crate) fn start_with(lines: &str) -> Self {
        Self::start_at(free_port(), lines)
    }

    /// A cluster of two servers.
    pub(crate) fn start_pair() -> [Self; 2] {
        let routes = [free_port(), free_port()];
        let start = |own: usize| {
            let (listen, other) = (routes[own], routes[1 - own]);
            Self::start_with(&format!(
                "server_name: s{own}\ncluster {{ name: c; listen: \"{HOST}:{listen}\"; routes: [\"nats://{HOST}:{other}\"] }}"
            ))
        };
        let pair = [start(0), start(1)];
        for server in &pair {
            wait_until("the servers know each other", || {
                (server.monitored("/routez")["num_routes"] != 0).then_some(())
            });
        }
        pair
    }

    /// At a port chosen before, by [`free_port`].
    pub(crate) fn start_at(port: u16, lines: &str) -> Self {
        let (monitor, folder) = (free_port(), Folder::new());
        write_configuration(&folder, port, monitor, lines);
        let server = Self { child: spawn(&folder), port, monitor, folder };
        server.wait_until_listening();
        server
    }

    /// With JetStream, whose streams are in its folder.
    pub(crate) fn start_with_jetstream() -> Self {
        Self::start_with_jetstream_and("")
    }

    /// The same with further lines of its configuration file.
    pub(crate) fn start_with_jetstream_and(lines: &str) -> Self {
        let (port, monitor, folder) = (free_port(), free_port(), Folder::new());
        let server = Self { child: spawn_with_jetstream(&folder, port, monitor, lines), port, monitor, folder };
        server.wait_until_listening();
        wait_until("JetStream is there", || server.monitored("/jsz")["config"].is_object().then_some(()));
        server
    }

    /// Replaces the further lines of a server with JetStream, and has it read them.
    pub(crate) fn reload_jetstream(&self, lines: &str) {
        let lines = format!("jetstream {{ store_dir: \"{}\" }}\n{lines}", self.folder.path("streams"));
        self.reload(&lines);
    }

    /// Asks the API of JetStream; the answer, which is JSON.
    pub(crate) fn request(&self, subject: &str, payload: &str) -> Value {
        self.request_within(TIMEOUT, subject, payload).expect("the server answers")
    }

    /// The same; `None` if there is no answer for so long. A cluster that has no leader yet drops what it is asked.
    fn request_within(&self, timeout: Duration, subject: &str, payload: &str) -> Option<Value> {
        let mut socket = TcpStream::connect((HOST, self.port)).expect("the server listens");
        socket.set_read_timeout(Some(timeout)).expect("the time is not zero");
        socket.set_nodelay(true).expect("it is a TCP socket");
        let mut out = Vec::new();
        write_connect(&ConnectOptions::default(), &mut out);
        write_subscribe(&SubjectPattern::parse("_INBOX.test").expect("a subject"), None, 1, &mut out);
        let (asked, reply) = (Subject::parse(subject), Subject::parse("_INBOX.test"));
        let (asked, reply) = (asked.expect("the test's subject is one"), reply.expect("a subject"));
        write_publish(&asked, Some(&reply), payload.as_bytes(), &mut out);
        socket.write_all(&out).expect("the server reads");
        let (mut held, mut answer) = (Vec::new(), None);
        while answer.is_none() {
            let mut take = |_: &str, headers: Option<&[u8]>, payload: &[u8]| {
                let nobody = || serde_json::json!({ "error": { "code": 503 } });
                answer =
                    Some(if headers.is_some() { nobody() } else { serde_json::from_slice(payload).expect("JSON") });
            };
            receive(&mut socket, &mut held, &mut take)?;
        }
        answer
    }

    /// A server with a certificate of its own authority for its address, in `nats.pem` and `nats.key` of its folder; `lines` are
    /// further ones of the block `tls`.
    pub(crate) fn start_with_tls(lines: &str) -> Self {
        let (port, monitor, folder) = (free_port(), free_port(), Folder::new());
        ["nats", "client"].iter().for_each(|name| make_certificate(&folder, name));
        let [certificate, key, client] = ["nats.pem", "nats.key", "client.pem"].map(|name| folder.path(name));
        let block =
            format!("tls {{ cert_file: \"{certificate}\", key_file: \"{key}\", ca_file: \"{client}\"; {lines} }}");
        write_configuration(&folder, port, monitor, &block);
        let server = Self { child: spawn(&folder), port, monitor, folder };
        server.wait_until_listening();
        server
    }

    /// The path of a file in its folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.path(name)
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Replaces the further lines of its configuration, and reloads it.
    pub(crate) fn reload(&self, lines: &str) {
        write_configuration(&self.folder, self.port, self.monitor, lines);
        send_signal("HUP", self.child.id());
    }

    /// Kills the server, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Starts the server again at the same port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder);
        self.wait_until_listening();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the process (SIGSTOP), as if its machine had failed.
    pub(crate) fn freeze(&self) {
        send_signal("STOP", self.child.id());
    }

    pub(crate) fn thaw(&self) {
        send_signal("CONT", self.child.id());
    }

    /// The subjects to which hubs are subscribed, without their inboxes and hub commands.
    pub(crate) fn subjects(&self) -> Vec<String> {
        let answer = self.monitored("/connz?subs=1");
        let connections = answer["connections"].as_array().into_iter().flatten();
        let of_hubs = connections.filter(|connection| connection["name"] == "fanfare");
        let all = of_hubs.flat_map(|hub| hub["subscriptions_list"].as_array().into_iter().flatten());
        let names = all
            .filter_map(Value::as_str)
            .filter(|subject| !subject.starts_with("_INBOX.") && !subject.starts_with("fanfare.orders."));
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        names.sort();
        names
    }

    /// Waits until the hubs are subscribed to exactly these subjects.
    #[track_caller]
    pub(crate) fn wait_for_subjects(&self, expected: &[&str]) {
        wait_until(&format!("the subjects {expected:?} at NATS"), || (self.subjects() == expected).then_some(()));
    }

    /// How many connections it has closed because they were slow.
    pub(crate) fn slow_consumers(&self) -> u64 {
        self.monitored("/varz")["slow_consumers"].as_u64().expect("a count")
    }

    /// What its monitor says.
    fn monitored(&self, target: &str) -> Value {
        let socket = Socket::from(TcpStream::connect((HOST, self.monitor)).expect("the monitor listens"));
        HttpConnection::new(socket).request(Method::Get, target, &[], b"").json()
    }

    fn wait_until_listening(&self) {
        wait_until("the NATS server listens", || TcpStream::connect((HOST, self.port)).ok());
        wait_until("its monitor listens", || TcpStream::connect((HOST, self.monitor)).ok());
    }

    /// A client that logs in as this user, if there is a name.
    pub(crate) fn client_as(&self, user: &str, password: &str) -> NatsClient {
        let login = NatsLogin::User { user: user.into(), password: password.into() };
        let mut socket = TcpStream::connect((HOST, self.port)).expect("the server listens");
        socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        socket.set_nodelay(true).expect("it is a TCP socket");
        let mut out = Vec::new();
        let login = (!user.is_empty()).then_some(&login);
        write_connect(&ConnectOptions { login, ..ConnectOptions::default() }, &mut out);
        socket.write_all(&out).expect("the server reads");
        let mut client = NatsClient { socket };
        client.flush();
        client
    }

    pub(crate) fn client(&self) -> NatsClient {
        self.client_as("", "")
    }

    /// Publishes, and waits until the server has processed it.
    pub(crate) fn publish(&self, subject: &str, payload: impl AsRef<[u8]>) {
        self.client().publish(subject, payload);
    }

    /// Its URL with a login, such as `user:password@`.
    pub(crate) fn url_as(&self, login: &str) -> String {
        format!("nats://{login}{HOST}:{}", self.port)
    }

    /// Subscribes, and calls `each` with the subject, the headers and the payload of every message, on a thread that ends
    /// with the server.
    pub(crate) fn subscribe(&self, pattern: &str, mut each: impl FnMut(&str, Option<&[u8]>, &[u8]) + Send + 'static) {
        let mut socket = TcpStream::connect((HOST, self.port)).expect("the server listens");
        socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        socket.set_nodelay(true).expect("it is a TCP socket");
        let mut out = Vec::new();
        write_connect(&ConnectOptions::default(), &mut out);
        write_subscribe(&SubjectPattern::parse(pattern).expect("the test's pattern is one"), None, 1, &mut out);
        out.extend_from_slice(PING);
        socket.write_all(&out).expect("the server reads");
        let (mut held, mut is_subscribed) = (Vec::new(), false);
        while !is_subscribed {
            is_subscribed = receive(&mut socket, &mut held, &mut each).expect("the server answers");
        }
        thread::spawn(move || while receive(&mut socket, &mut held, &mut each).is_some() {});
    }
}

impl NatsCluster {
    pub(crate) fn start() -> Self {
        let routes = [0; 3].map(|_| free_port());
        let urls = routes.map(|port| format!("\"nats://{HOST}:{port}\"")).join(", ");
        let start = |own: usize| {
            let (port, monitor, folder) = (free_port(), free_port(), Folder::new());
            let lines = format!(
                "server_name: s{own}\njetstream {{ store_dir: \"{}\" }}\n\
                 cluster {{ name: c; listen: \"{HOST}:{}\"; routes: [{urls}] }}",
                folder.path("streams"),
                routes[own]
            );
            write_configuration(&folder, port, monitor, &lines);
            NatsServer { child: spawn(&folder), port, monitor, folder }
        };
        Self::of((0..3).map(start).collect())
    }

    /// With these servers, once they are one cluster with a leader.
    fn of(servers: Vec<NatsServer>) -> Self {
        servers.iter().for_each(NatsServer::wait_until_listening);
        for server in &servers {
            wait_until("the cluster has a leader", || {
                let meta = &server.monitored("/jsz")["meta_cluster"];
                (meta["leader"].is_string() && meta["cluster_size"] == 3).then_some(())
            });
        }
        wait_until("JetStream answers", || {
            let info = servers[0].request_within(Duration::from_secs(1), "$JS.API.INFO", "")?;
            info["error"].is_null().then_some(())
        });
        Self(servers)
    }

    /// Servers with these command lines, in which names of another network stand: those of the servers, and the ports and the
    /// folder that all of them use.
    pub(crate) fn start_as(servers: &[(&str, Vec<String>)]) -> Self {
        let routes: Vec<String> = servers.iter().map(|_| format!("nats://{HOST}:{}", free_port())).collect();
        let start = |(index, (name, line)): (usize, &(&str, Vec<String>))| {
            let (port, monitor, folder) = (free_port(), free_port(), Folder::new());
            let own = [("4222", port.to_string()), ("8222", monitor.to_string()), ("/data", folder.path("streams"))];
            let own = own.into_iter().chain([("nats://0.0.0.0:6222", routes[index].clone()), ("0.0.0.0", HOST.into())]);
            let own: HashMap<&str, String> = own.collect();
            let words = line.iter().map(|word| {
                let others = servers.iter().zip(&routes);
                let word = own.get(word.as_str()).cloned().unwrap_or_else(|| word.clone());
                others.fold(word, |word, ((name, _), route)| word.replace(&format!("nats://{name}:6222"), route))
            });
            let words: Vec<String> = words.collect();
            assert_eq!(words[..3], ["nats-server", "--name", name]);
            NatsServer { child: spawn_with(&words[1..]), port, monitor, folder }
        };
        Self::of(servers.iter().enumerate().map(start).collect())
    }

    /// The URLs of all servers.
    pub(crate) fn urls(&self) -> String {
        self.0.iter().map(|server| server.url_as("")).collect::<Vec<_>>().join(",")
    }

    /// Asks the API of JetStream at a server that is there.
    pub(crate) fn request(&self, subject: &str, payload: &str) -> Value {
        self.0[0].request(subject, payload)
    }

    /// Kills the server that leads `stream`.
    pub(crate) fn kill_leader(&mut self, stream: &str) {
        let info = self.request(&format!("$JS.API.STREAM.INFO.{stream}"), "");
        let leader = info["cluster"]["leader"].as_str().expect("the stream has a leader");
        let index: usize = leader.trim_start_matches('s').parse().expect("a name of ours");
        drop(self.0.remove(index));
    }
}

impl NatsClient {
    /// Publishes, and waits until the server has processed it.
    pub(crate) fn publish(&mut self, subject: &str, payload: impl AsRef<[u8]>) {
        self.publish_all(subject, [payload]);
    }

    /// Publishes in one piece, and waits until the server has processed everything.
    pub(crate) fn publish_all(&mut self, subject: &str, payloads: impl IntoIterator<Item = impl AsRef<[u8]>>) {
        let subject = Subject::parse(subject).expect("the test's subject is one");
        let mut out = Vec::new();
        payloads.into_iter().for_each(|payload| write_publish(&subject, None, payload.as_ref(), &mut out));
        self.socket.write_all(&out).expect("the server reads");
        self.flush();
    }

    /// The same with headers.
    pub(crate) fn publish_with(&mut self, subject: &str, headers: &[(&str, &str)], payload: impl AsRef<[u8]>) {
        let subject = Subject::parse(subject).expect("the test's subject is one");
        let mut out = Vec::new();
        write_publish_with_headers(&subject, None, headers, payload.as_ref(), &mut out);
        self.socket.write_all(&out).expect("the server reads");
        self.flush();
    }

    /// Sends these bytes, and waits until the server has processed them.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the server reads");
        self.flush();
    }

    fn flush(&mut self) {
        self.socket.write_all(PING).expect("the server reads");
        let mut held = Vec::new();
        while !receive(&mut self.socket, &mut held, &mut |_, _, _| {}).expect("the server answers") {}
    }
}

fn write_configuration(folder: &Folder, port: u16, monitor: u16, lines: &str) {
    let fixed = format!("host: {HOST}\nport: {port}\nhttp: \"{HOST}:{monitor}\"\n");
    fs::write(folder.path("nats.conf"), format!("{fixed}{lines}\n")).expect("the folder is writable");
}

/// A server with JetStream, whose streams are in `folder`.
fn spawn_with_jetstream(folder: &Folder, port: u16, monitor: u16, lines: &str) -> Child {
    let lines = format!("jetstream {{ store_dir: \"{}\" }}\n{lines}", folder.path("streams"));
    write_configuration(folder, port, monitor, &lines);
    spawn(folder)
}

/// The variable that names another NATS server than Debian's.
const PROGRAM: &str = "FANFARE_NATS_SERVER";

fn spawn(folder: &Folder) -> Child {
    spawn_with(&["-c".to_owned(), folder.path("nats.conf")])
}

fn spawn_with(arguments: &[String]) -> Child {
    let program = env::var(PROGRAM).unwrap_or_else(|_| "nats-server".to_owned());
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run nats-server: {error}; install it: apt-get install nats-server"))
}

/// Reads once; whether a `PONG` came, `None` at the end of the connection.
fn receive(
    socket: &mut TcpStream,
    held: &mut Vec<u8>,
    each: &mut impl FnMut(&str, Option<&[u8]>, &[u8]),
) -> Option<bool> {
    let mut buffer = [0; 16 * 1024];
    let count = socket.read(&mut buffer).ok().filter(|count| 0 < *count)?;
    held.extend_from_slice(&buffer[..count]);
    let mut is_answered = false;
    while let Some((operation, length)) = parse(held, &NatsLimits::default()).expect("the server keeps to the protocol")
    {
        match operation {
            Operation::Message(message) => {
                let subject = std::str::from_utf8(message.subject).expect("the test's subjects are text");
                each(subject, message.headers, message.payload);
            }
            Operation::Ping => socket.write_all(PONG).ok()?,
            Operation::Pong => is_answered = true,
            Operation::Error(reason) => panic!("the server refuses the subscriber: {reason}"),
            Operation::Info(_) | Operation::Ok => {}
        }
        held.drain(..length);
    }
    Some(is_answered)
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
