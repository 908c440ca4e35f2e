//! Where a new connection goes: to the reactor that has the fewest, for the fullest one decides how long a broadcast
//! takes.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::connection::Connection;
use crate::{auth::ConnectionId, bus::Notifier, clock::Moment, protocol::http::Request};

/// Connections on their way to another reactor; when as many wait there, the acceptor keeps what it has.
const ARRIVALS_MAX: usize = 1024;

/// A connection on its way to a reactor.
#[derive(Debug)]
pub enum Arrival<S> {
    /// It was just accepted.
    Fresh(Accepted<S>),
    /// It comes from another reactor with a request that only this one can answer.
    Passed(Box<Passed<S>>),
}

/// A connection just accepted.
#[derive(Debug)]
pub struct Accepted<S> {
    /// Its socket, registered nowhere yet.
    pub stream: S,
    /// Its address.
    pub peer: Option<IpAddr>,
    /// Whether it came through an admin listener.
    pub admin: bool,
}

/// A connection that another reactor had, and what it asks for.
#[derive(Debug)]
pub struct Passed<S> {
    pub(super) connection: Connection<S>,
    /// `None`: its head is with the connection, and its body has not come.
    pub(super) request: Option<Request>,
    /// What it was called at the reactor that passes it on.
    pub(super) from: ConnectionId,
    /// When the connection came, where that is to be logged.
    pub(super) opened: Option<Moment>,
}

/// How many connections each reactor has, and the way to each.
#[derive(Debug)]
pub struct Placement<S> {
    reactors: Vec<ReactorSlot<S>>,
    /// Connections of each share, over all reactors.
    shares: [AtomicUsize; 3],
    exhausted: ExhaustedLog,
    /// Connections by address. Touched once per connect and close, and only if there is a limit.
    by_address: Mutex<HashMap<IpAddr, usize>>,
}

/// The share of the descriptors that a connection takes from. Each share has a limit of its own, so none can use up another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Those of the clients that are served.
    Served,
    /// Those of the admin listeners.
    Admin,
    /// Those of the clients that are there to be refused.
    Refused,
}

impl Share {
    /// The share of a connection that was just accepted.
    pub(super) fn of_listener(admin: bool) -> Self {
        if admin { Self::Admin } else { Self::Served }
    }
}

#[derive(Debug)]
struct ReactorSlot<S> {
    /// Connections there or on their way there.
    count: AtomicUsize,
    arrivals_in: Sender<Arrival<S>>,
    arrivals_out: Receiver<Arrival<S>>,
    notifier: Arc<Notifier>,
    /// Only connections for administration are left there.
    drained: AtomicBool,
    /// No connection is left there, and the process is about to end.
    left: AtomicBool,
}

impl<S> Placement<S> {
    /// For the reactors that own these notifiers.
    pub fn new(notifiers: impl IntoIterator<Item = Arc<Notifier>>) -> Self {
        let slot = |notifier| {
            let (arrivals_in, arrivals_out) = bounded(ARRIVALS_MAX);
            let (drained, left) = (AtomicBool::new(false), AtomicBool::new(false));
            ReactorSlot { count: AtomicUsize::new(0), arrivals_in, arrivals_out, notifier, drained, left }
        };
        let reactors = notifiers.into_iter().map(slot).collect();
        Self { reactors, shares: Default::default(), exhausted: ExhaustedLog::default(), by_address: Mutex::default() }
    }

    /// Connections over all reactors.
    pub fn total(&self) -> usize {
        self.reactors.iter().map(|slot| slot.count.load(Ordering::Relaxed)).sum()
    }

    /// Whether only connections for administration are left anywhere. Only after the hub has begun to drain.
    pub fn has_drained(&self) -> bool {
        self.reactors.iter().all(|slot| slot.drained.load(Ordering::Acquire)) && self.of_share(Share::Served) == 0
    }

    /// Whether only connections for administration are left at the reactor `own`.
    pub(super) fn set_drained(&self, own: usize, has_drained: bool) {
        self.reactors[own].drained.store(has_drained, Ordering::Release);
    }

    /// Takes note whether no connection is left at the reactor `own`. Returns whether none is left anywhere: then all may end, and
    /// the others are woken to do so.
    pub(super) fn set_left(&self, own: usize, has_left: bool) -> bool {
        let had_left = self.reactors[own].left.swap(has_left, Ordering::AcqRel);
        let have_all_left = has_left && self.reactors.iter().all(|slot| slot.left.load(Ordering::Acquire));
        if have_all_left && !had_left {
            for slot in &self.reactors {
                slot.notifier.notify();
            }
        }
        have_all_left
    }

    /// Connections of a share over all reactors.
    pub(super) fn of_share(&self, share: Share) -> usize {
        self.shares[share as usize].load(Ordering::Relaxed)
    }

