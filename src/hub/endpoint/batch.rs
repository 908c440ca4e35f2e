//! A batch: many events in one request, handled step by step. All of them are checked before the first is published.

use std::{fmt, ops::Range};

use super::{
    AnswerForm, CheckedEvent, Context, ReceiptWaiter,
    gate::publish::publish_part,
    work::{STEP_BYTES, STEP_ENTRIES, Step, Work},
};
use crate::{
    auth::{Identity, PublishRequest, PublishTotals, Requester},
    bus::{PublishFailed, Receipt},
    clock::Moment,
    protocol::{
        http::Response,
        json_values::{BadJsonValue, JsonValues, NextValue},
    },
    share::Owners,
    topic::Topic,
};

/// The form of a batch in one API: how its entries are read, and how it is answered.
pub(super) trait BatchForm: Send + fmt::Debug {
    /// Whether a body that is not an array may hold several values, one after the other.
    const TAKES_LINES: bool;

    /// The publisher, as quotas count it.
    fn requester<'a>(&'a self, context: &Context<'a>) -> Requester<'a>;

    /// The event in `entry`, which is number `index`, or the response to a bad entry. Called twice for each entry: when the batch
    /// is checked, and when it is published. So it asks for nothing that may change in between, such as who stands at the connection:
    /// an entry that was good is published.
    fn check(&self, index: usize, entry: &str, context: &Context<'_>) -> Result<CheckedEvent, Response>;

    /// The response to a bad entry, or with `None` to a bad body.
    fn refuse(&self, index: Option<usize>, bad: &BadJsonValue) -> Response;

    /// Records what became of an event. Called in the order of the entries.
    fn record(&mut self, topic: &Topic, receipt: Receipt);

    /// The response, once every entry is recorded.
    fn finish(&mut self) -> Response;

    /// The memory held for the response, in bytes.
    fn held_bytes(&self) -> usize;
}

/// A batch under way.
#[derive(Debug)]
pub(super) struct Batch<F> {
    form: F,
    body: String,
    values: JsonValues,
    /// Where in the body each checked entry is: eight bytes an entry, however small the entry is.
    entries: Vec<Range<u32>>,
    /// How many entries are published or on their way. `None`: not all are checked yet.
    published: Option<usize>,
    /// What the entries take of the publisher's quotas.
    tally: PublishTotals,
    /// The tenant that each entry is charged to, set once the quotas admit the batch. `None`: nobody.
    owners: Option<Owners>,
    /// Why no entry is published, if the whole batch was refused.
    refused: Option<PublishFailed>,
    began: Moment,
}

impl<F: BatchForm> Batch<F> {
    /// Starts with `body`. `Err`: the response to a body that is not UTF-8.
    pub(super) fn new(form: F, body: &[u8], now: Moment) -> Result<Self, Response> {
        let body = match simdutf8::compat::from_utf8(body) {
            Ok(text) => text.to_owned(),
            Err(bad) => {
                return Err(
                    form.refuse(None, &BadJsonValue { message: "it is not UTF-8".to_owned(), at: bad.valid_up_to() })
                );
            }
        };
        let (values, entries) = (JsonValues::default(), Vec::new());
        let (tally, owners) = (PublishTotals::default(), None);
        Ok(Self { form, body, values, entries, published: None, tally, owners, refused: None, began: now })
    }

