//! `docs/configuration.md` is generated from `fanfare config default`, and says of each key whether a reload changes it.
//!
//! `FANFARE_BLESS=1 cargo test --test it docs_configuration` writes the generated part of the page.

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Folder, stdout_of};

/// The line of the page below which the generated part begins.
const MARK: &str =
    "<!-- From here on the page is made from the keys: FANFARE_BLESS=1 cargo test --test it docs_configuration -->\n";

/// A section of the configuration.
#[derive(Debug, Default)]
struct Section {
    /// Empty for keys of no section.
    name: String,
    help: String,
    keys: Vec<Key>,
}

#[derive(Debug)]
struct Key {
    /// With the names of the tables it stands in, except the section.
    name: String,
    default: String,
    help: String,
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn fanfare(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_fanfare")).args(arguments).env_clear().output();
    stdout_of(&output.expect("the program was just built"))
}

#[test]
fn the_page_is_made_from_the_keys() {
    let path = source("docs/configuration.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let (head, _) = page.split_once(MARK).expect("the page has the line below which it is made");
    let made = format!("{head}{MARK}{}", describe(&read_sections(&fanfare(&["config", "default"])), &reloaded()));
    if env::var_os("FANFARE_BLESS").is_some() {
        fs::write(&path, &made).expect("the page is writable");
        return;
    }
    let different = made.lines().zip(page.lines()).find(|(made, page)| made != page);
    assert!(
        made == page,
        "docs/configuration.md is not what the keys say now; write it anew with\n\
         FANFARE_BLESS=1 cargo test --test it docs_configuration\n(should be, is): {different:#?}"
    );
}

/// The keys as the default file lists them: a comment that says what each is for, and then the key with its default.
fn read_sections(text: &str) -> Vec<Section> {
    let mut sections = vec![Section::default()];
    let mut help = String::new();
    for line in text.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            help = comment.to_owned();
        } else if let Some(name) = line.strip_prefix('[') {
            let name = name.trim_end_matches(']').to_owned();
            sections.push(Section { name, help: std::mem::take(&mut help), keys: Vec::new() });
        } else if let Some((name, default)) = line.split_once(" = ") {
            let keys = &mut sections.last_mut().expect("there is one from the start").keys;
            keys.push(Key { name: name.to_owned(), default: default.to_owned(), help: std::mem::take(&mut help) });
        } else {
            help.clear();
        }
    }
    assert!(sections.iter().all(|section| section.keys.iter().all(|key| !key.help.is_empty())), "{sections:#?}");
    sections
}

/// What `config/reload.rs` lists: keys that take effect at a reload, then those of the same sections that do not. Sections end
/// in a dot.
fn reloaded() -> [Vec<String>; 2] {
    let text = fs::read_to_string(source("src/hub/config/reload.rs")).expect("the table of reloaded keys is there");
    let (_, table) = text.split_once("const RELOADED: ").expect("the table has this name");
    let (table, _) = table.split_once("\n];").expect("the table ends");
    ["keys: &[", "waiting: &["].map(|field| {
        let lists = table.split(field).skip(1).map(|rest| rest.split(']').next().unwrap_or_default());
        lists.flat_map(|list| list.split('"').skip(1).step_by(2).map(str::to_owned)).collect()
    })
}

fn takes_effect(path: &str, [keys, waiting]: &[Vec<String>; 2]) -> bool {
    let is_listed = |listed: &String| path == listed || listed.ends_with('.') && path.starts_with(listed.as_str());
    keys.iter().any(is_listed) && !waiting.iter().any(|listed| path == listed)
}

