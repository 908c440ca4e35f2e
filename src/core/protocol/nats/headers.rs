//! The header block of a message: a line `NATS/1.0`, perhaps with a status behind it, then lines `Name: value`, then an empty line.

/// What a header block begins with.
pub(super) const VERSION: &[u8] = b"NATS/1.0";

/// A header block as it came. Any client can publish any bytes as headers, and the server passes them on as they are; so reading never
/// fails. A line without a colon, and whatever stands in a block that does not begin with the version, says nothing. A block without an
/// empty line ends where its bytes end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderBlock<'a>(&'a [u8]);

impl<'a> HeaderBlock<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The status that a server answers with, such as 503 where nobody serves the subject, and its description, which may be empty.
    pub fn status(&self) -> Option<(u16, &'a [u8])> {
        let (rest, _) = split_line(self.0.strip_prefix(VERSION)?);
        let rest = rest.strip_prefix(b" ")?.trim_ascii();
        let (digits, description) = rest.split_at(rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len()));
        let status = std::str::from_utf8(digits).ok().filter(|digits| digits.len() == 3)?.parse().ok()?;
        Some((status, description.trim_ascii()))
    }

    /// Names and values in order, the values without blanks at their ends.
    pub fn lines(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut rest = self.0.strip_prefix(VERSION).map_or(&[][..], |rest| split_line(rest).1);
        std::iter::from_fn(move || {
            while !rest.is_empty() {
                let (line, behind) = split_line(rest);
                // Nothing stands behind the empty line.
                rest = if line.is_empty() { &[] } else { behind };
                if let Some(colon) = memchr::memchr(b':', line) {
                    return Some((&line[..colon], line[colon + 1..].trim_ascii()));
                }
            }
            None
        })
    }

    /// The first value of `name`, whose letters count as they are.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.lines().find_map(|(line_name, value)| (line_name == name.as_bytes()).then_some(value))
    }
}

/// The first line, and what follows its end.
fn split_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    let mut from = 0;
    while let Some(at) = memchr::memchr(b'\n', &bytes[from..]).map(|at| from + at) {
        if at != 0 && bytes[at - 1] == b'\r' {
            return (&bytes[..at - 1], &bytes[at + 1..]);
        }
        from = at + 1;
    }
    (bytes, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(block: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        HeaderBlock::new(block).lines().map(|(name, value)| (text(name), text(value))).collect()
    }

    #[test]
    fn whatever_stands_there_is_read_as_far_as_it_goes() {
        let check = |block: &[u8], expected: &[(&str, &str)]| {
            let expected: Vec<_> = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
            assert_eq!(lines(block), expected, "{}", block.escape_ascii());
        };
        check(b"NATS/1.0\r\n\r\n", &[]);
        check(b"NATS/1.0\r\nA: b\r\nC:d\r\n\r\n", &[("A", "b"), ("C", "d")]);
        check(b"NATS/1.0\r\nA:  b c \t\r\nE:\r\nE: x:y\r\n\r\n", &[("A", "b c"), ("E", ""), ("E", "x:y")]);
        check(b"NATS/1.0 503\r\nA: b\r\n\r\n", &[("A", "b")]);
        // Neither text nor a line end of the protocol's.
        check(b"NATS/1.0\r\nA: \xFF\r\nB: c\nd\r\n\r\n", &[("A", "\\xff"), ("B", "c\\nd")]);
        // No colon, no empty line, no version, nothing.
        check(b"NATS/1.0\r\nnothing\r\nA: b\r\n\r\n", &[("A", "b")]);
        check(b"NATS/1.0\r\nA: b", &[("A", "b")]);
        check(b"NATS/1.0\r\nA: b\r", &[("A", "b")]);
        check(b"NATS/1.0", &[]);
        check(b"HTTP/1.1\r\nA: b\r\n\r\n", &[]);
        check(b"", &[]);
        check(b"\r\n", &[]);
        // What stands behind the end is no header.
        check(b"NATS/1.0\r\nA: b\r\n\r\nC: d\r\n\r\n", &[("A", "b")]);
    }

    #[test]
    fn the_first_value_of_a_name_counts() {
        let block = HeaderBlock::new(b"NATS/1.0\r\na: 0\r\nA: 1\r\nA: 2\r\n\r\n");
        assert_eq!((block.get("A"), block.get("B"), block.get("a")), (Some(&b"1"[..]), None, Some(&b"0"[..])));
    }

    #[test]
    fn a_status_may_stand_in_the_first_line() {
        let check = |block: &str, expected: Option<(u16, &str)>| {
            let expected = expected.map(|(status, text)| (status, text.as_bytes()));
            assert_eq!(HeaderBlock::new(block.as_bytes()).status(), expected, "{block:?}");
        };
        check("NATS/1.0 503\r\n\r\n", Some((503, "")));
        check("NATS/1.0 404 No Messages\r\nA: b\r\n\r\n", Some((404, "No Messages")));
        check("NATS/1.0 100 Idle Heartbeat", Some((100, "Idle Heartbeat")));
        check("NATS/1.0\r\n\r\n", None);
        check("NATS/1.0 x\r\n\r\n", None);
        check("NATS/1.0 5031\r\n\r\n", None);
        check("NATS/1.0503\r\n\r\n", None);
        check("HTTP/1.1 503\r\n\r\n", None);
        check("", None);
    }
}
