//! Builds bus, sources and reactors; signals; drain.
