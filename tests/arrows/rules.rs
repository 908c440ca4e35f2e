//! The rules themselves.

use crate::{
    floors,
    lexer::{Token, tokens},
    paths::{CodePath, paths},
    protocols,
};

/// Plain values that everyone may use.
const VOCABULARY: &[&str] = &[
    "bucket",
    "budget",
    "clock",
    "close",
    "duration",
    "event",
    "fingerprint",
    "exposition",
    "frame",
    "gap",
    "index",
    "json",
    "label",
    "network",
    "outbox",
    "reload",
    "share",
    "topic",
    "transport",
    "version",
];

/// Crates of several parts, each of which has a row of its own. What such a crate cannot use at all, its manifest says.
const SHARED_CRATES: &[&str] = &["core", "hub", "platform"];

/// Which parts, besides the vocabulary and itself, each part may use. `*` stands for all.
const ARROWS: &[(&str, &[&str])] = &[
    ("bucket", &[]),
    ("budget", &[]),
    ("clock", &[]),
    ("close", &[]),
    ("duration", &[]),
    ("event", &[]),
    ("fingerprint", &[]),
    ("exposition", &[]),
    ("frame", &[]),
    ("gap", &[]),
    ("index", &[]),
    ("json", &[]),
    ("label", &[]),
    ("network", &[]),
    ("outbox", &[]),
    ("reload", &[]),
    ("share", &[]),
    ("stdio", &[]),
    ("topic", &[]),
    ("transport", &[]),
    ("version", &[]),
    ("protocol", &[]),
    ("log", &[]),
    ("auth", &[]),
    // It records who signed in, on a thread and in a file of its own.
    ("audit", &["auth", "metrics", "os"]),
    ("os", &[]),
    ("bus", &["log"]),
    // The part that others embed uses nothing else.
    ("broadcaster", &["protocol"]),
    // The bus's own counts are read at the scrape; the bus itself counts nothing.
    ("metrics", &["bus"]),
    ("source", &["bus", "log", "metrics", "os", "protocol"]),
    // It waits and logs as the sources do.
    ("store", &["bus", "metrics", "source"]),
    // Of the sources it has the authorities that TLS trusts.
    ("jwks", &["auth", "metrics", "source"]),
    // What carries events from one source to another.
    ("bridge", &["bus", "metrics", "source"]),
    // What hubs on one broker tell each other of themselves.
    ("fleet", &["bus", "metrics"]),
    // Of the store it has the handle: a queue to other threads.
    ("endpoint", &["audit", "auth", "bus", "fleet", "log", "metrics", "protocol", "store"]),
    ("reactor", &["audit", "auth", "bus", "endpoint", "log", "metrics", "os", "protocol"]),
    (
        "config",
        &["audit", "auth", "bridge", "bus", "endpoint", "fleet", "log", "protocol", "reactor", "source", "store"],
    ),
    ("tools", &["os", "protocol", "stdio"]),
    ("server", &["*"]),
    ("main", &["*"]),
    ("token", &["*"]),
    ("pages", &["stdio"]),
    ("lib", &["*"]),
];

/// What `config` may take from a folder: the types that the folder is configured in, and the modules they are in.
#[rustfmt::skip]
const CONFIGURING: &[&str] = &[
    "Algorithm", "ApiKey", "ClaimRule", "Mode", "PatternTemplate", "QuotaConfig", "QuotaRule", "AuthRules", "TenantSelector", "SameSite", "Secrets", "AuthSettings",
    "Bounds", "Class", "CompatApi", "CompatApis", "Config", "Cors", "EngineLimits", "Esp", "HttpLimits", "LogKind", "LoginFiles", "Policy",
    "NatsAuth", "NatsConfig", "NatsLogin", "NatsLoginFiles", "NatsUrl", "TopicClasses", "check_pattern", "check_streams", "RateLimit", "RedisConfig", "RedisStreamConfig", "RedisUrl", "Retention", "SentinelLogin", "StoreLogin", "StoreUrl", "generator",
    "http", "proxy", "store", "websocket", "WebSocketLimits", "ProxyLimits",
    "AuditConfig", "AuditPart", "AuditTarget", "BridgeConfig", "ClusterPubSub", "FleetConfig", "GeneratorConfig", "HUB_ALONE", "JetStreamConfig", "LOG_WORDS", "PUBSUB_SOURCES", "SourceName", "SourcesConfig", "TopicMap",
];

