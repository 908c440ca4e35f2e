//! One turn of the reader after another.
//!
//! A turn: interest → what is to be loaded → `XREAD`, which waits if there is nothing else to do → whether anything is
//! missing → one [`Feed`] with all that came, so that each reactor is woken at most once.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use redis::{RedisError, Value};
use tracing::{info, warn};

use super::{
    arrival::{Arrival, judge},
    config::RedisStreamConfig,
    entry::{StreamEntry, read_streams},
    link::{StreamLink, accept, is_of_key},
    load::{self, Loaded, weight_bytes},
    position::{ReadPosition, Verdict},
    probe::StreamProbe,
    streams::{FollowedStreams, StreamStage},
    waker::ReaderWaker,
};
use crate::{
    bus::{Bus, Feed, Interest, PublishRefused},
    clock::{Clock, Moment},
    event::{EventId, Payload},
    gap::{Gap, GapReason},
    source::{
        Backoff, LogRateLimiter, SourceStatus,
        log_refusals::LogRefusals,
        redis::{Directory, RedisConfig, error_codes::is_of_command},
        status::SubscriptionCounts,
    },
    topic::Topic,
};

/// How long one `XREAD` waits.
const BLOCK: Duration = Duration::from_secs(1);
/// The same while the memory budget is spent: then only the probe is read.
const PAUSE: Duration = Duration::from_millis(50);
/// Streams loaded, or looked after, in one round trip.
pub(super) const STREAMS_PER_TRIP: usize = 64;
/// Entries asked for at once, of all streams together; of each at least one.
const ENTRIES_PER_READ: usize = 16_384;
/// Entries of one stream.
const COUNT_MAX: usize = 256;
/// A larger answer makes the next one be asked for with half as many entries.
const READ_BYTES_MAX: usize = 4 << 20;

/// The reader thread's state.
pub(super) struct StreamReader {
    pub(super) redis: RedisConfig,
    pub(super) config: RedisStreamConfig,
    directory: Arc<Directory>,
    probe: StreamProbe,
    /// How far the probe is read; `None` while the server refuses it.
    probe_last: Option<EventId>,
    /// When to ask next whether the server still is one to use.
    role_due: Moment,
    waker: Arc<ReaderWaker>,
    wakes: Receiver<()>,
    interest: Receiver<Interest>,
    pub(super) bus: Arc<Bus>,
    pub(super) clock: Clock,
    status: Arc<SourceStatus>,
    pub(super) streams: FollowedStreams,
    link: Option<StreamLink>,
    backoff: Backoff,
    retry: Moment,
    failures: LogRateLimiter,
    refusals: LogRateLimiter,
    refused: LogRefusals,
    /// How many entries of one stream are asked for.
    count: usize,
    /// Streams that are to be checked, and when all of them are again.
    pub(super) to_check: Vec<Topic>,
    pub(super) check_due: Moment,
    /// When all streams were read last.
    pub(super) read_at: Moment,
}

impl StreamReader {
    pub(super) fn new(
        redis: RedisConfig,
        config: RedisStreamConfig,
        directory: Arc<Directory>,
        probe: StreamProbe,
        waker: Arc<ReaderWaker>,
        wakes: Receiver<()>,
        interest: Receiver<Interest>,
        bus: Arc<Bus>,
        clock: Clock,
        status: Arc<SourceStatus>,
    ) -> Self {
        status.set_proof_age_max(redis.ping_interval + redis.ping_timeout);
        let reader = Self {
            streams: FollowedStreams::new(redis.linger),
            backoff: Backoff::new(redis.backoff_min, redis.backoff_max),
            probe_last: None,
            role_due: clock.now(),
            link: None,
            retry: clock.now(),
            failures: LogRateLimiter::default(),
            refusals: LogRateLimiter::default(),
            refused: LogRefusals::default(),
            count: COUNT_MAX,
            to_check: Vec::new(),
            check_due: clock.now(),
            read_at: clock.now(),
            redis,
            config,
            directory,
            probe,
            waker,
            wakes,
            interest,
            bus,
            clock,
            status,
        };
        reader.report_counts();
        reader
    }

    /// Runs until the waker is stopped.
    pub(super) fn run(&mut self) {
        while !self.waker.is_stopped() {
            let now = self.clock.now();
            self.take_interest(now);
            let turned = match self.link.take() {
                Some(mut link) => self.turn(&mut link).map(|()| Some(link)),
                None if self.retry <= now => self.connect().map(Some),
                None => {
                    // Woken or not, the loop looks at everything.
                    let _ = self.wakes.recv_timeout(self.retry.since(now));
                    Ok(None)
                }
            };
            match turned {
                Ok(link) => self.link = link,
                Err(error) => self.fail(&error),
            }
        }
    }

