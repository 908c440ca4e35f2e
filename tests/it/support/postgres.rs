//! A PostgreSQL server of the test's own.

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
        // The server refuses to run as root, so its folder is to be that of another.
        fs::set_permissions(&folder.0, fs::Permissions::from_mode(0o777)).expect("it is ours");
        let data = folder.path("data");
        // One password, so that passing it to the hub is tested, too.
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

    /// What a statement prints: rows by line, columns by `|`.
    #[track_caller]
    pub(crate) fn sql(&self, statement: &str) -> String {
        let arguments = ["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement, &self.url()];
        stdout_of(&run_program("psql", "postgresql", &arguments)).trim_end().to_owned()
    }

    /// Ends it at once, with all that belongs to it, as a machine that fails does.
    pub(crate) fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // Its children end by themselves as soon as they see that it is gone; until then it would not start again.
        let _ = child.kill();
        let _ = child.wait();
        wait_until("the server's children have ended", || self.processes().is_empty().then_some(()));
    }

    /// Ends it in order, but without waiting for its clients.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        send_signal("INT", child.id());
        let _ = child.wait();
    }

    /// Stops the server and all its children in their tracks; [`PostgresServer::go_on`] lets them go on.
    pub(crate) fn stand_still(&self) {
        // Itself first, so that it has no further children.
        self.child.iter().for_each(|child| send_signal("STOP", child.id()));
        self.signal_all("STOP");
    }

    pub(crate) fn go_on(&self) {
        self.signal_all("CONT");
    }

    /// One of its children may end by itself meanwhile and needs no signal.
    fn signal_all(&self, signal: &str) {
        for pid in self.processes() {
            let told =
                Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).stderr(Stdio::null()).status();
            assert!(told.is_ok(), "there is no kill on this machine");
        }
    }

    /// Starts it again, where it was.
    pub(crate) fn restart(&mut self) {
        let (port, sockets) = (self.port.to_string(), format!("unix_socket_directories={}", self.folder.path("")));
        // No less safe than by default, but for a crash of the whole machine.
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
        self.go_on();
        self.kill();
    }
}

/// A program of the server's, which does not run as root.
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

/// The user as whom the server runs, if not the one who runs the tests.
pub(crate) fn server_user() -> Option<(u32, u32)> {
    // `nobody` and `nogroup` on Debian.
    is_root().then_some((65534, 65534))
}
