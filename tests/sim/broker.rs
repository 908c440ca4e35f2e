//! The simulated broker of the topics whose log it keeps: it trims, is read late, delivers entries again, forgets who follows a stream,
//! and answers what is asked of its archive late, in small pages, or not at all.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::{Arc, Mutex},
};

use crossbeam_channel::{Receiver, unbounded};
use fanfare::bus::{Archive, ArchiveFailed, ArchivePage, ArchiveRequest, Bus, Interest, Publication, PublishFailed};
use fanfare_core::{
    clock::Moment,
    event::{Event, EventId, Start},
    gap::{Gap, GapReason},
};
use rand::{RngExt, rngs::SmallRng};

use crate::{
    broken::Fault,
    net::SimBell,
    source::{STREAM_SOURCE, SimSink},
    truth::{Entry, FIRST_PLACE, LIVES_MAX, MINOR_STEP, Truth, first_minor, life_of},
};

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
    pub(crate) sink: SimSink,
    interest: Option<Receiver<Interest>>,
    /// By topic: the index of the entry to read next.
    reading: HashMap<usize, usize>,
    /// By topic: how often the stream had been replaced that is read.
    lives: HashMap<usize, usize>,
    to_load: Vec<usize>,
    /// Topics of which the broker delivers nothing, until the hub finds that out.
    forgotten: BTreeSet<usize>,
    /// By topic: the newest id, or the one before the first.
    newest: HashMap<usize, EventId>,
    fault: Option<Fault>,
}

impl SimBroker {
    pub(crate) fn new(fault: Option<Fault>) -> Self {
        Self {
            archive: SimArchive::default(),
            sink: SimSink::default(),
            interest: None,
            reading: HashMap::new(),
            lives: HashMap::new(),
            to_load: Vec::new(),
            forgotten: BTreeSet::new(),
            newest: HashMap::new(),
            fault,
        }
    }

    /// The hub has gone: what was on its way is lost.
    pub(crate) fn forget(&mut self) {
        (self.archive, self.sink) = Default::default();
    }

    /// A hub is there, perhaps in place of another.
    pub(crate) fn serve(&mut self, bus: &Bus) {
        let (changes, interest) = unbounded();
        bus.watch_interest(STREAM_SOURCE, changes, Arc::new(SimBell::default()));
        self.interest = Some(interest);
        self.reading.clear();
        self.to_load.clear();
        self.forgotten.clear();
    }

    fn newest(&self, topic: usize) -> EventId {
        self.newest.get(&topic).copied().unwrap_or(FIRST_PLACE)
    }

    fn next_id(&mut self, topic: usize, truth: &Truth, random: &mut SmallRng) -> EventId {
        let (EventId { major, minor, .. }, first) = (self.newest(topic), first_minor(truth.life(topic).1));
        let id = match random.random_range(0..3) {
            0 if first <= minor => EventId::new(major, minor + MINOR_STEP),
            _ => EventId::new(major + random.random_range(1..500), first),
        };
        self.newest.insert(topic, id);
        id
    }

    /// Somebody adds an entry.
    pub(crate) fn append(&mut self, topic: usize, data: String, truth: &mut Truth, random: &mut SmallRng) {
        let id = self.next_id(topic, truth, random);
        truth.append(topic, id, None, data.into());
    }

