//! The two small objects that stand for binaries in JSON, read where they stand. Each reader stops at the first byte that is
//! not as it should be, so that a text full of other objects costs no more than a look at each; errors are never put together.

use std::borrow::Cow;

use data_encoding::BASE64;

use crate::json;

/// An object at the start of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found<T> {
    pub value: T,
    /// How many bytes it takes.
    pub object_bytes: usize,
}

/// The number of the placeholder at the start of `json`: `{"_placeholder":true,"num":0}`, in either order.
pub(super) fn placeholder(json: &str) -> Option<Found<usize>> {
    let mut text = Text(json);
    text.take("{")?;
    let (mut is_placeholder, mut number) = (false, None);
    loop {
        if text.take("\"_placeholder\"").is_some() && !is_placeholder {
            text.take(":")?;
            text.take("true")?;
            is_placeholder = true;
        } else if number.is_none() {
            text.take("\"num\"")?;
            text.take(":")?;
            number = Some(text.take_number()?);
        } else {
            return None;
        }
        match number {
            Some(value) if is_placeholder => {
                text.take("}")?;
                return Some(Found { value, object_bytes: json.len() - text.0.len() });
            }
            _ => text.take(",")?,
        }
    }
}

/// The bytes of the object at the start of `json`, if it is `{"$binary":"<base64>"}` and nothing else.
pub(super) fn inline_binary(json: &str) -> Option<Found<Vec<u8>>> {
    let mut text = Text(json);
    text.take("{")?;
    text.take("\"$binary\"")?;
    text.take(":")?;
    let base64 = text.take_string()?;
    text.take("}")?;
    let value = BASE64.decode(base64.as_bytes()).ok()?;
    Some(Found { value, object_bytes: json.len() - text.0.len() })
}

/// What is left of valid JSON.
struct Text<'a>(&'a str);

impl<'a> Text<'a> {
    /// Goes past `token`, and the space around it, if it comes next.
    fn take(&mut self, token: &str) -> Option<()> {
        let rest = after_space(self.0).strip_prefix(token)?;
        // Behind the object itself nothing is looked at.
        self.0 = if token == "}" { rest } else { after_space(rest) };
        Some(())
    }

    fn take_number(&mut self) -> Option<usize> {
        let end = self.0.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        // What follows is a comma or the end: `1.5` and `1e3` are numbers of other kinds.
        digits.parse().ok()
    }

    fn take_string(&mut self) -> Option<Cow<'a, str>> {
        if !self.0.starts_with('"') {
            return None;
        }
        let (string, rest) = self.0.split_at(json::skip(self.0, 0));
        self.0 = rest;
        json::decode(string)
    }
}

fn after_space(text: &str) -> &str {
    &text[json::skip_space(text, 0)..]
}
