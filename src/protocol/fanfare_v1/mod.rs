//! The `fanfare.v1` subprotocol: JSON envelopes and commands over WebSocket.
