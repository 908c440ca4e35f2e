//! Signals that end a tool.

use std::sync::{Arc, atomic::AtomicBool};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag::register,
};

/// A flag that Ctrl+C and SIGTERM raise. A second signal has no effect: some callers send it twice, and the tool is about to
/// end.
pub(super) fn catch() -> Result<Arc<AtomicBool>, String> {
    let stop = Arc::default();
    for signal in [SIGINT, SIGTERM] {
        register(signal, Arc::clone(&stop)).map_err(|error| format!("cannot wait for Ctrl+C: {error}"))?;
    }
    Ok(stop)
}
