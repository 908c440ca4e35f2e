//! The simulated broker of the topics whose log it keeps: it trims, is read late, and answers what is asked of its archive
//! late, in small pages, or not at all.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use crossbeam_channel::{Receiver, unbounded};
use fanfare::{
    bus::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest, Bus, Interest, LogKind, Publication, PublishFailed},
    clock::Moment,
    event::{Event, EventId, Start},
    gap::{Gap, GapReason},
};
use rand::{RngExt, rngs::SmallRng};

use crate::{broken::Fault, net::SimBell, source::SimOutlet, truth::Truth};

/// Requests on their way to the archive.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimArchive(Arc<Mutex<VecDeque<ArchiveRequest>>>);

impl Archive for SimArchive {
    fn fetch(&self, request: ArchiveRequest) {
        let mut waiting = self.0.lock().expect("one thread only");
        if WAITING_MAX <= waiting.len() {
            return (request.reply)(Err(ArchiveFailed::QueueFull));
        }
        waiting.push_back(request);
    }
}

const WAITING_MAX: usize = 20;

/// Reads the streams that are wanted into the hub's logs.
#[derive(Debug)]
pub(crate) struct SimBroker {
    pub(crate) archive: SimArchive,
    pub(crate) outlet: SimOutlet,
    interest: Option<Receiver<Interest>>,
    /// By topic: the index of the entry to read next.
    reading: HashMap<usize, usize>,
    to_load: Vec<usize>,
    newest: EventId,
    fault: Option<Fault>,
}

