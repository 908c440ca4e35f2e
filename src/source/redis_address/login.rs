//! As whom the hub logs in: at the server, and at the sentinels. May be another one while the hub runs, because passwords are
//! rotated: when the configuration is read anew, and when a server refuses the login and a file holds another one by then.
//! Connections that are open stay so.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use redis::{ErrorKind, RedisError};
use tracing::{info, warn};

use super::{RedisUrl, SentinelLogin};

/// A login, and where it is kept.
#[derive(Clone, Debug, Default)]
pub struct Login {
    /// The server's, and where that is.
    pub url: RedisUrl,
    /// The sentinels' own.
    pub sentinel: SentinelLogin,
    /// The files that these were read from, if they were.
    pub files: LoginFiles,
}

/// Files that hold a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoginFiles {
    /// Of the URL.
    pub url: Option<PathBuf>,
    /// Of the sentinels' password.
    pub sentinel_password: Option<PathBuf>,
}

/// The login in force, for all that connect to one server. Clones share it.
#[derive(Clone, Default)]
pub struct Logins(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// `None`: the one that the hub was started with.
    replaced: Option<Arc<Login>>,
    /// What was wrong with the files when they were read last: said once, not at each attempt to connect.
    problem: Option<String>,
}

impl Login {
    /// Whether `other` is shown to servers and sentinels alike.
    pub(in crate::source) fn is_same(&self, other: &Self) -> bool {
        let of_server =
            |login: &Self| (login.url.username().map(str::to_owned), login.url.password().map(str::to_owned));
        of_server(self) == of_server(other) && self.sentinel == other.sentinel
    }

    /// The same as the files have it by now. Fails where a file cannot be read, or leads to another server: that one waits for a
    /// restart. The text never holds a password.
    fn reread(&self) -> Result<Self, String> {
        let mut login = self.clone();
        if let Some(file) = &self.files.url {
            let url = RedisUrl::parse(&read(file)?).map_err(|error| format!("{}: {error}", file.display()))?;
            if !url.is_of_same_server(&self.url) {
                return Err(format!("{} names another server, which waits for a restart", file.display()));
            }
            login.url = url;
        }
        if let Some(file) = &self.files.sentinel_password {
            login.sentinel.password = read(file)?;
        }
        Ok(login)
    }
}

impl Logins {
    /// The one in force; `first` is the one that the hub was started with.
    pub(in crate::source) fn current(&self, first: &Login) -> Arc<Login> {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.replaced.as_ref().map_or_else(|| Arc::new(first.clone()), Arc::clone)
    }

    /// Connections from now on are made with `login`.
    pub(in crate::source) fn replace(&self, login: Login) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) =
            State { replaced: Some(Arc::new(login)), problem: None };
    }

    /// The server, or a sentinel, has refused `used`: the login in force by now, after a look at the files. `None` if it is the
    /// same. Blocks for as long as reading a file does.
    pub(in crate::source) fn renew(&self, used: &Login) -> Option<Arc<Login>> {
        let before = self.current(used);
        // Another thread may have done it meanwhile.
        if before.is_same(used) && before.files != LoginFiles::default() {
            // Not under the lock, which others wait for.
            let read = before.reread();
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            match read {
                Ok(login) if !login.is_same(&before) => {
                    info!("the login at {} was refused, and is another by now in its file", login.url);
                    *state = State { replaced: Some(Arc::new(login)), problem: None };
                }
                Ok(_) => state.problem = None,
                Err(problem) if state.problem.as_ref() != Some(&problem) => {
                    warn!("the login at {} was refused, and cannot be read anew: {problem}", before.url);
                    state.problem = Some(problem);
                }
                Err(_) => {}
            }
        }
        let now = self.current(used);
        (!now.is_same(used)).then_some(now)
    }
}

/// The text of a file without white space around. Anything but a regular file would keep the thread.
fn read(file: &Path) -> Result<String, String> {
    let of_file = |error: std::io::Error| format!("cannot read {}: {error}", file.display());
    if !fs::metadata(file).map_err(of_file)?.is_file() {
        return Err(format!("{} is no regular file, and cannot be read a second time", file.display()));
    }
    match fs::read_to_string(file).map_err(of_file)?.trim() {
        "" => Err(format!("{} is empty", file.display())),
        text => Ok(text.to_owned()),
    }
}

/// Whether an error says that the login is not good.
pub(super) fn is_refused(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed || error.code().is_some_and(is_refusal)
}

/// Whether an error's text begins with a code that says so.
pub(in crate::source) fn is_refusal(text: &str) -> bool {
    ["WRONGPASS", "NOAUTH"].iter().any(|code| text.starts_with(code))
}

/// It holds passwords.
impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logins")
    }
}
