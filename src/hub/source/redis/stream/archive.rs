//! The archive: a thread that reads events older than the hub's own logs, so that no reactor ever waits for the broker.
//!
//! It caches what it has read for a moment, and takes all waiting requests at once, the oldest id first. So a thousand clients
//! that reconnect together after a restart of the hub cost the broker a few reads, not a thousand.

use std::{collections::HashMap, io, sync::Arc, thread::JoinHandle};

use crossbeam_channel::Receiver;
use redis::{RedisError, Value};
use tracing::warn;

use super::{
    STREAM_SOURCE,
    config::{RedisStreamConfig, kept_ms},
    entry::{BadAnswer, NoEvent, StreamEntry, read_entries},
    link::{StreamLink, accept, elsewhere, is_no_stream, is_of_key, run_blocking, transaction_answer},
    load::{time_floor, weight_bytes},
    position::{StreamInfo, read_is_made},
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
        redis::{ClusterView, Directory, NodeAddress, RedisConfig, error_codes::Elsewhere},
    },
    topic::Topic,
};

/// Owns the archive's thread.
#[derive(Debug)]
pub(super) struct ArchiveHandle {
    archivist: ArchiveQueue,
    thread: JoinHandle<()>,
}

/// Requests taken at once.
const BATCH_MAX: usize = 4096;
/// What one look at the broker should bring, in bytes.
const READ_BYTES: usize = 1 << 20;
/// Between these bounds, so many entries are asked for at once.
const COUNT_RANGE: (usize, usize) = (16, 1024);
/// What an entry is taken to weigh before one was seen, in bytes.
const ENTRY_BYTES: usize = 8192;

/// Starts the thread for the server in `directory`, which is that of a cluster if `shard` names one.
pub(super) fn start_archive(
    directory: Directory,
    redis: RedisConfig,
    config: RedisStreamConfig,
    classes: TopicClasses,
    clock: Clock,
    shard: Option<(NodeAddress, Arc<ClusterView>)>,
) -> io::Result<ArchiveHandle> {
    let (archivist, queued) = archive_queue(config.archive_queue_max);
    let mut worker = Worker {
        directory,
        shard,
        link: None,
        retry: clock.now(),
        cache: Cache::new(config.archive_cache_bytes),
        infos: HashMap::default(),
        entry_bytes: ENTRY_BYTES,
        failures: LogRateLimiter::default(),
        queued,
        redis,
        config,
        classes,
        clock,
    };
    let thread = std::thread::Builder::new().name("stream-archive".to_owned()).spawn(move || worker.run())?;
    Ok(ArchiveHandle { archivist, thread })
}

impl ArchiveHandle {
    /// Where to hand requests to; also what the bus is given as its archive.
    pub(super) fn archivist(&self) -> ArchiveQueue {
        self.archivist.clone()
    }

    /// Lets the thread end as soon as nobody can ask it any more.
    pub(super) fn stop(self) {
        let Self { archivist, thread } = self;
        drop(archivist);
        if thread.is_finished() && thread.join().is_err() {
            warn!("the archivist's thread had panicked");
        }
    }
}

struct Worker {
    redis: RedisConfig,
    config: RedisStreamConfig,
    classes: TopicClasses,
    directory: Directory,
    /// Set if the server is a master of a cluster.
    shard: Option<(NodeAddress, Arc<ClusterView>)>,
    link: Option<StreamLink>,
    /// Until then requests are answered [`ArchiveFailed::Unavailable`] without an attempt to connect.
    retry: Moment,
    cache: Cache,
    /// What the server said of streams lately.
    infos: HashMap<Topic, (Known, Moment), foldhash::fast::RandomState>,
    /// What entries weigh, on the average of late.
    entry_bytes: usize,
    failures: LogRateLimiter,
    queued: Receiver<QueuedRequest>,
    clock: Clock,
}

/// What the server says of a stream.
#[derive(Clone, Copy)]
struct Known {
    info: StreamInfo,
    /// How long its entries are kept at least, in milliseconds.
    kept_ms: u64,
    /// The server's time.
    now_ms: u64,
}

/// The newest event that a client has.
#[derive(Clone, Copy)]
struct LastSeen {
    /// Everything up to this id.
    id: EventId,
    /// The digest of the event there, if it is known.
    content: Option<u64>,
}

/// Consecutive events of a stream.
struct EventRun {
    gap: Option<Gap>,
    /// The events are all that the stream has after this id.
    after: EventId,
    events: Vec<Arc<Event>>,
    /// Whether the stream had no more.
    is_end: bool,
}

