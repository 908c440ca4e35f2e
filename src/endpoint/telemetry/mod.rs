//! The ESP platform's way in, `POST /api/v1/telemetry/ingest`, `/api/v1/alerts` and `/api/v1/diagnostics`, and the way
//! back, `GET /api/v1/telemetry/{well_id}`.
//!
//! What comes in is stored first, if there is a store, and then published to the well's topic. A request is one object or
//! an array of them; either all of it is taken or nothing.

mod readback;
mod validate;

use std::sync::Arc;

use serde_json::{Map, Value, json};

pub(super) use readback::read_back;

use super::{
    Answer, Context, Later, access,
    publish::{BAD_IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_BYTES_MAX, Outgoing, publish_then},
};
use crate::{
    auth::{Denied, Identity, Tally, Wanted},
    budget::ChargeRefused,
    bus::{PublishFailed, Receipt},
    protocol::http::{Request, Response},
    store::{KeepFailed, Kept, Kind, Record, Store, write_time},
};
use validate::{Invalid, parse_records};

/// What the way in and the way back are told by the configuration.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Where records are kept; without it they are published only.
    pub store: Option<Store>,
    /// The most objects in one request.
    pub objects_max: usize,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { store: None, objects_max: 1000 }
    }
}

/// `POST /api/v1/telemetry/ingest`.
pub(super) fn ingest_telemetry(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    ingest(Kind::Telemetry, request, context)
}

/// `POST /api/v1/alerts`.
pub(super) fn ingest_alerts(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    ingest(Kind::Alert, request, context)
}

/// `POST /api/v1/diagnostics`.
pub(super) fn ingest_diagnostics(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    ingest(Kind::Diagnostic, request, context)
}

/// What a request brings.
#[derive(Debug)]
struct Parcel {
    records: Vec<Record>,
    /// Whether the request is one object rather than an array: so is then the answer.
    is_single: bool,
    /// Whose request it is.
    identity: Option<Arc<Identity>>,
}

/// What is told of each record in the answer.
#[derive(Debug)]
struct Line {
    kind: Kind,
    well_id: Arc<str>,
    time_us: u64,
}

fn ingest(kind: Kind, request: &Request, context: &Context<'_>) -> Answer {
    let parcel = match take_in(kind, request, context) {
        Ok(parcel) => parcel,
        Err(response) => return response.into(),
    };
    let context = &Context { identity: parcel.identity.as_deref(), ..*context };
    let is_single = parcel.is_single;
    let lines = parcel.records.iter().map(Line::of).collect::<Vec<_>>();
    match &context.hub.telemetry.store {
        None => publish_only(parcel.records, lines, is_single, context),
        Some(store) => {
            // Stored first and published by another thread, so the gate of all publications stands here.
            let (quotas, mut tally) = (&context.hub.quotas, Tally::default());
            for record in &parcel.records {
                let wanted = Wanted { topic: &record.topic, bytes: record.payload(None).len() };
                quotas.add(&mut tally, context.asker(), wanted);
            }
            let owners = match quotas.admit(context.asker(), &tally, context.now) {
                Ok(owners) => owners,
                Err(refused) => return describe_unpublished(PublishFailed::Quota(refused)).into(),
            };
            let held = match store.hold(&parcel.records, owners) {
                Ok(held) => held,
                Err(ChargeRefused::NoRoom) => return describe_failure(KeepFailed::NoRoom).into(),
                Err(ChargeRefused::Quota(refused)) => {
                    quotas.count(refused);
                    return describe_unpublished(PublishFailed::Quota(refused)).into();
                }
            };
            let later = Later::new(label(kind), context);
            let reply = move |outcome| later.answer(describe_outcome(&lines, outcome, is_single));
            store.keep(parcel.records, held, Box::new(reply));
            Answer::later()
        }
    }
}

/// Everything that may be wrong with a request is found here, before anything is done.
fn take_in(kind: Kind, request: &Request, context: &Context<'_>) -> Result<Parcel, Response> {
    let identity = access::identify(request, context).map_err(refuse)?;
    let key = idempotency_key(request)?;
    let Context { hub, now, .. } = context;
    let received_us = hub.wall.unix_ms(*now) * 1000;
    let parcel = parse_records(kind, &request.body, key, received_us, hub.telemetry.objects_max)
        .map_err(|invalid| describe_invalid(&invalid))?;
    for (index, record) in parcel.records.iter().enumerate() {
        access::may_publish(identity.as_deref(), &record.topic).map_err(refuse)?;
        if hub.bus.check(Some(kind.event()), &record.payload(Some(i64::MAX))).is_err() {
            return Err(error(413, "PayloadTooLarge", &format!("object {index} is over the limit of one event")));
        }
    }
    Ok(Parcel { identity, ..parcel })
}

fn idempotency_key(request: &Request) -> Result<Option<&str>, Response> {
    match request.header_text("idempotency-key") {
        Some(key) if key.is_empty() || IDEMPOTENCY_KEY_BYTES_MAX < key.len() => {
            Err(error(400, "ValidationError", BAD_IDEMPOTENCY_KEY))
        }
        key => Ok(key),
    }
}

