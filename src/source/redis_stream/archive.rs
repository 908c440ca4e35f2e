//! The archivist: a thread that reads what lies beyond the hub's own logs, so that no reactor ever waits for the broker.
//!
//! What it has read it keeps at hand for a moment, and it takes all that waits at once, the oldest id first. So a
//! thousand clients that come back together after a restart of the hub cost the broker a few looks, not a thousand.

use std::{collections::HashMap, fmt, io, sync::Arc, thread::JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use redis::{RedisError, Value};
use tracing::warn;

use super::{
    cache::{Cache, Extent, Found, LIFE, select},
    config::Config,
    entry::{BadAnswer, Entry, read_entries},
    link::{LEAST_VERSION, Link, accept},
    load::weight_bytes,
    place::StreamInfo,
};
use crate::{
    bus::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest},
    clock::{Clock, Moment},
    event::{Event, EventId, Start},
    gap::{Gap, GapReason},
    source::{
        redis_address::Directory,
        redis_pubsub::{self, Throttle},
    },
    topic::Topic,
};

/// Hands requests to the archivist. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Archivist {
    queue: Sender<Queued>,
}

/// Owns the archivist's thread.
#[derive(Debug)]
pub struct ArchiveHandle {
    archivist: Archivist,
    thread: JoinHandle<()>,
}

/// A request on its way. Dropped without an answer, it answers [`ArchiveFailed::Unavailable`].
struct Queued(Option<ArchiveRequest>);

/// Requests taken at once.
const BATCH_MAX: usize = 4096;
/// What one look at the broker should bring, in bytes.
const READ_BYTES: usize = 1 << 20;
/// Between these bounds, so many entries are asked for at once.
const COUNT_RANGE: (usize, usize) = (16, 1024);
/// What an entry is taken to weigh before one was seen, in bytes.
const ENTRY_BYTES: usize = 8192;

/// Starts the thread. Fails if `redis` names files that cannot be used.
pub fn start_archive(redis: redis_pubsub::Config, config: Config, clock: Clock) -> io::Result<ArchiveHandle> {
    let (queue, queued) = bounded(config.archive_queue_max);
    let mut worker = Worker {
        directory: redis.directory()?.with_least_version(LEAST_VERSION),
        link: None,
        retry: clock.now(),
        cache: Cache::new(config.archive_cache_bytes),
        infos: HashMap::default(),
        entry_bytes: ENTRY_BYTES,
        failures: Throttle::default(),
        queued,
        redis,
        config,
        clock,
    };
    let thread = std::thread::Builder::new().name("stream-archive".to_owned()).spawn(move || worker.run())?;
    Ok(ArchiveHandle { archivist: Archivist { queue }, thread })
}

impl ArchiveHandle {
    /// Where to hand requests to; also what the bus is given as its archive.
    pub fn archivist(&self) -> Archivist {
        self.archivist.clone()
    }

    /// Lets the thread end as soon as nobody can ask it any more.
    pub fn stop(self) {
        let Self { archivist, thread } = self;
        drop(archivist);
        if thread.is_finished() && thread.join().is_err() {
            warn!("the archivist's thread had panicked");
        }
    }
}

impl Archive for Archivist {
    fn fetch(&self, request: ArchiveRequest) {
        if let Err(TrySendError::Full(mut queued)) = self.queue.try_send(Queued(Some(request))) {
            queued.answer(Err(ArchiveFailed::QueueFull));
        }
    }
}

impl Queued {
    fn answer(&mut self, page: Result<ArchivePage, ArchiveFailed>) {
        if let Some(request) = self.0.take() {
            (request.reply)(page);
        }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.answer(Err(ArchiveFailed::Unavailable));
    }
}

impl fmt::Debug for Queued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Queued").field(&self.0).finish()
    }
}

struct Worker {
    redis: redis_pubsub::Config,
    config: Config,
    directory: Directory,
    link: Option<Link>,
    /// Until then whoever asks is told that the broker cannot be reached.
    retry: Moment,
    cache: Cache,
    /// What the server said of streams lately.
    infos: HashMap<Topic, (StreamInfo, Moment), foldhash::fast::RandomState>,
    /// What entries weigh, on the average of late.
    entry_bytes: usize,
    failures: Throttle,
    queued: Receiver<Queued>,
    clock: Clock,
}

/// Consecutive events of a stream.
struct Run {
    gap: Option<Gap>,
    /// What they follow.
    after: EventId,
    events: Vec<Arc<Event>>,
    /// Whether the stream had no more.
    is_end: bool,
}