impl Worker {
    fn run(&mut self) {
        while let Ok(first) = self.queued.recv() {
            // What the server closed while nobody asked is replaced, and a server that is no longer one to use is left.
            let still_good = |link: &mut StreamLink| link.is_usable() && run_blocking(link.check_role()).is_ok();
            self.link = self.link.take().and_then(|mut link| still_good(&mut link).then_some(link));
            let mut batch = vec![first];
            batch.extend(self.queued.try_iter().take(BATCH_MAX));
            // So that what one needs is read together with what the others need.
            batch.sort_by_key(|queued| match queued.request().map(|request| request.start) {
                Some(Start::After(id)) => id,
                _ => EventId::default(),
            });
            for mut queued in batch {
                let Some(request) = queued.request() else { continue };
                let page = self.page(&request.topic.clone(), request.start, request.content, PageBounds::of(request));
                queued.answer(page);
            }
            let now = self.clock.now();
            self.infos.retain(|_, (_, since)| now.since(*since) <= LIFE);
        }
    }

    fn page(
        &mut self,
        topic: &Topic,
        start: Start,
        content: Option<u64>,
        extent: PageBounds,
    ) -> Result<ArchivePage, ArchiveFailed> {
        let is_newcomer = matches!(start, Start::First | Start::Last(_));
        if is_newcomer && self.classes.of_source(topic, STREAM_SOURCE).retention.history.is_none() {
            return Ok(ArchivePage { is_complete: true, ..ArchivePage::default() });
        }
        let seen = match start {
            // Whoever wants everything has nothing.
            Start::First => Some(LastSeen { id: EventId::default(), content: None }),
            Start::After(id) => Some(LastSeen { id, content }),
            Start::Live | Start::Last(_) => None,
        };
        if let Some(seen) = seen
            && let Some(page) = self.recall(topic, seen, extent)
        {
            return Ok(page);
        }
        let read = |worker: &mut Self, link: &mut StreamLink| match (seen, start) {
            (Some(seen), _) => worker.read(link, topic, seen, extent),
            (None, Start::Last(count)) => worker.read_last(link, topic, count.min(extent.events_max), extent),
            (None, _) => Ok(ArchivePage { is_complete: true, ..ArchivePage::default() }),
        };
        // A link that was idle may have broken unnoticed: that alone is no reason to refuse.
        if let Some(mut link) = self.link.take() {
            match read(self, &mut link) {
                Err(error) if !is_answer(&error) => {}
                answer => return self.keep(link, topic, answer),
            }
        }
        let mut link = self.open_link()?;
        match read(self, &mut link) {
            Err(error) if !is_answer(&error) => Err(self.fail(&error)),
            answer => self.keep(link, topic, answer),
        }
    }

    /// Keeps the link, which has served, also where the answer is that this one stream cannot be read.
    fn keep(
        &mut self,
        link: StreamLink,
        topic: &Topic,
        answer: Result<ArchivePage, RedisError>,
    ) -> Result<ArchivePage, ArchiveFailed> {
        self.link = Some(link);
        answer.map_err(|refused| {
            if let (Some(elsewhere), Some((node, view))) = (elsewhere(&refused), &self.shard) {
                if let Elsewhere::Moved(moved) = elsewhere {
                    view.redirect(&moved, node);
                }
                return ArchiveFailed::Unavailable;
            }
            if let Some(suppressed) = self.failures.admit(self.clock.now()) {
                let key = self.config.key(topic);
                warn!(suppressed, key, topic = topic.as_str(), "the server refuses to read a stream: {refused}");
            }
            if is_no_stream(&refused) { ArchiveFailed::NoStream } else { ArchiveFailed::Forbidden }
        })
    }

    /// The answer from what was read lately.
    fn recall(&self, topic: &Topic, seen: LastSeen, extent: PageBounds) -> Option<ArchivePage> {
        let now = self.clock.now();
        let page = |found: Found, gap| ArchivePage { events: found.events, is_complete: found.is_complete, gap };
        if let Some(found) = self.cache.find(topic, seen.id, seen.content, extent, now) {
            return Some(page(found, None));
        }
        // What had been trimmed then is trimmed now.
        let (known, _) =
            self.infos.get(topic).filter(|(_, asked)| now.since(*asked) <= LIFE && extent.since <= *asked)?;
        let gap = known.gap_after(seen.id).filter(|gap| gap.reason == GapReason::Expired)?;
        let found = self.cache.find(topic, gap.to, None, extent, now)?;
        Some(page(found, Some(extent.clamp(gap))))
    }

