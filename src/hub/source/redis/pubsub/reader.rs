//! The reader thread, from outside: how it is started, woken and stopped.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use mio::{Poll, Token};
use tracing::warn;

use super::{PUBSUB_SOURCE, turn::Reader};
use crate::{
    bus::{Bus, Wake},
    clock::Clock,
    source::{
        SourceStatus,
        redis::{RedisConfig, Watch},
    },
};

const WAKER: Token = Token(0);

/// The slice asked of the scheduler: reading a burst takes less, and the thread shares its core with a busy reactor.
const SHORT_SLICE: Duration = Duration::from_micros(100);

/// Owns the reader thread.
#[derive(Debug)]
pub(super) struct ReaderHandle {
    alarm: Arc<Alarm>,
    thread: JoinHandle<()>,
    watch: Option<Watch>,
}

impl ReaderHandle {
    /// Closes the connection and waits for the thread to end. Topics stay as they are: the hub is going down.
    pub(super) fn stop(self) {
        self.alarm.stop.store(true, Ordering::Release);
        self.alarm.wake();
        // Both may be asking a sentinel that does not answer.
        self.watch.iter().for_each(Watch::signal_stop);
        if self.thread.join().is_err() {
            warn!("the Redis reader thread had panicked");
        }
        self.watch.into_iter().for_each(Watch::stop);
    }
}

/// Interrupts the reader's poll, once per turn at most: an eventfd write costs the caller more than a delivery.
#[derive(Debug)]
pub(super) struct Alarm {
    waker: mio::Waker,
    rung: AtomicBool,
    stop: AtomicBool,
}

impl Alarm {
    /// Whether it was rung since the last time. Called before the queues are looked at: whoever puts something in
    /// afterwards rings again.
    pub(super) fn hear(&self) -> bool {
        self.rung.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl Wake for Alarm {
    fn wake(&self) {
        if !self.rung.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            warn!("the Redis reader cannot be woken: {error}");
        }
    }
}

/// Starts the thread. Fails if `config` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub(super) fn start_reader(
    config: RedisConfig,
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<SourceStatus>,
    pin: Option<core_affinity::CoreId>,
    short_slice: bool,
) -> io::Result<ReaderHandle> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    let alarm = Arc::new(Alarm { waker, rung: AtomicBool::new(false), stop: AtomicBool::new(false) });
    // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
    let (changes, interest) = crossbeam_channel::unbounded();
    let watch = start_watch(&config, &status, &alarm)?;
    status.set_reader_alarm(Arc::clone(&alarm) as Arc<dyn Wake>);
    let mut reader = Reader::new(config, poll, Arc::clone(&alarm), interest, Arc::clone(&bus), clock, status)?;
    bus.watch_interest(PUBSUB_SOURCE, changes, Arc::clone(&alarm) as Arc<dyn Wake>);
    let thread = std::thread::Builder::new().name("redis-reader".to_owned()).spawn(move || {
        claim_processor(pin, short_slice);
        reader.run();
    })?;
    Ok(ReaderHandle { alarm, thread, watch })
}

/// Where there are sentinels, follows what they agree on.
fn start_watch(config: &RedisConfig, status: &Arc<SourceStatus>, alarm: &Arc<Alarm>) -> io::Result<Option<Watch>> {
    if !config.url.names_sentinels() {
        return Ok(None);
    }
    let (status, alarm) = (Arc::clone(status), Arc::clone(alarm));
    let announce = move |master| {
        status.consensus().announce(master);
        // The reader may be waiting for a server that hangs.
        alarm.wake();
    };
    Watch::start(config.directory()?, config.ping_interval, announce).map(Some)
}

fn claim_processor(pin: Option<core_affinity::CoreId>, short_slice: bool) {
    if let Some(core) = pin
        && !core_affinity::set_for_current(core)
    {
        warn!("the Redis reader cannot be pinned to core {}", core.id);
    }
    if short_slice && let Err(error) = crate::os::request_short_slice(SHORT_SLICE) {
        warn!("the Redis reader gets no short scheduler slice: {error}");
    }
}
