//! The handle by which another thread answers a request.

use std::sync::Arc;

use super::{Completion, Context};
use crate::{bus::Bus, label::RouteLabel, protocol::http::Response};

/// Answers a request from another thread, through a completion. Respond exactly once: until then the connection reads no further
/// request.
#[derive(Clone, Debug)]
pub(crate) struct Responder {
    bus: Arc<Bus>,
    reactor: usize,
    token: u64,
    route: RouteLabel,
}

impl Responder {
    /// A responder for the request of `context`, counted as `route`.
    pub(super) fn new(route: RouteLabel, context: &Context<'_>) -> Self {
        let bus = Arc::clone(&context.hub.bus);
        Self { bus, reactor: context.reactor, token: context.token, route }
    }

    /// Sends `response`. If the client has left, it is dropped.
    pub(crate) fn respond(self, response: Response) {
        let make = Box::new(move |_: &Context<'_>| response.into());
        Completion::Answer { route: self.route, make }.send(&self.bus, self.reactor, self.token);
    }
}
