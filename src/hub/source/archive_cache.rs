//! What was read of brokers' logs lately, so that many who resume from nearly the same id cost the broker one look. Pure.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    bus::ArchiveRequest,
    clock::Moment,
    event::{Event, EventId},
    gap::Gap,
    topic::Topic,
};

/// Consecutive events of some topics, for a moment.
#[derive(Debug)]
pub(in crate::source) struct Cache {
    runs: HashMap<Topic, CachedRun, foldhash::fast::RandomState>,
    bytes: usize,
    bytes_max: usize,
}

/// All events of a topic after `after`, up to and including `end`.
#[derive(Debug)]
struct CachedRun {
    after: EventId,
    end: EventId,
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    read: Moment,
}

/// How long it may be answered from: what was trimmed meanwhile would otherwise be served for ever.
pub(in crate::source) const LIFE: Duration = Duration::from_secs(2);

/// Some of the events asked for.
#[derive(Debug, Default)]
pub(in crate::source) struct Found {
    pub(in crate::source) events: Vec<Arc<Event>>,
    /// Whether these are all up to the end asked for.
    pub(in crate::source) is_complete: bool,
}

/// What bounds an answer.
#[derive(Clone, Copy, Debug)]
pub(in crate::source) struct PageBounds {
    pub(in crate::source) upto: Option<EventId>,
    pub(in crate::source) events_max: usize,
    pub(in crate::source) bytes_max: usize,
    /// It has to have been read since.
    pub(in crate::source) since: Moment,
}

impl PageBounds {
    /// What bounds the answer to `request`.
    pub(in crate::source) fn of(request: &ArchiveRequest) -> Self {
        let ArchiveRequest { upto, events_max, bytes_max, since, .. } = *request;
        Self { upto, events_max, bytes_max, since }
    }

    /// Cuts the gap at the end that was asked for.
    pub(in crate::source) fn clamp(&self, gap: Gap) -> Gap {
        Gap { to: self.upto.map_or(gap.to, |upto| gap.to.min(upto)), ..gap }
    }
}

impl Cache {
    pub(in crate::source) fn new(bytes_max: usize) -> Self {
        Self { runs: HashMap::default(), bytes: 0, bytes_max }
    }

    /// Keeps `events`, which are all that `topic` has after `after`, up to `end`. What joins on to it is kept with it.
    pub(in crate::source) fn insert(
        &mut self,
        topic: &Topic,
        after: EventId,
        end: EventId,
        events: &[Arc<Event>],
        now: Moment,
    ) {
        let weight: usize = events.iter().map(|event| event.weight_bytes()).sum();
        if self.bytes_max < weight {
            return;
        }
        let before = self.take(topic).filter(|run| now.since(run.read) <= LIFE);
        let new = CachedRun { after, end, events: events.iter().cloned().collect(), bytes: weight, read: now };
        let run = match before {
            Some(before) => before.join(new),
            None => new,
        };
        self.make_room(run.bytes);
        self.bytes += run.bytes;
        self.runs.insert(topic.clone(), run);
    }

    /// The events of `topic` after `after`, if they are here: at least one, or the certainty that there is none. The event
    /// at `after` has to be here too, as the asker has it; or where what is here begins, if the asker has only the id.
    pub(in crate::source) fn find(
        &self,
        topic: &Topic,
        after: EventId,
        content: Option<u64>,
        extent: PageBounds,
        now: Moment,
    ) -> Option<Found> {
        let run = self.runs.get(topic).filter(|run| now.since(run.read) <= LIFE && extent.since <= run.read)?;
        // What came after the end is not known, so only who wants no more than that is served.
        let upto = extent.upto?;
        match run.event(after) {
            Some(event) if content.is_none() || event.digest() == content => {}
            None if after == run.after && content.is_none() => {}
            _ => return None,
        }
        let found = select(run.events.iter(), after, PageBounds { upto: Some(upto.min(run.end)), ..extent });
        let is_complete = found.is_complete && upto <= run.end;
        (is_complete || !found.events.is_empty()).then_some(Found { is_complete, ..found })
    }

