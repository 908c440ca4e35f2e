//! Compares what a page shows with what was received, apart from what differs from run to run.

use std::collections::HashMap;

/// What the ids of a page stand for: the first part of each, shown and real.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids(HashMap<String, String>);

/// A part of a shown line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part<'a> {
    Text(&'a str),
    /// The first part of an id.
    Epoch(&'a str),
    Number,
    Time,
    /// `…`
    Anything,
}

/// The fewest digits that the first part of an id has: those of a Redis Stream are milliseconds.
const EPOCH_DIGITS_MIN: usize = 10;

impl Ids {
    /// `text` of the page as it is sent to a hub: with the ids that the shown ones stand for.
    pub(super) fn fill_in(&self, text: &str) -> String {
        let real = |part| match part {
            (Part::Epoch(shown), _) => self.0.get(shown).map_or(shown, String::as_str),
            (_, text) => text,
        };
        parts(text).into_iter().map(real).collect()
    }

    /// Whether all of `real` is as `shown`, of which a line `…` is any number of lines.
    pub(super) fn match_lines(&mut self, shown: &[String], real: &[String]) -> bool {
        let Some((first, rest)) = shown.split_first() else { return real.is_empty() };
        if first == "…" {
            return (0..=real.len()).any(|skipped| self.match_lines(rest, &real[skipped..]));
        }
        let Some((line, others)) = real.split_first() else { return false };
        let before = self.clone();
        let is_same = self.match_line(first, line) && self.match_lines(rest, others);
        if !is_same {
            *self = before;
        }
        is_same
    }

    /// Whether the line `real` is as `shown`. Then the ids in it are known from now on.
    pub(super) fn match_line(&mut self, shown: &str, real: &str) -> bool {
        // An event of Redis Pub/Sub has one if the hubs' first mark was faster.
        let (shown, real) = (without_fingerprints(shown), without_fingerprints(real));
        let parts: Vec<Part<'_>> = parts(&shown).into_iter().map(|(part, _)| part).collect();
        let before = self.clone();
        let is_same = self.match_parts(&parts, &real);
        if !is_same {
            *self = before;
        }
        is_same
    }

    fn match_parts(&mut self, parts: &[Part<'_>], real: &str) -> bool {
        let Some((first, rest)) = parts.split_first() else { return real.is_empty() };
        let length = match first {
            Part::Anything => {
                let mut ends = real.char_indices().map(|(at, _)| at).chain([real.len()]);
                return ends.any(|end| self.match_parts(rest, &real[end..]));
            }
            Part::Text(text) => real.starts_with(text).then_some(text.len()),
            Part::Number => Some(number_length(real)).filter(|length| *length != 0),
            Part::Time => time_length(real),
            Part::Epoch(shown) => epoch_length(real).filter(|length| self.is_known_as(shown, &real[..*length])),
        };
        length.is_some_and(|length| self.match_parts(rest, &real[length..]))
    }

    /// Whether `shown` stands for `real` alone, and nothing else does. New ones are remembered.
    fn is_known_as(&mut self, shown: &str, real: &str) -> bool {
        match self.0.get(shown) {
            Some(known) => known == real,
            None if self.0.values().any(|known| known == real) => false,
            None => self.0.insert(shown.to_owned(), real.to_owned()).is_none(),
        }
    }
}

/// `text` without the fingerprints of ids: of `~` behind a digit, and the hexadecimal number behind it.
fn without_fingerprints(text: &str) -> String {
    let mut pieces = text.split('~');
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let length = piece.bytes().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).count();
        if kept.ends_with(|last: char| last.is_ascii_digit()) && (1..=16).contains(&length) {
            kept.push_str(&piece[length..]);
        } else {
            kept.extend(["~", piece]);
        }
    }
    kept
}

/// The parts of a line, each with its text.
fn parts(line: &str) -> Vec<(Part<'_>, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut inside_word = false;
    while let Some(next) = line[at..].chars().next() {
        let found = if next == '…' { Some((Part::Anything, next.len_utf8())) } else { changing_part(&line[at..]) };
        // Digits inside a word are no number.
        let Some((part, length)) = found.filter(|_| next == '…' || !inside_word) else {
            inside_word = next.is_ascii_alphanumeric();
            at += next.len_utf8();
            continue;
        };
        if start < at {
            parts.push((Part::Text(&line[start..at]), &line[start..at]));
        }
        parts.push((part, &line[at..at + length]));
        at += length;
        start = at;
        inside_word = false;
    }
    if start < line.len() {
        parts.push((Part::Text(&line[start..]), &line[start..]));
    }
    parts
}

