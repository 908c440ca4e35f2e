//! The kernel's counters at the edges of the measured window.

use std::io;

use super::{
    plan::Plan,
    process::{self, CoreTicks, CpuUse, KernelMemory, MemoryUse},
    progress::Progress,
    workers::WorkerSet,
};
use crate::clock::{Clock, Moment};

/// All counters at one edge of the window.
#[derive(Clone, Debug)]
pub(super) struct Edge {
    pub at: Moment,
    pub server: Option<CpuUse>,
    /// All processes of the client.
    pub client: CpuUse,
    /// This process, then its workers.
    pub processes: Vec<CpuUse>,
    /// CPU time of the processes of `--beside-pid`, in nanoseconds.
    pub beside_ns: u64,
    /// CPU time of each fleet's thread, in nanoseconds.
    pub fleets_ns: Vec<u64>,
    /// Of each load.
    pub deliveries: Vec<u64>,
    pub cores: Vec<CoreTicks>,
}

/// Memory at one point of the run. Reading it walks the server's page tables, so it is done outside the window.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryEdge {
    pub server: Option<MemoryUse>,
    pub kernel: KernelMemory,
}

impl Edge {
    /// Reads all counters; those that move fastest first.
    pub(super) fn read<'a>(
        plan: &Plan,
        fleets: impl Iterator<Item = &'a Progress> + Clone,
        workers: &WorkerSet,
        clock: &Clock,
    ) -> io::Result<Self> {
        let deliveries = fleets.clone().map(Progress::deliveries).collect();
        let at = clock.now();
        let server = plan.server_pid.map(CpuUse::of_process).transpose()?;
        let mut processes = vec![CpuUse::of_process(std::process::id())?];
        processes.extend(workers.cpu_uses());
        Ok(Self {
            at,
            deliveries,
            server,
            client: CpuUse::sum(processes.iter()),
            processes,
            beside_ns: beside_ns(plan)?,
            fleets_ns: if workers.is_empty() { fleets.map(thread_run_ns).collect() } else { workers.fleets_ns() },
            cores: process::core_ticks(),
        })
    }

    /// Deliveries of all loads.
    pub(super) fn delivery_sum(&self) -> u64 {
        self.deliveries.iter().sum()
    }
}

fn beside_ns(plan: &Plan) -> io::Result<u64> {
    plan.beside_pids.iter().map(|&pid| Ok(CpuUse::of_process(pid)?.run_ns)).sum()
}

fn thread_run_ns(progress: &Progress) -> u64 {
    progress.thread().map_or(0, |folder| process::thread_run_ns(folder))
}

impl MemoryEdge {
    pub(super) fn read(plan: &Plan) -> io::Result<Self> {
        let server = plan.server_pid.map(MemoryUse::of_process).transpose()?;
        Ok(Self { server, kernel: KernelMemory::now() })
    }
}
