//! What a publisher is answered: only whether each event was taken counts.

use std::mem;

use crate::protocol::{http, nats, resp};

/// The reader of one connection's answers.
#[derive(Debug)]
pub(super) struct Replies {
    reader: Reader,
    /// What the first refusal said.
    pub(super) first_refusal: Option<String>,
}

#[derive(Debug)]
enum Reader {
    /// A Redis server's: one reply per command.
    Redis {
        /// The beginning of a reply that is not all there.
        held: Vec<u8>,
    },
    /// An HTTP server's: one response per request.
    Http {
        responses: Box<http::ResponseReader>,
        /// The status of the response that has begun.
        status: u16,
    },
    /// A NATS server's: a `PONG` for all that was published before its `PING`, and errors.
    Nats {
        /// The beginning of an operation that is not all there.
        held: Vec<u8>,
        /// How many events the `PING` on its way asks for; 0 if there is none.
        asked: u64,
        /// Errors since the last `PONG`.
        refused: u64,
    },
}

/// One answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The event was published.
    Taken,
    /// It was not.
    Refused,
}

impl Replies {
    /// Of a Redis server.
    pub(super) fn redis() -> Self {
        Self::of(Reader::Redis { held: Vec::new() })
    }

    /// Of an HTTP server.
    pub(super) fn http() -> Self {
        Self::of(Reader::Http { responses: Box::new(http::ResponseReader::new()), status: 0 })
    }

    /// Of a NATS server that has let the client in, and has sent these bytes since.
    pub(super) fn nats(held: Vec<u8>) -> Self {
        Self::of(Reader::Nats { held, asked: 0, refused: 0 })
    }

    fn of(reader: Reader) -> Self {
        Self { reader, first_refusal: None }
    }

    /// Appends what asks for an answer to `unanswered` events, where the server gives none by itself.
    pub(super) fn ask(&mut self, unanswered: u64, out: &mut Vec<u8>) {
        if let Reader::Nats { asked: asked @ 0, .. } = &mut self.reader
            && 0 < unanswered
        {
            *asked = unanswered;
            out.extend_from_slice(nats::PING);
        }
    }

    /// Takes what the server sent and calls `each` with every answer complete with it. What the server must be told is
    /// appended to `out`.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut impl FnMut(Answer),
    ) -> Result<(), String> {
        let first_refusal = &mut self.first_refusal;
        let mut refuse = |reason: String| {
            first_refusal.get_or_insert(reason);
        };
        match &mut self.reader {
            Reader::Redis { held } => {
                held.extend_from_slice(bytes);
                let taken_bytes = take_replies(held, &mut refuse, each)?;
                held.drain(..taken_bytes);
                Ok(())
            }
            Reader::Http { responses, status } => responses
                .receive(bytes, |part| match part {
                    http::ResponsePart::Head(head) => *status = head.status,
                    http::ResponsePart::Body(_) => {}
                    http::ResponsePart::End if (200..300).contains(status) => each(Answer::Taken),
                    http::ResponsePart::End => {
                        refuse(format!("status {status}"));
                        each(Answer::Refused);
                    }
                })
                .map_err(|close| close.to_string()),
            Reader::Nats { held, asked, refused } => {
                held.extend_from_slice(bytes);
                let taken_bytes = take_operations(held, (asked, refused), out, &mut refuse, each)?;
                held.drain(..taken_bytes);
                Ok(())
            }
        }
    }
}

fn take_replies(bytes: &[u8], refuse: &mut impl FnMut(String), each: &mut impl FnMut(Answer)) -> Result<usize, String> {
    let limits = resp::Limits::default();
    let mut start = 0;
    while let Some((reply, length)) = resp::parse(&bytes[start..], &limits).map_err(|bad| bad.to_string())? {
        if let resp::Reply::Error(reason) = reply {
            refuse(reason.to_owned());
            each(Answer::Refused);
        } else {
            each(Answer::Taken);
        }
        start += length;
    }
    Ok(start)
}

/// An error does not say whose it is: it is one of the events before the next `PONG`.
fn take_operations(
    bytes: &[u8],
    (asked, refused): (&mut u64, &mut u64),
    out: &mut Vec<u8>,
    refuse: &mut impl FnMut(String),
    each: &mut impl FnMut(Answer),
) -> Result<usize, String> {
    let limits = nats::Limits::default();
    let mut start = 0;
    while let Some((operation, length)) = nats::parse(&bytes[start..], &limits).map_err(|bad| bad.to_string())? {
        match operation {
            nats::Operation::Pong => {
                let (count, refused) = (mem::take(asked), mem::take(refused));
                (0..count).for_each(|event| each(if event < refused { Answer::Refused } else { Answer::Taken }));
            }
            nats::Operation::Error(reason) => {
                *refused += 1;
                refuse(reason.to_owned());
            }
            nats::Operation::Ping => out.extend_from_slice(nats::PONG),
            nats::Operation::Info(_) | nats::Operation::Ok | nats::Operation::Message(_) => {}
        }
        start += length;
    }
    Ok(start)
}
