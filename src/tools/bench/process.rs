//! CPU time, memory and context switches of processes and of the machine, as the kernel reports them under /proc.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use procfs::{
    CurrentSI, FromRead, KernelStats, Meminfo,
    process::{Schedstat, SmapsRollup, Status},
};

/// A process's use of the processor since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CpuUse {
    /// Time on a core, in nanoseconds, over all threads that live.
    pub run_ns: u64,
    /// Time spent ready to run but waiting for a core, in nanoseconds.
    pub wait_ns: u64,
    /// Times it gave up the core by itself.
    pub voluntary_switches: u64,
    /// Times the core was taken from it.
    pub involuntary_switches: u64,
    /// Threads that live.
    pub thread_count: u64,
}

/// A process's memory, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(super) struct MemoryUse {
    /// Its pages, those shared with other processes in proportion.
    pub pss_bytes: u64,
    /// Its pages, shared or not.
    pub rss_bytes: u64,
}

/// The whole machine's memory in the kernel, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub(super) struct KernelMemory {
    /// The kernel's own objects: sockets, files, epoll items.
    pub slab_bytes: u64,
    /// What TCP sockets hold in their buffers, both ends of a loopback connection.
    pub tcp_buffer_bytes: u64,
}

/// A core's time by what it did, in clock ticks since the machine began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct CoreTicks {
    pub busy: u64,
    pub idle: u64,
    /// Taken by the hypervisor for others.
    pub steal: u64,
}

impl CpuUse {
    /// Of process `pid`, now. A running thread's current slice is counted at its end: at most some milliseconds late.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        let mut sum = Self::default();
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            sum.add_thread(&task?.path());
        }
        Ok(sum)
    }

    /// A thread that ends meanwhile is left out.
    fn add_thread(&mut self, folder: &Path) {
        let Ok(schedstat) = Schedstat::from_file(folder.join("schedstat")) else { return };
        let Ok(status) = Status::from_file(folder.join("status")) else { return };
        self.run_ns += schedstat.sum_exec_runtime;
        self.wait_ns += schedstat.run_delay;
        self.voluntary_switches += status.voluntary_ctxt_switches.unwrap_or(0);
        self.involuntary_switches += status.nonvoluntary_ctxt_switches.unwrap_or(0);
        self.thread_count += 1;
    }

    /// What all of them used together.
    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            run_ns: sum.run_ns + one.run_ns,
            wait_ns: sum.wait_ns + one.wait_ns,
            voluntary_switches: sum.voluntary_switches + one.voluntary_switches,
            involuntary_switches: sum.involuntary_switches + one.involuntary_switches,
            thread_count: sum.thread_count + one.thread_count,
        })
    }

    /// What was used since `earlier`; the thread count is today's.
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
    /// Of process `pid`, now.
    pub(super) fn of_process(pid: u32) -> io::Result<Self> {
        // Opened here, so that the error of a process that is not ours or not there stays as the system gives it.
        let file = fs::File::open(format!("/proc/{pid}/smaps_rollup"))?;
        let rollup = SmapsRollup::from_read(file).map_err(io::Error::other)?;
        let field = |name: &str| {
            rollup.memory_map_rollup.iter().filter_map(|map| map.extension.map.get(name)).copied().sum::<u64>()
        };
        Ok(Self { pss_bytes: field("Pss"), rss_bytes: field("Rss") })
    }
}

impl KernelMemory {
    /// Of the whole machine, now; what cannot be read is 0.
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

/// How many connections found a listener's queue full since the machine began.
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

/// Of each core, now; none if the kernel does not say.
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
    /// Shares of the time since `earlier`: busy, and stolen.
    pub(super) fn shares_since(&self, earlier: &Self) -> (f64, f64) {
        let (busy, steal) = (self.busy - earlier.busy, self.steal - earlier.steal);
        let all = (busy + steal + self.idle.saturating_sub(earlier.idle)).max(1) as f64;
        (busy as f64 / all, steal as f64 / all)
    }
}

/// The thread's own folder under /proc, for its own processor time.
pub(super) fn own_thread() -> PathBuf {
    fs::canonicalize("/proc/thread-self").unwrap_or_default()
}

/// Asks the kernel to end the calling thread's sleeps on time: by default it takes 50 µs of leave to bundle them.
pub(super) fn wake_punctually() -> io::Result<()> {
    // The file is only found under the thread's number at the top of /proc, not in its process's folder.
    let thread = own_thread();
    let number = thread.file_name().unwrap_or_default().to_string_lossy();
    fs::write(format!("/proc/{number}/timerslack_ns"), "1")
}

/// Runs on that core from now on: all threads begun later inherit it.
pub(super) fn pin_to(core: usize) -> Result<(), String> {
    match core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        true => Ok(()),
        false => Err(format!("--pin: cannot run on core {core}")),
    }
}

/// The processor time of the thread whose folder is given, in nanoseconds.
pub(super) fn thread_run_ns(folder: &Path) -> u64 {
    Schedstat::from_file(folder.join("schedstat")).map_or(0, |schedstat| schedstat.sum_exec_runtime)
}
