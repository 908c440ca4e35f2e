//! Parsers for values of flags.

use std::ffi::OsStr;

use clap::{Arg, Command, builder::TypedValueParser, error::ErrorKind};

/// A parser of a flag's value that may hold a secret. Unlike clap's own, its errors do not repeat the value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unshown<T>(fn(&str) -> Result<T, String>);

/// Parses a value with `parse`; errors do not repeat it.
pub(crate) fn unshown<T>(parse: fn(&str) -> Result<T, String>) -> Unshown<T> {
    Unshown(parse)
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Unshown<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let parsed = value.to_str().map_or_else(|| Err("not UTF-8".into()), self.0);
        parsed.map_err(|wrong| {
            let flag = argument.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{flag}': {wrong}");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}
