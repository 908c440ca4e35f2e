//! Masks secrets in errors and in `config show`.

use std::ops::Range;

use super::{
    keys::KEYS,
    table_keys::{API_KEY_KEYS, CLAIM_RULE_KEYS, CLASS_KEYS, QUOTA_KEYS},
};

/// Schemes of URLs whose login may be a token, which stands where others have a name.
const TOKEN_SCHEMES: [&str; 2] = ["nats://", "tls://"];

/// Shown in place of a secret.
pub(super) const MASK: &str = "***";

/// Masks the passwords in `text`: those in URLs (`scheme://user:password@…` and `?pass=password`), and the values of keys
/// whose names end in `password`, `secret` or `token`.
pub(super) fn redact(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(redact_value);
    redact_urls(&lines.collect::<String>())
}

/// The line `line` of the configuration file `text` with secrets masked. The value of an unknown key is masked, too: it may be
/// a secret whose key is misspelt.
pub(super) fn show_line(text: &str, line: Range<usize>) -> String {
    let shown = text[line.clone()].trim_end();
    let plain = shown.trim_start();
    if plain.is_empty() || plain.starts_with('#') || is_header(plain) {
        return redact(shown);
    }
    match split_key(shown) {
        Some((key, value)) if is_plain(key, value) => redact(shown),
        Some((key, _)) => format!("{key}= \"{MASK}\""),
        // It goes on with a value that began further up.
        None => match text[..line.start].lines().rev().find_map(split_key) {
            Some((key, value)) if is_plain(key, value) && is_plain(key, shown) => redact(shown),
            _ => MASK.to_owned(),
        },
    }
}

/// Whether a line looks like the header of a table.
fn is_header(line: &str) -> bool {
    let name = line.trim_start_matches('[').split('#').next().unwrap_or_default().trim_end().trim_end_matches(']');
    line.starts_with('[') && !name.is_empty() && name.chars().all(is_key_letter)
}

/// Splits a line that sets a key behind its `=`.
fn split_key(line: &str) -> Option<(&str, &str)> {
    let (key, value) = line.split_once('=')?;
    let is_key = |letter: char| is_key_letter(letter) || matches!(letter, '"' | '\'' | ' ' | '\t');
    (!key.trim().is_empty() && key.chars().all(is_key)).then_some((key, value))
}

fn is_key_letter(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || matches!(letter, '_' | '-' | '.')
}

/// Whether `key` is known and `value`, its value or a part of it, holds no secret.
fn is_plain(key: &str, value: &str) -> bool {
    let last = |path: &'static str| path.rsplit('.').next().unwrap_or(path);
    let known = KEYS.iter().map(|key| key.path).chain(CLASS_KEYS.iter().map(|key| key.path));
    let known = known.chain(API_KEY_KEYS.iter().map(|key| key.path)).chain(QUOTA_KEYS.iter().map(|key| key.path));
    // Not `value`: it says nothing of what it is, and may stand behind a misspelt name.
    let known = known.chain(CLAIM_RULE_KEYS.iter().map(|key| key.path).filter(|path| *path != "value"));
    let name = key.trim().rsplit('.').next().unwrap_or_default().trim_matches([' ', '"', '\'']);
    let is_secret = name == "key" || is_secret_name(name);
    // A table in one line has keys of its own, and what looks like a URL but is none would not be masked.
    let is_opaque = value.contains('{') || (value.contains('@') && !value.contains("://"));
    !is_secret && !is_opaque && known.map(last).any(|known| known == name)
}

fn is_secret_name(name: &str) -> bool {
    ["password", "secret", "token"].iter().any(|secret| name.ends_with(secret))
}

/// Masks the value of a line that sets a password. An empty value is not masked.
fn redact_value(line: &str) -> String {
    let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_secret_name(key.trim_end())) else {
        return line.to_owned();
    };
    let end = if line.ends_with('\n') { "\n" } else { "" };
    match value.trim() {
        "\"\"" | "''" => line.to_owned(),
        _ => format!("{key}= \"{MASK}\"{end}"),
    }
}

fn redact_urls(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(is_url_end).unwrap_or(after.len());
        let (url, after) = after.split_at(end);
        shown.push_str(before);
        let may_be_token = TOKEN_SCHEMES.iter().any(|scheme| before.ends_with(scheme));
        shown.push_str(&redact_query(&redact_login(url, may_be_token)));
        rest = after;
    }
    shown + rest
}

