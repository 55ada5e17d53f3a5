//! Programs of checks: their verdicts, and that no process of a program outlives its probe, however
//! it hides and however steerd ends.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use steerd::check::{ExecProbe, Probe};
use steerd::health::Outcome;
use steerd::probe::supervised::supervise_by;
use steerd::probe::{self, Cause, Report};

use crate::support::{STEERD, Steerd, wait_for};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Timeout for programs that end. It is long, so that tests pass on a slow machine.
const PATIENT: Duration = Duration::from_secs(20);

#[track_caller]
fn assert_passed(report: &Report, detail: &str) {
    assert_eq!(
        (report.outcome, report.cause, &*report.detail),
        (Outcome::Passed, None, detail),
        "{report:?}"
    );
}

#[track_caller]
fn assert_fault(report: &Report, cause: Cause, part: &str) {
    let outcome = if cause == Cause::Local { Outcome::Void } else { Outcome::Failed };
    assert_eq!((report.outcome, report.cause), (outcome, Some(cause)), "{report:?}");
    assert!(report.detail.contains(part), "{part:?} is not in {report:?}");
}

/// Waits for a condition, long enough for a slow machine.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENT;
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn run(probe: Probe, address: IpAddr, timeout: Duration) -> Report {
    supervise_by(STEERD.into());
    probe::run(&probe, address, timeout).await
}

/// Runs a script with the shell. A script on disk could not be executed while another test's fork
/// has it open for writing.
fn script(text: &str, port: Option<u16>) -> Probe {
    let arguments = ["-c", text].map(Into::into).to_vec();
    Probe::Exec(ExecProbe { program: "/bin/sh".into(), arguments, port })
}

async fn sh(text: &str, timeout: Duration) -> Report {
    run(script(text, None), HERE, timeout).await
}

#[tokio::test]
async fn the_exit_code_decides_and_the_first_line_is_shown() {
    let report = sh("echo; echo 'load is fine '; echo more", PATIENT).await;
    assert_passed(&report, "exit code 0: \"load is fine\"");
    let steps: Vec<_> = report.phases.iter().map(|(step, _)| *step).collect();
    assert_eq!(steps, ["start", "program"]);
    assert_passed(&sh("exit 0", PATIENT).await, "exit code 0");
    let report = sh("echo disk is full >&2; echo later; exit 3", PATIENT).await;
    assert_fault(&report, Cause::Status, "exit code 3, expected 0: \"disk is full\"");
    assert_fault(&sh("kill -TERM $$", PATIENT).await, Cause::Status, "ended by signal 15");
    assert_fault(&sh("printf '\\033[2J\\377'; exit 1", PATIENT).await, Cause::Status, r#""\u{1b}[2J\xff""#);
}

#[tokio::test]
async fn the_environment_holds_the_address_and_little_else() {
    let text =
        "echo $STEERD_ADDRESS $STEERD_PORT $STEERD_TIMEOUT_MS ${HOME-none} ${CARGO-none} ${PATH:+path}";
    let report = run(script(text, Some(8080)), "2001:db8::1".parse().unwrap(), PATIENT).await;
    assert_passed(&report, "exit code 0: \"2001:db8::1 8080 20000 none none path\"");
    let report = sh("echo ${STEERD_PORT-none}; cat", PATIENT).await;
    assert_passed(&report, "exit code 0: \"none\"");
}

#[tokio::test]
async fn arguments_are_given_as_they_are() {
    let arguments = ["%s,", "a b", "$HOME", "*"].map(Into::into).to_vec();
    let probe = ExecProbe { program: "/usr/bin/printf".into(), arguments, port: None };
    assert_passed(&run(Probe::Exec(probe), HERE, PATIENT).await, "exit code 0: \"a b,$HOME,*,\"");
}

#[tokio::test]
async fn what_cannot_be_started_is_void() {
    for program in ["/nowhere/program", "/etc/hostname", "/"] {
        let probe = ExecProbe { program: program.into(), arguments: Vec::new(), port: None };
        let report = run(Probe::Exec(probe), HERE, PATIENT).await;
        assert_fault(&report, Cause::Local, &format!("no verdict: {program} could not be started: "));
    }
}

#[tokio::test]
async fn a_program_whose_interpreter_is_missing_says_so() {
    let directory = tempfile::tempdir().unwrap();
    for (name, content, words) in [
        (
            "crlf",
            "#!/bin/sh\r\nexit 0\r\n",
            "its lines end with CRLF, so the system looks for an interpreter named",
        ),
        ("missing", "#!/nowhere/python3\nprint()\n", "its interpreter \"/nowhere/python3\" does not exist"),
        ("marked", "\u{feff}#!/bin/sh\nexit 0\n", "a byte-order mark stands before its first line"),
        ("none", "exit 0\n", "its interpreter; begin it with #!/bin/sh"),
        ("empty", "", "could not be started: it is empty"),
    ] {
        let program = directory.path().join(name);
        std::fs::write(&program, content).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let probe = Probe::Exec(ExecProbe { program, arguments: Vec::new(), port: None });
        let deadline = tokio::time::Instant::now() + PATIENT;
        let report = loop {
            let report = run(probe.clone(), HERE, PATIENT).await;
            // A program started by another test may briefly have this file open for writing.
            if !report.detail.contains("busy") || tokio::time::Instant::now() > deadline {
                break report;
            }
        };
        assert_fault(&report, Cause::Local, words);
    }
}

/// Whether a process has ended, even if init has not reaped it yet.
fn has_ended(process: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{process}/stat")) {
        Ok(stat) => stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        Err(_) => true,
    }
}

/// Processes that a script has started. They are killed on drop, also if the test fails.
struct Started(Vec<String>);

