//! RESP2 and RESP3, as far as a Pub/Sub reader meets them.
