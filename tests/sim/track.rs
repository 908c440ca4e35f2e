//! The account of one subscription: what it has been told, against what it must be told. It goes on when its client comes
//! back.

use std::collections::BTreeMap;

use fanfare_core::{
    event::EventId,
    gap::{Gap, GapReason},
    log::Policy,
};

use crate::truth::{Rules, Truth, life_of};

/// What one subscription has been told, against what it must be told.
#[derive(Clone, Debug)]
pub(crate) struct Track {
    pub(crate) topic: usize,
    /// It begins here or later: there were so many events when it was asked for.
    from_least: usize,
    /// It begins here or earlier: there were so many events when the client could see that it had begun.
    from_most: Option<usize>,
    /// The next event that is due, once the first has come or the client knows where it begins.
    next: Option<usize>,
    /// As far as the client has everything: what it comes back with.
    pub(crate) since: Option<EventId>,
    /// It came with `since`, and has got no event since then, nor been told that its stream is another one: all that the hub
    /// knows of it is an id.
    is_unproven: bool,
    /// Keys of which a newer event must follow, because one was left out; and which that was.
    owed: BTreeMap<Box<str>, usize>,
    /// It asked for all there is.
    rewinds: bool,
    /// How often the stream of its topic had been replaced when its client saw that it had begun.
    opened_life: Option<usize>,
    /// Its client is told of what it missed whatever the topic's policy.
    pub(crate) is_never_ended: bool,
    /// The client has ended it, and seen that it is over.
    pub(crate) over: bool,
}

impl Track {
    /// To begin with whatever comes next, after `len` events.
    pub(crate) fn live(topic: usize, len: usize) -> Self {
        Self {
            topic,
            from_least: len,
            from_most: None,
            next: None,
            since: None,
            is_unproven: false,
            owed: BTreeMap::new(),
            rewinds: false,
            opened_life: None,
            is_never_ended: false,
            over: false,
        }
    }

    /// To begin with the very first event: whatever of it is missing must be told.
    pub(crate) fn rewound(topic: usize) -> Self {
        Self { rewinds: true, ..Self::live(topic, 0) }
    }

    /// To begin at `index`, behind the id `since`: whatever is missing must be told.
    pub(crate) fn resumed(topic: usize, index: usize, since: EventId) -> Self {
        Self { next: Some(index), since: Some(since), is_unproven: true, ..Self::live(topic, index) }
    }

    /// The same account, on a connection of its own; `None` if the client does not know where it stands.
    pub(crate) fn taken_up(&self) -> Option<Self> {
        let knows_place = self.next.is_some() && self.since.is_some() && !self.over;
        knows_place.then(|| Self { is_unproven: true, opened_life: None, ..self.clone() })
    }

    /// It has begun, with the events that there are at most.
    pub(crate) fn open(&mut self, truth: &Truth) {
        self.from_most.get_or_insert_with(|| truth.len(self.topic));
        self.opened_life.get_or_insert_with(|| truth.life(self.topic).1);
    }

    /// It begins behind `id`, the hub says.
    pub(crate) fn open_at(&mut self, id: EventId, truth: &Truth) {
        let index = truth.index_after(self.topic, id);
        if self.rewinds && truth.rules[self.topic].is_stream && 0 < truth.life(self.topic).1 {
            // Of which stream it is the beginning shows with the first event.
            return self.open(truth);
        }
        let (least, most) = (self.from_least, self.from_most.unwrap_or(usize::MAX));
        match self.next {
            // It has seen what the hub found trimmed: the hole is told in the form that everybody gets.
            Some(next) if truth.rules[self.topic].is_stream && index < next => return,
            Some(next) => assert_eq!(index, next, "topic {}: begins elsewhere", self.topic),
            None => assert!(
                (least..=most).contains(&index),
                "begins at {index} {id}, not from {least} to {most} {:?}",
                truth.log(self.topic).iter().map(|e| e.id.to_string()).collect::<Vec<_>>()
            ),
        }
        let before = index.checked_sub(1).map(|last| truth.entry(self.topic, last).id);
        let is_first = before.is_none_or(|before| truth.is_foreign(self.topic, before));
        assert!(!self.rewinds || is_first, "topic {}: not all there is", self.topic);
        self.next = Some(index);
        self.since = Some(id);
    }

