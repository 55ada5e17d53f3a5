//! Mistakes that are easy to make in TOML, and the hints for them.

use std::collections::HashMap;

use super::files::known_keys;
use super::{REST, ZONE, errors, in_check, in_pool, in_service, load_files, loaded, one_error};
use crate::config::{load, misplaced};

/// The errors of a whole configuration, as `LINE:COLUMN MESSAGE | HINT`.
fn errors_of(text: &str) -> Vec<String> {
    let told = errors(&load_files(text, &[]));
    told.into_iter().map(|error| error.trim_start_matches("steerd.toml:").to_owned()).collect()
}

fn without_quotes(place: &str, section: &str, name: &str) -> String {
    format!(
        "{place} a name with dots needs quotes: without, `{name}` is a table in a table | write [{section}.\"{name}\"]"
    )
}

#[test]
fn a_name_with_dots_needs_quotes() {
    let rest = "[pools.web]\nbackends = [\"192.0.2.1\"]\n[services.\"www.example.com\"]\npools = [\"web\"]\n";
    for (zone, expected) in [
        (
            "[zones.example.com]\nfile = \"example.com.zone\"\n",
            vec![without_quotes("1:8", "zones", "example.com")],
        ),
        (
            "[zones]\nexample.com = { file = \"example.com.zone\" }\n",
            vec![without_quotes("2:1", "zones", "example.com")],
        ),
        (
            "[zones]\nexample.com.file = \"example.com.zone\"\n",
            vec![without_quotes("2:1", "zones", "example.com")],
        ),
        (
            "[zones.example.com]\nfile = \"example.com.zone\"\n[zones.example.com.transfer]\nnetworks = [\"192.0.2.0/24\"]\n",
            vec![without_quotes("1:8", "zones", "example.com")],
        ),
        // If the parts of the name are scattered, its entry is lost.
        (
            "[zones.example.\"com\"]\nfile = \"example.com.zone\"\n[zones.\"example.com\"]\nfile = \"example.com.zone\"\n",
            vec![without_quotes("1:16", "zones", "example.com")],
        ),
    ] {
        assert_eq!(errors_of(&format!("{zone}{rest}")), expected, "{zone}");
    }
    for (section, expected) in [
        (
            "[services.a.example.com]\npools = [\"web\"]\n",
            without_quotes("1:11", "services", "a.example.com"),
        ),
        ("[pools.eu.web]\nbackends = [\"192.0.2.1\"]\n", without_quotes("1:8", "pools", "eu.web")),
    ] {
        assert_eq!(errors_of(&format!("{section}{REST}")), [expected], "{section}");
    }
    let several = "[services.a.example.com]\npools = [\"web\"]\n[services.b.example.com]\npools = [\"web\"]\n\
                   [services.a.b.example.com]\npools = [\"web\"]\n";
    let mut found = errors_of(&format!("{several}{REST}"));
    found.sort();
    assert_eq!(
        found,
        [
            without_quotes("1:11", "services", "a.example.com"),
            without_quotes("3:11", "services", "b.example.com"),
            without_quotes("5:11", "services", "a.b.example.com"),
        ]
    );
    // If the first part is a complete entry, it stays one.
    assert_eq!(
        errors_of(&format!("[pools.web.eu]\nbackends = [\"192.0.2.1\"]\n{REST}")),
        [without_quotes("1:8", "pools", "web.eu"), "1:12 unknown key `eu` | known here: `backends`, `check`, `checks`, `require`, `min_healthy`, `slow_start`, `suspect_self`".to_owned()]
    );
    // A misspelt name of a table, and a table in the wrong section, are not names.
    let slip =
        "[zones.\"b.example\"]\nfile = \"example.com.zone\"\ntrasnfer = { networks = [\"192.0.2.0/24\"] }\n";
    assert_eq!(
        errors_of(&format!("{slip}{REST}"))[0],
        "3:1 unknown key `trasnfer` | did you mean `transfer`?"
    );
    in_pool(
        "backends = [\"192.0.2.1\"]\n[pools.x.tls]\nverify = false",
        "3:10 unknown key `tls` | `tls` belongs to [admin]; or to a check, check = { type = \"http\", .. }",
    );
}

