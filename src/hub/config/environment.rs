//! Environment variables that set keys, and those that look as if they should.

use super::{
    keys::{KEYS, is_of_no_section},
    nearest::nearest,
    problem::{Problem, ValueSource},
};

/// The prefix of variables that set a key: `FANFARE_SECTION__KEY`, or `FANFARE_KEY` for a key outside of all sections.
const PREFIX: &str = "FANFARE_";

/// Variables that other commands or the build read.
const READ_ELSEWHERE: &[&str] = &["FANFARE_TOKEN", "FANFARE_COMMIT"];

/// What an environment variable means to the configuration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// It sets the key at this path, which may be unknown.
    Key(String),
    /// It spells the key at this path with single underscores, which is an error.
    SingleUnderscores(&'static str),
    /// It has the hub's prefix and sets nothing.
    Unknown,
    /// It is not the hub's.
    Foreign,
}

impl Variable {
    pub(super) fn classify(name: &str, value: &str) -> Self {
        let Some(rest) = name.strip_prefix(PREFIX) else { return Self::Foreign };
        let spelt = rest.to_lowercase();
        if rest.contains("__") {
            return Self::Key(spelt.replace("__", "."));
        }
        if KEYS.iter().any(|key| key.path == spelt && is_of_no_section(key.path)) {
            return Self::Key(spelt);
        }
        if let Some(key) = KEYS.iter().find(|key| key.path.replace('.', "_") == spelt) {
            return Self::SingleUnderscores(key.path);
        }
        if READ_ELSEWHERE.contains(&name) || is_of_kubernetes(rest, value) { Self::Foreign } else { Self::Unknown }
    }
}

/// Whether Kubernetes sets the variable: it describes a service called `fanfare` or `fanfare-…` to every container, in
/// `FANFARE_SERVICE_HOST`, `FANFARE_SERVICE_PORT…`, `FANFARE_PORT` and `FANFARE_PORT_8080_TCP…`.
fn is_of_kubernetes(rest: &str, value: &str) -> bool {
    let names_protocol = ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| rest.contains(protocol));
    rest.ends_with("SERVICE_HOST")
        || rest.contains("SERVICE_PORT")
        || rest.contains("PORT_") && names_protocol
        || rest.ends_with("PORT") && value.contains("://")
}

/// The variable that sets the key at `path`.
fn variable_of(path: &str) -> String {
    format!("{PREFIX}{}", path.to_uppercase().replace('.', "__"))
}

/// The error for the variable `name`, which spells `path` with single underscores. Without the error the hub would use the
/// key's default, which may be less safe.
pub(super) fn single_underscores(name: String, path: &str) -> Problem {
    let message =
        format!("it sets nothing: two underscores stand for the dot of `{path}`, as in {}", variable_of(path));
    Problem { source: Some(ValueSource::Variable(name)), message }
}

/// The warning about the variable `name`, which sets nothing. Values are not shown: they may be secrets.
pub(super) fn unknown(name: &str) -> String {
    let known: Vec<String> = KEYS.iter().map(|key| variable_of(key.path)).collect();
    let spelt = name.replace("__", "_");
    let single: Vec<String> = known.iter().map(|name| name.replace("__", "_")).collect();
    let near = nearest(&spelt, single.iter().map(String::as_str));
    let near = near.and_then(|near| known.iter().find(|name| name.replace("__", "_") == near));
    let hint = near
        .map_or_else(|| "`fanfare config default` lists all keys".to_owned(), |near| format!("did you mean {near}?"));
    format!("the variable {name} sets nothing; {hint}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables() {
        let check = |name: &str, value: &str, expected: Variable| {
            assert_eq!(Variable::classify(name, value), expected, "{name}={value}");
        };
        check("PATH", "/bin", Variable::Foreign);
        check("FANFARE", "1", Variable::Foreign);
        check("FANFARE_AUTH__MODE", "jwt", Variable::Key("auth.mode".to_owned()));
        check("FANFARE_AUTH__MOED", "jwt", Variable::Key("auth.moed".to_owned()));
        check("FANFARE_TOPICS__HISTORY__COUNT", "1", Variable::Key("topics.history.count".to_owned()));
        check("FANFARE_AUTH_MODE", "jwt", Variable::SingleUnderscores("auth.mode"));
        check("FANFARE_AUTH_SECRET_FILE", "x", Variable::SingleUnderscores("auth.secret_file"));
        check("FANFARE_TOPICS_HISTORY_COUNT", "1", Variable::SingleUnderscores("topics.history.count"));
        check("FANFARE_COMPAT", "esp", Variable::Key("compat".to_owned()));
        check("FANFARE_QUOTA", "[]", Variable::SingleUnderscores("quota"));
        check("FANFARE_AUTH_MOED", "jwt", Variable::Unknown);
        check("FANFARE_HOME", "/srv", Variable::Unknown);
        check("FANFARE_PORT", "8080", Variable::Unknown);
        check("FANFARE_TOKEN", "eyJ", Variable::Foreign);
        check("FANFARE_COMMIT", "0123456789ab", Variable::Foreign);
        // As Kubernetes 1.31 describes services called `fanfare` and `fanfare-admin` to a container.
        check("FANFARE_SERVICE_HOST", "10.96.0.7", Variable::Foreign);
        check("FANFARE_SERVICE_PORT", "8080", Variable::Foreign);
        check("FANFARE_SERVICE_PORT_HTTP", "8080", Variable::Foreign);
        check("FANFARE_PORT", "tcp://10.96.0.7:8080", Variable::Foreign);
        check("FANFARE_PORT_8080_TCP", "tcp://10.96.0.7:8080", Variable::Foreign);
        check("FANFARE_PORT_8080_TCP_ADDR", "10.96.0.7", Variable::Foreign);
        check("FANFARE_ADMIN_SERVICE_HOST", "10.96.0.8", Variable::Foreign);
        check("FANFARE_ADMIN_PORT_9090_TCP_PROTO", "tcp", Variable::Foreign);
    }

    #[test]
    fn no_two_keys_are_spelt_alike_with_single_underscores() {
        let mut spelt: Vec<String> = KEYS.iter().map(|key| key.path.replace('.', "_")).collect();
        spelt.sort();
        spelt.dedup();
        assert_eq!(spelt.len(), KEYS.len());
    }

    #[test]
    fn warnings() {
        let check = |name: &str, expected: &str| assert_eq!(unknown(name), expected);
        check("FANFARE_AUTH_MOED", "the variable FANFARE_AUTH_MOED sets nothing; did you mean FANFARE_AUTH__MODE?");
        check(
            "FANFARE_QQQQQQQQQ",
            "the variable FANFARE_QQQQQQQQQ sets nothing; `fanfare config default` lists all keys",
        );
    }
}
