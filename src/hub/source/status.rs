//! The status of a source: written by its threads, read by `/ready`, `/metrics` and `/stats`.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::refusals::{Refusals, Refused};
use crate::{bus::SourceName, clock::Moment, metrics::SourceHealth, topic::Topic};

/// Which of a source's two connections a status is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    Both,
    Reader,
    Writer,
}

/// The status of one source with a broker, or of a part of one.
#[derive(Debug)]
pub(super) struct SourceStatus {
    name: SourceName,
    sides: Sides,
    reader: ConnectionStatus,
    writer: ConnectionStatus,
    settled: AtomicBool,
    settled_since: AtomicU64,
    wanted: AtomicU64,
    confirmed: AtomicU64,
    denied: AtomicU64,
    received: AtomicU64,
    refused: AtomicU64,
    losses: AtomicU64,
    last_event: AtomicU64,
    last_proof: AtomicU64,
    /// When a proof last came that was overdue.
    stale_until: AtomicU64,
    proof_age_max: AtomicU64,
    probe: AtomicU64,
    published: AtomicU64,
    publish_failed: AtomicU64,
    publish_refused: AtomicU64,
    unasked: AtomicU64,
    refusals: Mutex<Refusals>,
    /// Whether a publication that is taken changes anything in them.
    has_refused_publications: AtomicBool,
    /// What the server cannot do, if the source knows of anything.
    limitation: Mutex<Option<&'static str>>,
}

/// One thread's connection.
#[derive(Debug, Default)]
pub(super) struct ConnectionStatus {
    connected: AtomicBool,
    since: AtomicU64,
    reconnects: AtomicU64,
    disconnects: AtomicU64,
    /// When the server last answered. Set by the writer only; the reader has its proofs.
    last_answer: AtomicU64,
    failure: Mutex<String>,
}

/// All figures at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct StatusSnapshot {
    /// Whether the reader is logged in.
    pub connected: bool,
    /// Since when it is, or is not.
    pub since: Moment,
    /// Times it connected after the first.
    pub reconnects: u64,
    /// Subscriptions there should be: topics and patterns.
    pub wanted: u64,
    /// Those the server confirmed.
    pub confirmed: u64,
    /// Those the server's access rules forbid at present.
    pub denied: u64,
    /// Messages taken from the server and handed to the bus.
    pub received: u64,
    /// Messages that could not be: not UTF-8, too big, a broken envelope, or a channel that is no topic.
    pub refused: u64,
    /// Times a topic may have missed events.
    pub losses: u64,
    /// When the last message came, if one has.
    pub last_event: Option<Moment>,
    /// When the server last proved that it delivers, if it has.
    pub last_proof: Option<Moment>,
    /// How long that proof took to come back.
    pub probe: Option<Duration>,
    /// Whether the writer is logged in.
    pub writer_connected: bool,
    /// Publications the server took.
    pub published: u64,
    /// Publications that failed or whose fate is unknown.
    pub publish_failed: u64,
    /// Those of them that the broker refused.
    pub publish_refused: u64,
    /// Messages that came on channels that are not subscribed.
    pub unasked: u64,
}

/// How many subscriptions a source has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SubscriptionCounts {
    pub(super) wanted: usize,
    pub(super) confirmed: usize,
    pub(super) denied: usize,
    /// Whether all that the configuration names is confirmed or refused.
    pub(super) settled: bool,
}

impl SourceStatus {
    /// A source called `name` in reasons, which nothing has happened to yet.
    pub(super) fn new(name: SourceName) -> Self {
        Self::of_sides(name, Sides::Both)
    }

    /// The same of the reader alone, or of the writer.
    pub(super) fn of_sides(name: SourceName, sides: Sides) -> Self {
        Self {
            name,
            sides,
            reader: ConnectionStatus::default(),
            writer: ConnectionStatus::default(),
            settled: AtomicBool::new(false),
            settled_since: AtomicU64::new(0),
            wanted: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            denied: AtomicU64::new(0),
            received: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            losses: AtomicU64::new(0),
            last_event: AtomicU64::new(0),
            last_proof: AtomicU64::new(0),
            stale_until: AtomicU64::new(0),
            proof_age_max: AtomicU64::new(u64::MAX),
            probe: AtomicU64::new(0),
            published: AtomicU64::new(0),
            publish_failed: AtomicU64::new(0),
            publish_refused: AtomicU64::new(0),
            unasked: AtomicU64::new(0),
            refusals: Mutex::default(),
            has_refused_publications: AtomicBool::new(false),
            limitation: Mutex::new(None),
        }
    }