fn describe(sections: &[Section], reloaded: &[Vec<String>; 2]) -> String {
    let mut text = String::new();
    for Section { name, help, keys } in sections {
        let (title, help) = if name.is_empty() { ("Of no section", "") } else { (name.as_str(), help.as_str()) };
        // Infallible, here and below: a `String` takes all that is written to it.
        let _ = write!(text, "\n## {title}\n\n");
        let _ = write!(text, "{}", if help.is_empty() { String::new() } else { format!("{help}\n\n") });
        text.push_str("| key, variable | default | what it does |\n|---|---|---|\n");
        for key in keys {
            let path = if name.is_empty() { key.name.clone() } else { format!("{name}.{}", key.name) };
            let variable = format!("FANFARE_{}", path.to_uppercase().replace('.', "__"));
            let reload = if takes_effect(&path, reloaded) { " **SIGHUP**" } else { "" };
            let help = escape(&key.help);
            let _ = writeln!(text, "| `{}`<br>`{variable}` | `{}`{reload} | {help} |", key.name, key.default);
        }
    }
    text
}

/// Plain text as Markdown within a table. What stands between backticks is Markdown already.
fn escape(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(index, part)| {
        let part = part.replace('|', "\\|");
        if index % 2 == 0 { part.replace('*', "\\*").replace('<', "&lt;") } else { part }
    });
    parts.collect::<Vec<_>>().join("`")
}

#[test]
fn the_page_names_each_key_of_the_tables() {
    let page = fs::read_to_string(source("docs/configuration.md")).expect("the page is there");
    let (_, tables) = page.split_once("## Tables of which there may be several").expect("the section is there");
    let folder = Folder::new();
    let file = folder.path("fanfare.toml");
    let key = "k".repeat(64);
    let text = format!(
        "[auth]\nmode = \"jwt\"\nsecret = \"{key}\"\n[[topics.class]]\nmatch = \"a\"\n[[quota]]\nname = \"b\"\nwho = \"*\"\n\
         publish_per_second = 1\n[[api_keys]]\nname = \"c\"\nkey = \"{key}\"\n"
    );
    fs::write(&file, text).expect("the folder is ours");
    let shown = fanfare(&["config", "show", "--config", &file]);
    for table in ["[[topics.class]]", "[[quota]]", "[[api_keys]]"] {
        let (_, of_table) = shown.split_once(table).expect("it was written");
        let (_, described) = tables.split_once(&format!("\n`{table}`")).expect("the page has this table");
        let described = described.split("\n\n").next().unwrap_or_default();
        for line in of_table.lines().skip(1).take_while(|line| !line.is_empty()) {
            let (name, _) = line.split_once(" = ").expect("a key");
            assert!(described.contains(&format!("`{name}`")), "{table} has the key {name}");
        }
    }
}

#[test]
fn the_page_has_each_flag_with_its_key() {
    let page = fs::read_to_string(source("docs/configuration.md")).expect("the page is there");
    let help = fanfare(&["serve", "--help"]);
    let flags = help.lines().filter_map(|line| line.trim_start().strip_prefix("--"));
    let flags: Vec<&str> = flags.filter_map(|line| line.split([' ', '[']).next()).collect();
    assert!(flags.contains(&"config") && flags.contains(&"pin"), "{flags:?}");
    for flag in flags.into_iter().filter(|flag| *flag != "config") {
        let row = page.lines().find(|line| {
            let rest = line.strip_prefix(&format!("| `--{flag}"));
            rest.is_some_and(|rest| rest.starts_with(['`', ' ', '[']))
        });
        let row = row.unwrap_or_else(|| panic!("the page has the flag --{flag}"));
        let key = row.split('`').nth(3).expect("a key stands beside it");
        let variable = format!("FANFARE_{}", key.to_uppercase().replace('.', "__"));
        assert!(page.contains(&format!("`{variable}` |")), "--{flag} is {key}, which is no key");
    }
}

#[test]
fn keys_that_take_effect_are_distinguished_from_those_that_wait() {
    let reloaded = reloaded();
    for (path, expected) in [
        ("limits.body_bytes_max", true),
        ("limits.event_bytes_max", false),
        ("topics.history.count", true),
        ("drain.window", true),
        ("log.level", true),
        ("log.format", false),
        ("server.listen", false),
        ("users.file", true),
    ] {
        assert_eq!(takes_effect(path, &reloaded), expected, "{path}");
    }
}
