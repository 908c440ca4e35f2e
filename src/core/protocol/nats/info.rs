//! What a server says about itself.

use serde::Deserialize;

use super::BadOperation;

/// The fields of `INFO` that a client acts upon; the others are passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// The server's version.
    pub version: String,
    /// The most bytes it takes in one message, headers included. Absent if it is 0.
    pub max_payload: u64,
    /// Whether it takes headers (`HPUB`), and may send them (`HMSG`).
    pub headers: bool,
    /// Whether it wants a login.
    pub auth_required: bool,
    /// Whether it wants TLS from here on.
    pub tls_required: bool,
}

impl ServerInfo {
    /// Reads the JSON text of an `INFO`.
    pub fn parse(json: &str) -> Result<Self, BadOperation> {
        serde_json::from_str(json).map_err(|_| BadOperation::BadInfo)
    }
}