    /// Forgets what `topic` had.
    pub(in crate::source) fn forget(&mut self, topic: &Topic) {
        self.take(topic);
    }

    /// The stream has this at `id`: forgets what was read of `topic`, if it covers `id` and had something else there.
    pub(in crate::source) fn correct(&mut self, topic: &Topic, id: EventId, content: Option<u64>) {
        let is_other = |run: &CachedRun| match run.event(id) {
            Some(event) => event.digest() != content,
            None => content.is_some() && run.after < id && id <= run.end,
        };
        if self.runs.get(topic).is_some_and(is_other) {
            self.take(topic);
        }
    }

    fn take(&mut self, topic: &Topic) -> Option<CachedRun> {
        let run = self.runs.remove(topic)?;
        self.bytes -= run.bytes;
        Some(run)
    }

    fn make_room(&mut self, bytes: usize) {
        while self.bytes_max < self.bytes + bytes {
            let oldest = self.runs.iter().min_by_key(|(_, run)| run.read).map(|(topic, _)| topic.clone());
            let Some(oldest) = oldest else { return };
            self.take(&oldest);
        }
    }
}

impl CachedRun {
    /// The event with this id.
    fn event(&self, id: EventId) -> Option<&Arc<Event>> {
        self.events.binary_search_by_key(&id, |event| event.id).ok().map(|index| &self.events[index])
    }

    /// Both, if one goes on where the other ends or within it; else the newer. Where both have an event, it must be the
    /// same: else the older is of a log that has been replaced.
    fn join(self, new: Self) -> Self {
        let is_other = |event: &Arc<Event>| new.event(event.id).is_some_and(|other| other.digest() != event.digest());
        if self.end < new.after || new.end < self.after || self.events.iter().any(is_other) {
            return new;
        }
        let (first, second) = if self.after <= new.after { (self, new) } else { (new, self) };
        let read = first.read.min(second.read);
        let (after, end, boundary) = (first.after, first.end.max(second.end), first.end);
        let mut events = first.events;
        events.extend(second.events.into_iter().filter(|event| boundary < event.id));
        let bytes = events.iter().map(|event| event.weight_bytes()).sum();
        Self { after, end, events, bytes, read }
    }
}

