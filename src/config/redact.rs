//! Takes the secrets out of what is shown.

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// `text` with its passwords masked: those of URLs (`scheme://user:password@…` and `?pass=password`), and what stands
/// right of a key whose name ends in `password` or `secret`.
pub(super) fn redact(text: &str) -> String {
    let lines = text.split_inclusive('\n').map(redact_value);
    redact_urls(&lines.collect::<String>())
}

/// The line, if it sets a password, with the value masked; empty is no secret.
fn redact_value(line: &str) -> String {
    let is_secret = |key: &str| ["password", "secret"].iter().any(|name| key.trim_end().ends_with(name));
    let Some((key, value)) = line.split_once('=').filter(|(key, _)| is_secret(key)) else {
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
        shown.push_str(&redact_query(&redact_login(url)));
        rest = after;
    }
    shown + rest
}

/// Up to the last `@`, since a password may have been written without escaping one.
fn redact_login(url: &str) -> String {
    let Some((login, host)) = url.rsplit_once('@') else {
        return url.to_owned();
    };
    match login.split_once(':') {
        Some((user, _)) => format!("{user}:{MASK}@{host}"),
        None => url.to_owned(),
    }
}

/// A unix socket's URL carries its password as a parameter.
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

    #[test]
    fn passwords_are_masked() {
        let check = |text: &str, expected: &str| assert_eq!(redact(text), expected);
        check("redis://127.0.0.1:6379/2", "redis://127.0.0.1:6379/2");
        check("redis://:geheim@host", "redis://:***@host");
        check("redis://ann:ge:h@eim@host:1/0", "redis://ann:***@host:1/0");
        check("redis://ann@host", "redis://ann@host");
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
