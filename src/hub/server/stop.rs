//! Stops the running parts in order.

use std::{
    thread::{self, JoinHandle},
    time::Duration,
};

use tracing::warn;

use super::{Server, heartbeat::HeartbeatHandle, service_manager::ServiceManager, signals::SignalPoll};
use crate::{bridge::BridgeHandle, endpoint::ShutdownPhase, source::Sources, store::StoreHandle};

/// How often the reactors are checked while they stop.
const STOP_INTERVAL: Duration = Duration::from_millis(20);
/// How many such intervals the sources get to stop after a signal to stop at once.
const HASTY_STOPS: u32 = 3;

impl Server {
    /// Closes connections over the drain window, or at once if another signal comes; then stops the sources; then closes the
    /// admin connections. Connections are closed first, so that requests waiting for a source are still answered or refused.
    pub(super) fn stop(mut self, signals: &mut SignalPoll, manager: &mut ServiceManager) -> Result<(), String> {
        self.enter(ShutdownPhase::Draining);
        let mut is_hasty = false;
        while !self.placement.has_drained() && !self.reactors.iter().all(JoinHandle::is_finished) {
            if signals.wait(STOP_INTERVAL)?.is_some() {
                is_hasty = true;
                self.audit("hasty_end");
                self.enter(ShutdownPhase::Ending);
            }
            self.notify_reactors();
            manager.keep_alive(self.hub.metrics.clock.now(), true);
        }
        self.stop_sources(signals, manager, is_hasty)?;
        self.enter(ShutdownPhase::Leaving);
        for reactor in self.reactors {
            if reactor.join().is_err() {
                warn!("a reactor had panicked");
            }
        }
        Ok(())
    }

    /// Stops all sources and the store. Waits until they have stopped or another signal comes. `is_hasty`: that signal has come
    /// already.
    fn stop_sources(
        &mut self,
        signals: &mut SignalPoll,
        manager: &mut ServiceManager,
        mut is_hasty: bool,
    ) -> Result<(), String> {
        let (store, bridge, sources) = (self.store.take(), self.bridge.take(), self.sources.take());
        let heartbeat = self.heartbeat.take();
        let stop = move || {
            heartbeat.into_iter().for_each(HeartbeatHandle::stop);
            // Before the event sinks: records that the store still writes must also be published.
            store.into_iter().for_each(StoreHandle::stop);
            bridge.into_iter().for_each(BridgeHandle::stop);
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
            manager.keep_alive(self.hub.metrics.clock.now(), true);
        }
        if !stopping.is_finished() {
            warn!("the hub ends before its sources have: what they still had under way may be lost");
        }
        Ok(())
    }
}
