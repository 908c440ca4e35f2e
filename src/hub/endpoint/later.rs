//! Answers that take their time: another thread does the work, and a note brings its answer to the connection.

use std::sync::Arc;

use super::Context;
use crate::{
    bus::{Answered, Bus, ControlMessage},
    label::RouteLabel,
    protocol::http::Response,
};

/// The way back to a connection whose request waits for another thread. Answer exactly once: until then the connection
/// reads no further request.
#[derive(Clone, Debug)]
pub struct Later {
    bus: Arc<Bus>,
    reactor: usize,
    token: u64,
    route: RouteLabel,
}

impl Later {
    /// For the request of `context`, counted as `route`.
    pub(super) fn new(route: RouteLabel, context: &Context<'_>) -> Self {
        let bus = Arc::clone(&context.hub.bus);
        Self { bus, reactor: context.reactor, token: context.token, route }
    }

    /// Sends `response`. If the client has left meanwhile, nobody gets it.
    pub fn answer(self, response: Response) {
        let answered = answered(self.route, response);
        self.bus.inbox(self.reactor).send_control(ControlMessage::Answered { token: self.token, answered });
    }
}

/// `response` in the bus's terms.
pub(super) fn answered(route: RouteLabel, response: Response) -> Answered {
    let Response { status, headers, body } = response;
    Answered { route, status, headers, body }
}
