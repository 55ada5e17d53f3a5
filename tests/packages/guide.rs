//! Runs the commands of docs/INSTALL.md as they stand. Only `cargo` is left out: the program under test is the one that
//! it would build. systemd and Docker have stand-ins, which know every option that the page uses.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::root::Root;
use crate::supervisor::Supervisor;
use crate::support::{STEERD, program};
use crate::{debian, namespace, output, source};

/// The blocks of commands in a section.
fn blocks(section: &str) -> Vec<String> {
    let page = std::fs::read_to_string(source("docs/INSTALL.md")).unwrap();
    let (_, after) =
        page.split_once(&format!("\n## {section}\n")).unwrap_or_else(|| panic!("no section {section}"));
    let section = after.split("\n## ").next().unwrap();
    section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_section_with_commands_is_tried() {
    let page = std::fs::read_to_string(source("docs/INSTALL.md")).unwrap();
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    assert_eq!(sections, ["Debian package", "From source", "Container", "Kubernetes"]);
    let counts: Vec<usize> = sections.iter().map(|section| blocks(section).len()).collect();
    assert_eq!(counts, [5, 3, 1, 1], "a block more or less: see the tests below");
    assert_eq!(counts.iter().sum::<usize>(), page.matches("```sh").count());
}

/// The path of a stand-in.
fn stand_in(name: &str) -> std::path::PathBuf {
    source("tests/packages/stand-ins").join(name)
}

/// A Debian with the programs of the page, and stand-ins for systemd.
pub(crate) fn debian_with_systemd() -> (Root, Supervisor) {
    let root = Root::debian_with(&["apt", "bind9-dnsutils"]);
    // As if systemd ran: then the scripts of the package start and stop the service.
    std::fs::create_dir_all(root.path("/run/systemd/system")).unwrap();
    // The processes of this namespace, which the listener looks up.
    output(Command::new(program("mount")).args(["-t", "proc", "proc", "/proc"]));
    let (notify, main) = (root.path("/run/systemd/notify"), root.path("/run/steerd.pid"));
    let supervisor =
        Supervisor::listen(&notify, move |process| std::fs::write(&main, format!("{process}\n")).unwrap());
    std::fs::set_permissions(&notify, std::fs::Permissions::from_mode(0o777)).unwrap();
    for name in ["systemctl", "deb-systemd-invoke"] {
        root.copy(&stand_in("systemctl"), &format!("/usr/bin/{name}"));
    }
    std::fs::write(root.path("/etc/apt/apt.conf.d/tests"), "APT::Get::Assume-Yes \"true\";\n").unwrap();
    (root, supervisor)
}

/// The output of a block that runs in a system, where its first failure ends it.
fn run(root: &Root, block: &str) -> String {
    output(root.command(&["sh", "-exc", block]).current_dir("/"))
}

#[test]
fn the_debian_package_as_the_page_says() {
    namespace::run_with_users("guide::the_debian_package_as_the_page_says", || {
        let blocks = blocks("Debian package");
        let [build, install, configure, reload, remove] = &blocks[..] else { panic!("{blocks:#?}") };
        assert_eq!(build, "cargo build --release --locked\npackaging/deb\n");
        let (root, _) = debian_with_systemd();
        let built = TempDir::new().unwrap();
        let package = debian::build(&built, "0.1.0-1");
        root.copy(&package, package.file_name().unwrap().to_str().unwrap());
        assert!(run(&root, install).ends_with("127.0.0.1\n"));
        // The user of the service must be able to read the files, also if root keeps new files to itself.
        let shown = run(&root, &format!("umask 077\n{configure}"));
        assert!(
            shown.contains("\n  systemctl restart steerd\n") && !shown.contains("steerd serve"),
            "{shown}"
        );
        assert!(shown.lines().any(|line| line.starts_with("192.0.2.1") && line.len() < 12), "{shown}");
        let modes = ["stat", "-c", "%a", "/etc/steerd/steerd.toml", "/etc/steerd/lb.example.com.zone"];
        assert_eq!(root.run(&modes), "644\n644\n");
        root.run(&["setpriv", "--reuid", "steerd", "--regid", "steerd", "--clear-groups", "steerd", "check"]);
        let shown = run(&root, reload);
        assert!(shown.contains("reloaded") && shown.contains("www.lb.example.com"), "{shown}");
        // The upgrade is the same command.
        let upgrade = install.lines().next().unwrap();
        std::fs::remove_file(root.path(package.file_name().unwrap().to_str().unwrap())).unwrap();
        let newer = debian::build(&built, "0.1.0-2");
        root.copy(&newer, newer.file_name().unwrap().to_str().unwrap());
        run(&root, upgrade);
        assert!(
            root.run(&["steerd", "status"]).contains("www.lb.example.com"),
            "the service runs after an upgrade"
        );
        let (removes, purges) = remove.split_once('\n').unwrap();
        run(&root, removes);
        assert!(root.path("/etc/steerd/steerd.toml").exists() && !root.path("/usr/bin/steerd").exists());
        // A zone that the operator wrote is the operator's.
        std::fs::write(root.path("/etc/steerd/mine.zone"), "; mine\n").unwrap();
        run(&root, purges);
        assert_eq!(root.run(&["ls", "/etc/steerd"]), "mine.zone\n");
        assert!(!root.path("/var/lib/steerd").exists());
    });
}

/// A place with the source tree and the program where `cargo install` puts it.
fn home() -> TempDir {
    let home = TempDir::new().unwrap();
    std::fs::create_dir_all(home.path().join(".cargo/bin")).unwrap();
    std::fs::copy(STEERD, home.path().join(".cargo/bin/steerd")).unwrap();
    home
}

#[test]
fn from_source_as_the_page_says() {
    let blocks = blocks("From source");
    let (first, rest) = blocks[0].split_once('\n').unwrap();
    assert_eq!(first, "cargo install --locked --path .");
    let home = home();
    let place = TempDir::new().unwrap();
    // Away from the source tree, with nothing beside the program.
    let told = output(
        Command::new("sh")
            .args(["-exc", rest])
            .current_dir(place.path())
            .env_clear()
            .env("PATH", format!("{}:/usr/bin:/bin", home.path().join(".cargo/bin").display())),
    );
    assert!(told.contains("configuration is valid"), "{told}");
    for path in ["steerd.toml", "lb.example.com.zone", "steerd.bash", "man/steerd.1", "man/steerd-serve.1"] {
        assert!(place.path().join(path).exists(), "{path}");
    }
}

#[test]
fn a_service_from_source_as_the_page_says() {
    namespace::run_with_users("guide::a_service_from_source_as_the_page_says", || {
        let blocks = blocks("From source");
        let (root, _) = debian_with_systemd();
        let home = home();
        for directory in ["/root/.cargo/bin", "/packaging"] {
            std::fs::create_dir_all(root.path(directory)).unwrap();
        }
        root.copy(&home.path().join(".cargo/bin/steerd"), "/root/.cargo/bin/steerd");
        for name in ["steerd.service", "steerd.sysusers"] {
            root.copy(&source("packaging").join(name), &format!("/packaging/{name}"));
        }
        run(&root, &format!("umask 077\n{}", blocks[1]));
        assert_eq!(root.run(&["stat", "-c", "%a", "/etc/steerd", "/etc/steerd/steerd.toml"]), "755\n644\n");
        let status = root.command(&["steerd", "status"]).output().unwrap();
        assert!(crate::text(&status.stdout).contains("www.lb.example.com"), "{status:?}");
        run(&root, &blocks[2]);
        let left = root.run(&["find", "/etc", "/usr", "/var/lib", "-name", "*steerd*"]);
        assert_eq!(left, "");
    });
}

#[test]
fn the_container_as_the_page_says() {
    namespace::run_with_users("guide::the_container_as_the_page_says", || {
        let place = Root::empty();
        // The processes of this namespace, which the stand-in looks up.
        output(Command::new(program("mount")).args(["-t", "proc", "proc", "/proc"]));
        for directory in ["bin", "tree"] {
            std::fs::create_dir(place.path(directory)).unwrap();
        }
        symlink(stand_in("docker"), place.path("bin/docker")).unwrap();
        symlink(source("packaging"), place.path("tree/packaging")).unwrap();
        let blocks = blocks("Container");
        let told = output(
            Command::new(program("sh"))
                .args(["-exc", &blocks[0]])
                .current_dir(place.path("tree"))
                .env("PATH", format!("{}:{}", place.path("bin").display(), std::env::var("PATH").unwrap()))
                .env("STEERD", STEERD)
                .env("IMAGE", place.path("image")),
        );
        assert!(told.contains("configuration is valid") && told.contains("\n192.0.2.1"), "{told}");
        assert!(told.contains("reloaded: nothing has changed"), "{told}");
    });
}

/// No cluster is here: the names in the commands must be those of the manifests.
#[test]
fn the_commands_for_kubernetes_name_what_the_manifests_have() {
    let block = blocks("Kubernetes").remove(0);
    let manifests = std::fs::read_to_string(source("packaging/kubernetes/steerd.yaml")).unwrap();
    let lines: Vec<&str> = block.lines().collect();
    let [secret, apply, rollout] = lines[..] else { panic!("{block}") };
    assert!(manifests.contains(secret), "the manifests name the same command");
    let secret =
        secret.strip_prefix("kubectl create secret generic ").unwrap().split(' ').collect::<Vec<_>>();
    assert!(
        manifests.contains(&format!("secretName: {},", secret[0]))
            && secret[1].starts_with("--from-literal=token=")
    );
    let path = apply.strip_prefix("kubectl apply -f ").unwrap();
    assert!(Path::new(&source(path)).exists());
    assert_eq!(rollout, "kubectl rollout status deployment/steerd");
}
