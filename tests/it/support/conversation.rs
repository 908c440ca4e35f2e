//! A running program whose input and output are lines.

use std::{
    cell::RefCell,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Instant,
};

use super::TIMEOUT;

/// Killed when dropped.
#[derive(Debug)]
pub(crate) struct Conversation {
    child: Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    /// The output so far, for the error if no more comes.
    said: RefCell<Vec<String>>,
}

impl Conversation {
    /// Starts `program`; if there is none, the test fails and says which Debian package has it.
    pub(crate) fn start(program: &str, package: &str, arguments: &[&str]) -> Self {
        Self::run(Command::new(program).args(arguments), package)
    }

    /// The same, with another folder or environment.
    pub(crate) fn run(command: &mut Command, package: &str) -> Self {
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let program = command.get_program().display();
        let mut child = started
            .unwrap_or_else(|error| panic!("cannot run {program}: {error}; install it: apt-get install {package}"));
        let stdin = child.stdin.take().expect("it was just asked for");
        let lines = read_lines(child.stdout.take().expect("it was just asked for"));
        Self { child, stdin, lines, said: RefCell::default() }
    }

    /// The next line of output.
    #[track_caller]
    pub(crate) fn next_line(&self) -> String {
        let mut said = self.said.borrow_mut();
        let line = self.lines.recv_timeout(TIMEOUT);
        let line = line.unwrap_or_else(|error| panic!("the program should say more ({error}) than {said:#?}"));
        said.push(line.clone());
        line
    }

    /// Skips lines until one begins with `start`. Returns the rest of that line.
    #[track_caller]
    pub(crate) fn wait_for(&self, start: &str) -> String {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(rest) = self.next_line().strip_prefix(start) {
                return rest.to_owned();
            }
            assert!(Instant::now() < deadline, "the program says much, but not {start:?}: {:#?}", self.said.borrow());
        }
    }

    /// Writes a line to the program's input.
    pub(crate) fn say(&mut self, line: &str) {
        writeln!(self.stdin, "{line}").expect("the program reads");
    }

    /// Ends the program, and returns the lines that were left.
    pub(crate) fn end(mut self) -> Vec<String> {
        let _ = self.child.kill();
        self.lines.iter().collect()
    }

    /// Waits until the program ends by itself. Drops its output.
    #[track_caller]
    pub(crate) fn wait(mut self) -> ExitStatus {
        while self.lines.recv_timeout(TIMEOUT).is_ok() {}
        self.child.wait().expect("it is our child")
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        // The process may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a pipe to a channel, because only a channel can be read with a deadline.
fn read_lines(stdout: ChildStdout) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let Ok(line) = line else { break };
            if sender.send(line.trim_end().to_owned()).is_err() {
                break;
            }
        }
    });
    lines
}
