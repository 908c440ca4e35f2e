//! What `scripts/release` makes, with the program of the tests in place of one for users: its package is installed, upgraded and
//! removed in a root of its own, what is installed is started, and shells and `man` read their parts.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use crate::{
    service_manager::NotifySocket,
    support::{Folder, hub::Hub, run_program, stdout_of},
};

fn run(program: &Path, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().expect("it is there")
}

/// The files that `scripts/release` leaves.
fn release(folder: &Folder) -> Vec<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/release");
    stdout_of(&run(&script, &["--program", env!("CARGO_BIN_EXE_fanfare"), &folder.path("out")]));
    let entries = fs::read_dir(folder.path("out")).expect("the script makes it");
    entries.map(|entry| entry.expect("it is ours").path()).collect()
}

fn with_extension<'f>(files: &'f [PathBuf], extension: &str) -> &'f Path {
    let found = files.iter().find(|file| file.extension().is_some_and(|found| found == extension));
    found.unwrap_or_else(|| panic!("no .{extension} in {files:?}"))
}

/// A root without anything but dpkg's own files.
struct FreshRoot(Folder);

impl FreshRoot {
    fn new() -> Self {
        let root = Self(Folder::new());
        for folder in ["var/lib/dpkg/info", "var/lib/dpkg/updates"] {
            fs::create_dir_all(root.path(folder)).expect("the folder is ours");
        }
        fs::write(root.path("var/lib/dpkg/status"), "").expect("the folder is ours");
        root
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.0.join(name)
    }

    /// Runs dpkg on the root, as root.
    #[track_caller]
    fn dpkg(&self, arguments: &[&str]) {
        let root = format!("--root={}", self.0.path(""));
        // Maintainer scripts run outside, where there is a shell, and are told of the root.
        let options = ["--force-script-chrootless", "--force-confdef", "--force-confold", root.as_str()];
        stdout_of(&run_program("dpkg", "dpkg", &[&options, arguments].concat()));
    }
}

/// The package again, as of a later version.
fn later_package(package: &Path, folder: &Folder) -> String {
    let (tree, later) = (folder.path("later"), folder.path("later.deb"));
    stdout_of(&run_program("dpkg-deb", "dpkg", &["-R", package.to_str().expect("UTF-8"), &tree]));
    let control = format!("{tree}/DEBIAN/control");
    let text = fs::read_to_string(&control).expect("each package has one");
    let text: Vec<&str> =
        text.lines().map(|line| if line.starts_with("Version: ") { "Version: 999" } else { line }).collect();
    fs::write(&control, text.join("\n") + "\n").expect("the folder is ours");
    fs::write(format!("{tree}/etc/fanfare/fanfare.toml"), "# Another default.\n").expect("the folder is ours");
    stdout_of(&run_program("dpkg-deb", "dpkg", &["--root-owner-group", "-Znone", "--build", &tree, &later]));
    later
}

#[test]
fn the_package_is_installed_upgraded_and_removed() {
    let folder = Folder::new();
    let files = release(&folder);
    let sums =
        Command::new("sha256sum").args(["--check", "--strict", "SHA256SUMS"]).current_dir(folder.path("out")).output();
    assert_eq!(
        stdout_of(&sums.expect("coreutils are there")).lines().count(),
        files.len() - 1,
        "each but the list itself"
    );
    let package = with_extension(&files, "deb");
    let root = FreshRoot::new();
    root.dpkg(&["--install", package.to_str().expect("UTF-8")]);

    let program = root.path("usr/bin/fanfare");
    let (mode, owner) = fs::metadata(&program).map(|file| (file.mode() & 0o7777, file.uid())).expect("it is installed");
    assert_eq!((mode, owner), (0o755, 0));
    for file in [
        "lib/systemd/system/fanfare.service",
        "usr/share/man/man1/fanfare-serve.1.gz",
        "usr/share/doc/fanfare/README.md",
    ] {
        assert!(root.path(file).exists(), "{file}");
    }
    let notify = NotifySocket::bind(&folder);
    let config = root.path("etc/fanfare/fanfare.toml");
    let mut command = Command::new(&program);
    command.args(["serve", "--config", config.to_str().expect("UTF-8"), "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", &notify.path);
    let hub = Hub::spawn(command, &[]);
    assert_eq!(notify.next(), "READY=1\nSTATUS=serving\n");
    assert_eq!(hub.get("/health").status, 200);
    assert!(hub.terminate().success());

    fs::write(&config, "# Mine.\n").expect("the root is ours");
    root.dpkg(&["--install", &later_package(package, &folder)]);
    assert_eq!(fs::read_to_string(&config).expect("it is kept"), "# Mine.\n", "an upgrade keeps the configuration");
    root.dpkg(&["--remove", "fanfare"]);
    assert!(!program.exists() && config.exists(), "so does removal,");
    root.dpkg(&["--purge", "fanfare"]);
    assert!(!root.path("etc/fanfare").exists(), "but not to be purged");
}

#[test]
fn shells_and_man_read_what_the_command_says_of_itself() {
    let folder = Folder::new();
    let program = Path::new(env!("CARGO_BIN_EXE_fanfare"));
    stdout_of(&run(program, &["man", &folder.path("")]));
    let entries = fs::read_dir(&folder.0).expect("it is ours");
    let pages = entries.map(|entry| entry.expect("it is ours").file_name().into_string().expect("UTF-8"));
    let pages: Vec<String> = pages.collect();
    let help = stdout_of(&run(program, &["--help"]));
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // Lines that go on are indented further.
    let commands =
        commands.filter_map(|line| line.strip_prefix("  ")?.split(' ').next().filter(|name| !name.is_empty()));
    let commands: Vec<&str> = commands.filter(|command| *command != "help").collect();
    assert!(commands.contains(&"serve") && commands.contains(&"hash-password"), "{commands:?}");
    for command in commands {
        assert!(pages.contains(&format!("fanfare-{command}.1")), "{command}: {pages:?}");
    }
    for page in &pages {
        let arguments = ["-k", "-man", "-ww", "-Tutf8", &folder.path(page)];
        let output = run_program("groff", "groff-base", &arguments);
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{page}");
        stdout_of(&output);
    }
    let arguments = ["-k", "-man", "-Tascii", "-P-c", &folder.path("fanfare.1")];
    let page = stdout_of(&run_program("groff", "groff-base", &arguments));
    assert!(
        page.contains("  fanfare serve --demo                             a hub with sample"),
        "examples keep their lines: {page}"
    );
    let script = folder.path("completions");
    for shell in ["bash", "zsh", "fish"] {
        let completions = stdout_of(&run(program, &["completions", shell]));
        assert!(completions.contains("hash-password"), "{shell}: {completions}");
        fs::write(&script, completions).expect("it is ours");
        if shell == "bash" {
            stdout_of(&run_program("bash", "bash", &["-n", &script]));
        }
    }
}
