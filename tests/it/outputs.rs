//! Commands whose standard output or standard error is full, or has lost its reader. None of them panics.

use std::{
    fs::{File, OpenOptions},
    io,
    net::TcpStream,
    process::{Child, Command, Stdio},
};

use crate::support::{
    redis::{HOST, free_port},
    send_signal, wait_until,
};

/// A full device: each write fails with `ENOSPC`.
fn full() -> Stdio {
    let device: File = OpenOptions::new().write(true).open("/dev/full").expect("this is Linux");
    device.into()
}

/// A pipe without a reader: each write fails with `EPIPE`.
fn unread() -> Stdio {
    io::pipe().expect("pipes can be had").1.into()
}

fn fanfare(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_hub_serves_although_its_output_fails() {
    let sinks: [fn() -> Stdio; 2] = [full, unread];
    for sink in sinks {
        let address = format!("{HOST}:{}", free_port());
        let mut command = fanfare(&["serve", "--listen", &address, "--log-level", "debug"]);
        command.env("FANFARE_DRAIN__WINDOW", "100ms").env("FANFARE_DRAIN__DELAY", "0s");
        let mut hub = Running(command.stdout(sink()).stderr(sink()).spawn().expect("it was just built"));
        wait_until("the hub serves", || {
            assert_eq!(hub.0.try_wait().expect("it is our child"), None, "it has ended");
            TcpStream::connect(&address).ok()
        });
        send_signal("TERM", hub.0.id());
        let status = wait_until("the hub ends", || hub.0.try_wait().expect("it is our child"));
        assert!(status.success(), "{status}");
    }
}

#[test]
fn what_cannot_be_printed_is_a_failure_and_no_panic() {
    let lines: [&[&str]; 5] =
        [&["version"], &["config", "default"], &["config", "show"], &["config", "check"], &["report", "/dev/null"]];
    for line in lines {
        let output = fanfare(line).stdout(full()).stderr(Stdio::piped()).output().expect("it was just built");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{line:?}: {said}");
        assert!(said.contains("cannot print: No space left"), "{line:?}: {said}");
        let output = fanfare(line).stdout(unread()).stderr(Stdio::piped()).output().expect("it was just built");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{line:?}: {}: {said}", output.status);
    }
}

#[test]
fn an_error_without_a_reader_is_still_a_failure() {
    let lines: [(&[&str], i32); 4] = [
        (&["serve", "--listen", "nowhere"], 1),
        (&["report", "/nowhere"], 1),
        (&["load", "-m", "producer", "-s", "nowhere://"], 2),
        (&["bench", "--url", "nowhere://"], 2),
    ];
    for (line, code) in lines {
        let sinks: [fn() -> Stdio; 2] = [full, unread];
        for sink in sinks {
            let output = fanfare(line).stdout(sink()).stderr(sink()).output().expect("it was just built");
            assert_eq!(output.status.code(), Some(code), "{line:?}");
        }
    }
}
