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
    problem::{ConfigError, Place, Problem, Spot},
    written::Written,
};
use crate::endpoint::CompatApi;

/// A key set on the command line.
#[derive(Clone, Debug)]
pub struct Override {
    /// The flag, as typed: for errors.
    pub flag: &'static str,
    /// The key it sets.
    pub key: &'static str,
    /// Its value; the items of a list are separated by commas.
    pub value: String,
}

/// A configuration as written, and who wrote what.
#[derive(Debug)]
pub(super) struct Layered {
    pub(super) written: Written,
    /// By the key's path.
    pub(super) places: HashMap<&'static str, Place>,
    /// The folder that relative file names start from.
    pub(super) folder: PathBuf,
    /// There is a file, and it has no byte.
    pub(super) has_empty_file: bool,
    /// What is no error, and yet probably not what somebody wants.
    pub(super) warnings: Vec<String>,
}

/// One key's value in one layer.
struct Given<'t> {
    key: &'static Key<Written>,
    place: Place,
    value: GivenValue<'t>,
}

enum GivenValue<'t> {
    Toml(&'t Spanned<DeValue<'t>>),
    Text(String),
}

/// The file's text and where to look for it when something in it is wrong.
struct File {
    path: PathBuf,
    text: String,
}

/// Lays the layers over the defaults.
pub(super) fn read_layers(
    files: &Files,
    file: Option<&Path>,
    variables: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<Layered, ConfigError> {
    let mut problems = Vec::new();
    let file = File::read(file, files)?;
    let table = file.parse()?;
    let mut given = file.gather(table.get_ref(), &mut problems);
    let mut warnings = Vec::new();
    for (name, text) in variables {
        match Variable::classify(&name, &text) {
            Variable::Key(path) => give(&path, text, Place::Variable(name), &mut given, &mut problems),
            Variable::SingleUnderscores(path) => problems.push(environment::single_underscores(name, path)),
            Variable::Unknown => warnings.push(environment::unknown(&name)),
            Variable::Foreign => {}
        }
    }
    for flag in flags {
        give(flag.key, flag.value.clone(), Place::Flag(flag.flag), &mut given, &mut problems);
    }
    // A class is as the default class but for what it says itself, so that one must be complete before.
    given.sort_by_key(|given| given.key.path == "topics.class");
    let mut layered = Layered { warnings, ..assign(&file, given, &mut problems) };
    // This default is the broadcaster's.
    if !layered.written.compat.has(CompatApi::Broadcaster) && !layered.places.contains_key("server.default_topics") {
        layered.written.server.default_topics.clear();
    }
    if problems.is_empty() { Ok(layered) } else { Err(ConfigError::new(problems)) }
}

fn give(path: &str, text: String, place: Place, given: &mut Vec<Given<'_>>, problems: &mut Vec<Problem>) {
    match lookup::find_key(KEYS, path) {
        Ok(key) => given.push(Given { key, place, value: GivenValue::Text(text) }),
        Err(message) => problems.push(Problem { place: Some(place), message }),
    }
}

fn assign(file: &File, given: Vec<Given<'_>>, problems: &mut Vec<Problem>) -> Layered {
    let mut written = Written::default();
    let mut places = HashMap::new();
    for Given { key, place, value } in given {
        let field = (key.field)(&mut written);
        match value {
            GivenValue::Toml(value) => {
                let mut faults = Vec::new();
                field.assign(value, &mut faults);
                problems.extend(faults.into_iter().map(|fault| file.problem(fault)));
            }
            GivenValue::Text(text) => {
                if let Err(message) = field.assign_text(&text) {
                    problems.push(Problem { place: Some(place.clone()), message });
                }
            }
        }
        places.insert(key.path, place);
    }
    let has_empty_file = file.text.is_empty() && !file.path.as_os_str().is_empty();
    Layered { written, places, folder: file.folder(), has_empty_file, warnings: Vec::new() }
}

impl File {
    /// No path is as good as an empty file.
    fn read(path: Option<&Path>, files: &Files) -> Result<Self, ConfigError> {
        let Some(path) = path else {
            return Ok(Self { path: PathBuf::new(), text: String::new() });
        };
        let text = files.read_text(path).map_err(|error| {
            let message = format!("cannot read the configuration {}: {error}", path.display());
            ConfigError::new(vec![Problem { place: None, message }])
        })?;
        Ok(Self { path: path.to_owned(), text })
    }

    /// Text that is not TOML is not looked into any further: what follows a slip would only add noise.
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

    fn gather<'t>(&self, table: &'t DeTable<'t>, problems: &mut Vec<Problem>) -> Vec<Given<'t>> {
        let mut faults = Vec::new();
        let set = lookup::gather(KEYS, table, &mut faults);
        problems.extend(faults.into_iter().map(|fault| self.problem(fault)));
        let given = set.into_iter().map(|set| Given {
            key: set.key,
            place: self.place(set.name),
            value: GivenValue::Toml(set.value),
        });
        given.collect()
    }

    fn problem(&self, fault: Fault) -> Problem {
        Problem { place: Some(self.place(fault.span)), message: fault.message }
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::File(Spot::new(self.path.clone(), &self.text, span))
    }

    fn folder(&self) -> PathBuf {
        self.path.parent().map(Path::to_owned).unwrap_or_default()
    }
}
