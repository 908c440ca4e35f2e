//! The event streaming service, at `/api/v1/events` and `/api/v1/broadcast-demo`. Each of the two mounts has topics of its own. A
//! stream is a topic and a broadcast an ordinary event, so other routes can read them, too.

mod body;
mod fanout;
mod listing;
mod response;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use serde_json::{Value, json};

use body::Broadcast;
pub(crate) use fanout::BroadcastQueue;
use fanout::{EventRequester, tail_of};
use listing::StreamPage;
use response::{ApiError, ResponseBody};

use crate::{
    auth::{AccessDenied, Identity},
    bus::{GeneratorAction, GeneratorFailed, GeneratorRequest, Generators, HUB_COMMANDS, PublishFailed, Receipt},
    endpoint::{
        Answer, CheckedEvent, CompatApi, Context, Handler, OpenStream, Responder, Route,
        error_form::{ErrorForm, NativeError, unix_s},
        gate::{access, audit, publish::publish_then},
        native::{
            pages::{BAD_LIMIT, PageQuery},
            stream::{has_last_event_id, resume_start},
        },
        route::{BodyRefusals, public_route},
        work,
    },
    event::{Payload, Start},
    label::RouteLabel,
    protocol::{
        EventData, SseOpening,
        http::{Method, Request, Response, Version},
        sse::Greeting,
    },
    topic::{BadTopic, Topic},
};

/// A path prefix at which the service is found.
#[derive(Debug)]
struct Mount {
    /// What its paths begin with.
    path: &'static str,
    /// The prefix of its streams' topics.
    prefix: &'static str,
    /// Streams that always exist.
    defaults: [&'static str; 4],
}

/// The prefix is not `events.`, because topics of other kinds have that: for example the topic of a WebSocket that names none.
static MOUNTS: [Mount; 2] = [
    Mount {
        path: "/api/v1/events/",
        prefix: "streams.",
        defaults: ["default", "system", "user-activity", "notifications"],
    },
    Mount {
        path: "/api/v1/broadcast-demo/",
        prefix: "broadcast-demo.",
        defaults: ["demo-default", "demo-system", "demo-user-activity", "demo-notifications"],
    },
];

/// What generates events for demonstration, if it is switched on.
#[derive(Debug, Default)]
pub(crate) struct DemoGenerators(pub Option<Box<dyn Generators>>);

/// The routes of this API, at both mounts.
pub(in crate::endpoint) static ROUTES: &[Route] = &[
    command("/api/v1/events/broadcast", &[(Method::Post, broadcast)]),
    query("/api/v1/events/streams", &[(Method::Get, list_streams)]),
    command("/api/v1/events/stream/{topic}/start", &[(Method::Post, start_stream)]),
    command("/api/v1/events/stream/{topic}/stop", &[(Method::Post, stop_stream)]),
    command("/api/v1/events/stream/{topic}/pause", &[(Method::Post, pause_stream)]),
    command("/api/v1/events/stream/{topic}/resume", &[(Method::Post, resume_stream)]),
    query("/api/v1/events/stream/{topic}", &[(Method::Get, open_stream)]).for_any_origin(),
    command("/api/v1/broadcast-demo/broadcast", &[(Method::Post, broadcast)]),
    query("/api/v1/broadcast-demo/streams", &[(Method::Get, list_streams)]),
    command("/api/v1/broadcast-demo/stream/{topic}/start", &[(Method::Post, start_stream)]),
    command("/api/v1/broadcast-demo/stream/{topic}/stop", &[(Method::Post, stop_stream)]),
    command("/api/v1/broadcast-demo/stream/{topic}/pause", &[(Method::Post, pause_stream)]),
    command("/api/v1/broadcast-demo/stream/{topic}/resume", &[(Method::Post, resume_stream)]),
    query("/api/v1/broadcast-demo/stream/{topic}", &[(Method::Get, open_stream)]).for_any_origin(),
];

const fn query(pattern: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    public_route(pattern, RouteLabel::Events, methods).of(CompatApi::EventStreams, ERRORS)
}

const fn command(pattern: &'static str, methods: &'static [(Method, Handler)]) -> Route {
    query(pattern, methods).authenticated_by_handler(REFUSALS)
}

/// This API's errors: `{"success":false,"message","error":{"code","field"?},"timestamp"}`.
pub(in crate::endpoint) const ERRORS: ErrorForm = ErrorForm::of(|_, NativeError { code, message, field }, at_s| {
    let mut cause = json!({ "code": code });
    if let Some(field) = field {
        cause["field"] = Value::from(field);
    }
    json!({ "success": false, "message": message, "error": cause, "timestamp": at_s })
});

/// How this API refuses a request before its body is read.
const REFUSALS: &BodyRefusals = &BodyRefusals {
    denied: |_, denied, context| ApiError::from(denied).response(unix_s(context)).into(),
    failed: |_, failed, context| ApiError::from(failed).response(unix_s(context)).into(),
};

/// The topics of all default streams, each with the stream's name. The demonstration generates events for them.
pub(crate) fn demo_streams() -> Vec<(Topic, &'static str)> {
    let of_mount = |mount: &'static Mount| {
        let topics = mount.defaults.into_iter().map(|stream| (mount.topic(stream), stream));
        topics.filter_map(|(topic, stream)| Some((topic.ok()?, stream)))
    };
    MOUNTS.iter().flat_map(of_mount).collect()
}