    /// The event of `index` came. `was_behind`: the client has not always read what there was.
    pub(crate) fn take(&mut self, index: usize, was_behind: bool, truth: &Truth) {
        assert!(!self.over, "an event after the end of its subscription");
        let topic = self.topic;
        match self.next {
            // Nothing of a stream that is no more came, or of another hub: all there is begins with the one that followed it.
            _ if self.wants_all_of_another(index, truth) => {
                self.pass_over(truth.begin_of_all(topic, index), index, was_behind, truth);
            }
            Some(next) => self.pass_over(next, index, was_behind, truth),
            None => {
                let (least, most) = (self.from_least, self.from_most.unwrap_or(usize::MAX));
                assert!(least <= index, "topic {topic}: begins at {index}, before {least}");
                // Of what lies before the first event it may have left out some for good reason.
                match self.from_most {
                    Some(most) if most < index => self.pass_over(most, index, was_behind, truth),
                    _ => assert!(index <= most, "topic {topic}: begins at {index}, after {most}"),
                }
            }
        }
        let entry = truth.entry(topic, index);
        assert!(
            !(entry.follows_loss && self.next.is_some()),
            "topic {topic}: nobody was told of a loss before {index}"
        );
        if let Some(key) = &entry.key {
            self.owed.remove(key);
        }
        self.next = Some(index + 1);
        self.since = Some(entry.id);
        self.is_unproven = false;
    }

    /// Whether it asked for all there is, has got nothing yet, and the event of `index` is of a stream that replaced another, or of a
    /// hub that knows of none before.
    fn wants_all_of_another(&self, index: usize, truth: &Truth) -> bool {
        let is_of_another = || match truth.rules[self.topic].is_stream {
            true => 0 < truth.life_at(self.topic, index),
            false => self.next.is_some_and(|next| next < truth.begin_of_all(self.topic, index)),
        };
        self.has_nothing() && is_of_another()
    }

    fn has_nothing(&self) -> bool {
        self.since == Some(EventId::default()) || self.rewinds && self.next.is_none()
    }

    /// Whether it asked for all there is of a stream that had been replaced before it began, and there has been nothing since. Who
    /// asked for all of what was there before, and has had nothing of it, is still served when the stream is replaced: all there is
    /// by then is nothing.
    fn has_all_of_nothing(&self, truth: &Truth) -> bool {
        let (begins, life) = truth.life(self.topic);
        let began = self.rewinds || self.opened_life == Some(life);
        self.has_nothing() && 0 < life && began && begins == truth.len(self.topic)
    }

    /// The events between are left out: each must be superseded by a newer one of its key.
    fn pass_over(&mut self, from: usize, to: usize, was_behind: bool, truth: &Truth) {
        let topic = self.topic;
        assert!(from <= to, "topic {topic}: {to} came again, {from} is due");
        if from == to {
            return;
        }
        let policy = truth.rules[topic].policy;
        assert_eq!(policy, Policy::Latest, "topic {topic}: {to} came, though {from} is due");
        assert!(was_behind, "topic {topic}: {from} was left out for a client that kept up");
        for index in from..to {
            let entry = truth.entry(topic, index);
            assert!(entry.gap.is_none() && !entry.follows_loss, "topic {topic}: a hole at {index} was left out");
            let key = entry.key.clone().unwrap_or_else(|| panic!("topic {topic}: {index} has no key"));
            self.owed.insert(key, index);
        }
    }

    /// The events of `gap` are missing, the hub says: a hole in the log, or one of its own.
    pub(crate) fn take_gap(&mut self, gap: Gap, was_behind: bool, truth: &Truth) {
        assert!(!self.over, "a gap after the end of its subscription");
        let topic = self.topic;
        let (from, to) = (truth.index_after(topic, gap.from), truth.index_after(topic, gap.to));
        let begins_anew = self.begins_anew(gap, truth);
        assert!(from <= to || begins_anew, "topic {topic}: a gap that goes back: {gap:?}");
        let (gap, from) = self.clip(gap, from, to, truth);
        match self.next {
            Some(next) if begins_anew && from < next => {}
            Some(next) => self.pass_over(next, from, was_behind, truth),
            None => assert!(self.from_least <= from, "topic {topic}: a gap before the beginning: {gap:?}"),
        }
        // Exactly: as far as the client has everything, unless something was left out since.
        // What the log itself says of another stream begins where the log stood.
        let is_shared = gap.reason == GapReason::Epoch && truth.rules[topic].is_stream;
        // Before the first event of a log there is one place, which `0-0` and the log itself name by different ids.
        let is_same = |since: EventId| {
            since == gap.from || since == EventId::default() || self.is_begin_of_log(since, gap.from, from, truth)
        };
        let is_exact = is_shared || self.next != Some(from) || self.since.is_none_or(is_same);
        assert!(is_exact, "topic {topic}: {gap:?} does not begin at {:?}", self.since);
        self.check_reason(gap, from, to, truth);
        for key in truth.log(topic)[from.min(to)..to].iter().filter_map(|entry| entry.key.as_ref()) {
            self.owed.remove(key);
        }
        if gap.reason == GapReason::Epoch {
            self.owed.clear();
        }
        self.next = Some(to);
        self.since = Some(gap.to);
        self.is_unproven &= gap.reason != GapReason::Epoch;
    }

