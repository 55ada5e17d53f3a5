//! The command line: exit codes, messages, and the demo.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use tempfile::TempDir;

use crate::client::query;
use crate::harness::{Process, STEERD, Server, ZONE, dig, free_port, http, http_get, wait_for};
use crate::support::traffic::Ledger;
use crate::support::{Steerd, TOKEN, address_in};

fn steerd(arguments: &[&str]) -> Output {
    Command::new(STEERD).args(arguments).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn version_help_and_usage() {
    let version = steerd(&["--version"]);
    assert!(version.status.success());
    assert_eq!(text(&version.stdout), format!("steerd {}\n", env!("CARGO_PKG_VERSION")));
    let help = steerd(&["--help"]);
    for command in ["serve", "check", "probe", "demo"] {
        assert!(text(&help.stdout).contains(command), "{command}");
    }
    assert_eq!(steerd(&["sevre"]).status.code(), Some(2));
}

/// Ten different faults, and the line of each.
const FAULTY: &str = r#"[server]
lisen = ["127.0.0.1:PORT"]
listen = ["127.0.0.1:PORT"]
udp_payload = 100
workers = "two"
[zones."lb.example.test"]
file = "zone"
[pools.web]
check = { type = "http", interval = "1s", timeout = "2s" }
backends = ["192.0.2.11", "192.0.2.11", "192.0.2.300"]
min_healthy = "140%"
[services."www.lb.example.test"]
pools = ["wbe"]
ttl = "20"
[services."www.elsewhere.test"]
pools = ["web"]
policy = "fair"
"#;

#[test]
fn ten_faults_give_ten_messages_with_their_places_and_nothing_is_bound() {
    let directory = TempDir::new().unwrap();
    let port = free_port("127.0.0.1").to_string();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, FAULTY.replace("PORT", &port)).unwrap();
    for command in ["check", "serve"] {
        let output = steerd(&[command, "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1), "{command}");
        let errors = text(&output.stderr);
        for line in [2, 4, 5, 9, 10, 11, 13, 14, 15, 17] {
            assert!(errors.contains(&format!("steerd.toml:{line}:")), "{command}, line {line}:\n{errors}");
        }
        assert_eq!(errors.matches("steerd.toml:10:").count(), 2, "{errors}");
        assert!(errors.contains("listen") && errors.contains("`web`"), "suggestions:\n{errors}");
    }
    let address = format!("127.0.0.1:{port}");
    UdpSocket::bind(&address).unwrap();
    TcpListener::bind(&address).unwrap();
}

#[test]
fn serve_is_ready_when_it_answers_and_heeds_signals() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    // It accepts connections and never answers, so the first outcome comes after `startup_wait`.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstartup_wait = \"2s\"\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\nbackends = [\"127.0.0.1\"]\n\
         check = {{ type = \"http\", port = {}, interval = \"20s\", timeout = \"19s\" }}\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
        silent.local_addr().unwrap().port()
    );
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, config).unwrap();
    let mut process =
        Process::start(Command::new(STEERD).arg("serve").arg("-c").arg(&path).args(["--log-format", "json"]));
    let admin = wait_for("the admin server listens", || address_in(&process, "admin server listens"));
    assert_eq!(http_get(admin, "/readyz").0, 503);
    assert_eq!(http_get(admin, "/healthz").0, 200);
    assert!(process.said("DNS is answered").is_empty());

    let dns = wait_for("DNS is answered", || address_in(&process, "DNS is answered"));
    assert_eq!(process.said("startup_wait is over").len(), 1);
    wait_for("it is ready", || (http_get(admin, "/readyz").0 == 200).then_some(()));
    let ledger = Ledger::of(admin);
    assert_eq!(
        dig(dns, &ledger.sent, &["www.lb.example.test", "A"]),
        ["127.0.0.1"],
        "what is not known yet is answered"
    );

    process.signal("HUP");
    wait_for("a word about SIGHUP", || process.said("nothing has changed").pop());
    assert_eq!(dig(dns, &ledger.sent, &["www.lb.example.test", "A"]), ["127.0.0.1"]);
    drop(ledger);
    process.signal("TERM");
    assert_eq!(process.ended(), Some(0));
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let port = free_port("127.0.0.1");
    // Each backend refuses, and its line is longer than 100 bytes: together they fill the pipe, which
    // can hold 64 KiB.
    let refuses = free_port("0.0.0.0");
    let backends: Vec<String> = (0..1000).map(|n| format!("\"127.3.{}.{}\"", n / 250, n % 250 + 1)).collect();
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nstartup_wait = \"1m\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\ncheck = \"tcp://:{refuses}\"\nbackends = [{}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\nanswers = 2\n",
        backends.join(", ")
    );
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, config).unwrap();
    let mut unread = Command::new(STEERD)
        .args(["serve", "-c"])
        .arg(&path)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let query = query(1, "www.lb.example.test.", RecordType::A);
    wait_for("every backend has an outcome", || {
        client.send_to(&query, ("127.0.0.1", port)).ok()?;
        client.recv(&mut [0; 512]).ok()
    });
    let stop = format!("kill -TERM {}", unread.id());
    assert!(Command::new("sh").args(["-c", &stop]).status().unwrap().success());
    let status = wait_for("it stops", || unread.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[test]
fn each_misuse_says_the_next_step() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (path, plain, missing) = (file("steerd.toml"), file("plain"), file("none.toml"));
    std::fs::write(&path, format!("[admin]\nlisten = \"127.0.0.1:{}\"\n", free_port("127.0.0.1"))).unwrap();
    std::fs::write(&plain, "").unwrap();
    let (broken, client) = (file("broken"), file("client"));
    std::fs::write(&broken, "[server\n[admin]\nlisten =\n").unwrap();
    std::fs::write(&client, "[client]\nadmin = [\"http://192.0.2.1:8053\"]\n").unwrap();
    let named = |path: &str| format!("give a configuration file with -c: -c {path}");
    let first = "give the file with -c FILE or in STEERD_CONFIG; `steerd demo` runs an example";
    for (arguments, code, expected) in [
        (&["check", &*path][..], 2, &*named(&path)),
        (&["check", &plain], 2, &named(&plain)),
        (&["serve", &missing], 2, &named(&missing)),
        (&["reload", &path], 2, &named(&path)),
        (&["auto", "web/gw1", &path], 2, &named(&path)),
        (&[&*path], 2, &named(&path)),
        (&["probe", "steerd.toml"], 2, "give a configuration file with -c"),
        (&["probe", "./steerd.toml"], 2, "give a configuration file with -c"),
        (&["serve", "-c", &missing], 1, first),
        (&["check", "-c", &missing], 1, first),
        (&["probe", "-c", &missing], 1, first),
        (&["drain", "web"], 2, "expected POOL/BACKEND, such as web/gw1"),
        // The demo listens on another address than this file says.
        (
            &["drain", "web/gw1", "-c", &path],
            1,
            "`steerd demo` prints its URL, by default http://127.0.0.1:8053",
        ),
        (&["reload", "-c", &path], 1, "give another server with --admin URL"),
        // There is no default address.
        (&["drain", "web/gw1", "-c", &missing], 1, "none.toml, which has the address of the server"),
        (&["drain", "web/gw1", "-c", &plain], 1, "plain sets no `listen` under [admin]"),
        (&["reload", "-c", &plain], 1, "without it, only SIGHUP reloads"),
        (&["reload", "-c", &path], 1, "keeps the old address until it is restarted"),
        // A mistake above or in [admin] hides the address.
        (&["status", "-c", &broken], 1, "broken:1:8: this is not TOML"),
        (&["drain", "web/gw1", "-c", &broken], 1, "Or give the server with --admin URL"),
        (&["healthcheck", "-c", &broken], 1, "broken:1:8: this is not TOML"),
        (&["diff", "-c", &client], 1, "client: this file names only servers ([client])"),
        (&["check", "-c", &client], 1, "give the configuration of an instance with -c FILE"),
        (&["plan", "www.lb.example.test", "-c", &client], 1, "this file names only servers ([client])"),
    ] {
        let output = steerd(arguments);
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(expected), "{arguments:?}: {told}");
    }
    let told = text(&steerd(&["auto", "web/gw1", "web/gw2"]).stderr);
    assert!(!told.contains("-c web/gw2"), "a backend is no file: {told}");

    let server = Server::start(
        "[pools.web]\nbackends = [{ name = \"gw1\", address = \"192.0.2.1\" }, { name = \"gw2\", address = \"192.0.2.2\" }]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
    );
    let admin = format!("http://{}", server.admin);
    for (backend, expected) in [
        ("web/gw3", "there is no backend `gw3` in the pool `web`; did you mean `gw1`? There are gw1, gw2"),
        ("web/other", "there is no backend `other` in the pool `web`; there are gw1, gw2"),
        ("none/gw1", "there is no pool `none`; there is web"),
    ] {
        let output = steerd(&["drain", backend, "--admin", &admin]);
        let told = text(&output.stderr);
        assert!(output.status.code() == Some(1) && told.contains(expected), "{backend}: {told}");
    }
}

