//! Runs the examples of one page.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    exchange,
    page::Block,
    process::{Process, difference},
    shown::Ids,
};
use crate::support::{
    Folder,
    hub::Hub,
    packages::{node_examples, python},
    redis::RedisServer,
};

/// The addresses that pages show for the hub and for its Redis.
const HUB: &str = "127.0.0.1:8080";
const REDIS: &str = "127.0.0.1:6379";

/// Runs before each command: restores the state that an earlier one left, and provides the programs that a reader of the page has.
const PRELUDE: &str = r#"
exec 2>&1
set -a
[ -e "$PAGE_STATE" ] && . "$PAGE_STATE"
curl() { command curl --silent --show-error "$@"; }
redis-cli() { command redis-cli -h "${REDIS_ADDRESS%:*}" -p "${REDIS_ADDRESS#*:}" "$@"; }
fanfare() {
    if [ "$1" = serve ]; then FANFARE_SERVER__LISTEN=127.0.0.1:0 command fanfare "$@"; else command fanfare "$@"; fi
}
trap 'export -p > "$PAGE_STATE"' EXIT
"#;

/// A page that is being run.
pub(super) struct Player {
    ids: Ids,
    folder: Folder,
    hub: Option<Hub>,
    redis: Option<RedisServer>,
    /// The hub of the blocks marked `redis`.
    hub_on_redis: Option<Hub>,
    /// Examples that run on, the line where each stands, and what it has yet to print.
    running: Vec<(usize, Process, Vec<String>)>,
    is_on_redis: bool,
}

impl Player {
    pub(super) fn new() -> Self {
        Self {
            ids: Ids::default(),
            folder: Folder::new(),
            hub: None,
            redis: None,
            hub_on_redis: None,
            running: Vec::new(),
            is_on_redis: false,
        }
    }

    pub(super) fn play(&mut self, block: &Block) -> Result<(), String> {
        if block.reason_not_run().is_some() {
            return Ok(());
        }
        self.is_on_redis = false;
        match block.directive.split_once(' ').unwrap_or((&block.directive, "")) {
            ("", "") => {}
            ("redis", "") => self.is_on_redis = true,
            ("serve", flags) => {
                let flags = self.real(flags);
                self.start_hub(&flags.split_whitespace().collect::<Vec<_>>())?;
            }
            ("hub", "") if block.tag == "toml" => {}
            _ => return Err(format!("an unknown comment before a block: {:?}", block.directive)),
        }
        match block.tag.as_str() {
            "console" => self.play_console(block),
            "v1" => exchange::play_socket(self, &block.lines, &["fanfare.v1"]),
            "ws" => exchange::play_socket(self, &block.lines, &[]),
            "http" => exchange::play_http(self, &block.lines),
            "toml" => self.play_toml(block),
            "json" => check_json(&block.lines),
            "js" => self.play_program(block, "// → "),
            "python" => self.play_program(block, "# → "),
            "text" => Ok(()),
            other => Err(format!("an unknown tag of a block: {other:?}")),
        }?;
        let ids = &mut self.ids;
        self.running.retain_mut(|(_, process, shown)| !process.has_printed(shown, ids));
        Ok(())
    }

    /// All that runs on has to have printed what is shown. The error begins with the line of the block that did not.
    pub(super) fn finish(&mut self) -> Result<(), String> {
        for (line, mut process, shown) in self.running.drain(..) {
            let failure = process.wait_for(&shown, &mut self.ids);
            failure.map_err(|failure| format!("{line}: it runs on, and {failure}"))?;
        }
        Ok(())
    }

