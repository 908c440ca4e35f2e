//! A set of reactors, one bit each.

/// The most reactors a hub can have: one bit each.
pub const REACTORS_MAX: usize = 128;

/// A set of reactors, by index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReactorSet(u128);

impl ReactorSet {
    /// Adds `reactor`. True if it was not in the set.
    pub fn insert(&mut self, reactor: usize) -> bool {
        let was = self.contains(reactor);
        self.0 |= 1 << reactor;
        !was
    }

    /// Removes `reactor`. True if it was in the set.
    pub fn remove(&mut self, reactor: usize) -> bool {
        let was = self.contains(reactor);
        self.0 &= !(1 << reactor);
        was
    }

    /// Whether `reactor` is in the set.
    pub fn contains(self, reactor: usize) -> bool {
        self.0 & (1 << reactor) != 0
    }

    /// Whether the set is empty.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The members, lowest first.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let lowest = rest.trailing_zeros() as usize;
            rest &= rest.wrapping_sub(1);
            (lowest < REACTORS_MAX).then_some(lowest)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_both_ends() {
        let mut set = ReactorSet::default();
        assert!(set.insert(127) && set.insert(0) && set.insert(64) && !set.insert(64));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 64, 127]);
        assert!(set.remove(64) && !set.remove(64));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 127]);
    }
}