impl Worker {
    fn run(&mut self) {
        while let Ok(first) = self.queued.recv() {
            // What the server closed while nobody asked is replaced, and a server that is no longer one to use is left.
            let still_good = |link: &mut Link| link.is_usable() && link.check_role().is_ok();
            self.link = self.link.take().and_then(|mut link| still_good(&mut link).then_some(link));
            let mut batch = vec![first];
            batch.extend(self.queued.try_iter().take(BATCH_MAX));
            // So that what one needs is read together with what the others need.
            batch.sort_by_key(|queued| match queued.0.as_ref().map(|request| request.start) {
                Some(Start::After(id)) => id,
                _ => EventId::default(),
            });
            for mut queued in batch {
                let Some(request) = &queued.0 else { continue };
                let page = self.page(&request.topic.clone(), request.start, Extent::of(request));
                queued.answer(page);
            }
            let now = self.clock.now();
            self.infos.retain(|_, (_, since)| now.since(*since) <= LIFE);
        }
    }

    fn page(&mut self, topic: &Topic, start: Start, extent: Extent) -> Result<ArchivePage, ArchiveFailed> {
        if let Start::After(id) = start
            && let Some(page) = self.recall(topic, id, extent)
        {
            return Ok(page);
        }
        // A link that was idle may have broken unnoticed: that alone is no reason to refuse.
        if let Some(mut link) = self.link.take()
            && let Ok(page) = self.read(&mut link, topic, start, extent)
        {
            self.link = Some(link);
            return Ok(page);
        }
        let mut link = self.open_link()?;
        match self.read(&mut link, topic, start, extent) {
            Ok(page) => {
                self.link = Some(link);
                Ok(page)
            }
            Err(error) => Err(self.fail(&error)),
        }
    }

    /// The answer from what was read lately.
    fn recall(&self, topic: &Topic, after: EventId, extent: Extent) -> Option<ArchivePage> {
        let now = self.clock.now();
        let page = |found: Found, gap| ArchivePage { events: found.events, is_complete: found.is_complete, gap };
        if let Some(found) = self.cache.find(topic, after, extent, now) {
            return Some(page(found, None));
        }
        // What had been trimmed then is trimmed now.
        let (info, _) = self.infos.get(topic).filter(|(_, since)| now.since(*since) <= LIFE)?;
        let gap = info.gap_after(after).filter(|gap| gap.reason == GapReason::Expired)?;
        let found = self.cache.find(topic, gap.to, extent, now)?;
        Some(page(found, Some(extent.clamp(gap))))
    }

    fn read(
        &mut self,
        link: &mut Link,
        topic: &Topic,
        start: Start,
        extent: Extent,
    ) -> Result<ArchivePage, RedisError> {
        let key = self.config.key(topic);
        let mut run = match start {
            Start::Live => return Ok(ArchivePage { is_complete: true, ..ArchivePage::default() }),
            Start::Last(count) => return self.read_last(link, topic, &key, count.min(extent.events_max), extent),
            Start::First => self.read_from(link, topic, &key, EventId::default())?,
            Start::After(id) => self.read_after(link, topic, &key, id)?,
        };
        let found = loop {
            let found = select(run.events.iter(), run.after, extent);
            if run.is_end || !found.is_complete || run.reaches(extent.upto) {
                break found;
            }
            let last = run.events.last().map_or(run.after, |event| event.id);
            let more = self.read_from(link, topic, &key, last)?;
            run.events.extend(more.events);
            run.is_end = more.is_end;
        };
        let newest = run.events.last().map_or(run.after, |event| event.id);
        let end = if run.is_end { extent.upto.map_or(newest, |upto| upto.max(newest)) } else { newest };
        self.cache.insert(topic, run.after, end, &run.events, self.clock.now());
        let is_complete = found.is_complete && (run.is_end || run.reaches(extent.upto));
        Ok(ArchivePage { events: found.events, is_complete, gap: run.gap.map(|gap| extent.clamp(gap)) })
    }

    /// The events that follow `after`, and what is missing between. In one transaction: what is trimmed in between would
    /// else be missing without a word.
    fn read_after(&mut self, link: &mut Link, topic: &Topic, key: &str, after: EventId) -> Result<Run, RedisError> {
        let (from, count) = (after.to_string(), self.count());
        let answer = link.ask(|commands| {
            commands.push_words(&["MULTI"]);
            commands.push_words(&["XINFO", "STREAM", key]);
            commands.push_words(&["XRANGE", key, &from, "+", "COUNT", &count.to_string()]);
            commands.push_words(&["EXEC"]);
        })?;
        let Value::Array(answers) = accept(answer.into_iter().next_back().unwrap_or(Value::Nil))? else {
            return Err(BadAnswer.into());
        };
        let [info, entries] = <[Value; 2]>::try_from(answers).map_err(|_| BadAnswer)?;
        let info = StreamInfo::read(info)?;
        let entries = read_entries(accept(entries)?)?;
        let now = self.clock.now();
        self.infos.insert(topic.clone(), (info, now));
        let gap = info.gap_after(after).or_else(|| foreign_gap(&info, after, &entries));
        if let Some(gap) = gap.filter(|gap| gap.reason == GapReason::Epoch) {
            let run = self.read_from(link, topic, key, EventId::default())?;
            return Ok(Run { gap: Some(gap), after: gap.to.min(run.first_before()), ..run });
        }
        let is_end = entries.len() < count;
        let events = self.events(topic, entries.into_iter().filter(|entry| after < entry.id), now);
        Ok(Run { after: gap.map_or(after, |gap| gap.to), gap, events, is_end })
    }