fn publish_only(records: Vec<Record>, lines: Vec<Line>, is_single: bool, context: &Context<'_>) -> Answer {
    let outgoing = |record: Record| Outgoing {
        data: record.payload(None),
        kind: Some(record.kind.event().into()),
        topic: record.topic,
        idempotency_key: record.key,
    };
    let kind = lines.first().map_or(Kind::Telemetry, |line| line.kind);
    let complete = move |receipts: &[Receipt]| describe_receipts(&lines, receipts, is_single);
    publish_then(records.into_iter().map(outgoing).collect(), label(kind), context, complete)
}

/// The door in the metrics.
fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Telemetry => "telemetry",
        Kind::Alert => "alerts",
        Kind::Diagnostic => "diagnostics",
    }
}

impl Line {
    fn of(record: &Record) -> Self {
        Self { kind: record.kind, well_id: Arc::clone(&record.well_id), time_us: record.time_us }
    }

    fn describe(&self, record_id: Option<i64>, published: bool, event_id: Option<&str>) -> Value {
        json!({
            self.kind.id_name(): record_id,
            "well_id": &*self.well_id,
            "timestamp": write_time(self.time_us),
            "stored": record_id.is_some(),
            "published": published,
            "id": event_id,
        })
    }
}

fn describe_outcome(lines: &[Line], outcome: Result<Vec<Kept>, KeepFailed>, is_single: bool) -> Response {
    let kept = match outcome {
        Ok(kept) => kept,
        Err(failed) => return describe_failure(failed),
    };
    let described = lines.iter().zip(&kept);
    let described =
        described.map(|(line, kept)| line.describe(Some(kept.record_id), kept.published, kept.event_id.as_deref()));
    let published = kept.iter().all(|kept| kept.published);
    // What is stored and could not be published yet will be: the request is accepted, not done.
    describe_all(if published { 201 } else { 202 }, described.collect(), is_single)
}

fn describe_receipts(lines: &[Line], receipts: &[Receipt], is_single: bool) -> Response {
    if let Some(failed) = receipts.iter().find_map(|receipt| receipt.err()) {
        return describe_unpublished(failed);
    }
    let described = lines.iter().zip(receipts).map(|(line, receipt)| {
        let id = receipt.ok().flatten().map(|id| id.to_string());
        line.describe(None, true, id.as_deref())
    });
    describe_all(202, described.collect(), is_single)
}

/// One object for one object, and for an array one with all of them, in order.
fn describe_all(status: u16, mut described: Vec<Value>, is_single: bool) -> Response {
    let mut body = Map::new();
    body.insert("success".to_owned(), true.into());
    body.insert("status".to_owned(), if status == 201 { "success" } else { "accepted" }.into());
    if is_single && let Some(Value::Object(only)) = described.pop() {
        body.extend(only);
    } else {
        let all = |name: &str| described.iter().all(|object| object[name] == true);
        body.insert("stored".to_owned(), all("stored").into());
        body.insert("published".to_owned(), all("published").into());
        body.insert("count".to_owned(), described.len().into());
        body.insert("results".to_owned(), described.into());
    }
    Response::json(status, &body)
}

fn describe_failure(failed: KeepFailed) -> Response {
    let (status, name) = match failed {
        KeepFailed::QueueFull | KeepFailed::NoRoom => (503, "StorageOverloaded"),
        KeepFailed::Away => (503, "StorageUnavailable"),
        KeepFailed::Unknown => (504, "StorageTimeout"),
        KeepFailed::Refused => (500, "StorageError"),
    };
    let response = error(status, name, &failed.to_string());
    if status == 503 { response.with("Retry-After", RETRY_AFTER_S) } else { response }
}

fn describe_unpublished(failed: PublishFailed) -> Response {
    let (status, name, message) = match failed {
        PublishFailed::Quota(refused) => {
            let response = error(429, "QuotaExceeded", &refused.to_string());
            return response.with("Retry-After", refused.retry_after_s.to_string());
        }
        PublishFailed::NoRoom | PublishFailed::QueueFull => (503, "Overloaded", "there is no room at the moment"),
        PublishFailed::Unavailable => (503, "PublishError", "the source cannot be reached"),
        PublishFailed::Refused(refusal) => (503, "PublishError", refusal.text()),
        PublishFailed::Unknown => (504, "PublishTimeout", "the source did not answer; it may have been published"),
    };
    let response = error(status, name, message);
    if status == 503 { response.with("Retry-After", RETRY_AFTER_S) } else { response }
}

fn describe_invalid(invalid: &Invalid) -> Response {
    let mut body = json!({ "error": "ValidationError", "message": invalid.message });
    if let Some(index) = invalid.index {
        body["index"] = index.into();
    }
    if let Some(field) = &invalid.field {
        body["field"] = field.as_str().into();
    }
    Response::json(invalid.status, &body)
}

fn refuse(denied: Denied) -> Response {
    let respond = |name: &str| error(denied.status(), name, &denied.to_string());
    match denied {
        Denied::Forbidden => respond("AuthorizationError"),
        Denied::TooMany => respond("RateLimited").with("Retry-After", "1"),
        Denied::Missing | Denied::Invalid | Denied::Expired | Denied::Revoked => {
            respond("AuthenticationError").with("WWW-Authenticate", "Bearer")
        }
    }
}

/// The form of every error of this API.
fn error(status: u16, name: &str, message: &str) -> Response {
    Response::json(status, &json!({ "error": name, "message": message }))
}

/// When a client that was refused for want of room, or of the database, may try again, in seconds.
const RETRY_AFTER_S: &str = "2";

#[cfg(test)]
mod tests;
