//! The memory budget: one number for all logs, outboxes and half-received requests of the process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use crate::share::{Owner, QuotaRefused};

/// Counts bytes against a limit. Above half of the limit logs shorten; at the limit nothing more is accepted until bytes are
/// released.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes charged to a [`Budget`], released on drop.
#[derive(Debug, Default)]
pub struct Charge {
    budget: Option<Arc<Budget>>,
    bytes: AtomicUsize,
    /// The tenant that the bytes are charged to as well, if any.
    owner: Option<Arc<Owner>>,
}

/// How much of a limit is used.
#[derive(Clone, Copy, Debug)]
pub struct Pressure {
    /// The bytes in use.
    pub used: usize,
    /// The most bytes.
    pub limit: usize,
}

/// Why bytes cannot be charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChargeRefused {
    /// The budget has no room.
    NoRoom,
    /// The owner's share has no room.
    Quota(QuotaRefused),
}

/// The fraction of a budget that is kept for charges that cannot be refused.
const RESERVE: usize = 64;

/// The number of steps in which logs shorten.
const STEPS: usize = 16;

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// A budget without a limit.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes in use.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether nothing more is accepted. A sixty-fourth of the limit is kept for charges that cannot be refused.
    pub fn is_spent(&self) -> bool {
        self.limit - self.limit / RESERVE <= self.used()
    }

    /// How much of the limit is used.
    pub fn pressure(&self) -> Pressure {
        Pressure { used: self.used(), limit: self.limit }
    }

    /// Whether logs are shortened.
    pub fn is_tight(&self) -> bool {
        self.pressure().is_tight()
    }

    /// Charges `bytes`, if there is room.
    pub fn try_charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if self.limit.saturating_sub(before) < bytes {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Charge { budget: Some(Arc::clone(self)), bytes: AtomicUsize::new(bytes), owner: None })
    }

    /// Charges `bytes` to the budget and to `owner`, if both have room.
    pub fn try_charge_for(self: &Arc<Self>, owner: Option<&Arc<Owner>>, bytes: usize) -> Result<Charge, ChargeRefused> {
        let Some(owner) = owner else { return self.try_charge(bytes).ok_or(ChargeRefused::NoRoom) };
        owner.try_take_bytes(bytes).map_err(ChargeRefused::Quota)?;
        match self.try_charge(bytes) {
            Some(mut charge) => {
                charge.owner = Some(Arc::clone(owner));
                Ok(charge)
            }
            None => {
                owner.return_bytes(bytes);
                Err(ChargeRefused::NoRoom)
            }
        }
    }

    /// Charges `bytes` even beyond the limit: for what cannot be refused and is small or short-lived.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Some(Arc::clone(self)), bytes: AtomicUsize::new(bytes), owner: None }
    }

    /// Changes a charge from `before` to `after` bytes, for a caller that keeps the number itself.
    pub fn adjust(&self, before: usize, after: usize) {
        if before <= after {
            self.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

impl Charge {
    /// Charges `bytes` more, even beyond the limit.
    pub fn grow(&self, bytes: usize) {
        if let Some(budget) = &self.budget {
            budget.used.fetch_add(bytes, Ordering::Relaxed);
            self.note(bytes);
        }
    }

    /// The pressure of the owner's tightest share.
    pub(crate) fn owner_pressure(&self) -> Pressure {
        self.owner.as_ref().map(|owner| owner.pressure()).unwrap_or_default()
    }

    fn note(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Some(owner) = &self.owner {
            owner.take_bytes(bytes);
        }
    }

    /// Whether more than half of the budget is used.
    pub fn is_tight(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_tight())
    }

    /// Charges `bytes` more, for what can be made again. False, and nothing is charged, if more than three quarters of the budget
    /// would be used: the rest is for what cannot, or a budget full of copies would refuse events for as long as it keeps them.
    pub(crate) fn try_grow_copy(&self, bytes: usize) -> bool {
        let Some(budget) = &self.budget else { return true };
        let before = budget.used.fetch_add(bytes, Ordering::Relaxed);
        if (budget.limit - budget.limit / 4).saturating_sub(before) < bytes {
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.note(bytes);
        true
    }
}

impl Pressure {
    /// Whether logs are shortened.
    pub fn is_tight(self) -> bool {
        self.limit / 2 < self.used
    }

    /// The part of `bound` to apply: all of it while less than half of the limit is used, nothing at the limit.
    pub fn shorten(self, bound: usize) -> usize {
        let half = self.limit / 2;
        let over = self.used.saturating_sub(half);
        if over == 0 {
            return bound;
        }
        let step = (half / STEPS).max(1);
        let kept = STEPS.saturating_sub(over.div_ceil(step));
        // Divided first: a bound may be the largest number there is.
        bound / STEPS * kept + bound % STEPS * kept / STEPS
    }

    /// Whichever of the two has used more of its limit.
    #[must_use]
    pub(crate) fn or_tighter(self, other: Self) -> Self {
        let [of_self, of_other] = [(self, other), (other, self)].map(|(one, by)| one.used as u128 * by.limit as u128);
        if of_self < of_other { other } else { self }
    }
}

/// No pressure.
impl Default for Pressure {
    fn default() -> Self {
        Self { used: 0, limit: usize::MAX }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            let bytes = *self.bytes.get_mut();
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
            if let Some(owner) = &self.owner {
                owner.return_bytes(bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::share::{Account, HeldLimits};

    #[test]
    fn takes_no_more_than_there_is() {
        let budget = Arc::new(Budget::new(100));
        let first = budget.try_charge(60).expect("room");
        assert!(budget.try_charge(41).is_none());
        assert!(!first.try_grow_copy(16), "the last quarter is for what cannot be made again");
        assert!(first.try_grow_copy(15));
        let rest = budget.try_charge(25).expect("room");
        assert!(budget.is_spent());
        drop((first, rest));
        assert_eq!(budget.used(), 0);
        let forced = budget.charge(150);
        assert!(budget.is_spent() && budget.try_charge(1).is_none());
        drop(forced);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn an_owner_holds_what_is_charged_for_it() {
        let budget = Arc::new(Budget::new(1000));
        let account =
            Arc::new(Account::new("narrow", HeldLimits { bytes: 100, topics: usize::MAX, connections: usize::MAX }));
        let owner = Arc::new(Owner::new([Arc::clone(&account)]));
        let charge = budget.try_charge_for(Some(&owner), 80).expect("room");
        assert!(matches!(budget.try_charge_for(Some(&owner), 21), Err(ChargeRefused::Quota(_))));
        assert_eq!((budget.used(), account.bytes()), (80, 80));
        assert!(charge.owner_pressure().is_tight() && !budget.is_tight());
        assert!(charge.try_grow_copy(30), "what belongs to it is not refused for the share");
        assert_eq!(account.bytes(), 110);
        let rest = budget.charge(890);
        assert!(matches!(budget.try_charge_for(None, 1), Err(ChargeRefused::NoRoom)));
        drop((charge, rest));
        assert_eq!((budget.used(), account.bytes()), (0, 0));
    }

    #[test]
    fn the_tighter_pressure() {
        let pressure = |used, limit| Pressure { used, limit };
        let check = |one: Pressure, other: Pressure, expected: usize| {
            assert_eq!((one.or_tighter(other).used, other.or_tighter(one).used), (expected, expected));
        };
        check(pressure(1, 10), pressure(30, 100), 30);
        check(pressure(7, usize::MAX), pressure(1, 1000), 1);
    }

    #[test]
    fn is_spent_when_hardly_anything_fits() {
        let budget = Budget::new(6400);
        budget.adjust(0, 6299);
        assert!(!budget.is_spent());
        budget.adjust(0, 1);
        assert!(budget.is_spent());
        assert!(!Budget::unlimited().is_spent());
    }

    #[test]
    fn shortens_step_by_step() {
        let check = |used: usize, bound: usize, expected: usize| {
            let pressure = Pressure { used, limit: 3200 };
            assert_eq!(pressure.shorten(bound), expected, "{used} {bound}");
        };
        check(0, 100, 100);
        check(1600, 100, 100);
        check(1601, 160, 150);
        check(2400, 160, 80);
        check(2400, usize::MAX, usize::MAX / 2);
        check(3199, 160, 0);
        check(9999, 160, 0);
        let unlimited = Budget::unlimited();
        unlimited.adjust(0, 1 << 50);
        assert_eq!(unlimited.pressure().shorten(7), 7);
    }
}
