//! The signals that the hub handles.

use std::{io, sync::Arc, time::Duration};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;

const SIGNALS: mio::Token = mio::Token(0);
const WAKER: mio::Token = mio::Token(1);

/// Waits for the hub's signals, with a time limit.
pub(super) struct SignalPoll {
    poll: mio::Poll,
    signals: Signals,
    waker: Arc<mio::Waker>,
    /// Whether a SIGHUP has come.
    pub(super) reload: bool,
}

impl SignalPoll {
    pub(super) fn new() -> io::Result<Self> {
        let poll = mio::Poll::new()?;
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        poll.registry().register(&mut signals, SIGNALS, mio::Interest::READABLE)?;
        let waker = Arc::new(mio::Waker::new(poll.registry(), WAKER)?);
        Ok(Self { poll, signals, waker, reload: false })
    }

    /// A waker that ends a wait from another thread.
    pub(super) fn waker(&self) -> Arc<mio::Waker> {
        Arc::clone(&self.waker)
    }

    /// Waits for a signal that ends the hub, for `timeout` at most. Any other signal, and the waker, end the wait, too.
    pub(super) fn wait(&mut self, timeout: Duration) -> Result<Option<i32>, String> {
        let mut events = mio::Events::with_capacity(2);
        match self.poll.poll(&mut events, Some(timeout)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => outcome.map_err(|error| format!("cannot wait for signals: {error}"))?,
        }
        let mut ends = None;
        for signal in self.signals.pending() {
            match signal {
                SIGHUP => self.reload = true,
                end => ends = Some(end),
            }
        }
        Ok(ends)
    }
}
