//! Where a subscription begins.

use crate::{
    clock::Moment,
    event::{EventId, Position, Start},
    gap::{Gap, GapReason},
    log::{Bounds, Ring},
};

/// What decides where a subscription begins, besides the log.
#[derive(Clone, Copy, Debug)]
pub(super) struct BeginningFacts<'a> {
    /// What newcomers may ask for.
    pub(super) history: &'a Bounds,
    /// Whether a broker keeps more of the topic than the log here.
    pub(super) is_archived: bool,
    /// Whether each hub gives the same event another id.
    pub(super) ids_differ_per_hub: bool,
    /// Whether the client learns of a gap from a close frame, and comes back with the id that the frame names.
    pub(super) ends_for_gaps: bool,
    /// Whether the broker refuses the hub the topic for the time being.
    pub(super) is_refused: bool,
    pub(super) now: Moment,
}

/// Where a subscription begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// What the client has if it gets what follows: known even if no event ever came, so that it can resume.
    pub(super) before: EventId,
    pub(super) source: BeginningSource,
}

/// Where the first events of a subscription come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BeginningSource {
    /// The log here, from this position on, behind this gap.
    Log(Position, Option<Gap>),
    /// The archive, behind this id, until the log joins on.
    Archive(EventId),
}

/// Where in `ring` a subscription begins that wants `start`.
pub(super) fn beginning(ring: &Ring, start: Start, facts: &BeginningFacts<'_>) -> Beginning {
    let former = match start {
        // A client with the very id at which the new log begins has been told, if it knows no ids but those that it was told.
        Start::After(seen) if facts.is_archived => {
            ring.former_gap(seen).filter(|gap| !facts.ends_for_gaps || gap.to != seen)
        }
        _ => None,
    };
    let (cursor, gap) = match ring.start_position(start, facts.history, facts.now) {
        _ if former.is_some() => (ring.epoch() + 1, former),
        Ok(cursor) => (cursor, None),
        // What is retained here may have been seen there, under other ids.
        Err(gap) if gap.reason == GapReason::Epoch && facts.ids_differ_per_hub => {
            (ring.next(), Some(Gap { to: ring.newest_id(), ..gap }))
        }
        Err(gap) => (ring.oldest(), Some(gap)),
    };
    let before = gap.map_or_else(|| ring.id_before(cursor), |gap| gap.from);
    // No event may ever follow, so the client learns of it at once. How much it misses shows when the source delivers again.
    let refused = Gap { from: before, to: before, reason: GapReason::SourceLost };
    let gap = gap.or_else(|| (facts.is_refused && !facts.is_archived).then_some(refused));
    let source = match gap {
        Some(gap) if facts.is_archived && former.is_none() => BeginningSource::Archive(gap.from),
        gap => BeginningSource::Log(cursor, gap),
    };
    Beginning { before, source }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;

    use super::{BeginningSource::Archive, *};
    use crate::{event::Event, topic::Topic};

    const ALL: Bounds = Bounds { count: 100, bytes: 1 << 20, age: Duration::from_secs(100) };
    const NOW: Moment = Moment(20_000_000_000);

    fn id(minor: u64) -> EventId {
        EventId::new(7, minor)
    }

    /// The events 5 to 10; those before are retained no more.
    fn ring(is_sparse: bool) -> Ring {
        let mut ring = if is_sparse { Ring::sparse(5, id(4)) } else { Ring::new(5, id(4)) };
        for position in 5..=10 {
            let topic = Topic::parse("t").expect("a good name");
            let event = Event::new(topic, id(position), position, None, Bytes::from_static(b"x"), Moment(position));
            ring.push(Arc::new(event));
        }
        ring
    }

    fn log(position: Position) -> BeginningSource {
        BeginningSource::Log(position, None)
    }

    fn behind_gap(position: Position, from: EventId, to: EventId, reason: GapReason) -> BeginningSource {
        BeginningSource::Log(position, Some(Gap { from, to, reason }))
    }

    #[test]
    fn in_a_log_of_the_hub() {
        let foreign = EventId::new(3, 9);
        let check = |start: Start, ids_differ_per_hub: bool, is_refused: bool, before: EventId, source| {
            let facts = BeginningFacts {
                history: &ALL,
                is_archived: false,
                ids_differ_per_hub,
                ends_for_gaps: false,
                is_refused,
                now: NOW,
            };
            assert_eq!(beginning(&ring(false), start, &facts), Beginning { before, source }, "{start:?}");
        };
        check(Start::Live, false, false, id(10), log(11));
        check(Start::Last(2), false, false, id(8), log(9));
        check(Start::After(id(7)), false, false, id(7), log(8));
        check(Start::After(id(10)), false, false, id(10), log(11));
        check(Start::After(id(2)), false, false, id(2), behind_gap(5, id(2), id(4), GapReason::Expired));
        let zero = EventId::default();
        check(Start::First, false, false, zero, behind_gap(5, zero, id(4), GapReason::Expired));
        // An id of another hub: all that is retained, or nothing where it may have been seen under other ids.
        check(Start::After(foreign), false, false, foreign, behind_gap(5, foreign, id(4), GapReason::Epoch));
        check(Start::After(foreign), true, false, foreign, behind_gap(11, foreign, id(10), GapReason::Epoch));
        // The client learns at once that a broker refuses the topic, unless it learns of another gap.
        check(Start::Live, false, true, id(10), behind_gap(11, id(10), id(10), GapReason::SourceLost));
        check(Start::After(id(2)), false, true, id(2), behind_gap(5, id(2), id(4), GapReason::Expired));
    }

    #[test]
    fn in_a_log_that_a_broker_keeps() {
        let facts = |is_refused| BeginningFacts {
            ends_for_gaps: false,
            history: &ALL,
            is_archived: true,
            ids_differ_per_hub: false,
            is_refused,
            now: NOW,
        };
        let check = |start: Start, is_refused: bool, before: EventId, source| {
            let found = beginning(&ring(true), start, &facts(is_refused));
            assert_eq!(found, Beginning { before, source }, "{start:?}");
        };
        check(Start::Live, false, id(10), log(11));
        check(Start::Live, true, id(10), log(11));
        check(Start::After(id(7)), false, id(7), log(8));
        // What the log here does not know may be the broker's.
        check(Start::After(id(2)), false, id(2), Archive(id(2)));
        check(Start::After(id(12)), false, id(12), Archive(id(12)));
        check(Start::First, false, EventId::default(), Archive(EventId::default()));
    }

    /// A broker's log that was replaced: the ids 5 and 6, then the change, then the ids 3 and 5 of another log.
    #[test]
    fn in_a_log_that_was_replaced() {
        let mut ring = Ring::sparse(5, id(4));
        let topic = || Topic::parse("t").expect("a good name");
        let event = |position: Position, minor: u64| {
            Arc::new(Event::new(topic(), id(minor), position, None, Bytes::from_static(b"x"), Moment(position)))
        };
        [5, 6].into_iter().for_each(|position| ring.push(event(position, position)));
        let change = Gap { from: id(6), to: id(2), reason: GapReason::Epoch };
        ring.push(Arc::new(Event::hole(topic(), change, 7, Moment(7))));
        [(8, 3), (9, 5)].into_iter().for_each(|(position, minor)| ring.push(event(position, minor)));
        let check = |start: Start, is_archived: bool, ends_for_gaps: bool, before: EventId, source| {
            let (history, ids_differ_per_hub, is_refused, now) = (&ALL, false, false, NOW);
            let facts = BeginningFacts { history, is_archived, ids_differ_per_hub, ends_for_gaps, is_refused, now };
            let found = beginning(&ring, start, &facts);
            assert_eq!(found, Beginning { before, source }, "{start:?} {is_archived} {ends_for_gaps}");
        };
        // All of the new log, behind the gap; what was seen may be of the former one.
        for ends_for_gaps in [false, true] {
            check(Start::After(id(4)), true, ends_for_gaps, id(4), behind_gap(8, id(4), id(2), GapReason::Epoch));
            check(Start::After(id(5)), true, ends_for_gaps, id(5), behind_gap(8, id(5), id(2), GapReason::Epoch));
        }
        // The id at which the new log begins: a client that is told of gaps by the end alone has been told.
        check(Start::After(id(2)), true, false, id(2), behind_gap(8, id(2), id(2), GapReason::Epoch));
        check(Start::After(id(2)), true, true, id(2), log(8));
        // Nobody can ask a broker for what the log here does not know.
        check(Start::After(id(5)), false, false, id(5), log(10));
        check(Start::Live, true, false, id(5), log(10));
    }
}
