//! `GET /topics…`: the topics, and what their logs hold.

use std::{ops::Bound, sync::Arc};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Value, json};

use crate::{
    bus::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest, HistoryPage, TopicSummary},
    clock::Moment,
    endpoint::{
        Answer, Completion, Context,
        gate::access,
        native::{
            pages::{PageQuery, look_through},
            parse_topic_in_path,
            query::Parameters,
        },
        work::{self, STEP_BYTES, STEP_ENTRIES, Step, Work},
    },
    event::{Event, EventId, Start},
    gap::Gap,
    label::RouteLabel,
    protocol::http::{Request, Response},
    topic::Topic,
};

/// The most events in one page of the history.
const HISTORY_LIMIT: usize = 1000;
/// The most bytes of payload in one page, unless a single event has more. The client goes on after the page's last event.
const HISTORY_BYTES_MAX: usize = 1 << 20;

/// The parameters of `GET /topics`.
pub(in crate::endpoint) const LIST_PARAMETERS: Parameters = Parameters {
    of: "a listing of topics",
    once: &["prefix", "after", "limit"],
    several: &[],
    nearly: &[("prefix", "prefix"), ("after", "after"), ("limit", "limit"), ("limits", "limit")],
    synonyms: &[
        ("topic", "prefix"),
        ("pattern", "prefix"),
        ("startswith", "prefix"),
        ("filter", "prefix"),
        ("since", "after"),
        ("from", "after"),
        ("start", "after"),
        ("next", "after"),
        ("cursor", "after"),
        ("offset", "after"),
        ("count", "limit"),
        ("max", "limit"),
        ("n", "limit"),
        ("size", "limit"),
        ("pagesize", "limit"),
        ("perpage", "limit"),
    ],
    is_strict: true,
};
/// The parameters of `GET /topics/{topic}`.
pub(in crate::endpoint) const TOPIC_PARAMETERS: Parameters = Parameters {
    of: "the description of a topic",
    once: &[],
    several: &[],
    nearly: &[],
    synonyms: &[],
    is_strict: true,
};
/// The parameters of `GET /topics/{topic}/history`.
pub(in crate::endpoint) const HISTORY_PARAMETERS: Parameters = Parameters {
    of: "the history",
    once: &["since", "limit"],
    several: &[],
    nearly: &[("since", "since"), ("limit", "limit"), ("limits", "limit")],
    synonyms: &[
        ("after", "since"),
        ("from", "since"),
        ("start", "since"),
        ("id", "since"),
        ("cursor", "since"),
        ("lasteventid", "since"),
        ("count", "limit"),
        ("max", "limit"),
        ("n", "limit"),
        ("size", "limit"),
        ("pagesize", "limit"),
        ("perpage", "limit"),
    ],
    is_strict: true,
};

/// A page of the topics that the client may subscribe to, by name: `?prefix=&after=&limit=`. `next` is the `after` of the next
/// page, or null if there is no more. A page may have fewer topics than its limit, even none, and still have a `next`: the limit
/// bounds the topics looked at, not those found.
pub(in crate::endpoint) fn list_topics(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let asked = match LIST_PARAMETERS.check(request).and_then(|()| PageQuery::read(request, context)) {
        Ok(asked) => asked,
        Err(response) => return response.into(),
    };
    if context.hub.bus.budget().is_spent() {
        return no_room();
    }
    let (prefix, from) = (asked.prefix.to_owned(), asked.from());
    work::begin(TopicPage { prefix, from, left: asked.limit, body: b"{\"topics\":[".to_vec() }, context)
}

/// Topics looked at in one step. Each is at another place in memory and may take 8 µs.
const TOPICS_PER_STEP: usize = 16;

