//! Whether a connection's server is still the master that the sentinels agree on.
//!
//! Mostly a failover shows on the connection itself: the old master dies, or the sentinels end its connections when they
//! make it a replica. A master that hangs, or that only the sentinels cannot reach, shows nothing; therefore a thread
//! asks them from time to time.

use std::{
    io,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use tracing::warn;

use super::{Directory, ServerAddress};

/// How many polls in a row must name another master. During a failover sentinels learn of it one after the other, so the
/// majority may be behind the one that was asked first.
const DISSENTS_MAX: u32 = 2;

/// What most sentinels agreed on when they were last asked.
#[derive(Debug, Default)]
pub(super) struct SentinelView {
    polls: AtomicU64,
    master: Mutex<Option<ServerAddress>>,
}

/// Holds while the sentinels' polls since a connection was made name that connection's server, or none.
#[derive(Debug)]
pub(super) struct MasterLease {
    target: ServerAddress,
    polls: u64,
    dissents: u32,
}

/// Owns the thread that asks.
#[derive(Debug)]
pub(super) struct SentinelWatch {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl SentinelView {
    /// The outcome of one poll; `None` if no majority answered alike.
    pub(super) fn announce(&self, master: Option<ServerAddress>) {
        *self.master.lock().unwrap_or_else(PoisonError::into_inner) = master;
        self.polls.fetch_add(1, Ordering::Release);
    }
}

impl MasterLease {
    /// Of a connection to `target` that is being made now.
    pub(super) fn new(target: ServerAddress, view: &SentinelView) -> Self {
        Self { target, polls: view.polls.load(Ordering::Acquire), dissents: 0 }
    }

    /// Whether the sentinels want another server. Cheap: may be asked at every turn.
    pub(super) fn is_outdated(&mut self, view: &SentinelView) -> bool {
        let polls = view.polls.load(Ordering::Acquire);
        if polls != self.polls {
            self.polls = polls;
            let master = view.master.lock().unwrap_or_else(PoisonError::into_inner);
            let is_other = master.as_ref().is_some_and(|master| *master != self.target);
            self.dissents = if is_other { self.dissents + 1 } else { 0 };
        }
        DISSENTS_MAX <= self.dissents
    }
}

impl SentinelWatch {
    /// Asks all sentinels each `interval` and says to `announce` what most of them agree on.
    pub(super) fn start(
        directory: Directory,
        interval: Duration,
        announce: impl Fn(Option<ServerAddress>) + Send + 'static,
    ) -> io::Result<Self> {
        let (stop, stopped) = bounded(1);
        let thread = std::thread::Builder::new().name("redis-sentinels".to_owned()).spawn(move || {
            while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                announce(directory.agreed());
            }
        })?;
        Ok(Self { stop, thread })
    }

    /// Tells the thread to end.
    pub(super) fn signal_stop(&self) {
        // A second word to the same effect is not needed.
        let _ = self.stop.try_send(());
    }

    /// Waits for the thread to end, which takes as long as a question under way.
    pub(super) fn stop(self) {
        self.signal_stop();
        if self.thread.join().is_err() {
            warn!("the thread that asks the sentinels had panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_said_twice_after_connecting_counts() {
        let server = |port| ServerAddress::Tcp { host: "h".to_owned(), port };
        let view = SentinelView::default();
        view.announce(Some(server(1)));
        let mut lease = MasterLease::new(server(2), &view);
        let mut check = |said: Option<u16>, expected: bool| {
            view.announce(said.map(server));
            assert_eq!([(); 2].map(|()| lease.is_outdated(&view)), [expected; 2], "{said:?}");
        };
        check(Some(1), false);
        check(Some(2), false);
        check(Some(1), false);
        check(None, false);
        check(Some(1), false);
        check(Some(3), true);
        check(Some(2), false);
    }
}
