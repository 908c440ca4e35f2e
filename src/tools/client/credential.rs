//! Who a tool says it is: tokens, API keys and headers. `Debug` and errors never show a secret.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use clap::Args;

use super::flag::unshown;

/// The variable with the token of whoever names none.
const TOKEN_VARIABLE: &str = "FANFARE_TOKEN";
/// No token is longer.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// Header fields that the tools write themselves, in lower case, or the beginnings of them: a second one would make the
/// request another one, or none.
const OWN_FIELDS: &[&str] = &["host", "content-length", "transfer-encoding", "connection", "upgrade", "sec-websocket-"];

/// The flags that say who the tool is.
#[derive(Args, Clone, Debug, Default)]
pub(crate) struct CredentialOptions {
    /// Sign in with TOKEN. Others on this machine see a command line: --token-file and FANFARE_TOKEN are safer
    #[arg(long, value_name = "TOKEN", value_parser = unshown(Secret::parse), conflicts_with_all = ["token_file", "api_key"])]
    token: Option<Secret>,
    /// Sign in with the token in FILE, read anew for each connection [default: the variable FANFARE_TOKEN]
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    token_file: Option<PathBuf>,
    /// Sign in with an API key, as the header X-API-Key
    #[arg(long, value_name = "KEY", value_parser = unshown(Secret::parse))]
    api_key: Option<Secret>,
}

/// Who the tool is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Credential {
    /// A token, for `Authorization: Bearer` (RFC 6750 section 2.1).
    Token(Secret),
    /// The same from a file, and as it was read first: the file may get another one.
    TokenFile(PathBuf, Secret),
    /// An API key.
    ApiKey(Secret),
}

/// A text that is not shown.
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

    /// The text itself, to be sent.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

/// A header field of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    name: String,
    value: Secret,
}

impl Header {
    /// Reads `NAME: VALUE`, without the fields that the tools write themselves.
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

/// Reads `NAME: VALUE`: a field of a request's head, with nothing in it that could end it. The error does not repeat the value.
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
    /// Who the tool is, by its flags.
    pub(crate) fn named(&self) -> Result<Option<Credential>, String> {
        Ok(match (&self.token_file, &self.token, &self.api_key) {
            (Some(path), ..) => Some(Credential::TokenFile(path.clone(), read_token(path)?)),
            (None, Some(token), _) => Some(Credential::Token(token.clone())),
            (None, None, key) => key.clone().map(Credential::ApiKey),
        })
    }

    /// Who the tool is, by its flags or else by the environment.
    pub(crate) fn resolve(&self) -> Result<Option<Credential>, String> {
        Ok(match self.named()? {
            Some(credential) => Some(credential),
            None => token_of_variable(std::env::var_os(TOKEN_VARIABLE).as_deref())?,
        })
    }
}

/// An empty variable is none.
fn token_of_variable(value: Option<&OsStr>) -> Result<Option<Credential>, String> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let token = value.to_str().map_or_else(|| Err("it must be printable ASCII".into()), Secret::parse);
    token.map(|token| Some(Credential::Token(token))).map_err(|wrong| format!("{TOKEN_VARIABLE}: {wrong}"))
}

/// What is read from it is gone.
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
    /// The same as it is now: with the token that its file has, if it comes of a file. One that is no regular file, such as a pipe,
    /// is read only once. The error says what is wrong with the file.
    pub(crate) fn renew(&self) -> Result<Self, String> {
        match self {
            Self::TokenFile(path, known) => {
                let token = if is_read_once(path) { known.clone() } else { read_token(path)? };
                Ok(Self::TokenFile(path.clone(), token))
            }
            Self::Token(_) | Self::ApiKey(_) => Ok(self.clone()),
        }
    }

    /// The field of a request's head that shows it.
    pub(crate) fn header(&self) -> (String, Secret) {
        match self {
            Self::Token(token) | Self::TokenFile(_, token) => {
                ("Authorization".into(), Secret(format!("Bearer {}", token.0)))
            }
            Self::ApiKey(key) => ("X-API-Key".into(), key.clone()),
        }
    }

    /// What is shown where there is no head: a hub takes an API key in place of a token.
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
