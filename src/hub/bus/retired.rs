//! The last positions of topics that ended.

use std::collections::HashMap;

use crate::event::Position;

/// The last position of each topic that ended because nobody used it. If the topic is used again, its log goes on from there: an
/// id never names two events, and a reader that has everything gets no gap.
#[derive(Debug, Default)]
pub(super) struct RetiredPositions {
    /// By the hash of the name. Two topics of one hash both go on from the higher position.
    positions: HashMap<u64, Position, foldhash::fast::RandomState>,
    /// The highest position of all topics that are not in `positions`.
    floor: Position,
}

/// The most topics remembered: about 2 MiB.
const RETIRED_MAX: usize = 65_536;

impl RetiredPositions {
    /// Records that the topic of this hash ended at `position`.
    pub(super) fn remember(&mut self, topic: u64, position: Position) {
        if self.positions.len() == RETIRED_MAX {
            self.floor = self.positions.drain().map(|(_, position)| position).max().unwrap_or_default().max(self.floor);
        }
        let known = self.positions.entry(topic).or_default();
        *known = position.max(*known);
    }

    /// The position after which the topic of this hash goes on.
    pub(super) fn last_position(&self, topic: u64) -> Position {
        self.positions.get(&topic).copied().unwrap_or(self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_back_goes_on_and_who_is_forgotten_never_goes_back() {
        let mut retired = RetiredPositions::default();
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
