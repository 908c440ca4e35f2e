//! The replies to publications, of Redis, an HTTP server or NATS: one for each event, in order. Pure.

use std::mem;

use super::request::{Response, refusal_words};
use crate::protocol::{http, nats, resp};

/// The most bytes of a refusal that are kept.
const REFUSAL_BYTES_MAX: usize = 4096;
/// The most characters of a refusal that are shown: some servers send a page.
const REFUSAL_WORDS_MAX: usize = 300;

/// Reads the replies on one connection.
#[derive(Debug)]
pub(crate) struct Replies {
    reader: ReplyReader,
    /// The message of the first refusal: some servers refuse an event and close before they answer all.
    pub(crate) first_refusal: Option<String>,
}

#[derive(Debug)]
enum ReplyReader {
    /// A Redis server's: one reply per command.
    Redis {
        /// The beginning of a reply that is not all there.
        held: Vec<u8>,
    },
    /// An HTTP server's: one response per request.
    Http {
        responses: Box<http::ResponseReader>,
        /// What there is of the response that has begun.
        answer: Response,
    },
    /// A NATS server's: a `PONG` for all that was published before its `PING`, and errors.
    Nats {
        /// The beginning of an operation that is not all there.
        held: Vec<u8>,
        /// How many events the `PING` on its way asks for; 0 if there is none.
        asked: u64,
        /// How many errors there were since the last `PONG`, and what the newest said.
        refused: (u64, String),
    },
}

/// The reply to one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// The event was published.
    Taken {
        /// Redis says that the channel has no subscriber.
        is_unheard: bool,
    },
    /// The event was not published, for this reason.
    Refused(String),
}

/// An event was published; the number of subscribers is not known.
const TAKEN: Reply = Reply::Taken { is_unheard: false };

impl Replies {
    /// Of a Redis server.
    pub(crate) fn redis() -> Self {
        Self::of(ReplyReader::Redis { held: Vec::new() })
    }

    /// Of an HTTP server.
    pub(crate) fn http() -> Self {
        let answer = Response { status: 0, body: Vec::new() };
        Self::of(ReplyReader::Http { responses: Box::new(http::ResponseReader::new()), answer })
    }

    /// Of a NATS server that has let the client in, and has sent these bytes since.
    pub(crate) fn nats(held: Vec<u8>) -> Self {
        Self::of(ReplyReader::Nats { held, asked: 0, refused: (0, String::new()) })
    }

    fn of(reader: ReplyReader) -> Self {
        Self { reader, first_refusal: None }
    }

    /// Appends a request for the reply to `unanswered` events, where the server sends none by itself (NATS).
    pub(crate) fn ask(&mut self, unanswered: u64, out: &mut Vec<u8>) {
        if let ReplyReader::Nats { asked: asked @ 0, .. } = &mut self.reader
            && 0 < unanswered
        {
            *asked = unanswered;
            out.extend_from_slice(nats::PING);
        }
    }

    /// Takes what the server sent and calls `each` with every reply that is complete with it. What must be sent back is appended
    /// to `out`. Fails if the bytes are no reply of such a server.
    pub(crate) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        each: &mut impl FnMut(Reply),
    ) -> Result<(), String> {
        let first_refusal = &mut self.first_refusal;
        let mut each = |reply: Reply| {
            if let Reply::Refused(reason) = &reply
                && first_refusal.is_none()
            {
                *first_refusal = Some(reason.clone());
            }
            each(reply);
        };
        match &mut self.reader {
            ReplyReader::Redis { held } => {
                held.extend_from_slice(bytes);
                let taken_bytes = take_replies(held, &mut each)?;
                held.drain(..taken_bytes);
                Ok(())
            }
            ReplyReader::Http { responses, answer } => {
                let done = responses.receive(bytes, |part| take_part(part, answer, &mut each));
                done.map_err(|close| format!("the answer is no HTTP: {close}"))
            }
            ReplyReader::Nats { held, asked, refused } => {
                held.extend_from_slice(bytes);
                let taken_bytes = take_operations(held, (asked, refused), out, &mut each)?;
                held.drain(..taken_bytes);
                if 0 < refused.0 {
                    self.first_refusal.get_or_insert_with(|| refused.1.clone());
                }
                Ok(())
            }
        }
    }
}

/// Returns how many bytes whole replies took.
fn take_replies(bytes: &[u8], each: &mut impl FnMut(Reply)) -> Result<usize, String> {
    let limits = resp::RespLimits::default();
    let mut start = 0;
    while let Some((reply, length)) =
        resp::parse(&bytes[start..], &limits).map_err(|bad| format!("the answer is no RESP: {bad}"))?
    {
        each(match reply {
            resp::Reply::Error(text) => Reply::Refused(format!("Redis answered: {text}")),
            reply => Reply::Taken { is_unheard: reply == resp::Reply::Integer(0) },
        });
        start += length;
    }
    Ok(start)
}

