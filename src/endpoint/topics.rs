//! `GET /topics…`: what the logs hold.

use std::{borrow::Cow, ops::Bound, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json, value::RawValue};

use super::{
    Answer, Context, access,
    pages::{PageQuery, look_through},
    parse_topic,
    work::{self, STEP_ENTRIES, Step, Work},
};
use crate::{
    bus::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest, HistoryPage, Note, TopicSummary},
    clock::Moment,
    event::{Event, Start},
    gap::Gap,
    protocol::http::{Request, Response},
    topic::Topic,
};

/// Events in one answer of the history, unless fewer are asked for.
const HISTORY_LIMIT: usize = 1000;
/// Bytes of payload in one answer; the asker goes on behind the last event of it. One event always fits.
const HISTORY_BYTES_MAX: usize = 1 << 20;
/// `?prefix=&after=&limit=`: a page of what the client may listen to, in the order of names. `next` is where the next page goes
/// on (`after`); where it is null there is no more. A page may hold less than its limit, or nothing, and still have a `next`: what
/// is looked at is bounded, not what is found.
pub(super) fn list_topics(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let asked = match PageQuery::read(request, context) {
        Ok(asked) => asked,
        Err(response) => return response.into(),
    };
    if context.hub.bus.budget().is_spent() {
        return no_room();
    }
    let (prefix, from) = (asked.prefix.to_owned(), asked.from());
    work::begin(TopicPage { prefix, from, left: asked.limit, body: b"{\"topics\":[".to_vec() }, context)
}

/// A page of topics on its way: a large one takes several steps. Written as it grows: as values in between, each topic would take
/// a dozen allocations.
#[derive(Debug)]
struct TopicPage {
    prefix: String,
    from: Bound<String>,
    /// Topics yet to be looked at.
    left: usize,
    body: Vec<u8>,
}

impl Work for TopicPage {
    fn step(&mut self, context: &Context<'_>) -> Step {
        let looks = self.left.min(STEP_ENTRIES);
        let body = &mut self.body;
        let next = look_through(&self.prefix, self.from.clone(), looks, context, |state| {
            if !body.ends_with(b"[") {
                body.push(b',');
            }
            // Nothing of it fails: it has no maps with other keys than text, and a vector takes all.
            let _ = serde_json::to_writer(&mut *body, &Described(context.hub.bus.summary_of(state, context.now)));
        });
        self.left -= looks;
        match next {
            Some(last) if 0 < self.left => {
                self.from = Bound::Excluded(last.as_str().to_owned());
                Step::More
            }
            next => {
                body.extend_from_slice(b"],\"next\":");
                let _ = serde_json::to_writer(&mut *body, &next);
                body.push(b'}');
                Step::Done(Response::json_text(200, std::mem::take(body)))
            }
        }
    }

    fn is_committed(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        self.body.capacity()
    }
}

pub(super) fn show_topic(_: &Request, name: &str, context: &Context<'_>) -> Answer {
    match permitted_topic(name, context) {
        Ok(topic) => match context.hub.bus.summary(&topic, context.now) {
            Some(summary) => Response::json(200, &Described(summary)).into(),
            None => unknown_topic(),
        },
        Err(response) => response.into(),
    }
}

/// The topic `name`, if the client may listen to it.
fn permitted_topic(name: &str, context: &Context<'_>) -> Result<Topic, Response> {
    let topic = parse_topic(name, "topic")?;
    access::may_subscribe(context.identity, &topic).map_err(access::refuse)?;
    Ok(topic)
}

pub(super) fn show_history(request: &Request, name: &str, context: &Context<'_>) -> Answer {
    let topic = match permitted_topic(name, context) {
        Ok(topic) => topic,
        Err(response) => return response.into(),
    };
    let start = match request.query("since").map(str::parse) {
        None => Start::First,
        Some(Ok(start)) => start,
        Some(Err(_)) => {
            return Response::error(400, "bad_event_id", "since takes an event id, first, 0 or last:N", Some("since"))
                .into();
        }
    };
    let limit = match request.query("limit").map(str::parse) {
        None => HISTORY_LIMIT,
        Some(Ok(limit)) => HISTORY_LIMIT.min(limit),
        Some(Err(_)) => {
            return Response::error(400, "bad_limit", "limit takes a whole number", Some("limit")).into();
        }
    };
    let bus = &context.hub.bus;
    if bus.budget().is_spent() {
        return no_room();
    }
    let shows_past = matches!(start, Start::After(_)) || !bus.class(&topic).retention.history.is_none();
    match bus.archive(&topic).filter(|_| shows_past) {
        Some(archive) => ask_archive(archive, &topic, start, limit, context),
        None => match bus.history(&topic, start, limit, context.now) {
            Some(page) => describe_history(&topic, &within_bytes(page)).into(),
            None => unknown_topic(),
        },
    }
}

/// The answer is made as a whole, and so holds memory of its own.
fn no_room() -> Answer {
    let response = Response::error(503, "overloaded", "the memory budget is spent; try again later", None);
    response.with("Retry-After", "2").into()
}

