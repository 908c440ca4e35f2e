//! Which Fanfare this is.

/// The version, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit it was built from: twelve digits, or what `FANFARE_COMMIT` said at the build. `unknown` for builds that are no
/// release and were not told.
pub const COMMIT: &str = env!("FANFARE_COMMIT");

pub const FULL_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("FANFARE_COMMIT"), ")");
