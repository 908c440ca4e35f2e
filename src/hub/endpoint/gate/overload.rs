//! Responses that ask a client to retry later: a limit is reached, or the hub shuts down.

use crate::{
    budget::Budget,
    close::Close,
    endpoint::{Answer, Context, Overload, ShutdownPhase},
    protocol::{
        AfterRefusal, Opening,
        http::{Request, Response},
    },
};

/// The close of a stream whose tenant has as many streams as its quota allows.
pub(crate) const STREAMS_USED_UP: Close = Close::TryLater("a quota of open streams is used up");

/// A full hub is unavailable (503). An address with too many connections has asked for too much (429).
fn overload_response(overload: Overload) -> Response {
    let (status, code) = match overload {
        Overload::Connections | Overload::Memory => (503, "overloaded"),
        Overload::Address => (429, "too_many_connections"),
    };
    later(status, code, overload.close())
}

/// Refuses `request` because the connection exceeds a limit.
pub(in crate::endpoint) fn refuse(request: &Request, overload: Overload) -> Answer {
    refuse_with_retry(request, overload.close(), overload_response(overload))
}

/// Makes `answer` close the connection.
pub(in crate::endpoint) fn answer_and_close(answer: Answer) -> Answer {
    match answer {
        Answer::Response(response) => response.with("Connection", "close").into(),
        other => other,
    }
}

/// Refuses a stream while the hub shuts down. Other answers pass: a request under way is still answered.
pub(in crate::endpoint) fn refuse_while_draining(request: &Request, answer: Answer, phase: ShutdownPhase) -> Answer {
    if phase == ShutdownPhase::Serving || !opens(&answer) {
        return answer;
    }
    refuse_with_retry(request, Close::Restart, later(503, Close::Restart.label(), Close::Restart))
}

/// Refuses a new stream while the memory budget is spent. A connection accepted earlier may still ask for one.
pub(in crate::endpoint) fn refuse_out_of_memory(request: &Request, answer: Answer, budget: &Budget) -> Answer {
    if budget.is_spent() && opens(&answer) { refuse(request, Overload::Memory) } else { answer }
}

/// Refuses a stream whose tenant has as many as its quota allows.
pub(in crate::endpoint) fn refuse_over_quota(request: &Request, mut answer: Answer, context: &Context<'_>) -> Answer {
    let Answer::Stream(open) = &mut answer else { return answer };
    let requester = Context { identity: open.identity.as_deref(), ..*context }.requester();
    match context.hub.quotas.open(requester, context.now) {
        Ok(reservation) => open.reservation = reservation,
        Err(refused) => {
            let response = Response::error(429, "quota_exceeded", &refused.to_string(), None);
            let response = response.with("Retry-After", refused.retry_after_s.to_string());
            return refuse_with_retry(request, STREAMS_USED_UP, response);
        }
    }
    answer
}

/// Whether `answer` opens a stream or a session.
fn opens(answer: &Answer) -> bool {
    match answer {
        Answer::Stream(_) => true,
        Answer::Engine(engine) => engine.kind.sid().is_none(),
        Answer::Response(_) | Answer::Later(_) | Answer::Work(_) | Answer::Ended { .. } => false,
    }
}

fn later(status: u16, code: &str, close: Close) -> Response {
    Response::error(status, code, &close.to_string(), None).with("Retry-After", "2").with("Connection", "close")
}

/// Refuses with `response`, or with a stream that ends at once and says when to retry. An `EventSource` of a browser retries only
/// after a 200, and a browser's `WebSocket` hides the response to a refused handshake, so both get the stream.
pub(in crate::endpoint) fn refuse_with_retry(request: &Request, close: Close, response: Response) -> Answer {
    match Opening::of_refusal(request, AfterRefusal::Retry) {
        Some(opening) => Answer::ended(opening, close),
        None => response.into(),
    }
}
