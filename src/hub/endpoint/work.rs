//! Work of one request that goes on over several turns of its reactor.
//!
//! A handler answers at once what is small. What takes longer than a step or two it makes a [`Work`]: a value that does a
//! bounded step whenever it is asked to. The reactor asks, between its laps, as long as its slice of the turn lasts, and all
//! work under way takes turns, step by step. Meanwhile the connection reads no further request.
//!
//! What is published in parts stays in order and is published whole: everything that may be wrong with the request is found
//! before the first event goes out ([`Work::is_committed`]), and from then on the work goes on though its client leaves.
//! Before that, a client that leaves takes its work along.

use std::fmt;

use super::{Answer, Context, ReceiptWaiter};
use crate::{
    bus::Receipt,
    json::{self, BadJson, LONG_TEXT_BYTES, Traits},
    protocol::http::Response,
};

/// How far a step has brought the work.
#[derive(Debug)]
pub enum Step {
    /// There is more to do.
    More,
    /// Nothing to do until [`Work::take_receipts`]: it has published with the form [`super::AnswerForm::Part`].
    Waiting,
    /// All is done.
    Done(Response),
    /// The rest is another thread's: a completion will bring the answer ([`super::Responder`]).
    Later,
}

/// Work that is done step by step. A step takes 0.1 ms or so: at most [`STEP_ENTRIES`] entries and [`STEP_BYTES`] bytes, unless
/// a single entry has more.
pub trait Work: Send + fmt::Debug {
    /// Does the next step.
    fn step(&mut self, context: &Context<'_>) -> Step;

    /// What became of the events that it published with the form [`super::AnswerForm::Part`].
    fn take_receipts(&mut self, _: ReceiptWaiter, _: Vec<Receipt>, _: &Context<'_>) {}

    /// Whether something of it has been published, so that it goes on though nobody waits for its answer.
    fn is_committed(&self) -> bool;

    /// The memory it holds, in bytes; charged to the memory budget while it is under way.
    fn held_bytes(&self) -> usize;
}

/// The most entries of a step.
pub(super) const STEP_ENTRIES: usize = 64;
/// The most bytes of a step, unless one entry alone has more.
pub(super) const STEP_BYTES: usize = 16 * 1024;
/// Steps that are done before the first answer: small requests are answered at once.
const STEPS_AT_ONCE: usize = 4;

/// Work that is not done within its first steps, and fields for its answer.
#[derive(Debug)]
pub struct OpenWork {
    /// What is to be done.
    pub work: Box<dyn Work>,
    /// Whether it waits for receipts.
    pub is_waiting: bool,
    /// Fields of the answer.
    pub headers: Vec<(&'static str, String)>,
}

/// What work may hold to be begun at once: a step may take as long as all it holds.
const BYTES_AT_ONCE: usize = STEPS_AT_ONCE * STEP_BYTES;

/// Begins `work`: its answer if that needs no more than a few short steps.
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

/// Does `then` with `text` and what [`json::check`] says of it: at once if it is short, else after a check step by step, and in a
/// step of its own. It answers at once or leaves the answer to a note.
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
