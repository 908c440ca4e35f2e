//! Errors in the form of the API that a request is for. What the hub refuses at any route (a wrong method, no room, a body that
//! is too large) is made in the native form first, and then converted.

use serde::Deserialize;
use serde_json::Value;

use crate::{endpoint::Context, protocol::http::Response};

/// The form of an API's errors.
#[derive(Clone, Copy, Debug)]
pub(in crate::endpoint) struct ErrorForm {
    /// Makes the body from the status, the native error and the Unix second. `None`: the native form,
    /// `{"error":{"code","message","field"?}}`.
    write: Option<fn(u16, NativeError, i64) -> Value>,
}

/// A body in the native form.
#[derive(Deserialize)]
struct Native {
    error: NativeError,
}

/// An error in the native form.
#[derive(Debug, Deserialize)]
pub(in crate::endpoint) struct NativeError {
    /// The kind of error, for programs.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// The field of the request that is wrong.
    pub field: Option<String>,
}

impl ErrorForm {
    /// The native API's form.
    pub(in crate::endpoint) const NATIVE: Self = Self { write: None };

    /// A form whose bodies `write` makes from the status, the native error and the Unix second.
    pub(in crate::endpoint) const fn of(write: fn(u16, NativeError, i64) -> Value) -> Self {
        Self { write: Some(write) }
    }

    /// Converts `response` to this form if it is an error in the native form. `at_s`: the Unix second.
    pub(in crate::endpoint) fn put(self, response: Response, at_s: i64) -> Response {
        let Some(write) = self.write.filter(|_| 400 <= response.status) else { return response };
        let Ok(Native { error }) = serde_json::from_slice(&response.body) else { return response };
        let body = write(response.status, error, at_s).to_string().into_bytes();
        Response { body, ..response }
    }
}

/// The current time in Unix seconds, which answers of the event streaming service show.
pub(in crate::endpoint) fn unix_s(context: &Context<'_>) -> i64 {
    i64::try_from(context.hub.wall.unix_ms(context.now) / 1000).unwrap_or(i64::MAX)
}
