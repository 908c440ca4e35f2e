//! File, environment and flags become one [`Config`]; flags win over the environment, which wins over the file.
//!
//! Each key is one row in `keys/`. The layers are read into a [`raw::RawConfig`], which has one field for each key. `resolve.rs`
//! checks it as a whole and makes the [`Config`] of it that the parts of the hub take. Every error names its source (file and
//! line, variable or flag), and for a misspelt key the nearest known one.

mod address;
mod bridge;
mod cluster;
mod environment;
mod field;
mod files;
mod keys;
mod layers;
mod log;
mod lookup;
mod nearest;
mod print;
mod problem;
mod raw;
mod redact;
mod reload;
mod resolve;
mod scalar;
mod secret_files;
mod table_keys;
#[cfg(test)]
mod tests;
mod topic_sources;
mod topics;
mod types;
mod units;

use std::path::Path;

use files::Files;

pub(crate) use address::refuse_open;
pub use address::{Address, FileMode, Pin};
pub use layers::Override;
pub use log::{LogGuard, start_log};
pub use problem::ConfigError;
pub use reload::{ConfigReload, ConfigSnapshot, KeyChange};
pub use topics::Topics;
pub use types::{
    AdminConfig, Config, DrainConfig, LimitsConfig, LogConfig, LogFormat, ProxyConfig, ReadyConfig, ServerConfig,
    SocketAccess, SseConfig, WebSocketConfig,
};
pub use units::parse_duration;

/// The configuration in force: the defaults, under `file`, under `environment` (all variables of the process, of which
/// `FANFARE_SECTION__KEY` are taken), under `flags`.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<Config, ConfigError> {
    load_from(&Files::at_start(), file, environment, flags)
}

/// The same while the hub runs. Fails where a file is not a regular one: a pipe has given its content to the first reading. May
/// block for as long as a file system hangs.
pub fn load_again(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<Config, ConfigError> {
    load_from(&Files::at_reload(), file, environment, flags)
}

fn load_from(
    files: &Files,
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<Config, ConfigError> {
    resolve::resolve(&layers::read_layers(files, file, environment, flags)?, files)
}

/// The configuration in force as a TOML file, checked like [`load`] does, its passwords masked.
pub fn show(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &[Override],
) -> Result<String, ConfigError> {
    let files = Files::at_start();
    let layered = layers::read_layers(&files, file, environment, flags)?;
    resolve::resolve(&layered, &files)?;
    Ok(print::write_values(layered.raw))
}

/// A TOML file with every key, what it does and its default.
pub fn default_file() -> String {
    print::write_default()
}