/// Masks up to the last `@`: a password may hold an `@` that is not escaped, and several URLs may stand in a row. What has no colon is
/// a name, unless it `may_be_token`.
fn redact_login(url: &str, may_be_token: bool) -> String {
    let Some((login, host)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    match login.split_once(':') {
        Some((user, _)) if !(may_be_token && user.contains('@')) => format!("{user}:{MASK}@{host}"),
        None if !may_be_token => url.to_owned(),
        _ => format!("{MASK}@{host}"),
    }
}

/// Masks the password in the query: a unix socket's URL has it there.
fn redact_query(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else {
        return url.to_owned();
    };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name @ ("pass" | "password"), _)) => format!("{name}={MASK}"),
        _ => pair.to_owned(),
    });
    format!("{path}?{}", pairs.collect::<Vec<_>>().join("&"))
}

fn is_url_end(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '"' | '\'' | '`' | '<' | '>')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the last line.
    #[test]
    fn lines_are_shown_without_what_may_be_a_secret() {
        let check = |text: &str, expected: &str| {
            let start = text.rfind('\n').map_or(0, |at| at + 1);
            assert_eq!(show_line(text, start..text.len()), expected, "{text}");
        };
        check("[auth]", "[auth]");
        check("[[api_keys]] # keys", "[[api_keys]] # keys");
        check("[log", "[log");
        check("reactors = 2", "reactors = 2");
        check("server.reactors = 2", "server.reactors = 2");
        check("\"reactors\" = -1", "\"reactors\" = -1");
        check("listen = [\"127.0.0.1\"]", "listen = [\"127.0.0.1\"]");
        check("listen = [\n  \"x\",", "  \"x\",");
        check("url = \"redis://a:geheim@h\"", "url = \"redis://a:***@h\"");
        // Secrets, and what may be one whose key is misspelt.
        check("secret = \"geheim\"", "secret = \"***\"");
        check("secert = \"geheim\"", "secert = \"***\"");
        check("auth.secert=\"geheim\"", "auth.secert= \"***\"");
        check("Secret = 'geheim'", "Secret = \"***\"");
        check("passwort = \"geheim", "passwort = \"***\"");
        check("key = [\"geheim\"]", "key = \"***\"");
        check("kye = \"geheim\"", "kye = \"***\"");
        check("secert.value = \"geheim\"", "secert.value = \"***\"");
        check("claim = \"groups\"", "claim = \"groups\"");
        check("auth = { secert = \"geheim\" }", "auth = \"***\"");
        check("api_keys = [{ kye = \"geheim\" }]", "api_keys = \"***\"");
        check("url = \"redis:a:geheim@h\"", "url = \"***\"");
        check("ulr = \"redis://a:geheim@h\"", "ulr = \"***\"");
        check("secert = [\n  \"geheim\"", "***");
        check("secert = \"\"\"\ngeheim\nreactors", "***");
        check("api_keys = [\n  { kye = \"geheim\" },", "***");
        check("geheim", "***");
        check("[\"geheim\"]", "***");
    }

    #[test]
    fn passwords_are_masked() {
        let check = |text: &str, expected: &str| assert_eq!(redact(text), expected);
        check("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2");
        check("redis://:geheim@host", "redis://:***@host");
        check("redis://ann:ge:h@eim@host:1/0", "redis://ann:***@host:1/0");
        check("redis://ann@host", "redis://ann@host");
        check("nats://geheim@host:4222", "nats://***@host:4222");
        check("nats://ann:ge@heim@a,nats://ann:geheim@b", "nats://ann:***@b");
        check("tls://geheim@a,tls://geheim@b", "tls://***@b");
        check("nats://a,nats://geheim@b", "nats://a,nats:***@b");
        check("nats://a:1,nats://b:2", "nats://a:1,nats://b:2");
        check("url = \"rediss://a:b@h\" # http://x:y@z", "url = \"rediss://a:***@h\" # http://x:***@z");
        check("unix:///run/r.sock?db=1&pass=geheim", "unix:///run/r.sock?db=1&pass=***");
        check("no url at all: a@b", "no url at all: a@b");
        check(
            "password = \"\"\nsentinel_password = \"geheim\"\nx = 1\n",
            "password = \"\"\nsentinel_password = \"***\"\nx = 1\n",
        );
        check("sentinel_password='ge=heim'", "sentinel_password= \"***\"");
        check("password_file = \"x\"", "password_file = \"x\"");
    }
}
