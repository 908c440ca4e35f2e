//! One log on its way into another one. No I/O.
//!
//! What it needs comes in two ways. Pages of the archive bring what lies behind the place up to which it was carried; the hub's own
//! copy of the log brings what is new, as soon as an event of it is the one that was carried last. So the two join without a hole and
//! without an event twice, and whatever breaks the second way, the first goes on where it ended.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::{
    bridge::catalog::CarriedLog,
    bus::{ArchivePage, Bridged, Carried, Publication, PublishFailed, Receipt, ReceiptCallback, Refusal},
    clock::Moment,
    event::{Event, EventId, Position, Start},
    gap::{Gap, GapReason},
    source::CarriedUpto,
};

/// Events of one log that may wait to be sent. Further ones are read again from the broker.
const QUEUED_MAX: usize = 1024;

/// How long a topic waits for a page while too much waits to be sent, or behind one that brought nothing.
const FULL_WAIT: Duration = Duration::from_millis(20);

/// Events of the hub's copy that are kept while a page is read, to find the one where the two join.
const AHEAD_MAX: usize = 1024;

/// A log that is carried.
#[derive(Debug)]
pub(super) struct LogTopic {
    pub(super) log: CarriedLog,
    /// Whether what another bridge has brought is carried on.
    chains: bool,
    /// Events that were not, for that reason.
    pub(super) returned: u64,
    stage: Stage,
    /// Counts the times it was placed. Pages that were asked for before belong to a former run.
    run: u64,
    is_broken: Arc<AtomicBool>,
    /// Up to here it is carried, once all that was sent is taken.
    sent_upto: EventId,
    /// Up to here it is carried.
    taken_upto: EventId,
    /// The id of the last event that is queued or was sent, and its digest if it is known.
    tail: (EventId, Option<u64>),
    /// To be sent next.
    queued: VecDeque<Queued>,
    /// The position in the hub's copy that follows the tail, while the two are joined.
    joined: Option<Position>,
    /// The newest event of the hub's copy, and its position.
    latest: Option<(EventId, Position)>,
    /// Events of the hub's copy, while they are not.
    ahead: VecDeque<Arc<Event>>,
    page: PageState,
    on_their_way: VecDeque<Sent>,
    next_number: u64,
    /// The greatest number of a publication that was taken.
    last_taken: Option<u64>,
    failure: Option<Failure>,
    /// Nothing is asked before.
    due: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody has said how far it was carried.
    Unplaced,
    /// That was asked.
    Asked,
    /// Known: it is carried on from there.
    Placed,
    /// What is on its way is awaited, before that is asked again.
    Settling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PageState {
    Idle,
    Wanted,
    Asked,
}

/// An event that is to be sent.
#[derive(Clone, Debug)]
struct Queued {
    event: Arc<Event>,
    /// Up to here the log is carried with it.
    upto: EventId,
}

/// A publication on its way.
#[derive(Debug)]
struct Sent {
    queued: Queued,
    is_settled: bool,
}

/// What failed, until the other side has said how far the log is carried.
#[derive(Debug)]
struct Failure {
    /// The first publication that failed, and up to where it was to carry the log.
    first: (u64, EventId),
    why: PublishFailed,
    /// Those of which nobody knows whether they were taken.
    unknown: Vec<(u64, Arc<Event>)>,
}

/// What a topic needs next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing, until something comes or it is time.
    Nothing,
    /// To be told how far it was carried.
    Place,
    /// A publication to be sent.
    Send,
    /// A page of the archive.
    Page,
    /// To be looked at again then.
    Wait(Moment),
}

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    /// An event was taken.
    Event,
    /// A gap was.
    Gap,
    /// It failed.
    Failed,
}

impl LogTopic {
    pub(super) fn new(log: CarriedLog, chains: bool, now: Moment) -> Self {
        Self {
            log,
            chains,
            returned: 0,
            stage: Stage::Unplaced,
            run: 0,
            is_broken: Arc::default(),
            sent_upto: EventId::default(),
            taken_upto: EventId::default(),
            tail: (EventId::default(), None),
            queued: VecDeque::new(),
            joined: None,
            latest: None,
            ahead: VecDeque::new(),
            page: PageState::Idle,
            on_their_way: VecDeque::new(),
            next_number: 0,
            last_taken: None,
            failure: None,
            due: now,
        }
    }

