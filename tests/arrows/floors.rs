//! The floors of `src/hub/endpoint`: a file may use its own floor and those below it.
//!
//! Names that `endpoint/mod.rs` re-exports count as the files that they come from. Otherwise `use crate::endpoint::Cors` would hide
//! that the gate is used.

use std::sync::LazyLock;

use crate::{lexer::tokens, paths::paths};

/// The files and folders of `src/hub/endpoint`, from the ground floor up.
const FLOORS: &[&[&str]] = &[
    &[
        "answer",
        "checked_event",
        "completion",
        "context",
        "error_form",
        "extensions",
        "hub",
        "responder",
        "route",
        "work",
    ],
    &["gate"],
    &["batch"],
    &["compat", "native", "socket_io"],
    &["admission", "dispatch", "routes"],
];

/// Types that every floor may use. The hub's handle and its routes hold a value of each, and never look into it: what a part is
/// configured with, what it keeps between requests, and the functions that the application registers.
const HELD: &[&str] = &["CompatApi", "CompatApis", "Cors", "Esp", "Hosts", "Recovery", "SocketHandlers"];

const MOD_FILE: &str = include_str!("../../src/hub/endpoint/mod.rs");

/// What is wrong with the path `words`, from the crate's root, in the file `module`, if that is one of the endpoints.
pub(crate) fn check(module: &[&str], words: &[&str]) -> Option<String> {
    let (["endpoint", file, ..], ["endpoint", used, ..]) = (module, words) else { return None };
    let Some(own) = floor_of(file) else {
        return Some(format!("endpoint::{file} is on no floor (tests/arrows/floors.rs)"));
    };
    // `endpoint::answer` is a function, `endpoint::answer::Answer` names a file.
    let exported = EXPORTS.iter().find(|(name, _)| name == used && words.len() == 2).map(|(_, file)| *file);
    let Some(origin) = exported.or_else(|| floor_of(used).map(|_| *used)) else {
        return Some(format!("endpoint::{used} is neither a file nor a name that endpoint/mod.rs re-exports"));
    };
    let is_above = floor_of(origin).is_some_and(|floor| own < floor);
    let is_held = words.last().is_some_and(|name| HELD.contains(name));
    (is_above && !is_held)
        .then(|| format!("endpoint::{file} must not use endpoint::{origin}, which is on a higher floor"))
}

fn floor_of(file: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&file))
}

/// The names that `endpoint/mod.rs` takes from its own files, each with the file or folder.
static EXPORTS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let export = |words: &[&'static str]| match *words {
        [file, .., name] if floor_of(file).is_some() => Some((name, file)),
        _ => None,
    };
    paths(&tokens(MOD_FILE)).iter().filter_map(|path| export(&path.words)).collect()
});
