//! Several files, and the files that come with steerd.

use std::path::Path;

use super::{REST, errors, load_files};
use crate::config::load;

const POOL: &str = "[pools.x]\nbackends = [\"192.0.2.1\"]\n[services.\"x.example.com\"]\npools = [\"x\"]\n";

#[test]
fn every_file_that_comes_with_steerd_loads() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let setup = load(&path).unwrap_or_else(|faults| panic!("{faults}"));
            assert!(setup.warnings.is_empty(), "{}", setup.warnings);
            assert!(!setup.checker.services.is_empty());
            count += 1;
        }
    }
    assert!(count >= 3, "{count} files");
}

/// What config/example.toml shows as a default is the default, and it knows every key.
#[test]
fn the_example_shows_every_key() {
    let example = include_str!("../../../config/example.toml");
    for key in [
        "listen",
        "workers",
        "udp_payload",
        "startup_wait",
        "nsid",
        "chaos",
        "cookies",
        "cookie_secret_file",
        "client_subnet",
        "tcp_connections",
        "tcp_idle",
        "rate_limit",
        "state_dir",
        "token_file",
        "public_reads",
        "transfer",
        "networks",
        "keys",
        "algorithm",
        "secret_file",
        "responses_per_second",
        "slip",
        "networks_exempt",
        "file",
        "backends",
        "name",
        "address",
        "addresses",
        "weight",
        "enabled",
        "min_healthy",
        "check",
        "type",
        "port",
        "host",
        "path",
        "status",
        "interval",
        "timeout",
        "rise",
        "fall",
        "recheck",
        "verify",
        "ca_file",
        "pools",
        "answers",
        "ttl",
        "policy",
        "when_down",
        "include",
    ] {
        let shown = example
            .lines()
            .any(|line| line.contains(&format!("{key} =")) || line.contains(&format!("#   {key} ")));
        assert!(shown, "{key}");
    }
}

#[test]
fn included_files_add_their_sections() {
    let main = format!("include = [\"b.toml\", \"conf.d/*.toml\", \"conf.d/a*\"]\n{REST}");
    let files = [
        ("b.toml", "[defaults.service]\nttl = \"9s\"\n"),
        ("conf.d/a.toml", POOL),
        ("conf.d/.hidden.toml", "this is not TOML"),
        ("conf.d/z.toml", "[server]\nworkers = 2\n"),
        ("conf.d/deeper/not.toml", "this is not TOML"),
    ];
    let setup = load_files(&main, &files).unwrap();
    assert_eq!((setup.checker.pools.len(), setup.server.workers), (2, 2));
    assert!(setup.checker.services.iter().all(|service| service.ttl == 9));
    assert!(setup.warnings.is_empty(), "{}", setup.warnings);
}

#[test]
fn a_file_that_matches_itself_is_read_once() {
    let setup = load_files(&format!("include = [\"*.toml\"]\n{REST}"), &[("x.toml", POOL)]).unwrap();
    assert_eq!(setup.checker.pools.len(), 2);
}

#[test]
fn what_is_defined_twice_is_shown_with_both_places() {
    let main = format!("include = [\"*.toml\"]\n[server]\n[defaults.check]\nrise = 1\n{REST}");
    let other = "[pools.web]\nbackends = [\"192.0.2.1\"]\n[services.\"WWW.example.com\"]\npools = [\"web\"]\n\
                 [zones.\"example.com.\"]\nfile = \"example.com.zone\"\n[server]\n[defaults.check]\nfall = 1\n";
    let result = load_files(&main, &[("other.toml", other)]);
    assert_eq!(
        errors(&result),
        [
            "other.toml:1:8 pool `web` is defined twice",
            "other.toml:3:11 service `www.example.com.` is defined twice",
            "other.toml:5:8 zone `example.com.` is defined twice",
            "other.toml:7:2 [server] is defined twice",
            "other.toml:8:11 [defaults.check] is defined twice",
        ]
    );
    for fault in result.unwrap_err().errors() {
        let (place, label) = fault.related.as_ref().unwrap();
        assert!(place.file.ends_with("steerd.toml") && place.line > 1, "{label} {place}");
    }
}

#[test]
fn includes_that_do_not_work() {
    let result = load_files(&format!("include = [\"none.toml\"]\n{REST}"), &[]);
    assert_eq!(
        errors(&result),
        ["steerd.toml:1:12 cannot read none.toml: No such file or directory (os error 2)"]
    );
    let result =
        load_files(&format!("include = [\"a.toml\"]\n{REST}"), &[("a.toml", "include = [\"b.toml\"]\n")]);
    assert_eq!(
        errors(&result),
        ["a.toml:1:1 an included file cannot include others | name them in the main file"]
    );
    let result =
        load_files(&format!("include = [\"a.toml\"]\n{REST}"), &[("a.toml", "[pools.x]\nbackends = [\n")]);
    let told = errors(&result);
    assert!(told[0].starts_with("a.toml:2:") && told[0].contains("this is not TOML"), "{told:#?}");
    let result = load_files(&format!("include = [\"a***.toml\"]\n{REST}"), &[]);
    assert!(errors(&result)[0].starts_with("steerd.toml:1:12 this is not a pattern of paths"), "{result:?}");
    let setup = load_files(&format!("include = [\"none/*.toml\"]\n{REST}"), &[]).unwrap();
    let warnings: Vec<_> = setup.warnings.iter().map(super::told).collect();
    assert!(warnings[0].starts_with("steerd.toml:1:12 no file matches"), "{warnings:#?}");
}
