//! One turn of the reader after another.
//!
//! A turn: interest → what is to be loaded → `XREAD`, which waits if there is nothing else to do → whether anything is
//! missing → one [`Feed`](crate::bus::Feed) with all that came, so that each reactor is woken at most once.
//!
//! The reader has all streams of one server, or those of one master of a cluster ([`StreamPlace`]). Then it does not wait in `XREAD`, and
//! leaves its thread to the readers of other masters wherever it waits.

use std::{sync::Arc, time::Duration};

use crossbeam_channel::Receiver;
use redis::{RedisError, Value};
use tracing::{info, warn};

use super::{
    arrival::{Arrival, judge},
    config::RedisStreamConfig,
    entry::{StreamEntry, read_streams},
    interest::{follow_interest, take_left},
    link::{StreamLink, accept, elsewhere, is_of_key},
    load::{self, weight_bytes},
    probe::StreamProbe,
    shard::Shard,
    streams::{StreamStage, StreamTable},
    waker::ReaderWaker,
};
use crate::{
    bus::{Bus, Interest},
    clock::{Clock, Moment},
    event::EventId,
    source::{
        Backoff, LogRateLimiter, SourceStatus,
        redis::{Directory, RedisConfig, error_codes::is_of_command},
        status::SubscriptionCounts,
    },
    topic::Topic,
};

/// How long one `XREAD` waits.
const BLOCK: Duration = Duration::from_secs(1);
/// The same while the memory budget is spent: then only the probe is read.
pub(super) const PAUSE: Duration = Duration::from_millis(50);
/// Streams loaded, or looked after, in one round trip.
pub(super) const STREAMS_PER_TRIP: usize = 64;
/// Entries asked for at once, of all streams together; of each at least one.
pub(super) const ENTRIES_PER_READ: usize = 16_384;
/// Entries of one stream.
pub(super) const COUNT_MAX: usize = 256;
/// A larger answer makes the next one be asked for with half as many entries.
const READ_BYTES_MAX: usize = 4 << 20;

/// The reader's state.
pub(super) struct StreamReader {
    pub(super) redis: RedisConfig,
    pub(super) config: RedisStreamConfig,
    directory: Arc<Directory>,
    pub(super) place: StreamPlace,
    /// How far the probe is read; `None` while the server refuses it.
    probe_last: Option<EventId>,
    /// When to ask next whether the server still is one to use.
    pub(super) role_due: Moment,
    pub(super) bus: Arc<Bus>,
    pub(super) clock: Clock,
    pub(super) status: Arc<SourceStatus>,
    pub(super) streams: StreamTable,
    backoff: Backoff,
    retry: Moment,
    failures: LogRateLimiter,
    refusals: LogRateLimiter,
    /// How many entries of one stream are asked for.
    pub(super) count: usize,
    /// Streams that are to be checked, and when all of them are again.
    pub(super) to_check: Vec<Topic>,
    pub(super) check_due: Moment,
    /// When all streams were read last.
    pub(super) read_at: Moment,
}

/// Which streams the reader has.
pub(super) enum StreamPlace {
    /// All, of one server.
    Server(OneServer),
    /// Those in the slots of one master of a cluster.
    Shard(Shard),
}

/// What a reader needs that has its thread for itself.
pub(super) struct OneServer {
    pub(super) probe: StreamProbe,
    pub(super) waker: Arc<ReaderWaker>,
    pub(super) wakes: Receiver<()>,
    pub(super) interest: Receiver<Interest>,
}

impl StreamReader {
    pub(super) fn new(
        redis: RedisConfig,
        config: RedisStreamConfig,
        directory: Arc<Directory>,
        place: StreamPlace,
        streams: StreamTable,
        bus: Arc<Bus>,
        clock: Clock,
        status: Arc<SourceStatus>,
    ) -> Self {
        status.set_proof_age_max(redis.ping_interval + redis.ping_timeout);
        let reader = Self {
            backoff: Backoff::new(redis.backoff_min, redis.backoff_max),
            probe_last: None,
            role_due: clock.now(),
            retry: clock.now(),
            failures: LogRateLimiter::default(),
            refusals: LogRateLimiter::default(),
            count: COUNT_MAX,
            to_check: Vec::new(),
            check_due: clock.now(),
            read_at: clock.now(),
            redis,
            config,
            directory,
            place,
            streams,
            bus,
            clock,
            status,
        };
        reader.report_counts();
        reader
    }

