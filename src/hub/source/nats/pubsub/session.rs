//! One connection from its beginning to its end: what is sent, what comes, and what becomes of both.

use std::{sync::Arc, time::Duration};

use tracing::info;

use super::{
    Target,
    conversation::{Conversation, NonceAnswer},
    fence::Outcome,
    thread::PubSubThread,
};
use crate::{
    bus::{PublishFailed, Refusal},
    clock::Moment,
    source::{
        nats::{
            Fault, Link, Violation,
            link::{LinkEvent, PublishError},
            message::EventHeaders,
            publication_queue::QueuedPublication,
            topic_of,
        },
        subscriptions::Batch,
    },
};

impl PubSubThread {
    /// Serves until the hub stops, or the connection ends.
    pub(super) async fn serve(&mut self, mut link: Link<Target>) -> Result<(), Fault> {
        let now = self.clock.now();
        let mut conversation = Conversation::open(&mut link, &self.config, now)?;
        self.subscriptions.on_connected();
        self.refusal = None;
        let status = Arc::clone(&self.status);
        for side in [status.reader(), status.writer()] {
            side.on_connected(now);
        }
        info!("connected to {}", self.config.login);
        let ended = loop {
            match self.turn(&mut link, &mut conversation).await {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        // What had come before the end comes before the report of the loss.
        let now = self.clock.now();
        self.receive(link.drain(), &mut conversation, now);
        conversation.abandon();
        ended
    }

    /// One turn: send what is due → wait → messages → errors and confirmations → the bus. True at the end of the hub.
    async fn turn(&mut self, link: &mut Link<Target>, conversation: &mut Conversation) -> Result<bool, Fault> {
        let now = self.clock.now();
        self.tend(now);
        conversation.expire(&self.config, now)?;
        if self.is_done(conversation.fence().and_then(|fence| fence.deadline()).is_none(), now) {
            return Ok(true);
        }
        self.send(link, conversation, now)?;
        self.report_changes(now);
        let timeout = self.timeout(conversation, now);
        let arrivals = link.next(self.waker.notify(), timeout).await;
        let now = self.clock.now();
        self.receive(arrivals.messages, conversation, now);
        self.take_events(arrivals.events, conversation, now)?;
        if conversation.is_answered() {
            self.pass_fence(conversation, now);
        }
        self.report_changes(now);
        Ok(false)
    }

    fn timeout(&mut self, conversation: &Conversation, now: Moment) -> Duration {
        let own = [self.subscriptions.deadline(), self.queue.deadline(), self.stop_deadline];
        let deadlines = own.into_iter().flatten().chain([conversation.deadline(&self.config)]);
        deadlines.min().map_or(Duration::ZERO, |deadline| deadline.since(now))
    }

    /// Sends what is due, with a fence behind it, unless another fence is on its way.
    fn send(&mut self, link: &mut Link<Target>, conversation: &mut Conversation, now: Moment) -> Result<(), Fault> {
        if conversation.fence().is_some() {
            return Ok(());
        }
        let batch = self.subscriptions.next_batch();
        let publications = self.queue.take_batch();
        if batch.is_none() && publications.is_empty() && now < conversation.next_ping() {
            return Ok(());
        }
        if let Some(batch) = &batch {
            conversation.subscribe(link, batch, &self.subscriptions)?;
        }
        let mut sent = Vec::with_capacity(publications.len());
        for publication in publications {
            match publish(link, &publication) {
                Ok(()) => sent.push(publication),
                Err(PublishError::TooBig) => {
                    publication.answer(Err(PublishFailed::Refused(Refusal::TooBig)));
                }
                Err(PublishError::NoHeaders) => self.refuse_headers(publication, now),
                // No topic's name is: dropped, it is answered.
                Err(PublishError::BadSubject) => drop(publication),
            }
        }
        conversation.raise_fence(link, batch, sent, &self.config, now)
    }

    /// A server with `no_header_support`, or of before 2.2.
    fn refuse_headers(&self, publication: QueuedPublication, now: Moment) {
        let why = "the server takes no headers, which carry types and idempotency keys";
        self.status.on_publish_refused(Some(&publication.topic), why, false, now);
        publication.answer(Err(PublishFailed::Refused(Refusal::Other)));
    }

    fn take_events(
        &mut self,
        events: Vec<LinkEvent>,
        conversation: &mut Conversation,
        now: Moment,
    ) -> Result<(), Fault> {
        for event in events {
            match event {
                LinkEvent::Closed(why) => return Err(Fault::Closed(conversation.last_error().or(why))),
                LinkEvent::Broken(why) => return Err(Fault::Broken(why)),
                LinkEvent::Error(text) => self.take_error(&text, conversation, now)?,
            }
        }
        Ok(())
    }

    fn take_error(&mut self, text: &str, conversation: &mut Conversation, now: Moment) -> Result<(), Fault> {
        conversation.on_received(now);
        match Violation::parse(text) {
            Some(Violation::Subscribe(subject)) if conversation.is_own_probe(subject) => {
                return Err(Fault::ProbeDenied(text.to_owned()));
            }
            Some(Violation::Subscribe(subject)) => self.deny(subject, text, conversation, now),
            Some(Violation::Publish(subject)) if conversation.is_own_probe(subject) => {
                conversation.on_probe_refused();
                self.status.on_publish_refused(None, text, true, now);
            }
            Some(Violation::Publish(subject)) => {
                if let (Some(topic), Some(fence)) = (topic_of(subject), conversation.fence()) {
                    let refused = fence.refuse_publications(&topic);
                    (0..refused).for_each(|_| self.status.on_publish_refused(Some(&topic), text, false, now));
                }
            }
            None => conversation.on_error(text),
        }
        Ok(())
    }

    /// The server does not deliver `subject`, or no longer.
    fn deny(&mut self, subject: &str, text: &str, conversation: &mut Conversation, now: Moment) {
        if let Some(index) = self.subscriptions.on_pattern_denied(subject, text, now) {
            conversation.leave_pattern(index);
        } else if let Some(topic) = topic_of(subject) {
            self.subscriptions.on_topic_denied(&topic, text, now);
            conversation.leave_topic(&topic);
        }
        self.has_changed = true;
    }

    /// Everything before the fence has been taken or refused.
    fn pass_fence(&mut self, conversation: &mut Conversation, now: Moment) {
        let Some((fence, answer)) = conversation.take_answered() else { return };
        let took = now.since(fence.sent);
        let outcome = fence.complete(&self.status);
        if answer == NonceAnswer::Returned {
            self.status.on_publish_taken(None);
            self.status.on_proof(took, now);
        }
        self.status.writer().on_answer(now);
        self.backoff.reset();
        match outcome {
            Outcome::Taken(None | Some(Batch::Leave(_))) => return,
            Outcome::Taken(Some(Batch::Topics(topics))) => {
                topics.iter().for_each(|topic| self.subscriptions.on_subscribed(topic));
            }
            Outcome::Taken(Some(Batch::Patterns(indices))) => {
                indices.iter().for_each(|index| self.subscriptions.on_pattern_subscribed(*index));
            }
            Outcome::Unclear(batch, text) => {
                match &batch {
                    Batch::Topics(topics) => topics.iter().for_each(|topic| conversation.leave_topic(topic)),
                    Batch::Patterns(indices) => indices.iter().for_each(|index| conversation.leave_pattern(*index)),
                    Batch::Leave(_) => {}
                }
                self.subscriptions.on_refused(&batch, &text, now);
            }
        }
        self.has_changed = true;
    }
}

fn publish(link: &mut Link<Target>, publication: &QueuedPublication) -> Result<(), PublishError> {
    let kind = publication.kind.as_deref().map(Into::into);
    let headers = EventHeaders { kind, key: publication.key.as_deref().map(Into::into) };
    let (topic, data) = (publication.topic.as_str(), &publication.data);
    if let Some(bridged) = &publication.bridged {
        let marked = headers.write_carried(bridged);
        match link.publish(topic, None, Some(&marked), data) {
            // The mark alone is no reason not to publish.
            Err(PublishError::NoHeaders | PublishError::TooBig) => {}
            outcome => return outcome,
        }
    }
    link.publish(topic, None, headers.write().as_ref(), data)
}
