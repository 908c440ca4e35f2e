//! A small blocking client for the tools: one connection to a hub, over TCP, TLS or a unix socket.

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, ToSocketAddrs},
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, Instant},
};

use serde::Deserialize;
use socket2::Socket;

use super::{access::HubAccess, tls::MaybeTlsStream};
use crate::protocol::http::{Method, ResponsePart, ResponseReader, write_request};

/// How long waiting for a response may take.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// How much is read at a time.
const READ_BYTES: usize = 64 * 1024;

/// A hub's address, as one writes it: `http://host:port` or `ws://…`, with TLS `https://host:port` or `wss://…`, `unix:/path`,
/// or just `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubUrl {
    endpoint: Endpoint,
    /// What precedes the path of each request, without a slash at the end.
    prefix: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Endpoint {
    Tcp { host: String, port: u16, is_tls: bool },
    Unix(PathBuf),
}

impl HubUrl {
    /// What a request's `Host` field says.
    pub(super) fn host(&self) -> String {
        match &self.endpoint {
            Endpoint::Tcp { host, port, .. } => format!("{host}:{port}"),
            Endpoint::Unix(_) => "localhost".into(),
        }
    }

    /// The request target for `path` at this hub.
    pub(super) fn target(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The path of the hub's unix socket, if that is where it is.
    pub(super) fn unix_path(&self) -> Option<&Path> {
        match &self.endpoint {
            Endpoint::Unix(path) => Some(path),
            Endpoint::Tcp { .. } => None,
        }
    }

    /// The addresses of the hub's host, in the order to try them; none for a unix socket.
    pub(super) fn socket_addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match &self.endpoint {
            Endpoint::Tcp { host, port, .. } => Ok((bare_host(host), *port).to_socket_addrs()?.collect()),
            Endpoint::Unix(_) => Ok(Vec::new()),
        }
    }

    /// Whom the certificate has to name, if the hub is behind TLS: the host, without brackets.
    pub(super) fn tls_host(&self) -> Option<&str> {
        match &self.endpoint {
            Endpoint::Tcp { host, is_tls: true, .. } => Some(bare_host(host)),
            Endpoint::Tcp { .. } | Endpoint::Unix(_) => None,
        }
    }
}

/// An IPv6 address without the brackets it has in a URL.
pub(super) fn bare_host(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl FromStr for HubUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self { endpoint: Endpoint::Unix(path.into()), prefix: String::new() });
        }
        let (is_tls, rest) = match text.split_once("://") {
            Some(("http" | "ws", rest)) => (false, rest),
            Some(("https" | "wss", rest)) => (true, rest),
            Some(_) => return Err("write http://host:port, https://host:port or unix:/path".into()),
            None => (false, text),
        };
        let (authority, path) = rest.find(['/', '?', '#']).map_or((rest, ""), |at| rest.split_at(at));
        if path.contains(['?', '#']) || authority.contains('@') {
            return Err("write http://host:port, without a query or a login: --token signs in".into());
        }
        let (host, port) = split_authority(authority, if is_tls { 443 } else { 80 })?;
        Ok(Self {
            endpoint: Endpoint::Tcp { host: host.into(), port, is_tls },
            prefix: path.trim_end_matches('/').into(),
        })
    }
}

/// Host and port; an IPv6 address stands in brackets (RFC 3986 section 3.2.2).
fn split_authority(authority: &str, default_port: u16) -> Result<(&str, u16), String> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => {
            (host, port.parse().map_err(|_| format!("`{port}` is not a port"))?)
        }
        _ => (authority, default_port),
    };
    let is_plain = |host: &str| !host.is_empty() && !host.contains([':', '[', ']', ' ']);
    let is_bracketed = |host: &str| host.strip_prefix('[').is_some_and(|rest| rest.ends_with(']'));
    if is_plain(host) || is_bracketed(host) { Ok((host, port)) } else { Err(format!("`{host}` is not a host")) }
}

impl fmt::Display for HubUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.endpoint {
            Endpoint::Tcp { host, port, is_tls } => {
                write!(f, "{}://{host}:{port}{}", if *is_tls { "https" } else { "http" }, self.prefix)
            }
            Endpoint::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: MaybeTlsStream<Socket>,
    buffer: Box<[u8]>,
}

/// What [`Connection::read`] found.
#[derive(Debug)]
pub(super) enum Incoming<'a> {
    /// Some bytes.
    Bytes(&'a [u8]),
    /// Nothing in time.
    TimedOut,
    /// The hub closed.
    End,
}

