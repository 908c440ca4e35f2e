use bytes::Bytes;

use super::*;
use crate::topic::Topic;

fn id(minor: u64) -> EventId {
    EventId::new(7, minor)
}

fn event(position: Position, accepted_s: u64) -> Arc<Event> {
    let topic = Topic::parse("t").expect("a good name");
    let accepted = Moment(accepted_s * 1_000_000_000);
    Arc::new(Event::new(topic, id(position), position, None, Bytes::from_static(b"0123456789"), accepted))
}

fn filled(count: u64) -> Ring {
    let mut ring = Ring::new(1, id(0));
    (1..=count).for_each(|position| ring.push(event(position, position)));
    ring
}

fn bounds(count: usize, bytes: usize, age_s: u64) -> Bounds {
    Bounds { count, bytes, age: Duration::from_secs(age_s) }
}

#[test]
fn trims_by_each_bound_and_the_wider_of_both() {
    let none = bounds(0, 0, 0);
    let weight = event(1, 0).weight_bytes();
    let check = |history: Bounds, lag: Bounds, expected_oldest: Position| {
        let mut ring = filled(10);
        ring.trim(&Retention { history, lag }, Moment(10_000_000_000));
        assert_eq!(ring.oldest(), expected_oldest, "{history:?} {lag:?}");
        assert_eq!(ring.bytes(), ring.len() * weight);
        assert_eq!(ring.next(), 11);
        assert_eq!(ring.floor(), id(expected_oldest - 1));
        assert_eq!(ring.newest_id(), id(10));
    };
    assert!(Ring::new(1, id(0)).is_empty() && !filled(1).is_empty());
    check(bounds(100, 1 << 20, 100), none, 1);
    check(bounds(3, 1 << 20, 100), none, 8);
    check(bounds(100, 4 * weight, 100), none, 7);
    check(bounds(100, 1 << 20, 2), none, 8);
    check(bounds(3, 1 << 20, 100), bounds(5, 1 << 20, 100), 6);
    check(none, none, 11);
}

#[test]
fn policies_have_the_names_of_the_configuration() {
    assert_eq!(crate::log::Policy::ALL.map(crate::log::Policy::name), ["close", "skip", "latest"]);
}

#[test]
fn places() {
    let ring = filled(10);
    let now = Moment(10_000_000_000);
    let wide = bounds(100, 1 << 20, 100);
    let check = |start: Start, expected: Position| {
        assert_eq!(ring.start_position(start, &wide, now), Ok(expected), "{start:?}")
    };
    check(Start::Live, 11);
    check(Start::First, 1);
    check(Start::Last(0), 11);
    check(Start::Last(3), 8);
    check(Start::Last(99), 1);
    check(Start::After(id(4)), 5);
    check(Start::After(id(0)), 1);
    check(Start::After(id(10)), 11);
    let weight = event(1, 0).weight_bytes();
    let check = |history: Bounds, start: Start, expected: Position| {
        assert_eq!(ring.start_position(start, &history, now), Ok(expected), "{history:?} {start:?}");
    };
    check(bounds(3, 1 << 20, 100), Start::First, 1);
    check(bounds(100, 4 * weight, 100), Start::First, 1);
    check(bounds(100, 1 << 20, 2), Start::First, 1);
    check(bounds(0, 1 << 20, 100), Start::First, 11);
    check(bounds(100, 0, 100), Start::First, 11);
    check(bounds(100, 1 << 20, 0), Start::First, 11);
    check(bounds(100, 4 * weight, 100), Start::Last(9), 7);
    check(bounds(100, 1 << 20, 2), Start::Last(9), 8);
    check(bounds(3, 1 << 20, 100), Start::Last(5), 8);
    check(bounds(3, 1 << 20, 100), Start::Last(2), 9);
    check(bounds(3, 1 << 20, 100), Start::After(id(4)), 5);
}

