//! One turn of the reader after another: interest → streams that are to be looked at → topics that are to be loaded → what came,
//! as one batch.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::{info, warn};

use super::{
    api::{ApiError, ConsumerInfo, Refused, StoredMessage, StreamInfo, message_at, push_consumer, read},
    delivery::Delivery,
    link::JetLink,
    reader::Reader,
    stream::{Follower, StreamPosition, Verdict, identity, renewed_description},
    topics::Stage,
};
use crate::{
    bus::{Feed, PublishRefused},
    clock::Moment,
    event::{EventId, Payload},
    gap::{Gap, GapReason},
    source::{
        channel_names::show,
        nats::{Fault, link::Message, message::EventHeaders},
    },
    topic::Topic,
};

/// How long the hub waits to read on while the memory budget is spent. What is not read stays at the broker.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// How long what was removed may wait to be told to topics without events.
const HOLES_TOLD_TOGETHER: Duration = Duration::from_millis(100);

/// A consumer that has said nothing for so many of its heartbeats is given up.
const HEARTBEATS_MISSED_MAX: u32 = 3;

/// The bounds of the heartbeats that a server gives.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
const HEARTBEAT_MAX: Duration = Duration::from_secs(10);

impl Reader {
    /// Serves until the hub stops, or the connection ends.
    pub(super) async fn serve(&mut self, mut link: JetLink) -> Result<(), Fault> {
        let now = self.clock.now();
        self.streams.iter_mut().for_each(|stream| stream.check_due = now);
        loop {
            let now = self.clock.now();
            self.take_interest(now);
            if self.waker.is_stopped() {
                return Ok(());
            }
            for index in 0..self.streams.len() {
                self.tend(&mut link, index).await?;
            }
            let now = self.clock.now();
            let deadline = self.deadline().unwrap_or(now + self.nats.ping_interval);
            let received = link.next(self.waker.notify(), deadline.since(now)).await?;
            self.take_denied(&received.denied);
            self.receive(&mut link, received.messages).await?;
        }
    }

    /// Without the right to answer flow control, consumers are made without: a hub that is slow is then closed by the server.
    fn take_denied(&mut self, denied: &[(String, String)]) {
        if let Some((_, text)) = denied.iter().find(|(subject, _)| subject.starts_with("$JS.FC."))
            && std::mem::replace(&mut self.has_flow_control, false)
        {
            warn!("consumers are used without flow control: {text}");
            let now = self.clock.now();
            for stream in &mut self.streams {
                (stream.check_due, stream.renews_follower) = (now, stream.follower.is_some());
            }
        }
    }

    fn deadline(&self) -> Option<Moment> {
        let silent = self.heartbeat() * HEARTBEATS_MISSED_MAX;
        let streams = self.streams.iter().enumerate().flat_map(|(index, stream)| {
            let follower = stream.follower.as_ref();
            let load_due = follower.and_then(|_| self.topics.load_due(index));
            [
                Some(stream.check_due),
                follower.map(|follower| follower.heard + silent),
                load_due,
                stream.hole.map(|(_, due)| due),
            ]
        });
        streams.chain([self.topics.expiry()]).flatten().min()
    }

