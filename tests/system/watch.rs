//! `[server] watch`: a reload when files change.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{ZONE, dig, wait_for};
use crate::support::Steerd;

const WWW: &str = "www.lb.example.test";

/// A configuration without the pool of its service.
fn config() -> String {
    format!(
        "watch = true\nstate_dir = \"state\"\nstartup_wait = \"0s\"\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n[services.\"{WWW}\"]\npools = [\"web\"]\n"
    )
}

fn pool(name: &str, address: &str) -> String {
    format!("[pools.{name}]\nbackends = [\"{address}\"]\n")
}

/// Puts a file in place as deployments do: whole, under another name first.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// Starts a server that answers 192.0.2.1.
fn start() -> Steerd {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("zone"), ZONE).unwrap();
    fs::create_dir(directory.path().join("state")).unwrap();
    let server = Steerd::start_in(directory, &(config() + &pool("web", "192.0.2.1")));
    wait_for_answer(&server, "192.0.2.1");
    server
}

/// Replaces the main file by one that includes other files.
fn include(server: &Steerd, pattern: &str) {
    let path = server.directory.path().join("steerd.toml");
    let text = fs::read_to_string(&path).unwrap().replace(&pool("web", "192.0.2.1"), "");
    replace(&path, &format!("include = [\"{pattern}\"]\n{text}"));
}

/// Starts a server that answers 192.0.2.2 from `pools.d/web.toml`, which a reload has included.
fn start_with_include() -> Steerd {
    let server = start();
    let path = |name: &str| server.directory.path().join(name);
    fs::create_dir(path("pools.d")).unwrap();
    fs::write(path("pools.d/web.toml"), pool("web", "192.0.2.2")).unwrap();
    include(&server, "pools.d/*.toml");
    wait_for_answer(&server, "192.0.2.2");
    server
}

fn answer(server: &Steerd, question: &[&str]) -> Vec<String> {
    dig(server.dns, &server.ledger.sent, question)
}

fn wait_for_answer(server: &Steerd, address: &str) {
    let is_answered = || (answer(server, &[WWW, "A"]) == [address]).then_some(());
    wait_for(&format!("{address} is answered"), is_answered);
}

fn reloads(server: &Steerd, result: &str) -> f64 {
    server.metric(&format!("steerd_reloads_total{{result=\"{result}\"}}")).unwrap()
}

#[test]
fn each_change_is_loaded_once() {
    let server = start_with_include();
    let path = |name: &str| server.directory.path().join(name);
    replace(&path("pools.d/web.toml"), &pool("web", "192.0.2.3"));
    wait_for_answer(&server, "192.0.2.3");
    let has_more = |status| (server.request("GET", "/api/v1/pools/more", "").0 == status).then_some(());
    replace(&path("pools.d/more.toml"), &pool("more", "192.0.2.9"));
    wait_for("a new file that the pattern matches is loaded", || has_more(200));
    fs::remove_file(path("pools.d/more.toml")).unwrap();
    wait_for("its end is noticed", || has_more(404));
    replace(&path("zone"), &ZONE.replace("static A 192.0.2.80", "static A 192.0.2.81"));
    let is_loaded = || (answer(&server, &["static.lb.example.test", "A"]) == ["192.0.2.81"]).then_some(());
    wait_for("the zone file is loaded", is_loaded);
    assert_eq!((reloads(&server, "success"), reloads(&server, "failure")), (5.0, 0.0));

    replace(&path("pools.d/web.toml"), "[pools.web]\n");
    wait_for("the mistake is refused", || (reloads(&server, "failure") > 0.0).then_some(()));
    replace(&path("zone"), &ZONE.replace("static A 192.0.2.80", "static A 192.0.2.82"));
    wait_for("the next change tries again", || (reloads(&server, "failure") > 1.0).then_some(()));
    replace(&path("pools.d/web.toml"), &pool("web", "192.0.2.4"));
    wait_for_answer(&server, "192.0.2.4");
    assert_eq!((reloads(&server, "success"), reloads(&server, "failure")), (6.0, 2.0));
    let asked = server.process.said("reloading the configuration");
    assert!(asked.len() == 8 && asked.iter().all(|line| line.contains("[server] watch")), "{asked:?}");
}

/// Three looks, in which nothing must happen.
fn wait_for_three_looks() {
    let begin = Instant::now();
    wait_for("three looks have passed", || (begin.elapsed() > Duration::from_secs(7)).then_some(()));
}

