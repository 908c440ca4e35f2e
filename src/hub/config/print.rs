//! Formats a configuration as a TOML file: the defaults with a comment above each key, or the values in force.

use std::fmt::Write;

use toml::Value;

use super::{
    keys::{KEYS, Key, SECTIONS, is_of_no_section},
    raw::RawConfig,
    redact::{MASK, redact},
    table_keys::{API_KEY_KEYS, CLAIM_RULE_KEYS, CLASS_KEYS, QUOTA_KEYS},
};

/// The comment at the top of `config default`.
const HEADING: &str = "\
# Every key of Fanfare with its default. `fanfare serve --config FILE` reads such a file; omit keys you do not change.
# A variable FANFARE_SECTION__KEY (FANFARE_DRAIN__WINDOW=3s) overrides the file, and a flag overrides both.
# Durations: \"500ms\", \"25s\", \"5m\", \"1h\". Sizes: \"64KiB\", \"1MiB\".
";

/// Examples of the tables that have no default.
const CLASS_EXAMPLE: &str = "
# [[topics.class]]
# match = \"orders.**\"                                     # `*` one segment, `**` the rest; first match wins
# history = { count = 1000, bytes = \"1MiB\", age = \"5m\" }
# policy = \"close\"
";

const QUOTA_EXAMPLE: &str = "
# [[quota]]                                                # of several rules the tightest decides
# name = \"sensors\"                                       # shown in refusals and metrics
# who = \"role:sensor\"                                    # or sub:NAME, api_key:NAME, address:10.0.0.0/8, \"*\"; each by itself
# topics = [\"wells.**\"]                                  # empty: all
# publish_per_second = 50
# bytes_per_second = \"1MiB\"
# bytes_held = \"16MiB\"
# topics_held = 100
# connections = 10
";

const CLAIM_RULE_EXAMPLE: &str = "
# [[auth.rule]]                                            # all rules that hold count together
# claim = \"realm_access.roles\"                           # or \"groups\", \"scope\", \"https://example.org/roles\"
# value = \"operator\"
# subscribe = [\"wells.**\", \"users.{sub}.**\"]            # {sub}: what the claim `sub` says
# publish = [\"wells.*.commands\"]
";

const API_KEY_EXAMPLE: &str = "
# [[api_keys]]                                             # shown as X-API-Key or as Authorization: Bearer
# name = \"ingest\"
# key_file = \"ingest.key\"                                 # or key = \"…\"
# subscribe = []
# publish = [\"wells.**\"]
";

/// Every key with its comment and its default.
pub(super) fn write_default() -> String {
    let mut text = HEADING.to_owned();
    let mut raw = RawConfig::default();
    for key in KEYS.iter().filter(|key| is_of_no_section(key.path)) {
        // Infallible: a `String` takes all that is written to it.
        let _ = write!(text, "\n# {}\n{}", key.help, line("", key, &mut raw));
    }
    for (section, help) in SECTIONS {
        // Infallible: a `String` takes all that is written to it.
        let _ = write!(text, "\n# {help}\n[{section}]\n");
        for key in section_keys(section) {
            let _ = write!(text, "# {}\n{}", key.help, line(section, key, &mut raw));
        }
        match *section {
            "topics" => text.push_str(CLASS_EXAMPLE),
            "limits" => text.push_str(&quota_example()),
            "auth" => text.push_str(&claim_rule_example()),
            "users" => text.push_str(&api_key_example()),
            _ => {}
        }
    }
    text
}

/// Every key with its value in `raw`. Secrets are masked.
pub(super) fn write_values(mut raw: RawConfig) -> String {
    let of_no_section = KEYS.iter().filter(|key| is_of_no_section(key.path));
    let mut text: String = of_no_section.map(|key| line("", key, &mut raw)).collect();
    for (section, _) in SECTIONS {
        let _ = write!(text, "\n[{section}]\n");
        for key in section_keys(section) {
            text.push_str(&line(section, key, &mut raw));
        }
        match *section {
            "topics" => text.push_str(&class_tables(&mut raw)),
            "limits" => text.push_str(&quota_tables(&mut raw)),
            "auth" => text.push_str(&claim_rule_tables(&mut raw)),
            "users" => text.push_str(&api_key_tables(&mut raw)),
            _ => {}
        }
    }
    redact(&text)
}

fn section_keys(section: &str) -> impl Iterator<Item = &'static Key<RawConfig>> {
    let of_section = move |key: &&Key<RawConfig>| key.path.split('.').next() == Some(section);
    KEYS.iter().filter(of_section).filter(|key| !matches!(key.path, "topics.class" | "auth.rule"))
}

/// `key = value`, the key without the name of its section.
fn line<T>(section: &str, key: &Key<T>, raw: &mut T) -> String {
    let name = key.path.strip_prefix(section).map_or(key.path, |rest| rest.trim_start_matches('.'));
    format!("{name} = {}\n", toml_value(&(key.field)(raw).write()))
}

fn class_tables(raw: &mut RawConfig) -> String {
    let tables = raw.classes.iter_mut().map(|class| {
        let lines: String = CLASS_KEYS.iter().map(|key| line("", key, class)).collect();
        format!("\n[[topics.class]]\n{lines}")
    });
    tables.collect()
}

fn claim_rule_tables(raw: &mut RawConfig) -> String {
    let tables = raw.auth.rules.iter_mut().map(|rule| {
        let lines: String = CLAIM_RULE_KEYS.iter().map(|key| line("", key, rule)).collect();
        format!("\n[[auth.rule]]\n{lines}")
    });
    tables.collect()
}

fn quota_tables(raw: &mut RawConfig) -> String {
    let tables = raw.quotas.rules.iter_mut().map(|rule| {
        let lines: String = QUOTA_KEYS.iter().map(|key| line("", key, rule)).collect();
        format!("\n[[quota]]\n{lines}")
    });
    tables.collect()
}

fn claim_rule_example() -> String {
    format!("\n# {}{CLAIM_RULE_EXAMPLE}", help_of("auth.rule"))
}

/// The example with the help of its key, which stands in no section.
fn api_key_example() -> String {
    format!("\n# {}{API_KEY_EXAMPLE}", help_of("api_keys"))
}

fn quota_example() -> String {
    format!("\n# {}{QUOTA_EXAMPLE}", help_of("quota"))
}

fn help_of(path: &str) -> &'static str {
    KEYS.iter().find(|key| key.path == path).map_or("", |key| key.help)
}

fn api_key_tables(raw: &mut RawConfig) -> String {
    let tables = raw.api_keys.iter_mut().map(|key| {
        // Only one of the two may be set.
        let unset = if key.file.is_some() { "key" } else { "key_file" };
        key.key.secret = MASK.to_owned();
        let lines: String = API_KEY_KEYS.iter().filter(|row| row.path != unset).map(|row| line("", row, key)).collect();
        format!("\n[[api_keys]]\n{lines}")
    });
    tables.collect()
}

/// Formats `value` as TOML, arrays on one line.
pub(super) fn toml_value(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(toml_value).collect::<Vec<_>>().join(", ")),
        plain => plain.to_string(),
    }
}