/// External crates and modules, and the parts that may use them.
const FOREIGN: &[(&str, &[&str])] = &[
    ("mio", &["reactor", "server", "source", "tools"]),
    ("socket2", &["reactor", "server", "source", "tools"]),
    ("redis", &["config", "source", "tools"]),
    ("nkeys", &["source"]),
    ("tokio", &["source", "store"]),
    ("tokio_rustls", &["source"]),
    ("tokio_postgres", &["store"]),
    ("ureq", &["jwks"]),
    ("core_affinity", &["reactor", "server", "source", "tools"]),
    ("std::fs", &["audit", "config", "metrics", "pages", "reactor", "server", "source", "tools", "main"]),
    ("std::net", &["config", "os", "reactor", "server", "source", "tools"]),
    ("std::os", &["audit", "config", "os", "reactor", "server", "source", "tools"]),
    ("std::process", &["main", "server", "tools"]),
    ("std::thread", &["audit", "bridge", "config", "jwks", "reactor", "server", "source", "store", "tools"]),
];

/// The parts that may read a clock. All others get the time as an argument.
const CLOCK_READERS: &[&str] =
    &["audit", "broadcaster", "clock", "jwks", "main", "os", "reactor", "server", "source", "token", "tools"];

/// Macros that panic where standard output or standard error is closed or full.
const PANICKING_PRINTERS: &[&str] = &["print", "println", "eprint", "eprintln"];

const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 70;

/// In pieces, so that this file has none of them itself.
const BANNED_WORDS: &[&str] = &[
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("to", "do!"),
    concat!("db", "g!"),
    concat!("unimplemen", "ted!"),
];

/// All that is wrong with the file `name` (from the project's root), each as `file:line: what`.
pub(crate) fn check_file(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    check_text(text, &mut faults);
    if name.ends_with(".rs") {
        let all = tokens(text);
        check_functions(&all, &mut faults);
        if let Some(module) = production_module(name) {
            check_module(&module, &without_tests(&all), &mut faults);
        }
    }
    faults.into_iter().map(|(line, what)| format!("{name}:{line}: {what}")).collect()
}

type Fault = (usize, String);

fn check_text(text: &str, faults: &mut Vec<Fault>) {
    let lines = text.lines().count();
    if FILE_LINES_MAX < lines {
        faults.push((1, format!("the file has {lines} lines; at most {FILE_LINES_MAX}: split it by concern")));
    }
    for (index, line) in text.lines().enumerate() {
        for word in BANNED_WORDS.iter().filter(|word| line.contains(**word)) {
            faults.push((index + 1, format!("`{word}`: finish it, or leave it out")));
        }
    }
}

fn check_functions(tokens: &[Token<'_>], faults: &mut Vec<Fault>) {
    for (at, token) in tokens.iter().enumerate().filter(|(_, token)| token.text == "fn") {
        // `fn(` is a type.
        let Some(name) = tokens.get(at + 1).filter(|next| next.text != "(") else { continue };
        let Some(end) = body_end(&tokens[at..]) else { continue };
        let lines = end.line - token.line + 1;
        if FUNCTION_LINES_MAX < lines {
            let what = format!("`{}` has {lines} lines; at most {FUNCTION_LINES_MAX}", name.text);
            faults.push((token.line, what));
        }
    }
}

/// The brace that closes the first block in `tokens`; `None` if a semicolon comes before, outside of `[u8; 4]`.
fn body_end<'t>(tokens: &[Token<'t>]) -> Option<Token<'t>> {
    let mut brackets = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "[" => brackets += 1,
            "]" => brackets -= 1,
            ";" if brackets == 0 => return None,
            "{" => return block_end(&tokens[at..]),
            _ => {}
        }
    }
    None
}

/// The brace that closes the block which `tokens` begin with.
fn block_end<'t>(tokens: &[Token<'t>]) -> Option<Token<'t>> {
    block_length(tokens).map(|length| tokens[length - 1])
}

