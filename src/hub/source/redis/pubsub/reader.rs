//! The reader thread, from outside: how it is started, woken and stopped.

use std::{io, sync::Arc, thread::JoinHandle};

use mio::{Poll, Token};
use tracing::warn;

use super::{PUBSUB_SOURCE, turn::PubSubReader, waker::ReaderWaker};
use crate::{
    bus::{Bus, Wake},
    clock::Clock,
    source::{
        SourceStatus,
        processor::claim_processor,
        redis::{Directory, RedisConfig, SentinelWatch, ServerView},
    },
};

const WAKER: Token = Token(0);

/// Owns the reader thread.
#[derive(Debug)]
pub(in crate::source::redis) struct ReaderHandle {
    waker: Arc<ReaderWaker>,
    thread: JoinHandle<()>,
    watch: Option<SentinelWatch>,
}

impl ReaderHandle {
    /// Closes the connection and waits for the thread to end. Topics stay as they are: the hub is going down.
    pub(in crate::source::redis) fn stop(self) {
        self.waker.stop();
        // Both may be asking a sentinel that does not answer.
        self.watch.iter().for_each(SentinelWatch::signal_stop);
        if self.thread.join().is_err() {
            warn!("the Redis reader thread had panicked");
        }
        self.watch.into_iter().for_each(SentinelWatch::stop);
    }
}

/// Starts the thread. Fails if `config` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub(super) fn start_reader(
    config: RedisConfig,
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
    pin: Option<core_affinity::CoreId>,
    short_slice: bool,
) -> io::Result<ReaderHandle> {
    let directory = config.directory()?;
    start_reader_at(config, directory, bus, clock, status, view, pin, short_slice)
}

/// The same for the server in `directory`.
pub(in crate::source::redis) fn start_reader_at(
    config: RedisConfig,
    directory: Directory,
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<SourceStatus>,
    view: Arc<ServerView>,
    pin: Option<core_affinity::CoreId>,
    short_slice: bool,
) -> io::Result<ReaderHandle> {
    let poll = Poll::new()?;
    let waker = mio::Waker::new(poll.registry(), WAKER)?;
    let waker = Arc::new(ReaderWaker::new(waker));
    // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
    let (changes, interest) = crossbeam_channel::unbounded();
    let watch = start_watch(&config, &view, &waker)?;
    view.set_reader(Arc::clone(&waker) as Arc<dyn Wake>);
    let mut reader =
        PubSubReader::new(config, directory, poll, Arc::clone(&waker), interest, Arc::clone(&bus), clock, status, view);
    bus.watch_interest(PUBSUB_SOURCE, changes, Arc::clone(&waker) as Arc<dyn Wake>);
    let thread = std::thread::Builder::new().name("redis-reader".to_owned()).spawn(move || {
        claim_processor("the Redis reader", pin, short_slice);
        reader.run();
    })?;
    Ok(ReaderHandle { waker, thread, watch })
}

/// Where there are sentinels, follows what they agree on.
fn start_watch(
    config: &RedisConfig,
    view: &Arc<ServerView>,
    waker: &Arc<ReaderWaker>,
) -> io::Result<Option<SentinelWatch>> {
    if !config.url.names_sentinels() {
        return Ok(None);
    }
    let (view, waker) = (Arc::clone(view), Arc::clone(waker));
    let announce = move |master| {
        view.sentinels().announce(master);
        // The reader may be waiting for a server that hangs.
        waker.wake();
    };
    SentinelWatch::start(config.directory()?, config.ping_interval, announce).map(Some)
}
