//! The root file system of the container image: assembled as in the Dockerfile, and run as the Dockerfile and the
//! documents say, by a user without privileges, read-only.

use std::path::Path;
use std::process::Command;

use crate::root::Root;
use crate::support::traffic::Sent;
use crate::support::{Process, STEERD, dig, program, wait_for};
use crate::{namespace, output, source};

/// The value of an instruction of the Dockerfile.
fn instruction(name: &str) -> String {
    let file = std::fs::read_to_string(source("packaging/container/Dockerfile")).unwrap();
    let lines = file.replace("\\\n", " ");
    let line = lines.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name}")).trim().to_owned()
}

/// The words of an instruction in its exec form.
fn words(name: &str) -> Vec<String> {
    let value = instruction(name);
    serde_json::from_str(&value[value.find('[').unwrap()..]).unwrap()
}

/// A container of the image.
pub(crate) struct Container {
    pub(crate) root: Root,
}

impl Container {
    /// Assembles the root by the script that the Dockerfile calls. `set_up` adds what a runtime would mount.
    pub(crate) fn new(set_up: impl FnOnce(&Root)) -> Self {
        let root = Root::empty();
        output(
            Command::new(program("bash"))
                .arg(source("packaging/container/root"))
                .arg(STEERD)
                .arg(root.path("")),
        );
        for directory in ["dev", "proc"] {
            std::fs::create_dir(root.path(directory)).unwrap();
        }
        root.mount_system();
        set_up(&root);
        output(Command::new(program("mount")).args(["-o", "remount,ro"]).arg(root.path("")));
        Self { root }
    }

    /// A command within it, by its user, who cannot gain privileges.
    pub(crate) fn command(&self, words: &[String]) -> Command {
        let mut command = Command::new(program("setpriv"));
        command.args(["--no-new-privs", "chroot", "--userspec", &instruction("USER")]);
        command
            .arg(self.root.path(""))
            .args(words)
            .current_dir("/")
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
        command
    }

    pub(crate) fn start(&self) -> Process {
        Process::start(&mut self.command(&[words("ENTRYPOINT"), words("CMD")].concat()))
    }
}

/// Lets every user of this network namespace take this port.
pub(crate) fn allow_ports_from(port: u16) {
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", port.to_string()).unwrap();
}

#[test]
fn it_runs_read_only_and_without_privileges() {
    namespace::run_with_users("image::it_runs_read_only_and_without_privileges", || {
        let container = Container::new(|_| ());
        let files =
            output(Command::new(program("find")).arg(container.root.path("")).args(["-xdev", "-type", "f"]));
        let count = files.lines().count();
        assert!(
            (5..15).contains(&count),
            "the image holds the program and what it needs, and nothing else:\n{files}"
        );

        assert!(
            files.contains("/etc/ssl/certs/ca-certificates.crt"),
            "https checks need authorities:\n{files}"
        );

        // Port 53 needs the setting that the documents name.
        allow_ports_from(1024);
        let mut refused = container.start();
        assert_eq!(refused.ended(), Some(1));
        wait_for("the reason", || refused.said("0.0.0.0:53").pop());

        allow_ports_from(53);
        let mut running = container.start();
        wait_for("DNS is answered", || {
            assert!(running.is_running(), "steerd ended: {:?}", running.said(""));
            running.said("DNS is answered").pop()
        });
        let status = container.root.read(&format!("/proc/{}/status", running.id()));
        for expected in ["Uid:\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
            assert!(status.contains(expected), "{expected}: {status}");
        }
        let server = "127.0.0.1:53".parse().unwrap();
        assert_eq!(dig(server, &Sent::default(), &["www.steerd.test"]), ["127.0.0.1"]);
        let healthcheck = words("HEALTHCHECK");
        output(&mut container.command(&healthcheck));
        running.signal("TERM");
        assert_eq!(running.ended(), Some(0));
        assert!(!container.command(&healthcheck).status().unwrap().success());
    });
}

/// Its end would end the container.
#[test]
fn as_the_first_process_of_a_container_it_refuses_an_upgrade() {
    namespace::run_with_users("image::as_the_first_process_of_a_container_it_refuses_an_upgrade", || {
        let container = Container::new(|_| ());
        allow_ports_from(53);
        let served = container.command(&[words("ENTRYPOINT"), words("CMD")].concat());
        let mut running = Process::start(
            Command::new(program("unshare"))
                .args(["--pid", "--fork", "--kill-child"])
                .arg(served.get_program())
                .args(served.get_args())
                .current_dir("/"),
        );
        wait_for("DNS is answered", || {
            assert!(running.is_running(), "steerd ended: {:?}", running.said(""));
            running.said("DNS is answered").pop()
        });
        let refused =
            container.command(&[words("ENTRYPOINT"), vec!["upgrade".to_owned()]].concat()).output().unwrap();
        let told = crate::text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(3), "{told}");
        assert!(
            told.contains("process 1 of its container") && told.contains("one instance after the other"),
            "{told}"
        );
        let server = "127.0.0.1:53".parse().unwrap();
        assert_eq!(dig(server, &Sent::default(), &["www.steerd.test"]), ["127.0.0.1"]);
    });
}

#[test]
fn every_file_of_the_dockerfile_is_in_the_source_tree() {
    let file = std::fs::read_to_string(source("packaging/container/Dockerfile")).unwrap();
    let paths = file.split_whitespace().filter(|word| word.starts_with("packaging/"));
    assert!(paths.map(|path| assert!(source(path).exists(), "{path}")).count() > 0);
    assert!(Path::new(&words("ENTRYPOINT")[0]).is_absolute());
}