    /// Runs until the waker is stopped, which only a reader of one server has. Where it has its thread for itself,
    /// [`run_blocking`](super::link::run_blocking) runs it.
    pub(super) async fn run(mut self) {
        let mut link = None;
        while !self.is_stopped() {
            let now = self.clock.now();
            self.take_interest(now);
            let turned = match link.take() {
                Some(mut link) => self.turn(&mut link).await.map(|()| Some(link)),
                None if self.retry <= now => self.connect().await.map(Some),
                None => {
                    // Woken or not, the loop looks at everything.
                    self.pause(self.retry.since(now)).await;
                    Ok(None)
                }
            };
            match turned {
                Ok(turned) => link = turned,
                Err(error) => self.fail(&error),
            }
        }
    }

    fn is_stopped(&self) -> bool {
        match &self.place {
            StreamPlace::Server(server) => server.waker.is_stopped(),
            StreamPlace::Shard(_) => false,
        }
    }

    /// Waits for a wake-up, so long at most.
    pub(super) async fn pause(&self, longest: Duration) {
        match &self.place {
            StreamPlace::Server(server) => drop(server.wakes.recv_timeout(longest)),
            StreamPlace::Shard(shard) => shard.pause(longest).await,
        }
    }

    async fn turn(&mut self, link: &mut StreamLink) -> Result<(), RedisError> {
        if self.role_due <= self.clock.now() {
            self.check_server(link).await?;
        }
        let is_shard = matches!(self.place, StreamPlace::Shard(_));
        if self.bus.budget().is_spent() {
            // What is not read stays at the broker.
            if is_shard {
                self.pause(PAUSE).await;
                return Ok(());
            }
            return self.read(link, PAUSE, false).await;
        }
        let now = self.clock.now();
        let to_load = self.streams.lock().to_load(STREAMS_PER_TRIP, now);
        if !to_load.is_empty() {
            self.load(link, &to_load).await?;
        }
        let has_more = self.check_some(link).await? || !self.streams.lock().to_load(1, self.clock.now()).is_empty();
        if is_shard {
            return self.poll(link, has_more).await;
        }
        self.read(link, if has_more { Duration::ZERO } else { self.block_timeout() }, true).await
    }

    /// How long reading may wait.
    fn block_timeout(&self) -> Duration {
        let deadline = self.streams.lock().deadline().map(|due| due.since(self.clock.now()));
        // Nothing interrupts the wait where there is no probe.
        let longest = if self.probe_last.is_none() { PAUSE } else { BLOCK };
        let check = self.check_due.since(self.clock.now());
        deadline.unwrap_or(longest).min(check).clamp(Duration::from_millis(1), longest)
    }

    /// Fails unless the server still is one to use. Where access rules forbid the probe, or the server is a replica, its
    /// answer has to do for a proof; a probe that was refused is tried again. So it has in a cluster, where the reader asks for entries
    /// all the time, and waits for none.
    async fn check_server(&mut self, link: &mut StreamLink) -> Result<(), RedisError> {
        let asked = self.clock.now();
        link.check_role().await?;
        let now = self.clock.now();
        self.role_due = now + self.redis.ping_interval;
        if self.probe_last.is_some() {
            return Ok(());
        }
        let StreamPlace::Server(server) = &self.place else {
            self.status.on_proof(now.since(asked), now);
            return Ok(());
        };
        if link.is_replica() {
            self.status.on_proof(now.since(asked), now);
            return Ok(());
        }
        match server.probe.add_entry(link, now)? {
            Ok(id) => {
                self.probe_last = Some(id.before());
                self.status.on_publish_taken(None);
            }
            Err(refused) => {
                let text = refused.to_string();
                let what = format!("the stream `{}` cannot be added to: {text}", server.probe.key);
                self.log_refusal(&what, now);
                if refused.code() == Some("NOPERM") {
                    self.status.on_publish_refused(None, &text, is_of_command(&text), now);
                    self.status.on_proof(now.since(asked), now);
                }
            }
        }
        Ok(())
    }