    fn play_console(&mut self, block: &Block) -> Result<(), String> {
        let mut lines = block.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let Some(mut command) = line.strip_prefix("$ ").map(str::to_owned) else {
                return Err(format!("a command begins with `$ `, not with {line:?}"));
            };
            while command.ends_with('\\') {
                command.push('\n');
                command.push_str(lines.next().map_or("", String::as_str));
            }
            let mut shown = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                shown.push(line.clone());
            }
            self.run_command(block.line, &command, shown).map_err(|failure| format!("$ {command}\n{failure}"))?;
        }
        Ok(())
    }

    fn run_command(&mut self, line: usize, command: &str, mut shown: Vec<String>) -> Result<(), String> {
        let runs_on = shown.last().is_some_and(|last| last == "^C");
        let process = Process::start(self.shell(command))?;
        if runs_on {
            shown.pop();
        }
        let shown = self.here(&shown);
        if runs_on {
            return self.go_on_beside(line, process, shown);
        }
        let (printed, succeeded) = process.finish()?;
        if !self.ids.match_lines(&shown, &printed) {
            return Err(difference(&shown, &printed, "it prints something else"));
        }
        if shown.is_empty() && !succeeded { Err("it fails".to_owned()) } else { Ok(()) }
    }

    /// Runs `command`, which must succeed, whatever it prints.
    pub(super) fn run_meanwhile(&mut self, command: &str) -> Result<(), String> {
        let (printed, succeeded) = Process::start(self.shell(command))?.finish()?;
        if succeeded { Ok(()) } else { Err(format!("$ {command}\nfails; it printed:\n{}", printed.join("\n"))) }
    }

    fn go_on_beside(&mut self, line: usize, mut process: Process, shown: Vec<String>) -> Result<(), String> {
        process.wait_for(&shown[..shown.len().min(1)], &mut self.ids)?;
        self.running.push((line, process, shown));
        Ok(())
    }

    fn play_program(&mut self, block: &Block, mark: &str) -> Result<(), String> {
        let shown: Vec<String> =
            block.lines.iter().filter_map(|line| Some(line.split_once(mark)?.1.to_owned())).collect();
        let text = self.real(&block.lines.join("\n"));
        let mut command = match block.tag.as_str() {
            "js" => Command::new("node"),
            _ => Command::new(python()),
        };
        match block.tag.as_str() {
            "js" => command.current_dir(node_examples()).args(["--input-type=module", "--eval", &text]),
            _ => command.current_dir(&self.folder.0).args(["-u", "-c", &text]),
        };
        let process = Process::start(command)?;
        if !shown.is_empty() {
            let shown = self.here(&shown);
            return self.go_on_beside(block.line, process, shown);
        }
        let (printed, succeeded) = process.finish()?;
        if succeeded { Ok(()) } else { Err(format!("it fails; it printed:\n{}", printed.join("\n"))) }
    }

    fn play_toml(&mut self, block: &Block) -> Result<(), String> {
        let name = block.lines.first().and_then(|line| line.strip_prefix("# ")).filter(|name| is_file_name(name));
        let name = name.unwrap_or("fanfare.toml");
        let path = self.folder.path(name);
        fs::write(&path, self.real(&block.lines.join("\n"))).map_err(|error| format!("{path}: {error}"))?;
        if name == "fanfare.toml" {
            self.run_meanwhile("fanfare config check --config fanfare.toml")?;
        }
        if block.directive == "hub" {
            self.start_hub(&["--config", &path])?;
        }
        Ok(())
    }

    /// Replaces the page's hub, once the running examples have finished with it.
    fn start_hub(&mut self, flags: &[&str]) -> Result<(), String> {
        self.finish().map_err(|failure| format!("before there is another hub: line {failure}"))?;
        self.hub = None;
        self.hub = Some(Hub::start_with(flags, &[]));
        Ok(())
    }

    /// The hub that the present block is about.
    pub(super) fn hub(&mut self) -> &Hub {
        if self.is_on_redis {
            let redis = self.redis.get_or_insert_with(RedisServer::start).url();
            return self.hub_on_redis.get_or_insert_with(|| {
                let hub = Hub::start_with(&["--redis", &redis], &[]);
                crate::support::wait_until("the hub has its Redis", || (hub.get("/ready").status == 200).then_some(()));
                hub
            });
        }
        self.hub.get_or_insert_with(Hub::start)
    }

    fn redis_address(&mut self) -> String {
        let redis = self.redis.get_or_insert_with(RedisServer::start);
        format!("{}:{}", redis.host(), redis.port())
    }

    /// Text of the page that is sent to a hub, with this run's addresses and ids, and the values of `$NAME`.
    pub(super) fn said(&mut self, text: &str) -> String {
        let text = self.real(text);
        self.variables().iter().fold(text, |text, (name, value)| text.replace(&format!("${name}"), value))
    }

    /// The page's exported variables, the longest name first.
    fn variables(&self) -> Vec<(String, String)> {
        let state = fs::read_to_string(self.folder.path(".state")).unwrap_or_default();
        let declared = state.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("declare -x ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('"').to_owned()))
        });
        let mut variables: Vec<_> = declared.collect();
        variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        variables
    }

    /// Text of the page, with the addresses and ids of this run.
    pub(super) fn real(&mut self, text: &str) -> String {
        let text = self.ids.fill_in(text);
        self.with_addresses(&text)
    }

    /// Output that the page shows, with the addresses of this run.
    pub(super) fn here(&mut self, shown: &[String]) -> Vec<String> {
        shown.iter().map(|line| self.with_addresses(line)).collect()
    }

    fn with_addresses(&mut self, text: &str) -> String {
        let mut text = text.to_owned();
        if text.contains(HUB) {
            text = text.replace(HUB, self.hub().address());
        }
        if text.contains(REDIS) {
            text = text.replace(REDIS, &self.redis_address());
        }
        text
    }

    /// Whether the output is as the page shows it.
    pub(super) fn is_shown(&mut self, shown: &str, real: &str) -> bool {
        let shown = self.with_addresses(shown);
        self.ids.match_line(&shown, real)
    }

    /// The same of lines whose addresses are those of this run.
    pub(super) fn is_shown_lines(&mut self, shown: &[String], real: &[String]) -> bool {
        self.ids.match_lines(shown, real)
    }

    fn shell(&mut self, command: &str) -> Command {
        let script = format!("{PRELUDE}\n{}\n", self.real(command));
        let program = Path::new(env!("CARGO_BIN_EXE_fanfare"));
        let folders = env::var_os("PATH").unwrap_or_default();
        let folders = [PathBuf::from(program.parent().expect("a program is in a folder"))]
            .into_iter()
            .chain(env::split_paths(&folders));
        let mut shell = Command::new("bash");
        // The hub would take variables of the test run for keys.
        let own = env::vars_os().map(|(name, _)| name).filter(|name| name.to_string_lossy().starts_with("FANFARE_"));
        for name in own {
            shell.env_remove(name);
        }
        shell.args(["-c", &script]).current_dir(&self.folder.0);
        shell.env("PATH", env::join_paths(folders).expect("the path was one"));
        shell.env("PAGE_STATE", self.folder.path(".state"));
        if command.contains("redis-cli") {
            shell.env("REDIS_ADDRESS", self.redis_address());
        }
        shell
    }
}

/// Whether the first comment of a configuration names its file.
fn is_file_name(comment: &str) -> bool {
    comment.ends_with(".toml") && !comment.contains([' ', '/'])
}

fn check_json(lines: &[String]) -> Result<(), String> {
    let parsed: Result<serde_json::Value, _> = serde_json::from_str(&lines.join("\n"));
    parsed.map(drop).map_err(|error| format!("not JSON: {error}"))
}
