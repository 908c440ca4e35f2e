//! Which thread runs on which core.

use core_affinity::CoreId;

use crate::config::{Config, Pin};

/// The core of each thread; none where `server.pin` is off.
pub(super) struct Cores {
    pub(super) reactors: Vec<Option<CoreId>>,
    /// For the thread of a source that reads most: a core of its own, if there is one to spare.
    pub(super) reader: Option<CoreId>,
    /// For what computes long and waits for nobody: the cores that no reactor is pinned to.
    pub(super) background: Vec<CoreId>,
}

impl Cores {
    /// Fails if a core is listed that the process may not run on: its reactor would run anywhere, and nobody would know.
    pub(super) fn choose(config: &Config) -> Result<Self, String> {
        let reactors = config.server.reactors;
        let available = core_affinity::get_core_ids().unwrap_or_default();
        let all: Vec<CoreId> = match &config.server.pin {
            Pin::Off => Vec::new(),
            Pin::Automatic => available.clone(),
            Pin::Cores(list) => check_cores(list, &available)?,
        };
        if all.is_empty() {
            return Ok(Self { reactors: vec![None; reactors], reader: None, background: Vec::new() });
        }
        let of_reactor = |index: usize| all.get(index % all.len()).copied();
        // Without a core to spare the reader shares the last reactor's.
        let reader = all.get(reactors).or_else(|| all.last()).copied();
        let reactors: Vec<Option<CoreId>> = (0..reactors).map(of_reactor).collect();
        let is_free = |core: &CoreId| !reactors.contains(&Some(*core));
        let background = available.into_iter().filter(is_free).collect();
        Ok(Self { reactors, reader, background })
    }
}

/// The cores of `list`, if all of them are `available` to the process. Where the system does not say which are, all are.
fn check_cores(list: &[usize], available: &[CoreId]) -> Result<Vec<CoreId>, String> {
    let cores: Vec<CoreId> = list.iter().map(|id| CoreId { id: *id }).collect();
    let missing: Vec<CoreId> = cores.iter().copied().filter(|core| !available.contains(core)).collect();
    let Some(first) = missing.first().filter(|_| !available.is_empty()) else { return Ok(cores) };
    let others = if missing.len() == 1 { String::new() } else { format!(" and {} more", missing.len() - 1) };
    let available = Pin::Cores(available.iter().map(|core| core.id).collect());
    Err(format!("server.pin (--pin) lists core {}{others}; this process may run on cores {available}", first.id))
}