#[test]
fn everything_is_all_that_is_held_or_a_gap() {
    let wide = bounds(100, 1 << 20, 100);
    let check = |ring: &Ring, expected: Result<Position, EventId>| {
        let placed = ring.start_position(Start::First, &wide, Moment(0));
        let expired = |to| Gap { from: EventId::default(), to, reason: GapReason::Expired };
        assert_eq!(placed, expected.map_err(expired), "{ring:?}");
    };
    let mut ring = filled(10);
    check(&ring, Ok(1));
    ring.trim(&Retention { history: bounds(3, 1 << 20, 100), lag: bounds(0, 0, 0) }, Moment(0));
    check(&ring, Err(id(7)));
    assert_eq!(
        ring.start_position(Start::First, &bounds(0, 0, 0), Moment(0)),
        Ok(11),
        "newcomers get nothing of the past"
    );
    ring.trim(&Retention { history: bounds(0, 0, 0), lag: bounds(0, 0, 0) }, Moment(0));
    check(&ring, Err(id(10)));
    check(&Ring::new(1, id(0)), Ok(1));
    check(&Ring::new(5, id(4)), Err(id(4)));
    check(&Ring::sparse(5, EventId::default()), Ok(5));
    check(&Ring::sparse(5, id(9)), Err(id(9)));
}

#[test]
fn joins_only_on_to_what_it_has() {
    let mut ring = filled(10);
    ring.trim(&Retention { history: bounds(3, 1 << 20, 100), lag: bounds(0, 0, 0) }, Moment(0));
    let check = |id: EventId, expected: Result<Position, GapReason>| {
        let joined = ring.joins(id).then(|| ring.position_after(id)).ok_or_else(|| ring.unjoined_gap(id).reason);
        assert_eq!(joined, expected, "{id}");
    };
    check(id(6), Err(GapReason::Expired));
    check(id(7), Ok(8));
    check(id(9), Ok(10));
    check(id(10), Ok(11));
    check(id(11), Err(GapReason::Epoch));
    check(EventId::new(6, 9), Err(GapReason::Epoch));
    check(EventId::new(8, 9), Err(GapReason::Epoch));
    let after = |ring: &Ring, id: EventId| ring.start_position(Start::After(id), &bounds(9, 1 << 20, 9), Moment(0));
    assert_eq!(after(&ring, id(6)), Err(Gap { from: id(6), to: id(7), reason: GapReason::Expired }));
    assert!(!ring.may_hold(EventId::new(8, 9)) && ring.may_hold(id(99)));
    // An id that stands where nothing is missing, but in a broker's log may be of another log.
    let mut sparse = Ring::sparse(1, id(0));
    [2, 5].into_iter().for_each(|position| sparse.push(event(position, position)));
    assert!(sparse.may_hold(EventId::new(8, 9)));
    assert_eq!(after(&sparse, id(4)), Ok(5), "the id of the event that a reader waits behind");
    assert_eq!(after(&sparse, id(5)), Ok(6));
    let unknown = EventId::new(7, 9);
    assert_eq!(after(&sparse, unknown), Err(Gap { from: unknown, to: id(4), reason: GapReason::Epoch }));
    assert_eq!(sparse.unjoined_gap(id(4)).reason, GapReason::Epoch, "nothing expired behind it");
}

#[test]
fn the_id_before_a_position() {
    let check = |mut ring: Ring, expected: [EventId; 4]| {
        (1..=10).for_each(|position| ring.push(event(position, position)));
        ring.trim(&Retention { history: bounds(3, 1 << 20, 100), lag: bounds(0, 0, 0) }, Moment(0));
        assert_eq!([11, 9, 8, 4].map(|position| ring.id_before(position)), expected);
        ring.trim(&Retention { history: bounds(0, 0, 0), lag: bounds(0, 0, 0) }, Moment(0));
        assert_eq!([11, 9, 8, 4].map(|position| ring.id_before(position)), expected);
    };
    check(Ring::new(1, id(0)), [id(10), id(8), id(7), id(3)]);
    check(Ring::sparse(1, id(0)), [id(10), id(8), id(7), id(3)]);
    assert_eq!([5, 6].map(|position| Ring::sparse(5, id(9)).id_before(position)), [id(9); 2]);
    assert_eq!(Ring::sparse(5, id(9)).id_before(4), EventId::default());
}

