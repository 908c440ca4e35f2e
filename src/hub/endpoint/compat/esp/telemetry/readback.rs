//! `GET /api/v1/telemetry/{well_id}?from=&to=&limit=&cursor=&order=`: the stored records, page by page.

use super::{
    Answer, Context, RETRY_AFTER_S, Responder, Telemetry, access, describe_invalid, error, refuse,
    validate::{TIME_US_MAX, parse_time, topic_of},
};
use crate::{
    label::RouteLabel,
    protocol::http::{Request, Response},
    store::{Order, Page, Query, ReadFailed, ReadingCursor},
};

const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;

/// Answers with `{"success","well_id","count","data":[…],"next_cursor"}`, the newest first unless `order=asc`. `from` is
/// inclusive, `to` exclusive; both are times of RFC 3339 or Unix seconds. `cursor` (or `after`) is the `next_cursor` of an
/// earlier page: pages are stable, whatever is stored meanwhile. `next_cursor` is null on the last page.
pub(in crate::endpoint) fn read_back(request: &Request, well_id: &str, context: &Context<'_>) -> Answer {
    let query = match check(request, well_id, context) {
        Ok(query) => query,
        Err(response) => return response.into(),
    };
    let telemetry = context.hub.extension::<Telemetry>();
    let Some(store) = &telemetry.store else {
        let message = "this hub stores nothing: it was started without a database (store.url)";
        return error(501, "StorageNotConfigured", message).into();
    };
    let responder = Responder::new(RouteLabel::Telemetry, context);
    let well_id = well_id.to_owned();
    store.read(query, Box::new(move |outcome| responder.respond(describe(&well_id, outcome))));
    Answer::later()
}

fn check(request: &Request, well_id: &str, context: &Context<'_>) -> Result<Query, Response> {
    let identity = access::identify(request, context).map_err(refuse)?;
    let topic = topic_of(well_id).map_err(|invalid| describe_invalid(&invalid))?;
    access::may_subscribe(identity.as_deref(), &topic).map_err(refuse)?;
    parse_query(request, well_id)
}

fn parse_query(request: &Request, well_id: &str) -> Result<Query, Response> {
    let order = match request.query("order") {
        None | Some("" | "desc") => Order::NewestFirst,
        Some("asc") => Order::OldestFirst,
        Some(_) => return Err(wrong("order must be asc or desc")),
    };
    let limit = match filled(request, "limit") {
        None => LIMIT_DEFAULT,
        Some(text) => match text.parse() {
            Ok(limit @ 1..=LIMIT_MAX) => limit,
            _ => return Err(wrong(&format!("limit must be a whole number from 1 to {LIMIT_MAX}"))),
        },
    };
    let after = match filled(request, "cursor").or_else(|| filled(request, "after")).map(str::parse::<ReadingCursor>) {
        None => None,
        // The database cannot compare with a time beyond its range.
        Some(Ok(cursor)) if cursor.time_us <= TIME_US_MAX => Some(cursor),
        Some(_) => return Err(wrong("cursor must be a next_cursor of an earlier answer")),
    };
    let from_us = bound(request, "from")?.unwrap_or(0);
    let to_us = bound(request, "to")?.unwrap_or(TIME_US_MAX + 1);
    if to_us < from_us {
        return Err(wrong("from must not be after to"));
    }
    Ok(Query { well_id: well_id.into(), from_us, to_us, after, limit, order })
}

/// The parameter `name`. An empty one counts as absent, because forms send those.
fn filled<'request>(request: &'request Request, name: &str) -> Option<&'request str> {
    request.query(name).filter(|text| !text.is_empty())
}

fn bound(request: &Request, name: &str) -> Result<Option<u64>, Response> {
    let Some(text) = filled(request, name) else { return Ok(None) };
    // The `+` of an offset arrives as a space if the client did not escape it.
    let time_us = parse_unix(text).or_else(|| parse_time(&text.replace(' ', "+")));
    let message =
        || wrong(&format!("{name} must be a time of RFC 3339, such as 2025-11-20T10:30:00Z, or Unix seconds"));
    time_us.map(Some).ok_or_else(message)
}

/// Reads Unix seconds with up to six decimals, in µs.
pub(super) fn parse_unix(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !is_plain(whole) || !is_plain(fraction) || 6 < fraction.len() {
        return None;
    }
    let micros: u64 = format!("{fraction:0<6}").parse().ok()?;
    let time_us = whole.parse::<u64>().ok()?.checked_mul(1_000_000)?.checked_add(micros)?;
    (time_us <= TIME_US_MAX).then_some(time_us)
}

fn describe(well_id: &str, outcome: Result<Page, ReadFailed>) -> Response {
    let Page { readings, next } = match outcome {
        Ok(page) => page,
        Err(failed) => return describe_failure(failed),
    };
    let next = next.map_or_else(|| "null".to_owned(), |cursor| format!("\"{cursor}\""));
    let (count, data) = (readings.len(), readings.join(","));
    let body =
        format!(r#"{{"success":true,"well_id":"{well_id}","count":{count},"data":[{data}],"next_cursor":{next}}}"#);
    let headers = vec![("Content-Type", "application/json".to_owned()), ("Cache-Control", "no-store".to_owned())];
    Response { status: 200, headers, body: body.into_bytes() }
}

fn describe_failure(failed: ReadFailed) -> Response {
    match failed {
        ReadFailed::QueueFull => {
            error(503, "StorageOverloaded", &failed.to_string()).with("Retry-After", RETRY_AFTER_S)
        }
        ReadFailed::Away => error(503, "StorageUnavailable", &failed.to_string()).with("Retry-After", RETRY_AFTER_S),
        ReadFailed::TooLong => error(504, "StorageTimeout", &failed.to_string()),
    }
}

fn wrong(message: &str) -> Response {
    error(400, "ValidationError", message)
}