    /// Whether events pass in both directions; if not, what is wrong and for how long it has been. What the broker refuses
    /// of single topics is [no reason](SourceHealth::degraded).
    pub(super) fn ready(&self, now: Moment) -> Result<(), String> {
        self.state(now).1
    }

    /// Whether it has not been ready yet, and nothing has failed yet.
    pub(super) fn is_starting(&self, now: Moment) -> bool {
        let has_failed = |side: &ConnectionStatus| !side.failure().is_empty();
        let is_proven = self.sides == Sides::Writer || self.last_proof.load(Ordering::Relaxed) != 0;
        let is_answered = self.sides == Sides::Reader || self.writer.last_answer() != Moment::default();
        !(is_proven && is_answered)
            && self.ready(now).is_err()
            && ![&self.reader, &self.writer].into_iter().any(has_failed)
    }

    /// The same as [`Self::ready`], and since when it is so.
    pub(super) fn state(&self, now: Moment) -> (Moment, Result<(), String>) {
        let (has_reader, has_writer) = (self.sides != Sides::Writer, self.sides != Sides::Reader);
        let sides = [(has_reader, &self.reader, "reader"), (has_writer, &self.writer, "writer")];
        for (_, side, role) in sides.into_iter().filter(|(is_there, ..)| *is_there) {
            if let Err(reason) = side.ready(&format!("{} {role}", self.name), now) {
                return (side.since(), Err(reason));
            }
        }
        if let Some((since, reason)) = self.refusals().whole(now) {
            return (since, Err(format!("{}: {reason}", self.name)));
        }
        let settled_since = Moment(self.settled_since.load(Ordering::Relaxed));
        if has_reader && !self.settled.load(Ordering::Acquire) {
            let reason = format!("{}: not all configured subscriptions are confirmed", self.name);
            return (settled_since, Err(reason));
        }
        let proof_age_max = Duration::from_nanos(self.proof_age_max.load(Ordering::Relaxed));
        let last_proof = Moment(self.last_proof.load(Ordering::Relaxed));
        let last_answer = self.writer.last_answer();
        // There is no grace before the first: what cannot work, such as a wrong secret, does not pass for ready until then.
        let proofs = [
            (has_reader, last_proof, self.reader.since(), "no proof of delivery"),
            (has_writer, last_answer, self.writer.since(), "no answer to the writer"),
        ];
        for (_, last, since, what) in proofs.into_iter().filter(|(is_there, ..)| *is_there) {
            if last == Moment::default() {
                return (since, Err(format!("{}: {what} yet", self.name)));
            }
            if last + proof_age_max < now {
                let age = now.since(last).as_secs_f64();
                return (last + proof_age_max, Err(format!("{}: {what} for {age:.1} s", self.name)));
            }
        }
        let since = self.reader.since().max(self.writer.since()).max(settled_since);
        (since.max(Moment(self.stale_until.load(Ordering::Relaxed))), Ok(()))
    }

