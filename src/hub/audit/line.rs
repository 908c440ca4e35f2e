//! One line: what happened, as JSON that no client can forge.
//!
//! Whatever comes from outside is written within quotes, and each character in it that is no letter, digit, blank or ASCII sign is
//! escaped: line ends, control characters, and those that only change how a line looks in a terminal. Too long a text is cut.

use core::net::IpAddr;
use std::{fmt::Write, hash::Hash, time::Duration};

use time::{OffsetDateTime, UtcDateTime};

use super::{AuditConfig, AuditPart};
use crate::{
    auth::{Credential, Identity},
    label::RouteLabel,
    transport::Transport,
};

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditKind {
    /// A client showed a credential that counts.
    SignIn,
    /// A client was refused, or was refused what it asked for.
    Refusal,
    /// A client lost what it had been let in to.
    Revocation,
    /// What operators did to the hub.
    Admin,
}

impl AuditKind {
    pub(super) const ALL: [Self; 4] = [Self::SignIn, Self::Refusal, Self::Revocation, Self::Admin];

    /// The word in lines.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::Refusal => "refusal",
            Self::Revocation => "revocation",
            Self::Admin => "admin",
        }
    }
}

/// Values of one list in a line. Further ones are left out.
const LISTED_MAX: usize = 16;

/// What a line says. Members that are `None` or empty are not in it.
#[derive(Clone, Debug)]
pub struct AuditLine<'a> {
    pub kind: AuditKind,
    /// What was done: of administrative acts.
    pub action: Option<&'a str>,
    /// Why: of refusals and revocations, the words of `fanfare_auth_failures_total`.
    pub reason: Option<&'a str>,
    /// What was shown, if that does not follow from `who`.
    pub credential: Option<&'a str>,
    /// The client, once it is known.
    pub who: Option<&'a Identity>,
    /// The client's name where there is no identity.
    pub subject: Option<&'a str>,
    /// The client's address.
    pub peer: Option<IpAddr>,
    pub transport: Option<Transport>,
    /// What the request was for.
    pub route: Option<RouteLabel>,
    /// The topics that were asked for.
    pub topics: Vec<&'a str>,
    /// The keys of the configuration that took effect.
    pub keys: Vec<&'a str>,
}

impl<'a> AuditLine<'a> {
    pub fn new(kind: AuditKind) -> Self {
        Self {
            kind,
            action: None,
            reason: None,
            credential: None,
            who: None,
            subject: None,
            peer: None,
            transport: None,
            route: None,
            topics: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// An administrative act.
    pub(crate) fn admin(action: &'a str) -> Self {
        Self { action: Some(action), ..Self::new(AuditKind::Admin) }
    }

    /// What tells the client from others.
    pub(super) fn client(&self) -> impl Hash + use<'a> {
        let who = self.who.map(|who| (&*who.subject, &who.credential));
        (who, self.peer)
    }

    /// The members of the line's object, without braces. `now` is the wall clock.
    pub(super) fn write(&self, now: Duration, config: &AuditConfig) -> String {
        let mut out =
            Members { text: String::with_capacity(512), text_bytes_max: config.text_bytes_max, is_cut: false };
        out.raw("time", &write_time(now));
        out.add("kind", Some(self.kind.name()));
        out.add("action", self.action);
        out.add("reason", self.reason);
        let who = self.who.filter(|who| !who.is_guest);
        let by_identity = || who.map(|who| if who.is_api_key { "api_key" } else { "token" });
        out.add("credential", self.credential.or_else(by_identity));
        let shown = |part| !config.leaves_out(part);
        let subject = who.map(|who| &*who.subject).or(self.subject);
        out.add("subject", subject.filter(|_| shown(AuditPart::Subject)));
        if let Some(who) = who {
            out.add("username", who.username.as_deref().filter(|_| shown(AuditPart::Username)));
            out.add("role", who.role.as_deref());
            out.add("issuer", who.issuer.as_deref());
            out.add("key_id", who.key_id.as_deref());
            if let Credential::Token { id, .. } = &who.credential {
                out.add("token_id", id.as_deref().filter(|_| shown(AuditPart::TokenId)));
            }
            out.list("rules", &rules_of(who));
        }
        if let Some(peer) = self.peer.filter(|_| shown(AuditPart::Peer)) {
            out.raw("peer", &peer);
        }
        out.add("transport", self.transport.map(Transport::label));
        out.add("route", self.route.map(RouteLabel::label));
        if shown(AuditPart::Topics) {
            out.list("topics", &self.topics);
        }
        out.list("keys", &self.keys);
        if out.is_cut {
            out.text.push_str(r#","cut":true"#);
        }
        out.text
    }
}

/// Where the rights of `who` come from, as the configuration calls it.
fn rules_of(who: &Identity) -> Vec<String> {
    match who {
        _ if who.is_api_key => vec!["api_keys".to_owned()],
        _ if who.login_unix_s.is_some() => vec!["users.file".to_owned()],
        _ if who.rules.is_empty() => vec!["token".to_owned()],
        _ => who.rules.iter().take(LISTED_MAX + 1).map(|number| format!("auth.rule {number}")).collect(),
    }
}

/// `unix` as RFC 3339 has it, in UTC, with milliseconds.
pub(super) fn write_time(unix: Duration) -> String {
    let unix_ns = i128::try_from(unix.as_nanos()).unwrap_or_default();
    let time =
        UtcDateTime::from(OffsetDateTime::from_unix_timestamp_nanos(unix_ns).unwrap_or(OffsetDateTime::UNIX_EPOCH));
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second, ms) = (time.hour(), time.minute(), time.second(), time.millisecond());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z")
}

/// The members of an object, as JSON.
struct Members {
    text: String,
    text_bytes_max: usize,
    /// Whether something was left out.
    is_cut: bool,
}

impl Members {
    fn add(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        self.name(name);
        self.quote(value);
    }

    /// A value that needs no escapes.
    fn raw(&mut self, name: &str, value: &dyn std::fmt::Display) {
        self.name(name);
        let _ = write!(self.text, "\"{value}\"");
    }

    fn list(&mut self, name: &str, values: &[impl AsRef<str>]) {
        if values.is_empty() {
            return;
        }
        self.name(name);
        let mut separator = '[';
        for value in values.iter().take(LISTED_MAX) {
            self.text.push(separator);
            self.quote(value.as_ref());
            separator = ',';
        }
        self.text.push(']');
        self.is_cut |= LISTED_MAX < values.len();
    }

    fn name(&mut self, name: &str) {
        let separator = if self.text.is_empty() { "" } else { "," };
        let _ = write!(self.text, "{separator}\"{name}\":");
    }

    fn quote(&mut self, value: &str) {
        let shown = &value[..value.floor_char_boundary(self.text_bytes_max)];
        self.is_cut |= shown.len() < value.len();
        quote(shown, &mut self.text);
    }
}

/// Appends `value` as a JSON text of one line, in which every character can be seen.
pub(super) fn quote(value: &str, out: &mut String) {
    out.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => out.extend(['\\', character]),
            ' ' => out.push(character),
            _ if character.is_ascii_graphic() || character.is_alphanumeric() => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}
