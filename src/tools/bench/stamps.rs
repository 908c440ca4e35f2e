//! The kernel's receive timestamps on the benchmark's clock.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    time::Duration,
};

use crate::{
    clock::{Clock, Moment},
    os,
};

/// Readings for the calibration; the one with the shortest interruption counts.
const CALIBRATION_READINGS: u32 = 200;

/// Converts wall-clock timestamps to moments. The wall clock may be adjusted during a run: see [`StampClock::drift`].
#[derive(Clone, Copy, Debug)]
pub(super) struct StampClock {
    /// The wall clock at moment 0.
    origin: Duration,
}

impl StampClock {
    /// Reads both clocks side by side.
    pub(super) fn calibrate(clock: &Clock) -> Self {
        let readings = (0..CALIBRATION_READINGS).map(|_| {
            let (before, wall, after) = (clock.now(), os::realtime_now(), clock.now());
            let width = after.since(before);
            (width, wall.saturating_sub(Duration::from_nanos(before.0) + width / 2))
        });
        let (_, origin) = readings.min().unwrap_or_default();
        Self { origin }
    }

    #[inline]
    pub(super) fn moment(&self, stamp: Duration) -> Moment {
        Moment(u64::try_from(stamp.saturating_sub(self.origin).as_nanos()).unwrap_or(u64::MAX))
    }

    /// Drift of the wall clock since the calibration.
    pub(super) fn drift(&self, clock: &Clock) -> Duration {
        Self::calibrate(clock).origin.abs_diff(self.origin)
    }

    /// Reads from `socket`. Returns the number of bytes, and when the kernel had received the last one.
    #[inline]
    pub(super) fn receive(&self, socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Option<Moment>)> {
        let (count, stamp) = os::receive_timestamped(socket, buffer)?;
        Ok((count, stamp.map(|stamp| self.moment(stamp))))
    }

    /// Enables the kernel's receive timestamps on `socket`.
    pub(super) fn enable(socket: &impl AsFd) -> io::Result<()> {
        os::enable_receive_timestamps(socket.as_fd())
    }
}
