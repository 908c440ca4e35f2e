//! Integration tests against real servers: the hub as its own process, a real Redis, and clients that are not ours.
//!
//! Each test starts what it needs on ports that the system chooses, and ends it by its process handle. Nothing waits
//! for a time, everything for a condition: see [`support::wait_until`].

mod support;

mod auth;
mod bench;
mod bench_inputs;
mod bench_ladder;
mod bench_processes;
mod browser;
mod browser_refusals;
mod budget;
mod churn;
mod commands;
mod drain;
mod events;
mod events_examples;
mod events_generators;
mod events_rights;
mod examples_clients;
mod examples_pages;
mod fanfare_v1;
mod fetch_clients;
mod from_the_beginning;
mod gaps;
mod hostile_input;
mod http_manners;
mod http_refusals;
mod listeners;
mod loadtest;
mod loadtool;
mod native_api;
mod outside_clients;
mod pods;
mod produce;
mod proxy;
mod proxy_documented;
mod proxy_headers;
mod proxy_tls;
mod readiness;
mod redis_failover;
mod redis_loss;
mod redis_source;
mod redis_stream;
mod refusals;
mod socket_io_events;
mod socket_io_polling;
mod socket_io_recovery;
mod socket_io_rules;
mod socket_io_tokens;
mod socket_io_upgrade;
mod socketio_clients;
mod sse_stream;
mod subscribe;
mod subscribe_lies;
mod telemetry;
mod telemetry_doors;
mod telemetry_store;
mod websocket_rules;
mod wells;
mod wells_redis;
mod wells_rights;
mod wells_socket;