    /// Follows who listens; in a cluster another task does.
    fn take_interest(&self, now: Moment) {
        let StreamPlace::Server(server) = &self.place else { return self.report_counts() };
        let is_woken = server.waker.take();
        let mut streams = self.streams.lock();
        let left = take_left(&mut streams, &self.bus, &self.status, now);
        if !is_woken && left.is_empty() {
            return;
        }
        for change in server.interest.try_iter().collect::<Vec<Interest>>() {
            follow_interest(&mut streams, change, &left, &self.config, &self.bus, now);
        }
        drop(streams);
        self.report_counts();
    }

    async fn load(&mut self, link: &mut StreamLink, topics: &[Topic]) -> Result<(), RedisError> {
        let bounds = |topic: &Topic| self.bus.class(topic).retention.history;
        let wanted: Vec<_> = topics.iter().map(|topic| (self.config.key(topic), bounds(topic))).collect();
        let loaded = load::load(link, &wanted, crate::os::realtime_now()).await?;
        let now = self.clock.now();
        let table = self.streams.clone();
        let mut streams = table.lock();
        for (topic, loaded) in topics.iter().zip(loaded) {
            if !streams.is_new(topic) {
                // Another reader has it by now.
                continue;
            }
            let again = streams.is_again(topic);
            match loaded {
                Ok(loaded) => self.begin(&mut streams, topic, loaded, now),
                Err(refused) if elsewhere(&refused).is_some() && self.take_elsewhere(&refused) => {
                    let due = now + self.redis.backoff_min;
                    streams.set_stage(topic, StreamStage::New { due, again });
                }
                Err(refused) => {
                    let wait = self.redis.ping_interval.min(self.redis.backoff_max);
                    streams.set_stage(topic, StreamStage::New { due: now + wait, again });
                    let text = format!("{refused} (key `{}`)", self.config.key(topic));
                    streams.refused.add(topic, &text, again, &self.bus, &self.status, now);
                    self.log_refusal(&format!("the stream of `{topic}` cannot be read: {text}"), now);
                }
            }
        }
        drop(streams);
        self.report_counts();
        Ok(())
    }

    /// Reads what came; with `all` false of the probe alone.
    async fn read(&mut self, link: &mut StreamLink, block: Duration, all: bool) -> Result<(), RedisError> {
        let Some(answer) = self.ask_streams(link, block, all).await? else {
            // Not even the probe: there is nothing to wait for but the waker.
            self.pause(block).await;
            return Ok(());
        };
        let answer = match accept(answer) {
            Ok(answer) => answer,
            // One of the keys is no stream any more. Which, the check finds out, and the others are read on.
            Err(refused) if is_of_key(&refused) => return self.give_up_refused(link, refused).await,
            Err(error) => return Err(error),
        };
        let mut arrivals = Vec::new();
        let mut bytes = 0;
        let streams = self.streams.clone();
        for (key, entries) in read_streams(answer)? {
            bytes += entries.iter().map(weight_bytes).sum::<usize>();
            if self.is_probe(&key) {
                self.take_proof(&entries);
                continue;
            }
            let streams = streams.lock();
            if let Some(topic) = streams.topic_of(&key).cloned()
                && let Some(position) = streams.position(&topic)
            {
                let key = String::from_utf8_lossy(&key).into_owned();
                arrivals.push(Arrival::new(topic, key, position, entries));
            }
        }
        if all {
            self.read_at = self.clock.now();
        }
        self.adapt_count(bytes);
        self.judge_and_deliver(link, arrivals).await
    }

    /// Asks for fewer entries of a stream where so many bytes came at once, and for more where not.
    pub(super) fn adapt_count(&mut self, bytes: usize) {
        self.count = if READ_BYTES_MAX < bytes { self.count / 2 } else { self.count * 2 }.clamp(1, COUNT_MAX);
    }

    pub(super) async fn judge_and_deliver(
        &mut self,
        link: &mut StreamLink,
        mut arrivals: Vec<Arrival>,
    ) -> Result<(), RedisError> {
        if arrivals.is_empty() {
            return Ok(());
        }
        judge(link, &mut arrivals).await?;
        let mut failure = None;
        arrivals.retain(|arrival| {
            let is_here = arrival.elsewhere.is_none();
            if let Some(error) = &arrival.elsewhere
                && !self.take_elsewhere(error)
            {
                failure = Some(error.clone());
            }
            is_here
        });
        let table = self.streams.clone();
        self.deliver(&mut table.lock(), arrivals, self.clock.now());
        failure.map_or(Ok(()), Err)
    }

