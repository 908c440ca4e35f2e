//! Standard output and standard error, which may be closed or full: `println!` and similar macros panic then, and a panic ends
//! the process (`tests/arrows` finds them).

use std::{
    fmt::Display,
    io::{self, ErrorKind, Write},
};

/// Writes `text` to standard output. A closed pipe (`| head`) is not an error.
pub fn print(text: impl Display) -> Result<(), String> {
    let mut output = io::stdout().lock();
    match write!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("cannot print: {error}")),
        _ => Ok(()),
    }
}

/// Writes `text` as a line to standard error. Errors are ignored: there is nowhere to report them.
pub fn report(text: impl Display) {
    // In one call, so that lines of several threads or processes do not mix.
    let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
}