    fn heartbeat(&self) -> Duration {
        self.nats.ping_interval.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX)
    }

    /// Looks after one stream.
    async fn tend(&mut self, link: &mut JetLink, index: usize) -> Result<(), Fault> {
        let now = self.clock.now();
        let silent = self.heartbeat() * HEARTBEATS_MISSED_MAX;
        let stream = &mut self.streams[index];
        if stream.follower.as_ref().is_some_and(|follower| follower.heard + silent <= now) {
            self.leave(link, index)?;
            self.streams[index].check_due = now;
        }
        if self.streams[index].check_due <= now {
            self.check(link, index).await?;
        }
        if self.streams[index].follower.is_some() {
            self.load_some(link, index).await?;
        }
        Ok(())
    }

    /// Whether the stream is there, is what the class needs, and is the one that was read; then it is followed if it is wanted.
    async fn check(&mut self, link: &mut JetLink, index: usize) -> Result<(), Fault> {
        let asked = self.clock.now();
        let checked = self.look_at(link, index).await?;
        let now = self.clock.now();
        if checked != Err(Refused::NoResponders) {
            if self.status.reader().on_connected(now) {
                info!("reading streams of {}", self.nats.login);
            }
            self.backoff.reset();
            self.status.on_proof(now.since(asked), now);
        }
        match checked {
            Ok(()) => {
                self.streams[index].failures = 0;
                self.streams[index].check_due = now + self.nats.ping_interval;
            }
            Err(Refused::NoResponders) => {
                if self.streams.iter().all(|stream| stream.follower.is_none()) {
                    self.status.reader().on_failure(&Refused::NoResponders.to_string(), now);
                }
                self.put_off(link, index, &Refused::NoResponders.to_string(), false, now)?;
            }
            Err(refused) => self.put_off(link, index, &refused.to_string(), true, now)?,
        }
        Ok(())
    }

    /// The stream cannot be read at present. `is_refused`: and perhaps will not be, until somebody changes something at the server.
    pub(super) fn put_off(
        &mut self,
        link: &mut JetLink,
        index: usize,
        why: &str,
        is_refused: bool,
        now: Moment,
    ) -> Result<(), Fault> {
        let failures = self.streams[index].failures.saturating_add(1);
        let wait = self.nats.backoff_min.saturating_mul(1 << failures.min(16)).min(self.nats.backoff_max);
        let stream = &mut self.streams[index];
        stream.failures = failures;
        stream.check_due = now + wait;
        let name = stream.spec.name.clone();
        if is_refused {
            // What was read stays as it is: reading goes on behind it, so nobody misses anything.
            let topics: Vec<Topic> = self.topics.of_stream(index, false).cloned().collect();
            for topic in topics {
                self.refused.add(&topic, why, false, &self.bus, &self.status, now);
            }
            self.leave(link, index)?;
        }
        self.topics.put_off(index, now + wait);
        self.log_refusal(&format!("the stream `{name}` cannot be read: {why}"), now);
        self.report_counts();
        Ok(())
    }

    async fn look_at(&mut self, link: &mut JetLink, index: usize) -> Result<Result<(), Refused>, Fault> {
        let (name, position) = (self.streams[index].spec.name.clone(), self.streams[index].position);
        let info = match self.stream_info(link, index).await? {
            Ok(info) => info,
            Err(refused) => return Ok(Err(refused)),
        };
        if let Some(unfit) = self.streams[index].unfit(&info) {
            return Ok(Err(Refused::Denied(unfit)));
        }
        let known_at = position.filter(|position| position.time.is_some() && position.seq <= info.state.last_seq);
        let stored: Option<Result<StoredMessage, Refused>> = match known_at {
            Some(position) => {
                let answer = link.request(self.api.message_get(&name), message_at(position.seq)).await?;
                Some(answer.and_then(|payload| read(&payload)))
            }
            None => None,
        };
        let verdict = self.streams[index].judge(&info, stored.as_ref());
        let info = match verdict {
            Verdict::Same => info,
            Verdict::Restored => match self.renew_identity(link, index, info).await? {
                Ok(info) => info,
                Err(refused) => return Ok(Err(refused)),
            },
            Verdict::Replaced => info,
        };
        let now = self.clock.now();
        if verdict != Verdict::Same {
            warn!("the stream `{name}` is another one than before ({verdict:?}): its readers are sent a gap");
            self.leave(link, index)?;
            (self.streams[index].position, self.streams[index].hole) = (None, None);
            self.topics.load_again(index, now);
        }
        self.streams[index].identity = Some(identity(&info));
        self.follow(link, index, &info).await
    }

    /// What the server says of the stream, which is made if there is none.
    async fn stream_info(&mut self, link: &mut JetLink, index: usize) -> Result<Result<StreamInfo, Refused>, Fault> {
        let name = self.streams[index].spec.name.clone();
        let ask = async |link: &mut JetLink, api: &super::api::Api| {
            let answer = link.request(api.stream_info(&name), Bytes::new()).await?;
            Ok::<_, Fault>(answer.and_then(|payload| read::<StreamInfo>(&payload)))
        };
        let found = ask(link, &self.api).await?;
        let info = match found {
            Err(missing) if missing.is_missing() => {
                let config = self.streams[index].spec.config(&renewed_description("", rand::random()));
                let made = link.request(self.api.stream_create(&name), config.into()).await?;
                match made.and_then(|payload| read::<StreamInfo>(&payload)) {
                    Ok(info) => {
                        info!("made the stream `{name}`");
                        return Ok(Ok(info));
                    }
                    // Another hub was quicker.
                    Err(Refused::Api(error)) if error.err_code == ApiError::STREAM_NAME_IN_USE => {
                        ask(link, &self.api).await?
                    }
                    Err(refused) => Err(refused),
                }
            }
            found => found,
        };
        if let Ok(info) = &info
            && !std::mem::replace(&mut self.streams[index].has_warned, true)
        {
            let differences = self.streams[index].spec.differences(&info.config);
            if !differences.is_empty() {
                warn!("the stream `{name}` is used as it is, and differs from its class: {}", differences.join(", "));
            }
        }
        Ok(info)
    }

    /// Gives a stream that was restored another identity, so that no id of what it has lost is taken for one of what comes.
    async fn renew_identity(
        &self,
        link: &mut JetLink,
        index: usize,
        info: StreamInfo,
    ) -> Result<Result<StreamInfo, Refused>, Fault> {
        let name = &self.streams[index].spec.name;
        let mut config = info.config.clone();
        config["description"] = renewed_description(info.description(), rand::random()).into();
        let answer = link.request(self.api.stream_update(name), config.to_string().into()).await?;
        Ok(answer.and_then(|payload| read(&payload)).or_else(|refused| match refused {
            // Clients that come back with an id of what is gone will not be told.
            Refused::Denied(text) | Refused::Api(ApiError { description: text, .. }) => {
                warn!("the identity of the stream `{name}` cannot be renewed: {text}");
                Ok(info)
            }
            refused => Err(refused),
        }))
    }

    /// Begins to follow the stream where it was left, or at its end; or leaves it, if nobody wants any of its topics.
    async fn follow(
        &mut self,
        link: &mut JetLink,
        index: usize,
        info: &StreamInfo,
    ) -> Result<Result<(), Refused>, Fault> {
        let is_wanted = self.topics.of_stream(index, false).next().is_some();
        if !is_wanted {
            self.leave(link, index)?;
            self.streams[index].position = None;
            return Ok(Ok(()));
        }
        if self.has_stopped(index, info) || std::mem::take(&mut self.streams[index].renews_follower) {
            warn!("the consumer of the stream `{}` has stopped: another one goes on", self.streams[index].spec.name);
            self.leave(link, index)?;
        }
        if self.streams[index].follower.is_some() {
            return Ok(Ok(()));
        }
        let position = self.streams[index].position.unwrap_or_else(|| StreamPosition::end(info));
        if position.seq + 1 < info.state.first_seq {
            let now = self.clock.now();
            let bus = Arc::clone(&self.bus);
            self.report_hole(&mut bus.feed(), index, info.state.first_seq, now);
        }
        let position = self.streams[index].position.unwrap_or(position);
        let name = self.streams[index].spec.name.clone();
        let (subject, subscription) = link.delivery_subject()?;
        let request = push_consumer(&name, position.seq + 1, &subject, self.heartbeat(), self.has_flow_control);
        let answer = link.request(self.api.consumer_create(&name), request).await?;
        let made = answer.and_then(|payload| read::<ConsumerInfo>(&payload));
        match &made {
            Err(_) => subscription.abort(),
            // The newest messages were removed, and no other one will come to tell of it.
            Ok(made) if made.num_pending == 0 && position.seq < info.state.last_seq => {
                self.streams[index].position = Some(position);
                let bus = Arc::clone(&self.bus);
                self.report_hole(&mut bus.feed(), index, info.state.last_seq + 1, self.clock.now());
            }
            Ok(_) => {}
        }
        let position = self.streams[index].position.unwrap_or(position);
        Ok(made.map(|made| {
            let heard = self.clock.now();
            let stream = &mut self.streams[index];
            stream.position = Some(position);
            let follower =
                Follower { consumer: made.name, subject, subscription, delivered: 0, heard, behind_at: None };
            stream.follower = Some(follower);
            for topic in self.topics.of_stream(index, true) {
                self.refused.remove(topic, &self.status);
                self.bus.mark_live(topic, heard);
            }
        }))
    }

    /// Whether the stream has had more than was delivered for as long as from one look to the next. Somebody may have paused the
    /// consumer, or what it had to deliver was removed.
    fn has_stopped(&mut self, index: usize, info: &StreamInfo) -> bool {
        let stream = &mut self.streams[index];
        let (Some(follower), Some(position)) = (&mut stream.follower, stream.position) else { return false };
        let is_behind = position.seq < info.state.last_seq;
        let before = std::mem::replace(&mut follower.behind_at, is_behind.then_some(follower.delivered));
        is_behind && before == Some(follower.delivered)
    }

    /// Ends the consumer. What it has delivered and nobody has taken is delivered again by the next one.
    fn leave(&mut self, link: &mut JetLink, index: usize) -> Result<(), Fault> {
        let stream = &mut self.streams[index];
        match stream.follower.take() {
            Some(follower) => {
                follower.subscription.abort();
                let reply = link.subject("r.closed");
                let delete = self.api.consumer_delete(&stream.spec.name, &follower.consumer);
                link.send(&delete, Some(&reply), Bytes::new())
            }
            None => Ok(()),
        }
    }

    /// Hands what came to the bus, as one batch.
    async fn receive(&mut self, link: &mut JetLink, messages: Vec<Message>) -> Result<(), Fault> {
        let now = self.clock.now();
        let bus = Arc::clone(&self.bus);
        let mut feed = bus.feed();
        let (mut received, mut answers, mut broken) = (0, Vec::new(), Vec::new());
        for message in messages {
            let delivery = message.reply.as_deref().and_then(Delivery::parse);
            let consumer = delivery.map(|delivery| delivery.consumer);
            let Some(index) = self.streams.iter().position(|stream| {
                let is_of = |follower: &Follower| match consumer {
                    Some(consumer) => follower.consumer == consumer,
                    None => follower.subject == *message.subject,
                };
                stream.follower.as_ref().is_some_and(is_of)
            }) else {
                continue;
            };
            if broken.contains(&index) {
                continue;
            }
            let is_whole = match delivery {
                Some(delivery) => {
                    self.take_event(&mut feed, index, &message, delivery, now).map(|taken| received += taken)
                }
                None => self.take_notice(index, &message, &mut answers, now),
            };
            if is_whole.is_none() {
                broken.push(index);
            }
        }
        self.report_holes(&mut feed, now);
        drop(feed);
        if 0 < received {
            self.status.on_events(received, now);
        }
        for subject in answers {
            // What is no subject is not the server's.
            let _ = link.publish(&subject, None, None, Bytes::new());
        }
        for index in broken {
            self.leave(link, index)?;
            let is_full = self.bus.budget().is_spent();
            self.streams[index].check_due = if is_full { now + PAUSE } else { now };
        }
        Ok(())
    }

    /// What a consumer says besides messages: that it is there, or that it waits for the hub. `None`: messages are missing.
    fn take_notice(&mut self, index: usize, message: &Message, answers: &mut Vec<String>, now: Moment) -> Option<()> {
        let stream = &mut self.streams[index];
        let follower = stream.follower.as_mut()?;
        follower.heard = now;
        // Whoever may publish to the hub's inbox must not make it publish elsewhere.
        let flow_control = format!("$JS.FC.{}.{}.", stream.spec.name, follower.consumer);
        let header = |name: &str| message.headers.as_ref().and_then(|headers| headers.get(name));
        let asked = [message.reply.as_deref(), header("Nats-Consumer-Stalled")].into_iter().flatten();
        answers.extend(asked.filter(|subject| subject.starts_with(&flow_control)).map(str::to_owned));
        let last = header("Nats-Last-Consumer").and_then(|last| last.parse::<u64>().ok());
        last.is_none_or(|last| last <= follower.delivered).then_some(())
    }

    /// Takes one message of a stream: how many events it was. `None`: something before it is missing, or there is no room.
    fn take_event(
        &mut self,
        feed: &mut Feed<'_>,
        index: usize,
        message: &Message,
        delivery: Delivery<'_>,
        now: Moment,
    ) -> Option<u64> {
        let stream = &mut self.streams[index];
        let follower = stream.follower.as_mut()?;
        follower.heard = now;
        if delivery.consumer_seq != follower.delivered + 1 {
            return None;
        }
        let position = stream.position.unwrap_or(StreamPosition { seq: delivery.stream_seq - 1, time: None });
        follower.delivered += 1;
        if position.seq + 1 < delivery.stream_seq {
            let due = stream.hole.map_or(now + HOLES_TOLD_TOGETHER, |(_, due)| due);
            stream.hole = Some((delivery.stream_seq - 1, due));
        }
        let id = self.streams[index].id(delivery.stream_seq);
        let topic = self.names.resolve(message.subject.as_bytes()).cloned();
        let taken = match topic {
            None => {
                self.status.on_refused();
                let subject = show(message.subject.as_bytes());
                self.log_refusal(
                    &format!("message {} on subject `{subject}` refused: it is no topic's name", id.minor),
                    now,
                );
                Ok(0)
            }
            Some(topic) if self.topics.stage(&topic) != Some(Stage::Live) => Ok(0),
            Some(topic) => {
                if let Some((end, _)) = self.streams[index].hole {
                    self.report_hole_in(feed, &topic, self.streams[index].id(end), now);
                }
                self.publish(feed, &topic, id, message, now)
            }
        };
        // Without room, the next consumer delivers it again.
        let taken = taken.ok()?;
        self.streams[index].position = Some(StreamPosition { seq: delivery.stream_seq, time: Some(delivery.time) });
        Some(taken)
    }

    /// Adds a message to its topic's log, unless it is there. Fails if there is no room for it.
    pub(super) fn publish(
        &mut self,
        feed: &mut Feed<'_>,
        topic: &Topic,
        id: EventId,
        message: &Message,
        now: Moment,
    ) -> Result<u64, NoRoom> {
        let newest = self.bus.newest_id(topic);
        if id <= newest {
            return Ok(0);
        }
        let outcome = if message.is_oversize || self.nats.message_bytes_max < message.payload.len() {
            Err(PublishRefused::TooBig)
        } else {
            let headers = EventHeaders::of(message);
            // The one copy: the message shares a large buffer with its neighbours, and the event may outlive them all.
            let payload = Payload::looked_at(Bytes::copy_from_slice(&message.payload));
            feed.publish_as(topic, id, headers.kind.as_deref(), payload, now)
        };
        match outcome {
            Ok(_) => Ok(1),
            Err(PublishRefused::NoRoom) => Err(NoRoom),
            Err(refused) => {
                feed.report_gap(topic, Gap { from: newest, to: id, reason: GapReason::SourceLost }, now);
                self.status.on_loss();
                self.status.on_refused();
                self.log_refusal(&format!("message {} of `{topic}` is no event: {refused:?}", id.minor), now);
                Ok(0)
            }
        }
    }

    /// What the stream had between the position and `next` is gone, and nobody knows of which topics it was.
    fn report_hole(&mut self, feed: &mut Feed<'_>, index: usize, next: u64, now: Moment) {
        self.streams[index].hole = Some((next - 1, now));
        if let Some(position) = &mut self.streams[index].position {
            *position = StreamPosition { seq: next - 1, time: None };
        }
        self.report_holes(feed, now);
    }

    /// Tells of the holes that are due to all topics which have had no event since. A burst beyond what a stream keeps makes a hole
    /// of every other message: topics without events get one gap for many of them.
    fn report_holes(&mut self, feed: &mut Feed<'_>, now: Moment) {
        for index in 0..self.streams.len() {
            if let Some((end, _)) = self.streams[index].hole.take_if(|(_, due)| *due <= now) {
                let to = self.streams[index].id(end);
                for topic in self.topics.of_stream(index, true) {
                    self.report_hole_in(feed, topic, to, now);
                }
            }
        }
    }

    fn report_hole_in(&self, feed: &mut Feed<'_>, topic: &Topic, to: EventId, now: Moment) {
        let from = self.bus.newest_id(topic);
        if from < to {
            feed.report_gap(topic, Gap { from, to, reason: GapReason::Expired }, now);
            self.status.on_loss();
        }
    }
}

/// The memory budget is spent.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoRoom;
