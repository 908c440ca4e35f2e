//! Taking apart what was checked.

use std::borrow::Cow;

use super::{is_space, plain_end, skip_space};

/// Where the value of `text` ends that begins at `at`. The text was checked, and no space stands at `at`.
pub fn skip(text: &str, at: usize) -> usize {
    let bytes = text.as_bytes();
    match bytes.get(at) {
        Some(b'"') => string_end(bytes, at),
        Some(b'{' | b'[') => container_end(bytes, at),
        _ => {
            let rest = bytes.get(at..).unwrap_or_default();
            let is_inside = |byte: &&u8| !matches!(**byte, b',' | b']' | b'}') && !is_space(**byte);
            at + rest.iter().take_while(is_inside).count()
        }
    }
}

/// How many more containers are open behind each byte.
const OPENED: [i8; 256] = {
    let mut opened = [0; 256];
    opened[b'{' as usize] = 1;
    opened[b'[' as usize] = 1;
    opened[b'}' as usize] = -1;
    opened[b']' as usize] = -1;
    opened
};

fn container_end(bytes: &[u8], mut at: usize) -> usize {
    let mut depth = 0;
    while let Some(byte) = bytes.get(at) {
        if *byte == b'"' {
            at = string_end(bytes, at);
            continue;
        }
        at += 1;
        depth += isize::from(OPENED[usize::from(*byte)]);
        if depth == 0 {
            break;
        }
    }
    at
}

/// Where the string ends whose first quote is at `at`.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    // Where strings are many they are short, and end sooner than a word of eight bytes is looked at.
    for _ in 0..4 {
        match bytes.get(at) {
            Some(b'"') => return at + 1,
            None | Some(b'\\') => break,
            Some(_) => at += 1,
        }
    }
    loop {
        at = plain_end(bytes, at);
        match bytes.get(at) {
            None => return bytes.len(),
            Some(b'"') => return at + 1,
            // Escapes come in rows, as in text of another alphabet: no word of eight bytes is looked at for each.
            Some(b'\\') => {
                while bytes.get(at) == Some(&b'\\') {
                    at += 2;
                }
                at = at.min(bytes.len());
            }
            Some(_) => at += 1,
        }
    }
}

/// The members of an object, in order: each name, which [`decode`] reads, and each value, as they are written. A name may come
/// more than once; of its values most readers take the last.
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Members<'a> {
    /// Those of the object that `text` begins with, which was checked; what follows the object is not looked at. `None`: it
    /// begins with something else.
    pub fn of(text: &'a str) -> Option<Self> {
        let at = skip_space(text, 0);
        (text.as_bytes().get(at) == Some(&b'{')).then(|| Self { text, at: at + 1 })
    }

    /// Continues at `offset`, which [`Members::offset`] returned for the same text.
    pub fn behind(text: &'a str, offset: usize) -> Self {
        Self { text, at: offset }
    }

    /// The byte offset in the text behind the members taken so far.
    pub fn offset(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a str, &'a str);

    fn next(&mut self) -> Option<(&'a str, &'a str)> {
        let Self { text, at } = *self;
        let start = skip_space(text, at);
        let bytes = text.as_bytes();
        if bytes.get(start) != Some(&b'"') {
            return None;
        }
        let name_end = string_end(bytes, start);
        // A colon stands between.
        let value_start = skip_space(text, skip_space(text, name_end) + 1);
        let value_end = skip(text, value_start);
        // So does a comma, or the object's end.
        let end = skip_space(text, value_end);
        self.at = if bytes.get(end) == Some(&b',') { end + 1 } else { text.len() };
        Some((text.get(start..name_end)?, text.get(value_start..value_end)?))
    }
}

/// The values in the array that `text` begins with, which was checked, as they are written. None if it begins with something
/// else.
pub fn elements(text: &str) -> impl Iterator<Item = &str> {
    let bytes = text.as_bytes();
    let start = skip_space(text, 0);
    let mut at = if bytes.get(start) == Some(&b'[') { start + 1 } else { text.len() };
    std::iter::from_fn(move || {
        let start = skip_space(text, at);
        if matches!(bytes.get(start), None | Some(b']')) {
            return None;
        }
        let end = skip(text, start);
        let next = skip_space(text, end);
        at = if bytes.get(next) == Some(&b',') { next + 1 } else { text.len() };
        text.get(start..end)
    })
}

