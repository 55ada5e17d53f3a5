//! Configurations in several files, and the files that come with steerd.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use super::{REST, ZONE, errors, load_files, one_error};
use crate::config::load;
use crate::file::{self, Reading};
use crate::service::Ttl;

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
            assert!(!setup.served.services.is_empty());
            count += 1;
        }
    }
    assert!(count >= 3, "{count} files");
}

/// If an earlier load hangs at a path, later loads do not access it, and report that path, whichever key
/// names it.
#[test]
fn no_path_is_looked_at_where_another_load_hangs() {
    let https = |rest: &str| format!("[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {rest}\n");
    for (hangs, text) in [
        ("steerd.toml", String::new()),
        ("hung", "include = [\"hung\"]\n".into()),
        ("hung.d/*.toml", "include = [\"hung.d/*.toml\"]\n".into()),
        ("hung", "[server]\nstate_dir = \"hung\"\n".into()),
        ("hung", "[server]\ncookie_secret_file = \"hung\"\n".into()),
        ("hung", "[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"hung\"\n".into()),
        ("hung", "[keys.\"k.example\"]\nsecret_file = \"hung\"\n".into()),
        ("hung", https("\"exec:hung\"")),
        ("hung", https("{ type = \"https\", tls = { ca_file = \"hung\" } }")),
        ("hung", "[zones.\"a.example\"]\nfile = \"hung\"\n".into()),
        ("hung", "[zones.\"a.example\"]\nfile = \"zone\"\n".into()),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("steerd.toml");
        std::fs::write(&path, format!("{text}{REST}")).unwrap();
        std::fs::write(directory.path().join("zone"), "$INCLUDE hung\n").unwrap();
        let hung = Arc::new(Reading::default());
        hung.look_at(&directory.path().join(hangs)).unwrap();
        hung.give_up();
        let faults = load(&path).unwrap_err();
        let found: Vec<_> =
            faults.iter().map(|fault| (&*fault.location.file, fault.message.as_str())).collect();
        let message = "an earlier attempt to load the configuration still waits for this file";
        assert_eq!(found, [(&*directory.path().join(hangs), message)], "{text}");
        hung.end();
    }
}

#[test]
fn all_files_of_a_kind_share_one_limit() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    let comment = format!("#{}\n", "x".repeat(1 << 20));
    let included = File::create(directory.path().join("a.toml")).unwrap();
    included.set_len(file::CONFIGURATION - (1 << 20)).unwrap();
    std::fs::write(&path, format!("include = [\"a.toml\"]\n{comment}{REST}")).unwrap();
    let told = load(&path).unwrap_err().to_string();
    assert!(told.contains("at most 62 MiB are read"), "{told}");

    let zones = format!("{REST}[zones.\"a.example\"]\nfile = \"a.zone\"\n");
    std::fs::write(&path, zones).unwrap();
    std::fs::write(directory.path().join("example.com.zone"), ZONE).unwrap();
    File::create(directory.path().join("a.zone")).unwrap().set_len(file::ZONES).unwrap();
    let told = load(&path).unwrap_err().to_string();
    assert!(told.contains("it has 1 GiB, and at most 1023 MiB are read"), "{told}");
}

/// Every table of a configuration, each with an unknown key.
const TABLES: [&str; 24] = [
    "no_such_key = 1",
    "[server]\nno_such_key = 1",
    "[server.query_log]\nfile = \"q\"\nno_such_key = 1",
    "[server.dnstap]\nsocket = \"/tap\"\nno_such_key = 1",
    "[server.rate_limit]\nresponses_per_second = 1\nno_such_key = 1",
    "[admin]\nno_such_key = 1",
    "[admin]\nlisten = \"unix:s\"\nsocket = { no_such_key = 1 }",
    "[admin.tls]\nno_such_key = 1",
    "[admin.tokens.x]\nno_such_key = 1",
    "[client]\nno_such_key = 1",
    "[zones.\"a.example\"]\nno_such_key = 1",
    "[zones.\"a.example\".transfer]\nno_such_key = 1",
    "[keys.\"a.example\"]\nno_such_key = 1",
    "[pools.x]\nno_such_key = 1",
    "[[pools.x.backends]]\nno_such_key = 1",
    "[pools.x.check]\nno_such_key = 1",
    "[pools.x.check.tls]\nno_such_key = 1",
    "[pools.x.check.body]\nno_such_key = 1",
    "[services.\"a.example.com\"]\nno_such_key = 1",
    "[services.\"a.example.com\".persistence]\nno_such_key = 1",
    "[services.\"a.example.com\"]\nrules = [{ no_such_key = 1 }]",
    "[geo]\nno_such_key = 1",
    "[[alerts]]\nno_such_key = 1",
    "[defaults]\nno_such_key = 1",
];

/// The example has a line for every key that a table lists as known.
#[test]
fn the_example_shows_every_key() {
    let example = include_str!("../../../config/example.toml");
    let mut count = 0;
    known_keys(|table, key| {
        let shown = example.lines().any(|line| {
            let words = line.trim_start_matches(['#', ' ']);
            let follows = |after: &str| words.strip_prefix(key).is_some_and(|rest| rest.starts_with(after));
            // The key with its value, in an inline table, in a list of backends, or as a section.
            follows(" = ")
                || line.contains(&format!("{{ {key} = "))
                || line.contains(&format!(", {key} = "))
                || (line.starts_with("#   ") && follows(" "))
                || words.starts_with(&format!("[{key}"))
                || words.starts_with(&format!("[[{key}]]"))
                || line.contains(&format!(".{key}]"))
                || line.contains(&format!(".{key}."))
        });
        assert!(shown, "`{key}` of {table}");
        count += 1;
    });
    assert!(count > 80, "{count} keys");
}

/// Calls `tell` with every key that a table lists as known, and with that table.
pub(super) fn known_keys(mut tell: impl FnMut(&str, &str)) {
    for table in TABLES {
        let faults = load_files(&format!("{table}\n"), &[]).unwrap_err();
        let unknown = faults.errors().find(|fault| fault.message == "unknown key `no_such_key`");
        let hint =
            unknown.and_then(|fault| fault.hint.as_deref()).unwrap_or_else(|| panic!("{table}: {faults}"));
        let keys = hint.strip_prefix("known here: ").unwrap().split(", ");
        keys.for_each(|key| tell(table, key.trim_matches('`')));
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
    assert_eq!((setup.served.pools.len(), setup.server.workers), (2, 2));
    assert!(setup.served.services.iter().all(|service| service.default.ttl == Ttl::fixed(9)));
    assert!(setup.warnings.is_empty(), "{}", setup.warnings);
}

#[test]
fn a_file_that_matches_itself_is_read_once() {
    let setup = load_files(&format!("include = [\"*.toml\"]\n{REST}"), &[("x.toml", POOL)]).unwrap();
    assert_eq!(setup.served.pools.len(), 2);
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
        let (location, label) = fault.related.as_ref().unwrap();
        assert!(location.file.ends_with("steerd.toml") && location.line > 1, "{label} {location}");
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

#[test]
fn the_last_good_configuration_needs_a_directory_that_has_it() {
    one_error(
        "[server]\nstart_with_last_good = true\n",
        "2:24 `start_with_last_good` needs `state_dir`, which has the last good configuration | set `state_dir` to a \
         directory of this server alone",
    );
}
