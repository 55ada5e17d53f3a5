//! `steerd init`: a newcomer's first files, and the commands that it shows.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{Process, STEERD, dig, free_port, wait_for};
use crate::support::traffic::Sent;

/// Runs a copy of the program in `directory`, without the environment of the source tree.
fn run(directory: &Path, arguments: &[&str]) -> Output {
    let program = directory.join("steerd");
    if !program.exists() {
        symlink(STEERD, &program).unwrap();
    }
    let mut command = Command::new("./steerd");
    command.args(arguments).current_dir(directory).env_clear().stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The files in a directory, except for the program.
fn files(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<String> = entries.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| name != "steerd");
    names.sort();
    names
}

/// The commands in the text of `init` that begin with `word`.
fn commands(shown: &str, word: &str) -> Vec<String> {
    let lines = shown.lines().filter_map(|line| line.strip_prefix("  "));
    lines.filter(|line| line.starts_with(word)).map(str::to_owned).collect()
}

#[test]
fn without_arguments_it_writes_a_valid_example() {
    let directory = TempDir::new().unwrap();
    let output = run(directory.path(), &["init"]);
    let shown = text(&output.stdout);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert_eq!(files(directory.path()), ["lb.example.com.zone", "steerd.toml"]);
    assert!(shown.contains("192.0.2.53 and 198.51.100.53 are examples"), "{shown}");
    let check = commands(&shown, "./steerd check").pop().unwrap();
    let checked = Command::new("sh").args(["-c", &check]).current_dir(directory.path()).output().unwrap();
    assert!(checked.status.success() && checked.stderr.is_empty(), "{checked:?}");
    for line in shown.lines() {
        assert!(line.chars().count() < 100, "{line}");
    }
}

#[test]
fn addresses_that_were_given_are_no_examples_and_the_number_of_answers_has_its_reason() {
    let directory = TempDir::new().unwrap();
    let backends = ["192.0.2.11", "192.0.2.12", "192.0.2.13"];
    for (count, answers, reason) in [(2, 1, "shares follow the weights"), (3, 2, "tries the second")] {
        let mut arguments = vec!["init", "--force", "--server", "192.0.2.53"];
        arguments.extend(backends[..count].iter().flat_map(|backend| ["--backend", backend]));
        let output = run(directory.path(), &arguments);
        assert!(output.status.success(), "{output:?}");
        assert!(!text(&output.stdout).contains("are examples"), "{output:?}");
        let config = std::fs::read_to_string(directory.path().join("steerd.toml")).unwrap();
        let (before, _) = config.split_once(&format!("\nanswers = {answers}\n")).unwrap();
        let comment: Vec<&str> = before.lines().rev().take_while(|line| line.starts_with('#')).collect();
        assert!(comment.iter().any(|line| line.contains(reason)), "{comment:?}");
    }
}

#[test]
fn a_whole_zone_is_delegated_with_a_warning() {
    let directory = TempDir::new().unwrap();
    for (arguments, advice) in [
        (&["--name", "www.my.org"][..], Some("--name www.lb.my.org")),
        (&["--name", "my.org"], Some("--name www.lb.my.org")),
        (&["--name", "s3.eu.my.org", "--zone", "my.org"], Some("--name s3.eu.lb.my.org")),
        (&["--name", "www.lb.my.org"], None),
    ] {
        let output = run(directory.path(), &[&["init", "--force"], arguments].concat());
        let told = text(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        match advice {
            Some(advice) => {
                assert!(
                    told.contains("delegates all of my.org to steerd")
                        && told.ends_with(&format!("{advice}\n")),
                    "{told}"
                );
            }
            None => assert_eq!(told, "", "{arguments:?}"),
        }
    }
}

/// With backends that exist, every command shown works as it stands.
#[test]
fn the_commands_that_it_shows_work() {
    let directory = TempDir::new().unwrap();
    let (port, backend_port) = (free_port("127.0.0.1"), free_port("127.0.0.41"));
    let backend = std::net::TcpListener::bind(("127.0.0.41", backend_port)).unwrap();
    let listen = format!("127.0.0.1:{port}");
    let backend_address = backend.local_addr().unwrap().to_string();
    let output = run(
        directory.path(),
        &[
            "init",
            "a place",
            "--name",
            "www.shop.example.org",
            "--backend",
            &backend_address,
            "--listen",
            &listen,
            "--state-dir",
            "/tmp",
            "--server",
            "127.0.0.1",
            "--server",
            "::1",
        ],
    );
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(files(&directory.path().join("a place")), ["shop.example.org.zone", "steerd.toml"]);
    // Another server may use the port of the admin server.
    let path = directory.path().join("a place/steerd.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    assert!(config.contains("\nstate_dir = \"/tmp\"\n"), "{config}");
    let admin_port = free_port("127.0.0.1").to_string();
    let config = config.replace("state_dir =", "# state_dir =").replace("8053", &admin_port);
    std::fs::write(&path, config).unwrap();
    let sh = |line: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(directory.path());
        command
    };
    for word in ["./steerd check", "./steerd probe"] {
        let output = sh(&commands(&shown, word)[0]).output().unwrap();
        assert!(output.status.success(), "{word}: {output:?}");
    }
    let server = Process::start(&mut sh(&format!("exec {}", commands(&shown, "./steerd serve")[0])));
    wait_for("DNS is answered", || server.said("DNS is answered").pop());
    let output = sh(&commands(&shown, "dig")[0]).output().unwrap();
    assert_eq!(text(&output.stdout), "127.0.0.41\n");
    let output = sh(&commands(&shown, "./steerd status")[0]).output().unwrap();
    assert!(output.status.success() && text(&output.stdout).contains("web1"), "{output:?}");
    // The records for the parent are those of the zone.
    for line in commands(&shown, "shop.example.org.").iter().chain(&commands(&shown, "ns")) {
        let words: Vec<&str> = line.split(' ').collect();
        let [name, kind, data] = words[..] else { panic!("{line}") };
        let answers = dig(listen.parse().unwrap(), &Sent::default(), &[name, kind]);
        assert!(answers.contains(&data.to_owned()), "{line}: {answers:?}");
    }
    assert_eq!(commands(&shown, "ns").len(), 2);
}