    /// Checks the next entries. `true`: all are checked.
    fn check_some(&mut self, context: &Context<'_>) -> Result<bool, Response> {
        let from = self.values.consumed_bytes();
        for _ in 0..STEP_ENTRIES {
            let index = self.entries.len();
            let value = match self.values.next_within(&self.body, STEP_BYTES) {
                Ok(NextValue::Value(value)) => value,
                Ok(NextValue::More) => return Ok(false),
                Ok(NextValue::End) => return Ok(true),
                Err(bad) => return Err(self.form.refuse(Some(index), &bad)),
            };
            let end = self.values.consumed_bytes();
            if index == 1 && !F::TAKES_LINES && !self.values.is_array() {
                let message = "something follows the value; several are an array of them".to_owned();
                return Err(self.form.refuse(None, &BadJsonValue { message, at: end - value.len() }));
            }
            let event = self.form.check(index, value, context)?;
            let wanted = PublishRequest { topic: &event.topic, bytes: event.payload.data.len() };
            context.hub.quotas.add(&mut self.tally, self.form.requester(context), wanted);
            // The body's size is the HTTP reader's to limit, far below what is too much for these.
            self.entries.push((end - value.len()) as u32..end as u32);
            if STEP_BYTES <= end - from {
                break;
            }
        }
        Ok(false)
    }

    /// Asks budget and quotas for all entries together, so that a batch is refused as a whole.
    fn admit(&mut self, context: &Context<'_>) {
        if context.hub.bus.budget().is_spent() {
            self.refused = Some(PublishFailed::NoRoom);
            return;
        }
        match context.hub.quotas.admit(self.form.requester(context), &self.tally, context.now) {
            Ok(owners) => self.owners = owners,
            Err(refused) => self.refused = Some(PublishFailed::Quota(refused)),
        }
    }

    /// Publishes entries from number `from` on, as many as one step may. Returns how many, and whether receipts follow later.
    fn publish_some(&mut self, from: usize, context: &Context<'_>) -> (usize, bool) {
        let (mut part, mut bytes, mut count) = (Vec::new(), 0, 0);
        for range in self.entries[from..].iter().take(STEP_ENTRIES) {
            let entry = &self.body[range.start as usize..range.end as usize];
            // It was good when it was checked, and nothing of it has changed.
            part.extend(self.form.check(from + count, entry, context));
            (bytes, count) = (bytes + entry.len(), count + 1);
            if STEP_BYTES <= bytes {
                break;
            }
        }
        if let Some(refused) = self.refused {
            part.iter().for_each(|event| self.form.record(&event.topic, Err(refused)));
            return (count, false);
        }
        let owners = self.owners.as_ref().map(|owners| (owners, from));
        match publish_part(part, owners, AnswerForm::Part, context) {
            Some((waiting, receipts)) => {
                self.take_receipts(waiting, receipts, context);
                (count, false)
            }
            None => (count, true),
        }
    }
}

impl<F: BatchForm> Work for Batch<F> {
    fn step(&mut self, context: &Context<'_>) -> Step {
        let Some(published) = self.published else {
            match self.check_some(context) {
                Ok(false) => {}
                Ok(true) => {
                    self.published = Some(0);
                    self.admit(context);
                }
                Err(response) => return Step::Done(response),
            }
            return Step::More;
        };
        if published == self.entries.len() {
            return Step::Done(self.form.finish());
        }
        let (count, is_waiting) = self.publish_some(published, context);
        self.published = Some(published + count);
        if is_waiting { Step::Waiting } else { Step::More }
    }

    fn take_receipts(&mut self, waiting: ReceiptWaiter, receipts: Vec<Receipt>, context: &Context<'_>) {
        let metrics = &context.hub.metrics.reactors[context.reactor];
        for (topic, receipt) in waiting.topics.iter().zip(receipts) {
            metrics.on_publish(context.now.since(self.began));
            self.form.record(topic, receipt);
        }
    }

    fn identity<'a>(&'a self, context: &Context<'a>) -> Option<&'a Identity> {
        self.form.requester(context).identity
    }

    fn is_committed(&self) -> bool {
        self.published.is_some()
    }

    fn held_bytes(&self) -> usize {
        let owners = self.owners.as_ref().map_or(0, Owners::held_bytes);
        let entries = self.entries.capacity() * size_of::<Range<u32>>();
        self.body.len() + entries + owners + self.tally.held_bytes() + self.form.held_bytes()
    }
}
