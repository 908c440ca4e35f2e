//! HTTP/1.1 (RFC 9110, RFC 9112), server and client halves.
