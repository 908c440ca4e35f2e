//! The archive: a thread that reads events older than the hub's own logs, so that no reactor ever waits for the broker.
//!
//! It caches what it has read for a moment, and takes all waiting requests at once, the oldest id first. So a thousand clients that
//! reconnect together after a restart of the hub cost the broker a few reads, not a thousand.

use std::{collections::HashMap, io, sync::Arc, thread::JoinHandle, time::Duration};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::Notify;
use tracing::warn;

use super::{
    JETSTREAM_SOURCE,
    api::{Api, Refused, StreamInfo, read},
    config::{JetStreamConfig, StreamSpec},
    link::JetLink,
    pages::{Newest, NewestBounds, Stored, SubjectReader},
    quiet::QuietTopics,
    stream::identity,
};
use crate::{
    bus::{ArchiveFailed, ArchivePage},
    clock::{Clock, Moment},
    event::{Event, EventId, Payload, Start},
    gap::{Gap, GapReason},
    source::{
        LogRateLimiter, TopicClasses,
        archive_cache::{Cache, Found, LIFE, PageBounds, select},
        archive_queue::{ArchiveQueue, QueuedRequest, archive_queue},
        nats::{
            Connector, Fault, NatsConfig,
            message::{EventHeaders, gap_of, is_carried},
        },
    },
    topic::Topic,
};

/// Owns the archive's thread.
#[derive(Debug)]
pub(super) struct ArchiveHandle {
    queue: ArchiveQueue,
    thread: JoinHandle<()>,
}

/// Requests taken at once.
const BATCH_MAX: usize = 4096;

/// What one look at the broker should bring.
const READ_COUNT: usize = 1024;
const READ_BYTES: usize = 1 << 20;

/// How often an idle connection is looked after.
const IDLE: Duration = Duration::from_secs(2);

/// Starts the thread.
pub(super) fn start_archive(
    nats: &NatsConfig,
    config: &JetStreamConfig,
    specs: &[StreamSpec],
    quiet: &[Arc<QuietTopics>],
    classes: TopicClasses,
    connector: Connector,
    clock: Clock,
) -> io::Result<ArchiveHandle> {
    let (queue, queued) = archive_queue(config.archive_queue_max);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut worker = Worker {
        api: Api::new(&config.domain),
        nats: nats.clone(),
        specs: specs.to_vec(),
        quiet: quiet.to_vec(),
        classes,
        connector,
        link: None,
        retry: clock.now(),
        cache: Cache::new(config.archive_cache_bytes),
        known: HashMap::default(),
        failures: LogRateLimiter::default(),
        queued,
        clock,
    };
    let thread = std::thread::Builder::new().name("jetstream-archive".to_owned()).spawn(move || {
        // What the library has begun ends with the runtime.
        worker.run(&runtime);
        drop(worker);
    })?;
    Ok(ArchiveHandle { queue, thread })
}

impl ArchiveHandle {
    /// Where to hand requests to; what the bus is given as its archive.
    pub(super) fn queue(&self) -> ArchiveQueue {
        self.queue.clone()
    }

    /// Lets the thread end as soon as nobody can ask it any more.
    pub(super) fn stop(self) {
        let Self { queue, thread } = self;
        drop(queue);
        if thread.is_finished() && thread.join().is_err() {
            warn!("the JetStream archive had panicked");
        }
    }
}

struct Worker {
    nats: NatsConfig,
    api: Api,
    specs: Vec<StreamSpec>,
    /// What the reader knows of each stream's topics.
    quiet: Vec<Arc<QuietTopics>>,
    classes: TopicClasses,
    connector: Connector,
    link: Option<JetLink>,
    /// Until then requests are answered [`ArchiveFailed::Unavailable`] without an attempt to connect.
    retry: Moment,
    cache: Cache,
    /// What the server said of streams lately, by their index.
    known: HashMap<usize, (Known, Moment)>,
    failures: LogRateLimiter,
    queued: Receiver<QueuedRequest>,
    clock: Clock,
}

