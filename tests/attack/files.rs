//! Special, endless and foreign files that a configuration, a pattern or a zone file names.

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::is_full;
use crate::support::{PATIENCE, Process, STEERD, Steerd, http_get, wait_for};

const ZONE: &str =
    "$TTL 300\n@ SOA ns1 host 1 3600 900 604800 2\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n";

/// Sections that every configuration here has.
const REST: &str = "\
[zones.\"lb.example.test\"]
file = \"zone\"
[pools.web]
backends = [\"192.0.2.11\"]
[services.\"www.lb.example.test\"]
pools = [\"web\"]
";

/// Runs `steerd check`, which must end. Returns whether the configuration is valid, and the output.
fn check(path: &Path) -> (bool, String) {
    let mut process =
        Process::start(Command::new(STEERD).arg("check").arg("-c").arg(path).stdout(Stdio::null()));
    let code = process.ended();
    (
        code == Some(0),
        wait_for("the complete output", || {
            let said = process.said("").join("\n");
            (code == Some(0) || said.contains("is not valid")).then_some(said)
        }),
    )
}

/// Writes a configuration that uses `name` in one place. Returns its path.
fn naming(directory: &Path, place: &str, name: &str) -> std::path::PathBuf {
    let (before, rest, zone) = match place {
        "include" => (format!("include = [\"{name}\"]\n"), REST.to_owned(), ZONE.to_owned()),
        "pattern" => (format!("include = [\"{name}*\"]\n"), REST.to_owned(), ZONE.to_owned()),
        "zone" => (String::new(), REST.replace("\"zone\"", &format!("\"{name}\"")), ZONE.to_owned()),
        "$INCLUDE" => (String::new(), REST.to_owned(), format!("{ZONE}$INCLUDE {name}\n")),
        "ca_file" => {
            let check =
                format!("check = {{ type = \"https\", tls = {{ ca_file = \"{name}\" }} }}\n[services");
            (String::new(), REST.replace("[services", &check), ZONE.to_owned())
        }
        "program" => {
            let check = format!("check = \"exec:{name}\"\n[services");
            (String::new(), REST.replace("[services", &check), ZONE.to_owned())
        }
        "secret_file" => {
            (format!("[keys.\"k.test\"]\nsecret_file = \"{name}\"\n"), REST.to_owned(), ZONE.to_owned())
        }
        "cookie_secret_file" => {
            (format!("[server]\ncookie_secret_file = \"{name}\"\n"), REST.to_owned(), ZONE.to_owned())
        }
        "token_file" => (
            format!("[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"{name}\"\n"),
            REST.to_owned(),
            ZONE.to_owned(),
        ),
        other => panic!("{other}"),
    };
    fs::write(directory.join("zone"), zone).unwrap();
    let path = directory.join("steerd.toml");
    fs::write(&path, format!("{before}{rest}")).unwrap();
    path
}

const PLACES: [&str; 9] = [
    "include",
    "pattern",
    "zone",
    "$INCLUDE",
    "ca_file",
    "program",
    "secret_file",
    "cookie_secret_file",
    "token_file",
];

fn fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Nobody writes to the FIFO, and nothing waits for a writer.
#[test]
fn what_is_no_regular_file_is_refused_by_its_kind_wherever_it_is_named() {
    let directory = TempDir::new().unwrap();
    let at = |name: &str| directory.path().join(name);
    fifo(&at("pipe"));
    let _socket = UnixListener::bind(at("socket")).unwrap();
    symlink("/dev/zero", at("endless")).unwrap();
    symlink("loop", at("loop")).unwrap();
    File::create(at("sparse")).unwrap().set_len(100 << 30).unwrap();
    fs::create_dir(at("folder")).unwrap();
    let began = Instant::now();
    for place in PLACES {
        for (name, expected) in [
            ("pipe", "it is a FIFO"),
            ("socket", "it is a socket"),
            ("endless", "it is a device"),
            ("folder", "it is a directory"),
            ("loop", "symbolic links"),
            ("sparse", "at most"),
        ] {
            // A pattern skips directories, and the content of a program is not read.
            if matches!((place, name), ("pattern", "folder" | "loop") | ("program", "sparse")) {
                continue;
            }
            let (valid, said) = check(&naming(directory.path(), place, name));
            assert!(!valid && said.contains(expected) && said.contains(name), "{place} {name}: {said}");
        }
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn a_pipe_hangs_no_reload_and_none_after_it() {
    let server = Steerd::start(REST, &[("zone", ZONE)]);
    let zone = server.directory.path().join("zone");
    for round in 2..4 {
        fs::remove_file(&zone).unwrap();
        fifo(&zone);
        let (status, refusal) = server.request("POST", "/api/v1/reload", "");
        assert_eq!(status, 422, "{refusal}");
        assert!(refusal["errors"][0]["message"].as_str().unwrap().contains("it is a FIFO"), "{refusal}");
        assert_eq!(http_get(server.admin, "/readyz").0, 200);
        fs::remove_file(&zone).unwrap();
        fs::write(&zone, ZONE.replace("host 1 ", &format!("host {round} "))).unwrap();
        let (status, report) = server.request("POST", "/api/v1/reload", "");
        assert_eq!(status, 200, "{report}");
    }
    assert_eq!(server.metric("steerd_reloads_total{result=\"failure\"}"), Some(2.0));
}

/// The library that reads the system's authorities opens any file that this variable names.
#[test]
fn a_pipe_in_the_place_of_the_system_s_authorities_holds_up_no_probe() {
    let directory = TempDir::new().unwrap();
    fifo(&directory.path().join("pipe"));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let check = format!(
        "check = {{ type = \"https\", host = \"a.test\", port = {port}, timeout = \"20s\", interval = \"30s\" }}\n"
    );
    let rest = REST.replace("192.0.2.11", "127.0.0.1").replace("[services", &format!("{check}[services"));
    let path = directory.path().join("steerd.toml");
    fs::write(directory.path().join("zone"), ZONE).unwrap();
    fs::write(&path, rest).unwrap();
    let mut probe = Command::new(STEERD);
    probe.arg("probe").arg("-c").arg(&path).env("SSL_CERT_FILE", directory.path().join("pipe"));
    let output = probe.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("it is a FIFO"), "{said} {}", String::from_utf8_lossy(&output.stderr));
}

/// A zone that takes minutes to load, from a file that is read at once.
#[test]
fn a_load_whose_client_leaves_is_given_up_on() {
    let server = Steerd::start(REST, &[("zone", ZONE)]);
    let zone = server.directory.path().join("zone");
    fs::write(&zone, format!("{ZONE}{}", "$GENERATE 0-1048575 a$ A 192.0.2.1\n".repeat(500))).unwrap();
    let mut client = TcpStream::connect(server.admin).unwrap();
    client
        .write_all(b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    wait_for("the load has started", || {
        let said = server.process.said("");
        said.iter().any(|line| line.contains("reloading the configuration")).then_some(())
    });
    let began = Instant::now();
    drop(client);
    wait_for("the load is given up", || {
        (server.metric("steerd_reloads_total{result=\"failure\"}") == Some(1.0)).then_some(())
    });
    fs::write(&zone, ZONE.replace("host 1 ", "host 2 ")).unwrap();
    let (status, report) = server.request("POST", "/api/v1/reload", "");
    assert_eq!(status, 200, "{report}");
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

/// A text that no message may quote: the line of a file that the configuration should not have
/// reached.
const SECRET: &str = "5Ecr37w0rd";

#[test]
fn lines_of_foreign_files_are_not_repeated() {
    let outside = TempDir::new().unwrap();
    let directory = TempDir::new().unwrap();
    let contents = [
        format!("root:$6${SECRET}:19000:0:99999:7:::\n"),
        format!("password {SECRET}\n"),
        format!("password = {SECRET}\n"),
        format!("{SECRET}\n"),
        format!("{SECRET} {SECRET} {SECRET}\n"),
        format!("[client]\npassword = \"{SECRET}\n"),
        format!("-----BEGIN PRIVATE KEY-----\n{SECRET}==\n-----END PRIVATE KEY-----\n"),
        format!("a `{SECRET}` b\n(\"{SECRET}\n"),
        format!("\u{feff}{SECRET} IN TXT\n"),
        format!("{SECRET}\n\u{0}"),
        format!("-----BEGIN {SECRET}\n"),
        format!("-----BEGIN {SECRET}-----\n"),
        format!("{SECRET}. 60 A 192.0.2.1\n"),
        format!("a`{SECRET}`b. 60 A 192.0.2.1\n"),
        format!("$INCLUDE {SECRET}\n"),
        format!("$INCLUDE {SECRET} {SECRET}. {SECRET}\n"),
        format!("$GENERATE 1-2 {SECRET}$. 60 A 192.0.2.1\n"),
        format!("@ 300 NS {SECRET}\n"),
        format!("@ 300 NS a`{SECRET}`b\n"),
        format!("$TTL {SECRET}\n$ORIGIN {SECRET}..\n"),
        format!("x 300 HTTPS 1 . {SECRET}=1\n"),
        format!("{SECRET} = 1\n"),
        format!("[pools.{SECRET}]\n"),
        format!("[pools.\"a`{SECRET}\"]\nbackends = []\n"),
        format!("[pools.other]\nbackends = [\"{SECRET}\"]\n"),
        format!("[pools.other]\nbackends = [\"192.0.2.1\"]\ncheck = \"exec:{SECRET}\"\n"),
        format!("[pools.other]\nbackends = [\"192.0.2.1\"]\ncheck = \"{SECRET}://x\"\n"),
        format!("[server]\nlisten = [\"{SECRET}\"]\nstate_dir = \"{SECRET}\"\ncookies = \"{SECRET}\"\n"),
        format!("[admin]\nlisten = \"{SECRET}\"\ntoken_file = \"{SECRET}\"\n"),
        format!("[keys.{SECRET}]\nsecret_file = \"{SECRET}\"\n"),
        format!("[zones.\"{SECRET}\"]\nfile = \"{SECRET}\"\n"),
        format!("[services.\"{SECRET}.lb.example.test\"]\npools = [\"{SECRET}\"]\n"),
        format!("[services.\"{SECRET}.example.org\"]\npools = [\"web\"]\n"),
        format!("[zones.\"lb.example.test\"]\nfile = \"zone\"\nsecondaries = [\"{SECRET}\"]\n"),
    ];
    symlink(outside.path(), directory.path().join("link")).unwrap();
    fs::create_dir(directory.path().join("sub")).unwrap();
    let foreign = outside.path().join("foreign").display().to_string();
    let mut told = 0;
    for content in
        contents.iter().map(String::as_bytes).chain([&[SECRET.as_bytes(), b" \xff\n"].concat()[..]])
    {
        fs::write(outside.path().join("foreign"), content).unwrap();
        for place in ["include", "pattern", "zone", "$INCLUDE"] {
            fs::write(directory.path().join("sub/foreign"), content).unwrap();
            fs::set_permissions(directory.path().join("sub/foreign"), fs::Permissions::from_mode(0o640))
                .unwrap();
            for name in [foreign.as_str(), "link/foreign", "sub/../link/foreign", "sub/foreign"] {
                let (valid, said) = check(&naming(directory.path(), place, name));
                let content = String::from_utf8_lossy(content);
                // Some contents are valid zones and load with a warning.
                assert!(!valid || said.contains("warning: "), "{place} {content}: {said}");
                assert!(said.contains("foreign"), "{place} {content}: {said}");
                assert!(!said.contains(SECRET), "{place} {name} {content}: {said}");
                told += usize::from(said.contains("foreign:1:"));
            }
        }
        for place in ["ca_file", "secret_file", "cookie_secret_file", "token_file"] {
            let (valid, said) = check(&naming(directory.path(), place, &foreign));
            assert!(!valid || place == "secret_file" || place == "token_file", "{place}: {said}");
            assert!(!said.contains(SECRET) && !said.contains("69, 99, 114"), "{place}: {said}");
        }
        if content.contains(&0) {
            // A binary file has no lines.
            continue;
        }
        // Lines of the operator's own files are quoted, in messages that quote lines.
        fs::write(directory.path().join("own"), content).unwrap();
        let (_, said) = check(&naming(directory.path(), "$INCLUDE", "own"));
        assert!(said.contains(SECRET), "{said}");
        fs::remove_file(directory.path().join("own")).unwrap();
    }
    assert!(told > 100, "only {told} messages name their line");
}

#[test]
fn nothing_in_a_file_steers_the_terminal() {
    let directory = TempDir::new().unwrap();
    for active in ["\u{1b}]0;x\u{7}", "\u{85}", "\u{9b}2J", "\u{202e}", "\u{2066}", "\u{200b}"] {
        for (place, content) in [
            ("include", format!("[pools.\"{active}\"]\nbackends = \"{active}\"\n\"{active}\" = 1\n")),
            ("include", active.to_string()),
            ("$INCLUDE", format!("x{active} A {active}\n")),
        ] {
            fs::write(directory.path().join("own"), content).unwrap();
            let (valid, said) = check(&naming(directory.path(), place, "own"));
            assert!(!valid, "{place} {active:?}: {said}");
            let harmful = said.chars().find(|char| active.contains(*char) && !char.is_ascii_graphic());
            assert_eq!(harmful, None, "{place} {active:?}: {said:?}");
            assert!(said.contains("\\u{"), "{said}");
        }
    }
}

/// A file system that never responds: FUSE with a server that does nothing.
struct Hung {
    /// Closing it would make waiting calls fail.
    device: Option<File>,
    directory: TempDir,
}

impl Hung {
    /// Returns `None` if mounting is not permitted.
    fn mount() -> Option<Self> {
        let device = File::options().read(true).write(true).open("/dev/fuse").ok()?;
        let directory = TempDir::new().unwrap();
        let mounted = Command::new("mount")
            .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "hung"])
            .arg(directory.path())
            .stdin(device.try_clone().unwrap())
            .stderr(Stdio::null())
            .status();
        mounted.ok()?.success().then_some(Self { device: Some(device), directory })
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        drop(self.device.take());
        let _ = Command::new("umount").arg("-l").arg(self.directory.path()).status();
    }
}

/// Only at full size, because it takes twice the time limit of a load.
#[test]
fn a_file_system_that_does_not_answer_holds_up_one_reload_only() {
    if !is_full() {
        return;
    }
    let Some(hung) = Hung::mount() else {
        eprintln!("not run: mounting a file system needs root and /dev/fuse");
        return;
    };
    let server = Steerd::start(REST, &[("zone", ZONE)]);
    let slow = hung.directory.path().join("zone").display().to_string();
    server.configure(&REST.replace("\"zone\"", &format!("\"{slow}\"")), "");
    // The first attempt waits; meanwhile the second is refused at once.
    for (told, limit) in [("could not be read within 30s", 60), ("still waits for this file", 10)] {
        let began = Instant::now();
        let (status, refusal) = server.request("POST", "/api/v1/reload", "");
        assert_eq!(status, 422, "{refusal}");
        let error = &refusal["errors"][0];
        assert!(error["message"].as_str().unwrap().contains(told), "{refusal}");
        assert_eq!(error["file"], slow, "{refusal}");
        assert!(began.elapsed() < Duration::from_secs(limit), "{:?}", began.elapsed());
        assert_eq!(http_get(server.admin, "/readyz").0, 200);
    }
    server.configure(REST, "");
    let began = Instant::now();
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
