//! HTTP requests over a blocking connection that is kept between them.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{
    access::HubAccess,
    connection::{Connection, Incoming},
};
use crate::protocol::http::{Method, ResponsePart, ResponseReader, write_request};

/// The longest wait for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests one after the other, over one connection for as long as the hub keeps it open.
#[derive(Debug)]
pub(crate) struct Client {
    hub: HubAccess,
    kept: Option<Kept>,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    reader: ResponseReader,
    /// Whether another response followed one that was asked for.
    has_surplus: bool,
}

/// A response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// A refusal as text: its status, and its [message](refusal_words).
pub(crate) fn describe_refusal(answer: &Response) -> String {
    format!("the hub answered {}: {}", answer.status, refusal_words(answer))
}

/// The message of a refusal, which a hub sends as `{"error":{"message"}}`; any other body as it is.
pub(crate) fn refusal_words(answer: &Response) -> String {
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
    /// Connects with the first request.
    pub(crate) fn new(hub: HubAccess) -> Self {
        Self { hub, kept: None }
    }

    /// Sends `body` to `path` (with its query, encoded) and waits for the response. A request is not repeated, because a hub that
    /// vanishes before it answers may have accepted it. The exception is 401 with a token file that has a new token by now: a
    /// lasting connection outlives tokens.
    pub(crate) fn post(&mut self, path: &str, body: &[u8]) -> Result<Response, String> {
        let answer = self.send(Method::Post, path, body)?;
        if answer.status == 401 && self.hub.renew()? { self.send(Method::Post, path, body) } else { Ok(answer) }
    }

    /// Asks for `path` and waits for the response.
    pub(crate) fn get(&mut self, path: &str) -> Result<Response, String> {
        self.send(Method::Get, path, b"")
    }

    fn send(&mut self, method: Method, path: &str, body: &[u8]) -> Result<Response, String> {
        let usable = self.kept.take().and_then(|mut kept| kept.connection.is_quiet().then_some(kept));
        let mut kept = match usable {
            Some(kept) => kept,
            None => {
                self.hub.renew()?;
                let connection = Connection::open(&self.hub)?;
                Kept { connection, reader: ResponseReader::new(), has_surplus: false }
            }
        };
        let mut request = Vec::with_capacity(256 + body.len());
        let (url, headers) = (self.hub.url(), self.hub.headers().collect::<Vec<_>>());
        write_request(method, &url.host(), &url.target(path), &headers, body, &mut request);
        kept.connection.write(&request)?;
        let answer = kept.read_answer().map_err(|error| format!("{url}: {error}"))?;
        // What follows the answer was not asked for, and would be taken for the next one (RFC 9112 section 6.3).
        if kept.reader.keeps_alive() && kept.reader.is_between_responses() && !kept.has_surplus {
            self.kept = Some(kept);
        }
        Ok(answer)
    }
}

impl Kept {
    fn read_answer(&mut self) -> Result<Response, String> {
        let answer = Response { status: 0, body: Vec::new() };
        let mut incoming = IncomingResponse { answer, is_complete: false, has_surplus: false };
        let deadline = Instant::now() + RESPONSE_TIMEOUT;
        while Instant::now() < deadline {
            let (done, is_end) = match self.connection.read()? {
                Incoming::Bytes(bytes) => (self.reader.receive(bytes, |part| incoming.take(part)), false),
                Incoming::End => (self.reader.finish(|part| incoming.take(part)), true),
                Incoming::TimedOut => (Ok(()), false),
            };
            done.map_err(|close| format!("the answer is not an HTTP response: {close}"))?;
            if incoming.is_complete {
                self.has_surplus = incoming.has_surplus;
                return Ok(incoming.answer);
            }
            if is_end {
                return Err("the hub closed the connection without an answer".into());
            }
        }
        Err(format!("no answer within {} s", RESPONSE_TIMEOUT.as_secs()))
    }
}

struct IncomingResponse {
    answer: Response,
    is_complete: bool,
    has_surplus: bool,
}

impl IncomingResponse {
    fn take(&mut self, part: ResponsePart<'_>) {
        match part {
            _ if self.is_complete => self.has_surplus = true,
            ResponsePart::Head(head) => self.answer.status = head.status,
            ResponsePart::Body(bytes) => self.answer.body.extend_from_slice(bytes),
            ResponsePart::End => self.is_complete = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread,
    };

    use super::{super::options::AccessOptions, *};

    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    /// Answers as many requests on each connection as `counts` says, then closes it.
    fn serve(counts: &'static [usize]) -> (HubAccess, thread::JoinHandle<()>) {
        start(move |listener| {
            for count in counts {
                let (mut stream, _) = listener.accept().expect("a client");
                for _ in 0..*count {
                    read_request(&mut stream);
                    stream.write_all(ANSWER).expect("the client reads");
                }
            }
        })
    }

    fn start(serve: impl FnOnce(TcpListener) + Send + 'static) -> (HubAccess, thread::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let server = thread::spawn(move || serve(listener));
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
    fn what_follows_an_answer_is_none() {
        for surplus in ["HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 5"] {
            let (hub, server) = start(move |listener| {
                let mut open = Vec::new();
                for surplus in [surplus, ""] {
                    let (mut stream, _) = listener.accept().expect("a client");
                    read_request(&mut stream);
                    stream.write_all(&[ANSWER, surplus.as_bytes()].concat()).expect("the client reads");
                    open.push(stream);
                }
            });
            let mut client = Client::new(hub);
            let expected = Response { status: 200, body: b"ok".to_vec() };
            for _ in 0..2 {
                assert_eq!(client.post("/publish/a", b"{}").expect("an answer"), expected, "{surplus}");
            }
            server.join().expect("each request came on a connection of its own");
        }
    }

    #[test]
    fn requests_share_a_connection_until_the_hub_closes_it() {
        let (hub, server) = serve(&[2, 1]);
        let mut client = Client::new(hub);
        let expected = Response { status: 200, body: b"ok".to_vec() };
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
}
