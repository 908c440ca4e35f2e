//! Breaks something on purpose: whatever a simulation can go wrong in, it must find.

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The source does not report what it lost.
    LossUntold,
    /// The hub never gets an entry that the broker has.
    EntryDropped,
    /// What the broker trimmed before it was read is not reported.
    TrimUntold,
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
    /// A publication that was confirmed never arrives.
    PublicationLost,
    /// A publication arrives twice.
    PublicationRepeated,
}
