//! Reads several JSON values from one text, one at a time: the elements of an array, or values that follow each other (JSON
//! lines). The caller can stop after each value, or in the middle of a long one, and go on later.

use crate::json::{self, Scanned, Scanner, Traits};

/// Where in its text the next value begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JsonValues {
    at: usize,
    state: ListState,
    /// The check of the value that begins at `at`, if it has begun.
    scanner: Option<Scanner>,
    /// Of the last value.
    traits: Traits,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ListState {
    #[default]
    Start,
    /// In an array, behind a value, or at its start if it has none yet.
    Array {
        is_first: bool,
    },
    /// One value behind the other.
    Lines,
    End,
}

/// Why a text is not JSON, or not a list of JSON values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadJsonValue {
    /// What was found.
    pub message: String,
    /// The byte of the text at which the bad value, or whatever stands instead of a value, begins.
    pub at: usize,
}

/// The result of [`JsonValues::next_within`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextValue<'a> {
    /// The next value, whole.
    Value(&'a str),
    /// The next value is longer than what was checked so far: call again.
    More,
    /// There is no further value.
    End,
}

impl JsonValues {
    /// The number of bytes of the text that have been read.
    pub fn consumed_bytes(&self) -> usize {
        self.at
    }

    /// Whether the text is an array. Known once a value was asked for.
    pub fn is_array(&self) -> bool {
        matches!(self.state, ListState::Array { .. })
    }

    /// Whether the text is an array and its last value has been returned.
    pub fn is_ended_array(&self) -> bool {
        self.state == ListState::End
    }

    /// What the last value is like.
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// The next value of `text`, always the same text; `None` at the end. Reads this value and the space around it, and nothing
    /// after that.
    pub fn next<'a>(&mut self, text: &'a str) -> Result<Option<&'a str>, BadJsonValue> {
        loop {
            match self.next_within(text, usize::MAX)? {
                NextValue::Value(value) => return Ok(Some(value)),
                NextValue::End => return Ok(None),
                NextValue::More => {}
            }
        }
    }

    /// Like [`JsonValues::next`], but checks only about the next `bytes` bytes of a value ([`Scanner::advance`]).
    pub fn next_within<'a>(&mut self, text: &'a str, bytes: usize) -> Result<NextValue<'a>, BadJsonValue> {
        let mut scanner = match self.scanner.take() {
            Some(scanner) => scanner,
            None if self.begins_value(text)? => Scanner::begin(text, self.at),
            None => return Ok(NextValue::End),
        };
        let start = self.at;
        let advanced = scanner.advance(text, bytes);
        let scanned = advanced.map_err(|bad| BadJsonValue { message: bad.to_string(), at: start })?;
        let Some(Scanned { end, traits }) = scanned else {
            self.scanner = Some(scanner);
            return Ok(NextValue::More);
        };
        if self.state == ListState::Lines && !is_ended(&text[start..end], text.as_bytes().get(end).copied()) {
            return Err(self.bad("something follows the value"));
        }
        self.at = end;
        self.traits = traits;
        if let ListState::Array { is_first } = &mut self.state {
            *is_first = false;
        }
        Ok(NextValue::Value(&text[start..end]))
    }

    /// Goes to where the next value begins; false if none does.
    fn begins_value(&mut self, text: &str) -> Result<bool, BadJsonValue> {
        self.skip_space(text);
        if self.state == ListState::Start {
            self.state = match self.peek(text) {
                Some(b'[') => {
                    self.at += 1;
                    self.skip_space(text);
                    ListState::Array { is_first: true }
                }
                _ => ListState::Lines,
            };
        }
        let goes_on = match (self.state, self.peek(text)) {
            (ListState::Array { .. }, None) => return Err(self.bad("the array does not end")),
            (ListState::Array { .. }, Some(b']')) => {
                self.at += 1;
                self.skip_space(text);
                self.state = ListState::End;
                if self.at < text.len() {
                    return Err(self.bad("something follows the array"));
                }
                false
            }
            (ListState::Array { is_first: false }, Some(b',')) => {
                self.at += 1;
                true
            }
            (ListState::Array { is_first: false }, Some(_)) => {
                return Err(self.bad("a comma or the array's end is due"));
            }
            (ListState::Array { is_first: true }, Some(_)) => true,
            (ListState::Lines | ListState::Start, next) => next.is_some(),
            (ListState::End, _) => false,
        };
        self.skip_space(text);
        Ok(goes_on)
    }

    fn peek(&self, text: &str) -> Option<u8> {
        text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self, text: &str) {
        self.at = json::skip_space(text, self.at);
    }

    fn bad(&self, message: &str) -> BadJsonValue {
        BadJsonValue { message: message.to_owned(), at: self.at }
    }
}

