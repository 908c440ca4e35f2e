//! HTTP requests as clients send them, valid and invalid.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    time::Instant,
};

use fanfare_core::protocol::http::{Method, ResponsePart, ResponseReader, write_request};
use serde_json::Value;
use socket2::Socket;

use super::TIMEOUT;

/// A whole response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Status line and fields, as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).expect("the body should be UTF-8")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.text()))
    }

    /// The value of the first field called `name`.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The code of the error in the body.
    #[track_caller]
    pub(crate) fn error_code(&self) -> String {
        let body = self.json();
        // The ESP platform's form has it beside the kind of error.
        let code = body["error"]["code"].as_str().or_else(|| body["code"].as_str());
        code.unwrap_or_else(|| panic!("no error in {body}")).to_owned()
    }
}

/// A connection for requests, one after the other.
#[derive(Debug)]
pub(crate) struct HttpConnection {
    socket: Socket,
    reader: ResponseReader,
    /// Received after the last response that was returned.
    pending: Vec<u8>,
}

impl HttpConnection {
    pub(crate) fn new(socket: Socket) -> Self {
        Self { socket, reader: ResponseReader::new(), pending: Vec::new() }
    }

    /// Sends a request and waits for its response.
    #[track_caller]
    pub(crate) fn request(&mut self, method: Method, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        if method == Method::Head {
            self.reader.expect_bodiless();
        }
        let mut bytes = Vec::new();
        write_request(method, "hub", target, headers, body, &mut bytes);
        self.send(&bytes);
        self.receive()
    }

    /// Sends `bytes` as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        // A hub that refuses early may close before it has read everything. Its response explains more than this error.
        let _ = self.socket.write_all(bytes);
    }

    /// The next response.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Response {
        self.try_receive().expect("the hub should answer before it closes")
    }

    /// The next response, or `None` if the hub closes without one.
    pub(crate) fn try_receive(&mut self) -> Option<Response> {
        let mut response = Response::default();
        let mut raw = Vec::new();
        // A timeout of each read would not end a stream that was taken for a response.
        let deadline = Instant::now() + TIMEOUT;
        loop {
            assert!(Instant::now() < deadline, "a response without end: {}", String::from_utf8_lossy(&raw));
            for index in 0..self.pending.len() {
                raw.push(self.pending[index]);
                // One byte at a time, so that nothing of the next response is consumed.
                if advance(&mut self.reader, &raw, &mut response) {
                    self.pending.drain(..=index);
                    return Some(response);
                }
            }
            self.pending.clear();
            if !self.fill() {
                let mut ended = false;
                let complete = self.reader.finish(|part| ended |= matches!(part, ResponsePart::End));
                return (complete.is_ok() && ended).then_some(response);
            }
        }
    }

    /// The head of the next response, whose body may have no end.
    #[track_caller]
    pub(crate) fn receive_head(&mut self) -> Response {
        let mut response = Response::default();
        while response.status == 0 {
            assert!(!self.pending.is_empty() || self.fill(), "the hub should answer before it closes");
            let raw = std::mem::take(&mut self.pending);
            let fed = self.reader.receive(&raw, |part| {
                if let ResponsePart::Head(head) = part {
                    response.status = head.status;
                    response.head = String::from_utf8_lossy(&raw).into_owned();
                }
            });
            fed.unwrap_or_else(|close| panic!("not a response ({close}): {}", String::from_utf8_lossy(&raw)));
        }
        response
    }

    /// Reads more; false at the end.
    fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match read_some(&self.socket, &mut buffer) {
            Ok(count) => {
                self.pending.extend_from_slice(&buffer[..count]);
                0 < count
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("the hub should answer or close: {error}"),
        }
    }

    /// Whether the hub closes without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.pending.is_empty() && !self.fill()
    }

    pub(crate) fn into_socket(self) -> Socket {
        self.socket
    }
}

/// Reads what is there. Retries interrupted reads: a read with a timeout is interrupted when the process is stopped and continued.
pub(crate) fn read_some(mut socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match socket.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}

/// Feeds the last byte of `raw`; true once the response is complete.
fn advance(reader: &mut ResponseReader, raw: &[u8], response: &mut Response) -> bool {
    let mut ended = false;
    let fed = reader.receive(&raw[raw.len() - 1..], |part| match part {
        ResponsePart::Head(head) => {
            response.status = head.status;
            response.head = String::from_utf8_lossy(raw).into_owned();
        }
        ResponsePart::Body(bytes) => response.body.extend_from_slice(bytes),
        ResponsePart::End => ended = true,
    });
    fed.unwrap_or_else(|close| panic!("not a response ({close}): {}", String::from_utf8_lossy(raw)));
    ended
}

/// Sends `bytes`, shuts down our direction, and returns everything until the hub closes.
pub(crate) fn exchange(mut socket: Socket, bytes: &[u8]) -> String {
    let _ = socket.write_all(bytes);
    let _ = socket.shutdown(Shutdown::Write);
    String::from_utf8_lossy(&read_to_end(socket)).into_owned()
}

/// Returns everything until the hub closes.
pub(crate) fn read_to_end(mut socket: Socket) -> Vec<u8> {
    let mut answer = Vec::new();
    match socket.read_to_end(&mut answer) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("the hub should close: {error}"),
        _ => answer,
    }
}
