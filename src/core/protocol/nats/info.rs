//! `INFO`: what a server says about itself.

use serde::Deserialize;

use super::BadOperation;

/// The fields of `INFO` that a client uses; others are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// The server's version.
    pub version: String,
    /// The most bytes it accepts in one message, headers included. Absent if it is 0.
    pub max_payload: u64,
    /// Whether it accepts headers (`HPUB`), and may send them (`HMSG`).
    pub headers: bool,
    /// Whether it requires a login.
    pub auth_required: bool,
    /// Whether it requires TLS after this line.
    pub tls_required: bool,
    /// Whether it takes TLS after this line, although it does not require it.
    pub tls_available: bool,
    /// What a client signs that logs in by a key. Absent if the server knows no keys.
    pub nonce: Option<String>,
}

impl ServerInfo {
    /// Reads the JSON text of an `INFO`.
    pub fn parse(json: &str) -> Result<Self, BadOperation> {
        serde_json::from_str(json).map_err(|_| BadOperation::BadInfo)
    }
}
