//! The pure parts by tables and by simulation; the threads against a real `redis-server`.

mod conversation;
mod delivery;
mod failure;
mod fleet;
mod forms;
mod harness;
mod hostile;
mod login;
mod outages;
mod parts;
mod publishing;
mod sharded;
mod simulation;
mod subscribing;

use crate::topic::Topic;

fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a good name")
}