/// What the server says of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    identity: u64,
    first_seq: u64,
    last_seq: u64,
    subject_count_max: Option<u64>,
}

/// The newest event that a client has.
#[derive(Clone, Copy)]
struct LastSeen {
    /// Everything up to this id.
    id: EventId,
    /// The digest of the event there, if it is known.
    content: Option<u64>,
}

/// Why a page cannot be read.
enum Failed {
    Fault(Fault),
    Refused(Refused),
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Worker {
    fn run(&mut self, runtime: &tokio::runtime::Runtime) {
        loop {
            let first = match self.queued.recv_timeout(IDLE) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    runtime.block_on(self.look_after_link());
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut batch = vec![first];
            batch.extend(self.queued.try_iter().take(BATCH_MAX));
            // So that what one needs is read together with what the others need.
            batch.sort_by_key(|queued| match queued.request().map(|request| request.start) {
                Some(Start::After(id)) => id,
                _ => EventId::default(),
            });
            runtime.block_on(async {
                for mut queued in batch {
                    let Some(request) = queued.request() else { continue };
                    let (topic, start, content) = (request.topic.clone(), request.start, request.content);
                    let page = self.page(&topic, start, content, PageBounds::of(request)).await;
                    queued.answer(page);
                }
            });
            let now = self.clock.now();
            self.known.retain(|_, (_, since)| now.since(*since) <= LIFE);
        }
    }

    /// Answers the server's questions, and notices that it has gone.
    async fn look_after_link(&mut self) {
        if let Some(mut link) = self.link.take()
            && link.next(&Notify::new(), Duration::from_millis(1)).await.is_ok()
        {
            self.link = Some(link);
        }
    }

    async fn page(
        &mut self,
        topic: &Topic,
        start: Start,
        content: Option<u64>,
        bounds: PageBounds,
    ) -> Result<ArchivePage, ArchiveFailed> {
        let empty = ArchivePage { is_complete: true, ..ArchivePage::default() };
        let is_newcomer = matches!(start, Start::First | Start::Last(_));
        if is_newcomer && self.classes.of_source(topic, JETSTREAM_SOURCE).retention.history.is_none() {
            return Ok(empty);
        }
        let Some(index) = self.specs.iter().position(|spec| spec.keeps(topic)) else { return Ok(empty) };
        let seen = match start {
            Start::First => Some(LastSeen { id: EventId::default(), content: None }),
            Start::After(id) => Some(LastSeen { id, content }),
            Start::Live | Start::Last(_) => None,
        };
        if let Some(seen) = seen
            && let Some(found) = self.cache.find(topic, seen.id, seen.content, bounds, self.clock.now())
        {
            let Found { events, is_complete } = found;
            return Ok(ArchivePage { events, is_complete, gap: None });
        }
        // A link that was idle may have broken unnoticed: that alone is no reason to refuse.
        if let Some(mut link) = self.link.take() {
            match self.read(&mut link, index, topic, seen, start, bounds).await {
                Err(Failed::Fault(_)) => {}
                answer => return self.keep(link, topic, answer),
            }
        }
        let mut link = self.open_link().await?;
        match self.read(&mut link, index, topic, seen, start, bounds).await {
            Err(Failed::Fault(fault)) => Err(self.fail(&fault.to_string())),
            answer => self.keep(link, topic, answer),
        }
    }

    /// Keeps the link, which has served, also where the answer is that this stream cannot be read.
    fn keep(
        &mut self,
        link: JetLink,
        topic: &Topic,
        answer: Result<ArchivePage, Failed>,
    ) -> Result<ArchivePage, ArchiveFailed> {
        self.link = Some(link);
        match answer {
            Ok(page) => Ok(page),
            Err(Failed::Refused(Refused::NoResponders)) => Err(self.fail(&Refused::NoResponders.to_string())),
            Err(Failed::Refused(refused)) => {
                if let Some(suppressed) = self.failures.admit(self.clock.now()) {
                    warn!(suppressed, topic = topic.as_str(), "the server refuses to read a stream: {refused}");
                }
                let is_missing = refused.is_missing();
                Err(if is_missing { ArchiveFailed::NoStream } else { ArchiveFailed::Forbidden })
            }
            Err(Failed::Fault(fault)) => Err(self.fail(&fault.to_string())),
        }
    }

    async fn read(
        &mut self,
        link: &mut JetLink,
        index: usize,
        topic: &Topic,
        seen: Option<LastSeen>,
        start: Start,
        bounds: PageBounds,
    ) -> Result<ArchivePage, Failed> {
        let mut known = self.known(link, index, bounds.since).await?;
        if seen.is_some_and(|seen| known.is_foreign(seen.id)) {
            // A client of another hub may have what was published since that was asked.
            known = self.ask(link, index).await?;
        }
        match (seen, start) {
            (Some(seen), _) => self.read_after(link, index, topic, seen, known, bounds).await,
            (None, Start::Last(count)) => self.read_last(link, index, topic, count, known, bounds).await,
            (None, _) => Ok(ArchivePage { is_complete: true, ..ArchivePage::default() }),
        }
    }

    /// What the server said of the stream lately, after `since`.
    async fn known(&mut self, link: &mut JetLink, index: usize, since: Moment) -> Result<Known, Failed> {
        let now = self.clock.now();
        match self.known.get(&index) {
            Some((known, asked)) if now.since(*asked) <= LIFE && since <= *asked => Ok(*known),
            _ => self.ask(link, index).await,
        }
    }

    async fn ask(&mut self, link: &mut JetLink, index: usize) -> Result<Known, Failed> {
        let asked = self.clock.now();
        let answer = link.request(self.api.stream_info(&self.specs[index].name), Bytes::new()).await?;
        let info: StreamInfo = read(&answer?)?;
        let known = Known {
            identity: identity(&info),
            first_seq: info.state.first_seq,
            last_seq: info.state.last_seq,
            subject_count_max: info.subject_count_max(),
        };
        self.known.insert(index, (known, asked));
        Ok(known)
    }

    /// The events that follow what was seen, and what is missing between.
    async fn read_after(
        &mut self,
        link: &mut JetLink,
        index: usize,
        topic: &Topic,
        seen: LastSeen,
        known: Known,
        bounds: PageBounds,
    ) -> Result<ArchivePage, Failed> {
        let is_foreign = known.is_foreign(seen.id);
        let start = if is_foreign { 0 } else { seen.id.minor };
        let read = self.read_from(link, index, topic, start).await?;
        // Asked behind the reading: what has been removed by now may have been removed before.
        let known = self.ask(link, index).await?;
        let here = read.messages.first().filter(|stored| !is_foreign && stored.seq == seen.id.minor && start != 0);
        let digest = here.and_then(|stored| event(topic, known.identity, stored, &self.nats, Moment(0)).digest());
        let is_other = seen.content.is_some() && here.is_some() && digest != seen.content;
        let gap = if is_foreign || is_other || known.is_foreign(seen.id) {
            let first = read.messages.first().map_or(known.last_seq, |first| first.seq.saturating_sub(1));
            let seq = if is_other { known.first_seq.saturating_sub(1) } else { first };
            let to = EventId::new(known.identity, seq);
            Some(Gap { from: seen.id, to, reason: GapReason::Epoch })
        } else {
            let following = read.total - u64::from(here.is_some());
            let subject = topic.as_str().as_bytes();
            let intact_behind = self.quiet[index].intact_behind(subject, known.identity, known.first_seq);
            known.has_lost(seen.id.minor, following, intact_behind).then(|| {
                let first = read.messages.iter().find(|stored| seen.id.minor < stored.seq);
                let minor = first.map_or(known.last_seq, |first| first.seq - 1).max(seen.id.minor);
                Gap { from: seen.id, to: EventId::new(known.identity, minor), reason: GapReason::Expired }
            })
        };
        if gap.is_some_and(|gap| gap.reason == GapReason::Epoch) {
            self.cache.forget(topic);
            if is_other {
                // What was read begins in the middle of a stream of which the client has nothing.
                self.known.remove(&index);
                let seen = LastSeen { id: EventId::new(known.identity, 0), content: None };
                let page = Box::pin(self.read_after(link, index, topic, seen, known, bounds)).await?;
                // What this stream has lost by itself is missing, too.
                let lost = page.gap.map(|lost| lost.to);
                let gap = gap.map(|gap| bounds.clamp(Gap { to: lost.map_or(gap.to, |lost| lost.max(gap.to)), ..gap }));
                return Ok(ArchivePage { gap, ..page });
            }
        }
        let now = self.clock.now();
        let after = gap.map_or_else(|| EventId::new(known.identity, seen.id.minor), |gap| gap.to);
        let after_seq = if after.major == known.identity { after.minor } else { 0 };
        let events: Vec<Arc<Event>> = read
            .messages
            .iter()
            .filter(|stored| after_seq < stored.seq)
            .map(|stored| Arc::new(event(topic, known.identity, stored, &self.nats, now)))
            .collect();
        let found = select(events.iter(), after, bounds);
        let newest = events.last().map_or(after, |event| event.id);
        let end = if read.is_end { bounds.upto.map_or(newest, |upto| upto.max(newest)) } else { newest };
        self.cache.insert(topic, after, end, &events, now);
        let reaches = read.is_end || bounds.upto.is_some_and(|upto| upto <= newest);
        Ok(ArchivePage {
            events: found.events,
            is_complete: found.is_complete && reaches,
            gap: gap.map(|gap| bounds.clamp(gap)),
        })
    }

    /// The messages of `topic` from `start` on, as many as one look brings.
    async fn read_from(
        &self,
        link: &mut JetLink,
        index: usize,
        topic: &Topic,
        start: u64,
    ) -> Result<SubjectPart, Failed> {
        let name = &self.specs[index].name;
        let mut reader = SubjectReader::open(link, &self.api, name, topic.as_str(), start).await??;
        let total = reader.total;
        let messages = reader.fetch(link, &self.api, READ_COUNT, READ_BYTES).await?;
        let is_end = reader.pending == 0;
        reader.close(link, &self.api)?;
        Ok(SubjectPart { total, messages, is_end })
    }

    async fn read_last(
        &self,
        link: &mut JetLink,
        index: usize,
        topic: &Topic,
        count: usize,
        known: Known,
        bounds: PageBounds,
    ) -> Result<ArchivePage, Failed> {
        let name = &self.specs[index].name;
        let reader = SubjectReader::open(link, &self.api, name, topic.as_str(), 1).await??;
        let wanted = NewestBounds { count: count.min(bounds.events_max), bytes: bounds.bytes_max, since: 0 };
        let newest = Newest::read(reader, link, &self.api, (topic.as_str(), known.last_seq), wanted).await??;
        let now = self.clock.now();
        let events =
            newest.messages.iter().map(|stored| Arc::new(event(topic, known.identity, stored, &self.nats, now)));
        let is_wanted = |event: &Arc<Event>| bounds.upto.is_none_or(|upto| event.id <= upto);
        Ok(ArchivePage { events: events.filter(is_wanted).collect(), is_complete: true, gap: None })
    }

    async fn open_link(&mut self) -> Result<JetLink, ArchiveFailed> {
        if self.clock.now() < self.retry {
            return Err(ArchiveFailed::Unavailable);
        }
        let login = self.connector.login();
        let opened = JetLink::open(&self.connector, &login).await;
        opened.map_err(|fault| self.fail(&fault.to_string()))
    }

    fn fail(&mut self, why: &str) -> ArchiveFailed {
        let now = self.clock.now();
        self.retry = now + self.nats.backoff_min;
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "older events cannot be read from {}: {why}", self.nats.login);
        }
        ArchiveFailed::Unavailable
    }
}