    /// Whether `gap` may make the client begin anew with a stream that replaced another, whatever it has of that stream.
    ///
    /// The ids of both may overlap, so an id alone does not say which of them it is of. While the hub's log has its change of
    /// stream, whoever comes with an id that the former had reached is taken for a reader of the former: told of a gap from its
    /// own id, or of the log's own, which begins where the former ended. The event at the id would tell, so whoever has got one
    /// since it came is not.
    fn begins_anew(&self, gap: Gap, truth: &Truth) -> bool {
        let is_stream = truth.rules[self.topic].is_stream;
        let may_be_former =
            |since| since <= gap.from && gap.from <= truth.newest_before_life(self.topic, life_of(gap.to));
        gap.reason == GapReason::Epoch && is_stream && self.is_unproven && self.since.is_some_and(may_be_former)
    }

    /// Whether `since` and `begin` are the same place of a stream, ahead of the entry of `index`, where the hub's log began.
    ///
    /// The hub begins its log right before the first entry that it finds (`begin`, which is no entry's id), because it cannot
    /// know what was ahead of that and has been trimmed. A client may know: from the archive, of a gap that ends with the last
    /// entry trimmed, or from elsewhere, of that entry itself. Or the hub found the stream empty, and began with the id that an
    /// empty stream has, while the archive told the client of the place before the first entry, which came in between. The
    /// client goes on in the log, since it lacks nothing of what the log has, and the next hole is told to it as to everybody.
    fn is_begin_of_log(&self, since: EventId, begin: EventId, index: usize, truth: &Truth) -> bool {
        let (log, life) = (truth.log(self.topic), life_of(begin));
        let begins_there = begin == truth.place_of_life(self.topic, life)
            || log.get(index).is_some_and(|first| first.id.before() == begin);
        truth.rules[self.topic].is_stream
            && life_of(since) == life
            && begins_there
            && log[truth.begin_of(self.topic, life)..index].iter().all(|entry| entry.trimmed)
    }

    /// A client may have seen, before the hub did, events that the hub found trimmed: a hole in the hub's log begins before
    /// what such a client has.
    fn clip(&self, gap: Gap, from: usize, to: usize, truth: &Truth) -> (Gap, usize) {
        match (self.next, self.since) {
            (Some(next), Some(since)) if truth.rules[self.topic].is_stream && from < next && next <= to => {
                (Gap { from: since, ..gap }, next)
            }
            _ => (gap, from),
        }
    }

    /// Whether what is missing from `from` to `to` is missing for the reason that is given.
    fn check_reason(&self, gap: Gap, from: usize, to: usize, truth: &Truth) {
        let (topic, log) = (self.topic, truth.log(self.topic));
        let rules = truth.rules[topic];
        let missing = &log[from.min(to)..to];
        if let [hole] = missing
            && let Some(told) = hole.gap
        {
            // A private one may end there too; it begins elsewhere, or says something else.
            if told == gap {
                return;
            }
        }
        match gap.reason {
            GapReason::Expired if rules.is_stream => {
                assert!(!missing.is_empty(), "topic {topic}: nothing is missing: {gap:?}");
                assert!(missing.iter().all(|entry| entry.trimmed), "topic {topic}: the broker has it: {gap:?}");
            }
            GapReason::Expired | GapReason::Overflow => {
                // What the log has passed may be no more than a hole between two streams.
                let is_between = rules.is_stream && life_of(gap.from) != life_of(gap.to);
                assert!(!missing.is_empty() || is_between, "topic {topic}: nothing is missing: {gap:?}");
                let kept = truth.kept_from(topic);
                assert!(to <= kept, "topic {topic}: {to} is beyond what is kept from {kept} on: {gap:?}");
                let is_slow = gap.reason == GapReason::Overflow;
                let may_go_on = self.is_never_ended || rules.policy != Policy::Close;
                assert!(!is_slow || may_go_on, "topic {topic}: it had to end: {gap:?}");
                // To the very last event that is gone.
                assert!(log[..to].last().is_none_or(|last| last.id == gap.to || rules.is_stream), "{gap:?}");
            }
            GapReason::Epoch if rules.is_stream => {
                assert!(0 < life_of(gap.to), "topic {topic}: it was never replaced: {gap:?}");
                assert!(self.may_be_change(gap, to, truth), "topic {topic}: some before {to} were left out: {gap:?}");
            }
            GapReason::Epoch => {
                assert!(truth.is_foreign(topic, gap.from), "topic {topic}: {from} is of this epoch: {gap:?}");
            }
            GapReason::SourceLost => panic!("topic {topic}: the source lost nothing: {gap:?}"),
        }
    }