/// A page of topics under way; a large page takes several steps. It is written as it grows, because a value for each topic would
/// take a dozen allocations.
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
        let looks = self.left.min(TOPICS_PER_STEP);
        let body = &mut self.body;
        let next = look_through(&self.prefix, self.from.clone(), looks, context, |state| {
            if !body.ends_with(b"[") {
                body.push(b',');
            }
            write_json(&TopicFigures(context.hub.bus.summary_of(state, context.now)), body);
        });
        self.left -= looks;
        match next {
            Some(last) if 0 < self.left => {
                self.from = Bound::Excluded(last.as_str().to_owned());
                Step::More
            }
            next => {
                body.extend_from_slice(b"],\"next\":");
                write_json(&next, body);
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

pub(in crate::endpoint) fn show_topic(request: &Request, name: &str, context: &Context<'_>) -> Answer {
    match permitted_topic(name, context).and_then(|topic| TOPIC_PARAMETERS.check(request).map(|()| topic)) {
        Ok(topic) => match context.hub.bus.summary(&topic, context.now) {
            Some(summary) => Response::json(200, &TopicFigures(summary)).into(),
            None => unknown_topic(),
        },
        Err(response) => response.into(),
    }
}

/// The topic `name`, if the client may subscribe to it.
fn permitted_topic(name: &str, context: &Context<'_>) -> Result<Topic, Response> {
    let topic = parse_topic_in_path(name)?;
    access::may_subscribe(context.identity, &topic).map_err(access::refuse)?;
    Ok(topic)
}

pub(in crate::endpoint) fn show_history(request: &Request, name: &str, context: &Context<'_>) -> Answer {
    let topic = match permitted_topic(name, context) {
        Ok(topic) => topic,
        Err(response) => return response.into(),
    };
    if let Err(response) = HISTORY_PARAMETERS.check(request) {
        return response.into();
    }
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
            Some(page) => describe_history(&topic, within_bytes(page), context),
            None => unknown_topic(),
        },
    }
}

/// A page is made as a whole and needs memory of its own.
fn no_room() -> Answer {
    let response = Response::error(503, "overloaded", "the memory budget is spent; try again later", None);
    response.with("Retry-After", "2").into()
}

/// Shortens `page` to the bytes of one answer.
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

