//! `POST /publish…`: events in by HTTP, and the answers to them.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use serde_json::{Value, json, value::RawValue};

use crate::{
    auth::{Asker, Identity, Tally, Wanted},
    bus::{
        AnswerForm, Answered, Complete, ControlMessage, Feed, Publication, PublishFailed, PublishRefused, Receipt,
        Waiting,
    },
    clock::Moment,
    endpoint::{
        Answer, Context,
        batch::{Batch, BatchForm},
        gate::access,
        later::answered,
        native::{parse_topic, parse_topic_in_path, query::Parameters},
        work,
    },
    event::{Payload, RESERVED_KINDS},
    json::{self, LONG_TEXT_BYTES, Members, Syntax},
    label::RouteLabel,
    metrics::ReactorMetrics,
    protocol::{
        fanfare_v1,
        http::{Request, Response},
        json_values::BadJson,
    },
    share::Owners,
    topic::Topic,
};

/// An event that has passed every check.
#[derive(Debug)]
pub(in crate::endpoint) struct Outgoing {
    /// Where to.
    pub topic: Topic,
    /// Its type.
    pub kind: Option<Box<str>>,
    /// The payload.
    pub payload: Payload,
    /// Under the same key, a repeat delivers nothing.
    pub idempotency_key: Option<Box<str>>,
}

/// Why a type is refused.
pub(in crate::endpoint) const BAD_KIND: &str = "an event type contains no line break";
/// Why a type is refused by the native doors.
pub(in crate::endpoint) const RESERVED_KIND: &str = "this type is a word of the hub's own: gap, error, end and auth are, and Socket.IO's \
     connect, connect_error, disconnect, disconnecting, newListener and removeListener";

/// Whether a native door refuses an event of this type: its readers would take it for the hub's.
pub(in crate::endpoint) fn is_reserved(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| RESERVED_KINDS.contains(&kind))
}
/// The longest idempotency key, in bytes.
pub(in crate::endpoint) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Why a key is refused.
pub(in crate::endpoint) const BAD_IDEMPOTENCY_KEY: &str = "an idempotency key has 1 to 255 bytes";

/// What `POST /publish/{topic}` takes in its query.
pub(in crate::endpoint) const PARAMETERS: Parameters = Parameters {
    of: "a publication",
    once: &["type"],
    several: &[],
    nearly: &[("type", "type"), ("types", "type")],
    synonyms: &[("eventtype", "type"), ("event", "type"), ("kind", "type")],
    is_strict: false,
};

/// The body is the payload, verbatim.
pub(in crate::endpoint) fn publish_one(request: &Request, name: &str, context: &Context<'_>) -> Answer {
    let checked = parse_topic_in_path(name).and_then(|topic| {
        permit(&topic, context)?;
        PARAMETERS.check(request)?;
        let kind = request.query("type").filter(|kind| !kind.is_empty()).or_else(|| request.header_text("event-type"));
        let key = check_key(request.header_text("idempotency-key"), "Idempotency-Key")?;
        check(topic, kind, Bytes::copy_from_slice(&request.body).into(), key, "data", context)
    });
    let mut outgoing = match checked {
        Ok(outgoing) => outgoing,
        Err(response) => return response.into(),
    };
    if request.body.len() <= LONG_TEXT_BYTES {
        return respond(vec![outgoing], AnswerForm::Single, context);
    }
    // Those who write it for their clients have to know, and have not the time to find out.
    let identity = context.identity.cloned();
    let text = std::str::from_utf8(&request.body).unwrap_or_default();
    work::check_first(text, context, move |_, checked, context| {
        outgoing.payload.syntax = if checked.is_ok() { Syntax::Json } else { Syntax::Text };
        respond(vec![outgoing], AnswerForm::Single, &Context { identity: identity.as_ref(), ..*context })
    })
}

/// A JSON array, or one JSON object a line. Either all of it is published or nothing.
pub(in crate::endpoint) fn publish_batch(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let form = NativeBatch { identity: context.identity.cloned(), answers: Vec::new(), failed: None };
    match Batch::new(form, &request.body, context.now) {
        Ok(batch) => work::begin(batch, context),
        Err(response) => response.into(),
    }
}

