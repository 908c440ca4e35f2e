//! What other threads finish for a request or a session. It travels over the bus, which does not look into it, to the reactor of
//! the connection.

use std::fmt;

use super::{Answer, Context};
use crate::{
    bus::{Bus, Receipt},
    clock::Moment,
    label::RouteLabel,
    protocol::http::Response,
    topic::Topic,
};

/// Something that a connection waited for.
pub(crate) enum Completion {
    /// The answer to a request.
    Answer {
        /// What the request was for.
        route: RouteLabel,
        /// Makes the answer. Called on the connection's reactor.
        make: Box<dyn FnOnce(&Context<'_>) -> Answer + Send>,
    },
    /// What became of the publications of a request or a session.
    Published {
        /// Who waits for the receipts.
        waiting: ReceiptWaiter,
        /// One for each publication, in order.
        receipts: Vec<Receipt>,
    },
}

impl Completion {
    /// Sends it to the connection `token` of `reactor`. If the client has left meanwhile, nobody gets it.
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

/// Who waits for the receipts of publications: travels with them, so that the connection need not remember.
#[derive(Debug)]
pub struct ReceiptWaiter {
    /// The topics published to, in order.
    pub topics: Vec<Topic>,
    /// When the request came.
    pub began: Moment,
    /// The form of the answer.
    pub form: AnswerForm,
}

/// The form of the answer to publications. Each is made of the receipts, one for each publication, in order, on the connection's
/// reactor.
pub enum AnswerForm {
    /// The answer to a request, and what the request was for.
    Response(Box<dyn FnOnce(&[Receipt]) -> (RouteLabel, Response) + Send>),
    /// WebSocket frames.
    Frames(Box<dyn FnOnce(&[Receipt]) -> Vec<u8> + Send>),
    /// None yet: the publications are a part of work that goes on with the receipts.
    Part,
}

impl fmt::Debug for AnswerForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Response(_) => "Response",
            Self::Frames(_) => "Frames",
            Self::Part => "Part",
        })
    }
}