/// `GET …/stream/{stream}`: a stream of the events, without names, so that a browser gets all of them by `onmessage`. The first
/// event, `connection`, is for this client alone. Its id is the one after which the stream goes on, so clients that would take a
/// block with only an id for an event get one, too.
pub(in crate::endpoint) fn open_stream(request: &Request, stream: &str, context: &Context<'_>) -> Answer {
    let call = ApiCall::of(request, access::identify_for_any_origin(request, context), context);
    let topic = match call.subscribable(stream) {
        Ok(topic) => topic,
        Err(error) => return call.refuse(&error).into(),
    };
    let greeting = Greeting { name: None, data: connection_event(stream, request, call.at_s).into() };
    OpenStream {
        topics: vec![(topic, resume_start(request, Start::Live))],
        headers: stream_fields(request),
        identity: call.identity.ok().flatten(),
        ..OpenStream::new(SseOpening { greeting: Some(greeting), ..SseOpening::default() })
    }
    .into()
}

/// The event `connection`. The service's document has its type and no example. `resumed` says whether the client named its last
/// event; a gap follows if events since then cannot be had any more.
fn connection_event(stream: &str, request: &Request, at_s: i64) -> String {
    let event = EventData {
        id: EventData::id_of(rand::random()),
        kind: "connection".to_owned(),
        message: format!("Connected to stream: {stream}"),
        data: json!({ "resumed": has_last_event_id(request) }),
        timestamp: at_s,
        stream_id: stream.to_owned(),
    };
    event.to_json()
}

/// The fields that the service's clients expect, besides those of every stream.
fn stream_fields(request: &Request) -> Vec<(&'static str, String)> {
    let mut fields = vec![("Access-Control-Allow-Headers", "Cache-Control".to_owned())];
    if request.version == Version::Http11 {
        fields.push(("Connection", "keep-alive".to_owned()));
    }
    fields
}

/// `POST …/broadcast`: publishes an event to one stream, or to all streams of the mount.
pub(in crate::endpoint) fn broadcast(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let call = ApiCall::new(request, context);
    let prepared = call.identity().and_then(|_| body::text_of(&request.body));
    let text = match prepared {
        Ok(text) => text,
        Err(error) => return call.refuse(&error).into(),
    };
    let ApiCall { mount, identity, at_s, .. } = call;
    work::check_first(text, context, move |text, checked, context| {
        let call = ApiCall { mount, context, identity, at_s };
        match Broadcast::parse(text, checked) {
            Ok(broadcast) => call.broadcast(&broadcast),
            Err(error) => call.refuse(&error).into(),
        }
    })
}

/// `GET …/streams`: the streams, their clients and their generators. `?prefix=&after=&limit=` asks for a page, as for `GET
/// /topics`, with `next` beside `data`. Clients of the service know no pages, so without these parameters all default streams and
/// all with a generator are on the first page, and `next` is there only if more follows.
pub(in crate::endpoint) fn list_streams(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let call = ApiCall::new(request, context);
    let identity = match &call.identity {
        Ok(identity) => identity.clone(),
        Err(denied) => return call.refuse(&ApiError::from(*denied)).into(),
    };
    let Ok(asked) = PageQuery::read(request, context) else {
        return call.refuse(&ApiError::new(400, "bad_limit", BAD_LIMIT, Some("limit"))).into();
    };
    if context.hub.bus.budget().is_spent() {
        return call.refuse(&PublishFailed::NoRoom.into()).into();
    }
    let is_paged = ["prefix", "after", "limit"].iter().any(|name| request.query(name).is_some());
    work::begin(StreamPage::new(call.mount, identity, &asked, is_paged), context)
}

/// `POST …/stream/{stream}/start`: starts a generator, or starts it again from the beginning.
pub(in crate::endpoint) fn start_stream(request: &Request, stream: &str, context: &Context<'_>) -> Answer {
    manage(request, stream, GeneratorAction::Start, context)
}