/// Of `events`, in order, those after `after` within `extent`.
pub(in crate::source) fn select<'a>(
    events: impl Iterator<Item = &'a Arc<Event>>,
    after: EventId,
    extent: PageBounds,
) -> Found {
    let mut found = Found { events: Vec::new(), is_complete: true };
    let mut bytes = 0;
    let wanted = |event: &&Arc<Event>| after < event.id && extent.upto.is_none_or(|upto| event.id <= upto);
    for event in events.filter(wanted) {
        bytes += event.data.len();
        if extent.events_max <= found.events.len() || (extent.bytes_max < bytes && !found.events.is_empty()) {
            found.is_complete = false;
            break;
        }
        found.events.push(Arc::clone(event));
    }
    found
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn id(minor: u64) -> EventId {
        EventId::new(7, minor)
    }

    fn topic(name: &str) -> Topic {
        Topic::parse(name).expect("a good name")
    }

    fn events(range: std::ops::RangeInclusive<u64>) -> Vec<Arc<Event>> {
        let event = |minor| Event::new(topic("t"), id(minor), 0, None, Bytes::from_static(b"0123456789"), Moment(0));
        range.map(|minor| Arc::new(event(minor))).collect()
    }

    fn extent(upto: u64, events_max: usize, bytes_max: usize) -> PageBounds {
        PageBounds { upto: Some(id(upto)), events_max, bytes_max, since: Moment(0) }
    }

    #[test]
    fn answers_keep_within_their_bounds() {
        let all = events(1..=10);
        let check = |after: u64, extent: PageBounds, expected: &[u64], is_complete: bool| {
            let found = select(all.iter(), id(after), extent);
            let minors: Vec<u64> = found.events.iter().map(|event| event.id.minor).collect();
            assert_eq!((minors.as_slice(), found.is_complete), (expected, is_complete), "{after} {extent:?}");
        };
        check(7, extent(99, 9, 999), &[8, 9, 10], true);
        check(3, extent(5, 9, 999), &[4, 5], true);
        check(3, extent(9, 2, 999), &[4, 5], false);
        check(3, extent(9, 9, 29), &[4, 5], false);
        check(3, extent(9, 9, 1), &[4], false);
        check(10, extent(99, 9, 999), &[], true);
    }

    #[test]
    fn the_cache_answers_what_it_is_sure_of() {
        let mut cache = Cache::new(1 << 20);
        let now = Moment(0);
        cache.insert(&topic("t"), id(10), id(25), &events(11..=20), now);
        let look = |cache: &Cache, after: u64, upto: u64, now: Moment| {
            let found = cache.find(&topic("t"), id(after), None, extent(upto, 99, 9999), now)?;
            Some((found.events.first().map(|event| event.id.minor), found.events.len(), found.is_complete))
        };
        assert_eq!(look(&cache, 10, 20, now), Some((Some(11), 10, true)));
        assert_eq!(look(&cache, 15, 25, now), Some((Some(16), 5, true)));
        assert_eq!(look(&cache, 15, 26, now), Some((Some(16), 5, false)), "then the rest is asked for");
        assert_eq!(look(&cache, 20, 25, now), Some((None, 0, true)));
        assert_eq!(look(&cache, 22, 25, now), None, "nobody knows of what stream that is");
        assert_eq!(look(&cache, 22, 26, now), None);
        assert_eq!(look(&cache, 9, 20, now), None);
        assert_eq!(look(&cache, 26, 30, now), None);
        assert_eq!(look(&cache, 15, 20, now + Duration::from_secs(3)), None, "too old");
        // Ahead of it and behind it.
        cache.insert(&topic("t"), id(5), id(12), &events(6..=12), now);
        cache.insert(&topic("t"), id(25), id(30), &events(26..=30), now);
        assert_eq!(look(&cache, 5, 30, now), Some((Some(6), 20, true)));
        // A hole between: only the newer.
        cache.insert(&topic("t"), id(40), id(50), &events(41..=50), now);
        assert_eq!((look(&cache, 5, 10, now), look(&cache, 40, 50, now)), (None, Some((Some(41), 10, true))));
        // The asker has another event there: the stream is another one. Neither are the two of one stream.
        let content = events(1..=1)[0].digest();
        let find =
            |cache: &Cache, content| cache.find(&topic("t"), id(45), content, extent(50, 99, 9999), now).is_some();
        let later = PageBounds { since: Moment(1), ..extent(50, 99, 9999) };
        assert!(cache.find(&topic("t"), id(45), None, later, Moment(2)).is_none(), "the log was replaced since");
        assert!(find(&cache, None) && find(&cache, content) && !find(&cache, Some(1)));
        let other = Event::new(topic("t"), id(45), 0, None, Bytes::from_static(b"other"), now);
        cache.insert(&topic("t"), id(44), id(60), &[Arc::new(other)], now);
        assert_eq!((look(&cache, 41, 60, now), look(&cache, 44, 60, now)), (None, Some((Some(45), 1, true))));
        cache.correct(&topic("t"), id(45), content);
        assert_eq!(look(&cache, 44, 60, now), None);
        let mut small = Cache::new(events(1..=1)[0].weight_bytes() * 15);
        small.insert(&topic("t"), id(0), id(10), &events(1..=10), now);
        small.insert(&topic("u"), id(0), id(10), &events(1..=10), now + Duration::from_millis(1));
        assert!(look(&small, 0, 10, now).is_none(), "made room");
    }
}
