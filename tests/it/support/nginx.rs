//! A real nginx with the configuration that the project recommends.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use socket2::Socket;

use super::{Folder, PATIENCE, redis::free_port, send_signal, wait_until};

/// Not 127.0.0.1, for the reason that a Redis has its own.
const HOST: &str = "127.0.0.2";

/// What the configuration says about the machine it is made for, which is not the one of a test.
const HUBS: [&str; 2] = ["server 127.0.0.1:8080 ", "server 127.0.0.1:8081 "];

/// An nginx that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    child: Child,
    port: u16,
    folder: Folder,
}

impl Nginx {
    /// With `scripts/deploy/nginx.conf`, in front of one or two hubs, each a `host:port`.
    pub(crate) fn start(hubs: &[&str]) -> Self {
        let (folder, port) = (Folder::new(), free_port());
        let text = adapt(include_str!("../../../scripts/deploy/nginx.conf"), &folder, port, hubs);
        let path = folder.path("nginx.conf");
        fs::write(&path, text).expect("the folder is ours");
        let mut command = Command::new("nginx");
        command.args(["-p", &folder.path(""), "-c", &path, "-e", &folder.path("error.log"), "-g", "daemon off;"]);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child =
            started.unwrap_or_else(|error| panic!("cannot run nginx: {error}; install it: apt-get install nginx"));
        let mut nginx = Self { child, port, folder };
        wait_until("nginx accepts", || {
            let ended = nginx.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "nginx ended: {}", nginx.log("error.log"));
            TcpStream::connect((HOST, port)).ok()
        });
        nginx
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("{HOST}:{}", self.port)
    }

    /// `http://host:port`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// A new connection to it.
    pub(crate) fn connect(&self) -> Socket {
        let socket = Socket::from(TcpStream::connect(self.address()).expect("nginx should accept"));
        socket.set_read_timeout(Some(PATIENCE)).expect("the time is not zero");
        socket
    }

    /// One of its logs, `access.log` or `error.log`, as far as it is written.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Killed, it would leave its workers behind; asked to, it ends them first.
        if matches!(self.child.try_wait(), Ok(None)) {
            send_signal("TERM", self.child.id());
        }
        let _ = self.child.wait();
    }
}

/// Other addresses and other folders, nothing else.
fn adapt(text: &str, folder: &Folder, port: u16, hubs: &[&str]) -> String {
    let mut text = text.to_owned();
    replace(&mut text, "listen 80;", &format!("listen {HOST}:{port};"));
    replace(&mut text, "/run/nginx.pid", &folder.path("nginx.pid"));
    replace(&mut text, "/var/log/nginx/error.log", &folder.path("error.log"));
    replace(&mut text, "/var/log/nginx/access.log", &folder.path("access.log"));
    for (place, known) in HUBS.iter().enumerate() {
        match hubs.get(place) {
            Some(hub) => replace(&mut text, known, &format!("server {hub} ")),
            None => replace(&mut text, known, "# "),
        }
    }
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = kinds.map(|kind| format!("{kind}_temp_path {};", folder.path(kind))).join(" ");
    replace(&mut text, "http {", &format!("http {{ {folders}"));
    text
}

fn replace(text: &mut String, known: &str, new: &str) {
    assert_eq!(text.matches(known).count(), 1, "{known:?} should stand once in nginx.conf");
    *text = text.replace(known, new);
}
