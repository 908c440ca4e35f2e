//! A request with records, handled step by step: all objects are read and checked, then stored or published.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use super::{
    RecordLine, Results, describe_failure, describe_invalid, describe_outcome, describe_unpublished, error,
    idempotency_key, label, refuse,
    validate::{Invalid, RecordReader, wrong},
};
use crate::{
    auth::{Identity, PublishRequest, PublishTotals, Requester},
    budget::ChargeRefused,
    bus::{PublishFailed, Receipt},
    clock::Moment,
    endpoint::{
        AnswerForm, CheckedEvent, Context, ReceiptWaiter, Responder, Telemetry,
        gate::{access, publish::publish_part},
        work::{STEP_BYTES, STEP_ENTRIES, Step, Work},
    },
    event::Payload,
    json::Traits,
    protocol::{
        http::{Request, Response},
        json_values::{JsonValues, NextValue},
    },
    share::Owners,
    store::{KeepFailed, Kind, Record},
};

/// A request with records under way.
#[derive(Debug)]
pub(super) struct Ingest {
    kind: Kind,
    body: String,
    values: JsonValues,
    identity: Option<Arc<Identity>>,
    /// The idempotency key: a repeat is neither stored nor published.
    key: Option<Box<str>>,
    received_us: u64,
    began: Moment,
    /// Objects that are found and not checked yet.
    objects: VecDeque<(Range<u32>, Traits)>,
    /// The state of reading the first of them.
    reader: RecordReader,
    /// Whether all objects are found.
    is_read: bool,
    /// Records that are checked and not handed on yet.
    records: VecDeque<Record>,
    /// The weight of `records`, in bytes.
    record_bytes: usize,
    /// What the answer says of each record.
    lines: Vec<RecordLine>,
    /// What the records take of the client's quotas.
    tally: PublishTotals,
    /// The tenant that each record is charged to, set once the quotas admit all of them.
    owners: Option<Owners>,
    /// Whether all records are checked. The rest then follows even if the client leaves.
    is_checked: bool,
    /// The outcomes of the published records.
    results: Results,
    /// The first failure.
    failed: Option<PublishFailed>,
}

impl Ingest {
    /// Starts with the body of `request`.
    pub(super) fn new(kind: Kind, request: &Request, context: &Context<'_>) -> Result<Self, Response> {
        let identity = access::identify(request, context).map_err(refuse)?;
        let key = idempotency_key(request)?.map(Box::from);
        let body = simdutf8::compat::from_utf8(&request.body);
        let body = body.map_err(|bad| not_json(&format!("it is not UTF-8: {bad}")))?.to_owned();
        let began = context.now;
        Ok(Self {
            kind,
            body,
            values: JsonValues::default(),
            identity,
            key,
            received_us: context.hub.wall.unix_ms(began) * 1000,
            began,
            objects: VecDeque::new(),
            reader: RecordReader::default(),
            is_read: false,
            records: VecDeque::new(),
            record_bytes: 0,
            lines: Vec::new(),
            tally: PublishTotals::default(),
            owners: None,
            is_checked: false,
            results: Results::default(),
            failed: None,
        })
    }

    fn requester<'a>(&'a self, context: &Context<'a>) -> Requester<'a> {
        Requester { identity: self.identity.as_deref(), ..context.requester() }
    }

