//! Errors of a run, by kind. Pure.

use std::collections::BTreeMap;

/// A kind of error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The connection to publish on was not made.
    Connect,
    /// The publishing connection broke, or answers did not arrive.
    Publish,
    /// A publication was refused.
    Refused,
    /// The refusal of a stream is final.
    StreamRefused,
    /// An attempt to open a stream failed; it is repeated.
    StreamFailed,
    /// An open stream ended; it reconnects.
    StreamCut,
    /// The hub reported an error on a stream.
    Notice,
}

impl Fault {
    /// The name in messages and in the JSON report.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connect => "connecting to publish",
            Self::Publish => "publishing",
            Self::Refused => "publications refused",
            Self::StreamRefused => "streams refused",
            Self::StreamFailed => "streams not opened",
            Self::StreamCut => "streams cut",
            Self::Notice => "notices of the hub",
        }
    }

    /// Whether a run with this error is incomplete even if no token is missing. Streams reconnect, and a token that one
    /// missed meanwhile counts as lost.
    pub(super) fn is_fatal(self) -> bool {
        match self {
            Self::Connect | Self::Publish | Self::Refused | Self::StreamRefused => true,
            Self::StreamFailed | Self::StreamCut | Self::Notice => false,
        }
    }
}

/// All errors of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Faults(BTreeMap<Fault, (u64, String)>);

impl Faults {
    /// Counts an error; true if it is the first of its kind.
    pub(super) fn add(&mut self, fault: Fault, message: &str) -> bool {
        let (count, _) = self.0.entry(fault).or_insert_with(|| (0, message.to_owned()));
        *count += 1;
        *count == 1
    }

    /// Each kind that occurred, its count, and its first message.
    pub(super) fn rows(&self) -> impl Iterator<Item = (Fault, u64, &str)> {
        self.0.iter().map(|(&fault, (count, first))| (fault, *count, first.as_str()))
    }

    /// How many of a kind.
    pub(super) fn count(&self, fault: Fault) -> u64 {
        self.0.get(&fault).map_or(0, |it| it.0)
    }
}
