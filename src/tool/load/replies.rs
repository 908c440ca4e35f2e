//! What Redis, or a hub, answers to publications: one answer for each, in their order. Pure.

use crate::{
    protocol::{
        http::{ResponsePart, ResponseReader},
        resp,
    },
    tool::client::{Answer, describe_refusal},
};

/// How many bytes of a refusal are kept to be shown.
const REFUSAL_BYTES_MAX: usize = 4096;

/// The reader of one connection's answers.
#[derive(Debug)]
pub(super) enum Replies {
    /// A Redis server's, with the beginning of a reply that is not all there.
    Redis(Vec<u8>),
    /// A hub's, with the answer that is under way.
    Hub(Box<ResponseReader>, Answer),
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// The event was published.
    Taken {
        /// Redis says that nobody listens to the channel.
        is_unheard: bool,
    },
    /// It was not, and why.
    Refused(String),
}

impl Replies {
    /// Of a Redis server.
    pub(super) fn redis() -> Self {
        Self::Redis(Vec::new())
    }

    /// Of a hub.
    pub(super) fn hub() -> Self {
        Self::Hub(Box::new(ResponseReader::new()), Answer { status: 0, body: Vec::new() })
    }

    /// Takes what was sent, and calls `each` with every answer that is complete with it. An error is no answer at all.
    pub(super) fn receive(&mut self, bytes: &[u8], each: &mut impl FnMut(Reply)) -> Result<(), String> {
        match self {
            Self::Redis(held) => {
                held.extend_from_slice(bytes);
                let taken_bytes = read_redis(held, each)?;
                held.drain(..taken_bytes);
                Ok(())
            }
            Self::Hub(reader, answer) => {
                let done = reader.receive(bytes, |part| take_part(part, answer, each));
                done.map_err(|close| format!("the answer is no HTTP: {close}"))
            }
        }
    }
}

/// Returns how many bytes whole replies took.
fn read_redis(bytes: &[u8], each: &mut impl FnMut(Reply)) -> Result<usize, String> {
    let limits = resp::Limits::default();
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

fn take_part(part: ResponsePart<'_>, answer: &mut Answer, each: &mut impl FnMut(Reply)) {
    match part {
        ResponsePart::Head(head) => *answer = Answer { status: head.status, body: Vec::new() },
        ResponsePart::Body(bytes) => {
            let room = REFUSAL_BYTES_MAX.saturating_sub(answer.body.len()).min(bytes.len());
            answer.body.extend_from_slice(&bytes[..room]);
        }
        ResponsePart::End if (200..300).contains(&answer.status) => each(Reply::Taken { is_unheard: false }),
        ResponsePart::End => each(Reply::Refused(describe_refusal(answer))),
    }
}