/// `POST …/stream/{stream}/stop`: stops the generator and removes it.
pub(in crate::endpoint) fn stop_stream(request: &Request, stream: &str, context: &Context<'_>) -> Answer {
    manage(request, stream, GeneratorAction::Stop, context)
}

/// `POST …/stream/{stream}/pause`: pauses the generator.
pub(in crate::endpoint) fn pause_stream(request: &Request, stream: &str, context: &Context<'_>) -> Answer {
    manage(request, stream, GeneratorAction::Pause, context)
}

/// `POST …/stream/{stream}/resume`: resumes the generator.
pub(in crate::endpoint) fn resume_stream(request: &Request, stream: &str, context: &Context<'_>) -> Answer {
    manage(request, stream, GeneratorAction::Resume, context)
}

fn manage(request: &Request, stream: &str, action: GeneratorAction, context: &Context<'_>) -> Answer {
    let call = ApiCall::new(request, context);
    let topic = match call.publishable(stream) {
        Ok(topic) => topic,
        Err(error) => return call.refuse(&error).into(),
    };
    let generators = context.hub.extension::<DemoGenerators>();
    let Some(generators) = &generators.0 else { return call.refuse(&no_generators()).into() };
    audit::record_act(act_of(action), call.identity().ok().flatten(), &topic, context);
    let (responder, at_s, name) = (Responder::new(RouteLabel::Events, context), call.at_s, stream.to_owned());
    let reply = Box::new(move |outcome| responder.respond(describe_outcome(&name, action, outcome, at_s)));
    generators.ask(GeneratorRequest { topic, stream: stream.into(), action, reply });
    Answer::later()
}

fn describe_outcome(
    stream: &str,
    action: GeneratorAction,
    outcome: Result<(), GeneratorFailed>,
    at_s: i64,
) -> Response {
    match outcome {
        Ok(()) => {
            let message = format!("Stream '{stream}' {}", past_of(action));
            Response::json(200, &ResponseBody { success: true, message: Some(message), ..ResponseBody::at(at_s) })
        }
        Err(failed) => describe_failed(stream, failed).response(at_s),
    }
}

/// The word for it in the audit.
fn act_of(action: GeneratorAction) -> &'static str {
    match action {
        GeneratorAction::Start => "generator_start",
        GeneratorAction::Stop => "generator_stop",
        GeneratorAction::Pause => "generator_pause",
        GeneratorAction::Resume => "generator_resume",
    }
}

fn past_of(action: GeneratorAction) -> &'static str {
    match action {
        GeneratorAction::Start => "started",
        GeneratorAction::Stop => "stopped and removed",
        GeneratorAction::Pause => "paused",
        GeneratorAction::Resume => "resumed",
    }
}

fn describe_failed(stream: &str, failed: GeneratorFailed) -> ApiError {
    let of_stream = |status, code, what: &str| ApiError::new(status, code, format!("Stream '{stream}' {what}"), None);
    match failed {
        GeneratorFailed::Unknown => of_stream(404, "unknown_stream", "has no generator: start it first"),
        GeneratorFailed::AlreadyPaused => of_stream(409, "already_paused", "is paused already"),
        GeneratorFailed::NotPaused => of_stream(409, "not_paused", "is not paused"),
        GeneratorFailed::TooMany => of_stream(409, "too_many_streams", "cannot be started: as many as are allowed run"),
        GeneratorFailed::QueueFull | GeneratorFailed::Ended => of_stream(503, "unavailable", "cannot be reached now"),
    }
}

/// 409, because retrying does not help and the request is not wrong.
fn no_generators() -> ApiError {
    let message = "generators run for demonstration only: start the hub with --demo (demo.enabled = true)";
    ApiError::new(409, "demo_disabled", message, None)
}

/// A request, and what all its answers need.
struct ApiCall<'hub> {
    mount: &'static Mount,
    context: &'hub Context<'hub>,
    identity: Result<Option<Arc<Identity>>, AccessDenied>,
    at_s: i64,
}

impl<'hub> ApiCall<'hub> {
    fn new(request: &Request, context: &'hub Context<'hub>) -> Self {
        Self::of(request, access::identify(request, context), context)
    }

    /// A request of a client that has been looked at already: each look at one that is refused counts.
    fn of(
        request: &Request,
        identity: Result<Option<Arc<Identity>>, AccessDenied>,
        context: &'hub Context<'hub>,
    ) -> Self {
        // Each route of this table is under one of the mounts.
        let mount = MOUNTS.iter().find(|mount| request.path.starts_with(mount.path)).unwrap_or(&MOUNTS[0]);
        Self { mount, context, identity, at_s: unix_s(context) }
    }

    fn identity(&self) -> Result<Option<&Identity>, ApiError> {
        self.identity.as_ref().map(Option::as_deref).map_err(|denied| (*denied).into())
    }

