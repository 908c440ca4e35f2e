//! The operations that a client sends.

use std::io::Write;

use serde::Serialize;

use super::{Subject, SubjectPattern};

/// Asks for a `PONG`, which confirms that the server has processed everything before.
pub const PING: &[u8] = b"PING\r\n";
/// Answers a `PING`. A server that gets no answer closes the connection.
pub const PONG: &[u8] = b"PONG\r\n";

/// Who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NatsLogin {
    /// A user with a password.
    User {
        user: String,
        password: String,
    },
    Token(String),
    /// The public key of an NKey, and the signature of the server's nonce, in base64 for URLs.
    Nkey {
        public_key: String,
        signature: String,
    },
    /// A JWT, and the signature of the nonce by its key.
    Jwt {
        jwt: String,
        signature: String,
    },
}

/// The fields of `CONNECT`, the first operation of a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectOptions<'a> {
    /// For the server's own lists of connections.
    pub name: &'a str,
    /// The login, if the server requires one.
    pub login: Option<&'a NatsLogin>,
    /// Whether the server shall send `+OK` after each operation.
    pub is_verbose: bool,
    /// Whether the connection is in TLS.
    pub is_tls: bool,
    /// Whether the server shall answer a request that nobody serves, with status 503.
    pub wants_no_responders: bool,
}

#[derive(Serialize)]
struct Fields<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    name: &'a str,
    lang: &'static str,
    version: &'static str,
    /// 1: the client accepts an `INFO` at any time.
    protocol: u8,
    headers: bool,
    no_responders: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jwt: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<&'a str>,
}

/// Appends a `CONNECT`, the answer to the server's first `INFO`.
pub fn write_connect(connect: &ConnectOptions<'_>, out: &mut Vec<u8>) {
    let mut fields = Fields {
        verbose: connect.is_verbose,
        pedantic: false,
        tls_required: connect.is_tls,
        name: connect.name,
        lang: "rust",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        headers: true,
        no_responders: connect.wants_no_responders,
        user: None,
        pass: None,
        auth_token: None,
        nkey: None,
        jwt: None,
        sig: None,
    };
    match connect.login {
        Some(NatsLogin::User { user, password }) => (fields.user, fields.pass) = (Some(&**user), Some(&**password)),
        Some(NatsLogin::Token(token)) => fields.auth_token = Some(&**token),
        Some(NatsLogin::Nkey { public_key, signature }) => {
            (fields.nkey, fields.sig) = (Some(&**public_key), Some(&**signature));
        }
        Some(NatsLogin::Jwt { jwt, signature }) => (fields.jwt, fields.sig) = (Some(&**jwt), Some(&**signature)),
        None => {}
    }
    out.extend_from_slice(b"CONNECT ");
    serde_json::to_writer(&mut *out, &fields).expect("texts and booleans are JSON, and a Vec takes every write");
    out.extend_from_slice(b"\r\n");
}

/// Appends a `PUB`: publishes `payload`, which must not be over the server's `max_payload`.
pub fn write_publish(subject: &Subject, reply_to: Option<&Subject>, payload: &[u8], out: &mut Vec<u8>) {
    write_line(out, format_args!("PUB {subject}{} {}", ReplyTo(reply_to), payload.len()));
    out.extend_from_slice(payload);
    out.extend_from_slice(b"\r\n");
}

/// Appends an `HPUB`: publishes `payload` with headers, none of which may contain a line end. Only for a server whose
/// `INFO` says that it takes them.
pub fn write_publish_with_headers(
    subject: &Subject,
    reply_to: Option<&Subject>,
    headers: &[(&str, &str)],
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    const VERSION: &str = "NATS/1.0\r\n";
    let field_bytes = |(name, value): &(&str, &str)| name.len() + ": ".len() + value.len() + "\r\n".len();
    let header_bytes = VERSION.len() + headers.iter().map(field_bytes).sum::<usize>() + "\r\n".len();
    let total_bytes = header_bytes + payload.len();
    write_line(out, format_args!("HPUB {subject}{} {header_bytes} {total_bytes}", ReplyTo(reply_to)));
    out.extend_from_slice(VERSION.as_bytes());
    headers.iter().for_each(|(name, value)| write_line(out, format_args!("{name}: {value}")));
    for part in [&b"\r\n"[..], payload, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends an `HPUB` with a header block that is complete, its empty line included.
pub fn write_publish_with_block(
    subject: &Subject,
    reply_to: Option<&Subject>,
    block: &[u8],
    payload: &[u8],
    out: &mut Vec<u8>,
) {
    let total_bytes = block.len() + payload.len();
    write_line(out, format_args!("HPUB {subject}{} {} {total_bytes}", ReplyTo(reply_to), block.len()));
    for part in [block, payload, b"\r\n"] {
        out.extend_from_slice(part);
    }
}

/// Appends a `SUB`: messages come with the id `sid`, to one member of the group `queue` each, if there is one.
pub fn write_subscribe(pattern: &SubjectPattern, queue: Option<&Subject>, sid: u64, out: &mut Vec<u8>) {
    write_line(out, format_args!("SUB {}{} {sid}", pattern.as_str(), ReplyTo(queue)));
}

/// Appends an `UNSUB`, at once or after so many messages.
pub fn write_unsubscribe(sid: u64, messages_max: Option<u64>, out: &mut Vec<u8>) {
    match messages_max {
        Some(count) => write_line(out, format_args!("UNSUB {sid} {count}")),
        None => write_line(out, format_args!("UNSUB {sid}")),
    }
}

/// An argument that may be absent, with the blank before it.
struct ReplyTo<'a>(Option<&'a Subject>);

impl std::fmt::Display for ReplyTo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.map_or(Ok(()), |subject| write!(f, " {subject}"))
    }
}

fn write_line(out: &mut Vec<u8>, line: std::fmt::Arguments<'_>) {
    write!(out, "{line}\r\n").expect("a Vec takes every write");
}