/// Refuses a topic that the client has no right to publish to.
fn permit(topic: &Topic, context: &Context<'_>) -> Result<(), Response> {
    access::may_publish(context.identity, topic).map_err(access::refuse)
}

/// One entry of a batch.
#[derive(Debug, Default, PartialEq)]
struct Entry<'body> {
    topic: Option<Cow<'body, str>>,
    kind: Option<Cow<'body, str>>,
    /// JSON, verbatim.
    data: Option<&'body str>,
    idempotency_key: Option<Cow<'body, str>>,
}

impl<'body> Entry<'body> {
    /// The entry in `text`, which is JSON. A field that an entry does not have is refused rather than passed over: a misspelt
    /// `idempotency_key` would silently lose what it asks for.
    fn parse(text: &'body str) -> Result<Self, String> {
        let members = Members::of(text).ok_or("an entry is a JSON object")?;
        let (mut entry, mut scratch) = (Self::default(), String::new());
        for (name, value) in members {
            match json::decode_with(name, &mut scratch) {
                Some("topic") => put_once(&mut entry.topic, "topic", text_of(value, "topic")?)?,
                Some("type") if value == "null" => {}
                Some("type") => put_once(&mut entry.kind, "type", text_of(value, "type")?)?,
                Some("data") => put_once(&mut entry.data, "data", value)?,
                Some("idempotency_key") if value == "null" => {}
                Some("idempotency_key") => {
                    put_once(&mut entry.idempotency_key, "idempotency_key", text_of(value, "idempotency_key")?)?;
                }
                _ => {
                    let shown = &name[..name.floor_char_boundary(SHOWN_NAME_BYTES_MAX)];
                    let known = "`topic`, `type`, `data` and `idempotency_key`";
                    return Err(format!("unknown field {shown}: an entry has {known}"));
                }
            }
        }
        Ok(entry)
    }
}

/// How much of an unknown field's name is shown to whoever sent it: a name may be as long as a request.
const SHOWN_NAME_BYTES_MAX: usize = 128;

fn text_of<'body>(value: &'body str, name: &str) -> Result<Cow<'body, str>, String> {
    json::decode(value).ok_or_else(|| format!("`{name}` is a string"))
}

fn put_once<T>(field: &mut Option<T>, name: &str, value: T) -> Result<(), String> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(format!("`{name}` is given twice")),
    }
}

/// The batch of the native API, and its answer: an object for each entry.
#[derive(Debug)]
struct NativeBatch {
    /// Who publishes.
    identity: Option<Identity>,
    /// The answer so far, as JSON without its last bracket.
    answers: Vec<u8>,
    /// What became of the first that was not published.
    failed: Option<PublishFailed>,
}

impl BatchForm for NativeBatch {
    const TAKES_LINES: bool = true;

    fn asker<'a>(&'a self, context: &Context<'a>) -> Asker<'a> {
        Asker { identity: self.identity.as_ref(), ..context.asker() }
    }

    fn check(&self, index: usize, entry: &str, context: &Context<'_>) -> Result<Outgoing, Response> {
        let bad = |message: String| self.refuse(Some(index), &BadJson { message, at: 0 });
        let Entry { topic, kind, data, idempotency_key } = Entry::parse(entry).map_err(bad)?;
        let topic = topic.ok_or_else(|| bad("`topic` is missing".to_owned()))?;
        let data = data.ok_or_else(|| bad("`data` is missing".to_owned()))?;
        let topic = parse_topic(&topic, &format!("[{index}].topic"))?;
        let key = check_key(idempotency_key.as_deref(), &format!("[{index}].idempotency_key"))?;
        let payload = Payload::json(Bytes::copy_from_slice(data.as_bytes()));
        access::may_publish(self.identity.as_ref(), &topic).map_err(access::refuse)?;
        check(topic, kind.as_deref(), payload, key, &format!("[{index}]"), context)
    }

    fn refuse(&self, index: Option<usize>, bad: &BadJson) -> Response {
        let place = index.map(|index| format!("[{index}]"));
        let whose = place.as_deref().map(|place| format!("{place}: ")).unwrap_or_default();
        let message = format!("the body is not what it should be: {whose}{}", bad.message);
        Response::error(400, "bad_json", &message, None)
    }

