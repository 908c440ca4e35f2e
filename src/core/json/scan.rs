//! Checking one value.

use super::{BadJson, is_space, plain_end};

/// A value that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// Where it ends: the place behind its last byte.
    pub end: usize,
    /// What it is like.
    pub traits: Traits,
}

/// What is allowed in JSON, and not by everybody who reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// How many arrays and objects stand one in the other, at most.
    pub depth: usize,
    /// Whether there is space between its tokens.
    pub has_space: bool,
    /// Whether a string has the character U+0000, escaped.
    pub has_nul: bool,
    /// Whether a string escapes one half of a character of UTF-16, and not the other: no text has such a character.
    pub has_half_character: bool,
    /// Whether a number is greater than a double can be, or has more digits than any double's exact value.
    pub has_wide_number: bool,
}

impl Traits {
    /// Whether serde's tree of values, and with it what reads values strictly, would take it: it is not too deep, its numbers
    /// are finite doubles, and its strings are text.
    pub fn is_strict(self) -> bool {
        self.depth <= STRICT_DEPTH_MAX && !self.has_half_character && !self.has_wide_number
    }
}

/// Deeper values are refused by most readers.
const STRICT_DEPTH_MAX: usize = 127;
/// A double's exact value has no more digits.
const STRICT_DIGITS_MAX: usize = 800;
/// Numbers with so many digits before the point, or fewer, are finite doubles. Of those with one more some are.
const FINITE_DIGITS_MAX: i64 = 308;
/// What the digits of a finite double with one more come before, in the order of a dictionary.
const INFINITE_DIGITS: &[u8] = b"17976931348623158";
/// Below this power of ten every double is zero.
const STRICT_EXPONENT_MIN: i64 = -400;

/// The check of one value, which can stop in the middle and go on later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanner {
    /// Where the next value is due: the whole, an element or a member's value.
    at: usize,
    open: Containers,
    traits: Traits,
}

impl Scanner {
    /// Before the value of `text` that begins at `at`, or behind space there.
    pub fn begin(text: &str, at: usize) -> Self {
        let mut traits = Traits::default();
        let at = skip_space(text.as_bytes(), at, &mut traits);
        Self { at, open: Containers::default(), traits }
    }

    /// Checks the next `bytes` of `text`, which is always the same text, and on to the end of a string, a number or space; `None`:
    /// the value goes on. An error ends the check.
    pub fn advance(&mut self, text: &str, bytes: usize) -> Result<Option<Scanned>, BadJson> {
        let stop = self.at.saturating_add(bytes);
        let bytes = text.as_bytes();
        // What is local stays in registers.
        let Self { mut at, mut open, mut traits } = std::mem::take(self);
        loop {
            // A value is due.
            if stop <= at {
                *self = Self { at, open, traits };
                return Ok(None);
            }
            at = match peek(bytes, at) {
                b'{' => {
                    open.push(true, &mut traits);
                    at = skip_space(bytes, at + 1, &mut traits);
                    if peek(bytes, at) != b'}' {
                        at = scan_name(bytes, at, &mut traits)?;
                        continue;
                    }
                    open.pop();
                    at + 1
                }
                b'[' => {
                    open.push(false, &mut traits);
                    at = skip_space(bytes, at + 1, &mut traits);
                    if peek(bytes, at) != b']' {
                        continue;
                    }
                    open.pop();
                    at + 1
                }
                b'"' => scan_string(bytes, at, &mut traits)?,
                b'-' | b'0'..=b'9' => scan_number(bytes, at, &mut traits)?,
                b't' => scan_literal(bytes, at, b"true")?,
                b'f' => scan_literal(bytes, at, b"false")?,
                b'n' => scan_literal(bytes, at, b"null")?,
                _ => return Err(BadJson { message: "a value is due", at }),
            };
            // A value has ended: another may follow, or its container ends.
            loop {
                if open.depth == 0 {
                    return Ok(Some(Scanned { end: at, traits }));
                }
                at = skip_space(bytes, at, &mut traits);
                match peek(bytes, at) {
                    b',' => {
                        at = skip_space(bytes, at + 1, &mut traits);
                        if open.is_object() {
                            at = scan_name(bytes, at, &mut traits)?;
                        }
                        break;
                    }
                    b'}' if open.is_object() => open.pop(),
                    b']' if !open.is_object() => open.pop(),
                    _ => return Err(BadJson { message: "a comma or the end of the array or object is due", at }),
                }
                at += 1;
            }
        }
    }
}

