//! What systemd is told, and the sockets that it hands over; and the units of `scripts/deploy/systemd`, read by systemd itself.

use std::{
    fs,
    net::TcpStream,
    os::unix::net::{UnixDatagram, UnixStream},
    path::Path,
    process::Command,
    thread,
    time::Duration,
};

use fanfare_core::protocol::http::Method;
use socket2::Socket;

use crate::support::{
    Folder, TIMEOUT,
    http::{HttpConnection, Response},
    hub::Hub,
    redis::free_port,
    run_program, send_signal, stdout_of, wait_until,
};

/// The end of the socket where systemd would listen.
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
    pub(crate) path: String,
}

impl NotifySocket {
    pub(crate) fn bind(folder: &Folder) -> Self {
        let path = folder.path("notify");
        let socket = UnixDatagram::bind(&path).expect("the folder is ours");
        socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
        Self { socket, path }
    }

    /// The next message.
    #[track_caller]
    pub(crate) fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let count = self.socket.recv(&mut buffer).expect("the hub should say something");
        String::from_utf8(buffer[..count].to_vec()).expect("text")
    }

    /// The next message but for those that only say that the hub is alive.
    #[track_caller]
    fn next_state(&self) -> String {
        loop {
            let message = self.next();
            if message != "WATCHDOG=1\n" {
                return message;
            }
        }
    }
}

#[test]
fn systemd_is_told_what_the_hub_does() {
    let folder = Folder::new();
    let notify = NotifySocket::bind(&folder);
    let config = folder.path("fanfare.toml");
    fs::write(&config, "").expect("the folder is ours");
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--config", &config]);
    command.env("NOTIFY_SOCKET", &notify.path).env("WATCHDOG_USEC", "400000");
    let hub = Hub::spawn(command, &[("drain.delay", "1s"), ("server.stuck_after", "1s")]);
    assert_eq!(notify.next(), "READY=1\nSTATUS=serving\n");
    (0..3).for_each(|_| assert_eq!(notify.next(), "WATCHDOG=1\n"));

    send_signal("HUP", hub.pid());
    let reloading = notify.next_state();
    let now = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|rest| rest.split_once('\n'));
    assert!(now.is_some_and(|(now, _)| now.parse::<u64>().is_ok()), "{reloading}");
    assert_eq!(notify.next_state(), "READY=1\nSTATUS=serving\n");

    send_signal("TERM", hub.pid());
    // Delay, window and what a machine under load adds.
    let expected = "STOPPING=1\nEXTEND_TIMEOUT_USEC=4200000\nSTATUS=draining\n";
    assert_eq!(notify.next_state(), expected);
    assert_eq!(notify.next(), "WATCHDOG=1\n", "it is alive until the end");
    assert!(hub.wait().success());
}

/// A hub with the sockets at `addresses`, which systemd's own tool opens. It starts the hub with the first connection.
fn activate(addresses: &[&str], names: &str, listen: &[&str]) -> Command {
    let mut command = Command::new("systemd-socket-activate");
    command.args(addresses.iter().flat_map(|address| ["--listen", address]));
    command.args(["--fdname", names]);
    // It gives the program none of its own variables but these.
    command.args(["--setenv", "FANFARE_DRAIN__DELAY=0s", "--setenv", "FANFARE_DRAIN__WINDOW=100ms"]);
    command.args([env!("CARGO_BIN_EXE_fanfare"), "serve"]).args(listen);
    command
}

fn ask(socket: impl Into<Socket>, target: &str) -> Response {
    let socket = socket.into();
    socket.set_read_timeout(Some(TIMEOUT)).expect("the time is not zero");
    HttpConnection::new(socket).request(Method::Get, target, &[], b"")
}