/// The missing file is none of the running configuration.
#[test]
fn the_correction_of_a_file_that_only_a_refused_configuration_names_is_loaded() {
    let server = start();
    let path = |name: &str| server.directory.path().join(name);
    let main = fs::read_to_string(path("steerd.toml")).unwrap();
    let new = main.clone() + "[zones.\"new.example.test\"]\nfile = \"new-zone\"\n";
    replace(&path("steerd.toml"), &new);
    let failures = |count| (reloads(&server, "failure") >= count).then_some(());
    wait_for("the missing file is refused", || failures(1.0));
    fs::create_dir(path("new-zone")).unwrap();
    wait_for("the directory in its place is refused", || failures(2.0));
    wait_for_three_looks();
    assert_eq!(reloads(&server, "failure"), 2.0, "nothing has changed since");
    fs::remove_dir(path("new-zone")).unwrap();
    fs::write(path("new-zone"), ZONE).unwrap();
    let is_loaded = || (answer(&server, &["static.new.example.test", "A"]) == ["192.0.2.80"]).then_some(());
    wait_for("the new zone is loaded", is_loaded);
    // A refused pattern, too.
    fs::create_dir(path("pools.d")).unwrap();
    fs::write(path("pools.d/more.toml"), "[pools.more]\n").unwrap();
    replace(&path("steerd.toml"), &format!("include = [\"pools.d/*.toml\"]\n{new}"));
    let before = reloads(&server, "failure");
    wait_for("the faulty include is refused", || failures(before + 1.0));
    fs::write(path("pools.d/more.toml"), pool("more", "192.0.2.9")).unwrap();
    let has_more = || (server.request("GET", "/api/v1/pools/more", "").0 == 200).then_some(());
    wait_for("the corrected include is loaded", has_more);
}

#[test]
fn the_correction_after_a_start_with_the_last_good_configuration_is_loaded() {
    let server = start();
    wait_for("the set of the start is kept", || {
        server.request("GET", "/api/v1/config", "").1["number"].as_u64()
    });
    let new = "[zones.\"new.example.test\"]\nfile = \"new-zone\"\n";
    let faulty = format!("start_with_last_good = true\n{}{}{new}", config(), pool("web", "192.0.2.1"));
    let server = Steerd::start_in(server.end("TERM"), &faulty);
    assert_eq!(server.metric("steerd_config_last_good"), Some(1.0));
    wait_for_three_looks();
    fs::write(server.directory.path().join("new-zone"), ZONE).unwrap();
    let is_loaded = || (answer(&server, &["static.new.example.test", "A"]) == ["192.0.2.80"]).then_some(());
    wait_for("the new zone is loaded", is_loaded);
    assert_eq!(server.metric("steerd_config_last_good"), Some(0.0));
}

/// Kubernetes mounts a `ConfigMap` as links through `..data`, and swaps only that link.
#[test]
fn the_swap_of_a_config_map_is_a_change() {
    let server = start();
    let path = |name: &str| server.directory.path().join(name);
    for (version, address) in [("..1", "192.0.2.2"), ("..2", "192.0.2.3")] {
        fs::create_dir_all(path("map").join(version)).unwrap();
        fs::write(path("map").join(version).join("web.toml"), pool("web", address)).unwrap();
    }
    symlink("..1", path("map/..data")).unwrap();
    symlink("..data/web.toml", path("map/web.toml")).unwrap();
    include(&server, "map/*.toml");
    wait_for_answer(&server, "192.0.2.2");
    symlink("..2", path("map/..data_tmp")).unwrap();
    fs::rename(path("map/..data_tmp"), path("map/..data")).unwrap();
    wait_for_answer(&server, "192.0.2.3");
    assert_eq!(reloads(&server, "success"), 2.0);
}

/// The files that a rollback leaves on disk are not loaded before they change.
#[test]
fn a_rollback_stays_until_the_files_change() {
    let server = start_with_include();
    let path = |name: &str| server.directory.path().join(name);
    assert_eq!(server.request("POST", "/api/v1/rollback", "").0, 200);
    assert_eq!(answer(&server, &[WWW, "A"]), ["192.0.2.1"]);
    wait_for_three_looks();
    assert_eq!(answer(&server, &[WWW, "A"]), ["192.0.2.1"]);
    // The configuration that runs has no such file.
    replace(&path("pools.d/web.toml"), &pool("web", "192.0.2.3"));
    wait_for_answer(&server, "192.0.2.3");
    assert_eq!(reloads(&server, "success"), 2.0);
}
