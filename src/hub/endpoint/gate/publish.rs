//! Publishing for clients of every protocol: quotas, then the bus or a source; and how failures are reported.

use std::{
    borrow::Cow,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    auth::{PublishRequest, PublishTotals},
    bus::{Feed, Publication, PublishFailed, Receipt, Refusal},
    clock::Moment,
    endpoint::{Answer, AnswerForm, CheckedEvent, Completion, Context, ReceiptWaiter},
    event::RESERVED_KINDS,
    label::RouteLabel,
    metrics::ReactorMetrics,
    protocol::http::Response,
    share::Owners,
};

/// The message for a bad event type.
pub(in crate::endpoint) const BAD_KIND: &str = "an event type contains no line break";
/// The message for an event type that the native API reserves.
pub(in crate::endpoint) const RESERVED_KIND: &str = "this type is a word of the hub's own: gap, error, end and auth are, and Socket.IO's \
     connect, connect_error, disconnect, disconnecting, newListener and removeListener";

/// Whether the native API refuses an event type, because clients would take the event for the hub's own.
pub(in crate::endpoint) fn is_reserved(kind: Option<&str>) -> bool {
    kind.is_some_and(|kind| RESERVED_KINDS.contains(&kind))
}
/// The longest idempotency key, in bytes.
pub(in crate::endpoint) const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// The message for a bad idempotency key.
pub(in crate::endpoint) const BAD_IDEMPOTENCY_KEY: &str = "an idempotency key has 1 to 255 bytes";

/// Publishes `batch`, and answers with what `complete` makes of the receipts: one for each event, in order. The request counts as
/// `route`.
pub(in crate::endpoint) fn publish_then(
    batch: Vec<CheckedEvent>,
    route: RouteLabel,
    context: &Context<'_>,
    complete: impl FnOnce(&[Receipt]) -> Response + Send + 'static,
) -> Answer {
    let form = AnswerForm::Response(Box::new(move |receipts| (route, complete(receipts))));
    match submit(batch, form, context) {
        Some((waiting, receipts)) => {
            let completed = complete_request(waiting, &receipts, own_metrics(context), context.now);
            completed.map_or_else(Answer::later, |(_, response)| response.into())
        }
        None => Answer::later(),
    }
}

/// Publishes `batch`. `None`: a [`Completion`] will bring the receipts to the connection.
pub(in crate::endpoint) fn submit(
    batch: Vec<CheckedEvent>,
    form: AnswerForm,
    context: &Context<'_>,
) -> Option<(ReceiptWaiter, Vec<Receipt>)> {
    // Checked first, so that a batch is refused as a whole.
    if context.hub.bus.budget().is_spent() {
        let receipts = vec![Err(PublishFailed::NoRoom); batch.len()];
        return Some((waiting_for(&batch, form, context), receipts));
    }
    let mut tally = PublishTotals::default();
    let quotas = &context.hub.quotas;
    for it in &batch {
        quotas.add(&mut tally, context.requester(), PublishRequest { topic: &it.topic, bytes: it.payload.data.len() });
    }
    match quotas.admit(context.requester(), &tally, context.now) {
        Ok(owners) => publish_part(batch, owners.as_ref().map(|owners| (owners, 0)), form, context),
        Err(refused) => {
            let receipts = vec![Err(PublishFailed::Quota(refused)); batch.len()];
            Some((waiting_for(&batch, form, context), receipts))
        }
    }
}

fn waiting_for(batch: &[CheckedEvent], form: AnswerForm, context: &Context<'_>) -> ReceiptWaiter {
    let topics = batch.iter().map(|event| event.topic.clone()).collect();
    ReceiptWaiter { topics, began: context.now, form }
}

/// Publishes events that the quotas have admitted. `owners`: the tenant of each event, and the index of the first event.
pub(in crate::endpoint) fn publish_part(
    batch: Vec<CheckedEvent>,
    owners: Option<(&Owners, usize)>,
    form: AnswerForm,
    context: &Context<'_>,
) -> Option<(ReceiptWaiter, Vec<Receipt>)> {
    let bus = &context.hub.bus;
    let waiting = waiting_for(&batch, form, context);
    let (to_source, to_log): (Vec<_>, Vec<_>) =
        batch.into_iter().enumerate().partition(|(_, event)| bus.event_sink(&event.topic).is_some());
    let mut receipts = vec![Ok(None); to_source.len() + to_log.len()];
    let mut feed = bus.feed();
    for (index, event) in to_log {
        feed.hold_for(owners.and_then(|(owners, first)| owners.of(first + index).cloned()));
        receipts[index] = publish_here(&mut feed, event, context.now);
        if let Err(PublishFailed::Quota(refused)) = receipts[index] {
            context.hub.quotas.count(refused);
        }
    }
    drop(feed);
    if to_source.is_empty() {
        return Some((waiting, receipts));
    }
    hand_over(to_source, ReceiptCollector { missing: 0, receipts, waiting: Some(waiting) }, context);
    None
}

