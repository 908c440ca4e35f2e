//! CPU time, memory and context switches of processes and of the machine, as the kernel reports them under /proc.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use procfs::{
    CurrentSI, FromRead, KernelStats, Meminfo,
    process::{Schedstat, SmapsRollup, Status},
};

/// CPU use of a process since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuUse {
    /// Time on a core, in nanoseconds, over all live threads.
    pub run_ns: u64,
    /// Time spent ready to run but waiting for a core, in nanoseconds.
    pub wait_ns: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub thread_count: u64,
}

/// A process's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(super) struct MemoryUse {
    /// Proportional set size: shared pages count in proportion.
    pub pss_bytes: u64,
    /// Resident set size.
    pub rss_bytes: u64,
}

/// Memory of the machine's kernel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(super) struct KernelMemory {
    /// The kernel's own objects: sockets, files, epoll items.
    pub slab_bytes: u64,
    /// Buffers of TCP sockets; both ends of a loopback connection count.
    pub tcp_buffer_bytes: u64,
}

/// Time of a CPU core by use, in clock ticks since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CoreTicks {
    pub busy: u64,
    pub idle: u64,
    /// Time that the hypervisor gave to others.
    pub steal: u64,
}

impl CpuUse {
    /// CPU use of process `pid` so far. A running thread's current time slice counts at its end, some milliseconds late.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        let mut sum = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            sum.add_thread(&task?.path());
        }
        Ok(sum)
    }

    /// Adds a thread; one that has just ended is left out.
    fn add_thread(&mut self, folder: &Path) {
        let Ok(schedstat) = Schedstat::from_file(folder.join("schedstat")) else { return };
        let Ok(status) = Status::from_file(folder.join("status")) else { return };
        self.run_ns += schedstat.sum_exec_runtime;
        self.wait_ns += schedstat.run_delay;
        self.voluntary_switches += status.voluntary_ctxt_switches.unwrap_or(0);
        self.involuntary_switches += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        self.thread_count += 1;
    }

    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            run_ns: sum.run_ns + one.run_ns,
            wait_ns: sum.wait_ns + one.wait_ns,
            voluntary_switches: sum.voluntary_switches + one.voluntary_switches,
            involuntary_switches: sum.involuntary_switches + one.involuntary_switches,
            thread_count: sum.thread_count + one.thread_count,
        })
    }

    /// CPU use since `earlier`; the thread count is the current one.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self {
            run_ns: self.run_ns.saturating_sub(earlier.run_ns),
            wait_ns: self.wait_ns.saturating_sub(earlier.wait_ns),
            voluntary_switches: self.voluntary_switches.saturating_sub(earlier.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(earlier.involuntary_switches),
            thread_count: self.thread_count,
        }
    }
}

impl MemoryUse {
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        // Opened here so that the system's error stays for a process that does not exist or belongs to another user.
        let file = fs::File::open(format!("/proc/{pid}/smaps_rollup"))?;
        let rollup = SmapsRollup::from_read(file).map_err(io::Error::other)?;
        let field = |name: &str| {
            rollup.memory_map_rollup.iter().filter_map(|map| map.extension.map.get(name)).copied().sum::<u64>()
        };
        Ok(Self { pss_bytes: field("Pss"), rss_bytes: field("Rss") })
    }
}

impl KernelMemory {
    /// The current values; 0 for what cannot be read.
    pub(super) fn now() -> Self {
        let slab_bytes = Meminfo::from_file("/proc/meminfo").map_or(0, |meminfo| meminfo.slab);
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        Self { slab_bytes, tcp_buffer_bytes: tcp_pages(&sockstat) * 4096 }
    }
}

/// `TCP: inuse 5 orphan 0 tw 0 alloc 6 mem 1`: the last number counts pages.
fn tcp_pages(sockstat: &str) -> u64 {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Connections that found a listener's queue full since boot.
pub(super) fn listen_overflows() -> u64 {
    let netstat = fs::read_to_string("/proc/net/netstat").unwrap_or_default();
    parse_listen_overflows(&netstat)
}

/// Two lines for each protocol: the names, then the numbers in the same order.
pub(super) fn parse_listen_overflows(netstat: &str) -> u64 {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt: "));
    let (names, numbers) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut fields = names.split(' ').zip(numbers.split(' '));
    fields.find(|(name, _)| *name == "ListenOverflows").and_then(|(_, number)| number.parse().ok()).unwrap_or(0)
}

/// The current ticks of each core; empty if they cannot be read.
pub(super) fn core_ticks() -> Vec<CoreTicks> {
    let cores = KernelStats::current().map_or_else(|_| Vec::new(), |stats| stats.cpu_time);
    let ticks = |core: &procfs::CpuTime| {
        let [iowait, irq, softirq, steal] =
            [core.iowait, core.irq, core.softirq, core.steal].map(Option::unwrap_or_default);
        CoreTicks { busy: core.user + core.nice + core.system + irq + softirq, idle: core.idle + iowait, steal }
    };
    cores.iter().map(ticks).collect()
}

impl CoreTicks {
    /// Busy and stolen shares of the time since `earlier`.
    pub(super) fn shares_since(&self, earlier: &Self) -> (f64, f64) {
        let (busy, steal) = (self.busy - earlier.busy, self.steal - earlier.steal);
        let all = (busy + steal + self.idle.saturating_sub(earlier.idle)).max(1) as f64;
        (busy as f64 / all, steal as f64 / all)
    }
}

/// The calling thread's folder under /proc.
pub(super) fn own_thread() -> PathBuf {
    fs::canonicalize("/proc/thread-self").unwrap_or_default()
}

/// Makes the kernel end the calling thread's sleeps on time: by default it delays them by up to 50 µs.
pub(super) fn wake_punctually() -> io::Result<()> {
    // The file is only found under the thread's number at the top of /proc, not in its process's folder.
    let thread = own_thread();
    let number = thread.file_name().unwrap_or_default().to_string_lossy();
    fs::write(format!("/proc/{number}/timerslack_ns"), "1")
}

/// Pins the calling thread, and threads it starts later, to a core.
pub(super) fn pin_to(core: usize) -> Result<(), String> {
    match core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        true => Ok(()),
        false => Err(format!("--pin: cannot run on core {core}")),
    }
}

/// The CPU time of the thread with this folder, in nanoseconds.
pub(super) fn thread_run_ns(folder: &Path) -> u64 {
    Schedstat::from_file(folder.join("schedstat")).map_or(0, |schedstat| schedstat.sum_exec_runtime)
}
