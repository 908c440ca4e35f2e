//! Which requirements of the standards are met, where each is decided, and which test proves it.
//!
//! A row is one sentence with MUST or MUST NOT, or a part of it that says enough. Where the code that decides it is in
//! `src`, the sentence is quoted there, above the branch, in this form; a long one goes on in the next line, behind `//=` and
//! three spaces:
//!
//! ```text
//! //= RFC 6455 section 5.1: "a client MUST mask all frames that it sends to the server"
//! ```
//!
//! Requirements of groups that do not concern this project at all have one row for the group. `cargo test --test conformance
//! requirements -- --nocapture` prints the counts.

mod others;
mod rfc6455;
mod rfc9110;
mod rfc9112;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// One requirement.
pub(super) struct Requirement {
    section: &'static str,
    /// The standard's words; of [`State::NotConcerned`], what the group is about.
    text: &'static str,
    state: State,
}

enum State {
    /// These files in `src` decide it, and have the quotation. Tests: `path: function`.
    Met { at: &'static [&'static str], tests: &'static [&'static str] },
    /// This part decides it, and has no quotation. Without tests nothing proves it here.
    Elsewhere { by: &'static str, tests: &'static [&'static str] },
    /// It is not met, on purpose.
    Departs { why: &'static str },
    /// It is about something that this project does not do.
    NotConcerned { why: &'static str },
}

const fn met(
    section: &'static str,
    text: &'static str,
    at: &'static [&'static str],
    tests: &'static [&'static str],
) -> Requirement {
    Requirement { section, text, state: State::Met { at, tests } }
}

const fn elsewhere(
    section: &'static str,
    text: &'static str,
    by: &'static str,
    tests: &'static [&'static str],
) -> Requirement {
    Requirement { section, text, state: State::Elsewhere { by, tests } }
}

const fn departs(section: &'static str, text: &'static str, why: &'static str) -> Requirement {
    Requirement { section, text, state: State::Departs { why } }
}

const fn not_concerned(section: &'static str, text: &'static str, why: &'static str) -> Requirement {
    Requirement { section, text, state: State::NotConcerned { why } }
}

/// Each standard by its name in quotations.
const STANDARDS: [(&str, &[Requirement]); 6] = [
    ("RFC 6455", rfc6455::WEBSOCKET),
    ("RFC 9110", rfc9110::HTTP_SEMANTICS),
    ("RFC 9112", rfc9112::HTTP_1_1),
    ("HTML", others::EVENT_STREAMS),
    ("Engine.IO 4", others::ENGINE_IO),
    ("Socket.IO 5", others::SOCKET_IO),
];

/// A quotation: standard and section as in `RFC 6455 section 5.1`, and the words.
type Quotation = (String, String);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All quotations in `src`, each with the files that have it.
fn quotations() -> BTreeMap<Quotation, BTreeSet<String>> {
    let mut found: BTreeMap<Quotation, BTreeSet<String>> = BTreeMap::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the sources are there") {
            let path = entry.expect("it is readable").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root()).expect("it is below").display().to_string();
                let text = fs::read_to_string(&path).expect("sources are text");
                for quotation in quotations_in(&text).unwrap_or_else(|line| panic!("{name}: no quotation: {line}")) {
                    found.entry(quotation).or_default().insert(name.clone());
                }
            }
        }
    }
    found
}

/// The quotations in the text of a file, or a line that looks like one and is none.
fn quotations_in(text: &str) -> Result<Vec<Quotation>, String> {
    let mut whole: Vec<String> = Vec::new();
    for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("//=")) {
        match (line.strip_prefix("   "), whole.last_mut()) {
            (Some(rest), Some(last)) => {
                last.push(' ');
                last.push_str(rest);
            }
            _ => whole.push(line.trim_start().to_owned()),
        }
    }
    let split = |line: String| {
        let parts = line.split_once(": \"").and_then(|(head, words)| Some((head, words.strip_suffix('"')?)));
        match parts.filter(|(head, _)| head.contains(" section ")) {
            Some((head, words)) => Ok((head.to_owned(), words.to_owned())),
            None => Err(line),
        }
    };
    whole.into_iter().map(split).collect()
}

/// Whether `test`, such as `tests/conformance/http/lines.rs: targets`, names a function that is there.
fn exists(test: &str) -> bool {
    let Some((file, function)) = test.split_once(": ") else { return false };
    let text = fs::read_to_string(root().join(PathBuf::from(file))).unwrap_or_default();
    text.contains(&format!("fn {function}("))
}

#[test]
fn every_requirement_is_where_the_table_says() {
    let mut quoted = quotations();
    let mut wrong = Vec::new();
    for (standard, requirement) in all() {
        let id = format!("{standard} section {}", requirement.section);
        if let State::Met { at, .. } = &requirement.state {
            let files = quoted.remove(&(id.clone(), requirement.text.to_owned())).unwrap_or_default();
            let expected: BTreeSet<String> = at.iter().map(|file| (*file).to_owned()).collect();
            if files != expected {
                wrong
                    .push(format!("{id}: {:?} is to be quoted in {expected:?}, and is in {files:?}", requirement.text));
            }
        }
        let missing = requirement.tests().iter().filter(|test| !exists(test));
        wrong.extend(missing.map(|test| format!("{id}: there is no test {test}")));
        if matches!(&requirement.state, State::Met { tests, .. } if tests.is_empty()) {
            wrong.push(format!("{id}: no test proves {:?}", requirement.text));
        }
        if requirement.explanation().is_some_and(str::is_empty) {
            wrong.push(format!("{id}: why, or where, is not said"));
        }
    }
    wrong.extend(quoted.iter().map(|((id, words), files)| format!("{id}: {words:?} in {files:?} is not in the table")));
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn counts() {
    for (standard, requirements) in STANDARDS {
        let count = |is: fn(&State) -> bool| requirements.iter().filter(|it| is(&it.state)).count();
        let met = count(|state| matches!(state, State::Met { .. }));
        let proved = count(|state| matches!(state, State::Elsewhere { tests, .. } if !tests.is_empty()));
        let unproved = count(|state| matches!(state, State::Elsewhere { tests: [], .. }));
        let departs = count(|state| matches!(state, State::Departs { .. }));
        let groups = count(|state| matches!(state, State::NotConcerned { .. }));
        println!(
            "{standard}: {met} quoted and tested, {proved} tested without quotation, {unproved} neither, \
             {departs} departed from, {groups} groups of no concern"
        );
        assert!(0 < met, "{standard}");
    }
}

fn all() -> impl Iterator<Item = (&'static str, &'static Requirement)> {
    STANDARDS.into_iter().flat_map(|(standard, rows)| rows.iter().map(move |row| (standard, row)))
}

impl Requirement {
    fn tests(&self) -> &'static [&'static str] {
        match &self.state {
            State::Met { tests, .. } | State::Elsewhere { tests, .. } => tests,
            State::Departs { .. } | State::NotConcerned { .. } => &[],
        }
    }

    fn explanation(&self) -> Option<&'static str> {
        match &self.state {
            State::Met { .. } => None,
            State::Elsewhere { by: text, .. } | State::Departs { why: text } | State::NotConcerned { why: text } => {
                Some(text)
            }
        }
    }
}
