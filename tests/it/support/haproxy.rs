//! A real HAProxy with the configuration that the project recommends.

use std::{
    fs,
    fs::File,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use socket2::Socket;

use super::{
    Folder, TIMEOUT,
    nginx::{HOST, make_certificate, replace},
    redis::free_port,
    wait_until,
};

const RECIPE: &str = include_str!("../../../scripts/deploy/haproxy.cfg");

/// A HAProxy that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Haproxy {
    child: Child,
    /// The first address has TLS. The second one, without TLS, redirects to it, unless there is no TLS at all.
    ports: [u16; 2],
    folder: Folder,
}

impl Haproxy {
    /// With the configuration recommended for a private network, without TLS, in front of `hubs`, each a `host:port`. Readiness is
    /// checked more often, so that tests need not wait.
    pub(crate) fn start(hubs: &[&str]) -> Self {
        Self::launch(hubs, &|text, [port, _], _| {
            let tls: String = text.lines().filter(|line| line.starts_with("    bind :443")).collect();
            replace(text, &tls, "");
            replace(text, "    http-request redirect scheme https code 308 unless { ssl_fc }", "");
            replace(text, "bind :80", &format!("bind {HOST}:{port}"));
        })
    }

    /// With the recommended configuration, and a certificate made for the test.
    pub(crate) fn start_tls(hubs: &[&str]) -> Self {
        Self::launch(hubs, &|text, [port, plain_port], folder| {
            make_certificate(folder);
            let [certificate, key] = ["hub.pem", "hub.key"].map(|name| {
                fs::read_to_string(folder.path(name)).expect("it was just made") //
            });
            fs::write(folder.path("both.pem"), certificate + &key).expect("the folder is ours");
            replace(text, "bind :80", &format!("bind {HOST}:{plain_port}"));
            replace(text, "bind :443", &format!("bind {HOST}:{port}"));
            replace(text, "/etc/ssl/hub-and-key.pem", &folder.path("both.pem"));
        })
    }

    fn launch(hubs: &[&str], listen: &dyn Fn(&mut String, [u16; 2], &Folder)) -> Self {
        let (folder, ports) = (Folder::new(), [free_port(), free_port()]);
        let mut text = RECIPE.to_owned();
        listen(&mut text, ports, &folder);
        // The limits of this machine are lower than those that a production proxy needs.
        replace(&mut text, "maxconn 65536", "maxconn 500");
        replace(&mut text, "inter 1s", "inter 100ms");
        for tracks in [false, true] {
            let row = |name: &str, address: &str| match tracks {
                false => format!("    server {name} {address}\n"),
                true => format!("    server {name} {address} track hubs/{name}\n"),
            };
            let known = row("hub1", "127.0.0.1:8080") + &row("hub2", "127.0.0.1:8081");
            let ours: String = hubs.iter().enumerate().map(|(index, hub)| row(&format!("hub{index}"), hub)).collect();
            replace(&mut text, &known, &ours);
        }
        let path = folder.path("haproxy.cfg");
        fs::write(&path, text).expect("the folder is ours");
        let log = File::create(folder.path("log")).expect("the folder is ours");
        let errors = log.try_clone().expect("a descriptor is left");
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f", &path]).stdin(Stdio::null()).stdout(log).stderr(errors);
        let child = command.spawn();
        let child =
            child.unwrap_or_else(|error| panic!("cannot run haproxy: {error}; install it: apt-get install haproxy"));
        let mut haproxy = Self { child, ports, folder };
        wait_until("HAProxy accepts", || {
            let ended = haproxy.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "HAProxy ended: {}", haproxy.log());
            TcpStream::connect((HOST, haproxy.ports[0])).ok()
        });
        haproxy
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("{HOST}:{}", self.ports[0])
    }

    /// The address that redirects.
    pub(crate) fn plain_url(&self) -> String {
        format!("http://{HOST}:{}", self.ports[1])
    }

    /// The certificate that a client has to trust.
    pub(crate) fn certificate(&self) -> String {
        self.folder.path("hub.pem")
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> Socket {
        let socket = Socket::from(TcpStream::connect(self.address()).expect("HAProxy should accept"));
        socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        socket
    }

    /// The log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.path("log")).unwrap_or_default()
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
