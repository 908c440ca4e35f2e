//! The files of a configuration, each read once.

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::{self, FileType},
    io::Read,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    rc::Rc,
};

/// The largest file of a configuration, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Reads files and keeps their content for one load of the configuration, because a pipe can be read only once.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// Whether this is a reload, which reads regular files only: a pipe was read at the start, and opening a FIFO blocks until a
    /// writer comes.
    is_reload: bool,
    contents: RefCell<HashMap<PathBuf, Rc<[u8]>>>,
}

impl Files {
    /// For the start: reads files of any type, such as `/dev/stdin` or the pipe of a process substitution.
    pub(super) fn at_start() -> Self {
        Self::default()
    }

    /// For a reload: reads regular files only.
    pub(super) fn at_reload() -> Self {
        Self { is_reload: true, ..Self::default() }
    }

    /// The content of the file at `path`. The error does not name the path.
    pub(super) fn read(&self, path: &Path) -> Result<Rc<[u8]>, String> {
        if let Some(content) = self.contents.borrow().get(path) {
            return Ok(Rc::clone(content));
        }
        if self.is_reload {
            let kind = fs::metadata(path).map_err(|error| error.to_string())?.file_type();
            if let Some(name) = name_unless_regular(kind) {
                return Err(format!(
                    "it is {name}, which cannot be read a second time: restart the hub, or start it with a regular file"
                ));
            }
        }
        let mut content = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content));
        if FILE_BYTES_MAX < read.map_err(|error| error.to_string())? as u64 {
            return Err(format!("it has more than {} MiB", FILE_BYTES_MAX >> 20));
        }
        let content: Rc<[u8]> = content.into();
        self.contents.borrow_mut().insert(path.to_owned(), Rc::clone(&content));
        Ok(content)
    }

    /// The content of the file at `path` as text.
    pub(super) fn read_text(&self, path: &Path) -> Result<String, String> {
        let content = self.read(path)?;
        std::str::from_utf8(&content).map(str::to_owned).map_err(|_| "it is not UTF-8".to_owned())
    }

    /// The content of the file at `path`, if it has been read already or is a regular file. Reads no pipe.
    pub(super) fn peek(&self, path: &Path) -> Option<Rc<[u8]>> {
        let is_known = self.contents.borrow().contains_key(path);
        let may_read = is_known || fs::metadata(path).is_ok_and(|metadata| metadata.is_file());
        may_read.then(|| self.read(path).ok()).flatten()
    }
}

/// The name of a file type; `None` for a regular file.
fn name_unless_regular(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_fifo() => Some("a pipe"),
        kind if kind.is_dir() => Some("a folder"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, io::Write, process, thread};

    use super::*;

    #[test]
    fn a_pipe_is_read_once_and_never_at_a_reload() {
        let path = env::temp_dir().join(format!("fanfare-fifo-{}", process::id()));
        let made = process::Command::new("mkfifo").arg(&path).status();
        assert!(made.is_ok_and(|status| status.success()), "mkfifo is a part of coreutils");
        let start = Files::at_start();
        assert_eq!(start.peek(&path), None, "a look takes nothing");
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::File::options().write(true).open(path).and_then(|mut fifo| fifo.write_all(b"text"))
        });
        assert_eq!(start.read_text(&path).as_deref(), Ok("text"));
        writer.join().expect("it does not panic").expect("there is a reader");
        assert_eq!(start.read_text(&path).as_deref(), Ok("text"), "it is remembered");
        assert_eq!(start.peek(&path).as_deref(), Some(&b"text"[..]));
        let wrong = Files::at_reload().read(&path).expect_err("it would wait for a writer");
        assert!(wrong.starts_with("it is a pipe, which cannot be read a second time"), "{wrong}");
        fs::remove_file(&path).expect("it is ours");
        assert!(Files::at_reload().read(&path).is_err_and(|wrong| wrong.contains("No such file")));
        assert!(Files::at_reload().read(Path::new("/dev/null")).is_err_and(|wrong| wrong.contains("a device")));
        assert!(Files::at_start().read(Path::new("/dev/zero")).is_err_and(|wrong| wrong.contains("more than 16 MiB")));
        assert!(Files::at_start().read(Path::new("/dev/null")).is_ok_and(|content| content.is_empty()));
    }
}
