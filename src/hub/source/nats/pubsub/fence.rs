//! What awaits confirmation: one batch of subscriptions, some publications, and the nonce behind them.

use crate::{
    bus::{PublishFailed, Refusal},
    clock::Moment,
    source::{SourceStatus, nats::publication_queue::QueuedPublication, subscriptions::Batch},
    topic::Topic,
};

/// Commands that were sent, and the nonce that was published behind them.
#[derive(Debug)]
pub(super) struct Fence {
    pub(super) nonce: u64,
    pub(super) sent: Moment,
    batch: Option<Batch>,
    publications: Vec<QueuedPublication>,
    /// When the first of `publications` gives up.
    deadline: Option<Moment>,
    /// An error that names nothing: any of the commands may have caused it.
    unclear: Option<String>,
}

/// What is known of the subscriptions once the fence has returned.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The server took the batch, but for what it refused by name.
    Taken(Option<Batch>),
    /// It refused something of the batch, and did not say what.
    Unclear(Batch, String),
}

impl Fence {
    pub(super) fn new(nonce: u64, sent: Moment, batch: Option<Batch>, publications: Vec<QueuedPublication>) -> Self {
        let deadline = first_deadline(&publications);
        Self { nonce, sent, batch, publications, deadline, unclear: None }
    }

    /// When the next publication gives up.
    pub(super) fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// Answers those that have waited long enough: they may have been published.
    pub(super) fn expire(&mut self, now: Moment) {
        if self.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        for late in self.publications.extract_if(.., |sent| sent.deadline <= now) {
            late.answer(Err(PublishFailed::Unknown));
        }
        self.deadline = first_deadline(&self.publications);
    }

    /// The server refuses publications to `topic`: how many of these there are.
    pub(super) fn refuse_publications(&mut self, topic: &Topic) -> usize {
        let refused = self.publications.extract_if(.., |sent| sent.topic == *topic);
        let count = refused.map(|refused| refused.answer(Err(PublishFailed::Refused(Refusal::Forbidden)))).count();
        self.deadline = first_deadline(&self.publications);
        count
    }

    /// The server refused something, and did not say what.
    pub(super) fn on_unclear(&mut self, text: &str) {
        self.unclear.get_or_insert_with(|| text.to_owned());
    }

    /// The nonce is back: everything before it was taken, unless it was refused.
    pub(super) fn complete(self, status: &SourceStatus) -> Outcome {
        for publication in self.publications {
            if self.unclear.is_some() {
                publication.answer(Err(PublishFailed::Unknown));
            } else {
                status.on_publish_taken(Some(&publication.topic));
                publication.answer(Ok(None));
            }
        }
        match (self.batch, self.unclear) {
            (Some(batch @ (Batch::Topics(_) | Batch::Patterns(_))), Some(text)) => Outcome::Unclear(batch, text),
            (batch, _) => Outcome::Taken(batch),
        }
    }

    /// The connection ended before: what was published may have been taken.
    pub(super) fn abandon(self) {
        for publication in self.publications {
            publication.answer(Err(PublishFailed::Unknown));
        }
    }
}

fn first_deadline(publications: &[QueuedPublication]) -> Option<Moment> {
    publications.iter().map(|sent| sent.deadline).min()
}