/// The table at the end of the name may be empty, or have a misspelt key.
#[test]
fn a_split_name_is_seen_whatever_its_table_holds() {
    let zones = "[zones.lb.example.com]";
    for (text, section, name) in [
        (zones.to_owned(), "zones", "lb.example.com"),
        (format!("{zones}\nFile = \"example.com.zone\""), "zones", "lb.example.com"),
        (format!("{zones}\ntrasnfer = {{ networks = [] }}"), "zones", "lb.example.com"),
        ("[services.www.lb.example.com]\npool = \"web\"".to_owned(), "services", "www.lb.example.com"),
        ("[pools.eu.web]\nbackend = [\"192.0.2.1\"]".to_owned(), "pools", "eu.web"),
    ] {
        let found = errors_of(&format!("{text}\n{REST}"));
        let told = without_quotes("", section, name);
        assert!(found.iter().any(|error| error.contains(told.trim())), "{text}: {found:#?}");
    }
}

#[test]
fn a_name_that_toml_refuses_is_told_to_be_quoted() {
    let needs = "a name with other characters than letters, digits, - and _ needs quotes";
    for (text, written) in [
        ("[services.*.lb.example.com]", "[services.\"*.lb.example.com\"]"),
        ("[services.münchen.lb.example.com]", "[services.\"münchen.lb.example.com\"]"),
        ("[zones.lb.example.com.]", "[zones.\"lb.example.com\"]"),
        ("[zones.“lb.example.com”]", "[zones.\"lb.example.com\"]"),
        ("[services]\n*.example.com = { pools = [\"web\"] }", "\"*.example.com\" = .."),
    ] {
        let found = errors_of(&format!("{REST}{text}\n"));
        let hint = format!("| {needs}: write {written}");
        assert!(found.len() == 1 && found[0].ends_with(&hint), "{text}: {found:#?}");
    }
    let found = errors_of("[zones.\"example.com\"]\nfile = “example.com.zone”\n");
    assert!(
        found.len() == 1 && found[0].ends_with("| write straight quotes, \", in place of typographic ones")
    );
}

#[test]
fn a_byte_order_mark_has_no_column() {
    let found = errors_of(&format!("\u{feff}[server] x\n{REST}"));
    assert!(found.len() == 1 && found[0].starts_with("1:10 this is not TOML"), "{found:#?}");
    let shown = load_files(&format!("\u{feff}[server] x\n{REST}"), &[]).unwrap_err().to_string();
    assert!(shown.contains("| [server] x") && !shown.contains("feff"), "{shown}");
}

#[test]
fn values_of_another_shape_are_told_the_right_one() {
    one_error(
        "[zones]\n\"b.example\" = \"b.zone\"\n",
        "2:15 `b.example` must be a table; this is a string | write { file = \"b.zone\" }",
    );
    let zone = "[zones.\"b.example\"]\nfile = \"example.com.zone\"\n";
    for networks in ["[\"192.0.2.1\"]", "\"192.0.2.1\""] {
        let found = errors_of(&format!("{zone}transfer = {networks}\n{REST}"));
        let hint = "| write transfer = { networks = [..] }, or { keys = [..] }";
        assert!(found.len() == 1 && found[0].ends_with(hint), "{found:#?}");
    }
    let found = errors_of(&format!("[[pools.x]]\nbackends = [\"192.0.2.1\"]\n{REST}"));
    assert!(found.len() == 1 && found[0].contains("double brackets make a list of tables"), "{found:#?}");
}

