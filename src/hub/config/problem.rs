//! What is wrong with a configuration, and where it says so.

use std::{fmt, ops::Range, path::PathBuf};

use super::redact::{redact, show_line};

/// Why there is no configuration: everything found wrong, not just the first of it.
#[derive(Debug)]
pub struct ConfigError {
    pub(super) problems: Vec<Problem>,
}

/// One thing wrong.
#[derive(Debug)]
pub(super) struct Problem {
    /// Where it was said; `None` if nobody said it.
    pub(super) place: Option<Place>,
    pub(super) message: String,
}

/// Where a value was given.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In the file.
    File(Spot),
    /// In the environment: the variable's name.
    Variable(String),
    /// On the command line: the flag.
    Flag(&'static str),
}

/// A place in the file.
#[derive(Clone, Debug)]
pub(super) struct Spot {
    path: PathBuf,
    /// The line it is in, without what may be a secret.
    shown: String,
    /// Whether all of the line up to the end of the place is shown.
    is_whole: bool,
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// In characters, within the line; at least 1.
    width: usize,
}

impl Spot {
    /// The place of the bytes `span` of `text`, the contents of the file at `path`.
    pub(super) fn new(path: PathBuf, text: &str, span: Range<usize>) -> Self {
        let start = floor(text, span.start);
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = floor(text, span.end).clamp(start, line_end);
        let shown = show_line(text, line_start..line_end);
        Self {
            path,
            is_whole: shown.starts_with(text[line_start..end].trim_end()),
            shown,
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            width: text[start..end].chars().count().max(1),
        }
    }

    fn order(&self) -> (usize, usize) {
        (self.line, self.column)
    }
}

/// The nearest character boundary at or below `at`.
fn floor(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

impl ConfigError {
    /// In the order of the file, then the rest.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match &problem.place {
            Some(Place::File(spot)) => (0, spot.order()),
            _ => (1, (0, 0)),
        });
        Self { problems }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index != 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = redact(&self.message);
        match &self.place {
            None => f.write_str(&message),
            Some(Place::Variable(name)) => write!(f, "{name}: {message}"),
            Some(Place::Flag(flag)) => write!(f, "{flag}: {message}"),
            Some(Place::File(spot)) => {
                write!(f, "{}:{}:{}: {message}{spot}", spot.path.display(), spot.line, spot.column)
            }
        }
    }
}

/// The line with the place underlined, unless something is masked ahead of it: then the underline would be off, too.
impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.shown;
        let margin = " ".repeat(self.line.to_string().len());
        write!(f, "\n{margin} |\n{} | {shown}", self.line)?;
        if self.is_whole {
            write!(f, "\n{margin} | {}{}", " ".repeat(self.column - 1), "^".repeat(self.width))?;
        }
        Ok(())
    }
}
