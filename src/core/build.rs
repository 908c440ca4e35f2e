//! Tells the program which commit it is built from: what `FANFARE_COMMIT` says, for builds without a repository; else, in a
//! release, what git says. Other builds do not ask, for each commit would have all of them built anew.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FANFARE_COMMIT");
    let given = env::var("FANFARE_COMMIT").ok().filter(|commit| !commit.is_empty());
    let commit = given.or_else(release_commit).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=FANFARE_COMMIT={commit}");
}

fn release_commit() -> Option<String> {
    if env::var("PROFILE").as_deref() != Ok("release") {
        return None;
    }
    // It changes with each commit and each checkout. Where it is missing the script runs with each build.
    println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", "logs/HEAD"])?);
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned()).filter(|text| !text.is_empty())
}
