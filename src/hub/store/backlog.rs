//! The queue to the writer, bounded by rows and by bytes. Every submission put into it is answered.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::{Config, KeepFailed, KeepReply, Kept, Record, StoreStatus};
use crate::{
    budget::{Budget, Charge, ChargeRefused},
    clock::{Clock, Moment},
    share::Owners,
};

/// Hands records to the writer. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    queue: Sender<Submission>,
    load: Arc<Load>,
    rows_max: usize,
    bytes_max: usize,
    queue_timeout: Duration,
    budget: Arc<Budget>,
    clock: Clock,
    status: Arc<StoreStatus>,
}

/// The waiting rows, including the batch that is being stored.
#[derive(Debug, Default)]
pub(super) struct Load {
    rows: AtomicUsize,
    bytes: AtomicUsize,
}

/// The memory of one request's records, charged to the memory budget and to their owners' shares until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The owner of each record, in order. `None`: no owners.
    owners: Option<Owners>,
    _charges: Vec<Charge>,
}

/// The records of one request. If it is dropped without an answer, it answers [`KeepFailed::Away`]: nothing was stored.
pub(super) struct Submission {
    /// In the order of the request.
    pub(super) records: Vec<Record>,
    /// The end of its time to wait for the database.
    pub(super) deadline: Moment,
    /// Whether it has been part of a transaction whose end is not known.
    pub(super) is_doubtful: bool,
    rows: usize,
    bytes: usize,
    reply: Option<KeepReply>,
    load: Arc<Load>,
    held: Held,
}

/// Both ends of the queue.
pub(super) fn queue(
    config: &Config,
    budget: Arc<Budget>,
    clock: Clock,
    status: Arc<StoreStatus>,
) -> (Backlog, Receiver<Submission>) {
    let (queue, queued) = bounded(config.queue_rows_max);
    let backlog = Backlog {
        queue,
        load: status.load(),
        rows_max: config.queue_rows_max,
        bytes_max: config.queue_bytes_max,
        queue_timeout: config.queue_timeout,
        budget,
        clock,
        status,
    };
    (backlog, queued)
}

impl Backlog {
    /// Charges the memory of `records` to the budget and to their owners' shares.
    pub(super) fn hold(&self, records: &[Record], owners: Option<Owners>) -> Result<Held, ChargeRefused> {
        let owner_of = |index: usize| owners.as_ref().and_then(|owners| owners.of(index));
        let weigh = |records: &[Record]| records.iter().map(Record::weight_bytes).sum();
        let (mut charges, mut first) = (Vec::new(), 0);
        // Records of one owner are consecutive; mostly there is one owner.
        while first < records.len() {
            let owner = owner_of(first);
            let is_other = |index: &usize| owner_of(*index).map(Arc::as_ptr) != owner.map(Arc::as_ptr);
            let end = (first..records.len()).find(is_other).unwrap_or(records.len());
            let charge = self.budget.try_charge_for(owner, weigh(&records[first..end])).inspect_err(|refused| {
                if *refused == ChargeRefused::NoRoom {
                    self.status.on_refused();
                }
            });
            charges.push(charge?);
            first = end;
        }
        Ok(Held { owners, _charges: charges })
    }

    /// Queues `records`, or refuses them at once: if too much waits, or if the database has been unreachable for longer than a
    /// record may wait.
    pub(super) fn push(&self, records: Vec<Record>, held: Held, reply: KeepReply) {
        let now = self.clock.now();
        let bytes = records.iter().map(Record::weight_bytes).sum();
        let rows_before = self.load.rows.fetch_add(records.len(), Ordering::Relaxed);
        let bytes_before = self.load.bytes.fetch_add(bytes, Ordering::Relaxed);
        let submission = Submission {
            rows: records.len(),
            records,
            deadline: now + self.queue_timeout,
            is_doubtful: false,
            bytes,
            reply: Some(reply),
            load: Arc::clone(&self.load),
            held,
        };
        if self.rows_max < rows_before + submission.rows || self.bytes_max < bytes_before + bytes {
            return self.refuse(submission, KeepFailed::QueueFull);
        }
        if self.status.away_for(now).is_some_and(|span| self.queue_timeout <= span) {
            return self.refuse(submission, KeepFailed::Away);
        }
        match self.queue.try_send(submission) {
            Ok(()) => {}
            Err(TrySendError::Full(submission)) => self.refuse(submission, KeepFailed::QueueFull),
            Err(TrySendError::Disconnected(submission)) => self.refuse(submission, KeepFailed::Away),
        }
    }

    fn refuse(&self, submission: Submission, why: KeepFailed) {
        self.status.on_refused();
        submission.answer(Err(why));
    }
}

impl Load {
    pub(super) fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// Their memory, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

impl Submission {
    /// The owner of each record, in order. `None`: no owners.
    pub(super) fn take_owners(&mut self) -> Option<Owners> {
        self.held.owners.take()
    }

    /// Answers the request, and releases its memory.
    pub(super) fn answer(self, outcome: Result<Vec<Kept>, KeepFailed>) {
        self.into_reply()(outcome);
    }

    /// Releases its memory, and leaves the answer to the caller.
    pub(super) fn into_reply(mut self) -> KeepReply {
        self.reply.take().unwrap_or_else(|| Box::new(drop))
    }
}

impl Drop for Submission {
    fn drop(&mut self) {
        self.load.rows.fetch_sub(self.rows, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some(reply) = self.reply.take() {
            reply(Err(if self.is_doubtful { KeepFailed::Unknown } else { KeepFailed::Away }));
        }
    }
}

impl fmt::Debug for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Submission").field("records", &self.records).finish_non_exhaustive()
    }
}
