//! Just enough of Rust's lexical structure to tell code from comments and texts.

/// A word or a mark, and its line (from 1). Of the marks only `::` has more than one character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'t> {
    pub(crate) text: &'t str,
    pub(crate) line: usize,
}

/// The code in `text`. Comments, texts, characters and numbers' suffixes are left out.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let mut line = 1;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = skip_silent(rest);
        let length = if skipped != 0 { skipped } else { token_length(rest, first) };
        let (token, behind) = rest.split_at(length);
        if skipped == 0 && !first.is_whitespace() {
            found.push(Token { text: token, line });
        }
        line += token.matches('\n').count();
        rest = behind;
    }
    found
}

/// How many bytes at the front of `rest` are a comment, a text or a character; 0 if none.
fn skip_silent(rest: &str) -> usize {
    let raw = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - raw.len();
    if rest.starts_with("//") {
        rest.find('\n').unwrap_or(rest.len())
    } else if rest.starts_with("/*") {
        block_comment_length(rest)
    } else if prefix <= 1 && (raw.starts_with("r\"") || raw.starts_with("r#\"") || raw.starts_with("r##\"")) {
        prefix + raw_text_length(raw)
    } else if prefix <= 1 && raw.starts_with('"') {
        prefix + quoted_length(raw, '"')
    } else if prefix <= 1 && is_character(raw) {
        prefix + quoted_length(raw, '\'')
    } else {
        0
    }
}

/// A block comment may hold others.
fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < rest.len() {
        let here = &rest.as_bytes()[at..];
        match here {
            [b'/', b'*', ..] => depth += 1,
            [b'*', b'/', ..] => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            break;
        }
    }
    at
}

/// `rest` begins with `r`, some `#`, and a quote.
fn raw_text_length(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|byte| *byte == b'#').count();
    let end = format!("\"{}", "#".repeat(hashes));
    let start = hashes + 2;
    rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len())
}

/// `rest` begins with `quote`.
fn quoted_length(rest: &str, quote: char) -> usize {
    let mut is_escaped = false;
    for (at, letter) in rest.char_indices().skip(1) {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            letter if letter == quote => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `'a'` is a character, `'a` a lifetime.
fn is_character(rest: &str) -> bool {
    let mut letters = rest.chars();
    letters.next() == Some('\'') && (letters.next() == Some('\\') || letters.next() == Some('\''))
}

fn token_length(rest: &str, first: char) -> usize {
    if is_word(first) {
        rest.find(|letter| !is_word(letter)).unwrap_or(rest.len())
    } else if rest.starts_with("::") {
        2
    } else {
        first.len_utf8()
    }
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}
