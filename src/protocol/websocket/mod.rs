//! WebSocket (RFC 6455), server and client halves.
