//! Redis Pub/Sub: the dedicated reader thread and the publishing writer thread.
