//! `steerd man`: the manual pages, one for the program and one for each command.
//!
//! They are made from the definition of the command line, so they say the same as `--help`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Command};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use jiff::Timestamp;

use crate::cli::{CONFIG_VARIABLE, DEFAULT_CONFIG, PROGRAM, complain, print, print_as_it_is};
use crate::printable::printable;

#[derive(Debug, Args)]
pub(super) struct Manual {
    /// Write all pages into this directory, which is created if it is missing; otherwise only the page of steerd itself is printed
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// The longest line of a page that `mandoc` accepts, bytes.
const LINE: usize = 80;

/// The words that begin the last parts of a help text, and the sections that a page has for them.
const SECTIONS: [(&str, &str); 2] = [("Examples:", "EXAMPLES"), ("Exit codes:", "EXIT STATUS")];

pub(super) fn run(manual: &Manual, command: Command) -> ExitCode {
    // `steerd help` has no page, and no place in the list of commands.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    match &manual.dir {
        None => {
            print_as_it_is(page(&command).trim_end());
            ExitCode::SUCCESS
        }
        Some(directory) => match write_all(&command, directory) {
            Ok(count) => {
                print(&format!("{count} manual pages are in {}", directory.display()));
                ExitCode::SUCCESS
            }
            Err(error) => {
                let shown = directory.to_string_lossy();
                complain(&format!("error: cannot write manual pages into {}: {error}", printable(&shown)));
                ExitCode::FAILURE
            }
        },
    }
}

/// Writes all pages into a directory, and returns their number.
fn write_all(command: &Command, directory: &Path) -> io::Result<usize> {
    std::fs::create_dir_all(directory)?;
    let pages: Vec<&Command> = std::iter::once(command).chain(command.get_subcommands()).collect();
    for command in &pages {
        std::fs::write(directory.join(format!("{}.1", name(command))), page(command))?;
    }
    Ok(pages.len())
}

/// The name of a page: `steerd`, or `steerd-serve`.
fn name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

/// A page in the language of man(7).
fn page(command: &Command) -> String {
    let mut page = Vec::new();
    // Writing to memory does not fail.
    let _ = write_page(command, &mut page);
    tidy(&String::from_utf8_lossy(&page))
}

fn write_page(command: &Command, page: &mut dyn Write) -> io::Result<()> {
    let is_program = command.has_subcommands();
    let version = env!("CARGO_PKG_VERSION");
    let man = Man::new(command.clone())
        .title(name(command).to_uppercase())
        .date(date())
        .source(format!("{PROGRAM} {version}"))
        .manual("steerd Manual");
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)?;
    if is_program {
        man.render_subcommands_section(page)?;
    }
    let mut rest = Roff::default();
    for (heading, lines) in parts(&command.get_after_help().map(ToString::to_string).unwrap_or_default()) {
        rest.control("SH", [heading]);
        // As they are: examples have columns.
        rest.control("nf", []);
        for line in lines {
            rest.text([roman(line)]);
        }
        rest.control("fi", []);
    }
    if is_program {
        rest.control("SH", ["ENVIRONMENT"]);
        rest.text([roman(format!(
            "{CONFIG_VARIABLE} has the path of the configuration file, if no option gives it."
        ))]);
        rest.control("SH", ["FILES"]);
        rest.text([roman(format!("{DEFAULT_CONFIG} is the configuration file, unless another is given."))]);
    }
    rest.control("SH", ["SEE ALSO"]);
    let other = if is_program { "steerd-serve(1), steerd-check(1), steerd-init(1)" } else { "steerd(1)" };
    rest.text([roman(other)]);
    rest.to_writer(page)
}

/// The day on which the pages are made; for a build that can be repeated, that of `SOURCE_DATE_EPOCH`.
fn date() -> String {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse().ok());
    let time = told.and_then(|seconds| Timestamp::from_second(seconds).ok()).unwrap_or_else(Timestamp::now);
    time.strftime("%Y-%m-%d").to_string()
}

/// The page with lines of at most 80 bytes, without the spaces and breaks for which `mandoc -Tlint` blames it.
fn tidy(page: &str) -> String {
    let lines: Vec<&str> = page.lines().map(str::trim_end).collect();
    let (mut tidied, mut as_it_is) = (String::new(), false);
    for (at, line) in lines.iter().enumerate() {
        let is_space = |other: Option<usize>| other.and_then(|other| lines.get(other)) == Some(&"");
        match *line {
            ".nf" => as_it_is = true,
            ".fi" => as_it_is = false,
            ".br" if is_space(at.checked_sub(1)) || is_space(Some(at + 1)) => continue,
            _ => {}
        }
        if as_it_is || line.starts_with('.') {
            tidied += line;
        } else {
            let mut length = 0;
            for (number, word) in line.split(' ').enumerate() {
                // A line that begins with one of these would be a command.
                let breaks = length + 1 + word.len() > LINE && !word.starts_with(['.', '\'']);
                if number > 0 {
                    tidied.push(if breaks { '\n' } else { ' ' });
                    length = if breaks { 0 } else { length + 1 };
                }
                tidied += word;
                length += word.len();
            }
        }
        tidied.push('\n');
    }
    tidied
}

/// The parts of the text after the options, each with the heading of its section.
fn parts(text: &str) -> Vec<(&'static str, Vec<&str>)> {
    let mut parts: Vec<(&str, Vec<&str>)> = Vec::new();
    for paragraph in text.split("\n\n") {
        let begun =
            SECTIONS.iter().find_map(|(word, heading)| Some((heading, paragraph.strip_prefix(word)?)));
        let (heading, rest) = begun.map_or(("NOTES", paragraph), |(heading, rest)| (*heading, rest));
        let lines: Vec<&str> = rest.lines().map(str::trim_start).filter(|line| !line.is_empty()).collect();
        match parts.iter_mut().find(|(known, _)| *known == heading) {
            _ if lines.is_empty() => {}
            Some((_, known)) => known.extend(lines),
            None => parts.push((heading, lines)),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_parts_of_a_help_text_become_sections() {
        let text = "Examples:\n  steerd a    one\n  steerd b    two\n\nMore to\nknow.\n\nExit codes: 0 done; 2 usage.";
        assert_eq!(
            parts(text),
            [
                ("EXAMPLES", vec!["steerd a    one", "steerd b    two"]),
                ("NOTES", vec!["More to", "know."]),
                ("EXIT STATUS", vec!["0 done; 2 usage."]),
            ]
        );
        assert!(parts("").is_empty());
    }
}
