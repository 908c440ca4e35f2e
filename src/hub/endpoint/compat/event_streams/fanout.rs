//! Broadcasts to all streams of a mount. There may be any number of streams, so a thread publishes to them, and they share one
//! payload. Where hubs share a broker, a broadcast reaches the streams of all hubs: the hub that is asked publishes the event as
//! a *command* on a topic of the mount, and each hub that gets the command publishes the event to the streams that it has.
//!
//! A command is an ordinary event. Its type is an idempotency key: a stream that a broker keeps takes the event once, whichever
//! hubs append it. Its payload is the event without `stream_id`. Anything else on the topic is dropped.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use tracing::warn;

use super::{ApiError, DemoGenerators, HUB_COMMANDS, MOUNTS, Mount, describe_receipts};
use crate::{
    auth::{self, AccessDenied, Identity, PublishRequest, PublishTotals},
    bus::{Bus, HubCommands, LogKind, Publication, PublishFailed, PublishRefused, Receipt, ReceiptCallback},
    clock::{Clock, Moment},
    endpoint::{AnswerForm, Completion, Context, Hub, ReceiptWaiter, Responder, gate::access},
    gap::GapReason,
    label::RouteLabel,
    protocol::EventData,
    share::{Owner, QuotaRefused},
    topic::Topic,
};

/// The most tasks that wait for the thread. Further broadcasts are refused; further commands are reported to the streams as lost.
const TASKS_MAX: usize = 1024;
/// Streams published to before their reactors are woken.
const SLICE: usize = 64;
/// The log warns of a bad command once in this time at most.
const WARN_INTERVAL: Duration = Duration::from_secs(60);
/// The message of a complete success.
const TO_ALL: &str = "Event broadcasted to all streams";

/// The queue to the thread. Waiting tasks are charged to the memory budget.
#[derive(Debug)]
pub(crate) struct BroadcastQueue {
    queue: Sender<Task>,
    tasks: Receiver<Task>,
    /// By mount: a command was lost for want of room. The thread reports it to the streams.
    missed: [AtomicBool; MOUNTS.len()],
    /// When the log last warned of a bad command, in nanoseconds since the hub's start.
    warned: AtomicU64,
}

/// A task for the thread.
#[derive(Debug)]
enum Task {
    /// A client's broadcast.
    Broadcast(BroadcastJob),
    /// A command from any hub, this one included; or something else that somebody published there.
    Command { mount: usize, key: Box<str>, data: Bytes },
    /// Report lost commands.
    Look,
}

#[derive(Debug)]
struct BroadcastJob {
    /// The index in [`MOUNTS`].
    mount: usize,
    /// The event's JSON without its last brace.
    shared: Bytes,
    kind: Box<str>,
    /// The idempotency key under which a stream that a broker keeps takes the event once.
    key: Box<str>,
    /// The tenant that the events are charged to.
    owner: Option<Arc<Owner>>,
    /// The client that waits for the answer; `None` for a command.
    requester: Option<EventRequester>,
}

/// The client that waits for the answer.
#[derive(Debug)]
pub(super) struct EventRequester {
    identity: Option<Arc<Identity>>,
    responder: Responder,
    reactor: usize,
    token: u64,
    began: Moment,
    at_s: i64,
}

impl EventRequester {
    pub(super) fn new(identity: Option<Arc<Identity>>, at_s: i64, context: &Context<'_>) -> Self {
        let (reactor, token, began) = (context.reactor, context.token, context.now);
        Self { identity, responder: Responder::new(RouteLabel::Events, context), reactor, token, began, at_s }
    }

    /// Charges a broadcast of this many bytes to the client's quotas: as one publication, because its streams share the payload.
    /// Returns the tenant.
    fn admit(&self, mount: &Mount, bytes: usize, context: &Context<'_>) -> Result<Option<Arc<Owner>>, QuotaRefused> {
        let (quotas, mut tally) = (&context.hub.quotas, PublishTotals::default());
        let requester = auth::Requester { identity: self.identity.as_deref(), ..context.requester() };
        if let Ok(topic) = mount.topic(mount.defaults[0]) {
            quotas.add(&mut tally, requester, PublishRequest { topic: &topic, bytes });
        }
        Ok(quotas.admit(requester, &tally, context.now)?.and_then(|owners| owners.of(0).cloned()))
    }

