//! Events change threads.