    /// Finds the next objects. `true`: all are found. Too many objects are refused before anything is made of the first.
    fn read_some(&mut self, context: &Context<'_>) -> Result<bool, Response> {
        let objects_max = context.hub.extension::<Telemetry>().objects_max;
        let from = self.values.consumed_bytes();
        for _ in 0..STEP_ENTRIES {
            let is_first = self.objects.is_empty();
            let value = self.values.next_within(&self.body, STEP_BYTES);
            let end = self.values.consumed_bytes();
            let range = match value {
                Ok(NextValue::More) => return Ok(false),
                Ok(NextValue::Value(value)) => (end - value.len()) as u32..end as u32,
                Ok(NextValue::End) if is_first && self.values.is_ended_array() => {
                    return Err(bad("the array is empty"));
                }
                Ok(NextValue::End) if is_first => return Err(not_json("it is empty")),
                Ok(NextValue::End) => return Ok(true),
                Err(bad) => return Err(not_json(&bad.message)),
            };
            if !is_first && !self.values.is_array() {
                return Err(not_json("something follows the object; several are an array of them"));
            }
            if self.values.is_array() && self.objects.len() == objects_max {
                let message = format!("more than {objects_max} objects are too many for one request");
                return Err(describe_invalid(&Invalid { status: 413, ..wrong(&message) }));
            }
            // The HTTP reader limits the body far below the range of these numbers.
            self.objects.push_back((range, self.values.traits()));
            if STEP_BYTES <= end - from {
                break;
            }
        }
        Ok(false)
    }

    /// Checks the next objects. Every error in them is found here, before anything is stored or published.
    fn check_some(&mut self, context: &Context<'_>) -> Result<(), Response> {
        let (mut count, mut bytes) = (0, 0);
        while count < STEP_ENTRIES
            && bytes < STEP_BYTES
            && let Some((range, traits)) = self.objects.front().cloned()
        {
            let text = &self.body[range.start as usize..range.end as usize];
            if !self.reader.advance(self.kind, (text, traits), STEP_BYTES) {
                break;
            }
            self.objects.pop_front();
            (count, bytes) = (count + 1, bytes + range.len());
            self.check(range, traits, context)?;
        }
        Ok(())
    }

    /// Checks an object that is read completely.
    fn check(&mut self, range: Range<u32>, traits: Traits, context: &Context<'_>) -> Result<(), Response> {
        let reader = std::mem::take(&mut self.reader);
        let (kind, index, is_single) = (self.kind, self.lines.len(), !self.values.is_ended_array());
        let text = &self.body[range.start as usize..range.end as usize];
        if is_single && !text.starts_with('{') {
            return Err(bad("the body must be an object, or an array of objects"));
        }
        let record = reader.finish(kind, (text, traits), self.received_us).map_err(|invalid| {
            let index = (!is_single).then_some(index);
            describe_invalid(&Invalid { index, ..invalid })
        })?;
        access::may_publish(self.identity.as_deref(), &record.topic).map_err(refuse)?;
        let key = self.key.as_ref().map(|key| format!("{}:{}:{key}:{index}", kind.event(), record.well_id).into());
        let record = Record { key, ..record };
        let payload = record.payload(Some(i64::MAX));
        if context.hub.bus.check(Some(kind.event()), &payload).is_err() {
            return Err(error(413, "PayloadTooLarge", &format!("object {index} is over the limit of one event")));
        }
        let requester = Requester { identity: self.identity.as_deref(), ..context.requester() };
        let wanted = PublishRequest { topic: &record.topic, bytes: payload.len() };
        context.hub.quotas.add(&mut self.tally, requester, wanted);
        self.record_bytes += record.weight_bytes();
        self.lines.push(RecordLine::of(&record));
        self.records.push_back(record);
        Ok(())
    }

    /// Hands all records to the store, if there is one. `None`: they are to be published.
    fn store(&mut self, context: &Context<'_>) -> Option<Step> {
        if context.hub.bus.budget().is_spent() {
            return Some(Step::Done(describe_unpublished(PublishFailed::NoRoom)));
        }
        // Another thread publishes what is stored, so the quotas are checked here.
        match context.hub.quotas.admit(self.requester(context), &self.tally, context.now) {
            Ok(owners) => self.owners = owners,
            Err(refused) => return Some(Step::Done(describe_unpublished(PublishFailed::Quota(refused)))),
        }
        let telemetry = context.hub.extension::<Telemetry>();
        let store = telemetry.store.as_ref()?;
        let records = Vec::from(std::mem::take(&mut self.records));
        let held = match store.hold(&records, self.owners.take()) {
            Ok(held) => held,
            Err(ChargeRefused::NoRoom) => return Some(Step::Done(describe_failure(KeepFailed::NoRoom))),
            Err(ChargeRefused::Quota(refused)) => {
                context.hub.quotas.count(refused);
                return Some(Step::Done(describe_unpublished(PublishFailed::Quota(refused))));
            }
        };
        let responder = Responder::new(label(self.kind), context);
        let (lines, is_single) = (std::mem::take(&mut self.lines), !self.values.is_ended_array());
        let reply = move |outcome| responder.respond(describe_outcome(&lines, outcome, is_single));
        store.keep(records, held, Box::new(reply));
        Some(Step::Later)
    }