    fn read(
        &mut self,
        link: &mut StreamLink,
        topic: &Topic,
        seen: LastSeen,
        extent: PageBounds,
    ) -> Result<ArchivePage, RedisError> {
        let key = self.config.key(topic);
        let mut run = self.read_after(link, topic, &key, seen)?;
        let found = loop {
            let found = select(run.events.iter(), run.after, extent);
            if run.is_end || !found.is_complete || run.reaches(extent.upto) {
                break found;
            }
            let last = run.events.last();
            let seen = LastSeen {
                id: last.map_or(run.after, |event| event.id),
                content: last.and_then(|event| event.digest()),
            };
            let more = self.read_after(link, topic, &key, seen)?;
            if more.gap.is_some() {
                // The request for the next page gets the gap.
                break found;
            }
            run.events.extend(more.events);
            run.is_end = more.is_end;
        };
        let newest = run.events.last().map_or(run.after, |event| event.id);
        let end = if run.is_end { extent.upto.map_or(newest, |upto| upto.max(newest)) } else { newest };
        self.cache.insert(topic, run.after, end, &run.events, self.clock.now());
        let is_complete = found.is_complete && (run.is_end || run.reaches(extent.upto));
        Ok(ArchivePage { events: found.events, is_complete, gap: run.gap.map(|gap| extent.clamp(gap)) })
    }

    /// The events that follow, and what is missing between. In one transaction: what is trimmed in between would else be
    /// missing without a word.
    fn read_after(
        &mut self,
        link: &mut StreamLink,
        topic: &Topic,
        key: &str,
        seen: LastSeen,
    ) -> Result<EventRun, RedisError> {
        let (after, from, count) = (seen.id, seen.id.to_string(), self.count());
        let answer = link.ask(|commands| {
            commands.push_words(&["MULTI"]);
            commands.push_words(&["TIME"]);
            commands.push_words(&["XINFO", "STREAM", key]);
            commands.push_words(&["XINFO", "GROUPS", key]);
            commands.push_words(&["XRANGE", key, &from, "+", "COUNT", &count.to_string()]);
            commands.push_words(&["EXEC"]);
        })?;
        let Value::Array(answers) = accept(transaction_answer(answer))? else {
            return Err(BadAnswer.into());
        };
        let [time, info, groups, entries] = <[Value; 4]>::try_from(answers).map_err(|_| BadAnswer)?;
        let (info, now_ms) = (StreamInfo::accept(info)?, time_floor(time)?.major.saturating_add(1));
        let entries = read_entries(accept(entries)?)?;
        // Only streams that a hub made expire; of a stream that is gone nobody knows who made it.
        let kept_ms = if !info.exists || read_is_made(groups) {
            kept_ms(self.classes.of_source(topic, STREAM_SOURCE).retention.history.age)
        } else {
            u64::MAX
        };
        let (known, now) = (Known { info, kept_ms, now_ms }, self.clock.now());
        self.infos.insert(topic.clone(), (known, now));
        let here = entries.first().filter(|entry| entry.id == after);
        if info.first.is_none_or(|first| first <= after) {
            self.cache.correct(topic, after, here.and_then(StreamEntry::digest));
        }
        let gap = known.gap_after(after).or_else(|| foreign_gap(&info, seen, here));
        if let Some(gap) = gap.filter(|gap| gap.reason == GapReason::Epoch) {
            self.cache.forget(topic);
            let run = self.read_from(link, topic, key, EventId::default())?;
            return Ok(EventRun { gap: Some(gap), after: gap.to.min(run.first_before()), ..run });
        }
        let is_end = entries.len() < count;
        let events = self.events(topic, entries.into_iter().filter(|entry| after < entry.id), now);
        Ok(EventRun { after: gap.map_or(after, |gap| gap.to), gap, events, is_end })
    }

    fn read_from(
        &mut self,
        link: &mut StreamLink,
        topic: &Topic,
        key: &str,
        after: EventId,
    ) -> Result<EventRun, RedisError> {
        let count = self.count();
        let answer = link.ask_one(&["XRANGE", key, &format!("({after}"), "+", "COUNT", &count.to_string()])?;
        let entries = read_entries(accept(answer)?)?;
        let is_end = entries.len() < count;
        Ok(EventRun { gap: None, after, events: self.events(topic, entries.into_iter(), self.clock.now()), is_end })
    }

