//! Breaks something around the hub on purpose: the clients' accounts must show it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::run_seed;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The source does not report what it lost.
    LossUntold,
    /// The hub never gets an entry that the broker has.
    EntryDropped,
    /// The hub gets two entries in the wrong order.
    EntriesSwapped,
    /// An entry that the broker delivers again is taken for a new one.
    RepeatTaken,
    /// Where a stream is followed again, what came meanwhile is passed over.
    FollowedFromTheEnd,
    /// Nobody is told that nothing came for a while because the source had forgotten a subscription.
    ForgottenUntold,
    /// What the broker trimmed before it was read is not reported.
    TrimUntold,
    /// Nobody is told that a stream that is read is another one by now.
    ReplacementUntold,
    /// The hub is told that another stream begins behind its first entry.
    ReplacementCut,
    /// The archive takes an id of another stream for one of its own.
    ReplacedTaken,
    /// The archive leaves out an entry.
    ArchiveSkips,
    /// The archive hands out an entry that came before the place it was asked for.
    ArchiveRepeats,
    /// The archive says that a page is all there is, though it is not.
    ArchiveCutsShort,
    /// The network takes a few bytes and does not deliver them.
    BytesLost,
    /// The network delivers a few bytes twice.
    BytesRepeated,
    /// The network never says that there is room again.
    EdgeLost,
    /// The network changes what a stream's id, or an offset, says of another topic than the event's own.
    PlaceAltered,
    /// A publication that was confirmed never arrives.
    PublicationLost,
    /// A publication arrives twice.
    PublicationRepeated,
    /// Hubs that start in the same moment give the same ids.
    HubsCollide,
}

/// Within so many seeds a fault must show.
const SEEDS_MAX: u64 = 300;
/// Not those that the other tests run.
const FIRST_SEED: u64 = 1 << 32;

/// What of the first failure must be read to know that it is the right one.
fn first_failure(fault: Fault) -> Option<String> {
    (FIRST_SEED..FIRST_SEED + SEEDS_MAX).find_map(|seed| {
        let panic = catch_unwind(AssertUnwindSafe(|| run_seed(seed, Some(fault)))).err()?;
        let text = panic.downcast_ref::<String>().cloned();
        Some(text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default())
    })
}

/// Changes the last digit of the first of several places, if `bytes` begin with a stream's id, or an event with an offset.
pub(crate) fn alter_place(bytes: &mut [u8]) {
    let find = |bytes: &[u8], what: &[u8], from: usize| {
        bytes.get(from..)?.windows(what.len()).position(|it| it == what).map(|at| from + at)
    };
    let stream = find(bytes, b"id: ", 0);
    let offset = find(bytes, b",\"topic.", 0).map(|at| at + 1);
    let Some(from) = stream.or(offset) else { return };
    let end = find(bytes, b"\n", from).or_else(|| find(bytes, b"\"]", from)).unwrap_or(bytes.len());
    if let Some(comma) = find(&bytes[..end], b",", from)
        && let digit @ b'0'..=b'9' = &mut bytes[comma - 1]
    {
        *digit = if *digit == b'9' { b'8' } else { *digit + 1 };
    }
}

#[test]
fn whatever_is_broken_shows() {
    let check = |fault: Fault, expected: &[&str]| {
        let failure = first_failure(fault).unwrap_or_else(|| panic!("{fault:?} does not show"));
        assert!(expected.iter().any(|words| failure.contains(words)), "{fault:?}: {failure}");
    };
    check(Fault::LossUntold, &["nobody was told of a loss"]);
    check(Fault::EntryDropped, &["is due", "is missing", "nothing came", "has no key"]);
    check(Fault::EntriesSwapped, &["is due", "is missing", "nothing came", "has no key"]);
    check(Fault::RepeatTaken, &["came again", "begins elsewhere", "the stream's id"]);
    check(Fault::FollowedFromTheEnd, &["is due", "is missing", "nothing came", "has no key"]);
    check(Fault::ForgottenUntold, &["nobody was told of a loss"]);
    check(Fault::TrimUntold, &["is due", "is missing", "nothing came"]);
    check(Fault::ReplacementUntold, &["is due", "is missing", "nothing came"]);
    check(Fault::ReplacementCut, &["left out"]);
    check(Fault::ReplacedTaken, &["is due", "is missing", "nothing came"]);
    check(Fault::ArchiveSkips, &["is due", "is missing", "kept up"]);
    check(Fault::ArchiveRepeats, &["came again"]);
    check(Fault::ArchiveCutsShort, &["begins nowhere", "is due", "is missing", "kept up"]);
    check(Fault::BytesLost, &[""]);
    check(Fault::BytesRepeated, &[""]);
    check(Fault::PlaceAltered, &["the stream's id", " in topic.", "the event's own place"]);
    check(Fault::EdgeLost, &["is missing", "unanswered", "never opened", "nothing came", "kept, though"]);
    check(Fault::PublicationLost, &["was lost"]);
    check(Fault::PublicationRepeated, &["published twice"]);
    check(
        Fault::HubsCollide,
        &[
            "ended without a reason",
            "is of this epoch",
            "is due",
            "is missing",
            "begins elsewhere",
            "begins nowhere",
            "goes back",
        ],
    );
}