impl SimBroker {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self {
            archive: SimArchive::default(),
            outlet: SimOutlet::default(),
            interest: None,
            reading: HashMap::new(),
            to_load: Vec::new(),
            newest: EventId { major: 5_000_000, minor: 0 },
            fault,
        }
    }

    /// The hub has gone: what was on its way is lost.
    pub(crate) fn forget(&mut self) {
        (self.archive, self.outlet) = Default::default();
    }

    /// A hub is there, perhaps in place of another.
    pub(crate) fn serve(&mut self, bus: &Bus) {
        let (changes, interest) = unbounded();
        bus.watch_interest(LogKind::RedisStream, changes, Arc::new(SimBell::default()));
        self.interest = Some(interest);
        self.reading.clear();
        self.to_load.clear();
    }

    fn next_id(&mut self, random: &mut SmallRng) -> EventId {
        let EventId { major, minor } = self.newest;
        self.newest = match random.random_range(0..3) {
            0 => EventId { major, minor: minor + 1 },
            _ => EventId { major: major + random.random_range(1..500), minor: 0 },
        };
        self.newest
    }

    /// Somebody adds an entry.
    pub(crate) fn append(&mut self, topic: usize, data: String, truth: &mut Truth, random: &mut SmallRng) {
        let id = self.next_id(random);
        truth.append(topic, id, None, data.into());
    }

    /// Takes what the hub publishes, answers what it asks, and is read; false if there was nothing to do.
    pub(crate) fn work(
        &mut self,
        bus: &Bus,
        most: usize,
        now: Moment,
        truth: &mut Truth,
        random: &mut SmallRng,
    ) -> bool {
        let mut has_worked = false;
        for _ in 0..most.min(BATCH_MAX) {
            let Some(publication) = self.outlet.next() else { break };
            self.take(publication, truth, random);
            has_worked = true;
        }
        for _ in 0..most.min(BATCH_MAX) {
            let Some(request) = self.archive.0.lock().expect("one thread only").pop_front() else { break };
            self.answer(request, now, truth, random);
            has_worked = true;
        }
        has_worked |= self.hear(bus, now, truth, random);
        has_worked | self.read(bus, most.min(BATCH_MAX), now, truth, random)
    }

    fn take(&mut self, publication: Publication, truth: &mut Truth, random: &mut SmallRng) {
        let luck = random.random_range(0..20);
        if luck == 0 {
            return (publication.reply)(Err(PublishFailed::Unavailable));
        }
        if self.outlet.is_new(&publication) {
            let id = self.next_id(random);
            let topic = truth.place_of(publication.topic.as_str());
            truth.append(topic, id, publication.kind, publication.data);
        }
        (publication.reply)(if luck == 1 { Err(PublishFailed::Unknown) } else { Ok(None) });
    }

    fn hear(&mut self, bus: &Bus, now: Moment, truth: &mut Truth, random: &mut SmallRng) -> bool {
        let changes: Vec<Interest> = self.interest.iter().flat_map(Receiver::try_iter).collect();
        let mut unwanted = Vec::new();
        for change in &changes {
            let (Interest::Wanted(topic) | Interest::Unwanted(topic)) = change;
            let place = truth.place_of(topic.as_str());
            unwanted.retain(|left| *left != place);
            self.to_load.retain(|waiting| *waiting != place);
            match change {
                // Who came back that soon reads already; unless the hub has forgotten the topic since.
                Interest::Wanted(_) if self.is_at(place, bus.newest_id(topic), truth) => bus.mark_live(topic, now),
                Interest::Wanted(_) => self.to_load.push(place),
                Interest::Unwanted(_) => unwanted.push(place),
            }
        }
        // A stream may go on being read, in case somebody comes back.
        for place in unwanted {
            if random.random() && self.reading.remove(&place).is_some() {
                bus.mark_stale(&truth.topics[place]);
            }
        }
        let loads = !self.to_load.is_empty();
        if loads {
            let place = self.to_load.swap_remove(random.random_range(0..self.to_load.len()));
            self.load(place, bus, now, truth, random);
        }
        loads || !changes.is_empty()
    }

    /// Whether the stream is read, and the hub's log is as it was left.
    fn is_at(&self, topic: usize, newest: EventId, truth: &Truth) -> bool {
        let read = self.reading.get(&topic).map(|next| &truth.log(topic)[..*next]);
        read.is_some_and(|read| newest != EventId::default() && read.last().is_none_or(|last| last.id == newest))
    }

    /// Begins to read a stream with some of its newest entries.
    fn load(&mut self, topic: usize, bus: &Bus, now: Moment, truth: &mut Truth, random: &mut SmallRng) {
        let log = truth.log(topic);
        let present = log.iter().take_while(|entry| entry.trimmed).count();
        let wanted = truth.rules[topic].history_events.min(random.random_range(0..60));
        let from = present.max(log.len().saturating_sub(wanted));
        let floor = match from.checked_sub(1).map(|before| log[before].id) {
            Some(before) => before,
            None => log.first().map_or(self.newest, |first| first.id.before()),
        };
        bus.begin_log(&truth.topics[topic], floor);
        self.reading.insert(topic, from);
        self.read_on(topic, bus, wanted, now, truth);
        bus.mark_live(&truth.topics[topic], now);
    }

    fn read(&mut self, bus: &Bus, most: usize, now: Moment, truth: &mut Truth, random: &mut SmallRng) -> bool {
        let is_behind = |topic: &usize| self.reading[topic] < truth.len(*topic);
        let mut behind: Vec<usize> = self.reading.keys().copied().filter(is_behind).collect();
        behind.sort_unstable();
        if behind.is_empty() {
            return false;
        }
        self.read_on(behind[random.random_range(0..behind.len())], bus, most, now, truth);
        true
    }

    /// Reads at most `most` entries of a stream, and says what it finds trimmed.
    fn read_on(&mut self, topic: usize, bus: &Bus, most: usize, now: Moment, truth: &mut Truth) {
        let (name, mut feed) = (truth.topics[topic].clone(), bus.feed());
        let Some(next) = self.reading.get_mut(&topic) else { return };
        let log = truth.log(topic);
        let gone = log[*next..].iter().take_while(|entry| entry.trimmed).count();
        if 0 < gone {
            let from = bus.newest_id(&name);
            *next += gone;
            let gap = Gap { from, to: log[*next - 1].id, reason: GapReason::Expired };
            if self.fault != Some(Fault::TrimUntold) {
                feed.report_gap(&name, gap, now);
            }
        }
        for entry in log[*next..].iter().take(most) {
            let is_dropped = self.fault == Some(Fault::EntryDropped) && entry.id.major % 50 == 0;
            if !is_dropped && feed.publish_as(&name, entry.id, entry.kind.as_deref(), entry.data.clone(), now).is_err()
            {
                // There is no room: it is read when there is.
                break;
            }
            *next += 1;
        }
        truth.read[topic] = *next;
    }

    fn answer(&self, request: ArchiveRequest, now: Moment, truth: &Truth, random: &mut SmallRng) {
        let page = match random.random_range(0..12) {
            0 => Err(ArchiveFailed::Unavailable),
            _ => Ok(self.page(&request, now, truth, random)),
        };
        (request.reply)(page);
    }

    fn page(&self, request: &ArchiveRequest, now: Moment, truth: &Truth, random: &mut SmallRng) -> ArchivePage {
        let after = match request.start {
            Start::After(after) => after,
            Start::First => EventId::default(),
            other => panic!("nobody here asks for {other:?}"),
        };
        let topic = truth.place_of(request.topic.as_str());
        let log = truth.log(topic);
        let from = truth.index_after(topic, after);
        let upto = request.upto.map_or(log.len(), |upto| truth.index_after(topic, upto)).max(from);
        let gone = log[from..upto].iter().take_while(|entry| entry.trimmed).count();
        let reason = GapReason::Expired;
        let gap = (0 < gone).then(|| Gap { from: after, to: log[from + gone - 1].id, reason });
        let mut rest = &log[from + gone..upto];
        if self.fault == Some(Fault::ArchiveRepeats) && gap.is_none() && 0 < from {
            rest = &log[from - 1..upto];
        }
        let count = random.random_range(1..=request.events_max).min(rest.len());
        let skips = usize::from(self.fault == Some(Fault::ArchiveSkips) && 1 < count);
        let event = |entry: &crate::truth::Entry| {
            let (topic, data) = (request.topic.clone(), entry.data.clone());
            Arc::new(Event::new(topic, entry.id, 0, entry.kind.as_deref(), data, now))
        };
        let is_complete = count == rest.len() || self.fault == Some(Fault::ArchiveCutsShort);
        ArchivePage { events: rest[skips..count].iter().map(event).collect(), is_complete, gap }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.outlet.is_idle() && self.archive.0.lock().expect("one thread only").is_empty()
    }
}

/// The most that is done at once.
const BATCH_MAX: usize = 10;