    /// Adds the counts of `other`, which is forgotten.
    pub(super) fn absorb(&self, other: &Self) {
        let pairs = [
            (&self.received, &other.received),
            (&self.refused, &other.refused),
            (&self.losses, &other.losses),
            (&self.published, &other.published),
            (&self.publish_failed, &other.publish_failed),
            (&self.publish_refused, &other.publish_refused),
            (&self.unasked, &other.unasked),
            (&self.reader.reconnects, &other.reader.reconnects),
            (&self.reader.disconnects, &other.reader.disconnects),
        ];
        for (sum, count) in pairs {
            sum.fetch_add(count.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.last_event.fetch_max(other.last_event.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> StatusSnapshot {
        let count = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let moment = |number: &AtomicU64| Some(Moment(count(number))).filter(|moment| *moment != Moment::default());
        StatusSnapshot {
            connected: self.reader.connected.load(Ordering::Relaxed),
            since: Moment(count(&self.reader.since)),
            reconnects: count(&self.reader.reconnects),
            wanted: count(&self.wanted),
            confirmed: count(&self.confirmed),
            denied: count(&self.denied),
            received: count(&self.received),
            refused: count(&self.refused),
            losses: count(&self.losses),
            last_event: moment(&self.last_event),
            last_proof: moment(&self.last_proof),
            probe: moment(&self.probe).map(|span| Duration::from_nanos(span.0)),
            writer_connected: self.writer.connected.load(Ordering::Relaxed),
            published: count(&self.published),
            publish_failed: count(&self.publish_failed),
            publish_refused: count(&self.publish_refused),
            unasked: count(&self.unasked),
        }
    }

    pub(super) fn reader(&self) -> &ConnectionStatus {
        &self.reader
    }

    pub(super) fn writer(&self) -> &ConnectionStatus {
        &self.writer
    }

    /// Reports something that the server cannot do as degraded; `None` takes that back.
    pub(super) fn set_limitation(&self, limitation: Option<&'static str>) {
        *self.limitation.lock().unwrap_or_else(PoisonError::into_inner) = limitation;
    }

    pub(super) fn set_proof_age_max(&self, age: Duration) {
        self.proof_age_max.store(nanos(age), Ordering::Relaxed);
    }

    pub(super) fn on_proof(&self, took: Duration, now: Moment) {
        self.probe.store(nanos(took).max(1), Ordering::Relaxed);
        let last = Moment(self.last_proof.swap(now.0, Ordering::Relaxed));
        if self.proof_age_max.load(Ordering::Relaxed) < nanos(now.since(last)) {
            self.stale_until.store(now.0, Ordering::Relaxed);
        }
    }

    pub(super) fn on_events(&self, received: u64, now: Moment) {
        self.received.fetch_add(received, Ordering::Relaxed);
        self.last_event.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn on_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_loss(&self) {
        self.losses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn on_published(&self, is_done: bool) {
        let counter = if is_done { &self.published } else { &self.publish_failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A message came on a channel that is not subscribed.
    pub(super) fn on_unasked(&self, count: u64) {
        self.unasked.fetch_add(count, Ordering::Relaxed);
    }

    /// The broker refused a publication to `topic`; without one, a probe. With `is_any` it would refuse every other too.
    pub(super) fn on_publish_refused(&self, topic: Option<&Topic>, text: &str, is_any: bool, now: Moment) {
        if topic.is_some() {
            self.publish_refused.fetch_add(1, Ordering::Relaxed);
        }
        self.refusals().add_publication(topic, Refused::new(text, now), is_any);
        self.has_refused_publications.store(true, Ordering::Release);
    }

    /// The broker took a publication to `topic`; without one, a probe.
    pub(super) fn on_publish_taken(&self, topic: Option<&Topic>) {
        if self.has_refused_publications.load(Ordering::Acquire) {
            let mut refusals = self.refusals();
            refusals.remove_publication(topic);
            self.has_refused_publications.store(refusals.has_publications(), Ordering::Release);
        }
    }

    /// The broker refuses these subscriptions, `total` in all; and every other one, if `every` says why.
    pub(super) fn set_refused(&self, named: Vec<(String, Refused)>, total: usize, every: Option<Refused>) {
        let mut refusals = self.refusals();
        refusals.set_subscriptions(named, total);
        refusals.set_every_subscription(every);
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_subscriptions(&self, tally: SubscriptionCounts, now: Moment) {
        self.wanted.store(tally.wanted as u64, Ordering::Relaxed);
        self.confirmed.store(tally.confirmed as u64, Ordering::Relaxed);
        self.denied.store(tally.denied as u64, Ordering::Relaxed);
        if self.settled.load(Ordering::Relaxed) != tally.settled {
            self.settled_since.store(now.0, Ordering::Relaxed);
        }
        self.settled.store(tally.settled, Ordering::Release);
    }
}

impl ConnectionStatus {
    /// There is a connection; true if there was none. One that replaces another at once is no news.
    pub(super) fn on_connected(&self, now: Moment) -> bool {
        if self.connected.load(Ordering::Acquire) {
            return false;
        }
        if self.disconnects() != 0 {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.since.store(now.0, Ordering::Relaxed);
        self.connected.store(true, Ordering::Release);
        true
    }

    /// A connection was lost, or could not be made: `reason` says why.
    pub(super) fn on_failure(&self, reason: &str, now: Moment) {
        if self.connected.swap(false, Ordering::AcqRel) {
            self.disconnects.fetch_add(1, Ordering::Release);
            self.since.store(now.0, Ordering::Relaxed);
        }
        let mut failure = self.failure();
        failure.clear();
        failure.push_str(reason);
    }

    /// Why the last connection failed; empty if none has.
    fn failure(&self) -> MutexGuard<'_, String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server answered.
    pub(super) fn on_answer(&self, now: Moment) {
        self.last_answer.store(now.0, Ordering::Relaxed);
    }

    fn last_answer(&self) -> Moment {
        Moment(self.last_answer.load(Ordering::Relaxed))
    }

    /// Since when it is connected, or is not.
    fn since(&self) -> Moment {
        Moment(self.since.load(Ordering::Relaxed))
    }

    /// Times an established connection was lost.
    pub(super) fn disconnects(&self) -> u64 {
        self.disconnects.load(Ordering::Acquire)
    }

    fn ready(&self, name: &str, now: Moment) -> Result<(), String> {
        if self.connected.load(Ordering::Acquire) {
            return Ok(());
        }
        let seconds = now.since(self.since()).as_secs_f64();
        let failure = self.failure();
        let reason = if failure.is_empty() { "connecting" } else { failure.as_str() };
        Err(format!("{name}: not connected for {seconds:.1} s: {reason}"))
    }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

impl SourceHealth for SourceStatus {
    fn name(&self) -> &str {
        self.name.0
    }

    fn check(&self, now: Moment) -> Result<(), String> {
        self.ready(now)
    }

    fn degraded(&self, now: Moment) -> Vec<String> {
        let limitation = *self.limitation.lock().unwrap_or_else(PoisonError::into_inner);
        limitation.map(str::to_owned).into_iter().chain(self.refusals().single(now)).collect()
    }

    fn refused_subscriptions(&self) -> u64 {
        self.denied.load(Ordering::Relaxed)
    }

    fn refused_publications_total(&self) -> u64 {
        self.publish_refused.load(Ordering::Relaxed)
    }

    fn unasked_total(&self) -> u64 {
        self.unasked.load(Ordering::Relaxed)
    }

    fn rejected_messages_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn last_event(&self) -> Option<Moment> {
        self.snapshot().last_event
    }

    fn received_total(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    fn probe(&self) -> Option<Duration> {
        self.snapshot().probe
    }

    fn reconnects_total(&self) -> u64 {
        self.snapshot().reconnects
    }

    fn since(&self, now: Moment) -> Option<Moment> {
        Some(self.state(now).0)
    }

    fn losses_total(&self) -> u64 {
        self.losses.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hub that has just started has no grace: until a proof came through it is not ready.
    #[test]
    fn nothing_is_ready_before_its_first_proof() {
        let status = SourceStatus::new(SourceName("redis"));
        let second = Duration::from_secs(1);
        status.set_proof_age_max(10 * second);
        let at = |seconds| Moment(0) + seconds * second;
        let check = |now: Moment, expected: Option<&str>| match (status.ready(now), expected) {
            (Ok(()), None) => {}
            (Err(reason), Some(part)) if reason.contains(part) => {}
            (found, expected) => panic!("{now:?}: {found:?}, not {expected:?}"),
        };
        check(at(1), Some("not connected"));
        status.reader().on_connected(at(1));
        status.writer().on_connected(at(1));
        status.set_subscriptions(SubscriptionCounts { wanted: 1, confirmed: 1, denied: 0, settled: true }, at(1));
        check(at(1), Some("no proof of delivery yet"));
        status.on_proof(Duration::from_millis(1), at(2));
        check(at(2), Some("no answer to the writer yet"));
        status.writer().on_answer(at(2));
        check(at(2), None);
        check(at(12), None);
        check(at(13), Some("no proof of delivery for 11.0 s"));
        status.on_proof(Duration::from_millis(1), at(13));
        check(at(13), Some("no answer to the writer for 11.0 s"));
    }
}