/// The arrays and objects that are open, a bit for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Containers {
    depth: usize,
    /// The innermost of them, 1 for an object: as many as the depth's rest when divided by 64, or 64.
    top: u64,
    below: Vec<u64>,
}

impl Containers {
    #[inline(always)]
    fn push(&mut self, is_object: bool, traits: &mut Traits) {
        if self.depth.is_multiple_of(64) && self.depth != 0 {
            self.below.push(self.top);
        }
        self.top = self.top << 1 | u64::from(is_object);
        self.depth += 1;
        traits.depth = traits.depth.max(self.depth);
    }

    #[inline(always)]
    fn pop(&mut self) {
        self.depth -= 1;
        self.top >>= 1;
        if self.depth.is_multiple_of(64) && self.depth != 0 {
            self.top = self.below.pop().unwrap_or_default();
        }
    }

    #[inline(always)]
    fn is_object(&self) -> bool {
        self.top & 1 == 1
    }
}

/// The byte at `at`; 0 at the end, which stands nowhere in JSON.
#[inline(always)]
fn peek(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or_default()
}

#[inline(always)]
fn skip_space(bytes: &[u8], mut at: usize, traits: &mut Traits) -> usize {
    if b' ' < peek(bytes, at) {
        return at;
    }
    while is_space(peek(bytes, at)) {
        traits.has_space = true;
        at += 1;
    }
    at
}

/// Reads a member's name and the colon, up to where its value is due.
#[inline(always)]
fn scan_name(bytes: &[u8], at: usize, traits: &mut Traits) -> Result<usize, BadJson> {
    if peek(bytes, at) != b'"' {
        return Err(BadJson { message: "a member's name is due", at });
    }
    let end = scan_string(bytes, at, traits)?;
    let at = skip_space(bytes, end, traits);
    if peek(bytes, at) != b':' {
        return Err(BadJson { message: "a colon is due", at });
    }
    Ok(skip_space(bytes, at + 1, traits))
}

#[inline(always)]
fn scan_string(bytes: &[u8], at: usize, traits: &mut Traits) -> Result<usize, BadJson> {
    let at = plain_end(bytes, at + 1);
    if peek(bytes, at) == b'"' { Ok(at + 1) } else { scan_escapes(bytes, at, traits) }
}

/// Reads a string on from where it does not simply go on.
fn scan_escapes(bytes: &[u8], mut at: usize, traits: &mut Traits) -> Result<usize, BadJson> {
    loop {
        match peek(bytes, at) {
            b'"' => return Ok(at + 1),
            b'\\' => at = scan_escape(bytes, at + 1, traits)?,
            _ if at == bytes.len() => return Err(BadJson { message: "the string does not end", at }),
            0..0x20 => return Err(BadJson { message: "a control character in a string is escaped", at }),
            _ => at = plain_end(bytes, at),
        }
    }
}

/// Reads what stands behind a backslash.
fn scan_escape(bytes: &[u8], at: usize, traits: &mut Traits) -> Result<usize, BadJson> {
    match peek(bytes, at) {
        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(at + 1),
        b'u' => {
            let (unit, end) = scan_unit(bytes, at)?;
            traits.has_nul |= unit == 0;
            if !(0xd800..0xe000).contains(&unit) {
                return Ok(end);
            }
            if unit < 0xdc00 && peek(bytes, end) == b'\\' && peek(bytes, end + 1) == b'u' {
                let (second, pair_end) = scan_unit(bytes, end + 1)?;
                if (0xdc00..0xe000).contains(&second) {
                    return Ok(pair_end);
                }
            }
            traits.has_half_character = true;
            Ok(end)
        }
        _ => Err(BadJson { message: "no escape begins like this", at }),
    }
}