impl Started {
    /// Reads the process ids that the script writes to a file, when all are there.
    async fn read(file: &Path, count: usize) -> Self {
        let read = || std::fs::read_to_string(file).unwrap_or_default();
        eventually("the ids are written", || read().lines().count() == count && read().ends_with('\n')).await;
        Self(read().lines().map(Into::into).collect())
    }

    fn have_ended(&self) -> bool {
        self.0.iter().all(|process| has_ended(process))
    }

    fn first_is_reaped(&self) -> bool {
        !Path::new("/proc").join(&self.0[0]).exists()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        for process in self.0.iter().filter(|process| !has_ended(process)) {
            let _ = std::process::Command::new("kill").args(["-9", process]).status();
        }
    }
}

/// A script that starts another program, writes both ids and does not end. Both ignore SIGTERM.
fn stubborn(file: &Path) -> String {
    let file = file.display();
    format!("trap '' TERM; sleep 100 & printf '%s\\n%s\\n' $$ $! > {file}; wait; sleep 100")
}

#[tokio::test]
async fn at_the_timeout_the_whole_group_is_killed_and_the_program_reaped() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let report = sh(&stubborn(&file), Duration::from_secs(1)).await;
    assert_fault(&report, Cause::Timeout, "(waiting for the program to end)");
    let started = Started::read(&file, 2).await;
    eventually("both have ended", || started.have_ended()).await;
    eventually("the program is reaped", || started.first_is_reaped()).await;
}

#[tokio::test]
async fn a_probe_that_is_dropped_takes_its_program_along() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let text = stubborn(&file);
    let probe = tokio::spawn(async move { sh(&text, PATIENT).await });
    let started = Started::read(&file, 2).await;
    assert!(!started.have_ended());
    probe.abort();
    eventually("both have ended", || started.have_ended()).await;
    eventually("the program is reaped", || started.first_is_reaped()).await;
}

#[tokio::test]
async fn a_process_left_behind_holds_up_nothing_and_ends_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("numbers");
    let text = format!("sleep 100 & echo $! > {}; echo done", file.display());
    assert_passed(&sh(&text, PATIENT).await, "exit code 0: \"done\"");
    let started = Started::read(&file, 1).await;
    eventually("it has ended", || started.have_ended()).await;
}

#[tokio::test]
async fn a_flood_of_output_is_read_and_thrown_away() {
    // More than a pipe can hold, so the program ends only if its output is read.
    let report = sh("echo first; head -c 3000000 /dev/zero; exit 4", PATIENT).await;
    assert_fault(&report, Cause::Status, "exit code 4, expected 0: \"first\"");
    let report = sh("exec cat /dev/zero", Duration::from_secs(1)).await;
    assert_fault(&report, Cause::Timeout, "no answer within 1s");
    let report = sh("echo asking the primary; exec sleep 100", Duration::from_secs(1)).await;
    let said = "no answer within 1s (waiting for the program to end; heard \"asking the primary\")";
    assert_fault(&report, Cause::Timeout, said);
    let report = sh("exec >&- 2>&-; exit 5", PATIENT).await;
    assert_fault(&report, Cause::Status, "exit code 5");
}

/// A script that leaves processes behind in every way that hides them from their parent, and writes
/// their ids.
fn hiding(file: &Path) -> String {
    let file = file.display();
    // A new session, a double fork, and both.
    format!(
        "setsid sleep 100 & echo $! >> {file}; (sleep 101 & echo $! >> {file}); \
         (setsid sh -c 'sleep 102 & echo $! >> {file}; exec sleep 103' & echo $! >> {file}); \
         while [ $(wc -l < {file}) -lt 4 ]; do :; done"
    )
}

#[tokio::test]
async fn what_hides_from_its_program_ends_with_the_probe() {
    let directory = tempfile::tempdir().unwrap();
    for (name, end, expected) in [("ends", "", Outcome::Passed), ("hangs", "; sleep 104", Outcome::Failed)] {
        let file = directory.path().join(name);
        let report = sh(&(hiding(&file) + end), Duration::from_secs(3)).await;
        assert_eq!(report.outcome, expected, "{report:?}");
        let started = Started::read(&file, 4).await;
        eventually("all have ended", || started.have_ended()).await;
    }
}

#[tokio::test]
async fn a_program_gets_no_descriptors_but_its_own() {
    let report = sh("echo $(ls /proc/self/fd | wc -l)", PATIENT).await;
    // Standard input, output and error, and the directory being listed.
    assert_passed(&report, "exit code 0: \"4\"");
}

/// Programs of a server that is killed with SIGKILL.
#[test]
fn a_server_that_is_killed_leaves_no_programs() {
    let directory = tempfile::tempdir().unwrap();
    let (file, program) = (directory.path().join("numbers"), directory.path().join("check"));
    let text = format!("#!/bin/sh\necho $$ >> {}\n{}\nsleep 105\n", file.display(), hiding(&file));
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = format!(
        "startup_wait = \"0s\"\n[pools.web]\nbackends = [\"127.0.0.1\"]\n\
         check = {{ type = \"exec\", program = \"{}\", interval = \"1m\", timeout = \"50s\" }}\n",
        program.display()
    );
    let zone = "@ 300 SOA ns1 hostmaster 1 3600 900 604800 2\n@ 300 NS ns1\nns1 300 A 127.0.0.1\n";
    let config = format!(
        "{config}[zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n"
    );
    let server = Steerd::start(&config, &[("zone", zone)]);
    let numbers = || std::fs::read_to_string(&file).unwrap_or_default();
    wait_for("the program runs", || (numbers().lines().count() >= 5).then_some(()));
    let started = Started(numbers().lines().map(Into::into).collect());
    assert!(!started.have_ended());
    server.end("KILL");
    wait_for("all have ended", || started.have_ended().then_some(()));
}
