//! The HTTP request that publishes an event, at any server.

use super::{target::Target, topics::fill};
use crate::{
    client::Credential,
    protocol::http::{Method, percent_encode, write_request},
    topic::Topic,
};

/// The server and the templates of its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Post {
    pub target: Target,
    pub method: PostMethod,
    /// With `{topic}` for the topic's name.
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub credential: Option<Credential>,
    /// With `{topic}`, and with one of `{payload}` and `{payload:form}`.
    pub body: String,
}

/// The method of such a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum PostMethod {
    /// POST
    #[value(name = "POST")]
    Post,
    /// PUT
    #[value(name = "PUT")]
    Put,
}

/// The templates for one topic.
#[derive(Debug)]
pub(super) struct Form {
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    before: String,
    encoding: Encoding,
    after: String,
    body: Vec<u8>,
}

/// The encoding of the payload in the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Verbatim,
    /// As a value of `application/x-www-form-urlencoded`.
    Form,
}

const ENCODINGS: [(&str, Encoding); 2] = [("{payload}", Encoding::Verbatim), ("{payload:form}", Encoding::Form)];

impl Post {
    /// The form of what is published to `topic`. Fails if the body has no place for the payload, or more than one.
    pub(super) fn form(&self, topic: &Topic) -> Result<Form, String> {
        let body = fill(&self.body, topic);
        let places = ENCODINGS.iter().flat_map(|&(mark, encoding)| {
            body.match_indices(mark).map(move |(start, _)| (start, start + mark.len(), encoding))
        });
        let [(start, end, encoding)] = places.collect::<Vec<_>>()[..] else {
            return Err("--publish-body needs {payload} or {payload:form} in it, once".into());
        };
        let mut headers = self.headers.clone();
        if let Some(credential) = &self.credential {
            // The current token: each step of a ladder opens new connections.
            let (name, value) = credential.renew().unwrap_or_else(|_| credential.clone()).header();
            headers.push((name, value.expose().to_owned()));
        }
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("Content-Type".into(), "application/json".into()));
        }
        Ok(Form {
            method: match self.method {
                PostMethod::Post => Method::Post,
                PostMethod::Put => Method::Put,
            },
            host: self.target.host.clone(),
            path: fill(&self.path, topic),
            headers,
            before: body[..start].to_owned(),
            encoding,
            after: body[end..].to_owned(),
            body: Vec::new(),
        })
    }
}

impl Form {
    /// Appends the request that publishes `payload`.
    pub(super) fn write(&mut self, payload: &[u8], out: &mut Vec<u8>) {
        self.body.clear();
        self.body.extend_from_slice(self.before.as_bytes());
        match self.encoding {
            Encoding::Verbatim => self.body.extend_from_slice(payload),
            Encoding::Form => {
                let mut text = String::new();
                // The bench's payloads are ASCII.
                percent_encode(&String::from_utf8_lossy(payload), &mut text);
                self.body.extend_from_slice(text.as_bytes());
            }
        }
        self.body.extend_from_slice(self.after.as_bytes());
        let headers: Vec<(&str, &str)> = self.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        write_request(self.method, &self.host, &self.path, &headers, &self.body, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &[(&str, &str)], body: &str) -> Result<String, String> {
        let post = Post {
            target: Target::parse("http://127.0.0.1:9", "http://", 80).expect("an address"),
            method: PostMethod::Post,
            path: path.into(),
            headers: headers.iter().map(|&(name, value)| (name.into(), value.into())).collect(),
            credential: None,
            body: body.into(),
        };
        let mut form = post.form(&Topic::parse("a.b").expect("a topic"))?;
        let mut out = Vec::new();
        // Twice: nothing of one event stays in the next.
        form.write(br#"{"x":0}"#, &mut Vec::new());
        form.write(br#"{"x":"1 &"}"#, &mut out);
        Ok(String::from_utf8(out).expect("ASCII"))
    }

    #[test]
    fn requests() {
        let check = |(path, headers, body): (&str, &[(&str, &str)], &str), first: &str, field: &str, expected: &str| {
            let request = request(path, headers, body).expect("one place for the payload");
            let (head, sent) = request.split_once("\r\n\r\n").expect("a head");
            assert!(head.starts_with(&format!("POST {first} HTTP/1.1\r\n")), "{head}");
            assert!(format!("{head}\r\n").contains(&format!("\r\n{field}\r\n")), "{head}");
            assert_eq!(sent, expected);
            assert!(head.contains(&format!("Content-Length: {}", sent.len())), "{head}");
        };
        let json = "Content-Type: application/json";
        check(("/publish/{topic}", &[], "{payload}"), "/publish/a.b", json, r#"{"x":"1 &"}"#);
        check(
            ("/api", &[("X-Key", "k")], r#"{"channel":"{topic}","data":{payload}}"#),
            "/api",
            "X-Key: k",
            r#"{"channel":"a.b","data":{"x":"1 &"}}"#,
        );
        let form = [("content-type", "application/x-www-form-urlencoded")];
        check(
            ("/hub", &form, "topic={topic}&data={payload:form}"),
            "/hub",
            "content-type: application/x-www-form-urlencoded",
            "topic=a.b&data=%7B%22x%22%3A%221%20%26%22%7D",
        );
    }

    #[test]
    fn a_body_has_one_place_for_the_payload() {
        for body in ["", "{topic}", "{payload}{payload}", "{payload}{payload:form}"] {
            assert!(request("/", &[], body).is_err(), "{body}");
        }
    }
}
