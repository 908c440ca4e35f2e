//! Finds the keys that a table sets, and the nearest known key for an unknown one.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{field::Fault, keys::Key, nearest::nearest};

/// A key and the value that a table sets it to.
#[derive(Debug)]
pub(super) struct TableEntry<'t, T: 'static> {
    pub(super) key: &'static Key<T>,
    /// The range of the key's name in the file, in bytes.
    pub(super) name: Range<usize>,
    pub(super) value: &'t Spanned<DeValue<'t>>,
}

/// All keys that `table` sets. Appends unknown ones to `faults`.
pub(super) fn gather<'t, T>(
    keys: &'static [Key<T>],
    table: &'t DeTable<'t>,
    faults: &mut Vec<Fault>,
) -> Vec<TableEntry<'t, T>> {
    let mut set = Vec::new();
    let mut pending = vec![(String::new(), table)];
    while let Some((prefix, table)) = pending.pop() {
        for (name, value) in table {
            let path = format!("{prefix}{}", name.get_ref());
            match (find(keys, &path), value.get_ref()) {
                (Found::Key(key), _) => set.push(TableEntry { key, name: name.span(), value }),
                (Found::Table, DeValue::Table(inner)) => pending.push((format!("{path}."), inner)),
                (Found::Table, _) => faults.push(not_a_table(&path, value)),
                (Found::Nothing, _) => faults.push(Fault { span: name.span(), message: unknown(keys, &path) }),
            }
        }
    }
    set
}

/// What a path names.
enum Found<T: 'static> {
    Key(&'static Key<T>),
    Table,
    Nothing,
}

fn find<T>(keys: &'static [Key<T>], path: &str) -> Found<T> {
    if let Some(key) = keys.iter().find(|key| key.path == path) {
        return Found::Key(key);
    }
    let is_table = keys.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')));
    if is_table { Found::Table } else { Found::Nothing }
}

/// The key at `path`, or an error that suggests the nearest known one.
pub(super) fn find_key<T>(keys: &'static [Key<T>], path: &str) -> Result<&'static Key<T>, String> {
    match find(keys, path) {
        Found::Key(key) => Ok(key),
        Found::Table | Found::Nothing => Err(unknown(keys, path)),
    }
}

fn not_a_table(path: &str, value: &Spanned<DeValue<'_>>) -> Fault {
    Fault { span: value.span(), message: format!("`{path}` is a table of keys, not a value") }
}

fn unknown<T>(keys: &[Key<T>], path: &str) -> String {
    let depth = path.split('.').count();
    let known = keys.iter().filter_map(|key| prefix(key.path, depth));
    match nearest(path, known) {
        Some(near) => format!("unknown key `{path}`; did you mean `{near}`?"),
        None => format!("unknown key `{path}`; `fanfare config default` lists all keys"),
    }
}

/// The first `depth` names of `path`, so that a misspelt table is compared with tables.
fn prefix(path: &'static str, depth: usize) -> Option<&'static str> {
    let end = path.match_indices('.').nth(depth - 1).map_or(path.len(), |(at, _)| at);
    path.get(..end)
}
