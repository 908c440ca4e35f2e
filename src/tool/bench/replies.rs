//! What a publisher is answered: only whether each event was taken counts.

use crate::protocol::{http, resp};

/// The reader of one connection's answers.
#[derive(Debug)]
pub(super) enum Replies {
    /// A Redis server's: one reply per command.
    Redis {
        /// The beginning of a reply that is not all there.
        held: Vec<u8>,
    },
    /// An HTTP server's: one response per request, pipelined.
    Http(Box<http::ResponseReader>),
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
    /// Takes what the server sent and calls `each` with every answer complete with it.
    pub(super) fn receive(&mut self, bytes: &[u8], each: &mut impl FnMut(Answer)) -> Result<(), String> {
        match self {
            Self::Redis { held } => {
                held.extend_from_slice(bytes);
                let taken_bytes = parse_replies(held, each)?;
                held.drain(..taken_bytes);
                Ok(())
            }
            Self::Http(reader) => reader
                .receive(bytes, |part| {
                    if let http::ResponsePart::Head(head) = part {
                        each(if (200..300).contains(&head.status) { Answer::Taken } else { Answer::Refused });
                    }
                })
                .map_err(|close| close.to_string()),
        }
    }
}

fn parse_replies(bytes: &[u8], each: &mut impl FnMut(Answer)) -> Result<usize, String> {
    let limits = resp::Limits::default();
    let mut start = 0;
    while let Some((reply, length)) = resp::parse(&bytes[start..], &limits).map_err(|bad| bad.to_string())? {
        each(if matches!(reply, resp::Reply::Error(_)) { Answer::Refused } else { Answer::Taken });
        start += length;
    }
    Ok(start)
}