    /// Whether nothing is on its way and nothing waits to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.on_their_way.is_empty() && self.queued.is_empty()
    }

    /// How many events wait to be sent.
    pub(super) fn queued_count(&self) -> usize {
        self.queued.len()
    }

    /// Up to which id it is carried; `None` while nobody knows.
    pub(super) fn taken_upto(&self) -> Option<EventId> {
        (self.stage == Stage::Placed).then_some(self.taken_upto)
    }

    /// What it needs. `is_full`: too much waits to be sent already, of all topics, so no page may be asked for.
    pub(super) fn need(&self, is_full: bool, now: Moment) -> Need {
        match self.stage {
            Stage::Asked | Stage::Settling => Need::Nothing,
            Stage::Unplaced | Stage::Placed if now < self.due && self.queued.is_empty() => Need::Wait(self.due),
            Stage::Unplaced => Need::Place,
            Stage::Placed if !self.queued.is_empty() => Need::Send,
            Stage::Placed if self.page == PageState::Wanted && is_full => Need::Wait(now + FULL_WAIT),
            Stage::Placed if self.page == PageState::Wanted => Need::Page,
            Stage::Placed => Need::Nothing,
        }
    }

    /// How far it was carried was asked.
    pub(super) fn on_place_asked(&mut self) {
        self.stage = Stage::Asked;
    }

    /// There is no answer to that, or no page, at present.
    pub(super) fn on_unanswered(&mut self, retry: Moment) {
        self.due = retry;
        if self.stage == Stage::Asked {
            self.stage = Stage::Unplaced;
        }
        if self.page == PageState::Asked {
            self.page = PageState::Wanted;
        }
    }

    /// It was carried so far, and what failed before is made up for. `is_chained`: the other side takes nothing out of turn.
    ///
    /// Where it does, it may have taken what came behind a publication that failed. If nobody knows whether that was taken, it is sent
    /// once more under its former message id, by which the other side knows it again. If it was not, that is a gap, as is what the other
    /// side would not take ever.
    pub(super) fn on_placed(&mut self, carried: Option<CarriedUpto>, is_chained: bool, now: Moment) {
        if self.stage != Stage::Asked {
            return;
        }
        let at = carried.unwrap_or_else(|| CarriedUpto { id: EventId::default(), content: None });
        self.stage = Stage::Placed;
        self.run += 1;
        self.is_broken = Arc::default();
        (self.sent_upto, self.taken_upto, self.tail) = (at.id, at.id, (at.id, at.content));
        self.page = PageState::Wanted;
        let Some(failure) = self.failure.take() else { return };
        let (first, upto) = failure.first;
        let taken = self.last_taken.filter(|taken| first < *taken && !is_chained);
        let to = match taken {
            Some(_) if failure.why == PublishFailed::Unknown => None,
            Some(_) => Some(at.id),
            None => (failure.why == PublishFailed::Refused(Refusal::TooBig)).then_some(upto),
        };
        if let Some(to) = to {
            self.push_gap(Gap { from: at.id, to, reason: GapReason::SourceLost }, now);
        }
        let unsure = failure.unknown.into_iter().filter(|(number, _)| taken.is_some_and(|taken| *number < taken));
        self.queued.extend(unsure.map(|(_, event)| Queued { event, upto: at.id }));
    }

    /// Gives up all that is known: somebody else may carry it from here on.
    pub(super) fn unplace(&mut self) {
        self.queued.clear();
        self.ahead.clear();
        self.joined = None;
        self.page = PageState::Idle;
        self.run += 1;
        self.stage = if self.on_their_way.is_empty() { Stage::Unplaced } else { Stage::Settling };
    }

    /// The hub's copy has lost the thread, or begins again.
    pub(super) fn unjoin(&mut self) {
        self.joined = None;
        self.want_page();
    }

    /// An event of the hub's copy. `is_full`: too much waits already, so that it is to be read later from the broker.
    pub(super) fn on_event(&mut self, event: &Arc<Event>, is_full: bool) {
        self.latest = event.gap.is_none().then_some((event.id, event.position));
        if self.stage != Stage::Placed {
            return;
        }
        match self.joined {
            Some(due) if event.position < due => return,
            Some(due) if event.position == due && !is_full && self.queued.len() < QUEUED_MAX => {
                self.joined = Some(due + 1);
                return self.push(event);
            }
            Some(due) if event.position == due => return self.unjoin(),
            Some(_) => self.joined = None,
            None => {}
        }
        if self.page == PageState::Idle && event.gap.is_none() && event.id <= self.tail.0 {
            if event.id == self.tail.0 {
                self.joined = Some(event.position + 1);
            }
            return;
        }
        if self.ahead.len() == AHEAD_MAX {
            self.ahead.pop_front();
        }
        self.ahead.push_back(Arc::clone(event));
        self.want_page();
    }

    fn want_page(&mut self) {
        if self.page == PageState::Idle {
            self.page = PageState::Wanted;
        }
    }

    /// A page is being asked for: where it begins, the digest of the event there, and the run.
    pub(super) fn ask_page(&mut self) -> (Start, Option<u64>, u64) {
        self.page = PageState::Asked;
        // The broker knows of them when it reads the page, and tells of them there.
        self.ahead.retain(|event| event.gap.is_none());
        (Start::after(self.tail.0), self.tail.1, self.run)
    }

    /// Whether a page that was asked for in this `run` is still awaited.
    pub(super) fn awaits_page(&self, run: u64) -> bool {
        self.stage == Stage::Placed && self.run == run && self.page == PageState::Asked
    }

    /// The page that was awaited. The next one is wanted if there is more.
    pub(super) fn on_page(&mut self, page: &ArchivePage, now: Moment) {
        self.page = PageState::Idle;
        if let Some(gap) = page.gap {
            self.push_gap(gap, now);
        }
        page.events.iter().for_each(|event| self.push(event));
        if !page.is_complete {
            return self.want_page();
        }
        let tail = self.tail.0;
        let Some(index) = self.ahead.iter().position(|event| event.gap.is_none() && event.id == tail) else {
            self.ahead.retain(|event| event.gap.is_some() || tail < event.id);
            if !self.ahead.is_empty() {
                self.want_page();
                if page.events.is_empty() {
                    // The hub's copy has what the broker does not say: it may in a moment.
                    self.due = now + FULL_WAIT;
                }
            } else if let Some((_, position)) = self.latest.filter(|(id, _)| *id == tail) {
                self.joined = Some(position + 1);
            }
            return;
        };
        let ahead = std::mem::take(&mut self.ahead);
        let mut due = ahead[index].position + 1;
        for event in ahead.iter().skip(index + 1) {
            if event.position != due {
                return self.want_page();
            }
            due += 1;
            self.push(event);
        }
        self.joined = Some(due);
    }

    fn push(&mut self, event: &Arc<Event>) {
        self.tail = (event.id, event.digest());
        if event.is_carried && !self.chains {
            self.returned += u64::from(event.gap.is_none());
            return;
        }
        self.queued.push_back(Queued { event: Arc::clone(event), upto: event.id });
    }

    fn push_gap(&mut self, gap: Gap, now: Moment) {
        let hole = Event::hole(self.log.topic.clone(), gap, 0, now);
        let content = if gap.to == self.tail.0 { self.tail.1 } else { None };
        self.push(&Arc::new(hole));
        self.tail.1 = content;
    }

    /// The next publication, whose number `reply` is made for.
    pub(super) fn send(&mut self, reply: impl FnOnce(u64) -> ReceiptCallback) -> Option<Publication> {
        let queued = self.queued.pop_front()?;
        let Queued { event, upto } = queued.clone();
        let carried = Carried { after: self.sent_upto, upto, is_broken: Arc::clone(&self.is_broken) };
        self.sent_upto = upto;
        let number = self.next_number;
        self.next_number += 1;
        self.on_their_way.push_back(Sent { queued, is_settled: false });
        let key = format!("{} {}{}", self.log.origin, event.id, if event.gap.is_some() { " gap" } else { "" });
        let data = match (&event.gap, &event.tail) {
            (Some(_), _) => bytes::Bytes::new(),
            (None, None) => event.data.clone(),
            (None, Some(tail)) => [&event.data, tail.as_bytes()].concat().into(),
        };
        Some(Publication {
            topic: self.log.target.clone(),
            kind: event.kind.clone().filter(|_| event.gap.is_none()),
            data,
            idempotency_key: Some(key.into()),
            bridged: Some(Box::new(Bridged {
                origin: Arc::clone(&self.log.origin),
                gap: event.gap.map(|gap| gap.reason),
                carried: Some(carried),
            })),
            reply: reply(number),
        })
    }

    /// The outcome of the publication `number`. After a failure nothing else is sent until the other side has said how far the log is
    /// carried, at `retry` at the earliest.
    pub(super) fn settle(&mut self, number: u64, receipt: Receipt, retry: Moment) -> Settled {
        let first = self.next_number - self.on_their_way.len() as u64;
        let sent = number.checked_sub(first).and_then(|index| self.on_their_way.get_mut(index as usize));
        let Some(sent) = sent else { return Settled::Failed };
        sent.is_settled = true;
        let Queued { event, upto } = sent.queued.clone();
        match receipt {
            Ok(_) => self.last_taken = self.last_taken.max(Some(number)),
            Err(why) => self.fail(number, upto, &event, why, retry),
        }
        while let Some(front) = self.on_their_way.pop_front_if(|front| front.is_settled) {
            if self.failure.is_none() {
                self.taken_upto = front.queued.upto;
            }
        }
        if self.stage == Stage::Settling && self.on_their_way.is_empty() {
            self.stage = Stage::Unplaced;
        }
        match receipt {
            Err(_) => Settled::Failed,
            Ok(_) if event.gap.is_none() => Settled::Event,
            Ok(_) => Settled::Gap,
        }
    }

    fn fail(&mut self, number: u64, upto: EventId, event: &Arc<Event>, why: PublishFailed, retry: Moment) {
        self.is_broken.store(true, Ordering::Release);
        let first = (number, upto);
        let failure = self.failure.get_or_insert(Failure { first, why, unknown: Vec::new() });
        if number < failure.first.0 {
            (failure.first, failure.why) = (first, why);
        }
        if why == PublishFailed::Unknown {
            failure.unknown.push((number, Arc::clone(event)));
        }
        self.due = retry;
        self.unplace();
    }
}
