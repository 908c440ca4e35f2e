//! Listeners: addresses, how connections are spread, and what happens when there are too many.

use std::{fs, os::unix::fs::MetadataExt, process::Command};

use crate::support::{Folder, http::HttpConnection, hub::Hub, sse::SseClient, wait_until, websocket::WebSocketClient};
use fanfare_core::protocol::http::Method;

#[test]
fn unix_sockets_serve_the_same() {
    let folder = Folder::new();
    let path = folder.path("hub.sock");
    let hub = Hub::start_with(&["--listen", &format!("unix:{path}")], &[]);
    assert_eq!(hub.url(1), format!("unix:{path}"));
    let mut stream = SseClient::open_on(hub.connect_at(1), "/sse?topic=t", &[]);
    let mut socket = WebSocketClient::open_on(hub.connect_at(1), "/ws?topic=t", &[]);
    let mut connection = HttpConnection::new(hub.connect_at(1));
    assert_eq!(connection.request(Method::Post, "/publish/t", &[], b"x").status, 200);
    assert_eq!((stream.next_data().as_str(), socket.next_text().as_str()), ("x", "x"));
    assert!(hub.terminate().success());
    assert!(!std::path::Path::new(&path).exists(), "the socket is removed");
}

#[test]
fn a_socket_left_behind_is_no_obstacle() {
    let folder = Folder::new();
    let listen = format!("unix:{}", folder.path("hub.sock"));
    drop(Hub::start_with(&["--listen", &listen], &[]));
    assert!(folder.0.join("hub.sock").exists(), "a killed hub cleans nothing up");
    let hub = Hub::start_with(&["--listen", &listen], &[]);
    let mut connection = HttpConnection::new(hub.connect_at(1));
    assert_eq!(connection.request(Method::Get, "/health", &[], b"").status, 200);
}

/// A socket's owner and group, as numbers, and its permissions.
fn access(path: &str) -> (u32, u32, u32) {
    let file = fs::symlink_metadata(path).expect("the socket is there");
    (file.uid(), file.gid(), file.mode() & 0o7777)
}

#[test]
fn unix_sockets_are_for_whom_they_are_meant() {
    let folder = Folder::new();
    let (public, admin) = (folder.path("hub.sock"), folder.path("admin.sock"));
    let listen = [format!("unix:{public}"), format!("unix:{admin}")];
    let flags = ["--listen", &listen[0], "--admin-listen", &listen[1]];
    // Any user may give a socket to itself, and root to any user.
    let own = fs::metadata("/proc/self").map(|process| (process.uid(), process.gid())).expect("this is Linux");
    let (owner, expected) = if own.0 == 0 { ("nobody".to_owned(), 65534) } else { (own.0.to_string(), own.0) };
    let group = own.1.to_string();
    let settings = [
        ("server.socket_owner", owner.as_str()),
        ("server.socket_group", &group),
        ("server.socket_mode", "0660"),
        ("admin.socket_mode", "600"),
    ];
    let hub = Hub::start_with(&flags, &settings);
    assert_eq!(access(&public), (expected, own.1, 0o660));
    assert_eq!(access(&admin), (own.0, own.1, 0o600));
    assert_eq!(HttpConnection::new(hub.connect_at(1)).request(Method::Get, "/topics", &[], b"").status, 200);
    drop(hub);
    let refusals = [
        (
            "FANFARE_SERVER__SOCKET_OWNER",
            "nobody-at-all",
            "server.socket_owner: this machine has no user called `nobody-at-all`",
        ),
        ("FANFARE_ADMIN__SOCKET_GROUP", "no-group", "admin.socket_group: this machine has no group called `no-group`"),
        ("FANFARE_SERVER__SOCKET_MODE", "rw", "FANFARE_SERVER__SOCKET_MODE: `rw` is no file mode"),
    ];
    for (name, value, expected) in refusals {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
        command.arg("serve").args(flags).env(name, value);
        let said = Hub::refusal(command);
        assert!(said.contains(expected), "{expected}: {said}");
    }
}