/// The events of one answer.
fn within_bytes(mut page: HistoryPage) -> HistoryPage {
    let mut bytes = 0;
    let fitting = page.events.iter().take_while(|event| {
        bytes += event.data.len() + event.tail.as_ref().map_or(0, |tail| tail.len());
        bytes <= HISTORY_BYTES_MAX
    });
    let fitting = fitting.count().max(1);
    if fitting < page.events.len() {
        page.next = Some(page.events[fitting - 1].id);
        page.events.truncate(fitting);
    }
    page
}

/// A broker keeps more than the hub, so it is asked; its answer comes as a note.
fn ask_archive(archive: &dyn Archive, topic: &Topic, start: Start, limit: usize, context: &Context<'_>) -> Answer {
    let (bus, reactor, token) = (Arc::clone(&context.hub.bus), context.reactor, context.token);
    let of = topic.clone();
    let reply = Box::new(move |page| bus.inbox(reactor).leave_note(Note::History { token, topic: of, page }));
    archive.fetch(ArchiveRequest {
        topic: topic.clone(),
        start,
        content: None,
        since: Moment::default(),
        upto: None,
        events_max: limit,
        bytes_max: HISTORY_BYTES_MAX,
        reply,
    });
    Answer::later()
}

/// The response to a request for a topic's history, once the archive has answered.
pub fn complete_history(topic: &Topic, page: Result<ArchivePage, ArchiveFailed>) -> Response {
    match page {
        Ok(ArchivePage { events, gap, is_complete }) => {
            let next = events.last().filter(|_| !is_complete).map(|last| last.id);
            describe_history(topic, &HistoryPage { events, gap, next })
        }
        Err(ArchiveFailed::QueueFull | ArchiveFailed::Unavailable) => {
            let message = "what the broker keeps of this topic cannot be read at present";
            Response::error(503, "unavailable", message, None).with("Retry-After", "1")
        }
    }
}

/// `next` is where the next page goes on (`since`), if more may follow.
fn describe_history(topic: &Topic, page: &HistoryPage) -> Response {
    let next = page.next.map(|id| id.to_string());
    let gap = page.gap.map(describe_gap);
    let events = page.events.iter().map(|event| DescribedEvent::of(event)).collect();
    Response::json(200, &DescribedHistory { topic, gap, events, next })
}

#[derive(Serialize)]
struct DescribedHistory<'page> {
    topic: &'page Topic,
    gap: Option<Value>,
    events: Vec<DescribedEvent<'page>>,
    next: Option<String>,
}

/// An event as the API shows it. Its payload is copied, not taken apart: an answer's cost is that of its bytes.
#[derive(Serialize)]
#[serde(untagged)]
enum DescribedEvent<'page> {
    Gap { id: String, gap: Value },
    Json { id: String, r#type: Option<&'page str>, data: Cow<'page, RawValue> },
    Text { id: String, r#type: Option<&'page str>, data: Cow<'page, str> },
}

impl<'page> DescribedEvent<'page> {
    /// The payload as the JSON it is, else as a string: what `fanfare.v1` does.
    fn of(event: &'page Event) -> Self {
        let (id, r#type) = (event.id.to_string(), event.kind.as_deref());
        let json = match event.payload() {
            Cow::Borrowed(payload) => serde_json::from_slice(payload).map(Cow::Borrowed),
            Cow::Owned(payload) => serde_json::from_slice(&payload).map(Cow::Owned),
        };
        match (event.gap, json) {
            (Some(gap), _) => Self::Gap { id, gap: describe_gap(gap) },
            (None, Ok(data)) => Self::Json { id, r#type, data },
            (None, Err(_)) => Self::Text { id, r#type, data: event.payload_text() },
        }
    }
}

fn unknown_topic() -> Answer {
    Response::error(404, "unknown_topic", "nothing was published to this topic lately and nobody listens to it", None)
        .into()
}

/// A topic's figures as the API shows them.
struct Described(TopicSummary);

impl Serialize for Described {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(TopicSummary { topic, listeners, retained, retained_bytes, oldest, newest, class }) = self;
        let history = class.retention.history;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", topic)?;
        map.serialize_entry("listeners", listeners)?;
        map.serialize_entry("retained", retained)?;
        map.serialize_entry("retained_bytes", retained_bytes)?;
        map.serialize_entry("oldest", &oldest.map(|id| id.to_string()))?;
        map.serialize_entry("newest", &newest.map(|id| id.to_string()))?;
        map.serialize_entry("policy", class.policy.name())?;
        map.serialize_entry("log", class.log.name())?;
        map.serialize_entry(
            "history",
            &Kept { count: history.count, bytes: history.bytes, age_s: history.age.as_secs() },
        )?;
        map.end()
    }
}

/// What a topic keeps for replay.
#[derive(Serialize)]
struct Kept {
    count: usize,
    bytes: usize,
    age_s: u64,
}

fn describe_gap(gap: Gap) -> Value {
    json!({ "from": gap.from.to_string(), "to": gap.to.to_string(), "reason": gap.reason.label() })
}
