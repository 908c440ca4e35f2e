//! What was read of streams lately, so that many who resume from nearly the same id cost the broker one look. Pure.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use crate::{
    clock::Moment,
    event::{Event, EventId},
    topic::Topic,
};

/// Consecutive events of some topics, for a moment.
#[derive(Debug)]
pub(super) struct Cache {
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
pub(super) const LIFE: Duration = Duration::from_secs(2);

/// Some of the events asked for.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) events: Vec<Arc<Event>>,
    /// Whether these are all up to the end asked for.
    pub(super) is_complete: bool,
}

/// What bounds an answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageBounds {
    pub(super) upto: Option<EventId>,
    pub(super) events_max: usize,
    pub(super) bytes_max: usize,
    /// It has to have been read since.
    pub(super) since: Moment,
}

impl Cache {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { runs: HashMap::default(), bytes: 0, bytes_max }
    }

    /// Keeps `events`, which are all that `topic` has after `after`, up to `end`. What joins on to it is kept with it.
    pub(super) fn insert(&mut self, topic: &Topic, after: EventId, end: EventId, events: &[Arc<Event>], now: Moment) {
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
    pub(super) fn find(
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
    pub(super) fn forget(&mut self, topic: &Topic) {
        self.take(topic);
    }

    /// The stream has this at `id`: forgets what was read of `topic`, if it covers `id` and had something else there.
    pub(super) fn correct(&mut self, topic: &Topic, id: EventId, content: Option<u64>) {
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
pub(super) fn select<'a>(events: impl Iterator<Item = &'a Arc<Event>>, after: EventId, extent: PageBounds) -> Found {
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