/// Reads a `u` and four hexadecimal digits.
fn scan_unit(bytes: &[u8], at: usize) -> Result<(u16, usize), BadJson> {
    let digits = bytes.get(at + 1..at + 5).unwrap_or_default();
    let digit = |unit: u16, digit: &u8| Some(unit << 4 | char::from(*digit).to_digit(16)? as u16);
    match digits.iter().try_fold(0, digit).filter(|_| digits.len() == 4) {
        Some(unit) => Ok((unit, at + 5)),
        None => Err(BadJson { message: "an escape has four hexadecimal digits", at }),
    }
}

#[inline(always)]
fn scan_number(bytes: &[u8], start: usize, traits: &mut Traits) -> Result<usize, BadJson> {
    let whole_start = start + usize::from(peek(bytes, start) == b'-');
    let whole_end = scan_digits(bytes, whole_start)?;
    let whole = whole_end - whole_start;
    if 1 < whole && peek(bytes, whole_start) == b'0' {
        return Err(BadJson { message: "a number begins with no more zeros than one", at: whole_start });
    }
    match peek(bytes, whole_end) {
        b'.' | b'e' | b'E' => scan_fraction(bytes, (whole_start, whole_end), traits),
        _ => {
            if FINITE_DIGITS_MAX < whole as i64 {
                traits.has_wide_number |= is_wide(&bytes[whole_start..whole_end], whole, whole as i64);
            }
            Ok(whole_end)
        }
    }
}

/// Reads a number on from where its whole part ends.
fn scan_fraction(
    bytes: &[u8],
    (whole_start, whole_end): (usize, usize),
    traits: &mut Traits,
) -> Result<usize, BadJson> {
    let mut digits_end = whole_end;
    if peek(bytes, digits_end) == b'.' {
        digits_end = scan_digits(bytes, digits_end + 1)?;
    }
    let (mut end, mut exponent) = (digits_end, 0);
    if matches!(peek(bytes, end), b'e' | b'E') {
        let sign = peek(bytes, end + 1);
        let start = end + 1 + usize::from(matches!(sign, b'+' | b'-'));
        end = scan_digits(bytes, start)?;
        // No exact number is needed of one that large.
        let digits = bytes[start..end].iter();
        let size = digits.fold(0, |size: i64, digit| (size * 10 + i64::from(digit - b'0')).min(1_000_000));
        exponent = if sign == b'-' { -size } else { size };
    }
    let whole = (whole_end - whole_start) as i64;
    traits.has_wide_number |= exponent < STRICT_EXPONENT_MIN
        || is_wide(&bytes[whole_start..digits_end], digits_end - whole_start, whole + exponent);
    Ok(end)
}

/// Whether a number is too wide: `digits`, of which a point may be one, are `count`, and if there were no exponent `before_point`
/// of them would stand before the point.
fn is_wide(digits: &[u8], count: usize, before_point: i64) -> bool {
    if STRICT_DIGITS_MAX < count {
        return true;
    }
    if before_point <= FINITE_DIGITS_MAX || peek(digits, 0) == b'0' && digits.iter().all(|it| matches!(it, b'0' | b'.'))
    {
        return false;
    }
    let digits = digits.iter().filter(|it| **it != b'.');
    FINITE_DIGITS_MAX + 1 < before_point || digits.take(INFINITE_DIGITS.len()).ge(INFINITE_DIGITS)
}

#[inline(always)]
fn scan_digits(bytes: &[u8], start: usize) -> Result<usize, BadJson> {
    let mut at = start;
    while peek(bytes, at).is_ascii_digit() {
        at += 1;
    }
    if at == start { Err(BadJson { message: "a digit is due", at }) } else { Ok(at) }
}

#[inline(always)]
fn scan_literal(bytes: &[u8], at: usize, literal: &[u8]) -> Result<usize, BadJson> {
    match bytes[at..].starts_with(literal) {
        true => Ok(at + literal.len()),
        false => Err(BadJson { message: "a value is due", at }),
    }
}