#[test]
fn reading_goes_on_without_a_token_and_changing_says_how_to_give_it() {
    const REST: &str = "[zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\nbackends = [{ name = \"gw1\", address = \"192.0.2.1\" }]\nchecks = []\n\
                        [services.\"www.lb.example.test\"]\npools = [\"web\"]\n";
    let server = Steerd::start(REST, &[("zone", ZONE), ("token", TOKEN)]);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("steerd.toml");
    let config = |more: &str| {
        std::fs::write(&path, format!("[admin]\nlisten = \"{}\"\n{more}", server.admin)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let unreadable = config("token_file = \"none\"\n");
    for arguments in [&["status"][..], &["events"], &["explain", "www.lb.example.test"]]
        .map(|words| [words, &["-c", &unreadable]].concat())
    {
        let output = steerd(&arguments);
        let told = text(&output.stderr);
        assert!(output.status.success() && told.is_empty(), "{arguments:?}: {told}");
    }
    let told = text(&steerd(&["drain", "web/gw1", "-c", &unreadable]).stderr);
    assert!(told.contains("the token file") && told.contains("No such file"), "{told}");

    // The server still requires a token that the file no longer names.
    server.configure(REST, "token_file = \"token\"");
    assert_eq!(server.request("POST", "/api/v1/reload", "").0, 200);
    let told = text(&steerd(&["reload", "-c", &config("")]).stderr);
    assert!(told.contains("keeps the old token until a reload") && told.contains("--token-file"), "{told}");
}

/// The warnings of `check` for a configuration that listens on this port, run by a user without
/// privileges.
fn checked_as_nobody(port: u16) -> String {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    let directory = TempDir::new().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let path = directory.path().join("steerd.toml");
    let config = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\nbackends = [\"192.0.2.1\"]\nchecks = []\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    std::fs::write(&path, config).unwrap();
    // A program that another user may run, wherever the build directory is.
    let program = directory.path().join("steerd");
    std::fs::copy(STEERD, &program).unwrap();
    let mut check = Command::new(&program);
    check.args(["check", "-c"]).arg(&path);
    if std::fs::metadata(&path).unwrap().uid() == 0 {
        check.uid(NOBODY).gid(NOBODY);
    }
    let output = check.output().unwrap();
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{told}");
    told
}

#[test]
fn a_port_that_the_user_may_not_take_is_a_warning_of_check() {
    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
    let first: u16 = first.trim().parse().unwrap();
    assert_eq!(checked_as_nobody(first), "");
    if let Some(low @ 1..) = first.checked_sub(1) {
        let told = checked_as_nobody(low);
        let expected =
            format!("this user may not listen on port {low}: ports below {first} need a privilege");
        assert!(told.contains(&expected) && told.contains("CAP_NET_BIND_SERVICE"), "{told}");
        assert!(told.contains("steerd.toml:2:11"), "{told}");
    }
}

#[test]
fn probe_says_who_is_healthy() {
    let directory = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.51:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let path = directory.path().join("steerd.toml");
    let config = format!(
        "[zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.web]\ncheck = \"tcp://:{port}\"\n\
         backends = [{{ name = \"good\", address = \"127.0.0.51\" }}, {{ name = \"bad\", address = \"127.0.0.52\" }}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    std::fs::write(&path, config).unwrap();
    let path = path.to_str().unwrap();
    let all = steerd(&["probe", "-c", path]);
    assert_eq!(all.status.code(), Some(1));
    assert!(text(&all.stdout).contains("connection refused"), "{}", text(&all.stdout));
    assert_eq!(steerd(&["probe", "-c", path, "web/good"]).status.code(), Some(0));
    assert_eq!(steerd(&["probe", "-c", path, "web/bad"]).status.code(), Some(1));
    let json = steerd(&["probe", "-c", path, "--json"]);
    serde_json::from_slice::<serde_json::Value>(&json.stdout).unwrap();
}

/// A demo on free ports. Its log and its output go to one file, as to a terminal.
struct Demo {
    process: Process,
    dns: SocketAddr,
    admin: SocketAddr,
    backend_port: u16,
    shown: std::path::PathBuf,
    _directory: TempDir,
}

impl Demo {
    /// Starts the demo, and waits for the last line of its welcome text.
    fn start() -> Self {
        let (dns, admin) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
        let backend_port = free_port("127.0.0.11");
        let directory = TempDir::new().unwrap();
        let shown = directory.path().join("shown");
        // A short relative path, as a newcomer would use it.
        std::os::unix::fs::symlink(STEERD, directory.path().join("steerd")).unwrap();
        let command = format!(
            "exec ./steerd demo --port {dns} --admin-port {admin} --backend-port {backend_port} >>shown 2>&1"
        );
        let process = Process::start(Command::new("sh").arg("-c").arg(command).current_dir(directory.path()));
        let here = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let demo =
            Self { process, dns: here(dns), admin: here(admin), backend_port, shown, _directory: directory };
        wait_for("the welcome", || demo.shown().contains("Ctrl-C ends the demo").then_some(()));
        demo
    }

    fn shown(&self) -> String {
        std::fs::read_to_string(&self.shown).unwrap_or_default()
    }

    /// The commands in the welcome text that begin with `word`.
    fn commands(&self, word: &str) -> Vec<String> {
        let commands = self.shown();
        let commands = commands.lines().filter_map(|line| line.strip_prefix("  "));
        commands.filter(|command| command.starts_with(word)).map(str::to_owned).collect()
    }
}

#[test]
fn the_welcome_of_the_demo_comes_after_the_lines_of_the_start() {
    let demo = Demo::start();
    let shown = demo.shown();
    let (start, welcome) = shown.split_once("The demo is running").unwrap();
    assert!(start.contains("ready: every backend address"), "{shown}");
    assert!(!welcome.contains("INFO"), "a line of the log comes after the welcome:\n{shown}");
}

/// The demo as a newcomer runs it: the commands that it shows work, and breaking a backend removes it
/// from the answers.
#[test]
fn the_demo_runs_the_main_job_and_stops_cleanly() {
    let mut demo = Demo::start();
    let line = demo.commands("dig ").pop().unwrap();
    let name =
        line.split(' ').find(|word| word.contains('.') && !word.contains("127.0.0.1")).unwrap().to_owned();
    let (server, http_port) = (demo.dns, demo.backend_port);
    let ledger = Ledger::of(demo.admin);
    let dig = || dig(server, &ledger.sent, &[&name, "A"]);
    let is_answered = |address: &str| dig().iter().any(|answer| answer == address);
    let is_out = |address: &str| {
        let answers: Vec<String> = (0..20).flat_map(|_| dig()).collect();
        !answers.is_empty() && !answers.iter().any(|answer| answer == address)
    };
    wait_for("the demo answers", || (!dig().is_empty()).then_some(()));
    let backend = format!("127.0.0.12:{http_port}").parse().unwrap();
    assert_eq!(http(backend, "GET", "/break").0, 405, "a link must not break anything");
    assert_eq!(
        http(backend, "POST", "/break").0,
        303,
        "a browser is sent back to the page: {}",
        demo.shown()
    );
    wait_for("the broken backend is out", || is_out("127.0.0.12").then_some(()));
    http(backend, "POST", "/fix");
    wait_for("the fixed backend is back", || is_answered("127.0.0.12").then_some(()));

    let as_shown = |word: &str| {
        let command = demo.commands(&format!("./steerd {word} ")).pop().expect(word);
        let directory = demo.shown.parent().unwrap();
        let output = Command::new("sh").args(["-c", &command]).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
    };
    as_shown("status");
    as_shown("drain");
    wait_for("the drained backend is out", || is_out("127.0.0.13").then_some(()));
    as_shown("auto");
    wait_for("the backend is back", || is_answered("127.0.0.13").then_some(()));
    drop(ledger);
    demo.process.signal("INT");
    assert_eq!(demo.process.ended(), Some(0));
}

/// A log in JSON contains only JSON, even if the server does not start.
#[test]
fn a_log_in_json_is_json_to_its_last_line() {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("zone"), ZONE).unwrap();
    let path = directory.path().join("steerd.toml");
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let unstartable = format!(
        "[server]\nlisten = [\"{}\"]\n[zones.\"lb.example.test\"]\nfile = \"zone\"\n",
        taken.local_addr().unwrap()
    );
    for (config, expected) in [(FAULTY, "interval"), ("[server", "steerd.toml"), (&*unstartable, "cannot")] {
        std::fs::write(&path, config).unwrap();
        let output = steerd(&["serve", "--log-format", "json", "-c", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(1));
        let said = text(&output.stderr);
        for line in said.lines() {
            let line: serde_json::Value =
                serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
            assert!(
                line["message"].is_string() && line["level"].is_string() && line["timestamp"].is_string(),
                "{line}"
            );
        }
        assert!(said.contains("\"level\":\"ERROR\"") && said.contains(expected), "{said}");
    }
}