    fn answer(self, receipts: Vec<Receipt>, bus: &Bus) {
        let at_s = self.at_s;
        let complete = move |receipts: &[Receipt]| (RouteLabel::Events, describe_receipts(TO_ALL, receipts, at_s));
        let form = AnswerForm::Response(Box::new(complete));
        let waiting = ReceiptWaiter { topics: Vec::new(), began: self.began, form };
        Completion::Published { waiting, receipts }.send(bus, self.reactor, self.token);
    }

    fn refuse(self, error: &ApiError) {
        let response = error.response(self.at_s);
        self.responder.respond(response);
    }
}

impl Default for BroadcastQueue {
    fn default() -> Self {
        let (queue, tasks) = bounded(TASKS_MAX);
        Self { queue, tasks, missed: Default::default(), warned: AtomicU64::new(0) }
    }
}

impl BroadcastQueue {
    /// Takes a broadcast to all streams of `mount`. `event` is its JSON without `stream_id` and without the last brace, `kind`
    /// its type. `requester` gets the answer.
    pub(super) fn submit(
        &self,
        mount: &Mount,
        kind: &str,
        mut event: String,
        requester: EventRequester,
        context: &Context<'_>,
    ) {
        let bus = &context.hub.bus;
        event.push('}');
        if let Err(refused) = bus.check(Some(kind), event.as_bytes()) {
            return requester.refuse(&refused.into());
        }
        let owner = match requester.admit(mount, event.len(), context) {
            Ok(owner) => owner,
            Err(refused) => return requester.refuse(&PublishFailed::Quota(refused).into()),
        };
        event.pop();
        let mount = MOUNTS.iter().position(|other| other.path == mount.path).unwrap_or_default();
        let key = format!("{:032x}", rand::random::<u128>()).into();
        let job = match BroadcastJob::new(mount, kind, event, key, owner, bus) {
            Ok(job) => job,
            Err(refused) => return requester.refuse(&PublishFailed::from(refused).into()),
        };
        if let Err(TrySendError::Full(Task::Broadcast(BroadcastJob { requester: Some(requester), .. }))) =
            self.queue.try_send(Task::Broadcast(BroadcastJob { requester: Some(requester), ..job }))
        {
            requester.refuse(&PublishFailed::QueueFull.into());
        }
    }

    /// Carries out broadcasts and commands, one after the other. Does not return: for a thread of its own.
    pub(crate) fn run(&self, hub: &Hub, clock: Clock) {
        while let Ok(task) = self.tasks.recv() {
            let now = clock.now();
            let carry_out = |job: BroadcastJob| BroadcastRun { hub, mount: &MOUNTS[job.mount], now }.carry_out(job);
            match task {
                Task::Broadcast(job) => carry_out(job),
                Task::Command { mount, key, data } => match read_command(&data) {
                    None => self.warn_of(&MOUNTS[mount], now),
                    Some(event) => {
                        let mut json = event.to_json();
                        json.pop();
                        match BroadcastJob::new(mount, &event.kind, json, key, None, &hub.bus) {
                            Err(_) => self.missed[mount].store(true, Ordering::Release),
                            Ok(job) => carry_out(job),
                        }
                    }
                },
                Task::Look => {}
            }
            for (mount, missed) in MOUNTS.iter().zip(&self.missed) {
                if missed.swap(false, Ordering::AcqRel) {
                    BroadcastRun { hub, mount, now }.report_loss();
                }
            }
        }
    }

    fn warn_of(&self, mount: &Mount, now: Moment) {
        let last = self.warned.load(Ordering::Relaxed);
        if last == 0 || WARN_INTERVAL <= now.since(Moment(last)) {
            self.warned.store(now.0.max(1), Ordering::Relaxed);
            warn!("what came on channel `{HUB_COMMANDS}{}all` is no broadcast of a hub's: dropped", mount.prefix);
        }
    }
}

impl HubCommands for BroadcastQueue {
    fn take(&self, topic: &Topic, key: Option<&str>, data: Bytes, bus: &Bus, now: Moment) {
        let Some(mount) = MOUNTS.iter().position(|mount| mount.command_topic().as_ref() == Ok(topic)) else { return };
        let Some(key) = key else { return self.warn_of(&MOUNTS[mount], now) };
        let command = |data| Task::Command { mount, key: key.into(), data };
        if !bus.share(data, None).is_ok_and(|data| self.queue.try_send(command(data)).is_ok()) {
            self.missed[mount].store(true, Ordering::Release);
            // If the queue is full, the thread will look without this.
            let _ = self.queue.try_send(Task::Look);
        }
    }
}

