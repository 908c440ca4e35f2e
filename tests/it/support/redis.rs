//! A Redis server for a test.

use std::{
    io::{Read, Write},
    net::TcpListener,
    os::unix::net::UnixStream,
    process::{Child, Command, Stdio},
};

use redis::{Connection, FromRedisValue};

use super::{Folder, run_program, stdout_of, wait_until};

/// Not 127.0.0.1: the port must be free again after the server was killed, and outgoing connections take their ports
/// from that address.
pub(crate) const HOST: &str = "127.0.0.2";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    folder: Folder,
    options: Vec<String>,
    program: String,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further options, such as `["--requirepass", "secret"]`.
    pub(crate) fn start_with(options: &[&str]) -> Self {
        Self::launch(free_port(), options)
    }

    /// With a program other than Debian's `redis-server`.
    pub(crate) fn start_program(program: &str) -> Self {
        Self::launch_program(program, free_port(), &[])
    }

    /// A replica of `master` that has completed its first synchronization.
    pub(crate) fn start_replica_of(master: &Self, options: &[&str]) -> Self {
        let port = master.port.to_string();
        let mut all = vec!["--replicaof", HOST, &port];
        all.extend_from_slice(options);
        let replica = Self::start_with(&all);
        replica.wait_until_attached();
        replica
    }

    /// Waits until its master feeds it.
    #[track_caller]
    pub(crate) fn wait_until_attached(&self) {
        wait_until("the replica has its master", || {
            let replication: String = self.command(&["INFO", "replication"]);
            replication.contains("master_link_status:up").then_some(())
        });
    }

    /// At a port chosen before, by [`free_port`].
    pub(crate) fn start_at(port: u16) -> Self {
        Self::launch(port, &[])
    }

    /// At a free port, with options that may name further ports. A port that was free may be somebody else's by the time the server
    /// takes it; then it ends, and another one begins with other ports.
    pub(crate) fn start_among_many(options: impl Fn() -> Vec<String>) -> Self {
        for _ in 0..10 {
            let (port, folder, options) = (free_port(), Folder::new(), options());
            let child = spawn("redis-server", port, &folder, &options);
            let mut server = Self { child, port, folder, options, program: "redis-server".to_owned() };
            let is_ready = wait_until("Redis is ready, or has ended", || {
                let has_ended = server.child.try_wait().expect("it is our child").is_some();
                if has_ended { Some(false) } else { server.is_ready().then_some(true) }
            });
            if is_ready {
                return server;
            }
        }
        panic!("no Redis server found its ports free");
    }

    fn launch(port: u16, options: &[&str]) -> Self {
        Self::launch_program("redis-server", port, options)
    }

    fn launch_program(program: &str, port: u16, options: &[&str]) -> Self {
        let folder = Folder::new();
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let child = spawn(program, port, &folder, &options);
        let server = Self { child, port, folder, options, program: program.to_owned() };
        server.wait_until_ready();
        server
    }

    /// The server's URL, without a login.
    pub(crate) fn url(&self) -> String {
        self.url_as("")
    }

    /// The server's URL with a login, such as `user:password@`.
    pub(crate) fn url_as(&self, login: &str) -> String {
        format!("redis://{login}{HOST}:{}", self.port)
    }

    pub(crate) fn host(&self) -> &'static str {
        HOST
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The path of its unix socket.
    pub(crate) fn socket_path(&self) -> String {
        self.folder.path("redis.sock")
    }

    /// A connection to give commands on.
    pub(crate) fn connect(&self) -> Connection {
        let client = redis::Client::open(format!("unix://{}", self.socket_path())).expect("the URL is well-formed");
        wait_until("Redis accepts", || client.get_connection().ok())
    }

    /// Runs one command.
    #[track_caller]
    pub(crate) fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.query(&mut self.connect()).expect("Redis takes the command")
    }

    /// The channels that have subscribers.
    pub(crate) fn channels(&self) -> Vec<String> {
        let mut channels: Vec<String> = self.command(&["PUBSUB", "CHANNELS"]);
        channels.sort();
        channels
    }

    /// Waits until exactly these channels are subscribed to.
    #[track_caller]
    pub(crate) fn wait_for_channels(&self, expected: &[&str]) {
        let what = format!("the channels {expected:?} at Redis");
        wait_until(&what, || (self.channels() == expected).then_some(()));
    }

    /// Kills the server, as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is our child");
        self.child.wait().expect("it is our child");
    }

    /// Starts the server again at the same port.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.program, self.port, &self.folder, &self.options);
        self.wait_until_ready();
    }

    fn wait_until_ready(&self) {
        wait_until("Redis is ready", || self.is_ready().then_some(()));
    }

    fn is_ready(&self) -> bool {
        let ask = || {
            let mut socket = UnixStream::connect(self.socket_path()).ok()?;
            socket.write_all(b"PING\r\n").ok()?;
            let mut answer = [0; 5];
            socket.read_exact(&mut answer).ok()?;
            Some(answer)
        };
        // A server that requires a password is ready as well.
        matches!(ask().as_ref(), Some(b"+PONG" | b"-NOAU"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        // The process may have been killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that also has a port with TLS.
pub(crate) struct TlsRedis {
    /// The server; its other port is without TLS.
    pub(crate) plain: RedisServer,
    port: u16,
    folder: Folder,
}

impl TlsRedis {
    /// With further options, as [`RedisServer::start_with`].
    pub(crate) fn start(options: &[&str]) -> Self {
        let folder = Folder::new();
        ["redis", "other"].iter().for_each(|name| make_certificate(&folder, name));
        let (port, [certificate, key]) =
            (free_port(), ["pem", "key"].map(|kind| folder.path(&format!("redis.{kind}"))));
        let tls_port = port.to_string();
        let own = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
        let more = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
        let plain = RedisServer::start_with(&[&own[..], &more, options].concat());
        Self { plain, port, folder }
    }

    /// The URL of the port with TLS, with a login such as `:secret@`.
    pub(crate) fn url(&self, login: &str) -> String {
        format!("rediss://{login}{HOST}:{}", self.port)
    }

    /// The file with the certificate that a client has to trust.
    pub(crate) fn certificate(&self) -> String {
        self.folder.path("redis.pem")
    }

    /// The same of another server.
    pub(crate) fn other_certificate(&self) -> String {
        self.folder.path("other.pem")
    }
}

/// Makes `NAME.pem` and `NAME.key`: a self-signed certificate for the address of the tests' servers, and its key.
pub(crate) fn make_certificate(folder: &Folder, name: &str) {
    let (certificate, key) = (folder.path(&format!("{name}.pem")), folder.path(&format!("{name}.key")));
    let fixed = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=redis -addext basicConstraints=critical,CA:FALSE";
    let alternative = format!("subjectAltName=IP:{HOST}");
    let arguments: Vec<&str> =
        fixed.split(' ').chain(["-addext", &alternative, "-keyout", &key, "-out", &certificate]).collect();
    stdout_of(&run_program("openssl", "openssl", &arguments));
}

/// A free port, for a server that is to be started later.
pub(crate) fn free_port() -> u16 {
    free_port_at(HOST)
}

/// The same at another address of the loopback network.
pub(crate) fn free_port_at(host: &str) -> u16 {
    let listener = TcpListener::bind((host, 0)).expect("the loopback network has more than one address");
    listener.local_addr().expect("it is bound").port()
}

/// `host:port` of a free port, for a server that is to be started later, or again.
pub(crate) fn free_address() -> String {
    format!("{HOST}:{}", free_port())
}

fn spawn(program: &str, port: u16, folder: &Folder, options: &[String]) -> Child {
    let (port, socket) = (port.to_string(), folder.path("redis.sock"));
    let fixed = ["--bind", HOST, "--port", &port, "--unixsocket", &socket, "--save", "", "--appendonly", "no"];
    let mut command = Command::new(program);
    command.args(fixed).args(["--dir", &folder.path("")]).args(options).stdin(Stdio::null()).stdout(Stdio::null());
    command
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {program}: {error}; install it: apt-get install redis-server"))
}