fn block_length(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The path of the module in `name`, from its crate's root, or beneath the crate's name where the crate is one part; `None` if it is
/// not of the product.
fn production_module(name: &str) -> Option<Vec<&str>> {
    let inner = name.strip_prefix("src/")?.strip_suffix(".rs")?;
    let mut module: Vec<&str> = inner.split('/').collect();
    if module.contains(&"tests") || module.last() == Some(&"build") {
        return None;
    }
    if SHARED_CRATES.contains(&module[0]) {
        module.remove(0);
    }
    if matches!(module.last(), Some(&"mod" | &"lib")) && 1 < module.len() {
        module.pop();
    }
    Some(module)
}

/// `tokens` without the modules under `#[cfg(test)]`.
fn without_tests<'t>(tokens: &[Token<'t>]) -> Vec<Token<'t>> {
    const TEST_MODULE: [&str; 8] = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::with_capacity(tokens.len());
    let mut rest = tokens;
    while let Some(first) = rest.first() {
        let is_test_module = TEST_MODULE.iter().eq(rest.iter().take(TEST_MODULE.len()).map(|token| &token.text));
        let body_at = TEST_MODULE.len() + 1;
        match rest.get(body_at) {
            Some(brace) if is_test_module && brace.text == "{" => {
                rest = &rest[body_at + block_length(&rest[body_at..]).unwrap_or(rest.len() - body_at)..];
            }
            _ => {
                kept.push(*first);
                rest = &rest[1..];
            }
        }
    }
    kept
}

fn check_module(module: &[&str], tokens: &[Token<'_>], faults: &mut Vec<Fault>) {
    let part = module[0];
    let Some((_, allowed)) = ARROWS.iter().find(|(name, _)| *name == part) else {
        faults.push((1, format!("{part} is not in the table of arrows (tests/arrows/rules.rs)")));
        return;
    };
    if part != "os" {
        let unsafe_tokens = tokens.iter().filter(|token| token.text == "unsafe");
        faults.extend(unsafe_tokens.map(|token| (token.line, "unsafe belongs in src/platform/os.rs".to_owned())));
    }
    for pair in tokens.windows(2).filter(|pair| PANICKING_PRINTERS.contains(&pair[0].text) && pair[1].text == "!") {
        faults
            .push((pair[0].line, format!("`{}!` panics where its output is closed or full: use stdio", pair[0].text)));
    }
    for path in paths(tokens) {
        check_path(module, allowed, &path, faults);
    }
}

fn check_path(module: &[&str], allowed: &[&str], path: &CodePath<'_>, faults: &mut Vec<Fault>) {
    let part = module[0];
    faults.extend(protocols::check(module, &path.words).map(|what| (path.line, what)));
    match resolve(module, &path.words) {
        Some(words) => {
            let Some(used) = words.first() else { return };
            let is_allowed = *used == part || VOCABULARY.contains(used) || allowed.contains(used) || allowed == ["*"];
            if !is_allowed && ARROWS.iter().any(|(name, _)| name == used) {
                faults.push((path.line, format!("{part} must not use {used}")));
            } else if part == "config"
                && allowed.contains(used)
                && !words.last().is_some_and(|word| CONFIGURING.contains(word))
            {
                let what = words.join("::");
                faults.push((path.line, format!("config may use only what configures {used}, not {what}")));
            }
            faults.extend(floors::check(module, &words).map(|what| (path.line, what)));
        }
        None => check_foreign(part, path, faults),
    }
}

/// `words` from the crate's root, if they lead into it.
fn resolve<'t>(module: &[&'t str], words: &[&'t str]) -> Option<Vec<&'t str>> {
    let (first, mut rest) = words.split_first()?;
    let mut place = match *first {
        "crate" | "fanfare_core" | "fanfare" | "fanfare_platform" => Vec::new(),
        "self" => module.to_vec(),
        "super" => module[..module.len() - 1].to_vec(),
        _ => return None,
    };
    while let Some(("super", behind)) = rest.split_first().map(|(word, behind)| (*word, behind)) {
        place.pop();
        rest = behind;
    }
    place.extend_from_slice(rest);
    Some(place)
}

fn check_foreign(part: &str, path: &CodePath<'_>, faults: &mut Vec<Fault>) {
    let text = path.words.join("::");
    for (foreign, parts) in FOREIGN {
        let is_it = text == *foreign || text.strip_prefix(foreign).is_some_and(|rest| rest.starts_with("::"));
        if is_it && !parts.contains(&part) {
            faults.push((path.line, format!("{part} must not use {foreign}")));
        }
    }
    let reads_clock = text.ends_with("Instant::now") || text.ends_with("SystemTime::now");
    if reads_clock && !CLOCK_READERS.contains(&part) {
        faults.push((path.line, format!("{part} must not read a clock: it is told the time")));
    }
}