/// The text that `string` is, a JSON string with its quotes, which was checked. `None`: it is no string, or one half of a
/// character is escaped in it.
pub fn decode(string: &str) -> Option<Cow<'_, str>> {
    let mut scratch = String::new();
    match decode_into(string, &mut scratch)? {
        Decoded::Plain(text) => Some(Cow::Borrowed(text)),
        Decoded::Written => Some(Cow::Owned(scratch)),
    }
}

/// The same for many strings, one after the other, without taking memory for each: `scratch` is overwritten.
pub fn decode_with<'t>(string: &'t str, scratch: &'t mut String) -> Option<&'t str> {
    match decode_into(string, scratch)? {
        Decoded::Plain(text) => Some(text),
        Decoded::Written => Some(scratch),
    }
}

/// Where the text of a string is.
enum Decoded<'a> {
    /// It stands between the quotes.
    Plain(&'a str),
    /// In the caller's buffer.
    Written,
}

fn decode_into<'a>(string: &'a str, text: &mut String) -> Option<Decoded<'a>> {
    let inner = string.strip_prefix('"')?.strip_suffix('"')?;
    let Some(first) = memchr::memchr(b'\\', inner.as_bytes()) else { return Some(Decoded::Plain(inner)) };
    text.clear();
    let (plain, mut rest) = inner.split_at(first);
    text.push_str(plain);
    loop {
        rest = match rest.as_bytes().get(1)? {
            b'u' => {
                let (character, escape_bytes) = escaped_character(rest)?;
                text.push(character);
                rest.get(escape_bytes..)?
            }
            byte => {
                text.push(match byte {
                    b'b' => '\u{8}',
                    b'f' => '\u{c}',
                    b'n' => '\n',
                    b'r' => '\r',
                    b't' => '\t',
                    byte => char::from(*byte),
                });
                rest.get(2..)?
            }
        };
        if rest.as_bytes().first() != Some(&b'\\') {
            let end = memchr::memchr(b'\\', rest.as_bytes()).unwrap_or(rest.len());
            text.push_str(&rest[..end]);
            rest = &rest[end..];
        }
        if rest.is_empty() {
            return Some(Decoded::Written);
        }
    }
}

/// The character whose escape `rest` begins with, and how many bytes that takes.
fn escaped_character(rest: &str) -> Option<(char, usize)> {
    let unit = |at: usize| {
        let digits = rest.as_bytes().get(at..at + 4)?;
        digits.iter().try_fold(0, |unit: u32, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    };
    let first = unit(2)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = unit(8).filter(|second| rest.get(6..8) == Some("\\u") && (0xdc00..0xe000).contains(second))?;
    Some((char::from_u32(0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
}

/// The value at `pointer` (RFC 6901) in `text`, which was checked, as it is written; the last of several of one name.
pub fn find<'a>(text: &'a str, pointer: &str) -> Option<&'a str> {
    let start = skip_space(text, 0);
    let mut value = text.get(start..skip(text, start))?;
    if pointer.is_empty() {
        return Some(value);
    }
    for token in pointer.strip_prefix('/')?.split('/') {
        let (token, mut scratch) = (token.replace("~1", "/").replace("~0", "~"), String::new());
        value = match Members::of(value) {
            Some(members) => members.filter(|(name, _)| decode_with(name, &mut scratch) == Some(&token)).last()?.1,
            None => elements(value).nth(array_index(&token)?)?,
        };
    }
    Some(value)
}

fn array_index(token: &str) -> Option<usize> {
    let is_plain = token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'));
    token.parse().ok().filter(|_| is_plain)
}

/// Appends `value`, which was checked, without the space between its tokens.
pub fn write_compact(value: &str, out: &mut String) {
    let bytes = value.as_bytes();
    let (mut copied, mut at) = (0, 0);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => at = string_end(bytes, at),
            byte if is_space(*byte) => {
                out.push_str(&value[copied..at]);
                at = skip_space(value, at);
                copied = at;
            }
            _ => at += 1,
        }
    }
    out.push_str(&value[copied..]);
}
