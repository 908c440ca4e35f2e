//! The process's limit on open files, and how many descriptors it leaves for connections.

use tracing::{info, warn};

use crate::{
    config::Config,
    os,
    reactor::{DescriptorShares, share_descriptors},
};

/// How the descriptors that the process may still open are divided, given its limit and what is open now.
pub(super) fn divide_descriptors(config: &Config) -> Result<DescriptorShares, String> {
    let admin = if config.admin.listen.is_empty() { 0 } else { config.admin.max_connections };
    let server = &config.server;
    let wanted = DescriptorShares {
        connections: server.max_connections,
        admin,
        refusals: server.max_refusals,
        reserved: server.reserved_descriptors,
    };
    let limit = match os::descriptor_limit() {
        Ok(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        Err(error) => {
            warn!(%error, "the descriptor limit is not known");
            return Ok(wanted);
        }
    };
    let shares = share_descriptors(limit, open_descriptors(), wanted).map_err(|least| {
        format!(
            "the process may open {limit} files, and the hub needs {least} at least: raise the limit \
             (ulimit -n, LimitNOFILE= of a systemd unit, --ulimit nofile= of a container)"
        )
    })?;
    if shares.connections < wanted.connections {
        let (from, to) = (wanted.connections, shares.connections);
        warn!("max_connections lowered from {from} to {to}: the process may open {limit} files");
    }
    info!(limit, ?shares, "descriptors");
    Ok(shares)
}

/// The number of open descriptors; 0 if the system does not say.
fn open_descriptors() -> usize {
    // One of them is that of the folder itself.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1))
}