fn take_part(part: http::ResponsePart<'_>, answer: &mut Response, each: &mut impl FnMut(Reply)) {
    match part {
        http::ResponsePart::Head(head) => *answer = Response { status: head.status, body: Vec::new() },
        http::ResponsePart::Body(bytes) => {
            let room = REFUSAL_BYTES_MAX.saturating_sub(answer.body.len()).min(bytes.len());
            answer.body.extend_from_slice(&bytes[..room]);
        }
        http::ResponsePart::End if (200..300).contains(&answer.status) => each(TAKEN),
        http::ResponsePart::End => {
            let words: String = refusal_words(answer).chars().take(REFUSAL_WORDS_MAX).collect();
            each(Reply::Refused(format!("the server answered {}: {words}", answer.status)));
        }
    }
}

/// An error does not say whose it is: it is one of the events before the next `PONG`.
fn take_operations(
    bytes: &[u8],
    (asked, refused): (&mut u64, &mut (u64, String)),
    out: &mut Vec<u8>,
    each: &mut impl FnMut(Reply),
) -> Result<usize, String> {
    let limits = nats::NatsLimits::default();
    let mut start = 0;
    while let Some((operation, length)) =
        nats::parse(&bytes[start..], &limits).map_err(|bad| format!("the answer is no NATS: {bad}"))?
    {
        match operation {
            nats::Operation::Pong => {
                let (count, (refused, reason)) = (mem::take(asked), mem::take(refused));
                (0..count).for_each(|event| each(if event < refused { Reply::Refused(reason.clone()) } else { TAKEN }));
            }
            nats::Operation::Error(reason) => *refused = (refused.0 + 1, format!("NATS answered: {reason}")),
            nats::Operation::Ping => out.extend_from_slice(nats::PONG),
            nats::Operation::Info(_) | nats::Operation::Ok | nats::Operation::Message(_) => {}
        }
        start += length;
    }
    Ok(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(is_unheard: bool) -> Reply {
        Reply::Taken { is_unheard }
    }

    fn refused(reason: &str) -> Reply {
        Reply::Refused(reason.into())
    }

    #[test]
    fn answers_are_read_in_any_pieces() {
        let check = |make: fn() -> Replies, bytes: &str, expected: &[Reply]| {
            for piece_bytes in 1..=bytes.len() {
                let (mut replies, mut received, mut out) = (make(), Vec::new(), Vec::new());
                for piece in bytes.as_bytes().chunks(piece_bytes) {
                    replies.receive(piece, &mut out, &mut |reply| received.push(reply)).expect("well-formed");
                }
                assert_eq!(received, expected, "in pieces of {piece_bytes}: {bytes}");
                assert_eq!(out, b"", "neither is asked anything");
            }
        };
        let redis = ":0\r\n:12\r\n-NOPERM no\r\n:1";
        check(Replies::redis, redis, &[taken(true), taken(false), refused("Redis answered: NOPERM no")]);
        let http = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n\
                    HTTP/1.1 401 No\r\nContent-Length: 30\r\n\r\n{\"error\":{\"message\":\"no way\"}}\
                    HTTP/1.1 503 No\r\nContent-Length: 6\r\n\r\n busy\n";
        let refusals = [refused("the server answered 401: no way"), refused("the server answered 503: busy")];
        check(Replies::http, http, &[&[taken(false), taken(false)], &refusals[..]].concat());
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        for mut replies in [Replies::redis(), Replies::http(), Replies::nats(Vec::new())] {
            assert!(replies.receive(b"220 mail.example.org\r\n\r\n", &mut Vec::new(), &mut |_| {}).is_err());
        }
    }

    #[test]
    fn one_answer_counts_for_all_that_was_published_before_it() {
        let (mut replies, mut out) = (Replies::nats(Vec::new()), Vec::new());
        let receive = |replies: &mut Replies, bytes: &[u8], out: &mut Vec<u8>| {
            let mut received = Vec::new();
            replies.receive(bytes, out, &mut |reply| received.push(reply)).expect("well-formed");
            received
        };
        replies.ask(0, &mut out);
        assert_eq!(out, b"", "nothing was published");
        replies.ask(3, &mut out);
        replies.ask(5, &mut out);
        assert_eq!(out, b"PING\r\n", "one is on its way");
        out.clear();
        assert_eq!(receive(&mut replies, b"INFO {}\r\nPING\r\nPO", &mut out), []);
        assert_eq!(out, b"PONG\r\n");
        assert_eq!(receive(&mut replies, b"NG\r\n", &mut out), [TAKEN, TAKEN, TAKEN]);
        replies.ask(2, &mut out);
        let words = "NATS answered: Permissions Violation";
        assert_eq!(receive(&mut replies, b"-ERR 'Permissions Violation'\r\n", &mut out), []);
        assert_eq!(replies.first_refusal.as_deref(), Some(words), "even if it closes now");
        assert_eq!(receive(&mut replies, b"PONG\r\nPONG\r\n", &mut out), [refused(words), TAKEN]);
    }
}
