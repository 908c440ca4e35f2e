//! `POST /api/v1/auth/…`: signing in with a password, renewing a token, signing out. The ESP platform's document describes these
//! paths, so errors have its form.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::json;

use crate::{
    auth::{AccessDenied, AuthSettings, IssuedToken, LoginLimit, LoginRefused},
    endpoint::{
        Answer, Context, Responder,
        compat::esp,
        error_form::unix_s,
        gate::{access, audit, audit::LoginRecorder, origin},
    },
    label::{AuthFailure, RouteLabel},
    metrics::ReactorMetrics,
    protocol::http::{Request, Response},
};

#[derive(Deserialize)]
struct LoginForm {
    username: String,
    password: String,
    /// Whether to set a cookie besides returning the token.
    #[serde(default)]
    cookie: bool,
}

/// `{"username","password"}` → `{"access_token","token_type","expires_in"}`. Another thread checks the password.
pub(in crate::endpoint) fn log_in(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let form: LoginForm = match serde_json::from_slice(&request.body) {
        Ok(form) => form,
        // The parser's message may quote the password.
        Err(_) => {
            let message = "the body is a JSON object with the texts `username` and `password`";
            return Response::error(400, "bad_json", message, None).into();
        }
    };
    let auth = &context.hub.auth;
    let with_cookie = form.cookie || auth.settings().cookie;
    // Another site could sign a person in as somebody else.
    if with_cookie && origin::is_cross_origin(request, context.config) {
        let message = "pages of this origin may not sign in with a cookie";
        return Response::error(403, "origin_refused", message, None).into();
    }
    let responder = Responder::new(RouteLabel::Auth, context);
    let metrics = Arc::clone(&context.hub.metrics.reactors[context.reactor]);
    let settings = auth.settings().clone();
    let at_s = unix_s(context);
    let recorder = LoginRecorder::new(&form.username, context);
    let later = recorder.clone();
    let reply = move |outcome: Result<Option<IssuedToken>, LoginRefused>| {
        let response = match outcome {
            Ok(Some(minted)) => {
                later.record(None);
                describe(&minted, with_cookie.then_some(&settings))
            }
            Ok(None) => {
                later.record(Some(AuthFailure::BadPassword));
                metrics.on_auth_failure(AuthFailure::BadPassword);
                Response::error(401, "bad_password", "the username or the password is wrong", None)
            }
            Err(refused) => refuse_login(refused, &metrics, Some(&later)),
        };
        // Responses made at once are converted with all others of the route; this one comes from another thread.
        responder.respond(esp::ERRORS.put(response, at_s));
    };
    match auth.log_in((&form.username, form.password), context.peer, context.now, reply) {
        Ok(()) => Answer::later(),
        Err(refused) => refuse_login(refused, metrics_of(context), Some(&recorder)).into(),
    }
}

/// Issues a new token for a valid one that came of signing in.
pub(in crate::endpoint) fn refresh(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    let identity = match access::identify(request, context) {
        Ok(Some(identity)) => identity,
        Ok(None) => return refuse_login(LoginRefused::NoUsers, metrics_of(context), None).into(),
        Err(denied) => return access::refuse(denied).into(),
    };
    let auth = &context.hub.auth;
    match auth.refresh(&identity, context.peer, context.now) {
        Ok(minted) => {
            audit::record_refresh(&identity, context);
            let with_cookie = access::relies_on_cookie(request);
            describe(&minted, with_cookie.then(|| auth.settings())).into()
        }
        Err(AccessDenied::Forbidden) => {
            let message = "only a token that came of a login here can be made fresh";
            Response::error(403, "not_refreshable", message, None).into()
        }
        Err(denied @ AccessDenied::TooMany) => {
            access::count_refusal(denied, context);
            access::refuse(denied).into()
        }
        Err(_) => Response::error(401, "session_over", "sign in with the password again", None).into(),
    }
}

/// Deletes the cookie. The token itself stays valid until it expires. A page of another site cannot sign a person out.
pub(in crate::endpoint) fn log_out(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    if origin::is_cross_origin(request, context.config) {
        let message = "pages of this origin may not take the cookie of another one back";
        return Response::error(403, "origin_refused", message, None).into();
    }
    let cookie = cookie("", Duration::ZERO, context.hub.auth.settings());
    Response::empty(204).with("Set-Cookie", cookie).with("Cache-Control", "no-store").into()
}

fn describe(minted: &IssuedToken, cookie_of: Option<&AuthSettings>) -> Response {
    let IssuedToken { token, ttl } = minted;
    let body = json!({ "access_token": token, "token_type": "Bearer", "expires_in": ttl.as_secs() });
    let response = Response::json(200, &body).with("Cache-Control", "no-store");
    match cookie_of {
        Some(settings) => response.with("Set-Cookie", cookie(token, *ttl, settings)),
        None => response,
    }
}

/// The value of `Set-Cookie` (RFC 6265 section 4.1).
fn cookie(token: &str, ttl: Duration, settings: &AuthSettings) -> String {
    let secure = if settings.cookie_secure { "; Secure" } else { "" };
    let same_site = match settings.cookie_same_site {
        crate::auth::SameSite::Strict => "Strict",
        crate::auth::SameSite::Lax => "Lax",
    };
    let age_s = ttl.as_secs();
    format!("{}={token}; Path=/; Max-Age={age_s}; HttpOnly{secure}; SameSite={same_site}", access::COOKIE)
}

fn metrics_of<'hub>(context: &Context<'hub>) -> &'hub ReactorMetrics {
    &context.hub.metrics.reactors[context.reactor]
}

fn refuse_login(refused: LoginRefused, metrics: &ReactorMetrics, recorder: Option<&LoginRecorder>) -> Response {
    match refused {
        LoginRefused::NoUsers => Response::error(404, "no_users", "this hub has no users: set users.file", None),
        LoginRefused::TooLong => {
            Response::error(400, "too_long", "no user has a name or a password of this length", None)
        }
        LoginRefused::TooMany(limit, wait) => {
            metrics.on_auth_failure(AuthFailure::TooManyFailures);
            recorder.iter().for_each(|recorder| recorder.record(Some(AuthFailure::TooManyFailures)));
            let message = match limit {
                LoginLimit::Pair => "too many failed logins of this user from this address",
                LoginLimit::Address => "too many failed logins from this address",
                LoginLimit::User => "too many failed logins of this user; sign in from an address used before, or wait",
            };
            Response::error(429, "too_many_failures", message, None).with("Retry-After", whole_seconds(wait))
        }
        LoginRefused::Busy => {
            Response::error(503, "overloaded", "too many logins wait; try again later", None).with("Retry-After", "1")
        }
    }
}

/// Rounded up, so that a client that waits as long is not too early.
fn whole_seconds(wait: Duration) -> String {
    wait.as_secs_f64().ceil().max(1.0).to_string()
}
