//! The configuration of the audit.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::AuditKind;

/// The section `audit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    pub to: AuditTarget,
    /// What is not recorded.
    pub leave_out: Vec<AuditPart>,
    /// Lines of sign-ins, and as many of revocations, in a second.
    pub lines_per_second_max: usize,
    /// Lines of refusals in a second.
    pub refusals_per_second_max: usize,
    /// Bytes that wait to be written.
    pub queue_bytes_max: usize,
    /// Bytes of one text, such as a subject.
    pub text_bytes_max: usize,
    /// How long further requests of a client that has signed in are not recorded.
    pub repeat_after: Duration,
    /// Clients remembered for that.
    pub clients_max: usize,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            to: AuditTarget::Nowhere,
            leave_out: Vec::new(),
            lines_per_second_max: 10_000,
            refusals_per_second_max: 100,
            queue_bytes_max: 4 << 20,
            text_bytes_max: 256,
            repeat_after: Duration::from_mins(10),
            clients_max: 10_000,
        }
    }
}

impl AuditConfig {
    /// The most lines of `kind` in a second, if they have a bound. What operators do has none: it is little.
    pub(super) fn per_second_max(&self, kind: AuditKind) -> Option<usize> {
        match kind {
            AuditKind::Admin => None,
            AuditKind::Refusal => Some(self.refusals_per_second_max),
            AuditKind::SignIn | AuditKind::Revocation => Some(self.lines_per_second_max),
        }
    }

    pub(super) fn leaves_out(&self, part: AuditPart) -> bool {
        self.leave_out.contains(&part)
    }
}

/// Where the lines go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AuditTarget {
    /// There is no audit.
    #[default]
    Nowhere,
    /// Standard error, between the lines of the log.
    Stderr,
    File(PathBuf),
}

const STDERR: &str = "stderr";

impl FromStr for AuditTarget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "" => Self::Nowhere,
            STDERR => Self::Stderr,
            path => Self::File(path.into()),
        })
    }
}

impl fmt::Display for AuditTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stderr => f.write_str(STDERR),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// What can be left out: lines of one kind, or a member of all lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditPart {
    Kind(AuditKind),
    Peer,
    Subject,
    Username,
    TokenId,
    Topics,
}

impl AuditPart {
    const ALL: [Self; 9] = [
        Self::Kind(AuditKind::SignIn),
        Self::Kind(AuditKind::Refusal),
        Self::Kind(AuditKind::Revocation),
        Self::Kind(AuditKind::Admin),
        Self::Peer,
        Self::Subject,
        Self::Username,
        Self::TokenId,
        Self::Topics,
    ];

    /// Its name, in the configuration and in lines.
    fn name(self) -> &'static str {
        match self {
            Self::Kind(kind) => kind.name(),
            Self::Peer => "peer",
            Self::Subject => "subject",
            Self::Username => "username",
            Self::TokenId => "token_id",
            Self::Topics => "topics",
        }
    }
}

impl FromStr for AuditPart {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|part| part.name() == text);
        known.ok_or_else(|| {
            format!("`{text}` cannot be left out; what can be is {}", Self::ALL.map(Self::name).join(", "))
        })
    }
}

impl fmt::Display for AuditPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
