//! Which files name no protocol that carries topics: they speak to sessions and openings, whatever protocol these are.
//!
//! What counts as such a protocol is read from `core/protocol/mod.rs`, so a new one counts without a line here. Names that this file
//! re-exports count as the modules that they come from.

use std::sync::LazyLock;

use crate::{
    lexer::{Token, tokens},
    paths::paths,
};

const MOD_FILE: &str = include_str!("../../src/core/protocol/mod.rs");

/// The modules of `core/protocol` that every file may name: the carrier of all others, what all share, and the wire formats of
/// brokers, of which `tests/arrows/rules.rs` says who may use them.
const SHARED: &[&str] =
    &["event_data", "http", "json_values", "long_message", "nats", "proxy", "rate", "resp", "session"];

/// Types of single protocols that pass through every file: a message for the application, and the name of a session that another
/// reactor may have.
const PASSED_ON: &[&str] = &["Message", "SessionId"];

/// Enums with a variant for each protocol, and the variants that every file may name.
const ENUMS: &[&str] = &["Dialect", "Format", "Opening", "Session", "Transport"];
const SHARED_VARIANTS: &[&str] = &["ALL", "Http", "Preface"];

/// What is wrong with the path `words` in the file `module`, if that may name no protocol.
pub(crate) fn check(module: &[&str], words: &[&str]) -> Option<String> {
    let place = match module {
        ["reactor", "engine", ..] => return None,
        ["reactor", ..] => "the reactor, outside engine/,",
        ["endpoint", "gate", ..] => "the gate",
        ["endpoint", "dispatch"] => "the dispatch of requests",
        _ => return None,
    };
    let named = named_protocol(words).or_else(|| named_variant(words))?;
    Some(format!("{place} must name no protocol: {named}"))
}

fn named_protocol<'t>(words: &[&'t str]) -> Option<&'t str> {
    let at = words.iter().position(|word| *word == "protocol")?;
    let first = words.get(at + 1)?;
    let exported = EXPORTS.iter().find(|(name, _)| name == first).map(|(_, module)| *module);
    let module = exported.or_else(|| MODULES.contains(first).then_some(*first))?;
    let is_passed_on = words.last().is_some_and(|name| PASSED_ON.contains(name));
    (!SHARED.contains(&module) && !is_passed_on).then_some(*first)
}

fn named_variant<'t>(words: &[&'t str]) -> Option<&'t str> {
    let pair = words.windows(2).find(|pair| ENUMS.contains(&pair[0]))?;
    let is_variant = pair[1].starts_with(char::is_uppercase) && !SHARED_VARIANTS.contains(&pair[1]);
    is_variant.then_some(pair[1])
}

static TOKENS: LazyLock<Vec<Token<'static>>> = LazyLock::new(|| tokens(MOD_FILE));

/// The modules that `core/protocol/mod.rs` declares.
static MODULES: LazyLock<Vec<&str>> =
    LazyLock::new(|| TOKENS.windows(2).filter(|pair| pair[0].text == "mod").map(|pair| pair[1].text).collect());

/// The names that it takes from them, each with the module.
static EXPORTS: LazyLock<Vec<(&str, &str)>> = LazyLock::new(|| {
    let export = |words: &[&'static str]| match *words {
        [module, .., name] if MODULES.contains(&module) => Some((name, module)),
        _ => None,
    };
    paths(&TOKENS).iter().filter_map(|path| export(&path.words)).collect()
});