/// The part at the front of `text` that differs from run to run, and its length. Text where it is digits that do not.
fn changing_part(text: &str) -> Option<(Part<'_>, usize)> {
    if let Some(length) = time_length(text) {
        return Some((Part::Time, length));
    }
    if let Some(length) = epoch_length(text) {
        return Some((Part::Epoch(&text[..length]), length));
    }
    let length = number_length(text);
    let number = &text[..length];
    match number.matches('.').count() {
        _ if length == 0 => None,
        0 if length < 4 => Some((Part::Text(number), length)),
        0 | 1 => Some((Part::Number, length)),
        // An address, or a version.
        _ => Some((Part::Text(number), length)),
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Digits, with points between them.
fn number_length(text: &str) -> usize {
    let length = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    if digits(text) == 0 { 0 } else { text[..length].trim_end_matches('.').len() }
}

fn epoch_length(text: &str) -> Option<usize> {
    let length = digits(text);
    let behind = text[length..].strip_prefix('-')?;
    (EPOCH_DIGITS_MIN <= length && digits(behind) != 0).then_some(length)
}

/// `2026-11-30T09:02:36.781897Z`
fn time_length(text: &str) -> Option<usize> {
    let form = b"dddd-dd-ddTdd:dd:dd";
    let is_time = form.len() <= text.len()
        && form.iter().zip(text.bytes()).all(|(form, byte)| match form {
            b'd' => byte.is_ascii_digit(),
            _ => *form == byte,
        });
    let end =
        form.len() + text.get(form.len()..)?.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let zone = &text[end..];
    let zone_length = if zone.starts_with('Z') { 1 } else { "+00:00".len() };
    (is_time && (zone.starts_with(['Z', '+', '-']) && zone_length <= zone.len())).then_some(end + zone_length)
}

#[test]
fn lines_are_the_same_but_for_what_changes() {
    let same = [
        ("plain 12", "plain 12"),
        ("a … c", "a b b c"),
        ("retry: 3811", "retry: 250"),
        ("in 1.802 s", "in 0.5 s"),
        ("at 2026-11-30T09:02:36.781897Z!", "at 2027-01-01T00:00:00+01:00!"),
        ("id: 7710467327018517069-1,7710467327018517069-0", "id: 1111111111111-1,1111111111111-0"),
        ("id: 7710467327018517069-1~5e33,0-1", "id: 1111111111111-1~f0,0-1~1"),
        ("id: 7710467327018517069-1~5e33", "id: 1111111111111-1"),
        ("\"7710467327018517069-1\" ~a", "\"1111111111111-1~f0\" ~a"),
    ];
    for (shown, real) in same {
        assert!(Ids::default().match_line(shown, real), "{shown} | {real}");
    }
    let different = [
        ("plain 12", "plain 13"),
        ("a … c", "a b d"),
        ("retry: 3811", "retry: x"),
        ("127.0.0.1", "127.0.0.2"),
        ("0.1.0", "0.2.0"),
        ("abc1234", "abc1235"),
        ("id: 7710467327018517069-1", "id: 1111111111111-2"),
        ("id: 7710467327018517069-1,7710467327018517069-0", "id: 1111111111111-1,2222222222222-0"),
        ("7710467327018517069-1 8810467327018517069-1", "1111111111111-1 1111111111111-1"),
        ("0-1", "0-2"),
        ("id: 7710467327018517069-1~5e33", "id: 1111111111111-2~5e33"),
        ("x~a", "x~b"),
        ("1~", "1"),
    ];
    for (shown, real) in different {
        assert!(!Ids::default().match_line(shown, real), "{shown} | {real}");
    }
}

#[test]
fn ids_that_were_seen_are_replaced() {
    let mut ids = Ids::default();
    assert!(ids.match_line("{\"id\":\"7710467327018517069-1\"}", "{\"id\":\"1111111111111-1\"}"));
    let said = ids.fill_in("Last-Event-ID: 7710467327018517069-1 of 8810467327018517069-4 in 12345 … ms");
    assert_eq!(said, "Last-Event-ID: 1111111111111-1 of 8810467327018517069-4 in 12345 … ms");
}

#[test]
fn any_number_of_lines() {
    let lines = |text: &str| text.split(' ').filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>();
    let check = |shown: &str, real: &str| Ids::default().match_lines(&lines(shown), &lines(real));
    assert!(check("a … d", "a b c d") && check("…", "") && check("a …", "a") && check("", ""));
    assert!(!check("a … d", "a b c") && !check("a", "a b") && !check("a b", "a") && !check("", "a"));
}
