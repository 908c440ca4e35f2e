//! Publishes stored records through the source of their topic, and reports the outcome.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{
    KeepReply, Kept, Record, StoreStatus,
    batch::{Mark, Stored},
    record::write_event_id,
};
use crate::{
    bus::{Bus, Publication, PublishFailed, Receipt},
    clock::{Clock, Moment},
    event::Payload,
    share::Owners,
};

/// Publishes stored records.
#[derive(Debug)]
pub(super) struct Announcer {
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<StoreStatus>,
    marks: Sender<Mark>,
}

/// The records of one request, until all of them are published.
struct Pending {
    missing: usize,
    began: Moment,
    clock: Clock,
    kept: Vec<Kept>,
    reply: Option<KeepReply>,
    marks: Sender<Mark>,
    status: Arc<StoreStatus>,
}

impl Announcer {
    /// Also returns the receiver of its reports: successful publications, at most `marks_max`. A publication whose report has no
    /// room is repeated later under the same key.
    pub(super) fn new(
        bus: Arc<Bus>,
        clock: Clock,
        status: Arc<StoreStatus>,
        marks_max: usize,
    ) -> (Self, Receiver<Mark>) {
        let (marks, marked) = bounded(marks_max);
        (Self { bus, clock, status, marks }, marked)
    }

    /// Publishes those of `records` that are not published according to `stored`, and calls `reply` once each has its answer. If a
    /// repeat has found an earlier record, that record is published. The events count for `owners`, one for each record in order.
    /// If a share is used up, the record stays in the outbox and is published later.
    pub(super) fn announce(&self, records: Vec<Record>, owners: Option<Owners>, stored: Vec<Stored>, reply: KeepReply) {
        let kept = stored.iter().map(|stored| Kept {
            record_id: stored.record_id,
            published: stored.published,
            event_id: stored.event_id.clone(),
        });
        let kept: Vec<Kept> = kept.collect();
        let due: Vec<(usize, Box<str>, Record)> = records
            .into_iter()
            .zip(stored)
            .enumerate()
            .filter(|(_, (_, stored))| !stored.published)
            .map(|(index, (record, stored))| (index, stored.key, stored.earlier.unwrap_or(record)))
            .collect();
        if due.is_empty() {
            return reply(Ok(kept));
        }
        let ids: Vec<i64> = due.iter().map(|(index, ..)| kept[*index].record_id).collect();
        let (marks, status) = (self.marks.clone(), Arc::clone(&self.status));
        let (began, clock) = (self.clock.now(), self.clock);
        let pending = Pending { missing: due.len(), began, clock, kept, reply: Some(reply), marks, status };
        self.publish(due.into_iter().zip(ids), owners.as_ref(), &Arc::new(Mutex::new(pending)));
    }

    fn publish(
        &self,
        due: impl Iterator<Item = ((usize, Box<str>, Record), i64)>,
        owners: Option<&Owners>,
        pending: &Arc<Mutex<Pending>>,
    ) {
        let mut feed = self.bus.feed();
        for ((index, key, record), record_id) in due {
            feed.hold_for(owners.and_then(|owners| owners.of(index)).cloned());
            let (kind, data) = (record.kind.event(), record.payload(Some(record_id)));
            let Some(sink) = self.bus.event_sink(&record.topic) else {
                let published =
                    feed.publish_once(&key, &record.topic, Some(kind), Payload::json(data), self.clock.now());
                // All other checks were made before the record was stored.
                settle(pending, index, key, published.map(Some).map_err(|_| PublishFailed::NoRoom));
                continue;
            };
            let pending = Arc::clone(pending);
            let idempotency_key = Some(key.clone());
            let reply = Box::new(move |receipt| settle(&pending, index, key, receipt));
            let kind = Some(kind.into());
            sink.publish(Publication { topic: record.topic, kind, data, idempotency_key, bridged: None, reply });
        }
    }
}

/// Takes one answer. The last one answers the request.
fn settle(pending: &Mutex<Pending>, index: usize, key: Box<str>, receipt: Receipt) {
    let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
    if let Ok(id) = receipt {
        let event_id = write_event_id(id);
        pending.kept[index].published = true;
        pending.kept[index].event_id.clone_from(&event_id);
        // If there is no room, or no receiver, the record stays in the outbox as unpublished.
        let took = pending.clock.now().since(pending.began);
        let _ = pending.marks.try_send(Mark { key, event_id, took });
    } else {
        pending.status.on_unpublished();
    }
    pending.missing -= 1;
    if pending.missing == 0
        && let Some(reply) = pending.reply.take()
    {
        let kept = mem::take(&mut pending.kept);
        drop(pending);
        reply(Ok(kept));
    }
}
