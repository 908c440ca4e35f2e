//! Values that are one string in TOML: how each type is parsed and formatted.

use std::{fmt, path::PathBuf, sync::Arc};

use super::{
    address::{Address, FileMode},
    nearest::nearest,
    topic_sources::TopicSource,
    topics::{ClassMatch, log_word, parse_policy, read_log},
    types::LogFormat,
};
use crate::{
    audit::{AuditPart, AuditTarget},
    auth::{Algorithm, Mode, PatternTemplate, SameSite, TenantSelector},
    bridge::TopicMap,
    bus::Class,
    endpoint::CompatApi,
    log::Policy,
    protocol::proxy,
    source::redis::ClusterPubSub,
    topic::{Pattern, Topic},
};

/// A type whose values are one string in TOML.
pub(super) trait Scalar: Sized + fmt::Debug {
    /// Parses `text`. The error is a sentence without the key.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Formats the value so that [`Scalar::from_text`] returns it.
    fn to_text(&self) -> String;
}

/// A field that holds one [`Scalar`], without its type.
pub(super) trait ScalarField: fmt::Debug {
    /// Sets the field to the value that `text` stands for.
    fn read(&mut self, text: &str) -> Result<(), String>;
    /// Formats the field's value.
    fn write(&self) -> String;
}

/// A field that holds a list of [`Scalar`]s, without their type.
pub(super) trait ScalarListField: fmt::Debug {
    fn clear(&mut self);
    /// Parses `text` and appends its value.
    fn push(&mut self, text: &str) -> Result<(), String>;
    /// Formats all values.
    fn write(&self) -> Vec<String>;
}

impl<T: Scalar> ScalarField for T {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = T::from_text(text)?;
        Ok(())
    }

    fn write(&self) -> String {
        self.to_text()
    }
}

impl<T: Scalar> ScalarListField for Vec<T> {
    fn clear(&mut self) {
        Self::clear(self);
    }

    fn push(&mut self, text: &str) -> Result<(), String> {
        Self::push(self, T::from_text(text)?);
        Ok(())
    }

    fn write(&self) -> Vec<String> {
        self.iter().map(T::to_text).collect()
    }
}

/// Implements [`Scalar`] by `FromStr` and `Display`.
macro_rules! standard_scalars {
    ($($kind:ty),+) => {
        $(impl Scalar for $kind {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }

            fn to_text(&self) -> String {
                self.to_string()
            }
        })+
    };
}

standard_scalars!(
    String,
    TopicMap,
    Address,
    FileMode,
    LogFormat,
    ClassMatch,
    TopicSource,
    proxy::TrustedPeer,
    Algorithm,
    Mode,
    SameSite,
    TenantSelector,
    PatternTemplate,
    ClusterPubSub,
    AuditTarget,
    AuditPart
);

impl Scalar for Topic {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| format!("`{text}`: {error}"))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Scalar for Pattern {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Scalar for Policy {
    fn from_text(text: &str) -> Result<Self, String> {
        parse_policy(text)
    }

    fn to_text(&self) -> String {
        self.name().to_owned()
    }
}

impl Scalar for CompatApi {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|()| {
            let names = Self::ALL.map(Self::name);
            match nearest(text, names.into_iter()) {
                Some(near) => format!("`{text}` is no compatibility API; did you mean `{near}`?"),
                None => format!("`{text}` is no compatibility API; there are {}", names.join(", ")),
            }
        })
    }

    fn to_text(&self) -> String {
        self.name().to_owned()
    }
}

/// The class's key `log`, whose word names the source as well.
impl ScalarField for Class {
    fn read(&mut self, text: &str) -> Result<(), String> {
        read_log(self, text)
    }

    fn write(&self) -> String {
        log_word(self).to_owned()
    }
}

/// A JSON pointer (RFC 6901), which begins with a slash. Empty: none.
impl Scalar for Option<Arc<str>> {
    fn from_text(text: &str) -> Result<Self, String> {
        match text {
            "" => Ok(None),
            _ if text.starts_with('/') => Ok(Some(text.into())),
            _ => Err(format!("`{text}` is no JSON pointer: write `/sensor`, or `/a/b` for a member of a member")),
        }
    }

    fn to_text(&self) -> String {
        self.as_deref().unwrap_or_default().to_owned()
    }
}

/// A path. Empty: none.
impl Scalar for Option<PathBuf> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn to_text(&self) -> String {
        self.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}
