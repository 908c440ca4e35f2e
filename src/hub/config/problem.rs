//! Errors in a configuration, each with its source.

use std::{fmt, ops::Range, path::PathBuf};

use super::redact::{redact, show_line};

/// Why a configuration cannot be used: all errors found, not only the first.
#[derive(Debug)]
pub struct ConfigError {
    pub(super) problems: Vec<Problem>,
}

#[derive(Debug)]
pub(super) struct Problem {
    /// Where the value was set; `None` if it is a default or concerns several keys.
    pub(super) source: Option<ValueSource>,
    pub(super) message: String,
}

/// Where a value was set.
#[derive(Clone, Debug)]
pub(super) enum ValueSource {
    /// In the configuration file.
    File(FileSpan),
    /// In the environment: the variable's name.
    Variable(String),
    /// On the command line: the flag.
    Flag(&'static str),
}

/// A range of one line of the configuration file.
#[derive(Clone, Debug)]
pub(super) struct FileSpan {
    path: PathBuf,
    /// The line, with what may be a secret masked.
    shown: String,
    /// Whether nothing is masked up to the end of the range, so that it can be underlined.
    is_whole: bool,
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    /// In characters, within the line; at least 1.
    width: usize,
}

impl FileSpan {
    /// The range of the bytes `span` of `text`, the content of the file at `path`.
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
    /// Sorts the errors: those in the file by line, then the others.
    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| match &problem.source {
            Some(ValueSource::File(spot)) => (0, spot.order()),
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
        match &self.source {
            None => f.write_str(&message),
            Some(ValueSource::Variable(name)) => write!(f, "{name}: {message}"),
            Some(ValueSource::Flag(flag)) => write!(f, "{flag}: {message}"),
            Some(ValueSource::File(spot)) => {
                write!(f, "{}:{}:{}: {message}{spot}", spot.path.display(), spot.line, spot.column)
            }
        }
    }
}

/// The line with the range underlined, unless something before its end is masked: the underline would stand wrong.
impl fmt::Display for FileSpan {
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