#[test]
fn what_stands_in_the_place_of_an_address_has_words_of_its_own() {
    let address = "must be an IP address, such as \"192.0.2.11\" or \"2001:db8::11\"";
    for (backend, hint) in [
        (
            "http://192.0.2.1/",
            "write the address alone, as in \"192.0.2.1\": scheme, port and path belong to `check`",
        ),
        ("[2001:db8::1]", "did you mean \"2001:db8::1\"?"),
        ("192.0.2.0/24", "this is a network: write each address of it that is meant"),
        (
            "root:5Ecr37@192.0.2.1",
            "write the address alone; user and password belong to `headers` of the check",
        ),
        (
            "http://root:5Ecr37@192.0.2.1/",
            "write the address alone; user and password belong to `headers` of the check",
        ),
    ] {
        let text = format!("backends = [\"{backend}\"]");
        in_pool(&text, &format!("2:13 each element of `backends` {address} | {hint}"));
        let shown = load_files(&format!("[pools.x]\n{text}\n{REST}"), &[]).unwrap_err().to_string();
        assert!(!shown.contains("5Ecr37"), "{shown}");
    }
    let zone = "[zones.\"b.example\"]\nfile = \"example.com.zone\"\nsecondaries = [\"ns2.example.com\"]\n";
    let found = errors_of(&format!("{zone}{REST}"));
    assert!(
        found[0].ends_with("| names are not looked up: write the addresses of the secondary"),
        "{found:#?}"
    );
    // A password in the URL or the host of a check.
    for check in ["\"http://root:5Ecr37@web/\"", "{ type = \"http\", host = \"root:5Ecr37@web\" }"] {
        let text = format!("[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {check}\n{REST}");
        let shown = load_files(&text, &[]).unwrap_err().to_string();
        assert!(!shown.contains("5Ecr37") && shown.contains("steerd.toml:3:"), "{shown}");
    }
    in_check(
        "{ type = \"http\", host = \"http://a.example/\" }",
        "2:33 `http://a.example/` is a URL, and a host is a name or an address, with or without a port | did you mean \"a.example\"?",
    );
    for (listen, message) in [
        ("224.0.0.1:53", "`224.0.0.1:53` is a multicast address, which no server can answer from"),
        ("[ff02::1]:53", "`[ff02::1]:53` is a multicast address, which no server can answer from"),
        (
            "255.255.255.255:53",
            "`255.255.255.255:53` is the broadcast address, which no server can answer from",
        ),
    ] {
        let hint = "write an address of this machine, or \"0.0.0.0:53\" for all of them";
        one_error(&format!("[server]\nlisten = [\"{listen}\"]\n"), &format!("2:11 {message} | {hint}"));
    }
}

#[test]
fn keys_of_other_programs_and_shortened_keys_are_known() {
    let tls = |key: &str, hint: &str| {
        let column = "check = { type = \"https\", tls = { ".len() + 1;
        in_check(
            &format!("{{ type = \"https\", tls = {{ {key} = true }} }}"),
            &format!("2:{column} unknown key `{key}` | {hint}"),
        );
    };
    tls("insecure", "write `verify = false`");
    tls("skip_verify", "write `verify = false`");
    tls("client_cert", "did you mean `client_certificate`?");
}

#[test]
fn shares_in_another_form_are_told_the_right_one() {
    for (line, hint) in [
        ("suspect_self = \"90\"", "did you mean \"90%\"?"),
        ("suspect_self = 90", "did you mean \"90%\"?"),
        ("suspect_self = 0.9", "did you mean \"90%\"?"),
        ("suspect_self = false", "did you mean \"off\"?"),
        ("min_healthy = 50.0", "did you mean \"50%\"?"),
    ] {
        let found = errors_of(&format!("[pools.x]\nbackends = [\"192.0.2.1\"]\n{line}\n{REST}"));
        assert!(found.len() == 1 && found[0].ends_with(&format!("| {hint}")), "{line}: {found:#?}");
    }
}

#[test]
fn days_and_weeks_are_units() {
    for (ttl, seconds) in [
        ("1d", 86_400),
        ("2w", 1_209_600),
        ("1w1d1h", 694_800),
        ("1d 30m", 88_200),
        ("0d", 0),
        ("1.5h", 5400),
    ] {
        let text = format!("[defaults.service]\nttl = \"{ttl}\"\n{REST}");
        assert_eq!(loaded(&text).served.services[0].default.ttl.max, seconds, "{ttl}");
    }
    for ttl in ["d", "1dd", "-1d", "1d ago", "1month", "1y", "99999999999999999999d", "w"] {
        in_service(
            &format!("pools = [\"web\"]\nttl = \"{ttl}\""),
            "3:7 `ttl` must be a duration with a unit, such as \"250ms\", \"5s\", \"1m30s\" or \"2d\"",
        );
    }
    in_check("{ type = \"tcp\", port = 1, interval = \"1d\" }", "2:46 `interval` must be from 100ms to 1h");
}

