//! `/socket.io/`: requests and WebSockets of Engine.IO (protocol revision 4).

use serde_json::json;

use crate::endpoint::{Answer, Context, EngineAction, EngineRequest, gate::origin};
use crate::protocol::{
    Layer,
    http::{Method, Request, Response},
    websocket,
};

/// Why a request is refused. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EngineRefusal {
    /// `transport` is neither `polling` nor `websocket`.
    UnknownTransport,
    /// No session has this id.
    UnknownSession,
    /// A session is opened by another method than GET.
    BadMethod,
    /// The request does not fit the session, or breaks a rule.
    BadRequest,
    /// The requesting page may not connect.
    Forbidden,
    /// `EIO` is not 4.
    UnsupportedVersion,
}

impl EngineRefusal {
    pub(crate) fn response(self) -> Response {
        let (code, message) = match self {
            Self::UnknownTransport => (0, "Transport unknown"),
            Self::UnknownSession => (1, "Session ID unknown"),
            Self::BadMethod => (2, "Bad handshake method"),
            Self::BadRequest => (3, "Bad request"),
            Self::Forbidden => (4, "Forbidden"),
            Self::UnsupportedVersion => (5, "Unsupported protocol version"),
        };
        let status = if self == Self::Forbidden { 403 } else { 400 };
        Response::json(status, &json!({ "code": code, "message": message }))
    }
}

/// Answers a request for a session that carries Socket.IO.
pub(in crate::endpoint) fn open_socket_io(request: &Request, _: &str, context: &Context<'_>) -> Answer {
    open(request, Layer::SocketIo, context)
}

/// Answers a request for a session that carries `layer`.
pub fn open(request: &Request, layer: Layer, context: &Context<'_>) -> Answer {
    match wanted(request, context) {
        Ok(kind) => Answer::Engine(Box::new(EngineRequest { kind, layer, headers: Vec::new() })),
        Err(refusal) => refusal.response().into(),
    }
}

fn wanted(request: &Request, context: &Context<'_>) -> Result<EngineAction, EngineRefusal> {
    let is_websocket = match request.query("transport") {
        Some("polling") => false,
        Some("websocket") => true,
        _ => return Err(EngineRefusal::UnknownTransport),
    };
    if origin::may_connect(request, context).is_err() {
        return Err(EngineRefusal::Forbidden);
    }
    let sid = match request.query("sid") {
        Some(sid) => Some(sid.parse().map_err(|_| EngineRefusal::UnknownSession)?),
        None => None,
    };
    if sid.is_none() {
        if request.method != Method::Get {
            return Err(EngineRefusal::BadMethod);
        }
        if request.query("EIO") != Some("4") {
            return Err(EngineRefusal::UnsupportedVersion);
        }
    }
    if is_websocket {
        let accepted = websocket::accept(request, &[]).map_err(|_| EngineRefusal::BadRequest)?;
        return Ok(match sid {
            None => EngineAction::OpenWebSocket(accepted),
            Some(sid) => EngineAction::Probe(sid, accepted),
        });
    }
    Ok(match sid {
        None => EngineAction::Open,
        Some(sid) if request.method == Method::Post => EngineAction::Post(sid),
        Some(sid) if request.method == Method::Get => EngineAction::Poll(sid),
        // The answer to a HEAD would take packets without showing them.
        Some(_) => return Err(EngineRefusal::BadRequest),
    })
}