    fn note(&mut self, topic: &Topic, receipt: Receipt) {
        self.answers.push(if self.answers.is_empty() { b'[' } else { b',' });
        self.failed = self.failed.or_else(|| receipt.err());
        // Neither can a value like this fail to be JSON nor a Vec to be written to.
        let _ = serde_json::to_writer(&mut self.answers, &describe_receipt(topic, receipt));
    }

    fn finish(&mut self) -> Response {
        let mut body = std::mem::take(&mut self.answers);
        if body.is_empty() {
            body.push(b'[');
        }
        body.push(b']');
        // Validation is all or nothing; a source that fails half-way is told entry by entry.
        match self.failed {
            None => Response::json_text(200, body),
            Some(failed) => retry_fields(Response::json_text(describe_failure(failed).0, body), failed),
        }
    }

    fn held_bytes(&self) -> usize {
        self.answers.capacity()
    }
}

fn check_key(key: Option<&str>, field: &str) -> Result<Option<Box<str>>, Response> {
    match key {
        Some(key) if key.is_empty() || IDEMPOTENCY_KEY_BYTES_MAX < key.len() => {
            Err(Response::error(400, "bad_idempotency_key", BAD_IDEMPOTENCY_KEY, Some(field)))
        }
        key => Ok(key.map(Box::from)),
    }
}

fn check(
    topic: Topic,
    kind: Option<&str>,
    payload: Payload,
    idempotency_key: Option<Box<str>>,
    field: &str,
    context: &Context<'_>,
) -> Result<Outgoing, Response> {
    // An empty one is none.
    let kind = kind.filter(|kind| !kind.is_empty());
    if is_reserved(kind) {
        return Err(Response::error(400, "bad_type", RESERVED_KIND, Some("type")));
    }
    match context.hub.bus.check(kind, &payload.data) {
        Ok(()) => Ok(Outgoing { topic, kind: kind.map(Box::from), payload, idempotency_key }),
        Err(PublishRefused::NotUtf8) => {
            Err(Response::error(400, "not_utf8", "the payload must be UTF-8 text", Some(field)))
        }
        Err(PublishRefused::TooBig) => {
            Err(Response::error(413, "too_big", "the payload is over the limit", Some(field)))
        }
        Err(PublishRefused::BadKind) => Err(Response::error(400, "bad_type", BAD_KIND, Some("type"))),
        Err(refused @ (PublishRefused::NoRoom | PublishRefused::Quota(_))) => Err(fail_response(refused.into())),
    }
}

fn respond(batch: Vec<Outgoing>, form: AnswerForm, context: &Context<'_>) -> Answer {
    match submit(batch, form, context) {
        Some((waiting, receipts)) => complete_request(waiting, &receipts, own_metrics(context), context.now).1.into(),
        None => Answer::later(),
    }
}

/// Publishes `batch`, and answers with what `complete` makes of the receipts, one for each, in order. The request is counted as
/// `route`.
pub(in crate::endpoint) fn publish_then(
    batch: Vec<Outgoing>,
    route: RouteLabel,
    context: &Context<'_>,
    complete: impl FnOnce(&[Receipt]) -> Response + Send + 'static,
) -> Answer {
    let complete = Complete(Box::new(move |receipts| answered(route, complete(receipts))));
    respond(batch, AnswerForm::Custom(complete), context)
}

/// Publishes `batch`: the one gate through which all that clients publish comes, whatever they speak. `None`: a note will bring the receipts to the connection.
pub(in crate::endpoint) fn submit(
    batch: Vec<Outgoing>,
    form: AnswerForm,
    context: &Context<'_>,
) -> Option<(Waiting, Vec<Receipt>)> {
    // Looked at first, so that a batch is refused as a whole.
    if context.hub.bus.budget().is_spent() {
        let receipts = vec![Err(PublishFailed::NoRoom); batch.len()];
        return Some((waiting_for(&batch, form, context), receipts));
    }
    let mut tally = Tally::default();
    let quotas = &context.hub.quotas;
    for it in &batch {
        quotas.add(&mut tally, context.asker(), Wanted { topic: &it.topic, bytes: it.payload.data.len() });
    }
    match quotas.admit(context.asker(), &tally, context.now) {
        Ok(owners) => publish_part(batch, owners.as_ref().map(|owners| (owners, 0)), form, context),
        Err(refused) => {
            let receipts = vec![Err(PublishFailed::Quota(refused)); batch.len()];
            Some((waiting_for(&batch, form, context), receipts))
        }
    }
}

