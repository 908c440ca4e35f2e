//! Loading the newest part of topics' logs, for listeners that nobody was before.

use std::time::Duration;

use bytes::Bytes;

use super::{
    api::{Refused, StreamInfo, read},
    link::JetLink,
    pages::{Newest, NewestBounds, SubjectReader},
    reader::Reader,
    stream::identity,
    topics::Stage,
    turn::PAUSE,
};
use crate::{clock::Moment, gap::Gap, source::nats::Fault, topic::Topic};

/// Topics loaded together.
const TOPICS_PER_LOAD: usize = 64;

impl Reader {
    /// Loads some of the topics of a stream that are to be loaded. What its consumer delivers meanwhile waits.
    pub(super) async fn load_some(&mut self, link: &mut JetLink, index: usize) -> Result<(), Fault> {
        let topics = self.topics.to_load(index, TOPICS_PER_LOAD, self.clock.now());
        if topics.is_empty() {
            return Ok(());
        }
        if self.bus.budget().is_spent() {
            self.topics.put_off(index, self.clock.now() + PAUSE);
            return Ok(());
        }
        let name = self.streams[index].spec.name.clone();
        let wanted: Vec<(&str, u64)> = topics.iter().map(|topic| (topic.as_str(), 1)).collect();
        let readers = SubjectReader::open_all(link, &self.api, &name, &wanted).await?;
        let last = self.streams[index].position.map_or(0, |position| position.seq);
        let mut loaded = Vec::with_capacity(topics.len());
        for (topic, reader) in topics.iter().zip(readers) {
            let history = self.bus.class(topic).retention.history;
            let since = u64::try_from(crate::os::realtime_now().saturating_sub(history.age).as_nanos()).unwrap_or(0);
            let bounds = NewestBounds { count: history.count, bytes: history.bytes, since };
            loaded.push(match reader {
                Ok(reader) => {
                    let total = reader.total;
                    let newest = Newest::read(reader, link, &self.api, (topic.as_str(), last), bounds).await?;
                    newest.map(|newest| (total, newest))
                }
                Err(refused) => Err(refused),
            });
        }
        // Asked behind the reading: what has been removed by now may have been removed before.
        let info = link.request(self.api.stream_info(&name), Bytes::new()).await?;
        let info = match info.and_then(|payload| read::<StreamInfo>(&payload)) {
            Ok(info) if Some(identity(&info)) == self.streams[index].identity => info,
            Ok(_) => {
                self.streams[index].check_due = self.clock.now();
                return Ok(());
            }
            Err(refused) => {
                let is_refused = refused != Refused::NoResponders;
                return self.put_off(link, index, &refused.to_string(), is_refused, self.clock.now());
            }
        };
        let now = self.clock.now();
        for (topic, loaded) in topics.iter().zip(loaded) {
            match loaded {
                Ok((total, newest)) => self.begin(topic, index, total, newest, &info, now),
                Err(refused) => self.refuse_topic(topic, &refused, now),
            }
        }
        self.report_counts();
        Ok(())
    }

    fn refuse_topic(&mut self, topic: &Topic, refused: &Refused, now: Moment) {
        let again = matches!(self.topics.stage(topic), Some(Stage::New { again: true, .. }));
        let wait: Duration = self.nats.ping_interval.min(self.nats.backoff_max);
        self.topics.set_stage(topic, Stage::New { due: now + wait, again });
        if *refused != Refused::NoResponders {
            self.refused.add(topic, &refused.to_string(), again, &self.bus, &self.status, now);
        }
        self.log_refusal(&format!("`{topic}` cannot be read: {refused}"), now);
    }

    /// Begins the log of `topic` with what was loaded. The stream had `total` messages of it.
    fn begin(&mut self, topic: &Topic, index: usize, total: u64, newest: Newest, info: &StreamInfo, now: Moment) {
        let stream = &self.streams[index];
        let read = stream.position.map_or(0, |position| position.seq);
        let is_uncut = info.subject_count_max().is_none_or(|most| total < most);
        // All that the topic has behind this is in `newest`, or is yet to be delivered.
        let floor = match newest.messages.front() {
            _ if newest.is_all && is_uncut => {
                let first = newest.messages.front().map_or(read, |oldest| oldest.seq - 1);
                first.min(info.state.first_seq.saturating_sub(1))
            }
            Some(oldest) => oldest.seq - 1,
            None => read,
        };
        let floor = stream.id(floor);
        let bus = std::sync::Arc::clone(&self.bus);
        let mut feed = bus.feed();
        // Whoever reads already must not take what is loaded for the continuation of what it has.
        let again = matches!(self.topics.stage(topic), Some(Stage::New { again: true, .. }));
        if again | bus.take_unconfirmed(topic) {
            feed.restart_log(topic, Gap::resumable_end(floor), now);
            self.status.on_loss();
        } else {
            bus.begin_log(topic, floor);
        }
        let mut received = 0;
        for stored in newest.messages {
            let id = self.streams[index].id(stored.seq);
            match self.publish(&mut feed, topic, id, &stored.message, now) {
                Ok(taken) => received += taken,
                // Without room for all of it, it is loaded again.
                Err(_) => {
                    self.topics.set_stage(topic, Stage::New { due: now + PAUSE, again });
                    return;
                }
            }
        }
        drop(feed);
        if 0 < received {
            self.status.on_events(received, now);
        }
        self.topics.set_stage(topic, Stage::Live);
        self.refused.remove(topic, &self.status);
        self.bus.mark_live(topic, now);
    }
}
