//! Logging in at servers of every kind, among them some that are none. Each server is a script.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::Duration,
};

use super::*;
use crate::source::nats::NatsUrl;

/// A server that runs `script` on its first connection; its port.
fn server(script: impl FnOnce(BufReader<TcpStream>) + Send + 'static) -> (u16, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let thread = thread::spawn(move || {
        let (socket, _) = listener.accept().expect("the hub comes");
        script(BufReader::new(socket));
    });
    (port, thread)
}

/// What becomes of connecting to `url`.
fn connect(url: &str, auth: NatsAuth, timeout: Duration) -> Result<(), Fault> {
    let url = NatsUrl::parse(url).expect("a URL");
    let login = NatsLogin { url, auth, files: Default::default() };
    let config = NatsConfig { login, connect_timeout: timeout, ..NatsConfig::default() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connector = Connector::new(&config).expect("no files");
    runtime.block_on(connector.connect::<()>(&config.login)).map(drop)
}

/// A server that sends `first`, and `then` once the hub has sent CONNECT and PING; what the hub sent.
fn check(scheme: &str, first: &[u8], then: &str, auth: NatsAuth) -> (Result<(), Fault>, String) {
    let (first, then) = (first.to_owned(), then.to_owned());
    let (sender, sent) = std::sync::mpsc::channel();
    let (port, thread) = server(move |mut socket| {
        socket.get_mut().write_all(&first).expect("the hub reads");
        let mut lines = String::new();
        // Fewer if the hub goes away.
        while !lines.ends_with("PING\r\n") && socket.read_line(&mut lines).is_ok_and(|count| count != 0) {}
        sender.send(lines).expect("the test waits");
        // The hub may have gone.
        let _ = socket.get_mut().write_all(then.as_bytes());
    });
    let result = connect(&format!("{scheme}://127.0.0.1:{port}"), auth, Duration::from_secs(20));
    thread.join().expect("the script runs through");
    (result, sent.recv().expect("it was sent"))
}

const INFO: &[u8] = b"INFO {\"headers\":true,\"max_payload\":1048576}\r\n";

#[test]
fn a_server_lets_the_hub_in() {
    let (result, sent) = check("nats", INFO, "PING\r\nINFO {}\r\nPONG\r\n", NatsAuth::None);
    assert_eq!(result, Ok(()));
    for text in ["CONNECT {", r#""name":"fanfare""#, r#""no_responders":true"#, "}\r\nPING\r\n"] {
        assert!(sent.contains(text), "{sent}");
    }
    // Answered at once: nothing is kept for a later read.
    let user = NatsAuth::User { user: "ada".to_owned(), password: "p".to_owned() };
    let (result, sent) = check("nats", INFO, "PONG\r\nMSG a 1 1\r\nx\r\n", user);
    assert!(result.is_ok() && sent.contains(r#""user":"ada","pass":"p""#), "{sent}");
}

#[test]
fn a_server_that_does_not_is_told_by_what_it_says() {
    let refused = |then: &str| check("nats", INFO, then, NatsAuth::None).0.expect_err("it does not let the hub in");
    assert_eq!(refused("-ERR 'Authorization Violation'\r\n"), Fault::Rejected("Authorization Violation".to_owned()));
    let unreachable = [
        ("-ERR 'maximum connections exceeded'\r\n", "maximum connections exceeded"),
        ("", "the server closed the connection"),
        ("HELLO\r\n", "no word of the NATS protocol"),
    ];
    for (then, expected) in unreachable {
        let fault = refused(then);
        assert!(matches!(&fault, Fault::Unreachable(why) if why.contains(expected)), "{fault:?}");
    }
}

#[test]
fn what_is_no_server_is_told() {
    let check = |scheme: &str, first: &[u8], expected: &str| {
        let (result, sent) = check(scheme, first, "", NatsAuth::None);
        let fault = result.expect_err("it is no server to log in at");
        assert!(matches!(&fault, Fault::Unreachable(why) if why.contains(expected)), "{fault:?}");
        // Nothing of a login is said to it.
        assert!(!sent.contains("CONNECT"), "{sent}");
    };
    check("nats", b"SSH-2.0-OpenSSH\r\n", "no word of the NATS protocol");
    check("nats", &[b'x'; 70_000], "over its limit");
    check("nats", b"INFO nothing\r\n", "INFO is not the JSON");
    check("tls", INFO, "has no TLS");
    check("nats", b"INFO {\"tls_required\":true}\r\nPING\r\n", "goes on in plain text");
    check("nats", b"-ERR 'maximum connections exceeded'\r\n", "maximum connections exceeded");
}

#[test]
fn a_silent_server_is_given_up() {
    let (port, thread) = server(|mut socket| {
        let mut line = String::new();
        // Until the hub goes away.
        while socket.read_line(&mut line).is_ok_and(|count| count != 0) {}
    });
    let fault = connect(&format!("nats://127.0.0.1:{port}"), NatsAuth::None, Duration::from_millis(50));
    assert!(matches!(&fault, Err(Fault::Unreachable(why)) if why.contains("no answer in time")), "{fault:?}");
    thread.join().expect("the script runs through");
}

#[test]
fn a_key_without_a_nonce_is_refused() {
    let seed = "SUAPZUER7KHVP225MKLZPG44QDPLN4FUXMC4Y5O33DCLL2S6J2DPNIXETI".to_owned();
    let (result, sent) = check("nats", INFO, "", NatsAuth::Nkey(seed.clone()));
    assert!(matches!(&result, Err(Fault::Rejected(why)) if why.contains("no nonce")), "{result:?}");
    assert!(!sent.contains("CONNECT"), "{sent}");
    let (result, sent) = check("nats", b"INFO {\"nonce\":\"n\"}\r\n", "PONG\r\n", NatsAuth::Nkey(seed));
    assert!(result.is_ok() && sent.contains(r#""sig":""#) && !sent.contains("SUAP"), "{sent}");
}

#[test]
fn errors_about_the_login_are_known() {
    let check = |error: &str, expected: bool| assert_eq!(is_about_login(error), expected, "{error}");
    check("Authorization Violation", true);
    check("User Authentication Expired", true);
    check("Account Authentication Expired", true);
    check("User Authentication Revoked", true);
    check("Authentication Timeout", false);
    check("maximum connections exceeded", false);
    check("", false);
}
