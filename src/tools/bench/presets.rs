//! The scenarios of `bench/README.md` by name: `fanfare bench S2` stands for the flags of S2; flags that follow take
//! precedence.

use std::ffi::OsString;

/// A scenario's name, description and flags.
type Preset = (&'static str, &'static str, &'static [&'static str]);

const PRESETS: &[Preset] = &[
    ("S1", "the cost of idle connections", &["--subscribers", "9500", "--idle"]),
    ("S2", "one topic to all subscribers", &["--subscribers", "9500", "--rate", "8"]),
    (
        "S3",
        "each event to one subscriber among many",
        &["--topics", "9500", "--subscribers", "9500", "--rate", "1000", "--arrivals", "poisson"],
    ),
    (
        "S4",
        "a small topic beside a large one",
        &[
            "--topic",
            "large",
            "--subscribers",
            "9000",
            "--rate",
            "8",
            "--second-topic",
            "small",
            "--second-subscribers",
            "10",
            "--second-rate",
            "50",
            "--second-transport",
            "sse",
        ],
    ),
    (
        "S5",
        "a thousand small topics, 50,000 deliveries a second",
        &["--topics", "1000", "--subscribers", "10000", "--rate", "5000"],
    ),
    ("S6", "more events than can be sent one by one", &["--subscribers", "500", "--rate", "1000"]),
    ("S7", "one subscriber in a hundred never reads", &["--subscribers", "990", "--rate", "50", "--stalled", "10"]),
    (
        "S8",
        "connections come and go beside many that stay",
        &["--subscribers", "950", "--rate", "50", "--churn", "500", "--churn-mixed", "--churn-stay", "100ms"],
    ),
    (
        "S9",
        "all connections are cut at once and resume",
        &[
            "--transport",
            "sse",
            "--subscribers",
            "9501",
            "--rate",
            "4",
            "--warmup",
            "1s",
            "--duration",
            "2s",
            "--storm",
            "20",
        ],
    ),
    ("S10", "heartbeats of idle connections", &["--subscribers", "9500", "--idle", "--duration", "60s"]),
    ("S12", "large payloads", &["--subscribers", "1000", "--rate", "8", "--size", "16384"]),
    ("S15", "S2 in a Socket.IO room", &["--transport", "socketio", "--subscribers", "9500", "--rate", "8"]),
    ("S11", "the rate at which the latency of S2 rises", &["--subscribers", "9500", "--rate", "8", "--ladder"]),
];

/// The command line with a scenario's flags in place of its name, if the command is `bench` and its first word is one.
/// Fails on a scenario that one run cannot make, and says what makes it.
pub fn expand_preset(arguments: impl Iterator<Item = OsString>) -> Result<Vec<OsString>, String> {
    let mut arguments: Vec<OsString> = arguments.collect();
    let is_bench = arguments.get(1).is_some_and(|command| command == "bench");
    let Some(name) = arguments.get(2).filter(|_| is_bench).and_then(|name| name.to_str()) else { return Ok(arguments) };
    let Some(number) = name.strip_prefix(['S', 's']).filter(|rest| rest.parse::<u8>().is_ok()) else {
        return Ok(arguments);
    };
    let name = format!("S{number}");
    let (_, _, flags) = PRESETS.iter().find(|(preset, ..)| *preset == name).ok_or_else(|| unknown(&name))?;
    arguments.splice(2..3, flags.iter().map(OsString::from));
    Ok(arguments)
}

/// The list of scenarios in `--help`.
pub(super) fn list() -> String {
    let rows = PRESETS.iter().map(|(name, what, flags)| format!("  {name:4} {what}\n       {}\n", flags.join(" ")));
    "Scenarios, given as the first word; flags after it take precedence:\n".to_owned() + &rows.collect::<String>()
}

fn unknown(name: &str) -> String {
    let known: Vec<&str> = PRESETS.iter().map(|(name, ..)| *name).collect();
    let known = known.join(", ");
    match name {
        "S13" => "S13 counts instructions: run bench/instructions".to_owned(),
        "S14" | "S16" => format!("{name} needs more than one run: run bench/run {name}"),
        _ => format!("{name} is no scenario of one run; there are {known}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(line: &str) -> Result<String, String> {
        let words = expand_preset(line.split(' ').map(OsString::from))?;
        Ok(words.iter().map(|word| word.to_str().expect("ASCII")).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn names_become_flags() {
        let check = |line: &str, expected: &str| assert_eq!(expand(line).as_deref(), Ok(expected), "{line}");
        check("fanfare bench S2 --rate 4", "fanfare bench --subscribers 9500 --rate 8 --rate 4");
        check("fanfare bench s6", "fanfare bench --subscribers 500 --rate 1000");
        for line in ["fanfare bench", "fanfare bench --rate 4 S2", "fanfare publish S2", "fanfare"] {
            check(line, line);
        }
    }

    #[test]
    fn what_one_run_cannot_make_is_told() {
        let check = |name: &str, expected: &str| {
            let problem = expand(&format!("fanfare bench {name}")).expect_err("no such preset");
            assert!(problem.contains(expected), "{problem}");
        };
        check("S13", "bench/instructions");
        check("S14", "bench/run S14");
        check("S99", "S1, S2, S3, S4");
    }

    #[test]
    fn every_preset_is_a_plan() {
        for (name, _, flags) in PRESETS {
            let plan = super::super::tests::plan(flags);
            assert!(plan.is_ok(), "{name}: {plan:?}");
        }
    }
}
