//! The reader's threads, from outside: how they are started, woken and stopped.

use std::{io, sync::Arc, thread::JoinHandle, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded};
use tracing::warn;

use super::{
    STREAM_SOURCE,
    config::RedisStreamConfig,
    link::{LEAST_VERSION, run_blocking},
    probe::{ProbeThread, StreamProbe},
    streams::StreamTable,
    turn::{OneServer, StreamPlace, StreamReader},
    waker::ReaderWaker,
};
use crate::{
    bus::{Bus, Wake},
    clock::Clock,
    source::{SourceStatus, redis::RedisConfig},
};

/// Owns the reader's threads.
#[derive(Debug)]
pub(super) struct ReaderHandle {
    waker: Arc<ReaderWaker>,
    /// Disconnected when the reader has ended.
    ended: Receiver<()>,
    threads: [JoinHandle<()>; 2],
}

/// How long a server that does not answer may delay the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

impl ReaderHandle {
    /// Closes the connections and waits for the threads to end, unless the server keeps them waiting. Topics stay as they
    /// are: the hub is going down.
    pub(super) fn stop(self) {
        self.waker.stop();
        // Nothing is ever sent; this waits for the end.
        let _ = self.ended.recv_timeout(STOP_TIMEOUT);
        for thread in self.threads.into_iter().filter(JoinHandle::is_finished) {
            if thread.join().is_err() {
                warn!("a thread of the Redis Streams reader had panicked");
            }
        }
    }
}

/// Starts the threads. Fails if `redis` names files that cannot be used; an unreachable server is no failure but a
/// [status](SourceStatus::ready).
pub(super) fn start_reader(
    redis: RedisConfig,
    config: RedisStreamConfig,
    bus: Arc<Bus>,
    clock: Clock,
    status: Arc<SourceStatus>,
) -> io::Result<ReaderHandle> {
    let (waker, wakes) = ReaderWaker::new();
    let directory = Arc::new(redis.directory()?.with_least_version(LEAST_VERSION));
    let probe = StreamProbe::new(&config.prefix, rand::random());
    // Unbounded, because the bus must never wait: it holds a topic's lock. Listeners coming and going bound it.
    let (changes, interest) = crossbeam_channel::unbounded();
    let probe_thread = ProbeThread {
        probe: probe.clone(),
        waker: Arc::clone(&waker),
        wakes: wakes.probe,
        directory: Arc::clone(&directory),
        config: redis.clone(),
        clock,
    };
    let linger = redis.linger;
    let reader = StreamReader::new(
        redis,
        config,
        directory,
        StreamPlace::Server(OneServer { probe, waker: Arc::clone(&waker), wakes: wakes.reader, interest }),
        StreamTable::new(linger),
        Arc::clone(&bus),
        clock,
        status,
    );
    bus.watch_interest(STREAM_SOURCE, changes, Arc::clone(&waker) as Arc<dyn Wake>);
    let (end, ended): (Sender<()>, _) = bounded(0);
    let probe_thread = std::thread::Builder::new().name("stream-probe".to_owned()).spawn(move || probe_thread.run())?;
    let reader = std::thread::Builder::new().name("stream-reader".to_owned()).spawn(move || {
        run_blocking(reader.run());
        drop(end);
    })?;
    Ok(ReaderHandle { waker, ended, threads: [probe_thread, reader] })
}
