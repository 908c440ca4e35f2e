//! One turn of the reader after another: interest → streams that are to be looked at → topics that are to be loaded → what came,
//! as one batch.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tracing::warn;

use super::{
    delivery::Delivery,
    link::JetLink,
    reader::Reader,
    stream::{Follower, StreamPosition},
    topics::Stage,
};
use crate::{
    bus::{Feed, PublishRefused},
    clock::Moment,
    event::{EventId, Payload},
    gap::{Gap, GapReason},
    source::{
        channel_names::show,
        nats::{
            Fault,
            link::Message,
            message::{EventHeaders, gap_of, is_carried},
        },
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
    /// Serves until the hub stops, or the connection ends. What had come by then is taken: otherwise a hub that has no room for what
    /// comes while it awaits something else would get the same again and again.
    pub(super) async fn serve(&mut self, mut link: JetLink) -> Result<(), Fault> {
        let ended = self.serve_until_fault(&mut link).await;
        if ended.is_err() {
            let messages = link.take_aside();
            // That nothing can be sent any more is known.
            let _ = self.receive(&mut link, messages).await;
        }
        ended
    }

    async fn serve_until_fault(&mut self, link: &mut JetLink) -> Result<(), Fault> {
        let now = self.clock.now();
        self.streams.iter_mut().for_each(|stream| stream.check_due = now);
        loop {
            let now = self.clock.now();
            self.take_interest(now);
            if self.waker.is_stopped() {
                return Ok(());
            }
            for index in 0..self.streams.len() {
                self.tend(link, index).await?;
            }
            let now = self.clock.now();
            let deadline = self.deadline().unwrap_or(now + self.nats.ping_interval);
            let received = link.next(self.waker.notify(), deadline.since(now)).await?;
            self.take_denied(&received.denied);
            self.receive(link, received.messages).await?;
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

    pub(super) fn heartbeat(&self) -> Duration {
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
            stream.quiet.begin(stream.identity.unwrap_or_default(), delivery.stream_seq - 1);
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
        let stream = &mut self.streams[index];
        stream.position = Some(StreamPosition { seq: delivery.stream_seq, time: Some(delivery.time) });
        stream.quiet.on_message(message.subject.as_bytes(), delivery.stream_seq);
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
        if let Some(reason) = gap_of(message) {
            feed.report_gap_of(topic, Gap { from: newest, to: id, reason }, is_carried(message), now);
            self.status.on_loss();
            return Ok(0);
        }
        let outcome = if message.is_oversize || self.nats.message_bytes_max < message.payload.len() {
            Err(PublishRefused::TooBig)
        } else {
            let headers = EventHeaders::of(message);
            // The one copy: the message shares a large buffer with its neighbours, and the event may outlive them all.
            let payload = Payload::looked_at(Bytes::copy_from_slice(&message.payload));
            let payload = Payload { is_carried: is_carried(message), ..payload };
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
    pub(super) fn report_hole(&mut self, feed: &mut Feed<'_>, index: usize, next: u64, now: Moment) {
        let stream = &mut self.streams[index];
        stream.hole = Some((next - 1, now));
        stream.quiet.begin(stream.identity.unwrap_or_default(), next - 1);
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