fn waiting_for(batch: &[Outgoing], form: AnswerForm, context: &Context<'_>) -> Waiting {
    let topics = batch.iter().map(|outgoing| outgoing.topic.clone()).collect();
    Waiting { topics, began: context.now, form }
}

/// Publishes events that the quotas have let through. `owners`: for whom each of them is held, and the place of the first.
pub(in crate::endpoint) fn publish_part(
    batch: Vec<Outgoing>,
    owners: Option<(&Owners, usize)>,
    form: AnswerForm,
    context: &Context<'_>,
) -> Option<(Waiting, Vec<Receipt>)> {
    let bus = &context.hub.bus;
    let waiting = waiting_for(&batch, form, context);
    let (outward, inward): (Vec<_>, Vec<_>) =
        batch.into_iter().enumerate().partition(|(_, outgoing)| bus.outlet(&outgoing.topic).is_some());
    let mut receipts = vec![Ok(None); outward.len() + inward.len()];
    let mut feed = bus.feed();
    for (index, outgoing) in inward {
        feed.hold_for(owners.and_then(|(owners, first)| owners.of(first + index).cloned()));
        receipts[index] = publish_here(&mut feed, outgoing, context.now);
        if let Err(PublishFailed::Quota(refused)) = receipts[index] {
            context.hub.quotas.count(refused);
        }
    }
    drop(feed);
    if outward.is_empty() {
        return Some((waiting, receipts));
    }
    hand_over(outward, Pending { missing: 0, receipts, waiting: Some(waiting) }, context);
    None
}

fn publish_here(feed: &mut Feed<'_>, outgoing: Outgoing, now: Moment) -> Receipt {
    let Outgoing { topic, kind, payload, idempotency_key } = outgoing;
    let published = match idempotency_key {
        Some(key) => feed.publish_once(&key, &topic, kind.as_deref(), payload, now),
        None => feed.publish(&topic, kind.as_deref(), payload, now),
    };
    // Every other check was passed before.
    published.map(Some).map_err(PublishFailed::from)
}

/// Gives `batch` to the sources it goes out through; the last answer to come in sends them all back as one note.
fn hand_over(batch: Vec<(usize, Outgoing)>, pending: Pending, context: &Context<'_>) {
    let pending = Arc::new(Mutex::new(Pending { missing: batch.len(), ..pending }));
    for (index, Outgoing { topic, kind, payload, idempotency_key }) in batch {
        let (pending, bus) = (Arc::clone(&pending), Arc::clone(&context.hub.bus));
        let (reactor, token) = (context.reactor, context.token);
        let reply = Box::new(move |receipt: Receipt| {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((waiting, receipts)) = pending.take_answer(index, receipt) {
                bus.inbox(reactor).send_control(ControlMessage::Published { token, waiting, receipts });
            }
        });
        if let Some(outlet) = context.hub.bus.outlet(&topic) {
            outlet.publish(Publication { topic, kind, data: payload.data, idempotency_key, reply });
        }
    }
}

/// The answers of a batch, as they come in.
#[derive(Debug)]
struct Pending {
    missing: usize,
    receipts: Vec<Receipt>,
    waiting: Option<Waiting>,
}

impl Pending {
    fn take_answer(&mut self, index: usize, receipt: Receipt) -> Option<(Waiting, Vec<Receipt>)> {
        self.receipts[index] = receipt;
        self.missing -= 1;
        if 0 < self.missing {
            return None;
        }
        Some((self.waiting.take()?, std::mem::take(&mut self.receipts)))
    }
}

fn own_metrics<'hub>(context: &Context<'hub>) -> &'hub ReactorMetrics {
    &context.hub.metrics.reactors[context.reactor]
}

