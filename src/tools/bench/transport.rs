//! How subscribers are connected.

/// What the subscribers speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Deserialize, serde::Serialize)]
pub(super) enum Transport {
    /// Server-Sent Events.
    Sse,
    /// WebSocket, one payload per message.
    Ws,
    /// WebSocket with the subprotocol `fanfare.v1`.
    #[value(name = "fanfare.v1")]
    FanfareV1,
    /// Socket.IO v5 over WebSocket; each subscriber requests its topic with the event --socketio-event.
    #[value(name = "socketio")]
    #[serde(rename = "socketio")]
    SocketIo,
}