impl Connection {
    /// Connects to `hub`. The error says where to and why not.
    pub(super) fn open(hub: &HubAccess) -> Result<Self, String> {
        let connection = Self { stream: hub.connect()?, buffer: vec![0; READ_BYTES].into_boxed_slice() };
        connection.set_read_timeout(RESPONSE_TIMEOUT)?;
        Ok(connection)
    }

    /// How long [`Connection::read`] waits; below a millisecond counts as one.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> Result<(), String> {
        // Zero would mean for ever.
        let timeout = timeout.max(Duration::from_millis(1));
        self.stream.socket().set_read_timeout(Some(timeout)).map_err(|error| error.to_string())
    }

    /// Sends all of `bytes`.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let sent = self.stream.write_all(bytes).and_then(|()| self.stream.flush());
        sent.map_err(|error| format!("the hub does not take what is sent: {error}"))
    }

    /// Whether it is open and nothing has arrived: a hub closes what was idle for too long. Reads without waiting. What is
    /// read is lost, so the connection is of no use if it is not quiet.
    fn is_quiet(&mut self) -> bool {
        self.stream.socket().set_nonblocking(true).is_ok()
            && matches!(self.stream.has_input(), Ok(false))
            && self.stream.socket().set_nonblocking(false).is_ok()
    }

    /// Waits for something to arrive.
    pub(super) fn read(&mut self) -> Result<Incoming<'_>, String> {
        use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Ok(Incoming::End),
            Ok(count) => Ok(Incoming::Bytes(&self.buffer[..count])),
            Err(error) if matches!(error.kind(), WouldBlock | TimedOut | Interrupted) => Ok(Incoming::TimedOut),
            Err(error) => Err(format!("the connection broke: {error}")),
        }
    }
}

/// Sends requests one after the other, over one connection as long as the hub keeps it.
#[derive(Debug)]
pub(super) struct Client {
    hub: HubAccess,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    reader: ResponseReader,
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Three digits.
    pub(super) status: u16,
    /// All of it.
    pub(super) body: Vec<u8>,
}

/// A refusal of the hub's: its status, and its [words](refusal_words).
pub(super) fn describe_refusal(answer: &Answer) -> String {
    format!("the hub answered {}: {}", answer.status, refusal_words(answer))
}

/// A refusal in the hub's own words, which it sends as `{"error":{"message"}}`; anything else as it is.
pub(super) fn refusal_words(answer: &Answer) -> String {
    #[derive(Deserialize)]
    struct Refusal {
        error: Reason,
    }
    #[derive(Deserialize)]
    struct Reason {
        message: String,
    }
    let refusal: Result<Refusal, _> = serde_json::from_slice(&answer.body);
    let words = refusal.map_or_else(|_| String::from_utf8_lossy(&answer.body).into_owned(), |it| it.error.message);
    words.trim().to_owned()
}

impl Client {
    /// For `hub`; connects with the first request.
    pub(super) fn new(hub: HubAccess) -> Self {
        Self { hub, kept: None }
    }

    /// Sends `body` to `path` (with its query, encoded) and waits for the answer. Nothing is sent twice, because a hub that
    /// vanishes before it answers may have taken the request; but for one that was not accepted (401), if the token has another
    /// one in its file by now: a connection that lasts outlives tokens.
    pub(super) fn post(&mut self, path: &str, body: &[u8]) -> Result<Answer, String> {
        let answer = self.post_once(path, body)?;
        if answer.status == 401 && self.hub.renew()? { self.post_once(path, body) } else { Ok(answer) }
    }

    fn post_once(&mut self, path: &str, body: &[u8]) -> Result<Answer, String> {
        let usable = self.kept.take().and_then(|mut kept| kept.connection.is_quiet().then_some(kept));
        let mut kept = match usable {
            Some(kept) => kept,
            None => {
                self.hub.renew()?;
                Kept { connection: Connection::open(&self.hub)?, reader: ResponseReader::new() }
            }
        };
        let mut request = Vec::with_capacity(256 + body.len());
        let (url, headers) = (self.hub.url(), self.hub.headers().collect::<Vec<_>>());
        write_request(Method::Post, &url.host(), &url.target(path), &headers, body, &mut request);
        kept.connection.write(&request)?;
        let answer = kept.read_answer().map_err(|error| format!("{url}: {error}"))?;
        if kept.reader.keeps_alive() {
            self.kept = Some(kept);
        }
        Ok(answer)
    }
}