/// Consecutive messages of a topic.
struct SubjectPart {
    /// How many there were from the start of the reading on.
    total: u64,
    messages: Vec<Stored>,
    /// Whether there were no more.
    is_end: bool,
}

impl Known {
    /// Whether `id` is of another stream, or of a message that this one has lost.
    fn is_foreign(&self, id: EventId) -> bool {
        id != EventId::default() && (id.major != self.identity || self.last_seq < id.minor)
    }

    /// Whether a topic may have lost messages behind the sequence `seen`, behind which the stream has `following` of them.
    ///
    /// The stream loses its oldest messages, of whatever topic. Apart from that a topic loses its own oldest, but only while it has as
    /// many as the stream keeps of one subject: those behind `seen` are fewer, so `seen` is not among what was lost, or nothing was.
    /// The hub itself may know that none of the oldest that were lost behind `intact_behind` was of the topic.
    fn has_lost(&self, seen: u64, following: u64, intact_behind: Option<u64>) -> bool {
        let is_intact = intact_behind.is_some_and(|least| least <= seen);
        seen + 1 < self.first_seq && !is_intact || self.subject_count_max.is_some_and(|most| most <= following)
    }
}

fn event(topic: &Topic, identity: u64, stored: &Stored, nats: &NatsConfig, now: Moment) -> Event {
    let Stored { seq, message, .. } = stored;
    let id = EventId::new(identity, *seq);
    let headers = EventHeaders::of(message);
    let kind = headers.kind.as_deref();
    let is_event = gap_of(message).is_none()
        && !message.is_oversize
        && message.payload.len() <= nats.message_bytes_max
        && kind.is_none_or(|kind| !kind.contains(['\r', '\n', '\0']))
        && simdutf8::basic::from_utf8(&message.payload).is_ok();
    if is_event {
        let payload = Payload::looked_at(Bytes::copy_from_slice(&message.payload));
        let payload = Payload { is_carried: is_carried(message), ..payload };
        return Event::new(topic.clone(), id, 0, kind, payload, now);
    }
    let reason = gap_of(message).unwrap_or(GapReason::SourceLost);
    let gap = Gap { from: id.before(), to: id, reason };
    Event { is_carried: is_carried(message), ..Event::hole(topic.clone(), gap, 0, now) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_lost_is_told() {
        let known = Known { identity: 7, first_seq: 10, last_seq: 50, subject_count_max: Some(3) };
        let check = |seen: u64, following: u64, expected: bool| {
            assert_eq!(known.has_lost(seen, following, None), expected, "{seen} {following}");
        };
        check(9, 2, false);
        check(8, 2, true);
        check(9, 3, true);
        check(50, 0, false);
        let endless = Known { subject_count_max: None, ..known };
        assert!(!endless.has_lost(9, 1000, None) && endless.has_lost(0, 1000, None));
        assert!(!Known { first_seq: 1, ..endless }.has_lost(0, 1000, None), "nothing was ever removed");
        assert!(!endless.has_lost(5, 1, Some(5)) && endless.has_lost(4, 1, Some(5)), "nothing of the topic");
        assert!(known.has_lost(5, 3, Some(5)), "too many of the topic");
    }

    #[test]
    fn ids_of_other_streams_are_foreign() {
        let known = Known { identity: 7, first_seq: 10, last_seq: 50, subject_count_max: None };
        let check = |major, minor, expected| {
            assert_eq!(known.is_foreign(EventId::new(major, minor)), expected, "{major}-{minor}")
        };
        check(7, 50, false);
        check(7, 51, true);
        check(6, 20, true);
        check(0, 0, false);
        check(0, 1, true);
    }
}