    fn turn(&mut self, link: &mut StreamLink) -> Result<(), RedisError> {
        if self.role_due <= self.clock.now() {
            self.check_server(link)?;
        }
        if self.bus.budget().is_spent() {
            // What is not read stays at the broker.
            return self.read(link, PAUSE, false);
        }
        let now = self.clock.now();
        let to_load = self.streams.to_load(STREAMS_PER_TRIP, now);
        if !to_load.is_empty() {
            self.load(link, &to_load)?;
        }
        let has_more = self.check_some(link)? || !self.streams.to_load(1, self.clock.now()).is_empty();
        self.read(link, if has_more { Duration::ZERO } else { self.block_timeout() }, true)
    }

    /// How long reading may wait.
    fn block_timeout(&self) -> Duration {
        let deadline = self.streams.deadline().map(|due| due.since(self.clock.now()));
        // Nothing interrupts the wait where there is no probe.
        let longest = if self.probe_last.is_none() { PAUSE } else { BLOCK };
        let check = self.check_due.since(self.clock.now());
        deadline.unwrap_or(longest).min(check).clamp(Duration::from_millis(1), longest)
    }

    /// Fails unless the server still is one to use. Where access rules forbid the probe, or the server is a replica, its
    /// answer has to do for a proof; a probe that was refused is tried again.
    fn check_server(&mut self, link: &mut StreamLink) -> Result<(), RedisError> {
        let asked = self.clock.now();
        link.check_role()?;
        let now = self.clock.now();
        self.role_due = now + self.redis.ping_interval;
        if self.probe_last.is_some() {
            return Ok(());
        }
        if link.is_replica() {
            self.status.on_proof(now.since(asked), now);
            return Ok(());
        }
        match self.probe.add_entry(link, now)? {
            Ok(id) => {
                self.probe_last = Some(id.before());
                self.status.on_publish_taken(None);
            }
            Err(refused) => {
                let text = refused.to_string();
                self.log_refusal(&format!("the stream `{}` cannot be added to: {text}", self.probe.key), now);
                if refused.code() == Some("NOPERM") {
                    self.status.on_publish_refused(None, &text, is_of_command(&text), now);
                    self.status.on_proof(now.since(asked), now);
                }
            }
        }
        Ok(())
    }

    fn take_interest(&mut self, now: Moment) {
        let is_woken = self.waker.take();
        let expired = self.streams.take_expired(now);
        if !is_woken && expired.is_empty() {
            return;
        }
        for (topic, _) in &expired {
            self.bus.mark_stale(topic);
            self.refused.remove(topic, &self.status);
        }
        for change in self.interest.try_iter().collect::<Vec<Interest>>() {
            match change {
                Interest::Wanted(topic) => {
                    // Whoever came just before the topic was marked stale reads already.
                    let left = expired.iter().find(|(known, _)| *known == topic).map(|(_, stream)| stream.stage);
                    self.want(&topic, left, now);
                }
                Interest::Unwanted(topic) => self.streams.unwant(&topic, now),
            }
        }
        self.report_counts();
    }

    fn want(&mut self, topic: &Topic, left: Option<StreamStage>, now: Moment) {
        let position = self.streams.want(topic, self.config.key(topic));
        let position = position.or(match left {
            Some(StreamStage::Reading(position)) => Some(position),
            _ => None,
        });
        match position {
            // Its log is as it was left, so reading goes on there.
            Some(position) if self.bus.newest_id(topic) == position.newest => {
                self.streams.set_stage(topic, StreamStage::Reading(position));
                self.bus.mark_live(topic, now);
            }
            Some(_) => {
                // Empty from the start: nobody can have seen the log that was left.
                let again = self.bus.newest_id(topic) != EventId::default();
                self.streams.set_stage(topic, StreamStage::New { due: now, again });
            }
            None => {}
        }
    }

    fn load(&mut self, link: &mut StreamLink, topics: &[Topic]) -> Result<(), RedisError> {
        let bounds = |topic: &Topic| self.bus.class(topic).retention.history;
        let wanted: Vec<_> = topics.iter().map(|topic| (self.config.key(topic), bounds(topic))).collect();
        let loaded = load::load(link, &wanted, crate::os::realtime_now())?;
        let now = self.clock.now();
        for (topic, loaded) in topics.iter().zip(loaded) {
            match loaded {
                Ok(loaded) => self.begin(topic, loaded, now),
                Err(refused) => {
                    let again = self.streams.is_again(topic);
                    let wait = self.redis.ping_interval.min(self.redis.backoff_max);
                    self.streams.set_stage(topic, StreamStage::New { due: now + wait, again });
                    let text = format!("{refused} (key `{}`)", self.config.key(topic));
                    self.refused.add(topic, &text, again, &self.bus, &self.status, now);
                    self.log_refusal(&format!("the stream of `{topic}` cannot be read: {text}"), now);
                }
            }
        }
        self.report_counts();
        Ok(())
    }