impl Kept {
    fn read_answer(&mut self) -> Result<Answer, String> {
        let mut incoming = IncomingAnswer { answer: Answer { status: 0, body: Vec::new() }, is_complete: false };
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        while Instant::now() < deadline {
            let (done, is_end) = match self.connection.read()? {
                Incoming::Bytes(bytes) => (self.reader.receive(bytes, |part| incoming.take(part)), false),
                Incoming::End => (self.reader.finish(|part| incoming.take(part)), true),
                Incoming::TimedOut => (Ok(()), false),
            };
            done.map_err(|close| format!("the answer is not an HTTP response: {close}"))?;
            if incoming.is_complete {
                return Ok(incoming.answer);
            }
            if is_end {
                return Err("the hub closed the connection without an answer".into());
            }
        }
        Err(format!("no answer within {} s", RESPONSE_TIMEOUT.as_secs()))
    }
}

struct IncomingAnswer {
    answer: Answer,
    is_complete: bool,
}

impl IncomingAnswer {
    fn take(&mut self, part: ResponsePart<'_>) {
        match part {
            ResponsePart::Head(head) => self.answer.status = head.status,
            ResponsePart::Body(bytes) => self.answer.body.extend_from_slice(bytes),
            ResponsePart::End => self.is_complete = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::*;
    use crate::access::AccessOptions;

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// Answers as many requests on each connection as `counts` says, then closes it.
    fn serve(counts: &'static [usize]) -> (HubAccess, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let server = thread::spawn(move || {
            for count in counts {
                let (mut stream, _) = listener.accept().expect("a client");
                for _ in 0..*count {
                    read_request(&mut stream);
                    stream.write_all(ANSWER).expect("the client reads");
                }
            }
        });
        let hub = AccessOptions::default().hub(&url.parse().expect("a good URL"));
        (hub.expect("nothing is asked for"), server)
    }

    /// The requests here end with the only `}` in them.
    fn read_request(stream: &mut TcpStream) {
        let mut byte = [0];
        while byte != *b"}" {
            stream.read_exact(&mut byte).expect("a whole request");
        }
    }

    #[test]
    fn requests_share_a_connection_until_the_hub_closes_it() {
        let (hub, server) = serve(&[2, 1]);
        let mut client = Client::new(hub);
        let expected = Answer { status: 200, body: b"ok".to_vec() };
        for _ in 0..2 {
            assert_eq!(client.post("/publish/a", b"{}").expect("an answer"), expected);
        }
        // The close arrives on its own time.
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        while client.kept.as_mut().is_some_and(|kept| kept.connection.is_quiet()) {
            assert!(Instant::now() < deadline, "the server closes after two requests");
            thread::yield_now();
        }
        assert_eq!(client.post("/publish/a", b"{}").expect("an answer on a new connection"), expected);
        server.join().expect("all three requests came");
    }

    #[test]
    fn a_hub_that_closes_instead_of_answering() {
        let (hub, server) = serve(&[0]);
        let error = Client::new(hub).post("/publish/a", b"{}").expect_err("no answer");
        assert!(
            error.contains("the hub closed") || error.contains("broke") || error.contains("does not take"),
            "{error}"
        );
        server.join().expect("a client came");
    }

    #[test]
    fn urls() {
        let check = |text: &str, expected: Option<&str>| {
            let parsed = text.parse::<HubUrl>().map(|url| url.to_string());
            assert_eq!(parsed.as_deref().ok(), expected, "{text}");
        };
        check("http://127.0.0.1:8080", Some("http://127.0.0.1:8080"));
        check("http://127.0.0.1:8080/", Some("http://127.0.0.1:8080"));
        check("ws://hub", Some("http://hub:80"));
        check("localhost:9000/hub/", Some("http://localhost:9000/hub"));
        check("http://[::1]:8080", Some("http://[::1]:8080"));
        check("http://[::1]", Some("http://[::1]:80"));
        check("unix:/run/fanfare.sock", Some("unix:/run/fanfare.sock"));
        check("https://hub", Some("https://hub:443"));
        check("wss://hub:8443/x", Some("https://hub:8443/x"));
        for bad in ["", "redis://hub", "http://", "hub:99999", "a b:1", "::1", "hub/x?y", "u@hub", "http://[::1"] {
            check(bad, None);
        }
    }

    #[test]
    fn a_prefix_precedes_each_path() {
        let url: HubUrl = "http://proxy/hub/".parse().expect("a good URL");
        assert_eq!((url.host(), url.target("/sse")), ("proxy:80".into(), "/hub/sse".into()));
    }
}