    /// Whether `gap`, which ends at index `to`, may be the change to a stream that replaced another: it leaves out nothing that
    /// this one has.
    fn may_be_change(&self, gap: Gap, to: usize, truth: &Truth) -> bool {
        let (topic, life) = (self.topic, life_of(gap.to));
        let is_known = 0 < life && life <= truth.life(topic).1;
        is_known && (truth.begin_of(topic, life)..to).all(|index| truth.entry(topic, index).trimmed)
    }

    /// Whether the client stands where a transport without a form for gaps must end: before a hole in the log, in another
    /// epoch, or too far back.
    pub(crate) fn is_before_gap(&self, truth: &Truth) -> bool {
        let log = truth.log(self.topic);
        let due = match self.next {
            Some(next) => next..(next + 1).min(log.len()),
            None => self.from_least..log.len(),
        };
        let is_foreign = self.since.is_some_and(|since| truth.is_foreign(self.topic, since));
        // Passed over, it may stand further on than it has been told.
        let hides = truth.rules[self.topic].policy == Policy::Latest;
        let due = if hides { due.start..log.len() } else { due };
        let is_replaced = truth.rules[self.topic].is_stream && 0 < truth.life(self.topic).1;
        is_foreign
            || is_replaced
            || log.get(due).into_iter().flatten().any(|entry| entry.gap.is_some() || entry.trimmed)
    }

    /// Whether it is so far behind that the log may have passed it.
    ///
    /// A change of stream is no reason: whatever the former stream had that the client lacks, it is told of the change. Unless the
    /// log no longer has that: in the log it is an entry of its own, ahead of the first of the new stream.
    pub(crate) fn may_be_passed(&self, truth: &Truth) -> bool {
        let (due, kept) = (self.next.unwrap_or(self.from_least), truth.kept_from(self.topic));
        due < kept || due == kept && self.is_before_change(due, truth)
    }

    /// Whether the event of `due` is the first of a stream that replaced another, and the client has yet to be told so.
    fn is_before_change(&self, due: usize, truth: &Truth) -> bool {
        let life = truth.life_at(self.topic, due);
        let is_first = 0 < life && truth.begin_of(self.topic, life) == due;
        is_first && self.since.is_none_or(|since| life_of(since) < life)
    }

    /// Whether a close frame's gap can be this subscription's.
    pub(crate) fn may_end_for(&self, gap: Gap, truth: &Truth) -> bool {
        let (from, to) = (truth.index_after(self.topic, gap.from), truth.index_after(self.topic, gap.to));
        let (_, from) = self.clip(gap, from, to, truth);
        let Rules { policy, is_stream, .. } = truth.rules[self.topic];
        // A client that has no form for it comes back from where it ends, and is not told again.
        let is_change = gap.reason == GapReason::Epoch && is_stream;
        if is_change && (gap.from == gap.to || !self.may_be_change(gap, to, truth)) {
            return false;
        }
        match self.next {
            Some(next) if from < next => self.begins_anew(gap, truth),
            Some(next) if policy == Policy::Latest => next <= from,
            Some(next) => next == from,
            None => self.from_least <= from,
        }
    }

    /// A raw client was told by its close frame what is missing: as far as it could be told, it goes on from there.
    pub(crate) fn leap(&mut self, gap: Gap, truth: &Truth) {
        self.next = Some(truth.index_after(self.topic, gap.to));
        self.since = Some(gap.to);
        self.owed.clear();
    }

    /// It must have been told all it has a right to.
    pub(crate) fn check_complete(&self, truth: &Truth) {
        let (topic, len) = (self.topic, truth.len(self.topic));
        assert!(self.owed.is_empty(), "topic {topic}: left out, and nothing newer came: {:?}", self.owed);
        match self.next {
            Some(next) if next == len || self.has_all_of_nothing(truth) => {}
            Some(next) => panic!("topic {topic}: {next} and what follows, up to {len}, is missing"),
            None => {
                let most = self.from_most.unwrap_or_else(|| panic!("topic {topic}: never began"));
                assert!(len <= most, "topic {topic}: nothing came, though {len} were published, {most} before");
            }
        }
    }
}
