//! Both halves against tables of good and hostile bytes, each fed whole, one byte at a time, and cut anywhere.

mod client;
mod pair;
mod requests;
mod responses;
mod session;
mod targets;

use crate::{clock::Moment, close::Close, outbox::Outbox};

use super::*;

const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const NOW: Moment = Moment(1_000_000_000);

/// What a server made of its input: the requests it yielded, and how it ended, if it did.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    requests: Vec<String>,
    end: Option<Close>,
}

/// Feeds `pieces` to a server that answers each request at once with `200 ok`; also returns what it wrote.
fn serve<'a>(pieces: impl IntoIterator<Item = &'a [u8]>, limits: &HttpLimits) -> (Outcome, Vec<u8>) {
    let mut session = ServerSession::new(NOW);
    let mut outbox = Outbox::new();
    let mut requests = Vec::new();
    for piece in pieces {
        let mut bytes = piece;
        loop {
            match session.receive(bytes, limits, NOW) {
                Ok(None) => break,
                Ok(Some(request)) => {
                    requests.push(describe(&request));
                    if !session.respond(&Response::text(200, "ok"), DATE, &mut outbox) {
                        return (Outcome { requests, end: Some(Close::Done) }, outbox.pending().to_vec());
                    }
                    bytes = b"";
                }
                Err(close) => {
                    session.refuse(close, DATE, &mut outbox);
                    return (Outcome { requests, end: Some(close) }, outbox.pending().to_vec());
                }
            }
        }
    }
    (Outcome { requests, end: None }, outbox.pending().to_vec())
}

/// `METHOD path name=value… [body]`, and `close` if the connection ends with the answer.
fn describe(request: &Request) -> String {
    let mut text = format!("{} {}", request.method, request.path);
    for (name, value) in &request.query {
        text += &format!(" {name}={value}");
    }
    if !request.body.is_empty() {
        text += &format!(" [{}]", String::from_utf8_lossy(&request.body));
    }
    if !request.keep_alive {
        text += " close";
    }
    text
}

fn one_by_one(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.chunks(1)
}

/// Serves `input` whole and one byte at a time, which must give the same, and returns the outcome.
fn serve_both(input: &[u8], limits: &HttpLimits) -> Outcome {
    let (outcome, _) = serve([input], limits);
    let (bytewise, _) = serve(one_by_one(input), limits);
    assert_eq!(outcome, bytewise, "{}", input.escape_ascii());
    outcome
}

/// `count` bytes of field lines, for heads of an exact size.
fn filler(count: usize) -> String {
    const FRAME: usize = "X: \r\n".len();
    format!("X: {}\r\n", "x".repeat(count - FRAME))
}
