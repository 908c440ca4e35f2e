//! The three layers, one over the other: file, environment, flags.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    environment::{self, Variable},
    field::Fault,
    files::Files,
    keys::{KEYS, Key},
    lookup,
    problem::{ConfigError, FileSpan, Problem, ValueSource},
    raw::RawConfig,
};
use crate::endpoint::CompatApi;

/// A key set on the command line.
#[derive(Clone, Debug)]
pub struct Override {
    /// The flag as typed, for errors.
    pub flag: &'static str,
    /// The path of the key.
    pub key: &'static str,
    /// The value. Items of a list are separated by commas.
    pub value: String,
}

/// The layers merged, with the source of each value.
#[derive(Debug)]
pub(super) struct LayeredConfig {
    pub(super) raw: RawConfig,
    /// By the path of the key; keys at their default have none.
    pub(super) sources: HashMap<&'static str, ValueSource>,
    /// The folder of the configuration file: relative file names start there.
    pub(super) folder: PathBuf,
    /// Whether there is a configuration file of 0 bytes.
    pub(super) has_empty_file: bool,
    /// Warnings for the operator, one sentence each.
    pub(super) warnings: Vec<String>,
}

/// One key's value in one layer, before it is parsed.
struct AssignedKey<'t> {
    key: &'static Key<RawConfig>,
    source: ValueSource,
    value: AssignedValue<'t>,
}

enum AssignedValue<'t> {
    Toml(&'t Spanned<DeValue<'t>>),
    Text(String),
}

/// The configuration file; both fields are empty without one.
struct File {
    path: PathBuf,
    text: String,
}

/// Merges the layers over the defaults: flags over variables over the file.
pub(super) fn read_layers(
    files: &Files,
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<LayeredConfig, ConfigError> {
    let mut problems = Vec::new();
    let file = File::read(file, files)?;
    let table = file.parse()?;
    let mut given = file.gather(table.get_ref(), &mut problems);
    let mut warnings = Vec::new();
    for (name, text) in variables {
        match Variable::classify(&name, &text) {
            Variable::Key(path) => give(&path, text, ValueSource::Variable(name), &mut given, &mut problems),
            Variable::SingleUnderscores(path) => problems.push(environment::single_underscores(name, path)),
            Variable::Unknown => warnings.push(environment::unknown(&name)),
            Variable::Foreign => {}
        }
    }
    for flag in flags {
        give(flag.key, flag.value.clone(), ValueSource::Flag(flag.flag), &mut given, &mut problems);
    }
    // A class takes the keys it omits from the default class, which must be complete before.
    given.sort_by_key(|given| given.key.path == "topics.class");
    let mut layered = LayeredConfig { warnings, ..assign(&file, given, &mut problems) };
    // The default of `server.default_topics` belongs to the compatibility API `broadcaster`.
    if !layered.raw.compat.has(CompatApi::Broadcaster) && !layered.sources.contains_key("server.default_topics") {
        layered.raw.server.default_topics.clear();
    }
    if problems.is_empty() { Ok(layered) } else { Err(ConfigError::new(problems)) }
}

fn give(path: &str, text: String, source: ValueSource, given: &mut Vec<AssignedKey<'_>>, problems: &mut Vec<Problem>) {
    match lookup::find_key(KEYS, path) {
        Ok(key) => given.push(AssignedKey { key, source, value: AssignedValue::Text(text) }),
        Err(message) => problems.push(Problem { source: Some(source), message }),
    }
}

fn assign(file: &File, given: Vec<AssignedKey<'_>>, problems: &mut Vec<Problem>) -> LayeredConfig {
    let mut raw = RawConfig::default();
    let mut sources = HashMap::new();
    for AssignedKey { key, source, value } in given {
        let field = (key.field)(&mut raw);
        match value {
            AssignedValue::Toml(value) => {
                let mut faults = Vec::new();
                field.assign(value, &mut faults);
                problems.extend(faults.into_iter().map(|fault| file.problem(fault)));
            }
            AssignedValue::Text(text) => {
                if let Err(message) = field.assign_text(&text) {
                    problems.push(Problem { source: Some(source.clone()), message });
                }
            }
        }
        sources.insert(key.path, source);
    }
    let has_empty_file = file.text.is_empty() && !file.path.as_os_str().is_empty();
    LayeredConfig { raw, sources, folder: file.folder(), has_empty_file, warnings: Vec::new() }
}

impl File {
    /// Reads the file at `path`; without a path, an empty one.
    fn read(path: Option<&Path>, files: &Files) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self { path: PathBuf::new(), text: String::new() });
        };
        let text = files.read_text(path).map_err(|error| {
            let message = format!("cannot read the configuration {}: {error}", path.display());
            ConfigError::new(vec![Problem { source: None, message }])
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Parses the file. Fails on the first text that is not TOML: keys are checked only in a file that parses.
    fn parse(&self) -> Result<Spanned<DeTable<'_>>, ConfigError> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        if errors.is_empty() {
            return Ok(table);
        }
        let problems = errors.iter().map(|error| {
            let span = error.span().unwrap_or(0..0);
            self.problem(Fault { span, message: error.message().to_owned() })
        });
        Err(ConfigError::new(problems.collect()))
    }

    fn gather<'t>(&self, table: &'t DeTable<'t>, problems: &mut Vec<Problem>) -> Vec<AssignedKey<'t>> {
        let mut faults = Vec::new();
        let set = lookup::gather(KEYS, table, &mut faults);
        problems.extend(faults.into_iter().map(|fault| self.problem(fault)));
        let given = set.into_iter().map(|set| AssignedKey {
            key: set.key,
            source: self.source(set.name),
            value: AssignedValue::Toml(set.value),
        });
        given.collect()
    }

    fn problem(&self, fault: Fault) -> Problem {
        Problem { source: Some(self.source(fault.span)), message: fault.message }
    }

    fn source(&self, span: Range<usize>) -> ValueSource {
        ValueSource::File(FileSpan::new(self.path.clone(), &self.text, span))
    }

    fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }
}
