//! What a token says (RFC 7519 section 4), and whether that holds now.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::{AccessDenied, AuthSettings, Grants, Identity, mapping::Mapped};
use crate::{clock::Moment, topic::Pattern};

/// The claims of a token. Those not named here say nothing to the hub.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Claims {
    /// Whom it was given to.
    #[serde(default)]
    pub sub: String,
    /// From when on it is not valid any more, in seconds since 1970.
    #[serde(serialize_with = "write_whole")]
    pub exp: f64,
    /// Before when it is not valid yet.
    #[serde(default, skip_serializing)]
    pub nbf: Option<f64>,
    /// What it calls itself: with it a single token can be refused (`auth.deny_file`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// When it was made.
    #[serde(default, skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub iat: Option<u64>,
    /// Who made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// For whom it was made.
    #[serde(default, skip_serializing_if = "Audience::is_empty")]
    pub aud: Audience,
    /// The client's role. Issuers that mean something else by it may have a list there, which is none.
    #[serde(default, deserialize_with = "text_or_none", skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Patterns of topics it may listen to.
    #[serde(default)]
    pub subscribe: Vec<String>,
    /// Patterns of topics it may publish to.
    #[serde(default)]
    pub publish: Vec<String>,
    /// Its name for people.
    #[serde(default, deserialize_with = "text_or_none", skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The same where an issuer calls it so.
    #[serde(default, deserialize_with = "text_or_none", skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// When its user gave the password, in seconds since 1970: only a token that the hub's own login has made says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fanfare_login: Option<u64>,
}

/// One or more recipients (RFC 7519 section 4.1.3).
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Audience {
    One(String),
    /// Any number.
    Many(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Audience {
    pub(super) fn names(&self, recipient: &str) -> bool {
        match self {
            Self::One(name) => name == recipient,
            Self::Many(names) => names.iter().any(|name| name == recipient),
        }
    }

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A text; of another type it is passed over.
fn text_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

/// A date without a fraction, which not every reader takes.
fn write_whole<S: Serializer>(date_s: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(*date_s as u64)
}

impl Claims {
    /// Whether they hold at `unix_s` for a hub with these settings. An issuer or audience that is configured is required.
    pub(super) fn check(&self, settings: &AuthSettings, unix_s: f64) -> Result<(), AccessDenied> {
        let leeway_s = settings.leeway.as_secs_f64();
        let issuer_fits = settings.issuer.is_empty() || self.iss.as_ref() == Some(&settings.issuer);
        let audience_fits = settings.audience.is_empty() || self.aud.names(&settings.audience);
        let is_early = self.nbf.is_some_and(|nbf| unix_s + leeway_s < nbf);
        if !self.exp.is_finite() || !issuer_fits || !audience_fits || is_early {
            return Err(AccessDenied::Invalid);
        }
        if self.exp + leeway_s <= unix_s { Err(AccessDenied::Expired) } else { Ok(()) }
    }

    /// Whose they are, for tokens of other issuers, with what rules give besides: what a token of the hub's own login is worth, the
    /// users file says. `expires` is the moment of their end.
    pub(super) fn identify(self, mapped: Mapped, expires: Moment) -> Result<Identity, AccessDenied> {
        let grants = |own: &[String], mapped: Vec<Pattern>| {
            let own = own.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>();
            Ok(Grants::new(own.map_err(|_| AccessDenied::Invalid)?.into_iter().chain(mapped)))
        };
        Ok(Identity {
            subscribe: grants(&self.subscribe, mapped.subscribe)?,
            publish: grants(&self.publish, mapped.publish)?,
            subject: self.sub.into(),
            username: self.username.or(self.name).map(Box::from),
            // The operator's word counts before the issuer's.
            role: mapped.role.or_else(|| self.role.map(Box::from)),
            expires: Some(expires),
            ..Identity::default()
        })
    }
}