#[test]
fn a_number_or_a_boolean_in_quotes_is_told_to_drop_them() {
    let share = "`min_healthy` must be a count from 1, or a share of the weight from \"1%\" to \"100%\"";
    let pool = |line: &str, expected: &str| in_pool(&format!("backends = [\"192.0.2.1\"]\n{line}"), expected);
    pool(
        "min_healthy = \"2\"",
        &format!("3:15 {share}; this is `2` | drop the quotes: min_healthy = 2; or write \"2%\" for a share"),
    );
    pool(
        "min_healthy = \"200\"",
        &format!("3:15 {share}; this is `200` | drop the quotes: min_healthy = 200"),
    );
    pool("min_healthy = \"0\"", &format!("3:15 {share}; this is `0`"));
    pool(
        "min_healthy = 0.5",
        &format!("3:15 {share}; this is a number with a fraction | did you mean \"50%\"?"),
    );
    pool(
        "require = \"2\"",
        "3:11 `require` must be \"all\", \"any\" or a number of checks | drop the quotes: require = 2",
    );
    let backend = |keys: &str, expected: &str| {
        in_pool(&format!("backends = [{{ address = \"192.0.2.1\", {keys} }}]"), expected);
    };
    backend(
        "weight = \"3\"",
        "2:47 `weight` must be an integer from 0 to 1000000; this is a string | drop the quotes: weight = 3",
    );
    backend("weight = \"-3\"", "2:47 `weight` must be an integer from 0 to 1000000; this is a string");
    backend(
        "enabled = \"no\"",
        "2:48 `enabled` must be true or false; this is a string | drop the quotes: enabled = false",
    );
    let service = |line: &str, expected: &str| in_service(&format!("pools = [\"web\"]\n{line}"), expected);
    service(
        "answers = \"2\"",
        "3:11 `answers` must be a number from 1 to 256, or \"all\"; this is `2` | drop the quotes: answers = 2",
    );
    service(
        "when_down = \"2\"",
        "3:13 `when_down` must be \"fail-open\", \"nodata\", \"servfail\" or a list of addresses",
    );
    one_error(
        "[server]\ncookies = \"true\"\n",
        "2:11 `cookies` must be \"required\" or true or false | drop the quotes: cookies = true",
    );
}

#[test]
fn a_key_in_the_wrong_table_is_told_where_it_belongs() {
    let tls = "`ca_file` belongs to [client]; or to `tls` of a check, check = { type = \"https\", tls = { .. } }; or to an alert, [[alerts]]";
    in_pool(
        "backends = [\"192.0.2.1\"]\nca_file = \"ca.pem\"",
        &format!("3:1 unknown key `ca_file` | {tls}"),
    );
    in_check(
        "{ type = \"https\", port = 1, ca_file = \"ca.pem\" }",
        &format!("2:37 unknown key `ca_file` | {tls}"),
    );
    one_error(
        "[server]\ntoken_file = \"t\"\n",
        "2:1 unknown key `token_file` | `token_file` belongs to [admin]; or to [client]; or to an alert, [[alerts]]",
    );
    one_error(
        "[server]\ninclude = [\"a.toml\"]\n",
        "2:1 unknown key `include` | `include` belongs to the top of the main file, above its first [table]",
    );
    in_service(
        "pools = [\"web\"]\nport = 80",
        "3:1 unknown key `port` | `port` belongs to a backend, backends = [{ address = \"192.0.2.1\", .. }]; or to a \
         check, check = { type = \"http\", .. }",
    );
}

/// A hint names only tables in which the key is valid.
#[test]
fn every_place_that_is_named_knows_the_key() {
    let mut known: HashMap<String, usize> = HashMap::new();
    known_keys(|_, key| *known.entry(key.to_owned()).or_default() += 1);
    for (key, tables) in misplaced::all() {
        // `[defaults]` repeats some keys.
        assert!(known.get(key).is_some_and(|count| *count >= tables), "`{key}`: {tables} tables");
    }
    assert!(misplaced::all().len() > 60);
    // Every key is in a table, except names of sections.
    let sections = [
        "server", "admin", "client", "geo", "alerts", "keys", "zones", "pools", "services", "defaults",
        "pool",
    ];
    let all = misplaced::all();
    let placeless: Vec<_> = known
        .keys()
        .filter(|key| !all.contains_key(key.as_str()) && !sections.contains(&key.as_str()))
        .collect();
    assert!(placeless.is_empty(), "{placeless:?}");
}

