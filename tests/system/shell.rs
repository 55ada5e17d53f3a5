//! Completions and manual pages, in the programs that read them.

use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::STEERD;
use crate::support::program;

fn steerd(arguments: &[&str]) -> Output {
    Command::new(STEERD).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The words that bash offers after `line`, whose last word is begun.
fn completed(line: &str) -> Vec<String> {
    let script = format!(
        "source <({STEERD} completions bash)
        complete -p steerd >/dev/null || exit 1
        COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}
        IFS=' ' read -ra COMP_WORDS <<<'{line}x'; COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        COMP_WORDS[COMP_CWORD]=${{COMP_WORDS[COMP_CWORD]%x}}
        _steerd steerd \"${{COMP_WORDS[COMP_CWORD]}}\" \"${{COMP_WORDS[COMP_CWORD - 1]}}\"
        printf '%s\\n' \"${{COMPREPLY[@]}}\""
    );
    let output = Command::new(program("bash")).args(["--norc", "-c", &script]).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_and_values() {
    assert_eq!(completed("steerd chec"), ["check"]);
    assert_eq!(completed("steerd fail"), ["failback", "failover"]);
    assert_eq!(completed("steerd init --ba"), ["--backend"]);
    assert_eq!(completed("steerd serve --log-format j"), ["json"]);
    assert_eq!(completed("steerd completions z"), ["zsh"]);
    let options = completed("steerd drain --");
    for option in ["--for", "--reason", "--force", "--admin", "--config"] {
        assert!(options.iter().any(|offered| offered == option), "{option}: {options:?}");
    }
}

#[test]
fn every_shell_gets_a_script_of_its_own() {
    let scripts: Vec<String> = ["bash", "zsh", "fish", "elvish", "powershell"]
        .iter()
        .map(|shell| {
            let output = steerd(&["completions", shell]);
            assert!(output.status.success(), "{output:?}");
            text(&output.stdout)
        })
        .collect();
    for (script, sign) in scripts.iter().zip([
        "complete -F _steerd",
        "#compdef steerd",
        "complete -c steerd",
        "edit:completion",
        "Register-ArgumentCompleter",
    ]) {
        assert!(script.contains(sign), "{sign}");
    }
    assert_eq!(steerd(&["completions", "csh"]).status.code(), Some(2));
}

/// The commands that `steerd --help` lists.
fn commands() -> Vec<String> {
    let help = text(&steerd(&["--help"]).stdout);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let names = list
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .map(|line| line.split_whitespace().next().unwrap().to_owned())
        .filter(|name| name != "help")
        .collect()
}

#[test]
fn there_is_a_manual_page_for_each_command_and_it_is_well_formed() {
    let directory = TempDir::new().unwrap();
    let pages = directory.path().join("man/man1");
    let output = steerd(&["man", "--dir", pages.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let mut written: Vec<String> = std::fs::read_dir(&pages)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    written.sort();
    let mut expected: Vec<String> = commands().iter().map(|name| format!("steerd-{name}.1")).collect();
    expected.push("steerd.1".into());
    expected.sort();
    assert_eq!(written, expected);
    let mut lint = Command::new(program("mandoc"));
    lint.arg("-Tlint").args(written.iter().map(|name| pages.join(name)));
    let output = lint.output().unwrap();
    let blamed = text(&output.stdout) + &text(&output.stderr);
    // References are looked up among the pages of the machine, which has none of steerd.
    let blamed: Vec<&str> =
        blamed.lines().filter(|line| !line.contains("referenced manual not found")).collect();
    assert!(blamed.is_empty(), "{blamed:#?}");
}

#[test]
fn the_manual_pages_say_what_the_help_says() {
    let rendered = |page: &[u8]| {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("page.1");
        std::fs::write(&path, page).unwrap();
        let output =
            Command::new(program("mandoc")).args(["-Tascii", "-Owidth=200"]).arg(&path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        // Bold and underlined characters are struck twice.
        let mut shown = String::new();
        for char in text(&output.stdout).chars() {
            if char == '\u{8}' {
                shown.pop();
            } else {
                shown.push(char);
            }
        }
        shown
    };
    let main = rendered(&steerd(&["man"]).stdout);
    for part in [
        "NAME",
        "SYNOPSIS",
        "EXAMPLES",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "steerd-failover(1)",
        "STEERD_CONFIG",
        "/etc/steerd/steerd.toml",
    ] {
        assert!(main.contains(part), "{part}:\n{main}");
    }
    assert!(
        main.contains("\n     steerd demo ") || main.contains("\n       steerd demo "),
        "examples are lines:\n{main}"
    );
    let directory = TempDir::new().unwrap();
    let epoch = Command::new(STEERD)
        .args(["man", "--dir"])
        .arg(directory.path())
        .env("SOURCE_DATE_EPOCH", "86400")
        .output()
        .unwrap();
    assert!(epoch.status.success());
    let status = rendered(&std::fs::read(directory.path().join("steerd-status.1")).unwrap());
    assert!(status.contains("--watch") && status.contains("1970-01-02"), "{status}");
}