impl BroadcastJob {
    /// A job with the event's JSON, without its last brace. Refused if the memory budget, or the owner's share of it, has no
    /// room.
    fn new(
        mount: usize,
        kind: &str,
        json: String,
        key: Box<str>,
        owner: Option<Arc<Owner>>,
        bus: &Bus,
    ) -> Result<Self, PublishRefused> {
        let shared = bus.share(json.into(), owner.as_ref())?;
        Ok(Self { mount, shared, kind: kind.into(), key, owner, requester: None })
    }

    /// The whole event of `stream`. `None`: the event of a command, which names no stream.
    fn whole(&self, stream: Option<&str>) -> Bytes {
        let tail = stream.map_or_else(|| "}".to_owned(), tail_of);
        [&self.shared, tail.as_bytes()].concat().into()
    }
}

/// The event of a command; `None` if `data` is none. The event is encoded anew, so nothing else that was sent reaches a stream.
pub(super) fn read_command(data: &[u8]) -> Option<EventData> {
    let event: EventData = serde_json::from_slice(data).ok()?;
    let is_good = event.stream_id.is_empty() && (event.data.is_null() || event.data.is_object());
    // A type with line breaks would break the streams' lines.
    (is_good && !event.kind.contains(['\r', '\n', '\0'])).then_some(event)
}

/// The end of the event of `stream`, after the shared part. JSON escapes no byte that a topic's name may have.
pub(super) fn tail_of(stream: &str) -> String {
    format!(",\"stream_id\":\"{stream}\"}}")
}

/// A broadcast under way.
struct BroadcastRun<'hub> {
    hub: &'hub Hub,
    mount: &'static Mount,
    now: Moment,
}

