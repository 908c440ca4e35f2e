//! A request as endpoints see it.

use std::fmt;

use crate::close::Close;

use super::{HttpLimits, head};

/// One complete request: method, decoded target, header fields, and body.
///
/// The head is kept as it came, in one piece; fields are ranges into it.
pub struct Request {
    /// What to do.
    pub method: Method,
    /// The version the client speaks.
    pub version: Version,
    /// The target's path, percent-decoded once. `*` for `OPTIONS *`, the authority for CONNECT.
    pub path: String,
    /// The target's query, form-decoded, in order.
    pub query: Vec<(String, String)>,
    /// The body, transfer coding removed.
    pub body: Vec<u8>,
    /// Whether the client can go on with the connection after the answer (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// That of a target in absolute form.
    pub(super) authority: Option<String>,
    pub(super) head: Box<[u8]>,
    pub(super) fields: Vec<Field>,
}

/// A header field: where its name and its value stand in the head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: Span,
    pub(super) value: Span,
}

/// A range of bytes in the head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Request {
    /// Parses one whole head, up to and including its blank line. The body stays empty: `ServerSession` is the reader of
    /// whole requests.
    pub fn parse(head: &[u8], limits: &HttpLimits) -> Result<Self, Close> {
        Ok(head::parse(head, limits)?.request)
    }

    /// The authority that the client asks for: the target's where that is in absolute form, whatever `Host` says (RFC 9112 section
    /// 3.2.2: a server must ignore the field then), else that of `Host`. HTTP/1.0 may name none.
    pub fn host(&self) -> Option<&str> {
        self.authority.as_deref().or_else(|| self.header_text("host"))
    }

    /// The value of the first field called `name` (in any case), as the client wrote it, without surrounding whitespace.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.header_values(name).next()
    }

    /// The values of all fields called `name` (in any case), in order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let named = move |field: &&Field| self.slice(field.name).eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(|field| self.slice(field.value))
    }

    /// All fields, names as the client wrote them, in order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| (self.name(field), self.slice(field.value)))
    }

    /// The first field called `name`, if its value is ASCII or other valid UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// Whether a comma-separated list, over all fields called `name`, has `token` in it (RFC 9110 section 5.6.1), as in
    /// `Connection: keep-alive, Upgrade`. Tokens are compared without regard to case.
    pub fn header_lists(&self, name: &str, token: &str) -> bool {
        self.header_values(name).any(|value| head::lists_token(value, token))
    }

    /// The first query parameter called `name` (exactly), decoded.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query_values(name).next()
    }

    /// All query parameters called `name`, in order.
    pub fn query_values(&self, name: &str) -> impl Iterator<Item = &str> {
        self.query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn name(&self, field: &Field) -> &str {
        // A parsed name is a token, hence ASCII.
        std::str::from_utf8(self.slice(field.name)).unwrap_or_default()
    }

    fn slice(&self, span: Span) -> &[u8] {
        &self.head[span.start as usize..span.end as usize]
    }
}

/// Without header values and query: they carry tokens, and this is what logs print.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {:?} body of {} bytes", self.method, self.path, self.version, self.body.len())
    }
}

/// A request's method (RFC 9110 section 9, RFC 5789). Case-sensitive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
    Connect,
    Trace,
    /// Any other token, `get` included: for the endpoint to answer 405 or 501.
    Other,
}

impl Method {
    pub(super) fn parse(token: &str) -> Self {
        match token {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            "CONNECT" => Self::Connect,
            "TRACE" => Self::Trace,
            _ => Self::Other,
        }
    }

    /// The token on the wire; `OTHER` for [`Method::Other`], whose own token is not kept.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
            Self::Connect => "CONNECT",
            Self::Trace => "TRACE",
            Self::Other => "OTHER",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The HTTP version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0: no chunks, and the connection ends with the answer unless asked otherwise.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
}
