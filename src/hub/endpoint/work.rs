//! Work: a request that takes several turns of its reactor.
//!
//! A handler answers small requests at once. For longer ones it returns a [`Work`], which does a bounded step each time it is
//! asked to. Between its laps, the reactor does steps of all work under way, in rotation, for as long as its slice of the turn
//! lasts. Meanwhile the connection reads no further request.
//!
//! Work that publishes in parts publishes all of them, in order: it checks the whole request before the first event goes out
//! ([`Work::is_committed`]), and then goes on even if its client leaves. If the client leaves before that, the work is dropped.

use std::fmt;

use super::{Answer, Context, ReceiptWaiter};
use crate::{
    auth::Identity,
    bus::Receipt,
    json::{self, BadJson, LONG_TEXT_BYTES, Traits},
    protocol::http::Response,
};

/// The outcome of a step.
#[derive(Debug)]
pub enum Step {
    /// Ask for the next step.
    More,
    /// Ask for no step before [`Work::take_receipts`]: the step has published events with the form [`super::AnswerForm::Part`].
    Waiting,
    /// The work is done.
    Done(Response),
    /// Another thread does the rest, and a completion brings the answer ([`super::Responder`]).
    Later,
}

/// Work that is done in steps of about 0.1 ms: at most 64 entries and 16 KiB each, unless a single entry has more.
pub trait Work: Send + fmt::Debug {
    /// Does the next step.
    fn step(&mut self, context: &Context<'_>) -> Step;

    /// Takes the receipts of the events published with the form [`super::AnswerForm::Part`].
    fn take_receipts(&mut self, _: ReceiptWaiter, _: Vec<Receipt>, _: &Context<'_>) {}

    /// Whose request it is, if that is known.
    fn identity<'a>(&'a self, _: &Context<'a>) -> Option<&'a Identity> {
        None
    }

    /// Whether the work goes on after its client has left, because some of it is published.
    fn is_committed(&self) -> bool;

    /// The memory that the work holds, in bytes. The memory budget is charged for it while the work is under way.
    fn held_bytes(&self) -> usize;
}

/// The most entries of a step.
pub(super) const STEP_ENTRIES: usize = 64;
/// The most bytes of a step, unless a single entry has more.
pub(super) const STEP_BYTES: usize = 16 * 1024;
/// Steps done at once, before the work is handed to the reactor: small requests are answered at once.
const STEPS_AT_ONCE: usize = 4;

/// Work that was not done within its first steps.
#[derive(Debug)]
pub struct OpenWork {
    pub work: Box<dyn Work>,
    /// Whether the work waits for receipts.
    pub is_waiting: bool,
    /// Fields of the answer.
    pub headers: Vec<(&'static str, String)>,
}

/// The most that work may hold to be begun at once: a single step may take as long as all it holds.
const BYTES_AT_ONCE: usize = STEPS_AT_ONCE * STEP_BYTES;

/// Begins `work`. Answers at once if a few short steps are enough.
pub(super) fn begin(work: impl Work + 'static, context: &Context<'_>) -> Answer {
    let mut work: Box<dyn Work> = Box::new(work);
    let steps = if work.held_bytes() <= BYTES_AT_ONCE { STEPS_AT_ONCE } else { 0 };
    for _ in 0..steps {
        match work.step(context) {
            Step::More => {}
            Step::Waiting => return Answer::Work(OpenWork { work, is_waiting: true, headers: Vec::new() }),
            Step::Done(response) => return response.into(),
            Step::Later => return Answer::later(),
        }
    }
    Answer::Work(OpenWork { work, is_waiting: false, headers: Vec::new() })
}

/// Calls `then` with `text` and the result of [`json::check`]. A long text is first checked in steps, and `then` gets a step of
/// its own. `then` must answer at once or through a completion.
pub(super) fn check_first<F>(text: &str, context: &Context<'_>, then: F) -> Answer
where
    F: FnOnce(&str, Result<Traits, BadJson>, &Context<'_>) -> Answer + Send + 'static,
{
    if text.len() <= LONG_TEXT_BYTES {
        return then(text, json::check(text), context);
    }
    let checker = json::Checker::begin(text);
    begin(CheckFirst { text: text.to_owned(), checker, outcome: None, then: Some(then) }, context)
}

struct CheckFirst<F> {
    text: String,
    checker: json::Checker,
    outcome: Option<Result<Traits, BadJson>>,
    then: Option<F>,
}

impl<F> fmt::Debug for CheckFirst<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckFirst").field("checker", &self.checker).finish_non_exhaustive()
    }
}

impl<F> Work for CheckFirst<F>
where
    F: FnOnce(&str, Result<Traits, BadJson>, &Context<'_>) -> Answer + Send,
{
    fn step(&mut self, context: &Context<'_>) -> Step {
        let Some(outcome) = self.outcome else {
            self.outcome = self.checker.advance(&self.text, STEP_BYTES).transpose();
            return Step::More;
        };
        match self.then.take().map(|then| then(&self.text, outcome, context)) {
            Some(Answer::Response(response)) => Step::Done(response),
            _ => Step::Later,
        }
    }

    fn is_committed(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        self.text.len()
    }
}