fn publish_here(feed: &mut Feed<'_>, event: CheckedEvent, now: Moment) -> Receipt {
    let CheckedEvent { topic, kind, payload, idempotency_key } = event;
    let published = match idempotency_key {
        Some(key) => feed.publish_once(&key, &topic, kind.as_deref(), payload, now),
        None => feed.publish(&topic, kind.as_deref(), payload, now),
    };
    // Only room and quotas can fail here: the event has passed all other checks.
    published.map(Some).map_err(PublishFailed::from)
}

/// Hands `batch` to the sources of its topics. The last receipt sends all of them back as one completion.
fn hand_over(batch: Vec<(usize, CheckedEvent)>, collector: ReceiptCollector, context: &Context<'_>) {
    let collector = Arc::new(Mutex::new(ReceiptCollector { missing: batch.len(), ..collector }));
    for (index, CheckedEvent { topic, kind, payload, idempotency_key }) in batch {
        let (collector, bus) = (Arc::clone(&collector), Arc::clone(&context.hub.bus));
        let (reactor, token) = (context.reactor, context.token);
        let reply = Box::new(move |receipt: Receipt| {
            let mut collector = collector.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some((waiting, receipts)) = collector.take_receipt(index, receipt) {
                Completion::Published { waiting, receipts }.send(&bus, reactor, token);
            }
        });
        if let Some(sink) = context.hub.bus.event_sink(&topic) {
            sink.publish(Publication { topic, kind, data: payload.data, idempotency_key, bridged: None, reply });
        }
    }
}

/// Collects the receipts of a batch.
#[derive(Debug)]
struct ReceiptCollector {
    missing: usize,
    receipts: Vec<Receipt>,
    waiting: Option<ReceiptWaiter>,
}

impl ReceiptCollector {
    fn take_receipt(&mut self, index: usize, receipt: Receipt) -> Option<(ReceiptWaiter, Vec<Receipt>)> {
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

/// The response to a request whose receipts are in, and what the request counts as. `None`: no response is due. Called on the
/// reactor that owns `metrics`.
pub(crate) fn complete_request(
    waiting: ReceiptWaiter,
    receipts: &[Receipt],
    metrics: &ReactorMetrics,
    now: Moment,
) -> Option<(RouteLabel, Response)> {
    receipts.iter().for_each(|_| metrics.on_publish(now.since(waiting.began)));
    match waiting.form {
        AnswerForm::Response(complete) => Some(complete(receipts)),
        AnswerForm::Frames(_) | AnswerForm::Part => None,
    }
}

/// The frames that answer a client's publications. Called on the reactor that owns `metrics`.
pub(crate) fn complete_frames(
    waiting: ReceiptWaiter,
    receipts: &[Receipt],
    metrics: &ReactorMetrics,
    now: Moment,
) -> Vec<u8> {
    receipts.iter().for_each(|_| metrics.on_publish(now.since(waiting.began)));
    match waiting.form {
        AnswerForm::Frames(complete) => complete(receipts),
        AnswerForm::Response(_) | AnswerForm::Part => Vec::new(),
    }
}

/// The native API's response to a failed publication.
pub(in crate::endpoint) fn fail_response(failed: PublishFailed) -> Response {
    let (status, code, message) = describe_failure(failed);
    retry_fields(Response::error(status, code, &message, None), failed)
}

/// Adds `Retry-After` to `response`, if retrying can help.
pub(in crate::endpoint) fn retry_fields(response: Response, failed: PublishFailed) -> Response {
    match retry_after_s(failed) {
        Some(seconds) => response.with("Retry-After", seconds.to_string()),
        None => response,
    }
}

/// After how many seconds a retry can succeed. `None`: retrying does not help, or could publish twice.
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
        PublishFailed::Refused(refusal @ Refusal::TooBig) => (413, "too_big", refusal.text()),
        PublishFailed::Refused(refusal) => (503, "refused", refusal.text()),
        PublishFailed::Unknown => {
            (504, "unknown_outcome", "the source did not answer; the event may have been published")
        }
    };
    (status, code, message.into())
}
