//! How the running parts come to their end, in order.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::warn;

use super::{Server, signals::SignalPoll};
use crate::{endpoint::Phase, source::Sources, store::StoreHandle};

/// How often the reactors are looked at while they end.
const STOP_INTERVAL: Duration = Duration::from_millis(20);
/// How many such intervals the sources have to end, after a signal that they are to end at once.
const HASTY_STOPS: u32 = 3;

impl Server {
    /// Lets the connections go, over the drain window or at once if another signal comes, then the sources, and administration
    /// last. The connections end first: what clients wait for at the source is then answered or refused.
    pub(super) fn stop(mut self, signals: &mut SignalPoll) -> Result<(), String> {
        self.enter(Phase::Draining);
        let mut is_hasty = false;
        while !self.placement.has_drained() && !self.reactors.iter().all(JoinHandle::is_finished) {
            if signals.wait(STOP_INTERVAL)?.is_some() {
                is_hasty = true;
                self.enter(Phase::Ending);
            }
            self.notify_reactors();
        }
        self.stop_sources(signals, is_hasty)?;
        self.enter(Phase::Leaving);
        for reactor in self.reactors {
            if reactor.join().is_err() {
                warn!("a reactor had panicked");
            }
        }
        Ok(())
    }

    /// Stops all that brings events in and out, for as long as that takes, or until another signal comes. `is_hasty`: one has come.
    fn stop_sources(&mut self, signals: &mut SignalPoll, mut is_hasty: bool) -> Result<(), String> {
        let (store, sources) = (self.store.take(), self.sources.take());
        let stop = move || {
            // Before the ways out: what it still stores is also to be published.
            store.into_iter().for_each(StoreHandle::stop);
            sources.into_iter().for_each(Sources::stop);
        };
        let waker = signals.waker();
        let stopping = thread::Builder::new().name("stop".to_owned()).spawn(move || {
            stop();
            let _ = waker.wake();
        });
        let stopping = stopping.map_err(|error| format!("cannot start a thread: {error}"))?;
        let mut left = HASTY_STOPS;
        while !stopping.is_finished() && 0 < left {
            is_hasty |= signals.wait(STOP_INTERVAL)?.is_some();
            left -= u32::from(is_hasty);
        }
        if !stopping.is_finished() {
            warn!("the hub ends before its sources have: what they still had under way may be lost");
        }
        Ok(())
    }
}