/// Whether a value that stands alone, such as `true`, ends in front of `next`: what is no part of it begins another value.
fn is_ended(value: &str, next: Option<u8>) -> bool {
    let Some(next) = next else { return true };
    value.ends_with(['"', ']', '}']) || json::is_space(next) || b"\"[]{},:".contains(&next)
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;

    #[test]
    fn each_value_has_traits_of_its_own() {
        let mut values = JsonValues::default();
        let depths = std::iter::from_fn(|| values.next("[[[]],{},1]").expect("JSON").map(|_| values.traits().depth));
        assert_eq!(depths.collect::<Vec<_>>(), [2, 1, 0]);
    }

    #[test]
    fn values_come_one_by_one() {
        let check = |text: &str, expected: &[&str], end: Result<(), &str>| {
            let mut values = JsonValues::default();
            let mut found = Vec::new();
            let ended = loop {
                match values.next(text) {
                    Ok(Some(value)) => found.push(value),
                    Ok(None) => break Ok(()),
                    Err(bad) => break Err(bad.message),
                }
            };
            assert_eq!(found, expected, "{text}");
            for bytes in [1, 5] {
                let (mut values, mut parts) = (JsonValues::default(), Vec::new());
                let parted = loop {
                    match values.next_within(text, bytes) {
                        Ok(NextValue::Value(value)) => parts.push(value),
                        Ok(NextValue::More) => {}
                        Ok(NextValue::End) => break Ok(()),
                        Err(bad) => break Err(bad.message),
                    }
                };
                assert_eq!((parts, &parted), (found.clone(), &ended), "{text}, {bytes} bytes at a time");
            }
            match (ended, end) {
                (Ok(()), Ok(())) => assert!(matches!(values.next(text), Ok(None)), "{text}: the end stays the end"),
                (Err(message), Err(part)) => assert!(message.contains(part), "{text}: {message}"),
                (ended, _) => panic!("{text}: {ended:?}"),
            }
            // The crate's own reader of whole texts takes the same for good.
            let whole = match text.trim_start().starts_with('[') {
                true => serde_json::from_str::<Vec<&RawValue>>(text).is_ok(),
                false => serde_json::Deserializer::from_str(text).into_iter::<&RawValue>().all(|value| value.is_ok()),
            };
            assert_eq!(whole, end.is_ok(), "{text}");
        };
        check("", &[], Ok(()));
        check(" \n", &[], Ok(()));
        check("[]", &[], Ok(()));
        check(" [ ] ", &[], Ok(()));
        check("[1]", &["1"], Ok(()));
        check(" [ {\"a\": [1]} ,\"b\" , 2.5 ]\r\n", &["{\"a\": [1]}", "\"b\"", "2.5"], Ok(()));
        check("{\"a\":1}\n{\"b\":2}\n", &["{\"a\":1}", "{\"b\":2}"], Ok(()));
        check("{}{} 7 \"x\"[1]", &["{}", "{}", "7", "\"x\"", "[1]"], Ok(()));
        check("[", &[], Err("does not end"));
        check("[1", &["1"], Err("does not end"));
        check("[1,", &["1"], Err("a value is due"));
        check("[1,]", &["1"], Err("a value is due"));
        check("[,1]", &[], Err("a value is due"));
        check("[1 2]", &["1"], Err("a comma"));
        check("[1]]", &["1"], Err("something follows"));
        check("[1] 2", &["1"], Err("something follows"));
        check("[{\"a\":}]", &[], Err("a value is due"));
        check("{", &[], Err("a member's name is due"));
        check("7x", &[], Err("something follows the value"));
        check("truefalse", &[], Err("something follows the value"));
        check("1,2", &["1"], Err("a value is due"));
    }
}
