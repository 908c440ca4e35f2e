//! How the tools reach a hub: who they say they are, which certificates they trust, and the connection that follows. Secrets
//! are not shown, neither in errors nor by `Debug`.

use std::{
    ffi::OsStr,
    fmt,
    fs::File,
    io::{self, Read},
    net::{SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Arg, Args, Command, builder::TypedValueParser, error::ErrorKind};
use socket2::Socket;

use super::{
    client::HubUrl,
    target::{RedisTarget, RedisUrl},
    tls::{self, MaybeTlsStream, TlsClient, TlsOptions},
};

/// The variable with the token of whoever names none.
const TOKEN_VARIABLE: &str = "FANFARE_TOKEN";
/// No token is longer.
const TOKEN_BYTES_MAX: u64 = 64 * 1024;
/// How long connecting, and each step of a handshake, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Header fields that the tools write themselves, in lower case, or the beginnings of them: a second one would make the
/// request another one, or none.
const OWN_FIELDS: &[&str] = &["host", "content-length", "transfer-encoding", "connection", "upgrade", "sec-websocket-"];

/// What `--help` calls these flags.
const ACCESS: &str = "Access";

/// The flags by which all tools sign in and are carried to a hub.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = ACCESS)]
pub(super) struct AccessOptions {
    #[command(flatten)]
    credentials: CredentialOptions,
    /// Send this header with each request; may be repeated
    #[arg(long = "header", value_name = "NAME: VALUE", value_parser = unshown(Header::parse))]
    headers: Vec<Header>,
    #[command(flatten)]
    tls: TlsOptions,
}

/// The flags that say who the tool is.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct CredentialOptions {
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
pub(super) enum Credential {
    /// A token, for `Authorization: Bearer` (RFC 6750 section 2.1).
    Token(Secret),
    /// The same from a file, and as it was read first: the file may get another one.
    TokenFile(PathBuf, Secret),
    /// An API key.
    ApiKey(Secret),
}

/// A text that is not shown.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Secret(String);

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
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

/// A header field of each request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    name: String,
    value: Secret,
}

impl Header {
    /// Reads `NAME: VALUE`, without the fields that the tools write themselves.
    fn parse(text: &str) -> Result<Self, String> {
        let (name, value) = parse_header(text)?;
        let lower = name.to_ascii_lowercase();
        let is_own = |own: &&str| if own.ends_with('-') { lower.starts_with(*own) } else { lower == *own };
        if OWN_FIELDS.iter().any(is_own) {
            return Err(format!("{name} is written by the tool itself: leave it out"));
        }
        Ok(Self { name, value: Secret(value) })
    }

    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Reads `NAME: VALUE`: a field of a request's head, with nothing in it that could end it. The error does not repeat the value.
pub(super) fn parse_header(text: &str) -> Result<(String, String), String> {
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
    pub(super) fn named(&self) -> Result<Option<Credential>, String> {
        Ok(match (&self.token_file, &self.token, &self.api_key) {
            (Some(path), ..) => Some(Credential::TokenFile(path.clone(), read_token(path)?)),
            (None, Some(token), _) => Some(Credential::Token(token.clone())),
            (None, None, key) => key.clone().map(Credential::ApiKey),
        })
    }

    /// Who the tool is, by its flags or else by the environment.
    pub(super) fn resolve(&self) -> Result<Option<Credential>, String> {
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

impl AccessOptions {
    /// The hub at `url`, reached as the flags and the environment say. Reads the files that they name. The error says what is
    /// wrong with which.
    pub(super) fn hub(&self, url: &HubUrl) -> Result<HubAccess, String> {
        let signs_in = |header: &Header| header.is("authorization") || header.is("x-api-key");
        let credential = match self.headers.iter().find(|header| signs_in(header)) {
            None => self.credentials.resolve()?,
            Some(header) if self.credentials.named()?.is_some() => {
                return Err(format!("--header {} is a second way to sign in: leave one of them out", header.name));
            }
            Some(_) => None,
        };
        let mut headers: Vec<(String, Secret)> = credential.iter().map(Credential::header).collect();
        headers.extend(self.headers.iter().map(|header| (header.name.clone(), header.value.clone())));
        let tls = url.tls_host().map(|host| TlsClient::new(host, &self.tls)).transpose()?;
        Ok(HubAccess { url: url.clone(), credential, headers, tls })
    }
}

impl AccessOptions {
    /// The Redis at `url`, whose certificate is checked as a hub's is. Reads the files that the flags name.
    pub(super) fn redis(&self, url: &RedisUrl) -> Result<RedisTarget, String> {
        RedisTarget::new(url.clone(), &self.tls)
    }
}

impl Credential {
    /// The same as it is now: with the token that its file has, if it comes of a file. One that is no regular file, such as a pipe,
    /// is read only once. The error says what is wrong with the file.
    pub(super) fn renew(&self) -> Result<Self, String> {
        match self {
            Self::TokenFile(path, known) => {
                let token = if is_read_once(path) { known.clone() } else { read_token(path)? };
                Ok(Self::TokenFile(path.clone(), token))
            }
            Self::Token(_) | Self::ApiKey(_) => Ok(self.clone()),
        }
    }

    /// The field of a request's head that shows it.
    pub(super) fn header(&self) -> (String, Secret) {
        match self {
            Self::Token(token) | Self::TokenFile(_, token) => {
                ("Authorization".into(), Secret(format!("Bearer {}", token.0)))
            }
            Self::ApiKey(key) => ("X-API-Key".into(), key.clone()),
        }
    }

    /// What is shown where there is no head: a hub takes an API key in place of a token.
    pub(super) fn secret(&self) -> &Secret {
        match self {
            Self::Token(secret) | Self::TokenFile(_, secret) | Self::ApiKey(secret) => secret,
        }
    }
}

/// A hub, with all that is needed to be let in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HubAccess {
    url: HubUrl,
    credential: Option<Credential>,
    /// That of the credential, if there is one, comes first.
    headers: Vec<(String, Secret)>,
    tls: Option<TlsClient>,
}

impl fmt::Display for HubAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.url.fmt(f)
    }
}

