//! The targets, for the binaries in `bin/` that run them under libFuzzer.

mod targets;

/// Runs the target called `name` on `data`; panics if it finds a fault.
pub fn run(name: &str, data: &[u8]) {
    targets::find(name).run(data);
}
