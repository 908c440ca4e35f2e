//! The form of this API's answers, including errors.

use serde::Serialize;
use serde_json::Value;

use crate::{
    auth::AccessDenied,
    bus::{PublishFailed, PublishRefused},
    endpoint::gate::{
        access,
        publish::{BAD_KIND, describe_failure, retry_after_s},
    },
    protocol::http::Response,
};

/// The body of every answer of this API.
#[derive(Debug, Default, Serialize)]
pub(super) struct ResponseBody<'a> {
    pub(super) success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data: Option<Value>,
    /// In a page of a list: the name after which the next page begins, or null.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) next: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a Cause>,
    pub(super) timestamp: i64,
}

impl ResponseBody<'_> {
    /// A body with this Unix second.
    pub(super) fn at(timestamp: i64) -> Self {
        Self { timestamp, ..Self::default() }
    }
}

/// An error of this API.
#[derive(Debug, PartialEq)]
pub(super) struct ApiError {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) cause: Cause,
    fields: Vec<(&'static str, String)>,
}

#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Cause {
    pub(super) code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<&'static str>,
}

impl ApiError {
    pub(super) fn new(
        status: u16,
        code: &'static str,
        message: impl Into<String>,
        field: Option<&'static str>,
    ) -> Self {
        let fields = if status == 503 { vec![("Retry-After", "1".to_owned())] } else { Vec::new() };
        Self { status, message: message.into(), cause: Cause { code, field }, fields }
    }

    pub(super) fn response(&self, at_s: i64) -> Response {
        let body =
            ResponseBody { message: Some(self.message.clone()), error: Some(&self.cause), ..ResponseBody::at(at_s) };
        let mut response = Response::json(self.status, &body);
        response.headers.extend(self.fields.iter().cloned());
        response
    }
}

impl From<AccessDenied> for ApiError {
    fn from(denied: AccessDenied) -> Self {
        let mut fields = access::refuse(denied).headers;
        fields.retain(|(name, _)| *name != "Content-Type");
        Self { fields, ..Self::new(denied.status(), denied.code(), denied.to_string(), None) }
    }
}

impl From<PublishFailed> for ApiError {
    fn from(failed: PublishFailed) -> Self {
        let (status, code, message) = describe_failure(failed);
        let mut error = Self::new(status, code, message, None);
        error.fields = retry_after_s(failed).map(|seconds| ("Retry-After", seconds.to_string())).into_iter().collect();
        error
    }
}

impl From<PublishRefused> for ApiError {
    fn from(refused: PublishRefused) -> Self {
        match refused {
            PublishRefused::BadKind => Self::new(400, "bad_type", BAD_KIND, Some("type")),
            PublishRefused::TooBig => Self::new(413, "too_big", "the event is over the limit", None),
            PublishRefused::NotUtf8 => Self::new(400, "not_utf8", "the event must be UTF-8 text", None),
            PublishRefused::NoRoom | PublishRefused::Quota(_) => PublishFailed::from(refused).into(),
        }
    }
}
