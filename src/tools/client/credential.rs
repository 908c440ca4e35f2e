//! Credentials and headers of requests. `Debug` and errors never show a secret.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;

use super::flag::unshown;

/// The environment variable with the token, if no flag gives one.
const TOKEN_VARIABLE: &str = "FANFARE_TOKEN";
/// The most bytes that are read from a token file.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// Header fields that the tools write themselves, in lower case, or prefixes of them. A second one would change the request or
/// make it invalid.
const OWN_FIELDS: &[&str] = &["host", "content-length", "transfer-encoding", "connection", "upgrade", "sec-websocket-"];

/// The flags by which a tool signs in.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CredentialOptions {
    /// Sign in with TOKEN. Other users of this machine can read a command line: --token-file and FANFARE_TOKEN are safer
    #[arg(long, value_name = "TOKEN", value_parser = unshown(Secret::parse), conflicts_with_all = ["token_file", "api_key"])]
    token: Option<Secret>,
    /// Sign in with the token in FILE, which is read again for each connection [default: the variable FANFARE_TOKEN]
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    token_file: Option<PathBuf>,
    /// Sign in with an API key, sent as the header X-API-Key
    #[arg(long, value_name = "KEY", value_parser = unshown(Secret::parse))]
    api_key: Option<Secret>,
}

/// How a tool signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token, for `Authorization: Bearer` (RFC 6750 section 2.1).
    Token(Secret),
    /// A token from a file, and its value when it was read last: tokens are rotated.
    TokenFile(PathBuf, Secret),
    /// For `X-API-Key`.
    ApiKey(Secret),
}

/// A text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Secret {
    fn parse(text: &str) -> Result<Self, String> {
        match text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.is_empty() {
            true => Ok(Self(text.to_owned())),
            false => Err("it must be printable ASCII without spaces".into()),
        }
    }

    /// The text, to be sent.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// A header field that a flag adds to each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    name: String,
    value: Secret,
}

impl Header {
    /// Parses `NAME: VALUE`. Fails on fields that the tools write themselves.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = parse_header(text)?;
        let lower = name.to_ascii_lowercase();
        let is_own = |own: &&str| if own.ends_with('-') { lower.starts_with(*own) } else { lower == *own };
        if OWN_FIELDS.iter().any(is_own) {
            return Err(format!("{name} is written by the tool itself: leave it out"));
        }
        Ok(Self { name, value: Secret(value) })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this field is another way to sign in.
    pub(super) fn signs_in(&self) -> bool {
        ["authorization", "x-api-key"].iter().any(|name| self.name.eq_ignore_ascii_case(name))
    }

    pub(super) fn into_pair(self) -> (String, Secret) {
        (self.name, self.value)
    }
}

/// Parses `NAME: VALUE`, a header field on one line. The error does not repeat the value.
pub(crate) fn parse_header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("expected NAME: VALUE")?;
    // A token (RFC 9110 section 5.6.2).
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) || text.contains(char::is_control) {
        return Err("expected NAME: VALUE on one line".to_owned());
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

impl CredentialOptions {
    /// The credential that the flags name.
    pub(crate) fn named(&self) -> Result<Option<Credential>, String> {
        Ok(match (&self.token_file, &self.token, &self.api_key) {
            (Some(path), ..) => Some(Credential::TokenFile(path.clone(), read_token(path)?)),
            (None, Some(token), _) => Some(Credential::Token(token.clone())),
            (None, None, key) => key.clone().map(Credential::ApiKey),
        })
    }

    /// The credential that the flags name, or else the environment.
    pub(crate) fn resolve(&self) -> Result<Option<Credential>, String> {
        Ok(match self.named()? {
            Some(credential) => Some(credential),
            None => token_of_variable(std::env::var_os(TOKEN_VARIABLE).as_deref())?,
        })
    }
}

/// The credential in the environment variable; an empty variable counts as unset.
fn token_of_variable(value: Option<&OsStr>) -> Result<Option<Credential>, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let token = value.to_str().map_or_else(|| Err("it must be printable ASCII".into()), Secret::parse);
    token.map(|token| Some(Credential::Token(token))).map_err(|wrong| format!("{TOKEN_VARIABLE}: {wrong}"))
}

/// Whether reading the file consumes it, as with a pipe.
fn is_read_once(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file())
}

fn read_token(path: &Path) -> Result<Secret, String> {
    let wrong = |what: &dyn fmt::Display| format!("--token-file {}: {what}", path.display());
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(TOKEN_BYTES_MAX + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(wrong(&error)),
        Ok(count) if TOKEN_BYTES_MAX < count as u64 => Err(wrong(&"too long for a token")),
        Ok(_) => Secret::parse(text.trim()).map_err(|error| wrong(&format_args!("not a token: {error}"))),
    }
}

impl Credential {
    /// The credential with the token that its file has now. A file that is not regular, such as a pipe, is read only once. The
    /// error says what is wrong with the file.
    pub(crate) fn renew(&self) -> Result<Self, String> {
        match self {
            Self::TokenFile(path, known) => {
                let token = if is_read_once(path) { known.clone() } else { read_token(path)? };
                Ok(Self::TokenFile(path.clone(), token))
            }
            Self::Token(_) | Self::ApiKey(_) => Ok(self.clone()),
        }
    }

    /// The header field of a request.
    pub(crate) fn header(&self) -> (String, Secret) {
        match self {
            Self::Token(token) | Self::TokenFile(_, token) => {
                ("Authorization".into(), Secret(format!("Bearer {}", token.0)))
            }
            Self::ApiKey(key) => ("X-API-Key".into(), key.clone()),
        }
    }

    /// The secret where there is no header, as in Socket.IO: a hub accepts an API key in place of a token.
    pub(crate) fn secret(&self) -> &Secret {
        match self {
            Self::Token(secret) | Self::TokenFile(_, secret) | Self::ApiKey(secret) => secret,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_stands_in_for_a_flag() {
        let check = |value: Option<&str>, expected: Result<Option<&str>, &str>| {
            let token = token_of_variable(value.map(OsStr::new));
            let token = token.as_ref().map(|it| it.as_ref().map(|it| it.secret().expose()));
            assert_eq!(token.map_err(String::as_str), expected);
        };
        check(None, Ok(None));
        check(Some(""), Ok(None));
        check(Some("t.o.k"), Ok(Some("t.o.k")));
        check(Some("s3cret s3cret"), Err("FANFARE_TOKEN: it must be printable ASCII without spaces"));
    }
}
