//! The account: published = delivered + announced missing, for every subscriber and topic.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use fanfare_core::event::EventId;

use super::{
    publisher::{Outcome, Truth},
    record::{Mark, Record},
};

/// More faults than this are only counted.
const FAULTS_SHOWN: usize = 12;

/// The totals of all subscribers: events due, and events received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) subscribers: usize,
    /// Events, as the publisher counts them.
    pub(crate) published: u64,
    pub(crate) refused: u64,
    /// Events without an answer that no subscriber received.
    pub(crate) unknown: u64,
    /// Deliveries: each published event once for each subscriber of its topic.
    pub(crate) owed: u64,
    pub(crate) delivered: u64,
    /// Missing events that a gap covers.
    pub(crate) announced: u64,
    /// Missing events after a reconnection without an id to resume from.
    pub(crate) unclaimed: u64,
    /// Gaps announced, by reason.
    pub(crate) gaps: BTreeMap<String, u64>,
    /// Gaps within which nothing was missing.
    pub(crate) empty_gaps: u64,
    /// Subscribers that got a gap.
    pub(crate) notified: u64,
    pub(crate) reconnects: u64,
    pub(crate) refusals: u64,
    pub(crate) fault_count: u64,
    /// The first few, in words.
    pub(crate) faults: Vec<String>,
}

impl Account {
    /// Fails the test unless everything adds up.
    #[track_caller]
    pub(crate) fn must_add_up(&self) {
        assert_eq!(self.fault_count, 0, "{self}");
        assert_eq!(self.owed, self.delivered + self.announced + self.unclaimed, "{self}");
        assert!(0 < self.delivered, "nothing was delivered: {self}");
    }

    /// How many gaps were announced for `reason`.
    pub(crate) fn gaps_of(&self, reason: &str) -> u64 {
        self.gaps.get(reason).copied().unwrap_or_default()
    }

    fn fault(&mut self, what: impl FnOnce() -> String) {
        self.fault_count += 1;
        if self.faults.len() < FAULTS_SHOWN {
            self.faults.push(what());
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { subscribers, published, refused, unknown, owed, delivered, announced, unclaimed, .. } = self;
        writeln!(
            f,
            "{published} events published, {refused} refused, {unknown} never seen; {subscribers} subscribers"
        )?;
        writeln!(f, "{owed} owed = {delivered} delivered + {announced} announced missing + {unclaimed} unclaimed")?;
        let Self { gaps, empty_gaps, notified, reconnects, refusals, .. } = self;
        writeln!(f, "gaps {gaps:?}, {empty_gaps} of them empty, reported to {notified} subscribers")?;
        write!(f, "{reconnects} reconnects, {refusals} refusals, {} faults", self.fault_count)?;
        self.faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

/// Compares the published events with those of each subscriber. All subscribed before the first event, and none ended before
/// the last acknowledged one.
pub(crate) fn settle(truth: &Truth, records: &[Record]) -> Account {
    let ledger = Ledger::new(truth, records);
    let is_refused = |outcome: &Outcome| matches!(outcome, Outcome::Refused(_));
    let published = ledger.topics.iter().map(|topic| topic.iter().filter(|event| event.is_published).count() as u64);
    let mut account = Account {
        subscribers: records.len(),
        published: published.sum(),
        refused: truth.count(is_refused) as u64,
        ..Account::default()
    };
    account.unknown = truth.count(|_| true) as u64 - account.published - account.refused;
    for (index, record) in records.iter().enumerate() {
        enter_record(index, record, &ledger, &mut account);
    }
    account
}

fn enter_record(index: usize, record: &Record, ledger: &Ledger, account: &mut Account) {
    account.reconnects += u64::from(record.reconnects);
    account.refusals += record.refusals.len() as u64;
    for fault in &record.faults {
        account.fault(|| format!("subscriber {index} ({:?}): {fault}", record.dialect));
    }
    let gaps_before: u64 = account.gaps.values().sum();
    for (topic, marks) in &record.topics {
        let name = format!("subscriber {index} ({:?}), topic {topic}", record.dialect);
        Walk { name, events: &ledger.topics[*topic], account, last: 0, span: Span::default() }.run(marks);
    }
    account.notified += u64::from(gaps_before < account.gaps.values().sum());
}

/// The outcome of one event.
#[derive(Debug)]
struct Ledger {
    topics: Vec<Vec<Known>>,
}

#[derive(Clone, Debug, Default)]
struct Known {
    /// Acknowledged, or received by any subscriber.
    is_published: bool,
    is_refused: bool,
    /// Several ids if hubs give their own.
    ids: Vec<EventId>,
}

impl Ledger {
    fn new(truth: &Truth, records: &[Record]) -> Self {
        let known = |outcome: &Outcome| Known {
            is_published: matches!(outcome, Outcome::Acknowledged(_)),
            is_refused: matches!(outcome, Outcome::Refused(_)),
            ids: match outcome {
                Outcome::Acknowledged(id) => id.iter().copied().collect(),
                _ => Vec::new(),
            },
        };
        let topics = truth.topics.iter().map(|outcomes| outcomes.iter().map(known).collect()).collect();
        let mut ledger = Self { topics };
        records.iter().flat_map(|record| &record.topics).for_each(|(topic, marks)| ledger.learn(*topic, marks));
        ledger
    }

    fn learn(&mut self, topic: usize, marks: &[Mark]) {
        for mark in marks {
            let Mark::Event { number, id } = mark else { continue };
            let Some(known) = self.topics[topic].get_mut(*number as usize - 1) else { continue };
            known.is_published |= !known.is_refused;
            if let Some(id) = id.filter(|id| !known.ids.contains(id)) {
                known.ids.push(id);
            }
        }
    }
}

/// Checks one subscriber's events of one topic.
struct Walk<'a> {
    name: String,
    events: &'a [Known],
    account: &'a mut Account,
    /// The number of the last event.
    last: u32,
    span: Span<'a>,
}

/// The marks between two events.
#[derive(Debug, Default)]
struct Span<'a> {
    /// The id of the event before, if there was one and it is known.
    id_before: Option<EventId>,
    gaps: Vec<&'a Mark>,
    is_fresh: bool,
}

impl<'a> Walk<'a> {
    fn run(mut self, marks: &'a [Mark]) {
        for mark in marks {
            match mark {
                Mark::Event { number, id } => self.take_event(*number, *id),
                Mark::Gap { reason, .. } => {
                    *self.account.gaps.entry(reason.clone()).or_default() += 1;
                    self.span.gaps.push(mark);
                }
                Mark::Fresh => self.span.is_fresh = true,
            }
        }
        self.close_span(self.events.len() as u32 + 1);
        let published = self.events.iter().filter(|event| event.is_published);
        self.account.owed += published.count() as u64;
    }

