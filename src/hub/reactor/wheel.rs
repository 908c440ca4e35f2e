//! The timer wheel: one coarse deadline per connection.
//!
//! A slot of the wheel is a list of connections, threaded through one array, so that arming and disarming touch nothing
//! but numbers. Deadlines beyond one revolution are looked at once per revolution and put back.

use std::time::Duration;

use crate::{clock::Moment, index::Slot};

/// 2^27 ns, about 134 ms: deadlines here are seconds, and this many connections share a wake-up.
const TICK_BITS: u32 = 27;
const SLOTS: usize = 256;
const NONE: Slot = Slot::NONE;

/// Deadlines by connection slot.
#[derive(Debug)]
pub(super) struct Wheel {
    heads: [Slot; SLOTS],
    links: Vec<Link>,
    /// The last tick that has been handled.
    done: u64,
    armed: usize,
}

#[derive(Clone, Copy, Debug)]
struct Link {
    previous: Slot,
    next: Slot,
    /// The tick it is due at; zero: not armed.
    due: u64,
}

const UNARMED: Link = Link { previous: NONE, next: NONE, due: 0 };

impl Wheel {
    /// Nothing armed.
    pub(super) fn new(now: Moment) -> Self {
        Self { heads: [NONE; SLOTS], links: Vec::new(), done: tick(now), armed: 0 }
    }

    /// Sets the deadline of `slot`, instead of the one it has.
    pub(super) fn arm(&mut self, slot: Slot, deadline: Moment) {
        self.disarm(slot);
        if self.links.len() <= slot.get() {
            self.links.resize(slot.get() + 1, UNARMED);
        }
        // Rounded up, and never into the past, so that nothing fires early or is passed over.
        let due = (tick(deadline) + 1).max(self.done + 1);
        let head = &mut self.heads[due as usize % SLOTS];
        self.links[slot.get()] = Link { previous: NONE, next: *head, due };
        if *head != NONE {
            self.links[head.get()].previous = slot;
        }
        *head = slot;
        self.armed += 1;
    }

    /// Takes the deadline of `slot` away, if it has one.
    pub(super) fn disarm(&mut self, slot: Slot) {
        let Some(link) = self.links.get_mut(slot.get()) else { return };
        if link.due == 0 {
            return;
        }
        let Link { previous, next, due } = std::mem::replace(link, UNARMED);
        match previous {
            NONE => self.heads[due as usize % SLOTS] = next,
            before => self.links[before.get()].next = next,
        }
        if next != NONE {
            self.links[next.get()].previous = previous;
        }
        self.armed -= 1;
    }

    /// How long from `now` until something may be due.
    pub(super) fn next_wait(&self, now: Moment) -> Option<Duration> {
        if self.armed == 0 {
            return None;
        }
        let ahead = (1..=SLOTS as u64).find(|ahead| self.heads[(self.done + ahead) as usize % SLOTS] != NONE)?;
        Some(Moment((self.done + ahead) << TICK_BITS).since(now))
    }

    /// Disarms what is due at `now` and appends its slots to `due`, at most `most` of them; what is left comes next time.
    pub(super) fn expire(&mut self, now: Moment, most: usize, due: &mut Vec<Slot>) {
        let now_tick = tick(now);
        // After a long sleep one revolution is enough to see every list.
        self.done = self.done.max(now_tick.saturating_sub(SLOTS as u64));
        while self.done < now_tick {
            let turning = self.done + 1;
            let mut slot = self.heads[turning as usize % SLOTS];
            while slot != NONE {
                if due.len() == most {
                    return;
                }
                let Link { next, due: due_tick, .. } = self.links[slot.get()];
                if due_tick <= now_tick {
                    self.disarm(slot);
                    due.push(slot);
                }
                slot = next;
            }
            self.done = turning;
        }
    }
}

fn tick(moment: Moment) -> u64 {
    moment.0 >> TICK_BITS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn run(wheel: &mut Wheel, now: Moment) -> Vec<usize> {
        let mut due = Vec::new();
        wheel.expire(now, usize::MAX, &mut due);
        due.sort_unstable();
        due.into_iter().map(Slot::get).collect()
    }

    #[test]
    fn fires_not_before_and_soon_after() {
        let start = Moment(5_000_000_000);
        for delay_ms in [0, 1, 133, 134, 500, 10_000, 34_000, 35_000, 100_000] {
            let mut wheel = Wheel::new(start);
            let deadline = start + Duration::from_millis(delay_ms);
            wheel.arm(Slot::new(7), deadline);
            let mut now = start;
            let mut fired = None;
            while fired.is_none() {
                let wait = wheel.next_wait(now).expect("armed");
                now = now + wait.max(Duration::from_millis(1));
                if run(&mut wheel, now) == [7] {
                    fired = Some(now);
                }
            }
            let late = fired.expect("fired").since(deadline);
            assert!(deadline <= fired.expect("fired") && late <= Duration::from_millis(270), "{delay_ms}: {late:?}");
            assert_eq!(wheel.next_wait(now), None);
        }
    }

    #[test]
    fn disarmed_and_rearmed() {
        let start = Moment(0);
        let mut wheel = Wheel::new(start);
        (0..10).for_each(|slot| wheel.arm(Slot::new(slot), start + SECOND));
        wheel.disarm(Slot::new(3));
        wheel.disarm(Slot::new(3));
        wheel.disarm(Slot::new(99));
        wheel.arm(Slot::new(4), start + 3 * SECOND);
        assert_eq!(run(&mut wheel, start + 2 * SECOND), [0, 1, 2, 5, 6, 7, 8, 9]);
        assert_eq!(run(&mut wheel, start + 4 * SECOND), [4]);
    }

    #[test]
    fn a_long_sleep_misses_nothing() {
        let mut wheel = Wheel::new(Moment(0));
        (0..100).for_each(|slot| wheel.arm(Slot::new(slot), Moment(0) + SECOND * slot as u32));
        assert_eq!(run(&mut wheel, Moment(0) + 1000 * SECOND).len(), 100);
    }

    #[test]
    fn a_budget_leaves_the_rest_for_the_next_call() {
        let mut wheel = Wheel::new(Moment(0));
        (0..100).for_each(|slot| wheel.arm(Slot::new(slot), Moment(0) + SECOND));
        let mut due = Vec::new();
        wheel.expire(Moment(0) + 2 * SECOND, 30, &mut due);
        assert_eq!(due.len(), 30);
        assert_eq!(run(&mut wheel, Moment(0) + 2 * SECOND).len(), 70);
    }
}