    fn begin(&mut self, topic: &Topic, loaded: Loaded, now: Moment) {
        let Loaded { floor, entries, position: end } = loaded;
        let bus = Arc::clone(&self.bus);
        let mut feed = bus.feed();
        let mut position = ReadPosition { last: floor, newest: floor, content: None, added: None, ..end };
        // Whoever reads already must not take what is loaded for the continuation of what it has.
        if self.streams.is_again(topic) | bus.take_unconfirmed(topic) {
            self.restart(&mut feed, topic, &mut position, floor, now);
        } else {
            bus.begin_log(topic, floor);
        }
        let is_whole = self.publish(&mut feed, topic, &mut position, entries, now);
        drop(feed);
        // Without room for all of it, reading goes on where it ended.
        let position = if is_whole { ReadPosition { newest: position.newest, ..end } } else { position };
        self.streams.set_stage(topic, StreamStage::Reading(position));
        self.refused.remove(topic, &self.status);
        self.bus.mark_live(topic, now);
    }

    /// Reads what came; with `all` false of the probe alone.
    fn read(&mut self, link: &mut StreamLink, block: Duration, all: bool) -> Result<(), RedisError> {
        let Some(answer) = self.ask_streams(link, block, all)? else {
            // Not even the probe: there is nothing to wait for but the waker.
            let _ = self.wakes.recv_timeout(block);
            return Ok(());
        };
        let answer = match accept(answer) {
            Ok(answer) => answer,
            // One of the keys is no stream any more. Which, the check finds out, and the others are read on.
            Err(refused) if is_of_key(&refused) => return self.give_up_refused(link, refused),
            Err(error) => return Err(error),
        };
        let mut arrivals = Vec::new();
        let mut bytes = 0;
        for (key, entries) in read_streams(answer)? {
            bytes += entries.iter().map(weight_bytes).sum::<usize>();
            if key == self.probe.key.as_bytes() {
                self.take_proof(&entries);
            } else if let Some(topic) = self.streams.topic_of(&key).cloned()
                && let Some(position) = self.streams.position(&topic)
            {
                let key = String::from_utf8_lossy(&key).into_owned();
                arrivals.push(Arrival::new(topic, key, position, entries));
            }
        }
        if all {
            self.read_at = self.clock.now();
        }
        self.count = if READ_BYTES_MAX < bytes { self.count / 2 } else { self.count * 2 }.clamp(1, COUNT_MAX);
        if !arrivals.is_empty() {
            judge(link, &mut arrivals)?;
            self.deliver(arrivals, self.clock.now());
        }
        Ok(())
    }

    /// `XREAD` over all streams; `None` if there is none.
    fn ask_streams(&self, link: &mut StreamLink, block: Duration, all: bool) -> Result<Option<Value>, RedisError> {
        let mut streams: Vec<(&str, EventId)> = Vec::new();
        streams.extend(self.probe_last.map(|last| (self.probe.key.as_str(), last)));
        if all {
            streams.extend(self.streams.reading().map(|(_, key, position)| (key, position.last)));
        }
        if streams.is_empty() {
            return Ok(None);
        }
        let count = (ENTRIES_PER_READ / streams.len()).clamp(1, self.count).to_string();
        let block_ms = block.as_millis().to_string();
        let ids: Vec<String> = streams.iter().map(|(_, last)| last.to_string()).collect();
        let mut words = vec!["XREAD", "COUNT", &count];
        if !block.is_zero() {
            words.extend(["BLOCK", &block_ms]);
        }
        words.push("STREAMS");
        words.extend(streams.iter().map(|(key, _)| key));
        words.extend(ids.iter().map(String::as_str));
        link.ask_one(&words).map(Some)
    }

    /// The server refuses to read a stream, and with it all others that are read by the same command. Fails if it is not one of
    /// those that topics are kept in.
    fn give_up_refused(&mut self, link: &mut StreamLink, refused: RedisError) -> Result<(), RedisError> {
        let (_, before) = self.streams.counts();
        self.check_all(link)?;
        let (_, after) = self.streams.counts();
        if after < before { Ok(()) } else { Err(refused) }
    }

    fn take_proof(&mut self, entries: &[StreamEntry]) {
        let Some(newest) = entries.last() else { return };
        self.probe_last = Some(newest.id);
        let now = self.clock.now();
        if let Ok(sent) = StreamProbe::sent(newest) {
            self.status.on_proof(now.since(sent), now);
        }
    }

