//! `fanfare token` and `fanfare hash-password`: what an operator needs to let somebody in.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use fanfare::auth::{AuthRules, Claims, Grants, hash_password};

/// What the token says.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare token --config fanfare.toml --sub alice --subscribe 'orders.**' --ttl 1h
  FANFARE_AUTH__MODE=jwt FANFARE_AUTH__SECRET_FILE=jwt.key fanfare token --sub ops --role admin

It is signed with the secret or the private key of the configuration, and printed on standard output.")]
pub(crate) struct Options {
    /// Whom it is for
    #[arg(long, value_name = "NAME")]
    pub sub: String,
    /// Let it listen to topics of PATTERN (`*` one segment, `**` the rest); may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub subscribe: Vec<String>,
    /// Let it publish to topics of PATTERN; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub publish: Vec<String>,
    /// Its role; `admin` may do everything
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Its name for people
    #[arg(long, value_name = "NAME")]
    pub username: Option<String>,
}

/// The token that `options` describe, by the keys of `rules`, valid for `ttl` or as long as these say.
pub(crate) fn mint(options: Options, ttl: Option<Duration>, rules: &AuthRules) -> Result<String, String> {
    if !rules.is_required() {
        return Err("no token is asked for with this configuration: set auth.mode = \"jwt\" (--config FILE)".into());
    }
    Grants::parse(&options.subscribe)?;
    Grants::parse(&options.publish)?;
    let Options { sub, subscribe, publish, role, username } = options;
    let claims = Claims { sub, subscribe, publish, role, username, ..Claims::default() };
    let ttl = ttl.unwrap_or_else(|| rules.settings().token_ttl);
    if ttl < Duration::from_secs(1) {
        return Err("a token is valid for a second at least".into());
    }
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let minted = rules.mint(claims, ttl, unix.as_secs());
    let minted = minted.ok_or("there is no key to sign with: set auth.secret_file or auth.private_key_file")?;
    Ok(minted.token)
}

/// The hash of a password, which is read from standard input: asked for twice at a terminal, else its first line. Never an
/// argument: those can be seen by everybody on the machine.
pub(crate) fn hash() -> Result<String, String> {
    let cannot_read = |error: io::Error| format!("cannot read the password: {error}");
    if !io::stdin().is_terminal() {
        return hash_password(&read_line().map_err(cannot_read)?);
    }
    let password = ask("Password: ").map_err(cannot_read)?;
    if ask("Again: ").map_err(cannot_read)? != password {
        return Err("the two are not the same".into());
    }
    hash_password(&password)
}

/// Reads a line that the terminal does not show.
fn ask(question: &str) -> io::Result<String> {
    io::stderr().write_all(question.as_bytes())?;
    let shown = tcgetattr(io::stdin())?;
    let mut hidden = shown.clone();
    hidden.local_modes.remove(LocalModes::ECHO);
    tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
    let line = read_line();
    tcsetattr(io::stdin(), OptionalActions::Flush, &shown)?;
    io::stderr().write_all(b"\n")?;
    line
}

fn read_line() -> io::Result<String> {
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
