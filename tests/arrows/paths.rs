//! The paths that a file's code names, with groups spread out: `a::{b, c::d}` names `a::b` and `a::c::d`.

use crate::lexer::Token;

/// A path, and the line of its last word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CodePath<'t> {
    pub(crate) words: Vec<&'t str>,
    pub(crate) line: usize,
}

/// All paths of two words or more.
pub(crate) fn paths<'t>(tokens: &[Token<'t>]) -> Vec<CodePath<'t>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = if is_word(tokens[at]) { read_path(tokens, at, &[], &mut found) } else { at + 1 };
    }
    found.retain(|path| 1 < path.words.len());
    found
}

/// Reads the path that begins at `at`, behind `prefix`; returns where it ends.
fn read_path<'t>(tokens: &[Token<'t>], mut at: usize, prefix: &[&'t str], found: &mut Vec<CodePath<'t>>) -> usize {
    let mut words = prefix.to_vec();
    loop {
        words.push(tokens[at].text);
        let line = tokens[at].line;
        let is_longer = tokens.get(at + 1).is_some_and(|token| token.text == "::");
        match tokens.get(at + 2) {
            Some(next) if is_longer && is_word(*next) => at += 2,
            Some(next) if is_longer && next.text == "{" => return read_group(tokens, at + 3, &words, found),
            _ => {
                found.push(CodePath { words, line });
                return at + 1;
            }
        }
    }
}

/// Reads what stands between braces; `at` is behind the opening one.
fn read_group<'t>(tokens: &[Token<'t>], mut at: usize, prefix: &[&'t str], found: &mut Vec<CodePath<'t>>) -> usize {
    while let Some(token) = tokens.get(at) {
        at = match token.text {
            "}" => return at + 1,
            "self" => {
                found.push(CodePath { words: prefix.to_vec(), line: token.line });
                at + 1
            }
            // The new name is not part of the path.
            "as" => at + 2,
            _ if is_word(*token) => read_path(tokens, at, prefix, found),
            _ => at + 1,
        };
    }
    at
}

fn is_word(token: Token<'_>) -> bool {
    token.text.starts_with(|letter: char| letter.is_alphabetic() || letter == '_')
}
