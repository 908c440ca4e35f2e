//! The thread that writes the lines, each in one call.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use tracing::warn;

use super::{
    AuditTarget, Progress, held_bytes,
    line::{quote, write_time},
};
use crate::os;

/// The version of the lines' schema. Members may be added to it; another number means that one is gone, or means something else.
const SCHEMA: u32 = 1;
/// The permissions of a new file: whose business it is, its group says.
const FILE_MODE: u32 = 0o640;
/// How soon lines that are missing are told of if no other line follows.
const IDLE: Duration = Duration::from_secs(1);

/// What the thread is asked to do.
#[derive(Debug)]
pub(super) enum Message {
    /// Write this line, without what is common to all.
    Line(String),
    /// Look at what has changed.
    Wake,
    /// Say when all that came before is done.
    Flush(Sender<()>),
}

pub(super) struct Writer {
    pub(super) output: Output,
    progress: Arc<Progress>,
    /// What each line begins with, up to its number.
    head: String,
    /// What each line has behind its number.
    hub: String,
    /// The number of the last line that was written, from 1. A number that is missing is a line that somebody took away.
    number: u64,
    /// Whether the last write ended within a line.
    pub(super) is_torn: bool,
    /// Whether the last write failed, so that the log says it once.
    is_failing: bool,
}

pub(super) enum Output {
    Stderr,
    File(File),
}

impl Output {
    /// Opens `target` to append to it.
    fn open(target: &AuditTarget) -> Result<Self, String> {
        match target {
            AuditTarget::File(path) => open_file(path)
                .map(Self::File)
                .map_err(|error| format!("audit.to: {} cannot be opened to append to it: {error}", path.display())),
            AuditTarget::Stderr | AuditTarget::Nowhere => Ok(Self::Stderr),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stderr => io::stderr().write(bytes),
            Self::File(file) => file.write(bytes),
        }
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    // Opening a FIFO would wait for a reader.
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return Err(io::Error::other("it is no regular file; name another one, or `stderr`"));
    }
    OpenOptions::new().append(true).create(true).mode(FILE_MODE).open(path)
}

/// Whether the last line has no end: another process, or a full disk, broke it off. A file that this process may not read counts as
/// whole.
fn is_torn(target: &AuditTarget) -> bool {
    let AuditTarget::File(path) = target else { return false };
    let last_byte = || {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::End(-1))?;
        let mut byte = [0];
        file.read_exact(&mut byte).map(|()| byte[0])
    };
    last_byte().is_ok_and(|byte| byte != b'\n')
}

impl Writer {
    pub(super) fn open(
        target: &AuditTarget,
        progress: Arc<Progress>,
        (id, host): (&str, &str),
    ) -> Result<Self, String> {
        let mut hub = String::from(r#","hub":"#);
        quote(id, &mut hub);
        if !host.is_empty() {
            hub.push_str(r#","host":"#);
            quote(host, &mut hub);
        }
        let head = format!(r#"{{"schema":{SCHEMA},"line":"#);
        let output = Output::open(target)?;
        let is_torn = is_torn(target);
        Ok(Self { output, progress, head, hub, number: 0, is_torn, is_failing: false })
    }

    /// Ends when nobody can record any more.
    pub(super) fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let message = receiver.recv_timeout(IDLE);
            if self.progress.reopen.swap(false, Ordering::AcqRel) {
                self.reopen();
            }
            match message {
                Ok(Message::Line(members)) => {
                    self.progress.queued_bytes.fetch_sub(held_bytes(&members), Ordering::Relaxed);
                    if !self.write_line(&members) {
                        self.progress.count_dropped();
                    }
                }
                Ok(Message::Wake) => {}
                Ok(Message::Flush(done)) => {
                    self.report_dropped();
                    // Whoever asked may have gone.
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.report_dropped(),
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn reopen(&mut self) {
        let target = self.progress.target.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match Output::open(&target) {
            Ok(output) => (self.output, self.is_torn) = (output, is_torn(&target)),
            Err(error) => {
                self.progress.errors.fetch_add(1, Ordering::Relaxed);
                warn!(%error, "the audit goes on in the file that is open");
            }
        }
    }

    /// A line of its own for lines that are missing, if no other has told of them.
    fn report_dropped(&mut self) {
        if 0 < self.progress.untold.load(Ordering::Relaxed) {
            self.write_line(&format!(r#""time":"{}","kind":"dropped""#, write_time(os::realtime_now())));
        }
    }

    /// Returns whether the line is written.
    fn write_line(&mut self, members: &str) -> bool {
        let untold = self.progress.untold.swap(0, Ordering::Relaxed);
        let (end, number) = (if self.is_torn { "\n" } else { "" }, self.number + 1);
        let Self { head, hub, .. } = self;
        let dropped = if untold == 0 { String::new() } else { format!(r#","dropped":{untold}"#) };
        let line = format!("{end}{head}{number}{hub},{members}{dropped}}}\n");
        match self.write_all(line.as_bytes()) {
            Ok(()) => {
                self.number = number;
                self.progress.lines.fetch_add(1, Ordering::Relaxed);
                if std::mem::take(&mut self.is_failing) {
                    warn!("the audit is written again; a line in it says how many are missing");
                }
                true
            }
            Err(error) => {
                self.progress.untold.fetch_add(untold, Ordering::Relaxed);
                self.progress.errors.fetch_add(1, Ordering::Relaxed);
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(%error, "the audit cannot be written; its lines are missing until it can");
                }
                false
            }
        }
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.output.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    bytes = &bytes[written..];
                    self.is_torn = !bytes.is_empty();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