#[test]
fn a_change_of_epoch_makes_ids_another_logs() {
    let mut ring = Ring::sparse(1, id(0));
    (1..=6).for_each(|position| ring.push(event(position, position)));
    assert!(ring.knows(id(0)) && ring.knows(id(4)) && !ring.knows(id(7)) && ring.former_gap(id(4)).is_none());
    let gap = Gap { from: id(6), to: id(2), reason: GapReason::Epoch };
    ring.push(Arc::new(Event::hole(Topic::parse("t").expect("a good name"), gap, 7, Moment(0))));
    assert_eq!([6, 7, 8].map(|position| ring.id_before(position)), [id(5), id(6), id(2)]);
    let id_of = |position| [3, 5, 9][position as usize - 8];
    (8..=10).for_each(|position| {
        let other = Event { id: id(id_of(position)), ..Arc::into_inner(event(position, 0)).expect("nobody else's") };
        ring.push(Arc::new(other));
    });
    let check = |minor: u64, knows: bool, former: bool| {
        assert_eq!((ring.knows(id(minor)), ring.former_gap(id(minor)).is_some()), (knows, former), "{minor}");
    };
    check(1, true, true);
    check(2, true, true);
    check(4, false, true);
    check(5, true, true);
    check(9, true, false);
    check(8, false, false);
    assert_eq!((ring.epoch(), ring.former_gap(id(4)).map(|gap| (gap.from, gap.to))), (7, Some((id(4), id(2)))));
    let ahead = [1, 7, 8].map(|position| ring.change_ahead(position));
    assert_eq!(ahead, [Some(gap), Some(gap), None]);
    let content = ring.event(9).and_then(|event| event.digest()).expect("an event");
    assert_eq!((ring.position_behind(id(5), content), ring.position_behind(id(5), 0)), (Some(10), None));
    // A copy may have been notified of it, or of a later one, without the hole itself.
    for (position, expected) in [(6, (7, Moment(0))), (7, (7, Moment(0))), (9, (9, Moment(5)))] {
        ring.note_epoch(position, Moment(5));
        assert_eq!((ring.epoch(), ring.epoch_at()), expected, "{position}");
    }
    ring.trim(&Retention { history: bounds(2, 1 << 20, 100), lag: bounds(0, 0, 0) }, Moment(0));
    assert_eq!(ring.change_ahead(1), None, "no longer retained");
}

#[test]
fn skips_what_is_lost() {
    let mut ring = filled(3);
    ring.skip_to(3, id(2));
    assert_eq!((ring.oldest(), ring.next()), (1, 4));
    ring.skip_to(4, id(9));
    assert_eq!((ring.oldest(), ring.next(), ring.newest_id()), (1, 4, id(3)), "it is there already");
    ring.skip_to(7, id(6));
    assert_eq!((ring.oldest(), ring.next(), ring.floor(), ring.newest_id()), (7, 7, id(6), id(6)));
    ring.push(event(7, 7));
    assert_eq!((ring.oldest(), ring.next()), (7, 8));
}

#[test]
fn a_leap_does_not_forget_where_readers_stand() {
    let mut ring = Ring::sparse(5, id(40));
    (5..=7).for_each(|position| ring.push(event(position, position)));
    ring.skip_to(11, id(10));
    assert_eq!([5, 6, 8, 11].map(|position| ring.id_before(position)), [id(40), id(5), id(7), id(10)]);
    ring.push(event(15, 15));
    assert_eq!([8, 11, 15].map(|position| ring.id_before(position)), [id(7), id(10), id(14)]);
    ring.trim(&Retention { history: bounds(0, 0, 0), lag: bounds(0, 0, 0) }, Moment(0));
    assert_eq!([8, 15, 16].map(|position| ring.id_before(position)), [id(7), id(14), id(15)]);
    assert_eq!(ring.id_before(9), EventId::default(), "there was never a reader");
}