    fn read_last(
        &mut self,
        link: &mut StreamLink,
        topic: &Topic,
        count: usize,
        extent: PageBounds,
    ) -> Result<ArchivePage, RedisError> {
        let key = &self.config.key(topic);
        let newest = extent.upto.map_or_else(|| "+".to_owned(), |upto| upto.to_string());
        let answer = link.ask_one(&["XREVRANGE", key, &newest, "-", "COUNT", &count.max(1).to_string()])?;
        let entries = read_entries(accept(answer)?)?;
        let mut bytes = 0;
        let fitting = entries.into_iter().take(count).enumerate().take_while(|(index, entry)| {
            bytes += weight_bytes(entry);
            *index == 0 || bytes <= extent.bytes_max
        });
        let fitting: Vec<StreamEntry> = fitting.map(|(_, entry)| entry).collect();
        let events = self.events(topic, fitting.into_iter().rev(), self.clock.now());
        Ok(ArchivePage { events, is_complete: true, gap: None })
    }

    /// The events that `entries` are; an entry that is none is a hole.
    fn events(&mut self, topic: &Topic, entries: impl Iterator<Item = StreamEntry>, now: Moment) -> Vec<Arc<Event>> {
        let mut bytes = 0;
        let events: Vec<Arc<Event>> = entries
            .map(|entry| {
                bytes += weight_bytes(&entry);
                Arc::new(event(topic, entry, self.redis.message_bytes_max, now))
            })
            .collect();
        if let Some(average) = bytes.checked_div(events.len()) {
            self.entry_bytes = average;
        }
        events
    }

    /// How many entries to ask for.
    fn count(&self) -> usize {
        (READ_BYTES / self.entry_bytes.max(1)).clamp(COUNT_RANGE.0, COUNT_RANGE.1)
    }

    fn open_link(&mut self) -> Result<StreamLink, ArchiveFailed> {
        if self.clock.now() < self.retry {
            return Err(ArchiveFailed::Unavailable);
        }
        let opened = StreamLink::open(&self.directory, "fanfare-archive", self.redis.connect_timeout);
        let opened = opened.and_then(|link| link.set_timeout(self.redis.ping_timeout).map(|()| link));
        opened.map_err(|error| self.fail(&error))
    }

    fn fail(&mut self, error: &RedisError) -> ArchiveFailed {
        let now = self.clock.now();
        self.retry = now + self.redis.backoff_min;
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "older events cannot be read from {}: {error}", self.redis.url);
        }
        self.shard.iter().for_each(|(_, view)| view.request_look());
        ArchiveFailed::Unavailable
    }
}

/// Whether an error concerns the key alone: the link is good.
fn is_answer(error: &RedisError) -> bool {
    is_of_key(error) || elsewhere(error).is_some()
}

impl EventRun {
    /// Whether it covers all up to `upto`.
    fn reaches(&self, upto: Option<EventId>) -> bool {
        let newest = self.events.last().map_or(self.after, |event| event.id);
        upto.is_some_and(|upto| upto <= newest)
    }

    fn first_before(&self) -> EventId {
        self.events.first().map_or(self.after, |first| first.id.before())
    }
}

impl Known {
    fn gap_after(&self, after: EventId) -> Option<Gap> {
        self.info.gap_after(after, self.kept_ms, self.now_ms)
    }
}

/// What was seen lies within what the stream retains, and yet there is no such entry, or another one: it was lost with a
/// server that failed, or the stream is another one. `here` is the entry at its id.
fn foreign_gap(info: &StreamInfo, seen: LastSeen, here: Option<&StreamEntry>) -> Option<Gap> {
    let first = info.first.filter(|first| *first <= seen.id)?;
    let is_known = match here {
        Some(entry) => seen.content.is_none() || entry.digest() == seen.content,
        None => seen.id <= info.deleted_max || seen.id.is_moment(),
    };
    (!is_known).then(|| Gap { from: seen.id, to: first.before(), reason: GapReason::Epoch })
}

fn event(topic: &Topic, entry: StreamEntry, payload_bytes_max: usize, now: Moment) -> Event {
    let StreamEntry { id, content } = entry;
    match content {
        Ok(content) if content.data.len() <= payload_bytes_max => {
            let payload = Payload { is_carried: content.is_carried, ..Payload::looked_at(content.data) };
            Event::new(topic.clone(), id, 0, content.kind.as_deref(), payload, now)
        }
        content => {
            let is_carried = content.as_ref().is_err_and(|why| why.is_carried());
            let reason = content.map_or_else(NoEvent::reason, |_| GapReason::SourceLost);
            let gap = Gap { from: id.before(), to: id, reason };
            Event { is_carried, ..Event::hole(topic.clone(), gap, 0, now) }
        }
    }
}
