//! Logins that may change while the hub runs, because passwords are rotated: when the configuration is read anew (SIGHUP), and when a
//! server refuses a login whose file holds another one by then. Open connections stay open.

use std::{
    fmt, fs,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{info, warn};

/// A login, and where it is kept. `Display` says where it is used, and shows no secret.
pub trait Credentials: Clone + fmt::Display {
    /// Whether `other` is shown to the servers alike.
    fn is_same(&self, other: &Self) -> bool;

    /// Whether a file holds any of it.
    fn has_files(&self) -> bool;

    /// The same as the files have it by now. Fails where a file cannot be read, or leads to another server: that one waits for a
    /// restart. The text never holds a password.
    fn reread(&self) -> Result<Self, String>;
}

/// The login in force, for all that connect to one place. Clones share it.
#[derive(Clone)]
pub struct Logins<L>(Arc<Mutex<State<L>>>);

struct State<L> {
    /// `None`: the one that the hub was started with.
    replaced: Option<Arc<L>>,
    /// What was wrong with the files when they were read last: said once, not at each attempt to connect.
    problem: Option<String>,
}

impl<L> Default for Logins<L> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(State { replaced: None, problem: None })))
    }
}

impl<L: Credentials> Logins<L> {
    /// The one in force; `first` is the one that the hub was started with.
    pub(crate) fn current(&self, first: &L) -> Arc<L> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.replaced.as_ref().map_or_else(|| Arc::new(first.clone()), Arc::clone)
    }

    /// Connections from now on are made with `login`.
    pub(crate) fn replace(&self, login: L) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            State { replaced: Some(Arc::new(login)), problem: None };
    }

    /// The server has refused `used`: the login in force by now, after a look at the files. `None` if it is the same. Blocks for
    /// as long as reading a file does.
    pub(crate) fn renew(&self, used: &L) -> Option<Arc<L>> {
        let before = self.current(used);
        // Another thread may have done it meanwhile.
        if before.is_same(used) && before.has_files() {
            // Not under the lock, which others wait for.
            let read = before.reread();
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(login) if !login.is_same(&before) => {
                    info!("the login at {login} was refused, and is another by now in its file");
                    *state = State { replaced: Some(Arc::new(login)), problem: None };
                }
                Ok(_) => state.problem = None,
                Err(problem) if state.problem.as_ref() != Some(&problem) => {
                    warn!("the login at {before} was refused, and cannot be read anew: {problem}");
                    state.problem = Some(problem);
                }
                Err(_) => {}
            }
        }
        let now = self.current(used);
        (!now.is_same(used)).then_some(now)
    }
}

/// It holds passwords.
impl<L> fmt::Debug for Logins<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins")
    }
}

/// The text of a file without surrounding white space. Refuses anything but a regular file, which might block the thread.
pub(crate) fn read_again(file: &Path) -> Result<String, String> {
    let of_file = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    if !fs::metadata(file).map_err(of_file)?.is_file() {
        return Err(format!("{} is no regular file, and cannot be read a second time", file.display()));
    }
    match fs::read_to_string(file).map_err(of_file)?.trim() {
        "" => Err(format!("{} is empty", file.display())),
        text => Ok(text.to_owned()),
    }
}
