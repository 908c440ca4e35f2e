//! Answers that take their time: another thread does the work, and a completion brings its answer to the connection.

use std::sync::Arc;

use super::{Completion, Context};
use crate::{bus::Bus, label::RouteLabel, protocol::http::Response};

/// The way back to a connection whose request waits for another thread. Answer exactly once: until then the connection
/// reads no further request.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    bus: Arc<Bus>,
    reactor: usize,
    token: u64,
    route: RouteLabel,
}

impl Responder {
    /// For the request of `context`, counted as `route`.
    pub(super) fn new(route: RouteLabel, context: &Context<'_>) -> Self {
        let bus = Arc::clone(&context.hub.bus);
        Self { bus, reactor: context.reactor, token: context.token, route }
    }

    /// Sends `response`. If the client has left meanwhile, nobody gets it.
    pub(crate) fn respond(self, response: Response) {
        let make = Box::new(move |_: &Context<'_>| response.into());
        Completion::Answer { route: self.route, make }.send(&self.bus, self.reactor, self.token);
    }
}