#[test]
fn sockets_of_systemd_serve() {
    let folder = Folder::new();
    let (path, port) = (folder.path("hub.sock"), free_port());
    // Not 127.0.0.1: ports there may be taken by a connection of another test.
    let address = format!("127.0.0.2:{port}");
    let command = activate(
        &[&address, &path],
        "public:admin",
        &["--listen", "systemd:public", "--admin-listen", "systemd:admin", "--reactors", "2"],
    );
    let early = thread::spawn({
        let address = address.clone();
        move || ask(wait_until("systemd listens", || TcpStream::connect(&address).ok()), "/topics")
    });
    let hub = Hub::spawn(command, &[]);
    assert_eq!(early.join().expect("it does not panic").status, 200, "who came first is served");
    assert_eq!((hub.url(0), hub.url(1)), (format!("http://{address}").as_str(), "systemd:admin"));
    let admin = |target| ask(UnixStream::connect(&path).expect("the hub listens"), target).status;
    assert_eq!((admin("/health"), admin("/topics")), (200, 404), "the names say which socket is for what");
    let reactors = (0..8).map(|_| TcpStream::connect(&address).expect("the hub listens"));
    let held: Vec<_> = reactors.collect();
    wait_until("both reactors have connections", || {
        let metrics = ask(UnixStream::connect(&path).expect("the hub listens"), "/metrics").text();
        let counts = metrics.lines().filter_map(|line| line.strip_prefix("fanfare_reactor_connections{reactor=\""));
        let counts: Vec<bool> =
            counts.map(|line| line.rsplit_once(' ').is_some_and(|(_, count)| count != "0")).collect();
        (counts == [true, true]).then_some(())
    });
    drop(held);
    assert!(hub.terminate().success());
    assert!(Path::new(&path).exists(), "the file is systemd's");
}

#[test]
fn sockets_that_are_not_there_or_too_open_are_refused() {
    let refused = |addresses: &[&str], names: &str, listen: &str, reach: &(dyn Fn() -> bool + Sync)| {
        let command = activate(addresses, names, &["--listen", listen]);
        thread::scope(|scope| {
            scope.spawn(|| wait_until("systemd listens", || reach().then_some(())));
            Hub::refusal(command)
        })
    };
    let folder = Folder::new();
    let path = folder.path("hub.sock");
    let said = refused(&[&path], "public", "systemd:pubic", &|| UnixStream::connect(&path).is_ok());
    assert!(said.contains("systemd:pubic: no such socket was handed over; there are public"), "{said}");
    let port = free_port();
    let said = refused(&[&format!("0.0.0.0:{port}")], "public", "systemd:public", &|| {
        TcpStream::connect(("127.0.0.2", port)).is_ok()
    });
    assert!(
        said.contains(&format!("other machines can reach 0.0.0.0:{port}, and there is no authentication")),
        "{said}"
    );
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(["serve", "--listen", "systemd:fanfare.socket"]);
    let said = Hub::refusal(command);
    assert!(said.contains("systemd:fanfare.socket: no sockets were handed over; start the socket unit"), "{said}");
    for (address, expected) in [("systemd:", "needs the name of a socket unit"), ("systemd:a:b", "needs the name")] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.args(["config", "check"]).env("FANFARE_SERVER__LISTEN", address);
        let output = command.output().expect("it was just built");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(expected), "{said}");
    }
}

#[test]
fn systemd_reads_the_units() {
    let folder = Folder::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/deploy/systemd");
    let mut units = Vec::new();
    for name in ["fanfare.service", "fanfare.socket"] {
        let text = fs::read_to_string(source.join(name)).expect("the unit is there");
        // It looks for the program, and for the page that it names.
        let text = text.replace("/usr/bin/fanfare", env!("CARGO_BIN_EXE_fanfare")).replace("Documentation=", "#");
        units.push(folder.path(name));
        fs::write(folder.path(name), text).expect("the folder is ours");
    }
    let arguments = ["verify", "--man=no", "--recursive-errors=no", &units[0], &units[1]];
    let verified = run_program("systemd-analyze", "systemd", &arguments);
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && said.is_empty(), "{said}");
    // 10 is a service that may do all that root may.
    let arguments = ["security", "--offline=yes", "--threshold=20", &units[0]];
    stdout_of(&run_program("systemd-analyze", "systemd", &arguments));
}

#[test]
fn the_service_has_time_to_drain() {
    let unit = include_str!("../../scripts/deploy/systemd/fanfare.service");
    let stop = unit.lines().find_map(|line| line.strip_prefix("TimeoutStopSec=")?.parse().ok());
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare")).args(["config", "show"]).output().expect("just built");
    let shown = stdout_of(&output);
    let seconds = |section: &str, key: &str| {
        let rest = shown.split(&format!("[{section}]\n")).nth(1).expect("the section is there");
        let line = rest.lines().find_map(|line| line.strip_prefix(&format!("{key} = \"")));
        let value = line.and_then(|line| line.split_once("s\"")).map(|(value, _)| value.parse::<u64>());
        Duration::from_secs(value.expect("the key is there").expect("in seconds"))
    };
    let needed = seconds("drain", "delay") + seconds("drain", "window");
    assert!(needed < Duration::from_secs(stop.expect("the unit says it")), "{needed:?}");
}
