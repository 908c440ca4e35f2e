//! Topics that are gone: how far their ids had come.

use std::collections::HashMap;

use crate::event::Position;

/// Where topics that nobody used any more had come to: one that comes back goes on from there, so that an id never names
/// two events, and a reader that has everything is not told of a gap.
#[derive(Debug, Default)]
pub(super) struct Retired {
    /// By the hash of the name. Two topics that share a place both go on from the higher.
    positions: HashMap<u64, Position, foldhash::fast::RandomState>,
    /// No topic that is not in `positions` had come further.
    floor: Position,
}

/// Topics remembered beyond their end, about 2 MiB.
const RETIRED_MAX: usize = 65_536;

impl Retired {
    /// The topic of this hash had come to `position`.
    pub(super) fn remember(&mut self, topic: u64, position: Position) {
        if self.positions.len() == RETIRED_MAX {
            self.floor = self.positions.drain().map(|(_, position)| position).max().unwrap_or_default().max(self.floor);
        }
        let known = self.positions.entry(topic).or_default();
        *known = position.max(*known);
    }

    /// Where a topic that comes back goes on from.
    pub(super) fn last_position(&self, topic: u64) -> Position {
        self.positions.get(&topic).copied().unwrap_or(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_goes_on_and_who_is_forgotten_never_goes_back() {
        let mut retired = Retired::default();
        retired.remember(1, 7);
        retired.remember(1, 5);
        assert_eq!((retired.last_position(1), retired.last_position(2)), (7, 0));
        (2..=RETIRED_MAX as u64 + 1).for_each(|topic| retired.remember(topic, 3));
        assert_eq!(
            (retired.last_position(1), retired.last_position(0)),
            (7, 7),
            "all go on from the highest forgotten"
        );
        assert!(retired.positions.len() <= RETIRED_MAX);
    }
}