/// The response to a request whose receipts are in, and what the request was for. Called on the reactor that owns
/// `metrics`.
pub fn complete_request(
    waiting: Waiting,
    receipts: &[Receipt],
    metrics: &ReactorMetrics,
    now: Moment,
) -> (RouteLabel, Response) {
    receipts.iter().for_each(|_| metrics.on_publish(now.since(waiting.began)));
    if let AnswerForm::Custom(complete) = waiting.form {
        let Answered { route, status, headers, body } = complete.0(receipts);
        return (route, Response { status, headers, body });
    }
    (RouteLabel::Publish, describe_receipts(&waiting, receipts))
}

fn describe_receipts(waiting: &Waiting, receipts: &[Receipt]) -> Response {
    let failed = receipts.iter().find_map(|receipt| receipt.err());
    if let Some(failed) = failed {
        return fail_response(failed);
    }
    let only = waiting.topics.iter().zip(receipts).next();
    Response::json(200, &only.map(|(topic, receipt)| describe_receipt(topic, *receipt)))
}

fn describe_receipt(topic: &Topic, receipt: Receipt) -> Value {
    match receipt {
        Ok(id) => json!({ "id": id.map(|id| id.to_string()), "topic": topic.as_str() }),
        Err(failed) => {
            let (_, code, message) = describe_failure(failed);
            json!({ "error": { "code": code, "message": message }, "topic": topic.as_str() })
        }
    }
}

/// The message that answers a `publish` command. Called on the reactor that owns `metrics`.
pub fn complete_command(
    waiting: &Waiting,
    receipts: &[Receipt],
    metrics: &ReactorMetrics,
    now: Moment,
    out: &mut Vec<u8>,
) {
    let AnswerForm::Command(reference) = &waiting.form else { return };
    // It was valid JSON when it came, so it is again.
    let reference: Option<&RawValue> = reference.as_deref().and_then(|text| serde_json::from_str(text).ok());
    for (topic, receipt) in waiting.topics.iter().zip(receipts) {
        metrics.on_publish(now.since(waiting.began));
        match receipt {
            Ok(id) => fanfare_v1::write_published(topic, *id, reference, out),
            Err(failed) => {
                let (_, code, message) = describe_failure(*failed);
                fanfare_v1::write_error(code, &message, reference, out);
            }
        }
    }
}

/// The frames that answer a client's publications. Called on the reactor that owns `metrics`.
pub fn complete_frames(waiting: Waiting, receipts: &[Receipt], metrics: &ReactorMetrics, now: Moment) -> Vec<u8> {
    receipts.iter().for_each(|_| metrics.on_publish(now.since(waiting.began)));
    match waiting.form {
        AnswerForm::Frames(complete) => complete.0(receipts),
        _ => Vec::new(),
    }
}

/// The native API's answer to a publication that failed.
pub(in crate::endpoint) fn fail_response(failed: PublishFailed) -> Response {
    let (status, code, message) = describe_failure(failed);
    retry_fields(Response::error(status, code, &message, None), failed)
}

/// `response` with when to try again.
pub(in crate::endpoint) fn retry_fields(response: Response, failed: PublishFailed) -> Response {
    match retry_after_s(failed) {
        Some(seconds) => response.with("Retry-After", seconds.to_string()),
        None => response,
    }
}

/// In how many seconds it may go better.
pub(in crate::endpoint) fn retry_after_s(failed: PublishFailed) -> Option<u32> {
    match failed {
        PublishFailed::Quota(refused) => Some(refused.retry_after_s),
        PublishFailed::NoRoom | PublishFailed::QueueFull | PublishFailed::Unavailable => Some(1),
        PublishFailed::Refused(_) => None,
        PublishFailed::Unknown => None,
    }
}

pub(in crate::endpoint) fn describe_failure(failed: PublishFailed) -> (u16, &'static str, Cow<'static, str>) {
    let (status, code, message) = match failed {
        PublishFailed::Quota(refused) => return (429, "quota_exceeded", refused.to_string().into()),
        PublishFailed::NoRoom => (503, "overloaded", "the memory budget is spent; nothing was published"),
        PublishFailed::QueueFull => (503, "overloaded", "too many events wait for the source; nothing was published"),
        PublishFailed::Unavailable => (503, "unavailable", "the source cannot be reached; nothing was published"),
        PublishFailed::Refused(refusal) => (503, "refused", refusal.text()),
        PublishFailed::Unknown => {
            (504, "unknown_outcome", "the source did not answer; the event may have been published")
        }
    };
    (status, code, message.into())
}
