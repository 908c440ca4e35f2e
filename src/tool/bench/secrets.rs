//! The command line as a report keeps it: without secrets.

/// Shown in place of one.
const HIDDEN: &str = "…";

/// Words in a message that a secret stands beside.
const SECRET_WORDS: &[&str] = &["token", "pass", "secret", "auth", "key"];

/// What is left of a flag's value.
type Concealment = fn(&str) -> String;

/// Which flags have secret values, and what may be shown of them.
const SECRET_FLAGS: &[(&str, Concealment)] = &[
    ("--token", hide),
    ("--api-key", hide),
    ("--login", hide),
    ("--header", hide_behind_name),
    ("--publish-header", hide_behind_name),
    ("--send", hide_if_secret),
    ("--answer", hide_if_secret),
];

/// The arguments without what nobody else should know.
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
                without_login(&argument)
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
    let lower = text.to_ascii_lowercase();
    if SECRET_WORDS.iter().any(|word| lower.contains(word)) { hide(text) } else { text.to_owned() }
}

/// A URL without who one is there (RFC 3986 section 3.2.1).
pub(super) fn without_login(argument: &str) -> String {
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
    }
}
