//! Completions: what other threads finish for a request or a session. The bus carries a completion, without looking into it, to
//! the reactor of the connection.

use std::fmt;

use super::{Answer, Context};
use crate::{
    bus::{Bus, Receipt},
    clock::Moment,
    label::RouteLabel,
    protocol::http::Response,
    topic::Topic,
};

/// The end of something that a connection waits for.
pub(crate) enum Completion {
    /// The answer to a request is ready.
    Answer {
        /// What the request counts as in the metrics.
        route: RouteLabel,
        /// Makes the answer. Called on the connection's reactor.
        make: Box<dyn FnOnce(&Context<'_>) -> Answer + Send>,
    },
    /// The source has answered the publications of a request or a session.
    Published {
        /// Who waits for the receipts.
        waiting: ReceiptWaiter,
        /// One for each publication, in order.
        receipts: Vec<Receipt>,
    },
}

impl Completion {
    /// Sends the completion to the connection `token` of `reactor`. If the client has left, it is dropped.
    pub(super) fn send(self, bus: &Bus, reactor: usize, token: u64) {
        bus.inbox(reactor).complete(token, self);
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Answer { .. } => "Answer",
            Self::Published { .. } => "Published",
        })
    }
}

/// Who waits for the receipts of publications. It travels with the publications, so the connection need not remember it.
#[derive(Debug)]
pub struct ReceiptWaiter {
    /// The topics published to, in order.
    pub topics: Vec<Topic>,
    /// When the request came.
    pub began: Moment,
    /// How the receipts become an answer.
    pub form: AnswerForm,
}

/// How receipts become an answer, on the connection's reactor. Each function gets one receipt for each publication, in order.
pub enum AnswerForm {
    /// The response to a request, and what the request counts as in the metrics.
    Response(ReceiptsToResponse),
    /// WebSocket frames.
    Frames(ReceiptsToFrames),
    /// No answer yet: the publications are part of work that goes on with the receipts.
    Part,
}

/// Makes a response of receipts, and says what the request counts as in the metrics.
pub(crate) type ReceiptsToResponse = Box<dyn FnOnce(&[Receipt]) -> (RouteLabel, Response) + Send>;

/// Makes WebSocket frames of receipts.
pub(crate) type ReceiptsToFrames = Box<dyn FnOnce(&[Receipt]) -> Vec<u8> + Send>;

impl fmt::Debug for AnswerForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Response(_) => "Response",
            Self::Frames(_) => "Frames",
            Self::Part => "Part",
        })
    }
}
