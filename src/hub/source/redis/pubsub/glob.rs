//! Redis's glob patterns: which channels a `PSUBSCRIBE` pattern covers.

/// A pattern as Redis matches it: `*` any run of bytes, `?` one byte, `[a-c]` and `[^a-c]` one of a set, `\` takes the
/// next byte literally. Every text is a pattern; the odd ones (an unclosed set, a last backslash) mean what they mean
/// to Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::source::redis) struct Glob {
    text: Box<str>,
    pieces: Box<[Piece]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Run,
    AnyByte,
    Byte(u8),
    Set { negated: bool, ranges: Box<[(u8, u8)]> },
}

impl Glob {
    pub(super) fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text.as_bytes();
        while let Some((piece, after)) = parse_piece(rest) {
            // A run beside a run adds nothing but work.
            if piece != Piece::Run || pieces.last() != Some(&Piece::Run) {
                pieces.push(piece);
            }
            rest = after;
        }
        Self { text: text.into(), pieces: pieces.into() }
    }

    /// The pattern as it was written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern covers `channel`.
    ///
    /// Only the last run is ever widened: what stood before it has matched as early as it can, so nothing is gained by
    /// going back further, and the cost stays below pattern length times channel length.
    pub(super) fn matches(&self, channel: &[u8]) -> bool {
        let (mut piece, mut byte) = (0, 0);
        let mut last_run = None;
        while byte < channel.len() {
            match self.pieces.get(piece) {
                Some(Piece::Run) => {
                    last_run = Some((piece + 1, byte));
                    piece += 1;
                }
                Some(one) if one.takes(channel[byte]) => {
                    piece += 1;
                    byte += 1;
                }
                _ => {
                    let Some((after_run, start)) = last_run else { return false };
                    last_run = Some((after_run, start + 1));
                    (piece, byte) = (after_run, start + 1);
                }
            }
        }
        self.pieces[piece..].iter().all(|rest| *rest == Piece::Run)
    }
}

impl Piece {
    fn takes(&self, byte: u8) -> bool {
        match self {
            Self::Run => false,
            Self::AnyByte => true,
            Self::Byte(wanted) => byte == *wanted,
            Self::Set { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte)) != *negated
            }
        }
    }
}

/// The first piece of `pattern` and what follows it.
fn parse_piece(pattern: &[u8]) -> Option<(Piece, &[u8])> {
    let (first, rest) = pattern.split_first()?;
    Some(match (first, rest) {
        (b'*', _) => (Piece::Run, rest),
        (b'?', _) => (Piece::AnyByte, rest),
        (b'[', _) => parse_set(rest),
        (b'\\', [literal, after @ ..]) => (Piece::Byte(*literal), after),
        (literal, _) => (Piece::Byte(*literal), rest),
    })
}

/// A set, from behind its opening bracket. One that is never closed ends with the pattern.
fn parse_set(pattern: &[u8]) -> (Piece, &[u8]) {
    let (negated, mut rest) = match pattern {
        [b'^', after @ ..] => (true, after),
        _ => (false, pattern),
    };
    let mut ranges = Vec::new();
    loop {
        rest = match rest {
            [] => break,
            [b'\\', literal, after @ ..] => {
                ranges.push((*literal, *literal));
                after
            }
            [b']', after @ ..] => {
                rest = after;
                break;
            }
            [one, b'-', other, after @ ..] => {
                ranges.push((*one.min(other), *one.max(other)));
                after
            }
            [literal, after @ ..] => {
                ranges.push((*literal, *literal));
                after
            }
        };
    }
    (Piece::Set { negated, ranges: ranges.into() }, rest)
}