    fn deliver(&mut self, arrivals: Vec<Arrival>, now: Moment) {
        let bus = Arc::clone(&self.bus);
        let mut feed = bus.feed();
        for Arrival { topic, mut position, entries, verdict, info, .. } in arrivals {
            match (verdict, info) {
                (Verdict::Replaced, Some(info)) => {
                    // What came may not be all of it.
                    self.begin_anew(&mut feed, &topic, position, &info, now);
                    continue;
                }
                (Verdict::Expired { to }, _) => {
                    let gap = Gap { from: position.newest, to, reason: GapReason::Expired };
                    self.report(&mut feed, &topic, &mut position, gap, now);
                }
                (Verdict::Whole | Verdict::Replaced, _) => {}
            }
            self.publish(&mut feed, &topic, &mut position, entries, now);
            self.streams.set_stage(&topic, StreamStage::Reading(position));
        }
    }

    /// Publishes `entries`, and brings `position` on; false if there was no room for all of them.
    fn publish(
        &mut self,
        feed: &mut Feed<'_>,
        topic: &Topic,
        position: &mut ReadPosition,
        entries: Vec<StreamEntry>,
        now: Moment,
    ) -> bool {
        let mut received = 0;
        let mut is_whole = true;
        for entry in entries {
            let digest = entry.digest();
            let StreamEntry { id, content } = entry;
            let outcome = content.map_err(|_| PublishRefused::NotUtf8).and_then(|content| {
                let (kind, payload) = (content.kind.as_deref(), Payload::looked_at(content.data));
                if !feed.publish_as(topic, id, kind, payload.clone(), now)? {
                    // Its id is not newer than the log's newest, although the broker says that it came later.
                    self.restart(feed, topic, position, id.before(), now);
                    feed.publish_as(topic, id, kind, payload, now)?;
                }
                Ok(())
            });
            match outcome {
                Ok(()) => received += 1,
                Err(PublishRefused::NoRoom) => {
                    is_whole = false;
                    break;
                }
                Err(refused) => {
                    let gap = Gap { from: position.newest, to: id, reason: GapReason::SourceLost };
                    self.report(feed, topic, position, gap, now);
                    self.status.on_refused();
                    self.log_refusal(&format!("entry {id} of `{topic}` is no event: {refused:?}"), now);
                }
            }
            position.pass(id, digest);
        }
        if 0 < received {
            self.status.on_events(received, now);
        }
        is_whole
    }

    pub(super) fn report(
        &self,
        feed: &mut Feed<'_>,
        topic: &Topic,
        position: &mut ReadPosition,
        gap: Gap,
        now: Moment,
    ) {
        feed.report_gap(topic, gap, now);
        self.status.on_loss();
        position.skip_to(gap.to);
    }

    pub(super) fn restart(
        &self,
        feed: &mut Feed<'_>,
        topic: &Topic,
        position: &mut ReadPosition,
        floor: EventId,
        now: Moment,
    ) {
        let to = Gap::resumable_end(floor);
        feed.restart_log(topic, to, now);
        self.status.on_loss();
        *position = ReadPosition { last: floor, newest: floor, content: None, added: None, ..*position };
    }

    fn connect(&mut self) -> Result<StreamLink, RedisError> {
        let mut link = StreamLink::open(&self.directory, "fanfare-stream-reader", self.redis.connect_timeout)?;
        link.set_timeout(BLOCK + self.redis.ping_timeout)?;
        self.probe_last = None;
        self.check_server(&mut link)?;
        self.check_all(&mut link)?;
        self.backoff.reset();
        self.status.reader().on_connected(self.clock.now());
        info!("reading streams of {}", self.redis.url);
        Ok(link)
    }

    /// The link is gone; the next attempt waits.
    fn fail(&mut self, error: &RedisError) {
        let now = self.clock.now();
        let delay = self.backoff.next_delay(rand::random());
        self.retry = now + delay;
        self.status.reader().on_failure(&error.to_string(), now);
        if let Some(suppressed) = self.failures.admit(now) {
            let delay_ms = delay.as_millis();
            warn!(suppressed, "cannot read streams of {}: {error}; next attempt in {delay_ms} ms", self.redis.url);
        }
    }

    fn log_refusal(&mut self, what: &str, now: Moment) {
        if let Some(suppressed) = self.refusals.admit(now) {
            warn!(suppressed, "{what}");
        }
    }

    fn report_counts(&self) {
        let (wanted, confirmed) = self.streams.counts();
        let tally = SubscriptionCounts { wanted, confirmed, denied: self.refused.count(), settled: true };
        self.status.set_subscriptions(tally, self.clock.now());
    }
}