impl BroadcastRun<'_> {
    fn carry_out(&self, mut job: BroadcastJob) {
        let bus = &self.hub.bus;
        match (job.requester.take(), bus.default_sink()) {
            (None, _) => {
                self.publish_here(&job);
                self.append_kept(&job, None);
            }
            (Some(requester), shared) => {
                if let Err(denied) = self.permit(requester.identity.as_deref(), shared.is_some()) {
                    return requester.refuse(&denied.into());
                }
                // Streams in memory get the event by the command, which comes back to this hub, too.
                let receipts = if shared.is_none() { self.publish_here(&job) } else { Vec::new() };
                let answers = Arc::new(BroadcastReceipts::new(requester, receipts, Arc::clone(bus)));
                self.append_kept(&job, Some(&answers));
                if let (Some(sink), Ok(topic)) = (shared, self.mount.command_topic()) {
                    let (kind, data, idempotency_key) = (Some(job.key.clone()), job.whole(None), None);
                    sink.publish(Publication {
                        topic,
                        kind,
                        data,
                        idempotency_key,
                        bridged: None,
                        reply: answers.expect(),
                    });
                }
                answers.close();
            }
        }
    }

    /// Checks that `identity` may publish to each stream; where hubs share a broker, also to streams that only other hubs know.
    fn permit(&self, identity: Option<&Identity>, is_shared: bool) -> Result<(), AccessDenied> {
        if identity.is_none() {
            return Ok(());
        }
        let name = |random: u64| format!("{random:016x}");
        let unknown = [name(rand::random()), format!("{}.{}", name(rand::random()), name(rand::random()))];
        let unknown = unknown.iter().filter(|_| is_shared).filter_map(|stream| self.mount.topic(stream).ok());
        unknown.chain(self.always()).try_for_each(|topic| access::may_publish(identity, &topic))?;
        self.hub.bus.visit_topics(self.mount.prefix, |topics| {
            topics.iter().try_for_each(|topic| access::may_publish(identity, topic))
        })
    }

    /// The topics of the default streams, and of those with generators.
    fn always(&self) -> BTreeSet<Topic> {
        let defaults = self.mount.defaults.iter().filter_map(|stream| self.mount.topic(stream).ok());
        let generated =
            self.hub.extension::<DemoGenerators>().0.as_ref().map(|generators| generators.list()).unwrap_or_default();
        let generated = generated.into_iter().map(|(topic, _)| topic);
        defaults.chain(generated.filter(|topic| topic.as_str().starts_with(self.mount.prefix))).collect()
    }

    /// Calls `act` with the topics of all streams, once each, in slices.
    fn visit(&self, mut act: impl FnMut(&[Topic])) {
        let always = self.always();
        act(&always.iter().cloned().collect::<Vec<_>>());
        let _ = self.hub.bus.visit_topics(self.mount.prefix, |topics| {
            let others: Vec<Topic> = topics.into_iter().filter(|topic| !always.contains(topic)).collect();
            others.chunks(SLICE).for_each(&mut act);
            Ok::<(), ()>(())
        });
    }

    /// Publishes the event to the streams in this hub's memory.
    fn publish_here(&self, job: &BroadcastJob) -> Vec<Receipt> {
        let (bus, mut receipts) = (&self.hub.bus, Vec::new());
        self.visit(|topics| {
            let mut feed = bus.feed();
            feed.hold_for(job.owner.clone());
            for topic in topics.iter().filter(|topic| bus.log_kind(topic) == LogKind::Memory) {
                let Some(stream) = topic.as_str().strip_prefix(self.mount.prefix) else { continue };
                match feed.publish_shared(topic, &job.kind, &job.shared, &tail_of(stream), self.now) {
                    Ok(id) => receipts.push(Ok(id)),
                    Err(_) if bus.default_sink().is_some() => {
                        feed.report_loss(topic, GapReason::Overflow, self.now);
                    }
                    Err(refused) => receipts.push(Err(refused.into())),
                }
            }
        });
        receipts
    }

    /// Appends the event to the streams that a broker keeps.
    fn append_kept(&self, job: &BroadcastJob, answers: Option<&Arc<BroadcastReceipts>>) {
        let bus = &self.hub.bus;
        self.visit(|topics| {
            for topic in topics.iter().filter(|topic| bus.log_kind(topic) != LogKind::Memory) {
                let Some(stream) = topic.as_str().strip_prefix(self.mount.prefix) else { continue };
                let Some(sink) = bus.event_sink(topic) else { continue };
                let reply = answers.map_or_else(|| warn_if_lost(topic), BroadcastReceipts::expect);
                let (kind, data) = (Some(job.kind.clone()), job.whole(Some(stream)));
                let (topic, idempotency_key) = (topic.clone(), Some(job.key.clone()));
                sink.publish(Publication { topic, kind, data, idempotency_key, bridged: None, reply });
            }
        });
    }

    /// Reports to this hub's streams that a broadcast was lost.
    fn report_loss(&self) {
        self.visit(|topics| {
            let mut feed = self.hub.bus.feed();
            topics.iter().for_each(|topic| feed.report_loss(topic, GapReason::Overflow, self.now));
        });
    }
}

fn warn_if_lost(topic: &Topic) -> ReceiptCallback {
    let topic = topic.clone();
    Box::new(move |receipt| {
        if let Err(failed) = receipt {
            warn!("another hub's broadcast was not appended to `{topic}`: {failed:?}");
        }
    })
}

/// Collects the receipts of a broadcast. The last one sends the answer.
struct BroadcastReceipts {
    bus: Arc<Bus>,
    state: Mutex<ReceiptState>,
}

struct ReceiptState {
    requester: Option<EventRequester>,
    receipts: Vec<Receipt>,
    /// The receipts to come, plus one until all are expected.
    missing: usize,
}

impl BroadcastReceipts {
    fn new(requester: EventRequester, receipts: Vec<Receipt>, bus: Arc<Bus>) -> Self {
        Self { bus, state: Mutex::new(ReceiptState { requester: Some(requester), receipts, missing: 1 }) }
    }

    /// A callback for one more receipt.
    fn expect(self: &Arc<Self>) -> ReceiptCallback {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).missing += 1;
        let answers = Arc::clone(self);
        Box::new(move |receipt| answers.take(Some(receipt)))
    }

    /// Says that no more receipts are expected.
    fn close(&self) {
        self.take(None);
    }

    fn take(&self, receipt: Option<Receipt>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.receipts.extend(receipt);
        state.missing -= 1;
        if state.missing == 0
            && let Some(requester) = state.requester.take()
        {
            requester.answer(std::mem::take(&mut state.receipts), &self.bus);
        }
    }
}
