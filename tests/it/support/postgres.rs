//! A PostgreSQL server for a test.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
};

pub(crate) use super::redis::HOST;
use super::{Folder, redis::free_port, run_program, send_signal, stdout_of, wait_until};

const INSTALL: &str = "install it: apt-get install postgresql";

/// A server that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct PostgresServer {
    child: Option<Child>,
    port: u16,
    folder: Folder,
    options: Vec<String>,
}

impl PostgresServer {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further settings, such as `["ssl=on"]`.
    pub(crate) fn start_with(settings: &[&str]) -> Self {
        let folder = Folder::new();
        // The server refuses to run as root, so its folder belongs to another user.
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let data = folder.path("data");
        // With a password, so that passing one to the hub is tested as well.
        fs::write(folder.path("password"), "geheim").expect("it is ours");
        let password = format!("--pwfile={}", folder.path("password"));
        let arguments = ["-D", &data, "-U", "postgres", "-A", "scram-sha-256", "--no-sync", &password];
        let output = as_nobody("initdb").args(arguments).args(["-E", "UTF8", "--locale=C"]).output();
        stdout_of(&output.unwrap_or_else(|error| panic!("cannot run initdb: {error}; {INSTALL}")));
        let options = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let mut server = Self { child: None, port: free_port(), folder, options };
        server.restart();
        server
    }

    /// The server's URL, password and all.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres:geheim@{HOST}:{}/postgres", self.port)
    }

    /// The output of a statement: a line for each row, with `|` between columns.
    #[track_caller]
    pub(crate) fn sql(&self, statement: &str) -> String {
        let arguments = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, &self.url()];
        stdout_of(&run_program("psql", "postgresql", &arguments)).trim_end().to_owned()
    }

    /// Kills the server with all its processes, as if its machine had failed.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Its children end as soon as they notice that it has ended. Until then it would not start again.
        let _ = child.kill();
        let _ = child.wait();
        wait_until("the server's children have ended", || self.processes().is_empty().then_some(()));
    }

    /// Shuts the server down without waiting for its clients.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        send_signal("INT", child.id());
        let _ = child.wait();
    }

    /// Stops the server and all its children (SIGSTOP). [`PostgresServer::resume`] continues them.
    pub(crate) fn suspend(&self) {
        // The server first, so that it makes no further children.
        self.child.iter().for_each(|child| send_signal("STOP", child.id()));
        self.signal_all("STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal_all("CONT");
    }

    /// A child may end by itself meanwhile. It needs no signal.
    fn signal_all(&self, signal: &str) {
        for pid in self.processes() {
            let signalled =
                Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status();
            assert!(signalled.is_ok(), "there is no kill on this machine");
        }
    }

    /// Starts the server again at the same port.
    pub(crate) fn restart(&mut self) {
        let (port, sockets) = (self.port.to_string(), format!("unix_socket_directories={}", self.folder.path("")));
        // As safe as the defaults, except against a crash of the whole machine.
        let fixed = [&sockets, "fsync=off", "max_wal_size=256MB", "shared_buffers=16MB", "autovacuum=off"];
        let mut command = as_nobody("postgres");
        command.args(["-D", &self.folder.path("data"), "-h", HOST, "-p", &port]);
        for setting in fixed.into_iter().chain(self.options.iter().map(String::as_str)) {
            command.args(["-c", setting]);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("cannot run postgres: {error}; {INSTALL}")));
        wait_until("PostgreSQL accepts", || {
            let arguments = ["-X", "-q", "-c", "select", &self.url()];
            run_program("psql", "postgresql", &arguments).status.success().then_some(())
        });
    }

    /// All processes that work in the server's folder.
    fn processes(&self) -> Vec<u32> {
        let data = PathBuf::from(self.folder.path("data"));
        let entries = fs::read_dir("/proc").expect("this is Linux").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == data)).collect()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        self.resume();
        self.kill();
    }
}

/// A program of the server, run as a user other than root.
fn as_nobody(program: &str) -> Command {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.map(|entry| entry.path().join("bin")).filter(|path| path.join(program).exists()).max();
    let path = newest.unwrap_or_else(|| panic!("no {program} under /usr/lib/postgresql; {INSTALL}")).join(program);
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(path);
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| std::os::unix::fs::MetadataExt::uid(&process) == 0)
}

/// The user of the server process, if it is not the user of the tests.
pub(crate) fn server_user() -> Option<(u32, u32)> {
    // `nobody` and `nogroup` on Debian.
    is_root().then_some((65534, 65534))
}