    /// The stream of `topic` is deleted, or is as it was at first: what is added from now on has ids that begin before those
    /// that were there, among them, or behind them.
    pub(crate) fn replace(&mut self, topic: usize, truth: &mut Truth, random: &mut SmallRng) {
        let EventId { major, .. } = self.newest(topic);
        let life = truth.life(topic).1 + 1;
        if life < LIVES_MAX as usize {
            let major = (major + 500).saturating_sub(random.random_range(0..5000));
            let place = EventId::new(major, first_minor(life) - 1);
            truth.replace(topic, place);
            self.newest.insert(topic, place);
        }
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
            let Some(publication) = self.sink.next(&BTreeSet::new(), random) else { break };
            self.take(publication, truth, random);
            has_worked = true;
        }
        // The hub's reader is the first to see that a stream is another one.
        has_worked |= self.notice_replaced(bus, now, truth);
        for _ in 0..most.min(BATCH_MAX) {
            let Some(request) = self.next_request() else { break };
            self.answer(request, now, truth, random);
            has_worked = true;
        }
        has_worked |= self.hear(bus, now, truth, random);
        self.deliver_again(bus, now, truth, random);
        has_worked | self.read(bus, most.min(BATCH_MAX), now, truth, random)
    }

    fn take(&mut self, publication: Publication, truth: &mut Truth, random: &mut SmallRng) {
        let luck = random.random_range(0..20);
        if luck == 0 {
            return (publication.reply)(Err(PublishFailed::Unavailable));
        }
        if self.sink.is_new(&publication) {
            let topic = truth.place_of(publication.topic.as_str());
            let id = self.next_id(topic, truth, random);
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
        let next = self.reading.get(&topic).copied();
        newest != EventId::default() && next == Some(truth.index_after(topic, newest))
    }

    /// Begins to read a stream with some of its newest entries.
    fn load(&mut self, topic: usize, bus: &Bus, now: Moment, truth: &mut Truth, random: &mut SmallRng) {
        let log = truth.log(topic);
        // None of a stream that was there before is present.
        let present = log.iter().take_while(|entry| entry.trimmed).count();
        let wanted = truth.rules[topic].history_events.min(random.random_range(0..60));
        let from = present.max(log.len().saturating_sub(wanted));
        let begins = truth.life(topic).0;
        let floor = match log[begins..from].last() {
            Some(before) => before.id,
            None => log.get(begins).map_or_else(|| self.newest(topic), |first| first.id.before()),
        };
        bus.begin_log(&truth.topics[topic], floor);
        self.reading.insert(topic, from);
        self.lives.insert(topic, truth.life(topic).1);
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
        let topic = behind[random.random_range(0..behind.len())];
        if random.random_range(0..FORGETS_ONE_IN) == 0 {
            self.forgotten.insert(topic);
        }
        if !self.forgotten.contains(&topic) {
            self.read_on(topic, bus, most, now, truth);
        } else if random.random_range(0..FOUND_OUT_ONE_IN) == 0 {
            // It goes on behind what it has.
            self.forgotten.remove(&topic);
            if self.fault == Some(Fault::FollowedFromTheEnd) {
                self.reading.insert(topic, truth.len(topic));
            }
        }
        true
    }

    /// What was read comes again, behind what came later: over another connection, or because the broker does not know that it came.
    fn deliver_again(&self, bus: &Bus, now: Moment, truth: &Truth, random: &mut SmallRng) {
        let mut topics: Vec<usize> = self.reading.keys().copied().collect();
        topics.sort_unstable();
        if topics.is_empty() || random.random() {
            return;
        }
        let topic = topics[random.random_range(0..topics.len())];
        let (name, (begins, life), next) = (&truth.topics[topic], truth.life(topic), self.reading[&topic]);
        let newest = bus.newest_id(name);
        // A log that was forgotten begins anew, and one that is replaced is read from its beginning.
        if next <= begins || self.lives.get(&topic) != Some(&life) || newest < truth.entry(topic, next - 1).id {
            return;
        }
        let from = random.random_range(begins..next);
        let upto = next.min(from + random.random_range(1..6));
        for entry in truth.log(topic)[from..upto].iter().filter(|entry| !entry.trimmed) {
            let is_taken = self.fault == Some(Fault::RepeatTaken);
            let id = if is_taken { EventId { minor: newest.minor + 1, ..newest } } else { entry.id };
            let taken = bus.feed().publish_as(name, id, entry.kind.as_deref(), entry.data.clone(), now);
            assert!(is_taken || taken != Ok(true), "{name}: {id} was taken twice");
        }
    }

    /// Whether streams that are read are others by now; of those that are, everything is read.
    fn notice_replaced(&mut self, bus: &Bus, now: Moment, truth: &mut Truth) -> bool {
        let is_replaced = |topic: &usize| self.lives.get(topic) != Some(&truth.life(*topic).1);
        let mut replaced: Vec<usize> = self.reading.keys().copied().filter(is_replaced).collect();
        replaced.sort_unstable();
        for topic in &replaced {
            let ((begins, life), log) = (truth.life(*topic), truth.log(*topic));
            let present = begins + log[begins..].iter().take_while(|entry| entry.trimmed).count();
            let floor = match log.get(present) {
                Some(first) if self.fault == Some(Fault::ReplacementCut) => first.id,
                Some(first) => first.id.before(),
                None => self.newest(*topic),
            };
            if self.fault != Some(Fault::ReplacementUntold) {
                bus.feed().restart_log(&truth.topics[*topic], floor, now);
            }
            self.reading.insert(*topic, present);
            self.lives.insert(*topic, life);
            truth.read[*topic] = present;
        }
        !replaced.is_empty()
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
        let mut wanted: Vec<&Entry> = log[*next..].iter().take(most).collect();
        if self.fault == Some(Fault::EntriesSwapped) && 2 < wanted.len() {
            wanted.swap(0, 1);
        }
        for entry in wanted {
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

    /// The next request to the archive, for a test that answers it by itself.
    pub(crate) fn next_request(&self) -> Option<ArchiveRequest> {
        self.archive.0.lock().expect("one thread only").pop_front()
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
        let ((begins, life), log) = (truth.life(topic), truth.log(topic));
        let is_foreign = after != EventId::default() && life_of(after) != life;
        let is_taken = is_foreign && self.fault == Some(Fault::ReplacedTaken);
        let from = match is_foreign {
            true if !is_taken => begins,
            _ => begins + log[begins..].partition_point(|entry| entry.id <= after),
        };
        let upto =
            request.upto.map_or(log.len(), |upto| begins + log[begins..].partition_point(|entry| entry.id <= upto));
        let upto = upto.max(from);
        let gone = log[from..upto].iter().take_while(|entry| entry.trimmed).count();
        let gap = if is_foreign && !is_taken {
            let to = log.get(from + gone).map_or_else(|| self.newest(topic), |first| first.id.before());
            Some(Gap { from: after, to, reason: GapReason::Epoch })
        } else {
            (0 < gone).then(|| Gap { from: after, to: log[from + gone - 1].id, reason: GapReason::Expired })
        };
        let mut rest = &log[from + gone..upto];
        if self.fault == Some(Fault::ArchiveRepeats) && gap.is_none() && 0 < from {
            rest = &log[from - 1..upto];
        }
        let count = random.random_range(1..=request.events_max).min(rest.len());
        let skips = usize::from(self.fault == Some(Fault::ArchiveSkips) && 1 < count);
        let event = |entry: &Entry| {
            let (topic, data) = (request.topic.clone(), entry.data.clone());
            Arc::new(Event::new(topic, entry.id, 0, entry.kind.as_deref(), data, now))
        };
        let is_complete = count == rest.len() || self.fault == Some(Fault::ArchiveCutsShort);
        ArchivePage { events: rest[skips..count].iter().map(event).collect(), is_complete, gap }
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.sink.is_idle() && self.archive.0.lock().expect("one thread only").is_empty()
    }
}

/// How seldom a stream's follower is forgotten when something is to be delivered to it, and how often the hub looks then.
const FORGETS_ONE_IN: u32 = 40;
const FOUND_OUT_ONE_IN: u32 = 10;

/// The most that is done at once.
const BATCH_MAX: usize = 10;
