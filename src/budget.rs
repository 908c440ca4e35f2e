//! The memory budget: one number for all logs, outboxes and half-received requests of the process.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts the bytes held against a limit. When half of it is used, logs begin to shorten; when all of it is, nothing
/// more is taken in until something is let go.
#[derive(Debug)]
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// Bytes held against a [`Budget`], given back when it is dropped.
#[derive(Debug, Default)]
pub struct Charge {
    budget: Option<Arc<Budget>>,
    bytes: AtomicUsize,
}

/// The part of a budget that is not for taking in.
const RESERVE: usize = 64;

/// The steps in which logs shorten.
const STEPS: usize = 16;

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { limit, used: AtomicUsize::new(0) }
    }

    /// One that is never spent.
    pub fn unlimited() -> Self {
        Self::new(usize::MAX)
    }

    /// The limit, in bytes.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The bytes held.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether nothing more is to be taken in: a sixty-fourth is kept for what cannot be refused, and because hardly
    /// anything fits into the last few bytes.
    pub fn is_spent(&self) -> bool {
        self.limit - self.limit / RESERVE <= self.used()
    }

    /// Whether logs are shortened.
    pub fn is_tight(&self) -> bool {
        self.limit / 2 < self.used()
    }

    /// `bound` as it is to be at present: whole while less than half of the budget is used, nothing when all is.
    pub fn shorten(&self, bound: usize) -> usize {
        let half = self.limit / 2;
        let over = self.used().saturating_sub(half);
        if over == 0 {
            return bound;
        }
        let step = (half / STEPS).max(1);
        let kept = STEPS.saturating_sub(over.div_ceil(step));
        // Divided first: a bound may be the largest number there is.
        bound / STEPS * kept + bound % STEPS * kept / STEPS
    }

    /// Takes `bytes`, if there is room for them.
    pub fn try_charge(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if self.limit.saturating_sub(before) < bytes {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Charge { budget: Some(Arc::clone(self)), bytes: AtomicUsize::new(bytes) })
    }

    /// Takes `bytes` in any case: for what cannot be refused, and is small or short-lived.
    pub fn charge(self: &Arc<Self>, bytes: usize) -> Charge {
        self.used.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Some(Arc::clone(self)), bytes: AtomicUsize::new(bytes) }
    }

    /// Corrects what is held from `before` to `after` bytes, for an owner that keeps the number itself.
    pub fn adjust(&self, before: usize, after: usize) {
        if before <= after {
            self.used.fetch_add(after - before, Ordering::Relaxed);
        } else {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }
}

impl Charge {
    /// Takes `bytes` more in any case.
    pub fn grow(&self, bytes: usize) {
        if let Some(budget) = &self.budget {
            budget.used.fetch_add(bytes, Ordering::Relaxed);
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
    }

    /// Whether more than half of the budget is used.
    pub fn is_tight(&self) -> bool {
        self.budget.as_ref().is_some_and(|budget| budget.is_tight())
    }

    /// Takes `bytes` more; false, and nothing is taken, if there is no room for them.
    pub fn try_grow(&self, bytes: usize) -> bool {
        let Some(budget) = &self.budget else { return true };
        let before = budget.used.fetch_add(bytes, Ordering::Relaxed);
        if budget.limit.saturating_sub(before) < bytes {
            budget.used.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(budget) = &self.budget {
            budget.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_there_is() {
        let budget = Arc::new(Budget::new(100));
        let first = budget.try_charge(60).expect("room");
        assert!(budget.try_charge(41).is_none());
        assert!(!first.try_grow(41));
        assert!(first.try_grow(40));
        assert!(budget.is_spent());
        drop(first);
        assert_eq!(budget.used(), 0);
        let forced = budget.charge(150);
        assert!(budget.is_spent() && budget.try_charge(1).is_none());
        drop(forced);
        assert_eq!(budget.used(), 0);
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
            let budget = Budget::new(3200);
            budget.adjust(0, used);
            assert_eq!(budget.shorten(bound), expected, "{used} {bound}");
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
        assert_eq!(unlimited.shorten(7), 7);
    }
}