#[test]
fn it_never_replaces_a_file_unless_forced() {
    let directory = TempDir::new().unwrap();
    let config = directory.path().join("steerd.toml");
    std::fs::write(&config, "mine").unwrap();
    let refused = run(directory.path(), &["init"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("steerd.toml exists; --force replaces it"), "{refused:?}");
    assert_eq!(files(directory.path()), ["steerd.toml"]);
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "mine");
    assert!(run(directory.path(), &["init", "--force"]).status.success());
    assert!(std::fs::read_to_string(&config).unwrap().contains("[zones.\"lb.example.com\"]"));
    let refused = run(directory.path(), &["init"]);
    assert!(text(&refused.stderr).contains("lb.example.com.zone exists"), "{refused:?}");
}

#[test]
fn arguments_without_sense_write_nothing() {
    let directory = TempDir::new().unwrap();
    for (arguments, code, expected) in [
        (&["--check", "8080"][..], 1, "make no valid configuration: `check` must be a URL"),
        (&["--backend", "192.0.2.1", "--backend", "192.0.2.1"], 1, "in this pool already"),
        (&["--name", "ns1.example.com"], 1, "ns1.example.com"),
        (&["--zone", "example.org"], 1, "www.lb.example.com"),
        (&["--listen", "0.0.0.0:53", "--listen", "127.0.0.1:53"], 1, "listen"),
        (&["--name", "*.example.com"], 2, "expected letters, digits and hyphens"),
        (&["--backend", "gw1:8080"], 2, "expected an IP address"),
    ] {
        let output = run(directory.path(), &[&["init", "new/below"], arguments].concat());
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
        assert!(files(directory.path()).is_empty(), "{arguments:?}: no directory is left behind");
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let output = run(directory.path(), &["init", "file/below"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("error: cannot write file/below"), "{output:?}");
}

/// Names at the top, names in other scripts, backends of both families with ports of their own.
#[test]
fn unusual_arguments_make_a_valid_configuration() {
    let directory = TempDir::new().unwrap();
    for (number, arguments) in [
        &["--name", "example.org"][..],
        &["--name", "localhost"],
        &["--name", "www.münchen.example"],
        &["--name", "a.b.c.example", "--zone", "c.example"],
        &["--backend", "192.0.2.1", "--backend", "[2001:db8::1]:8443", "--check", "http://:8080/healthz"],
        &["--backend", "192.0.2.1:1", "--backend", "192.0.2.2:2", "--backend", "192.0.2.3:1"],
        &["--listen", "0.0.0.0:53", "--listen", "[::]:53", "--server", "2001:db8::53"],
    ]
    .into_iter()
    .enumerate()
    {
        let place = number.to_string();
        let output = run(directory.path(), &[&["init", &place], arguments].concat());
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let config = format!("{place}/steerd.toml");
        let checked = run(directory.path(), &["check", "-c", &config]);
        assert!(checked.status.success(), "{arguments:?}: {checked:?}");
    }
}
