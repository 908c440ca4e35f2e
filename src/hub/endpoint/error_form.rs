//! Errors in the form of the API that a request is for. What the hub refuses at any route (a wrong method, no room, a body that is
//! too large) is made in the native form, and put into the form that the API's clients read.

use serde::Deserialize;
use serde_json::Value;

use crate::{endpoint::Context, protocol::http::Response};

/// What an API's errors look like.
#[derive(Clone, Copy, Debug)]
pub(in crate::endpoint) struct ErrorForm {
    /// Makes the body of the status, the native error, and the Unix second. `None`: it is the native form,
    /// `{"error":{"code","message","field"?}}`.
    write: Option<fn(u16, NativeError, i64) -> Value>,
}

/// A body in the native form.
#[derive(Deserialize)]
struct Native {
    error: NativeError,
}

/// What the native form says.
#[derive(Debug, Deserialize)]
pub(in crate::endpoint) struct NativeError {
    /// What is wrong, for programs.
    pub code: String,
    /// What is wrong, for people.
    pub message: String,
    /// Which field of the request is wrong.
    pub field: Option<String>,
}

impl ErrorForm {
    /// The native API's.
    pub(in crate::endpoint) const NATIVE: Self = Self { write: None };

    /// A form whose bodies `write` makes of the status, the native error, and the Unix second.
    pub(in crate::endpoint) const fn of(write: fn(u16, NativeError, i64) -> Value) -> Self {
        Self { write: Some(write) }
    }

    /// `response` in this form, if it is an error in the native one; else as it is. `at_s`: the Unix second.
    pub(in crate::endpoint) fn put(self, response: Response, at_s: i64) -> Response {
        let Some(write) = self.write.filter(|_| 400 <= response.status) else { return response };
        let Ok(Native { error }) = serde_json::from_slice(&response.body) else { return response };
        let body = write(response.status, error, at_s).to_string().into_bytes();
        Response { body, ..response }
    }
}

/// The moment it is, in Unix seconds: what answers of the event streaming service name.
pub(in crate::endpoint) fn unix_s(context: &Context<'_>) -> i64 {
    i64::try_from(context.hub.wall.unix_ms(context.now) / 1000).unwrap_or(i64::MAX)
}