    /// A connection of the share `from` belongs to the share `to` from now on.
    pub(super) fn change_share(&self, from: Share, to: Share) {
        self.shares[from as usize].fetch_sub(1, Ordering::Relaxed);
        self.shares[to as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a connection that is refused or closed for want of room. Once a minute at most, for all reactors together: how
    /// many there were since the log said so last.
    pub(super) fn on_no_room(&self, now: Moment) -> Option<u64> {
        self.exhausted.count(now)
    }

    /// Finds a reactor for a connection that the reactor `own` has accepted: gives it back if it is to stay, as each does that
    /// comes when its share already has `most` connections. Those on their way elsewhere hold a descriptor that cannot be
    /// taken back.
    pub(super) fn assign(&self, accepted: Accepted<S>, own: usize, most: usize) -> Option<Accepted<S>> {
        let count = |index: &usize| self.reactors[*index].count.load(Ordering::Relaxed);
        let emptiest = (0..self.reactors.len()).min_by_key(count).unwrap_or(own);
        let before = self.shares[Share::of_listener(accepted.admin) as usize].fetch_add(1, Ordering::Relaxed);
        let goes_to = if count(&emptiest) < count(&own) && before < most { emptiest } else { own };
        let slot = &self.reactors[goes_to];
        slot.count.fetch_add(1, Ordering::Relaxed);
        if goes_to == own {
            return Some(accepted);
        }
        match slot.arrivals_in.try_send(Arrival::Fresh(accepted)) {
            Ok(()) => {
                slot.notifier.notify();
                None
            }
            Err(TrySendError::Full(arrival) | TrySendError::Disconnected(arrival)) => {
                slot.count.fetch_sub(1, Ordering::Relaxed);
                self.reactors[own].count.fetch_add(1, Ordering::Relaxed);
                match arrival {
                    Arrival::Fresh(accepted) => Some(accepted),
                    Arrival::Passed(_) => None,
                }
            }
        }
    }

    /// Passes a connection on to the reactor `to`; gives it back if too many wait there. It is counted here until the
    /// caller says that it has left.
    pub(super) fn pass(&self, passed: Box<Passed<S>>, to: usize) -> Result<(), Box<Passed<S>>> {
        let slot = &self.reactors[to];
        match slot.arrivals_in.try_send(Arrival::Passed(passed)) {
            Ok(()) => {
                slot.count.fetch_add(1, Ordering::Relaxed);
                slot.notifier.notify();
                Ok(())
            }
            Err(TrySendError::Full(Arrival::Passed(passed)) | TrySendError::Disconnected(Arrival::Passed(passed))) => {
                Err(passed)
            }
            Err(_) => Ok(()),
        }
    }

    /// How many reactors there are.
    pub(super) fn reactors(&self) -> usize {
        self.reactors.len()
    }

    /// Counts a connection that stays with the reactor `own`, which has accepted it.
    pub(super) fn keep(&self, own: usize, share: Share) {
        self.reactors[own].count.fetch_add(1, Ordering::Relaxed);
        self.shares[share as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// The next connection handed to the reactor `own`.
    pub(super) fn next_arrival(&self, own: usize) -> Option<Arrival<S>> {
        self.reactors[own].arrivals_out.try_recv().ok()
    }

    pub(super) fn is_empty(&self, own: usize) -> bool {
        self.reactors[own].arrivals_out.is_empty()
    }

    /// Counts one more connection from `peer`: by how many that makes more than `most`. Zero is no limit.
    pub(super) fn count_address(&self, peer: Option<IpAddr>, most: usize) -> usize {
        let (Some(address), 1..) = (peer, most) else { return 0 };
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_insert(0);
        *count += 1;
        count.saturating_sub(most)
    }

    /// A connection of the reactor `own` is gone.
    pub(super) fn on_gone(&self, own: usize, share: Share) {
        self.on_left(own);
        self.shares[share as usize].fetch_sub(1, Ordering::Relaxed);
    }

    /// A connection of the reactor `own` is another reactor's now.
    pub(super) fn on_left(&self, own: usize) {
        self.reactors[own].count.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts one connection less from `peer`.
    pub(super) fn uncount_address(&self, peer: Option<IpAddr>) {
        let Some(address) = peer else { return };
        let mut counts = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&address);
            }
        }
    }
}

/// Logs how many connections there was no room for, in one line a minute instead of one for each.
#[derive(Debug, Default)]
struct ExhaustedLog {
    /// When it was logged last, in nanoseconds; zero: never.
    logged_ns: AtomicU64,
    since: AtomicU64,
}

/// How often the log says so at most.
const EXHAUSTED_LOG_INTERVAL: Duration = Duration::from_secs(60);

impl ExhaustedLog {
    fn count(&self, now: Moment) -> Option<u64> {
        self.since.fetch_add(1, Ordering::Relaxed);
        let logged_ns = self.logged_ns.load(Ordering::Relaxed);
        if logged_ns != 0 && now.since(Moment(logged_ns)) < EXHAUSTED_LOG_INTERVAL {
            return None;
        }
        let swapped = self.logged_ns.compare_exchange(logged_ns, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed);
        swapped.is_ok().then(|| self.since.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_room_is_logged_once_a_minute() {
        let log = ExhaustedLog::default();
        let logged = |ms: u64| log.count(Moment(0) + Duration::from_millis(ms));
        assert_eq!([logged(0), logged(1), logged(59_000)], [Some(1), None, None]);
        assert_eq!([logged(60_001), logged(60_002), logged(130_000)], [Some(3), None, Some(2)]);
    }
}
