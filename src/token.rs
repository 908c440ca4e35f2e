//! `fanfare token` and `fanfare hash-password`: credentials that an operator issues. `fanfare token check`: what others are worth.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use fanfare::{
    auth::{AuthRules, Claims, FetchedKeys, Grants, hash_password},
    jwks::KeySetClient,
};

/// The claims of the token.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  fanfare token --config fanfare.toml --sub alice --subscribe 'orders.**' --ttl 1h
  FANFARE_AUTH__MODE=jwt FANFARE_AUTH__SECRET_FILE=jwt.key fanfare token --sub ops --role admin

The token is signed with the secret or the private key of the configuration and printed on standard output.")]
pub(crate) struct Options {
    /// Subject of the token: the user or service that will present it
    // An option only because `fanfare token check` needs none.
    #[arg(long, value_name = "NAME", required = true)]
    pub sub: Option<String>,
    /// Allow subscribing to topics that match PATTERN (`*` one segment, `**` all that follow); may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub subscribe: Vec<String>,
    /// Allow publishing to topics that match PATTERN; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub publish: Vec<String>,
    /// Role of the subject; `admin` has every right
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Display name of the subject
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
    let claims = Claims { sub: sub.unwrap_or_default(), subscribe, publish, role, username, ..Claims::default() };
    let ttl = ttl.unwrap_or_else(|| rules.settings().token_ttl);
    if ttl < Duration::from_secs(1) {
        return Err("a token is valid for a second at least".into());
    }
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let minted = rules.mint(claims, ttl, unix.as_secs());
    let minted = minted.ok_or("there is no key to sign with: set auth.secret_file or auth.private_key_file")?;
    Ok(minted.token)
}

/// What `token`, or with `-` the first line of standard input, is worth at a hub with `rules`: a line for each right. The error says why it
/// is refused. Neither has the token in it.
pub(crate) fn check(token: &str, rules: &AuthRules) -> Result<String, String> {
    if !rules.is_required() {
        return Err("no token is asked for with this configuration: set auth.mode = \"jwt\" (--config FILE)".into());
    }
    let token = match token {
        "-" => read_line().map_err(|error| format!("cannot read the token: {error}"))?,
        token => token.to_owned(),
    };
    let settings = rules.settings();
    let with_fetched = settings.key_set.is_used().then(|| {
        let client = KeySetClient::new(&settings.key_set, &settings.issuer).map_err(|error| error.to_string())?;
        let keys = FetchedKeys::parse(&client.fetch()?.text, &settings.algorithms)?;
        Ok(rules.with_fetched(keys))
    });
    let with_fetched = with_fetched.transpose().map_err(|error: String| format!("the key set: {error}"))?;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let explained = with_fetched.as_ref().unwrap_or(rules).explain(token.trim(), unix.as_secs_f64());
    explained.map(|lines| lines.join("\n")).map_err(|why| format!("refused: {why}"))
}

/// Hashes a password from standard input: at a terminal it is asked for twice, else it is the first line. It is never an
/// argument, as every user of the machine can read those.
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