impl HubAccess {
    /// Where it is.
    pub(super) fn url(&self) -> &HubUrl {
        &self.url
    }

    /// Reads the token anew, if it comes of a file: to be called before each new connection, since tokens are rotated, and where
    /// the hub does not accept it any more. Returns whether it is another. The error says what is wrong with the file; the former
    /// token stays.
    pub(super) fn renew(&mut self) -> Result<bool, String> {
        let Some(credential) = &mut self.credential else { return Ok(false) };
        let renewed = credential.renew()?;
        let is_another = renewed != *credential;
        self.headers[0] = renewed.header();
        *credential = renewed;
        Ok(is_another)
    }

    /// The fields that each request to it carries.
    pub(super) fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.expose()))
    }

    /// The client's side of TLS, if the hub is behind TLS.
    pub(super) fn tls(&self) -> Option<&TlsClient> {
        self.tls.as_ref()
    }

    /// Connects, with TLS where the URL asks for it, over a blocking socket. The error says where to and why not.
    pub(super) fn connect(&self) -> Result<MaybeTlsStream<Socket>, String> {
        let connect = || -> io::Result<MaybeTlsStream<Socket>> {
            let socket = match self.url.unix_path() {
                Some(path) => UnixStream::connect(path)?.into(),
                None => connect_first(self.url.socket_addresses()?)?,
            };
            socket.set_read_timeout(Some(CONNECT_TIMEOUT))?;
            let mut stream = MaybeTlsStream::new(socket, self.tls())?;
            stream.shake_hands()?;
            Ok(stream)
        };
        connect().map_err(|error| {
            let advice = match tls::advice(&error) {
                "" if tls::is_untrusted(&error) => "",
                "" => ". Is the hub running there?",
                advice => advice,
            };
            format!("cannot reach {self}: {error}{advice}")
        })
    }
}

/// Tries each address of a host in turn, as `localhost` may stand for two.
pub(super) fn connect_first(addresses: impl IntoIterator<Item = SocketAddr>) -> io::Result<Socket> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream.into());
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// A parser of a flag's value that may hold a secret: its errors do not repeat the value, as clap's own would.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unshown<T>(fn(&str) -> Result<T, String>);

/// A value that `parse` reads.
pub(super) fn unshown<T>(parse: fn(&str) -> Result<T, String>) -> Unshown<T> {
    Unshown(parse)
}

