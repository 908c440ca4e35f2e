//! Work of requests that goes on over several turns ([`crate::endpoint::Work`]): who does the next step, and for how long.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    Reactor, Shared,
    connection::Admission,
    net::{Net, Token},
};
use crate::{
    auth::Identity,
    bus::Receipt,
    endpoint::{self, Context, OpenWork, ReceiptWaiter, Step, Work},
    index::Slot,
    label::RouteLabel,
    protocol::http::Response,
    share::ByteReservation,
};

/// How long work is done in a turn; then laps, and whatever arrives, come first again. A step takes a fifth of it or so.
pub(super) const WORK_SLICE: Duration = Duration::from_micros(500);

/// The work under way on a reactor.
#[derive(Debug, Default)]
pub(super) struct Works {
    /// What can go on, the next first.
    ready: VecDeque<Job>,
    /// What waits for receipts, by the connection's token.
    waiting: HashMap<u64, Job, foldhash::fast::RandomState>,
}

/// The work of one request.
#[derive(Debug)]
struct Job {
    work: Box<dyn Work>,
    /// The connection that waits for the answer; it may have left.
    token: Token,
    /// What the request was for.
    route: RouteLabel,
    admission: Admission,
    identity: Option<Arc<Identity>>,
    /// What it holds of the memory budget, in bytes.
    charged_bytes: usize,
    /// What it holds of its sender's share: the body that was charged while it came.
    reservation: Option<ByteReservation>,
}

impl Works {
    /// Whether some of it can go on.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether none is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.waiting.is_empty()
    }
}

impl<N: Net> Reactor<N> {
    /// Takes in the work of the request that the connection at `slot` waits for.
    pub(super) fn open_work(&mut self, slot: Slot, route: RouteLabel, open: OpenWork) {
        let OpenWork { work, is_waiting, headers } = open;
        let budget = self.hub.bus.budget();
        if !work.is_committed() && budget.is_spent() {
            let response =
                Response::error(503, "overloaded", "the memory budget is spent; nothing was published", None);
            return self.respond(slot, route, &response.with("Retry-After", "1"));
        }
        self.keep_fields(slot, headers);
        let token = self.connections.token(slot);
        let Some(connection) = self.connections.at(slot) else { return };
        let (admission, identity) = (connection.admission(), connection.identity.clone());
        let reservation = self.senders.take(slot);
        let mut job = Job { work, token, route, admission, identity, charged_bytes: 0, reservation };
        self.charge_job(&mut job);
        self.put_job(job, is_waiting);
    }

    /// Does steps of what is under way, and of the checks of long messages, in turns, until the slice is over.
    pub(super) fn run_works(&mut self) {
        if !self.works.has_ready() && !self.checks.has_ready() {
            return;
        }
        let began = self.net.now();
        while self.works.has_ready() || self.checks.has_ready() {
            if let Some(job) = self.works.ready.pop_front() {
                self.step_job(job);
            }
            self.step_check();
            if WORK_SLICE <= self.net.now().since(began) {
                break;
            }
        }
    }

    /// The receipts of a part of what the connection `token` waits for.
    pub(super) fn resume_work(&mut self, token: Token, waiting: ReceiptWaiter, receipts: Vec<Receipt>) {
        let Some(mut job) = self.works.waiting.remove(&token.pack()) else { return };
        let shared = self.shared();
        let (admission, identity) = (job.admission, job.identity.clone());
        let context = self.context_of(&shared, job.token, admission, identity.as_deref());
        job.work.take_receipts(waiting, receipts, &context);
        self.put_job(job, false);
    }

    fn step_job(&mut self, mut job: Job) {
        if self.connections.named(job.token).is_none() && !job.work.is_committed() {
            return self.hub.bus.budget().adjust(job.charged_bytes, 0);
        }
        let shared = self.shared();
        let (admission, identity) = (job.admission, job.identity.clone());
        let context = self.context_of(&shared, job.token, admission, identity.as_deref());
        let step = job.work.step(&context);
        match step {
            Step::More => {
                self.charge_job(&mut job);
                self.put_job(job, false);
            }
            Step::Waiting => {
                self.charge_job(&mut job);
                self.put_job(job, true);
            }
            Step::Later => shared.hub.bus.budget().adjust(job.charged_bytes, 0),
            Step::Done(response) => {
                shared.hub.bus.budget().adjust(job.charged_bytes, 0);
                endpoint::count_forbidden_work(&response, job.route, job.work.identity(&context), &context);
                self.answer_later_owned(job.token, job.route, response);
            }
        }
    }

    fn put_job(&mut self, job: Job, is_waiting: bool) {
        if is_waiting {
            self.works.waiting.insert(job.token.pack(), job);
        } else {
            self.works.ready.push_back(job);
        }
    }

    fn charge_job(&self, job: &mut Job) {
        let held_bytes = job.work.held_bytes();
        self.hub.bus.budget().adjust(job.charged_bytes, held_bytes);
        job.charged_bytes = held_bytes;
        if let Some(reservation) = &mut job.reservation {
            // The body had room; what is made of it is little more, and the budget bounds it.
            let _ = reservation.try_resize(held_bytes);
        }
    }

    /// The connection may have left, and another may stand in its slot: the token is the request's own.
    fn context_of<'hub>(
        &self,
        shared: &'hub Shared,
        token: Token,
        admission: Admission,
        identity: Option<&'hub Identity>,
    ) -> Context<'hub> {
        Context { token: token.pack(), ..self.context(shared, token.slot, admission, identity) }
    }
}