    fn subscribable(&self, stream: &str) -> Result<Topic, ApiError> {
        let topic = self.mount.topic(stream).map_err(bad_stream)?;
        access::may_subscribe(self.identity()?, &topic).map_err(ApiError::from)?;
        Ok(topic)
    }

    fn publishable(&self, stream: &str) -> Result<Topic, ApiError> {
        let topic = self.mount.topic(stream).map_err(bad_stream)?;
        access::may_publish(self.identity()?, &topic).map_err(ApiError::from)?;
        Ok(topic)
    }

    /// Publishes to the named stream, or hands the broadcast to the thread that publishes to all streams.
    fn broadcast(&self, broadcast: &Broadcast<'_>) -> Answer {
        let hub = self.context.hub;
        let Some(stream) = broadcast.stream.as_deref() else {
            let requester = EventRequester::new(self.identity.clone().ok().flatten(), self.at_s, self.context);
            let broadcasts = hub.extension::<BroadcastQueue>();
            broadcasts.submit(self.mount, &broadcast.kind, broadcast.write_event(self.at_s), requester, self.context);
            return Answer::later();
        };
        match self.checked_event(stream, broadcast) {
            Ok(event) => {
                let (message, at_s) = (format!("Event broadcasted to stream: {stream}"), self.at_s);
                let describe = move |receipts: &[Receipt]| describe_receipts(&message, receipts, at_s);
                let identity = self.identity.as_ref().ok().and_then(Option::as_deref);
                publish_then(vec![event], RouteLabel::Events, &Context { identity, ..*self.context }, describe)
            }
            Err(error) => self.refuse(&error).into(),
        }
    }

    fn checked_event(&self, stream: &str, broadcast: &Broadcast<'_>) -> Result<CheckedEvent, ApiError> {
        let topic = self.publishable(stream)?;
        let data = Bytes::from(broadcast.write_event(self.at_s) + &tail_of(stream));
        self.context.hub.bus.check(Some(&broadcast.kind), &data)?;
        Ok(CheckedEvent {
            topic,
            kind: Some((&*broadcast.kind).into()),
            payload: Payload::json(data),
            idempotency_key: None,
        })
    }

    fn refuse(&self, error: &ApiError) -> Response {
        error.response(self.at_s)
    }
}

impl Mount {
    /// The default streams and those with generators, by name. The value says whether the generator is paused; `None`: no
    /// generator.
    fn permanent_streams(&self, context: &Context<'_>) -> VecDeque<(String, Option<bool>)> {
        let mut streams: BTreeMap<String, Option<bool>> =
            self.defaults.iter().map(|stream| ((*stream).to_owned(), None)).collect();
        let generators = context.hub.extension::<DemoGenerators>().0.as_ref().map(|generators| generators.list());
        for (topic, is_paused) in generators.unwrap_or_default() {
            if let Some(stream) = topic.as_str().strip_prefix(self.prefix) {
                streams.insert(stream.to_owned(), Some(is_paused));
            }
        }
        streams.into_iter().collect()
    }

    fn topic(&self, stream: &str) -> Result<Topic, BadTopic> {
        if stream.is_empty() {
            return Err(BadTopic::Empty);
        }
        Topic::parse_in_path(&format!("{}{stream}", self.prefix))
    }

    /// The topic of the commands to broadcast to all streams.
    fn command_topic(&self) -> Result<Topic, BadTopic> {
        Topic::parse(&format!("{HUB_COMMANDS}{}all", self.prefix))
    }
}

/// The topics over which hubs tell each other to broadcast. A hub is subscribed to them from the start.
pub(crate) fn command_topics() -> Vec<Topic> {
    MOUNTS.iter().filter_map(|mount| mount.command_topic().ok()).collect()
}

fn bad_stream(bad: BadTopic) -> ApiError {
    let message = match bad {
        BadTopic::Empty => "a stream needs a name".to_owned(),
        bad => format!("bad stream id: as part of a topic's name, {bad}"),
    };
    ApiError::new(400, "bad_stream_id", message, Some("stream_id"))
}

fn describe_receipts(message: &str, receipts: &[Receipt], at_s: i64) -> Response {
    let Some(failed) = receipts.iter().find_map(|receipt| receipt.err()) else {
        let message = Some(message.to_owned());
        return Response::json(200, &ResponseBody { success: true, message, ..ResponseBody::at(at_s) });
    };
    let mut error = ApiError::from(failed);
    let taken = receipts.iter().filter(|receipt| receipt.is_ok()).count();
    if 0 < taken {
        error.message =
            format!("{taken} of {} streams got the event; of the others: {}", receipts.len(), error.message);
    }
    error.response(at_s)
}

#[cfg(test)]
mod tests;