    /// Publishes the next records. `true`: receipts follow.
    fn publish_some(&mut self, context: &Context<'_>) -> bool {
        let first = self.lines.len() - self.records.len();
        let (mut part, mut bytes) = (Vec::new(), 0);
        while part.len() < STEP_ENTRIES
            && bytes < STEP_BYTES
            && let Some(record) = self.records.pop_front()
        {
            let data = record.payload(None);
            (bytes, self.record_bytes) = (bytes + data.len(), self.record_bytes - record.weight_bytes());
            let kind = Some(record.kind.event().into());
            let payload = Payload::json(data);
            part.push(CheckedEvent { payload, kind, topic: record.topic, idempotency_key: record.key });
        }
        let owners = self.owners.as_ref().map(|owners| (owners, first));
        match publish_part(part, owners, AnswerForm::Part, context) {
            Some((waiting, receipts)) => {
                self.take_receipts(waiting, receipts, context);
                false
            }
            None => true,
        }
    }

    fn finish(&mut self) -> Response {
        match self.failed {
            Some(failed) => describe_unpublished(failed),
            None => std::mem::take(&mut self.results).respond(202, !self.values.is_ended_array(), (false, true)),
        }
    }
}

impl Work for Ingest {
    fn step(&mut self, context: &Context<'_>) -> Step {
        if !self.is_read {
            return match self.read_some(context) {
                Err(response) => Step::Done(response),
                Ok(is_read) => {
                    self.is_read = is_read;
                    Step::More
                }
            };
        }
        if !self.objects.is_empty() {
            return self.check_some(context).map_or_else(Step::Done, |()| Step::More);
        }
        if !self.is_checked {
            let stored = self.store(context);
            self.is_checked = true;
            if let Some(step) = stored {
                return step;
            }
        }
        if !self.records.is_empty() && self.publish_some(context) {
            return Step::Waiting;
        }
        if self.records.is_empty() { Step::Done(self.finish()) } else { Step::More }
    }

    fn take_receipts(&mut self, _: ReceiptWaiter, receipts: Vec<Receipt>, context: &Context<'_>) {
        let metrics = &context.hub.metrics.reactors[context.reactor];
        for receipt in receipts {
            metrics.on_publish(context.now.since(self.began));
            self.failed = self.failed.or_else(|| receipt.err());
            let id = receipt.ok().flatten().map(|id| id.to_string());
            let line = &self.lines[self.results.count];
            self.results.add(line, None, true, id.as_deref());
        }
    }

    fn identity<'a>(&'a self, _: &Context<'a>) -> Option<&'a Identity> {
        self.identity.as_deref()
    }

    fn is_committed(&self) -> bool {
        self.is_checked
    }

    fn held_bytes(&self) -> usize {
        let answer = self.lines.capacity() * size_of::<RecordLine>() + self.results.text.capacity();
        let owners = self.owners.as_ref().map_or(0, Owners::held_bytes);
        let objects = self.objects.capacity() * size_of::<(Range<u32>, Traits)>();
        self.body.len()
            + objects
            + self.reader.held_bytes()
            + self.record_bytes
            + answer
            + owners
            + self.tally.held_bytes()
    }
}

fn bad(why: &str) -> Response {
    describe_invalid(&wrong(why))
}

fn not_json(why: &str) -> Response {
    bad(&format!("the body is not JSON: {why}"))
}
