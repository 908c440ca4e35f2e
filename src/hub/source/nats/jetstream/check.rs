//! Whether a stream still is the one that is read, and the consumer that delivers it: asked after every connect, and once in every
//! `nats.ping_interval`.

use std::sync::Arc;

use bytes::Bytes;
use tracing::{info, warn};

use super::{
    api::{Api, ApiError, ConsumerInfo, Refused, StoredMessage, StreamInfo, message_at, push_consumer, read},
    link::JetLink,
    reader::Reader,
    stream::{Follower, StreamPosition, Verdict, identity, renewed_description},
};
use crate::{clock::Moment, source::nats::Fault, topic::Topic};

impl Reader {
    /// Whether the stream is there, is what the class needs, and is the one that was read; then it is followed if it is wanted.
    pub(super) async fn check(&mut self, link: &mut JetLink, index: usize) -> Result<(), Fault> {
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
        let followed = self.follow(link, index, &info).await;
        self.streams[index].quiet.set_first(info.state.first_seq);
        followed
    }

    /// What the server says of the stream, which is made if there is none.
    async fn stream_info(&mut self, link: &mut JetLink, index: usize) -> Result<Result<StreamInfo, Refused>, Fault> {
        let name = self.streams[index].spec.name.clone();
        let ask = async |link: &mut JetLink, api: &Api| {
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
        let position = self.streams[index].position.unwrap_or_else(|| {
            let end = StreamPosition::end(info);
            self.streams[index].quiet.begin(identity(info), end.seq);
            end
        });
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
    pub(super) fn leave(&mut self, link: &mut JetLink, index: usize) -> Result<(), Fault> {
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
}
