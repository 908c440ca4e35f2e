//! What tests share: servers, clients, and a way to wait for conditions.

pub(crate) mod bidirectional;
pub(crate) mod browser;
pub(crate) mod conversation;
pub(crate) mod example;
pub(crate) mod faulty_hub;
pub(crate) mod guarded;
pub(crate) mod haproxy;
pub(crate) mod http;
pub(crate) mod hub;
pub(crate) mod key_server;
pub(crate) mod nats;
pub(crate) mod nginx;
pub(crate) mod packages;
pub(crate) mod page_server;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod redis;
pub(crate) mod redis_cluster;
pub(crate) mod relay;
pub(crate) mod sentinel;
pub(crate) mod socket_io;
pub(crate) mod sse;
#[allow(dead_code, unused_imports, reason = "each test binary uses its part")]
pub(crate) mod swarm;
pub(crate) mod websocket;

use std::{
    env, fs,
    path::PathBuf,
    process::{self, Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// How long a test waits for anything before it fails. Far more than is needed on a loaded machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// The interval at which conditions are polled.
const GLANCE: Duration = Duration::from_millis(5);

/// Waits until `condition` returns a value, and returns that value. Fails the test with `what` after [`TIMEOUT`].
#[track_caller]
pub(crate) fn wait_until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::park_timeout(GLANCE);
    }
}

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    /// In the system's folder for temporary files, because the path of a unix socket must be short.
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("fanfare-it-{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("the folder for temporary files is writable");
        Self(path)
    }

    /// The path of `name` in it, as text.
    pub(crate) fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("the path is made of ASCII").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Children of a killed program may still write for a moment.
        let deadline = Instant::now() + TIMEOUT;
        while fs::remove_dir_all(&self.0).is_err() && self.0.exists() && Instant::now() < deadline {
            thread::park_timeout(GLANCE);
        }
    }
}

/// Runs a program of the system to its end. Names the Debian package if there is no such program.
#[track_caller]
pub(crate) fn run_program(program: &str, package: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output();
    output.unwrap_or_else(|error| panic!("cannot run {program}: {error}; install it: apt-get install {package}"))
}

/// The standard output of a program, which must have succeeded.
#[track_caller]
pub(crate) fn stdout_of(output: &Output) -> String {
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {stdout}{stderr}", output.status);
    stdout.into_owned()
}

/// Sends `signal` (such as `TERM`) to the process `pid`, which the caller has started and not yet waited for.
pub(crate) fn send_signal(signal: &str, pid: u32) {
    let sent = Command::new("sh").args(["-c", &format!("kill -{signal} {pid}")]).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot send {signal} to {pid}");
}

/// Calls a function when dropped.
pub(crate) struct OnDrop<F: Fn()>(pub(crate) F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