impl<T: Clone + Send + Sync + 'static> TypedValueParser for Unshown<T> {
    type Value = T;

    fn parse_ref(&self, command: &Command, argument: Option<&Arg>, value: &OsStr) -> Result<T, clap::Error> {
        let parsed = value.to_str().map_or_else(|| Err("not UTF-8".into()), self.0);
        parsed.map_err(|wrong| {
            let flag = argument.map(ToString::to_string).unwrap_or_default();
            let message = format!("invalid value for '{flag}': {wrong}");
            clap::Error::raw(ErrorKind::ValueValidation, message).with_cmd(command)
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct CommandLine {
        #[command(flatten)]
        access: AccessOptions,
    }

    fn parse(arguments: &[&str]) -> Result<AccessOptions, String> {
        let parsed = CommandLine::try_parse_from(["tool"].iter().chain(arguments));
        parsed.map(|line| line.access).map_err(|error| error.to_string())
    }

    fn hub(arguments: &[&str]) -> Result<HubAccess, String> {
        parse(arguments)?.hub(&"http://hub:1".parse().expect("a good URL"))
    }

    #[test]
    fn requests_carry_what_the_flags_say() {
        let folder = std::env::temp_dir().join(format!("fanfare-access-{}", std::process::id()));
        std::fs::write(&folder, "t.o.k\n").expect("a temporary file");
        let path = folder.to_str().expect("UTF-8").to_owned();
        let check = |arguments: &[&str], expected: &[(&str, &str)]| {
            let hub = hub(arguments).expect("good flags");
            assert_eq!(hub.headers().collect::<Vec<_>>(), expected, "{arguments:?}");
        };
        check(&[], &[]);
        check(&["--token", "t.o.k"], &[("Authorization", "Bearer t.o.k")]);
        check(&["--token-file", &path], &[("Authorization", "Bearer t.o.k")]);
        check(&["--api-key", "k", "--header", "X-A:  b c "], &[("X-API-Key", "k"), ("X-A", "b c")]);
        check(&["--header", "authorization: Basic x"], &[("authorization", "Basic x")]);
        std::fs::remove_file(folder).expect("it was just written");
    }

    #[test]
    fn a_token_is_read_anew_from_its_file() {
        let path = std::env::temp_dir().join(format!("fanfare-rotated-{}", std::process::id()));
        let rotate = |token: &str| std::fs::write(&path, token).expect("a temporary file");
        rotate("first");
        let flags = ["--token-file", path.to_str().expect("UTF-8"), "--header", "X-A: b"];
        let mut hub = hub(&flags).expect("good flags");
        let check = |hub: &HubAccess, token: &str| {
            assert_eq!(
                hub.headers().collect::<Vec<_>>(),
                [("Authorization", &*format!("Bearer {token}")), ("X-A", "b")]
            );
        };
        check(&hub, "first");
        rotate("second\n");
        assert_eq!(hub.renew(), Ok(true));
        check(&hub, "second");
        // One that is being written, or gone.
        rotate("");
        assert!(hub.renew().is_err_and(|error| error.contains("not a token")));
        std::fs::remove_file(&path).expect("it was just written");
        assert!(hub.renew().is_err_and(|error| error.contains("No such file")));
        check(&hub, "second");
    }

    #[test]
    fn a_pipe_is_read_once() {
        use std::{io::Write, os::fd::AsRawFd};
        let (reader, mut writer) = io::pipe().expect("pipes can be had");
        writer.write_all(b"t.o.k\n").expect("it has room");
        drop(writer);
        let path = format!("/proc/self/fd/{}", reader.as_raw_fd());
        let mut hub = hub(&["--token-file", &path]).expect("good flags");
        assert_eq!(hub.renew(), Ok(false));
        assert_eq!(hub.headers().collect::<Vec<_>>(), [("Authorization", "Bearer t.o.k")]);
    }

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

    #[test]
    fn errors_say_what_to_do_and_show_no_secret() {
        let check = |arguments: &[&str], expected: &str| {
            let error = hub(arguments).expect_err("bad flags");
            assert!(error.contains(expected) && !error.contains("s3cret"), "{arguments:?}: {error}");
        };
        check(&["--token", "s3cret s3cret"], "invalid value for '--token <TOKEN>': it must be printable ASCII");
        check(&["--token", ""], "--token <TOKEN>");
        check(&["--api-key", "s3crét"], "invalid value for '--api-key <KEY>'");
        check(&["--header", "s3cret"], "invalid value for '--header <NAME: VALUE>': expected NAME: VALUE");
        check(&["--header", "X: s3cret\r\nY: z"], "on one line");
        check(&["--header", "X Y: s3cret"], "on one line");
        for own in ["Host", "content-length", "Sec-WebSocket-Key"] {
            check(&["--header", &format!("{own}: s3cret")], "is written by the tool itself");
        }
        check(&["--token", "s3cret", "--token-file", "f"], "cannot be used with");
        check(&["--token", "s3cret", "--api-key", "s3cret"], "cannot be used with");
        check(&["--token", "s3cret", "--header", "Authorization: s3cret"], "a second way to sign in");
        check(&["--token-file", "/nowhere/token"], "--token-file /nowhere/token: No such file");
    }

    #[test]
    fn debugging_shows_no_secret() {
        let options = parse(&["--token", "s3cret", "--header", "X: s3cret"]).expect("good flags");
        let hub = options.hub(&"http://hub:1".parse().expect("a good URL")).expect("good flags");
        assert!(!format!("{options:?} {hub:?}").contains("s3cret"));
    }
}
