//! The ESP IoT platform: wells over SSE; telemetry, alerts and diagnostics.

pub(in crate::endpoint) mod telemetry;
pub(in crate::endpoint) mod wells;

use serde_json::{Value, json};

use crate::{
    endpoint::{
        CompatApi, Route,
        error_form::{ErrorForm, NativeError},
        route::public_route,
    },
    label::RouteLabel,
    protocol::http::Method,
};

pub(in crate::endpoint) static ROUTES: &[Route] = &[
    public_route("/api/v1/sse/stream/{topic}", RouteLabel::Wells, &[(Method::Get, wells::open_stream)])
        .with_refusal_event()
        .of(CompatApi::Esp, ERRORS),
    public_route("/api/v1/telemetry/ingest", RouteLabel::Telemetry, &[(Method::Post, telemetry::ingest_telemetry)])
        .authenticated_by_handler(telemetry::REFUSALS)
        .of(CompatApi::Esp, ERRORS),
    public_route("/api/v1/telemetry/{topic}", RouteLabel::Telemetry, &[(Method::Get, telemetry::read_back)])
        .of(CompatApi::Esp, ERRORS),
    public_route("/api/v1/alerts", RouteLabel::Alerts, &[(Method::Post, telemetry::ingest_alerts)])
        .authenticated_by_handler(telemetry::REFUSALS)
        .of(CompatApi::Esp, ERRORS),
    public_route("/api/v1/diagnostics", RouteLabel::Diagnostics, &[(Method::Post, telemetry::ingest_diagnostics)])
        .authenticated_by_handler(telemetry::REFUSALS)
        .of(CompatApi::Esp, ERRORS),
];

/// This API's errors: `{"error","message","code","field"?}`, where `error` names the kind, such as `AuthenticationError`.
pub(in crate::endpoint) const ERRORS: ErrorForm = ErrorForm::of(|status, NativeError { code, message, field }, _| {
    let mut error = json!({ "error": kind_of(status), "message": message, "code": code });
    if let Some(field) = field {
        error["field"] = Value::from(field);
    }
    error
});

/// The platform's name for the kind of error that `status` is.
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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{endpoint::compat::event_streams, protocol::http::Response};

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
        check(ErrorForm::NATIVE, wrong(), r#"{"error":{"code":"method_not_allowed","message":"no"}}"#);
        check(ERRORS, wrong(), r#"{"error":"MethodNotAllowed","message":"no","code":"method_not_allowed"}"#);
        check(
            event_streams::ERRORS,
            wrong(),
            r#"{"success":false,"message":"no","error":{"code":"method_not_allowed"},"timestamp":7}"#,
        );
        let field = || Response::error(400, "bad", "no", Some("name"));
        check(ERRORS, field(), r#"{"error":"ValidationError","message":"no","code":"bad","field":"name"}"#);
        check(
            event_streams::ERRORS,
            field(),
            r#"{"success":false,"message":"no","error":{"code":"bad","field":"name"},"timestamp":7}"#,
        );
        // A body in the API's own form stays as it is, as does a response that is no error.
        let own = json!({ "error": "PublishError", "message": "m" });
        check(ERRORS, Response::json(503, &own), &own.to_string());
        let own = json!({ "success": false, "error": { "code": "c" }, "message": "m", "timestamp": 1 });
        check(event_streams::ERRORS, Response::json(404, &own), &own.to_string());
        let fine = json!({ "error": { "code": "c", "message": "m" } });
        check(ERRORS, Response::json(200, &fine), &fine.to_string());
    }
}
