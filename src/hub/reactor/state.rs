//! The state of a connection in two bytes: how far it is in its life, and flags that do not depend on that.

/// How far a connection is in its life. It only ever goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub(super) enum Life {
    /// Serves its session.
    Open = 0,
    /// Its session has ended: what it is owed is written, then our direction is closed.
    Closing = 1,
    /// Our direction is closed. What the peer still sends is read and dropped, until the peer closes too.
    Lingering = 2,
    /// To be freed at the end of the turn.
    ToFree = 3,
}

/// The life in the lowest two bits, flags above. All zero for an open stream that keeps up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    bits: u16,
}

/// The bits of [`Life`].
const LIFE: u16 = 3;
/// Set in [`Life::Lingering`] and [`Life::ToFree`]: nothing is written any more.
const PAST_WRITING: u16 = 2;

/// The peer's window is full: the next writable edge goes on.
pub(super) const BLOCKED: u16 = 1 << 2;
/// On the list of connections to flush before the reactor sleeps.
pub(super) const DIRTY: u16 = 1 << 3;
/// Waits for a topic to become live before its first bytes go out.
pub(super) const HELD: u16 = 1 << 4;
/// On the list of connections that stopped early and have more to read.
pub(super) const READ_AGAIN: u16 = 1 << 5;
/// The peer sends no more, but waits for an answer.
pub(super) const PEER_ENDED: u16 = 1 << 6;
/// Was blocked, and has not come to the head of all its topics since: its own flush brings it there, not a lap.
pub(super) const BEHIND: u16 = 1 << 7;
/// Some of its subscriptions are replayed from the archive, from an old id to the log.
pub(super) const REPLAYING: u16 = 1 << 8;
/// A session that requests carry: it has no socket, and a poll fetches what it is owed.
pub(super) const DETACHED: u16 = 1 << 9;
/// A poll waits for news of it. Only with [`DETACHED`].
pub(super) const POLL_PENDING: u16 = 1 << 10;
/// It does not count as a connection yet: its client has entered no namespace. Only with [`DETACHED`].
pub(super) const UNCOUNTED: u16 = 1 << 11;
/// A subscription of it began behind the head of its topic, and its own flush has not brought it there. What it is sent until
/// then is history: how long ago that was accepted says nothing of the hub, so it is not measured.
pub(super) const FROM_HISTORY: u16 = 1 << 12;
/// Its last request was refused by a quota, or for want of a good token: it is read with the connections that stopped early.
pub(super) const OVER_QUOTA: u16 = 1 << 13;
/// A long message of its client is being checked. It is not read meanwhile.
pub(super) const CHECKING: u16 = 1 << 14;
/// It is not read, and its next request waits, until its peer has read more of its answers. The flush that makes room clears it.
pub(super) const AWAITS_READER: u16 = 1 << 15;

impl State {
    /// Whether one of these flags is set.
    #[inline]
    pub(super) fn has(self, flags: u16) -> bool {
        self.bits & flags != 0
    }

    pub(super) fn set(&mut self, flags: u16) {
        debug_assert_eq!(flags & LIFE, 0, "a life is entered, not set");
        self.bits |= flags;
    }

    pub(super) fn clear(&mut self, flags: u16) {
        debug_assert_eq!(flags & LIFE, 0, "a life does not go back");
        self.bits &= !flags;
    }

    /// Whether its carrier is a socket of its own. Otherwise what it is owed waits for polls, whose answers carry it.
    pub(super) fn has_socket(self) -> bool {
        !self.has(DETACHED)
    }

    pub(super) fn life(self) -> Life {
        match self.bits & LIFE {
            0 => Life::Open,
            1 => Life::Closing,
            2 => Life::Lingering,
            _ => Life::ToFree,
        }
    }

    #[inline]
    pub(super) fn is_open(self) -> bool {
        self.bits & LIFE == 0
    }

    /// Goes on to `life`. False if it has come that far already.
    pub(super) fn enter(&mut self, life: Life) -> bool {
        let goes_on = self.life() < life;
        if goes_on {
            self.bits = self.bits & !LIFE | life as u16;
        }
        goes_on
    }

    /// Whether a lap may write to it at once: nothing is owed to it before the log.
    #[inline]
    pub(super) fn is_clear(self) -> bool {
        self.bits & !(READ_AGAIN | PEER_ENDED | REPLAYING | OVER_QUOTA | CHECKING | AWAITS_READER) == 0
    }

    /// Whether its own flush may write the log to it.
    pub(super) fn may_catch_up(self) -> bool {
        let independent =
            READ_AGAIN | PEER_ENDED | REPLAYING | BEHIND | OVER_QUOTA | FROM_HISTORY | CHECKING | AWAITS_READER;
        self.bits & !independent == 0
    }

    /// Whether its own flush may write what it is owed.
    pub(super) fn may_flush(self) -> bool {
        self.bits & (BLOCKED | HELD | PAST_WRITING) == 0
    }

    /// Whether what the client sends is read.
    pub(super) fn may_receive(self) -> bool {
        self.bits & (LIFE | CHECKING) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVES: [Life; 4] = [Life::Open, Life::Closing, Life::Lingering, Life::ToFree];

    #[test]
    fn a_life_goes_on_and_not_back() {
        for from in LIVES {
            for to in LIVES {
                let mut state = State::default();
                state.set(BLOCKED | CHECKING);
                state.enter(from);
                assert_eq!(state.enter(to), from < to, "{from:?} to {to:?}");
                assert_eq!(state.life(), from.max(to), "{from:?} to {to:?}");
                assert!(state.has(BLOCKED) && state.has(CHECKING), "flags stay");
            }
        }
    }

    #[test]
    fn what_a_state_allows() {
        // Whether a lap writes, its own flush writes the log, its own flush writes what is owed, and its client is read.
        let check = |life: Life, flags: u16, expected: [bool; 4]| {
            let mut state = State::default();
            state.set(flags);
            state.enter(life);
            let found = [state.is_clear(), state.may_catch_up(), state.may_flush(), state.may_receive()];
            assert_eq!(found, expected, "{life:?} {flags:b}");
            assert_eq!(state.is_open(), life == Life::Open);
        };
        check(Life::Open, 0, [true, true, true, true]);
        check(Life::Open, READ_AGAIN | PEER_ENDED | REPLAYING | OVER_QUOTA | AWAITS_READER, [true, true, true, true]);
        check(Life::Open, CHECKING, [true, true, true, false]);
        check(Life::Open, BEHIND, [false, true, true, true]);
        check(Life::Open, FROM_HISTORY, [false, true, true, true]);
        check(Life::Open, DIRTY, [false, false, true, true]);
        check(Life::Open, BLOCKED, [false, false, false, true]);
        check(Life::Open, HELD, [false, false, false, true]);
        check(Life::Open, DETACHED, [false, false, true, true]);
        check(Life::Closing, 0, [false, false, true, false]);
        check(Life::Closing, BLOCKED, [false, false, false, false]);
        check(Life::Lingering, 0, [false, false, false, false]);
        check(Life::ToFree, 0, [false, false, false, false]);
    }

    #[test]
    fn a_detached_session_has_no_socket() {
        let mut state = State::default();
        assert!(state.has_socket());
        state.set(DETACHED);
        assert!(!state.has_socket());
    }
}