    fn take_event(&mut self, number: u32, id: Option<EventId>) {
        let Self { name, last, .. } = self;
        if number == *last {
            return self.account.fault(|| format!("{name}: {number} twice"));
        }
        if number < *last {
            return self.account.fault(|| format!("{name}: {number} after {last}"));
        }
        match self.events.get(number as usize - 1) {
            None => return self.account.fault(|| format!("{name}: {number} was never sent")),
            Some(event) if event.is_refused => self.account.fault(|| format!("{name}: {number} had been refused")),
            Some(_) => self.account.delivered += 1,
        }
        self.close_span(number);
        self.last = number;
        self.span.id_before = id;
    }

    /// Classifies the events missing before the event of this number.
    fn close_span(&mut self, next: u32) {
        let span = std::mem::take(&mut self.span);
        let missing: Vec<u32> =
            (self.last + 1..next).filter(|number| self.events[*number as usize - 1].is_published).collect();
        let count = missing.len() as u64;
        match (&missing[..], &span.gaps[..]) {
            ([], []) => {}
            ([], gaps) => self.account.empty_gaps += gaps.len() as u64,
            (_, [_, ..]) => self.account.announced += count,
            (_, []) if span.is_fresh => self.account.unclaimed += count,
            ([first, .., last] | [first @ last], []) => {
                let (name, before) = (&self.name, self.last);
                self.account.fault(|| format!("{name}: {first} to {last} missing after {before}, and no gap reported"));
            }
        }
        self.check_places(&span, &missing);
    }

    /// The bounds of a gap must be true: it begins after the last event, and the missing events lie within the gaps.
    fn check_places(&mut self, span: &Span<'_>, missing: &[u32]) {
        let resume: Vec<(Option<EventId>, Option<EventId>)> =
            span.gaps.iter().filter_map(|gap| bounds_of(gap)).collect();
        let Self { name, .. } = self;
        if let (Some(before), Some((Some(from), _))) = (span.id_before, resume.first())
            && before.major == from.major
            && before != *from
        {
            self.account.fault(|| format!("{name}: a gap from {from} after {before}: {resume:?}"));
        }
        // Ids of different epochs cannot be compared, and events missing on a fresh stream have no id here.
        let is_exact = |(from, to): &(Option<EventId>, Option<EventId>)| match (from, to) {
            (Some(from), Some(to)) => from.major == to.major,
            _ => false,
        };
        if resume.is_empty() || span.is_fresh || !resume.iter().all(is_exact) {
            return;
        }
        for number in missing {
            let ids = &self.events[*number as usize - 1].ids;
            let lies_within = |id: &EventId| resume.iter().any(|(from, to)| *from < Some(*id) && Some(*id) <= *to);
            if !ids.is_empty() && !ids.iter().any(lies_within) {
                self.account.fault(|| format!("{name}: {number} ({ids:?}) is missing outside of {resume:?}"));
            }
        }
    }
}

fn bounds_of(mark: &Mark) -> Option<(Option<EventId>, Option<EventId>)> {
    match mark {
        Mark::Gap { from, to, .. } => Some((*from, *to)),
        _ => None,
    }
}

/// Ids that two events of a topic share, which is a fault of the hub.
pub(crate) fn shared_ids(records: &[Record]) -> Vec<EventId> {
    let mut numbers: HashMap<(usize, EventId), u32> = HashMap::new();
    let mut shared = Vec::new();
    for (topic, marks) in records.iter().flat_map(|record| &record.topics) {
        for mark in marks {
            if let Mark::Event { number, id: Some(id) } = mark
                && *numbers.entry((*topic, *id)).or_insert(*number) != *number
            {
                shared.push(*id);
            }
        }
    }
    shared
}
