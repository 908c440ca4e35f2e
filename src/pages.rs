//! What the arguments look like to a shell and to `man`: made of the same as `--help`.

use std::{fs, io, path::Path};

use clap::Command;
use clap_complete::{Shell, generate};
use clap_mangen::{
    Man,
    roff::{Roff, roman},
};
use fanfare_platform::stdio;

/// Prints the completions of `command` for `shell`.
pub(crate) fn print_completions(shell: Shell, mut command: Command) -> Result<(), String> {
    let name = command.get_name().to_owned();
    let mut text = Vec::new();
    generate(shell, &mut command, name, &mut text);
    stdio::print(String::from_utf8_lossy(&text))
}

/// Writes a page for `command`, and one for each of its commands, to `folder`.
pub(crate) fn write_man(folder: &Path, command: Command) -> Result<(), String> {
    // `help` is no command of its own; its pages would say nothing.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    write_pages(folder, &command).map_err(|error| format!("cannot write man pages to {}: {error}", folder.display()))
}

fn write_pages(folder: &Path, command: &Command) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(folder, subcommand)?;
    }
    let man = Man::new(command.clone());
    fs::write(folder.join(man.get_filename()), render(&man, command)?)
}

/// The library's own rendering, but for what stands behind the options: there lines are examples, and stay as they are.
fn render(man: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(notes) = command.get_after_long_help().or_else(|| command.get_after_help()) {
        let mut roff = Roff::new();
        roff.control("SH", ["NOTES"]).control("nf", []);
        for line in notes.to_string().lines() {
            roff.text([roman(line)]);
        }
        roff.control("fi", []).to_writer(&mut page)?;
    }
    if command.get_version().is_some() {
        man.render_version_section(&mut page)?;
    }
    Ok(page)
}