    /// A node of a cluster says that it does not serve a key. False if the reader knows of no cluster.
    pub(super) fn take_elsewhere(&self, error: &RedisError) -> bool {
        match &self.place {
            StreamPlace::Server(_) => false,
            StreamPlace::Shard(shard) => {
                shard.take_elsewhere(error);
                true
            }
        }
    }

    fn is_probe(&self, key: &[u8]) -> bool {
        matches!(&self.place, StreamPlace::Server(server) if server.probe.key.as_bytes() == key)
    }

    /// `XREAD` over all streams; `None` if there is none.
    async fn ask_streams(
        &self,
        link: &mut StreamLink,
        block: Duration,
        all: bool,
    ) -> Result<Option<Value>, RedisError> {
        let StreamPlace::Server(server) = &self.place else { return Ok(None) };
        let asks_any = self.probe_last.is_some() || (all && self.streams.lock().reading().next().is_some());
        if !asks_any {
            return Ok(None);
        }
        let answers = link.request(|commands| {
            let followed = self.streams.lock();
            let mut streams: Vec<(&str, EventId)> = Vec::new();
            streams.extend(self.probe_last.map(|last| (server.probe.key.as_str(), last)));
            if all {
                streams.extend(followed.reading().map(|(_, key, position)| (key, position.last)));
            }
            let count = (ENTRIES_PER_READ / streams.len().max(1)).clamp(1, self.count).to_string();
            let block_ms = block.as_millis().to_string();
            let ids: Vec<String> = streams.iter().map(|(_, last)| last.to_string()).collect();
            let mut words = vec!["XREAD", "COUNT", &count];
            if !block.is_zero() {
                words.extend(["BLOCK", &block_ms]);
            }
            words.push("STREAMS");
            words.extend(streams.iter().map(|(key, _)| key));
            words.extend(ids.iter().map(String::as_str));
            commands.push_words(&words);
        });
        Ok(answers.await?.pop())
    }

    /// The server refuses to read a stream, and with it all others that are read by the same command. Fails if it is not one of
    /// those that topics are kept in.
    async fn give_up_refused(&mut self, link: &mut StreamLink, refused: RedisError) -> Result<(), RedisError> {
        let (_, before) = self.streams.lock().counts();
        self.check_all(link).await?;
        let (_, after) = self.streams.lock().counts();
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

    async fn connect(&mut self) -> Result<StreamLink, RedisError> {
        let (name, connect_timeout) = ("fanfare-stream-reader", self.redis.connect_timeout);
        let mut link = match &self.place {
            StreamPlace::Server(_) => {
                let link = StreamLink::open(&self.directory, name, connect_timeout)?;
                link.set_timeout(BLOCK + self.redis.ping_timeout)?;
                link
            }
            StreamPlace::Shard(_) => {
                StreamLink::open_shared(&self.directory, name, connect_timeout, self.redis.ping_timeout).await?
            }
        };
        self.probe_last = None;
        self.check_server(&mut link).await?;
        self.check_all(&mut link).await?;
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
        if let StreamPlace::Shard(shard) = &self.place {
            shard.on_node_lost();
        }
        if let Some(suppressed) = self.failures.admit(now) {
            let delay_ms = delay.as_millis();
            warn!(suppressed, "cannot read streams of {}: {error}; next attempt in {delay_ms} ms", self.redis.url);
        }
    }

    pub(super) fn log_refusal(&mut self, what: &str, now: Moment) {
        if let Some(suppressed) = self.refusals.admit(now) {
            warn!(suppressed, "{what}");
        }
    }

    fn report_counts(&self) {
        let streams = self.streams.lock();
        let (wanted, confirmed) = streams.counts();
        let tally = SubscriptionCounts { wanted, confirmed, denied: streams.refused.count(), settled: true };
        self.status.set_subscriptions(tally, self.clock.now());
    }
}
