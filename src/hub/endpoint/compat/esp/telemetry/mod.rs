//! The ESP platform's telemetry: in by `POST /api/v1/telemetry/ingest`, `/api/v1/alerts` and `/api/v1/diagnostics`, and out by
//! `GET /api/v1/telemetry/{well_id}`.
//!
//! A record is first stored, if there is a store, and then published to the well's topic. A request is one object or an array of
//! objects, and is taken as a whole or not at all.

mod ingest;
mod readback;
mod validate;

use std::sync::Arc;

use serde_json::json;

pub(in crate::endpoint) use readback::read_back;

use crate::{
    auth::AccessDenied,
    bus::{PublishFailed, Refusal},
    endpoint::{
        Answer, Context, Responder,
        gate::{
            access,
            publish::{BAD_IDEMPOTENCY_KEY, IDEMPOTENCY_KEY_BYTES_MAX},
        },
        route::BodyRefusals,
        work,
    },
    label::RouteLabel,
    protocol::http::{Request, Response},
    store::{KeepFailed, Kept, Kind, Record, Store, write_time},
};
use ingest::Ingest;
use validate::Invalid;

/// The configuration of the telemetry API.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    /// Where records are stored. `None`: they are only published.
    pub store: Option<Store>,
    /// The most objects in one request.
    pub(crate) objects_max: usize,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { store: None, objects_max: 1000 }
    }
}

/// How this API refuses a request before its body is read.
pub(in crate::endpoint) const REFUSALS: &BodyRefusals = &BodyRefusals {
    denied: |_, denied, _| refuse(denied).into(),
    failed: |_, failed, _| describe_unpublished(failed).into(),
};

/// `POST /api/v1/telemetry/ingest`.
pub(in crate::endpoint) fn ingest_telemetry(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    ingest(Kind::Telemetry, request, context)
}

/// `POST /api/v1/alerts`.
pub(in crate::endpoint) fn ingest_alerts(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    ingest(Kind::Alert, request, context)
}

/// `POST /api/v1/diagnostics`.
pub(in crate::endpoint) fn ingest_diagnostics(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    ingest(Kind::Diagnostic, request, context)
}

/// What the answer says of a record.
#[derive(Debug)]
struct RecordLine {
    kind: Kind,
    well_id: Arc<str>,
    time_us: u64,
}

fn ingest(kind: Kind, request: &Request, context: &Context<'_>) -> Answer {
    match Ingest::new(kind, request, context) {
        Ok(ingest) => work::begin(ingest, context),
        Err(response) => response.into(),
    }
}

fn idempotency_key(request: &Request) -> Result<Option<&str>, Response> {
    match request.header_text("idempotency-key") {
        Some(key) if key.is_empty() || IDEMPOTENCY_KEY_BYTES_MAX < key.len() => {
            Err(error(400, "ValidationError", BAD_IDEMPOTENCY_KEY))
        }
        key => Ok(key),
    }
}

/// What a request with records of this kind counts as in the metrics.
fn label(kind: Kind) -> RouteLabel {
    match kind {
        Kind::Telemetry => RouteLabel::Telemetry,
        Kind::Alert => RouteLabel::Alerts,
        Kind::Diagnostic => RouteLabel::Diagnostics,
    }
}

impl RecordLine {
    fn of(record: &Record) -> Self {
        Self { kind: record.kind, well_id: Arc::clone(&record.well_id), time_us: record.time_us }
    }

    /// Appends the members of the record's object in the answer. JSON escapes no byte of a well's or an event's id.
    fn describe(&self, record_id: Option<i64>, published: bool, event_id: Option<&str>, out: &mut String) {
        let Self { kind, well_id, time_us } = self;
        let (id_name, time, stored) = (kind.id_name(), write_time(*time_us), record_id.is_some());
        let record_id = record_id.map_or_else(|| "null".to_owned(), |id| id.to_string());
        let event_id = event_id.map_or_else(|| "null".to_owned(), |id| format!("\"{id}\""));
        out.push_str(&format!(
            r#""{id_name}":{record_id},"well_id":"{well_id}","timestamp":"{time}","stored":{stored},"published":{published},"id":{event_id}"#
        ));
    }
}

/// The answer to a request that was taken. Written record by record, because there may be many.
#[derive(Debug, Default)]
struct Results {
    /// The members of each record's object, with the braces and commas between them.
    text: String,
    count: usize,
}

impl Results {
    fn add(&mut self, line: &RecordLine, record_id: Option<i64>, published: bool, event_id: Option<&str>) {
        if 0 < self.count {
            self.text.push_str("},{");
        }
        self.count += 1;
        line.describe(record_id, published, event_id, &mut self.text);
    }

    /// Answers one object with one object, and an array with one that has all of them, in order.
    fn respond(self, status: u16, is_single: bool, (stored, published): (bool, bool)) -> Response {
        let Self { mut text, count } = self;
        let outcome = if status == 201 { "success" } else { "accepted" };
        let head = format!(r#"{{"success":true,"status":"{outcome}","#);
        if is_single {
            text.insert_str(0, &head);
            text.push('}');
        } else {
            let all = format!(r#"{head}"stored":{stored},"published":{published},"count":{count},"results":[{{"#);
            text.insert_str(0, &all);
            text.push_str("}]}");
        }
        Response::json_text(status, text.into_bytes())
    }
}

fn describe_outcome(lines: &[RecordLine], outcome: Result<Vec<Kept>, KeepFailed>, is_single: bool) -> Response {
    let kept = match outcome {
        Ok(kept) => kept,
        Err(failed) => return describe_failure(failed),
    };
    let mut results = Results::default();
    for (line, kept) in lines.iter().zip(&kept) {
        results.add(line, Some(kept.record_id), kept.published, kept.event_id.as_deref());
    }
    let published = kept.iter().all(|kept| kept.published);
    // A record that is stored and not published yet will be published: the request is accepted, not done.
    results.respond(if published { 201 } else { 202 }, is_single, (true, published))
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
        PublishFailed::Refused(refusal @ Refusal::TooBig) => (413, "PayloadTooLarge", refusal.text()),
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

fn refuse(denied: AccessDenied) -> Response {
    let respond = |name: &str| error(denied.status(), name, &denied.to_string());
    match denied {
        AccessDenied::Forbidden | AccessDenied::ForeignPage | AccessDenied::ForeignHost => {
            respond("AuthorizationError")
        }
        AccessDenied::TooMany => respond("RateLimited").with("Retry-After", "1"),
        AccessDenied::KeysPending => respond("ServiceUnavailable").with("Retry-After", "1"),
        AccessDenied::Missing
        | AccessDenied::Cookie
        | AccessDenied::Invalid
        | AccessDenied::Expired
        | AccessDenied::Revoked => respond("AuthenticationError").with("WWW-Authenticate", "Bearer"),
    }
}

/// The form of all errors of this API.
fn error(status: u16, name: &str, message: &str) -> Response {
    Response::json(status, &json!({ "error": name, "message": message }))
}

/// After how many seconds a client may retry that was refused because of memory or the database.
const RETRY_AFTER_S: &str = "2";

#[cfg(test)]
mod tests;
