//! Errors in the form of the API that a request is for. What the hub refuses at any route (a wrong method, no room, a body that is
//! too large) is made in the native form, and put into the form that the API's clients read.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    close::Close,
    endpoint::{Context, routes::find_route},
    protocol::http::Response,
};

/// What an API's errors look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::endpoint) enum ErrorForm {
    /// `{"error":{"code","message","field"?}}`.
    Native,
    /// The event streaming service's `{"success":false,"message","error":{"code","field"?},"timestamp"}`.
    Events,
    /// The ESP platform's `{"error","message","code","field"?}`: `error` names the kind, such as `AuthenticationError`.
    Esp,
}

/// A body in the native form.
#[derive(Deserialize)]
struct Native {
    error: NativeError,
}

#[derive(Deserialize)]
struct NativeError {
    code: String,
    message: String,
    field: Option<String>,
}

impl ErrorForm {
    /// `response` in this form, if it is an error in the native one; else as it is. `at_s`: the Unix second.
    pub(in crate::endpoint) fn put(self, response: Response, at_s: i64) -> Response {
        if self == Self::Native || response.status < 400 {
            return response;
        }
        let Ok(Native { error }) = serde_json::from_slice(&response.body) else { return response };
        let NativeError { code, message, field } = error;
        let mut cause = json!({ "code": code });
        if let Some(field) = field {
            cause["field"] = Value::from(field);
        }
        let body = match self {
            Self::Native => return response,
            Self::Events => json!({ "success": false, "message": message, "error": cause, "timestamp": at_s }),
            Self::Esp => {
                cause["error"] = kind_of(response.status).into();
                cause["message"] = message.into();
                cause
            }
        };
        Response { body: body.to_string().into_bytes(), ..response }
    }
}

/// The platform's name for what an answer of `status` says.
fn kind_of(status: u16) -> &'static str {
    match status {
        400 => "ValidationError",
        401 => "AuthenticationError",
        403 => "AuthorizationError",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        408 => "RequestTimeout",
        413 => "PayloadTooLarge",
        429 => "RateLimited",
        503 => "ServiceUnavailable",
        _ => "ServerError",
    }
}

/// The moment it is, in Unix seconds: what answers of the event streaming service name.
pub(in crate::endpoint) fn unix_s(context: &Context<'_>) -> i64 {
    i64::try_from(context.hub.wall.unix_ms(context.now) / 1000).unwrap_or(i64::MAX)
}

/// The answer to a request for `path` that the hub reads no further, for the reason `close`; `None`: it ends without one.
pub fn refuse_request(path: &str, close: Close, context: &Context<'_>) -> Option<Response> {
    let refusal = Response::refusal(close)?;
    let form = find_route(path, context).map_or(ErrorForm::Native, |(route, _)| route.errors);
    Some(form.put(refusal, unix_s(context)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_in_each_form() {
        let check = |form: ErrorForm, response: Response, expected: &str| {
            let (status, headers) = (response.status, response.headers.clone());
            let put = form.put(response, 7);
            let body: Value = serde_json::from_slice(&put.body).expect("JSON");
            assert_eq!(body, serde_json::from_str::<Value>(expected).expect("JSON"));
            assert_eq!((put.status, put.headers), (status, headers));
        };
        let wrong = || Response::error(405, "method_not_allowed", "no", None).with("Allow", "POST");
        check(ErrorForm::Native, wrong(), r#"{"error":{"code":"method_not_allowed","message":"no"}}"#);
        check(ErrorForm::Esp, wrong(), r#"{"error":"MethodNotAllowed","message":"no","code":"method_not_allowed"}"#);
        check(
            ErrorForm::Events,
            wrong(),
            r#"{"success":false,"message":"no","error":{"code":"method_not_allowed"},"timestamp":7}"#,
        );
        let field = || Response::error(400, "bad", "no", Some("name"));
        check(ErrorForm::Esp, field(), r#"{"error":"ValidationError","message":"no","code":"bad","field":"name"}"#);
        check(
            ErrorForm::Events,
            field(),
            r#"{"success":false,"message":"no","error":{"code":"bad","field":"name"},"timestamp":7}"#,
        );
        // What has the API's form already stays as it is, and so does what is no error.
        let own = json!({ "error": "PublishError", "message": "m" });
        check(ErrorForm::Esp, Response::json(503, &own), &own.to_string());
        let own = json!({ "success": false, "error": { "code": "c" }, "message": "m", "timestamp": 1 });
        check(ErrorForm::Events, Response::json(404, &own), &own.to_string());
        let fine = json!({ "error": { "code": "c", "message": "m" } });
        check(ErrorForm::Esp, Response::json(200, &fine), &fine.to_string());
    }
}
