//! The admin API against its `OpenAPI` document: a walk through every operation whose replies are validated, and
//! schemathesis, which sends what the document allows and what it forbids.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::harness::ZONE;
use crate::support::{Steerd, TOKEN};

const CONFIG: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
     [pools.web]\nbackends = [\n\
     { name = \"one\", address = \"192.0.2.11\", site = \"a\" },\n\
     { name = \"two\", address = \"192.0.2.12\", site = \"b\" },\n\
     { name = \"three\", address = \"192.0.2.13\", site = \"a\" },\n]\n\
     [pools.standby]\nbackends = [{ name = \"other\", address = \"192.0.2.21\" }]\n\
     [services.\"www.lb.example.test\"]\npools = [\"web\", \"standby\"]\n";

/// Random requests of each kind for each operation. A whole run is made before a release.
const EXAMPLES: u32 = 8;
const MANY_EXAMPLES: u32 = 300;

fn start() -> Steerd {
    let server = Steerd::start(CONFIG, &[("zone", ZONE), ("token", TOKEN)]);
    server.configure(CONFIG, "token_file = \"token\"");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    server
}

/// A program of the environment of `tests/api/requirements.txt`.
fn tool(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-api/bin").join(name);
    assert!(path.exists(), "{} is missing: tests/run installs it", path.display());
    path
}

fn assert_finds_nothing(command: &mut Command) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    assert!(status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn every_reply_is_as_described() {
    let server = start();
    let walk = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/walk.py");
    assert_finds_nothing(
        Command::new(tool("python")).arg(walk).args([format!("http://{}", server.admin), TOKEN.into()]),
    );
}

#[test]
fn random_requests_find_nothing() {
    let server = start();
    let examples =
        if env::var_os("STEERD_API").is_some_and(|size| size == "full") { MANY_EXAMPLES } else { EXAMPLES };
    let url = format!("http://{}", server.admin);
    let mut run = Command::new(tool("st"));
    let source = |path: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    run.current_dir(server.directory.path()).arg("--config-file").arg(source("tests/api/schemathesis.toml"));
    run.arg("run").arg(source("src/admin/openapi.json")).args(["--url", &url]);
    run.args(["--header", &format!("Authorization: Bearer {TOKEN}"), "--header", "Accept: application/json"]);
    run.args([
        "--max-examples",
        &examples.to_string(),
        "--phases",
        "examples,coverage,fuzzing",
        "--no-color",
    ]);
    run.args(["--mode", "all", "--checks", "all", "--request-timeout", "10", "--continue-on-failure"]);
    run.args(["--generation-database", "none", "--suppress-health-check", "all", "--warnings", "off"]);
    // An upgrade would put another process in the place of the one that this test watches.
    run.args(["--exclude-path", "/api/v1/upgrade"]);
    assert_finds_nothing(&mut run);
}
