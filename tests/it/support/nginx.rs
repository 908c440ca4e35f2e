//! A real nginx with the configuration that the project recommends.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use socket2::Socket;

use super::{Folder, TIMEOUT, redis::free_port, run_program, send_signal, stdout_of, wait_until};

/// Not 127.0.0.1, for the same reason as with Redis.
pub(super) const HOST: &str = "127.0.0.2";

/// Parts of the configuration that only fit a production machine.
const HUBS: [&str; 2] = ["server 127.0.0.1:8080 ", "server 127.0.0.1:8081 "];

/// What `scripts/deploy` has: the two whole configurations, and what they include.
const PLAIN: &str = include_str!("../../../scripts/deploy/nginx.conf");
const TLS: &str = include_str!("../../../scripts/deploy/nginx-tls.conf");
const PARTS: [(&str, &str); 2] = [
    ("fanfare-hubs.conf", include_str!("../../../scripts/deploy/fanfare-hubs.conf")),
    ("fanfare-doors.conf", include_str!("../../../scripts/deploy/fanfare-doors.conf")),
];

/// An nginx that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    child: Child,
    /// The first address serves; the second one redirects clients without TLS.
    ports: [u16; 2],
    tls: bool,
    folder: Folder,
}

impl Nginx {
    /// With `scripts/deploy/nginx.conf`, in front of one or several hubs, each a `host:port`.
    pub(crate) fn start(hubs: &[&str]) -> Self {
        Self::deploy(PLAIN, hubs, &|[port, _]| vec![("listen 80;", format!("listen {HOST}:{port};"))])
    }

    /// With `scripts/deploy/nginx-tls.conf`, and a certificate of the test's own.
    pub(crate) fn start_tls(hubs: &[&str]) -> Self {
        Self::deploy(TLS, hubs, &|[port, plain_port]| {
            vec![
                ("listen 80;", format!("listen {HOST}:{plain_port};")),
                ("listen 443 ssl http2;", format!("listen {HOST}:{port} ssl http2;")),
                ("/etc/ssl/hub.pem", "hub.pem".to_owned()),
                ("/etc/ssl/private/hub.key", "hub.key".to_owned()),
            ]
        })
    }

    /// With a part of another configuration, in which each `from` is replaced by its `to`. The part has TLS at
    /// `listen 443 ssl http2;`, with the certificate `hub.pem` and the key `hub.key`.
    pub(crate) fn start_site(site: &str, changes: &[(&str, &str)]) -> Self {
        let (folder, ports) = (Folder::new(), [free_port(), free_port()]);
        let mut text = site.to_owned();
        replace(&mut text, "listen 443 ssl http2;", &format!("listen {HOST}:{} ssl http2;", ports[0]));
        changes.iter().for_each(|(from, to)| replace(&mut text, from, to));
        let mut main = PLAIN.to_owned();
        let own = [main.find("    server {"), main.rfind('}')].map(|place| place.expect("it has a server block"));
        main.replace_range(own[0]..own[1], &text);
        // The recommended parts do not go with it.
        replace(&mut main, "include fanfare-hubs.conf;", "");
        adapt(&mut main, &folder);
        Self::launch(main, ports, true, folder)
    }

    fn deploy(main: &str, hubs: &[&str], listen: &dyn Fn([u16; 2]) -> Vec<(&'static str, String)>) -> Self {
        let (folder, ports) = (Folder::new(), [free_port(), free_port()]);
        let mut text = main.to_owned();
        listen(ports).iter().for_each(|(from, to)| replace(&mut text, from, to));
        adapt(&mut text, &folder);
        for (name, part) in PARTS {
            let part = point_at(part, hubs).replace("/var/log/nginx/access.log", &folder.path("access.log"));
            fs::write(folder.path(name), part).expect("the folder is ours");
        }
        Self::launch(text, ports, main == TLS, folder)
    }

    fn launch(text: String, ports: [u16; 2], tls: bool, folder: Folder) -> Self {
        if tls {
            make_certificate(&folder);
        }
        let path = folder.path("nginx.conf");
        fs::write(&path, text).expect("the folder is ours");
        let mut command = Command::new("nginx");
        command.args(["-p", &folder.path(""), "-c", &path, "-e", &folder.path("error.log"), "-g", "daemon off;"]);
        let started = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let child =
            started.unwrap_or_else(|error| panic!("cannot run nginx: {error}; install it: apt-get install nginx"));
        let mut nginx = Self { child, ports, tls, folder };
        wait_until("nginx accepts", || {
            let ended = nginx.child.try_wait().expect("it is our child");
            assert!(ended.is_none(), "nginx ended: {}", nginx.log("error.log"));
            TcpStream::connect((HOST, ports[0])).ok()
        });
        nginx
    }

    /// `host:port`.
    pub(crate) fn address(&self) -> String {
        format!("{HOST}:{}", self.ports[0])
    }

    /// `http://host:port`, or `https://…`.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address())
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
        let socket = Socket::from(TcpStream::connect(self.address()).expect("nginx should accept"));
        socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        socket
    }

    /// One of its logs, `access.log` or `error.log`, as far as it is written.
    pub(crate) fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A killed nginx would leave its workers behind. A terminated one ends them first.
        if matches!(self.child.try_wait(), Ok(None)) {
            send_signal("TERM", self.child.id());
        }
        let _ = self.child.wait();
    }
}

/// Replaces folders, nothing else.
fn adapt(text: &mut String, folder: &Folder) {
    replace(text, "/run/nginx.pid", &folder.path("nginx.pid"));
    replace(text, "/var/log/nginx/error.log", &folder.path("error.log"));
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let folders = kinds.map(|kind| format!("{kind}_temp_path {};", folder.path(kind))).join(" ");
    replace(text, "http {", &format!("http {{ {folders}"));
}

/// The same with other hubs.
fn point_at(part: &str, hubs: &[&str]) -> String {
    let [first, more] = HUBS;
    let text = part.replace(first, &format!("server {} ", hubs[0]));
    let others: Vec<String> = hubs[1..].iter().map(|hub| format!("server {hub} max_fails=0;")).collect();
    text.replace(&format!("{more}max_fails=0;"), &others.join(" "))
}

/// Makes `hub.pem` and `hub.key`, for the proxy's own address and signed by itself.
pub(super) fn make_certificate(folder: &Folder) {
    let (key, certificate) = (folder.path("hub.key"), folder.path("hub.pem"));
    let (subject, name) = ("/CN=hub.example", format!("subjectAltName=IP:{HOST},DNS:hub.example"));
    let kind = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"];
    let files = ["-keyout", &key, "-out", &certificate, "-subj", subject, "-addext", &name];
    stdout_of(&run_program("openssl", "openssl", &[&kind[..], &files[..]].concat()));
}

pub(super) fn replace(text: &mut String, known: &str, new: &str) {
    assert_eq!(text.matches(known).count(), 1, "{known:?} should stand once in the configuration");
    *text = text.replace(known, new);
}