#[test]
fn words_of_other_programs() {
    in_check(
        "\"ping\"",
        "2:9 `check` must be a URL such as \"http://:8080/healthz\", or a table | there is no ping; \"tcp://:PORT\" \
         passes where a port takes connections",
    );
    in_check(
        "{ type = \"http\", status = 200 }",
        "2:35 `status` must be a list of status codes and ranges, such as [\"200-299\", 401]; this is an integer | did \
         you mean [200]?",
    );
    in_service(
        "pools = [\"web\"]\npolicy = \"round-robin\"",
        "3:10 `policy` must be \"weighted\", \"all\" or \"persistent\" | \"weighted\" with equal weights gives every \
         backend the same share",
    );
    in_service(
        "pools = [\"web\"]\npolicy = \"source-ip\"",
        "3:10 `policy` must be \"weighted\", \"all\" or \"persistent\" | \"persistent\" gives clients of one network the \
         same backends",
    );
    one_error(
        "[[keys]]\nname = \"a\"\n",
        "1:1 `keys` must be a table; this is a list | write [keys.NAME], in single brackets",
    );
}

#[test]
fn a_hint_never_says_the_opposite() {
    let pool = |key: &str, known: &str| {
        in_pool(
            &format!("backends = [\"192.0.2.1\"]\n{key} = 1"),
            &format!("3:1 unknown key `{key}` | `{known}` is known here, which says the opposite"),
        );
    };
    pool("max_healthy", "min_healthy");
    pool("min_unhealthy", "min_healthy");
    let backend = |key: &str, hint: &str| {
        in_pool(
            &format!("backends = [{{ address = \"192.0.2.1\", {key} = true }}]"),
            &format!("2:38 unknown key `{key}` | {hint}"),
        );
    };
    backend("disabled", "`enabled` is known here, which says the opposite");
    backend("enable", "did you mean `enabled`?");
    in_service(
        "pools = [\"web\"]\npolicy = \"unweighted\"",
        "3:10 `policy` must be \"weighted\", \"all\" or \"persistent\"",
    );
    one_error(
        "[server]\ncookies = \"not-required\"\n",
        "2:11 `cookies` must be \"required\" or true or false",
    );
    in_service(
        "pools = [\"web\"]\nwhen_down = \"fail-closed\"",
        "3:13 `when_down` must be \"fail-open\", \"nodata\", \"servfail\" or a list of addresses",
    );
}

#[test]
fn a_file_that_is_no_text_has_words_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    let write = |name: &str, bytes: &[u8]| std::fs::write(directory.path().join(name), bytes).unwrap();
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let big_endian = |text: &str| text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let utf_16 = "it is text in UTF-16; save it as UTF-8";
    let binary = "it is a binary file; a text file is expected";
    let utf_32 = "it is text in UTF-32; save it as UTF-8";
    let widest = |text: &str| text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect::<Vec<_>>();
    let big_widest = |text: &str| text.chars().flat_map(|c| u32::from(c).to_be_bytes()).collect::<Vec<_>>();
    let kinds = [
        (widest("\u{feff}[server]\n"), utf_32),
        (widest("[server]\n"), utf_32),
        (big_widest("\u{feff}[server]\n"), utf_32),
        (big_widest("[server]\n"), utf_32),
        (wide("\u{feff}[server]\n"), utf_16),
        (wide("[server]\nworkers = 1\n"), utf_16),
        (big_endian("\u{feff}[server]\n"), utf_16),
        (big_endian("[server]\n"), utf_16),
        (b"\x7fELF\x02\x01\x01\0\0\0\0\0".to_vec(), binary),
        (vec![0; 5000], binary),
        (b"\x1f\x8b\x08\0\0\0\0\0\0\x03".to_vec(), "it is compressed with gzip; unpack it first"),
    ];
    let rest = REST.replace("example.com.zone", "zone");
    for (bytes, reason) in &kinds {
        write("steerd.toml", bytes);
        assert_eq!(errors(&load(&path)), [format!("steerd.toml:0:0 this is not TOML: {reason}")]);
        write("odd", bytes);
        write("zone", ZONE.as_bytes());
        for naming in ["include = [\"odd\"]\n", "[admin]\nlisten = \"127.0.0.1:0\"\ntoken_file = \"odd\"\n"] {
            write("steerd.toml", format!("{naming}{rest}").as_bytes());
            let found = errors(&load(&path));
            assert!(found.len() == 1 && found[0].ends_with(reason), "{naming} {reason}: {found:?}");
        }
        write("zone", bytes);
        write("steerd.toml", rest.as_bytes());
        let found = errors(&load(&path));
        assert!(found.len() == 1 && found[0].contains(reason), "{reason}: {found:?}");
    }
    // A UTF-8 byte-order mark is not a fault.
    write("zone", ZONE.as_bytes());
    write("steerd.toml", format!("\u{feff}{rest}").as_bytes());
    assert_eq!(errors(&load(&path)), [""; 0]);
}
