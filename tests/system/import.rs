//! `steerd import`, with the commands of `docs/MIGRATION.md` as they are written there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::STEERD;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import")
}

fn program(path: &Path, script: &str) {
    fs::write(path, script).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn every_command_of_the_migration_guide_works() {
    let directory = TempDir::new().unwrap();
    let here = directory.path();
    fs::create_dir_all(here.join("gdnsd/zones")).unwrap();
    for file in ["config", "zones/example.com"] {
        fs::copy(fixtures().join("gdnsd").join(file), here.join("gdnsd").join(file)).unwrap();
    }
    let programs = here.join("programs");
    fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(STEERD, programs.join("steerd")).unwrap();
    // Stands for the command of Amazon, which needs an account.
    let stand_in = format!(
        "#!/bin/sh\ncase $2 in\nlist-resource-record-sets) cat {0}/records.json ;;\nlist-health-checks) cat {0}/checks.json ;;\n\
         *) exit 1 ;;\nesac\n",
        fixtures().display()
    );
    program(&programs.join("aws"), &stand_in);

    let document =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/MIGRATION.md")).unwrap();
    let blocks: Vec<&str> =
        document.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 2);
    let mut said = String::new();
    for line in blocks.iter().flat_map(|block| block.lines()) {
        let output = Command::new("sh")
            .args(["-c", line])
            .current_dir(here)
            .env("PATH", format!("{}:{}", programs.display(), std::env::var("PATH").unwrap()))
            .output()
            .unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        said += &String::from_utf8(output.stdout).unwrap();
    }
    for expected in [
        "wrote from-gdnsd/steerd.toml",
        "8 services",
        "not carried over, or changed:",
        "-> give the addresses of its targets",
        "from-route53/steerd.toml is valid",
        "www.example.com: 3 backends",
    ] {
        assert!(said.contains(expected), "{expected} is not in:\n{said}");
    }
}

#[test]
fn faults_are_told_with_their_places() {
    let directory = TempDir::new().unwrap();
    let import = |kind: &str, text: &str| {
        let file = directory.path().join("input");
        fs::write(&file, text).unwrap();
        let output = Command::new(STEERD)
            .args(["import", kind])
            .arg(&file)
            .arg("--out")
            .arg(directory.path().join("out"))
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!directory.path().join("out").exists(), "nothing is written");
        String::from_utf8(output.stderr).unwrap()
    };
    let said = import("gdnsd", "options => {\n  listen = [ 127.0.0.1\n}\n");
    assert!(said.contains("input:3:1: a text is expected, not `}`"), "{said}");
    let said = import("route53", "{\"ResourceRecordSets\": [}");
    assert!(said.contains("is no JSON") && said.contains("line 1 column"), "{said}");
    let said = import("route53", "{\"HostedZones\": []}");
    assert!(said.contains("list-resource-record-sets"), "{said}");
}
