//! Runs a test in its own namespaces: a network with only loopback, mounts, and processes.

#![allow(dead_code, reason = "each test program uses only a part of this")]

use std::path::Path;
use std::process::Command;

use crate::support::program;

/// Set in the process inside the namespaces.
const INSIDE: &str = "STEERD_INSIDE_A_NAMESPACE";

/// Runs `body` inside, where root is the only user. The process starts itself again for this one test; `name` is the
/// test's full name.
pub(crate) fn run(name: &str, body: impl FnOnce()) {
    enter(name, &["--map-root-user"], body);
}

/// As [`run`], with other users: not as root, that takes `newuidmap` and a range of ids in `/etc/subuid`.
pub(crate) fn run_with_users(name: &str, body: impl FnOnce()) {
    enter(name, &["--map-root-user", "--map-auto"], body);
}

fn enter(name: &str, users: &[&str], body: impl FnOnce()) {
    if std::env::var_os(INSIDE).is_some() {
        set_up();
        return body();
    }
    let mut command = Command::new(program("unshare"));
    if !is_root() {
        command.arg("--user").args(users);
    }
    // With a process namespace, nothing that the test starts can outlive it.
    command.args(["--net", "--mount", "--pid", "--fork", "--kill-child=KILL"]);
    let can = Command::new(command.get_program()).args(command.get_args()).arg("true").output().unwrap();
    assert!(
        can.status.success(),
        "this test needs a network namespace of its own, and the system gives none: {}\
         Run it as root, in a container with the capability SYS_ADMIN, or allow user namespaces \
         (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0).",
        String::from_utf8_lossy(&can.stderr)
    );
    let output = command
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "no test is called {name}:\n{said}");
    println!("{said}");
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Enables loopback, and makes its port 53 the resolver of the machine.
fn set_up() {
    do_it(Command::new(program("ip")).args(["link", "set", "lo", "up"]));
    let directory = tempfile::tempdir().unwrap();
    for (file, text) in [
        ("/etc/resolv.conf", "nameserver 127.0.0.1\n"),
        // Other modules, such as that of systemd, would send queries elsewhere.
        ("/etc/nsswitch.conf", "hosts: files dns\n"),
    ] {
        let own = directory.path().join(Path::new(file).file_name().unwrap());
        std::fs::write(&own, text).unwrap();
        if Path::new(file).exists() {
            do_it(Command::new(program("mount")).arg("--bind").arg(&own).arg(file));
        }
    }
}

fn do_it(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