#[test]
fn a_hole_empties_the_ring() {
    let mut ring = filled(3);
    ring.push(event(7, 7));
    assert_eq!((ring.oldest(), ring.next(), ring.len()), (7, 8, 1));
    assert!(ring.event(3).is_none());
    assert_eq!(ring.event(7).map(|event| event.position), Some(7));
    assert!(ring.joins(id(6)) && !ring.joins(id(5)));
}

/// A log with events of these fingerprints; an empty text is no fingerprint.
fn marked(fingerprints: &[&str]) -> Ring {
    let mut ring = Ring::new(1, id(0));
    for (position, fingerprint) in (1..).zip(fingerprints) {
        let Event { topic, id, .. } = &*event(position, position);
        let id = id.with_fingerprint(fingerprint.parse().ok());
        let is_placed_here = *fingerprint == "aside";
        let event = Event::new(topic.clone(), id, position, None, Bytes::from_static(b"0123456789"), Moment(position));
        ring.push(Arc::new(Event { is_placed_here, ..event }));
    }
    ring
}

#[test]
fn an_event_of_another_hub_is_found_by_its_fingerprint_if_only_one_has_it() {
    let wide = bounds(100, 1 << 20, 100);
    let check = |fingerprints: &[&str], kept: usize, asked: &str, expected: Option<Position>| {
        let mut ring = marked(fingerprints);
        ring.trim(&Retention { history: bounds(kept, 1 << 20, 100), lag: bounds(0, 0, 0) }, Moment(9));
        let asked: EventId = asked.parse().expect("an id");
        assert_eq!(ring.position_behind_foreign(asked), expected, "{fingerprints:?} {kept} {asked}");
        if !ring.may_hold(asked) {
            let gap = Gap { from: asked, to: ring.floor(), reason: GapReason::Epoch };
            assert_eq!(ring.start_position(Start::After(asked), &wide, Moment(9)), expected.ok_or(gap), "{asked}");
        }
    };
    let log = ["", "a", "b", "c", "b", ""];
    check(&log, 9, "8-700~a", Some(3));
    check(&log, 9, "8-1~c", Some(5));
    check(&log, 9, "8-1~b", None);
    check(&log, 9, "8-1~d", None);
    check(&log, 9, "8-1", None);
    check(&log, 9, "7-4~a", None);
    check(&log[..2], 9, "8-1~a", Some(3));
    check(&[], 9, "8-1~a", None);
    // Trimmed: the last one that is gone is still a place, and one before it is not.
    check(&log, 4, "8-700~a", Some(3));
    check(&log, 3, "8-700~a", None);
    check(&["a"], 0, "8-700~a", Some(2));
    check(&["b", "", "b"], 2, "8-1~b", None);
    // Where events came past the server, no place is the same elsewhere.
    check(&["a", "aside"], 9, "8-1~a", None);
    check(&["aside", "a"], 9, "8-1~a", None);
}

#[test]
fn the_fingerprint_of_what_is_gone_is_kept_for_the_floor_only() {
    let mut ring = marked(&["a", "b", "c"]);
    ring.trim(&Retention { history: bounds(1, 1 << 20, 100), lag: bounds(0, 0, 0) }, Moment(3));
    let ids: Vec<String> = (1..=4).map(|position| ring.id_before(position).to_string()).collect();
    assert_eq!(ids, ["7-0", "7-1", "7-2~b", "7-3~c"]);
    assert_eq!((ring.floor().to_string(), ring.newest_id().to_string()), ("7-2~b".into(), "7-3~c".into()));
}

/// The search is bounded, however much a topic retains.
#[test]
fn an_event_of_another_hub_is_looked_for_among_the_newest_only() {
    let wanted: EventId = "8-1~a".parse().expect("an id");
    for (behind, expected) in [(LOOKED_AT_MAX - 1, Some(2)), (LOOKED_AT_MAX, None)] {
        let mut fingerprints = vec!["a"];
        fingerprints.resize(1 + behind, "");
        assert_eq!(marked(&fingerprints).position_behind_foreign(wanted), expected, "{behind}");
    }
}
