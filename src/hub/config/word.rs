//! Values that are written as one text: how each kind is read and written.

use std::{fmt, path::PathBuf, sync::Arc};

use super::{
    address::{Address, FileMode},
    meant::LogFormat,
    nearest::nearest,
    topics::{ClassMatch, parse_log_kind, parse_policy},
};
use crate::{
    auth::{Algorithm, Mode, SameSite, Who},
    bus::LogKind,
    endpoint::CompatApi,
    log::Policy,
    protocol::proxy,
    topic::{Pattern, Topic},
};

/// A value written as one text.
pub(super) trait Word: Sized + fmt::Debug {
    /// Reads it, or says what is wrong with it.
    fn from_text(text: &str) -> Result<Self, String>;
    /// Writes it so that reading gives it back.
    fn to_text(&self) -> String;
}

/// The place of one word, whatever its kind.
pub(super) trait WordSlot: fmt::Debug {
    /// Reads `text` into the place.
    fn read(&mut self, text: &str) -> Result<(), String>;
    /// Writes what stands there.
    fn write(&self) -> String;
}

/// The place of a list of words, whatever their kind.
pub(super) trait WordsSlot: fmt::Debug {
    /// Empties the list.
    fn clear(&mut self);
    /// Reads one more.
    fn push(&mut self, text: &str) -> Result<(), String>;
    /// Writes all of them.
    fn write(&self) -> Vec<String>;
}

impl<T: Word> WordSlot for T {
    fn read(&mut self, text: &str) -> Result<(), String> {
        *self = T::from_text(text)?;
        Ok(())
    }

    fn write(&self) -> String {
        self.to_text()
    }
}

impl<T: Word> WordsSlot for Vec<T> {
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

/// For kinds that the standard traits already read and write.
macro_rules! standard_words {
    ($($kind:ty),+) => {
        $(impl Word for $kind {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|error| format!("{error}"))
            }

            fn to_text(&self) -> String {
                self.to_string()
            }
        })+
    };
}

standard_words!(String, Address, FileMode, LogFormat, ClassMatch, proxy::TrustedPeer, Algorithm, Mode, SameSite, Who);

impl Word for Topic {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|error| format!("`{text}`: {error}"))
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Word for Pattern {
    fn from_text(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }

    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl Word for Policy {
    fn from_text(text: &str) -> Result<Self, String> {
        parse_policy(text)
    }

    fn to_text(&self) -> String {
        self.name().to_owned()
    }
}

impl Word for CompatApi {
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

impl Word for LogKind {
    fn from_text(text: &str) -> Result<Self, String> {
        parse_log_kind(text)
    }

    fn to_text(&self) -> String {
        self.name().to_owned()
    }
}

/// A JSON pointer (RFC 6901), which begins with a slash; an empty text stands for none.
impl Word for Option<Arc<str>> {
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

/// An empty text stands for no file.
impl Word for Option<PathBuf> {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }

    fn to_text(&self) -> String {
        self.as_ref().map(|path| path.display().to_string()).unwrap_or_default()
    }
}
