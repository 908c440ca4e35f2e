//! Faults on real servers: a thousand subscribers and a steady publisher while something breaks, and an account that
//! must add up in the end.
//!
//! What was published is either delivered, once and in order, or missing where the hub announced it. Each test takes a
//! few seconds; `FANFARE_FAULTS=long` gives the faults their full length.

#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/mod.rs"]
mod support;

mod scene;

mod budget;
mod calm;
mod failover;
mod hub_down;
mod nats;
mod network;
mod postgres;
mod redis_down;
mod rolling;
mod stalled;
mod streams;
