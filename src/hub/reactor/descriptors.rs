//! How many connections the process has descriptors for.

/// What the descriptors of a process are for: as configured, or as many as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DescriptorShares {
    /// Connections that are served.
    pub connections: usize,
    /// Connections of the admin listeners.
    pub admin: usize,
    /// Connections that are held until they have been refused.
    pub refusals: usize,
    /// What the hub itself opens later: connections to brokers and the database, log files, files read at a reload.
    pub reserved: usize,
}

/// The fewest descriptors beyond those already open with which a hub starts.
const SPARE_MIN: usize = 24;
/// The fewest connections of the admin listeners, and the fewest that are being refused.
const SHARE_MIN: usize = 4;

/// Divides the descriptors of a process that may have `limit` open and has `open` by now. Each share is what `wanted` says, or
/// less if there are not enough: an eighth of the rest each for refusals and for the hub itself, a sixteenth for the admin
/// listeners. `Err`: the number of descriptors the process needs at least.
pub fn share_descriptors(limit: usize, open: usize, wanted: DescriptorShares) -> Result<DescriptorShares, usize> {
    let rest = limit.saturating_sub(open);
    if rest < SPARE_MIN {
        return Err(open + SPARE_MIN);
    }
    let share = |wanted: usize, part: usize| wanted.min((rest / part).max(SHARE_MIN));
    let (admin, refusals, reserved) = (share(wanted.admin, 16), share(wanted.refusals, 8), share(wanted.reserved, 8));
    let connections = wanted.connections.min(rest - admin - refusals - reserved);
    Ok(DescriptorShares { connections, admin, refusals, reserved })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_what_there_is() {
        let wanted = DescriptorShares { connections: 100_000, admin: 64, refusals: 256, reserved: 64 };
        let check = |limit: usize, open: usize, expected: Result<[usize; 4], usize>| {
            let shares = share_descriptors(limit, open, wanted);
            let found = shares.map(|it| [it.connections, it.admin, it.refusals, it.reserved]);
            assert_eq!(found, expected, "{limit} {open}");
            assert!(
                found.is_err() || open + found.unwrap_or_default().iter().sum::<usize>() <= limit,
                "{limit} {open}"
            );
        };
        check(1 << 20, 30, Ok([100_000, 64, 256, 64]));
        check(65_536, 36, Ok([65_116, 64, 256, 64]));
        check(1024, 24, Ok([749, 62, 125, 64]));
        check(200, 20, Ok([125, 11, 22, 22]));
        check(64, 12, Ok([36, 4, 6, 6]));
        check(36, 12, Ok([12, 4, 4, 4]));
        check(35, 12, Err(36));
        check(10, 12, Err(36));
        let modest = DescriptorShares { connections: 5, ..wanted };
        assert_eq!(share_descriptors(200, 20, modest).map(|it| it.connections), Ok(5));
    }
}