    fn read_from(&mut self, link: &mut Link, topic: &Topic, key: &str, after: EventId) -> Result<Run, RedisError> {
        let count = self.count();
        let answer = link.ask_one(&["XRANGE", key, &format!("({after}"), "+", "COUNT", &count.to_string()])?;
        let entries = read_entries(accept(answer)?)?;
        let is_end = entries.len() < count;
        Ok(Run { gap: None, after, events: self.events(topic, entries.into_iter(), self.clock.now()), is_end })
    }

    fn read_last(
        &mut self,
        link: &mut Link,
        topic: &Topic,
        key: &str,
        count: usize,
        extent: Extent,
    ) -> Result<ArchivePage, RedisError> {
        let newest = extent.upto.map_or_else(|| "+".to_owned(), |upto| upto.to_string());
        let answer = link.ask_one(&["XREVRANGE", key, &newest, "-", "COUNT", &count.max(1).to_string()])?;
        let entries = read_entries(accept(answer)?)?;
        let mut bytes = 0;
        let fitting = entries.into_iter().take(count).enumerate().take_while(|(index, entry)| {
            bytes += weight_bytes(entry);
            *index == 0 || bytes <= extent.bytes_max
        });
        let fitting: Vec<Entry> = fitting.map(|(_, entry)| entry).collect();
        let events = self.events(topic, fitting.into_iter().rev(), self.clock.now());
        Ok(ArchivePage { events, is_complete: true, gap: None })
    }

    /// The events that `entries` are; an entry that is none is a hole.
    fn events(&mut self, topic: &Topic, entries: impl Iterator<Item = Entry>, now: Moment) -> Vec<Arc<Event>> {
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

    fn open_link(&mut self) -> Result<Link, ArchiveFailed> {
        if self.clock.now() < self.retry {
            return Err(ArchiveFailed::Unavailable);
        }
        let opened = Link::open(&self.directory, "fanfare-archive", self.redis.connect_timeout);
        let opened = opened.and_then(|link| link.set_timeout(self.redis.ping_timeout).map(|()| link));
        opened.map_err(|error| self.fail(&error))
    }

    fn fail(&mut self, error: &RedisError) -> ArchiveFailed {
        let now = self.clock.now();
        self.retry = now + self.redis.backoff_min;
        if let Some(suppressed) = self.failures.admit(now) {
            warn!(suppressed, "older events cannot be read from {}: {error}", self.redis.url);
        }
        ArchiveFailed::Unavailable
    }
}

impl Extent {
    fn of(request: &ArchiveRequest) -> Self {
        Self { upto: request.upto, events_max: request.events_max, bytes_max: request.bytes_max }
    }

    /// Nothing beyond the end that was asked for is missing on whoever asked.
    fn clamp(&self, gap: Gap) -> Gap {
        Gap { to: self.upto.map_or(gap.to, |upto| gap.to.min(upto)), ..gap }
    }
}

impl Run {
    /// Whether it covers all up to `upto`.
    fn reaches(&self, upto: Option<EventId>) -> bool {
        let newest = self.events.last().map_or(self.after, |event| event.id);
        upto.is_some_and(|upto| upto <= newest)
    }

    fn first_before(&self) -> EventId {
        self.events.first().map_or(self.after, |first| first.id.before())
    }
}

/// `after` lies within what the stream retains, and yet there is no such entry: it was lost with a server that failed.
/// `entries` are those from `after` on.
fn foreign_gap(info: &StreamInfo, after: EventId, entries: &[Entry]) -> Option<Gap> {
    let first = info.first.filter(|first| *first <= after)?;
    let is_known = entries.first().is_some_and(|entry| entry.id == after) || after <= info.deleted_max;
    (!is_known).then(|| Gap { from: after, to: first.before(), reason: GapReason::Epoch })
}

fn event(topic: &Topic, entry: Entry, payload_bytes_max: usize, now: Moment) -> Event {
    let Entry { id, content } = entry;
    match content {
        Ok(content) if content.data.len() <= payload_bytes_max => {
            Event::new(topic.clone(), id, 0, content.kind.as_deref(), content.data, now)
        }
        _ => {
            let gap = Gap { from: id.before(), to: id, reason: GapReason::SourceLost };
            Event::hole(topic.clone(), gap, 0, now)
        }
    }
}