/// Asks the archive, because the broker keeps more than the hub. The answer comes as a completion.
fn ask_archive(archive: &dyn Archive, topic: &Topic, start: Start, limit: usize, context: &Context<'_>) -> Answer {
    let (bus, reactor, token) = (Arc::clone(&context.hub.bus), context.reactor, context.token);
    let of = topic.clone();
    let reply = Box::new(move |page| {
        let make = Box::new(move |context: &Context<'_>| complete_history(&of, page, context));
        Completion::Answer { route: RouteLabel::History, make }.send(&bus, reactor, token);
    });
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

/// The answer to a request for a topic's history, made of the archive's page.
fn complete_history(topic: &Topic, page: Result<ArchivePage, ArchiveFailed>, context: &Context<'_>) -> Answer {
    match page {
        Ok(ArchivePage { events, gap, is_complete }) => {
            let next = events.last().filter(|_| !is_complete).map(|last| last.id);
            describe_history(topic, HistoryPage { events, gap, next }, context)
        }
        Err(ArchiveFailed::QueueFull | ArchiveFailed::Unavailable) => {
            let message = "what the broker keeps of this topic cannot be read at present";
            Response::error(503, "unavailable", message, None).with("Retry-After", "1").into()
        }
        Err(ArchiveFailed::NoStream) => {
            let message = "the broker keeps something else than a stream under this topic's key (WRONGTYPE)";
            Response::error(503, "refused", message, None).into()
        }
        Err(ArchiveFailed::Forbidden) => {
            let message = "the broker's access rules forbid the hub to read this topic";
            Response::error(503, "refused", message, None).into()
        }
    }
}

/// The answer with a page of history. `next` is the `since` of the next page, if more may follow.
fn describe_history(topic: &Topic, page: HistoryPage, context: &Context<'_>) -> Answer {
    let HistoryPage { events, gap, next } = page;
    let head = json!({ "topic": topic, "gap": gap.map(describe_gap) }).to_string();
    let mut body = head.strip_suffix('}').unwrap_or(&head).as_bytes().to_vec();
    body.extend_from_slice(b",\"events\":[");
    work::begin(HistoryAnswer { events, written: 0, next, body }, context)
}

/// A page of history under way. Its payloads have a megabyte together, or more if one alone is larger.
#[derive(Debug)]
struct HistoryAnswer {
    events: Vec<Arc<Event>>,
    /// How many events are written to `body`.
    written: usize,
    next: Option<EventId>,
    body: Vec<u8>,
}

impl Work for HistoryAnswer {
    fn step(&mut self, _: &Context<'_>) -> Step {
        let begin = self.body.len();
        for event in self.events.iter().skip(self.written).take(STEP_ENTRIES) {
            if !self.body.ends_with(b"[") {
                self.body.push(b',');
            }
            write_described(event, &mut self.body);
            self.written += 1;
            if STEP_BYTES <= self.body.len() - begin {
                return Step::More;
            }
        }
        if self.written < self.events.len() {
            return Step::More;
        }
        self.body.extend_from_slice(b"],\"next\":");
        write_json(&self.next.map(IdText), &mut self.body);
        self.body.push(b'}');
        Step::Done(Response::json_text(200, std::mem::take(&mut self.body)))
    }

    fn is_committed(&self) -> bool {
        false
    }

    fn held_bytes(&self) -> usize {
        self.body.capacity() + self.events.capacity() * size_of::<Arc<Event>>()
    }
}

/// Appends an event as the API shows it. `data` is the payload itself if that is JSON, else a string, as in `fanfare.v1`.
fn write_described(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":");
    write_json(&IdText(event.id), out);
    if let Some(gap) = event.gap {
        out.extend_from_slice(b",\"gap\":");
        write_json(&describe_gap(gap), out);
    } else {
        let text = event.payload_text();
        out.extend_from_slice(b",\"type\":");
        write_json(&event.kind, out);
        out.extend_from_slice(b",\"data\":");
        match event.syntax.is_json(&text) {
            true => out.extend_from_slice(text.as_bytes().trim_ascii()),
            false => write_json(&*text, out),
        }
    }
    out.push(b'}');
}

/// Such a value is always JSON, and writing to a Vec cannot fail.
fn write_json(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    let _ = serde_json::to_writer(out, value);
}

fn unknown_topic() -> Answer {
    Response::error(404, "unknown_topic", "nothing was published to this topic lately and nobody listens to it", None)
        .into()
}

/// A topic's figures in the form of the API.
struct TopicFigures(TopicSummary);

impl Serialize for TopicFigures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(TopicSummary { topic, subscriber_count, retained, retained_bytes, oldest, newest, class, log_word }) =
            self;
        let history = class.retention.history;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("topic", topic)?;
        map.serialize_entry("listeners", subscriber_count)?;
        map.serialize_entry("retained", retained)?;
        map.serialize_entry("retained_bytes", retained_bytes)?;
        map.serialize_entry("oldest", &oldest.map(IdText))?;
        map.serialize_entry("newest", &newest.map(IdText))?;
        map.serialize_entry("policy", class.policy.name())?;
        map.serialize_entry("log", log_word)?;
        map.serialize_entry(
            "history",
            &HistoryLimits { count: history.count, bytes: history.bytes, age_s: history.age.as_secs() },
        )?;
        map.end()
    }
}

/// An event id, written as a string.
struct IdText(EventId);

impl Serialize for IdText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// What a topic keeps for replay, in the form of the API.
#[derive(Serialize)]
struct HistoryLimits {
    count: usize,
    bytes: usize,
    age_s: u64,
}

fn describe_gap(gap: Gap) -> Value {
    json!({ "from": gap.from.to_string(), "to": gap.to.to_string(), "reason": gap.reason.label() })
}
