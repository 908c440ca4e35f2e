//! The command line as a report keeps it: without secrets.

use crate::protocol::http::percent_decode;

/// The text that replaces a secret.
const HIDDEN: &str = "…";

/// Words in a message, or in the name of a query parameter, that a secret follows.
const SECRET_WORDS: &[&str] = &["token", "pass", "secret", "auth", "key", "jwt", "credential", "signature"];

/// Removes the secret parts of a flag's value.
type Concealment = fn(&str) -> String;

/// The flags with secret values, and what may be shown of each.
const SECRET_FLAGS: &[(&str, Concealment)] = &[
    ("--token", hide),
    ("--api-key", hide),
    ("--login", hide),
    ("--header", hide_behind_name),
    ("--publish-header", hide_behind_name),
    ("--send", hide_if_secret),
    ("--answer", hide_if_secret),
    ("--socketio-args", hide_if_secret),
    ("--publish-body", hide_if_secret),
];

/// The arguments without secrets.
pub(super) fn command_line(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut next: Option<Concealment> = None;
    let show = |argument: String| {
        if let Some(conceal) = next.take() {
            return conceal(&argument);
        }
        let conceal = |flag: &str| SECRET_FLAGS.iter().find(|(name, _)| *name == flag).map(|(_, conceal)| *conceal);
        match argument.split_once('=').and_then(|(flag, value)| Some((flag, value, conceal(flag)?))) {
            Some((flag, value, conceal)) => format!("{flag}={}", conceal(value)),
            None => {
                next = conceal(&argument);
                without_secrets(&argument)
            }
        }
    };
    arguments.map(show).collect()
}

fn hide(_value: &str) -> String {
    HIDDEN.to_owned()
}

fn hide_behind_name(header: &str) -> String {
    header.split_once(':').map_or_else(|| hide(header), |(name, _)| format!("{name}: {HIDDEN}"))
}

fn hide_if_secret(text: &str) -> String {
    if is_secret(text) { hide(text) } else { text.to_owned() }
}

fn is_secret(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    SECRET_WORDS.iter().any(|word| lower.contains(word))
}

/// A URL, with or without its scheme, or a path: without who one is there (RFC 3986 section 3.2.1), and without the values in its
/// query whose names say that they are secret, such as `?token=…`.
pub(super) fn without_secrets(argument: &str) -> String {
    without_secret_values(&without_login(argument))
}

fn without_secret_values(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let mut shown = path.to_owned();
    let mut separator = '?';
    let mut rest = query;
    loop {
        let end = rest.find(['&', ';', '?', '#']).unwrap_or(rest.len());
        shown.push(separator);
        match rest[..end].split_once('=') {
            Some((name, _)) if is_secret(&percent_decode(name).unwrap_or_else(|| name.to_owned())) => {
                shown.extend([name, "=", HIDDEN]);
            }
            _ => shown.push_str(&rest[..end]),
        }
        let Some(next) = rest[end..].chars().next() else { return shown };
        separator = next;
        rest = &rest[end + 1..];
    }
}

fn without_login(argument: &str) -> String {
    let Some((scheme, rest)) = argument.split_once("://") else { return argument.to_owned() };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((login, _)) => format!("{scheme}://{HIDDEN}{}", &rest[login.len()..]),
        None => argument.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_keep_no_secrets() {
        let check = |arguments: &[&str], expected: &[&str]| {
            assert_eq!(command_line(arguments.iter().map(ToString::to_string)), expected);
        };
        check(&["bench", "--token", "t.o.k", "--rate", "8"], &["bench", "--token", "…", "--rate", "8"]);
        check(&["--login", "--token", "--token", "a"], &["--login", "…", "--token", "…"]);
        check(&["--token"], &["--token"]);
        check(
            &["--api-key", "k", "--api-key=k", "--token-file", "f"],
            &["--api-key", "…", "--api-key=…", "--token-file", "f"],
        );
        check(&["--token=t.o.k", "--rate=8"], &["--token=…", "--rate=8"]);
        check(&["--publish", "nats://ada:secret@h:1/"], &["--publish", "nats://…@h:1/"]);
        check(&["--publish=nats://t.o.k@h", "http://h/@a"], &["--publish=nats://…@h", "http://h/@a"]);
        check(&["--header", "X-Key: k", "--header=A"], &["--header", "X-Key: …", "--header=…"]);
        check(&["--publish-header=X-Key: k"], &["--publish-header=X-Key: …"]);
        check(&["--send", r#"{"id":1}"#, "--send"], &["--send", r#"{"id":1}"#, "--send"]);
        check(&["--send", r#"{"Token":"x"}"#, "--send=password"], &["--send", "…", "--send=…"]);
        check(&["--socketio-args", r#"{"token":"x"}"#], &["--socketio-args", "…"]);
        check(&["--publish-body=token=x&data={payload:form}"], &["--publish-body=…"]);
    }

    #[test]
    fn queries_keep_no_secrets() {
        let check = |argument: &str, expected: &str| {
            assert_eq!(without_secrets(argument), expected);
            let line = command_line(["--subscribe".to_owned(), argument.to_owned()].into_iter());
            assert_eq!(line, ["--subscribe", expected]);
            let line = command_line([format!("--publish={argument}")].into_iter());
            assert_eq!(line, [format!("--publish={expected}")]);
        };
        check("ws://h:1/ws?token=s3cret&topic={topic}", "ws://h:1/ws?token=…&topic={topic}");
        check("http://h?topic=a&access_token=s3cret", "http://h?topic=a&access_token=…");
        check("h:1/sse?API-Key=s3cret;x=1", "h:1/sse?API-Key=…;x=1");
        check("/ws?to%6Ben=s3cret#top", "/ws?to%6Ben=…#top");
        check("https://u:s3cret@h/x?jwt=s3cret=&n=1", "https://…@h/x?jwt=…&n=1");
        check("http://h/?a?token=s3cret", "http://h/?a?token=…");
        check("http://h/sse?topic=a=b&named&=x", "http://h/sse?topic=a=b&named&=x");
    }
}