#[test]
fn administration_can_have_a_port_of_its_own() {
    let hub = Hub::start_with(&["--admin-listen", "127.0.0.1:0"], &[]);
    let status = |index: usize, target: &str| {
        HttpConnection::new(hub.connect_at(index)).request(Method::Get, target, &[], b"").status
    };
    for target in ["/health", "/ready", "/metrics"] {
        assert_eq!((status(0, target), status(1, target)), (404, 200), "{target}");
    }
    assert_eq!((status(0, "/topics"), status(1, "/topics")), (200, 404));
}

#[test]
fn reactors_share_the_connections_and_the_order() {
    let hub = Hub::start_with(&["--reactors", "2"], &[]);
    let mut streams: Vec<SseClient> = (0..40).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    let counts: Vec<u64> = hub.stats()["reactors"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|count| count.as_u64().expect("a count"))
        .collect();
    assert_eq!(counts.len(), 2);
    assert!(counts.iter().all(|count| (20..=21).contains(count)), "balanced: {counts:?}");
    let publishers: Vec<HttpConnection> = (0..4).map(|_| HttpConnection::new(hub.connect())).collect();
    std::thread::scope(|scope| {
        for (index, mut publisher) in publishers.into_iter().enumerate() {
            scope.spawn(move || {
                for number in 0..50 {
                    let payload = format!("{index}:{number}");
                    assert_eq!(publisher.request(Method::Post, "/publish/t", &[], payload.as_bytes()).status, 200);
                }
            });
        }
    });
    let reference: Vec<_> = (0..200).map(|_| streams[0].next()).collect();
    assert!(reference.windows(2).all(|pair| minor(&pair[0].id) + 1 == minor(&pair[1].id)), "dense, in order");
    for stream in &mut streams[1..] {
        let received: Vec<_> = (0..200).map(|_| stream.next()).collect();
        assert_eq!(received, reference);
    }
}

fn minor(id: &str) -> u64 {
    id.rsplit_once('-').expect("an id is major-minor").1.parse().expect("a number")
}

#[test]
fn a_hub_without_descriptors_recovers() {
    let mut command = Command::new("sh");
    let script = "ulimit -n 64 && exec \"$0\" serve --listen 127.0.0.1:0 --reactors 1";
    command.args(["-c", script, env!("CARGO_BIN_EXE_fanfare")]);
    let hub = Hub::spawn(command, &[]);
    let mut streams: Vec<SseClient> = (0..30).map(|_| SseClient::open(&hub, "/sse?topic=t")).collect();
    // Far more than the hub has descriptors for: some are refused, none is left waiting.
    let sockets: Vec<socket2::Socket> = (0..100).map(|_| hub.connect()).collect();
    let turned_away = wait_until("some are turned away", || {
        let closed = sockets.iter().filter(|socket| is_closed(socket)).count();
        (0 < closed).then_some(closed)
    });
    assert!(turned_away < 100);
    drop(sockets);
    let id = wait_until("the hub answers again", || {
        let mut connection = HttpConnection::new(hub.connect());
        connection.send(b"POST /publish/t HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx");
        Some(connection.try_receive()?.json()["id"].as_str()?.to_owned())
    });
    for stream in &mut streams {
        assert_eq!(stream.next().id, id, "connected clients stay served");
    }
    assert!(0.0 < hub.metric("fanfare_accepts_shed_total"));
}

/// Whether the hub has closed it, without waiting.
fn is_closed(mut socket: &socket2::Socket) -> bool {
    use std::io::{ErrorKind, Read};
    socket.set_nonblocking(true).expect("it is a socket");
    match socket.read(&mut [0]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn a_public_address_needs_consent() {
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare")).args(["serve", "--listen", "0.0.0.0:0"]).output();
    let output = output.expect("it was just built");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--insecure"), "it says what to do");
}
