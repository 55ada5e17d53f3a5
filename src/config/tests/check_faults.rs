//! A fault of a check, or a contradiction between two valid keys, is reported once, at its place.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use super::{errors, in_check, in_pool, load_with_rest, one_error};

#[test]
fn check_urls() {
    let url = "a URL such as \"http://:8080/healthz\", or a table";
    in_check("\"tcp\"", &format!("2:9 `check` must be {url}"));
    in_check("8080", &format!("2:9 `check` must be {url}; this is an integer"));
    in_check("\"htpp://:80/\"", "2:9 `htpp` is not a type of check | did you mean `http`?");
    in_check(
        "\"redis://:80/\"",
        "2:9 `redis` is not a type of check | a check is http, https, tcp, tls, grpc or exec",
    );
    in_check(
        "\"http://8080/healthz?token=x\"",
        "2:9 `8080` is where the host stands, and no host has a name of digits only | \
         did you mean \"http://:8080/healthz\"?",
    );
    in_check(
        "\"tls://8443\"",
        "2:9 `8443` is where the host stands, and no host has a name of digits only | \
         did you mean \"tls://:8443\"?",
    );
    in_check("\"http://:0/\"", "2:9 a port is a number from 1 to 65535, not `0`");
    in_check("\"http://:65536/\"", "2:9 a port is a number from 1 to 65535, not `65536`");
    in_check("\"http://web:/\"", "2:9 a port is a number from 1 to 65535, not ``");
    let no_user = "a check's URL takes no user and no password before the host | write the check as a table, with \
                   headers = { Authorization = \"Basic ..\" }, which is the base64 of USER:PASSWORD";
    in_check("\"http://user@web/\"", &format!("2:9 {no_user}"));
    in_check("\"https://user:5Ecr37@:8443/\"", &format!("2:9 {no_user}"));
    in_check(
        "\"http://2001:db8::1:80/\"",
        "2:9 `2001:db8::1:80` is not a host name | write an IPv6 address in brackets: \"[2001:db8::1]\"",
    );
    in_check("\"http://web?x\"", "2:9 the path of a check begins with a slash; this is `?...`");
    in_check(
        "\"http://web/a b\"",
        "2:9 ' ' is not allowed in the path of a check | write it as %XX, its bytes in hexadecimal",
    );
    in_check(
        "\"http://web/#a\"",
        "2:9 '#' is not allowed in the path of a check | write it as %XX, its bytes in hexadecimal",
    );
    in_check("\"tcp://\"", "2:9 a tcp check needs a `port`");
    let tcp = "a tcp check has a port only: it connects to the addresses of the backends";
    in_check("\"tcp://web:5432\"", &format!("2:9 {tcp} | write \"tcp://:5432\""));
    in_check("\"tcp://:5432/x\"", &format!("2:9 {tcp} | write \"tcp://:5432\""));
    in_check(
        "\"https://:443/\"",
        "2:9 an https check must know which name the certificate has to have | set `host` or `tls.name`, or a `host` for each backend, or \
         `tls.verify = false` to accept any certificate",
    );
}

#[test]
fn check_tables() {
    in_check("{ port = 80 }", "2:9 the check has no `type` | for example type = \"http\"");
    in_check(
        "{ type = \"htps\" }",
        "2:18 `type` must be \"http\", \"https\", \"tcp\", \"tls\", \"grpc\" or \"exec\" | did you mean \"https\"?",
    );
    in_check("{ type = \"tcp\" }", "2:9 a tcp check needs a `port`");
    in_check("{ type = \"http\", port = 0 }", "2:33 `port` must be an integer from 1 to 65535");
    in_check(
        "{ type = \"tcp\", port = 1, path = \"/\" }",
        "2:42 `path` belongs to http and https checks, and this is a tcp check",
    );
    in_check(
        "{ type = \"http\", tls = { verify = false } }",
        "2:26 `tls` belongs to https, tls and grpc checks, and this is an http check",
    );
    in_check("{ type = \"http\", interval = \"99ms\" }", "2:37 `interval` must be from 100ms to 1h");
    in_check("{ type = \"http\", rise = 0 }", "2:33 `rise` must be an integer from 1 to 100");
    in_check("{ type = \"http\", fall = 101 }", "2:33 `fall` must be an integer from 1 to 100");
    in_check("{ type = \"http\", timeout = \"5s\" }", "2:36 `timeout` (5s) must be below `interval` (5s)");
    in_check(
        "{ type = \"http\", interval = \"1s\", recheck = \"2s\" }",
        "2:53 `recheck` (2s) must not be above `interval` (1s)",
    );
    in_check(
        "{ type = \"http\", path = \"healthz\" }",
        "2:33 the path of a check begins with a slash; this is `healthz`",
    );
    in_check("{ type = \"http\", host = \"a\\r\\nb\" }", r"2:33 `a\r\nb` is not a host name");
    in_check(
        "{ type = \"http\", host = \"user:5Ecr37@web\" }",
        "2:33 a host has no user and no password before it",
    );
    in_check("{ type = \"http\", host = \"[::1]:x\" }", "2:33 a port is a number from 1 to 65535, not `x`");
    for (bad, column) in [("\"200\", \"20x\"", 43), ("\"299-200\"", 36), ("\"99\"", 36), ("\"600\"", 36)] {
        let word = bad.rsplit('"').nth(1).unwrap();
        in_check(
            &format!("{{ type = \"http\", status = [{bad}] }}"),
            &format!(
                "2:{column} each element of `status` must be a status code or a range such as \"200-299\", within 100 \
                 to 599; this is `{word}`"
            ),
        );
    }
}

#[test]
fn check_tls() {
    let tls = |tls: &str, expected: &str| {
        in_check(&format!("{{ type = \"https\", host = \"a.example\", tls = {{ {tls} }} }}"), expected);
    };
    tls("name = \"not a name\"", "2:62 `name` must be a host name or an address; this is `not a name`");
    tls("ca_file = \"none.pem\"", "2:65 `ca_file` `none.pem`: No such file or directory (os error 2)");
    tls(
        "ca_file = \"example.com.zone\"",
        "2:65 `ca_file` `example.com.zone`: it holds no certificate in PEM form",
    );
    tls("verfy = true", "2:55 unknown key `verfy` | did you mean `verify`?");
}

#[test]
fn urls_of_every_type() {
    in_check(
        "\"tls://:443\"",
        "2:9 a tls check must know which name the certificate has to have | write \"tls://NAME:PORT\", or set \
         `tls.name`, or a `host` for each backend, or `tls.verify = false` to accept any certificate",
    );
    in_check("\"tls://a.example\"", "2:9 a tls check needs a `port`");
    in_check(
        "\"tls://a.example:443/x\"",
        "2:9 a tls check has a name and a port only: it sends no request | write \"tls://a.example:443\", or \
         \"https://a.example:443/x\" for a request",
    );
    in_check("\"tls://a..b:443\"", "2:9 `a..b` cannot be a name in a certificate");
    in_check("\"grpc://web\"", "2:9 a grpc check needs a `port`");
    in_check(
        "\"grpc://:1/a?b\"",
        "2:9 '?' is not allowed in the name of a gRPC service | write it as the server registers it, such as \
         \"my.package.Service\"",
    );
    let cannot = "of the check cannot be run:";
    in_check("\"exec:\"", "2:9 `check` must be the path of a program; this is empty");
    in_check(
        "\"exec:none\"",
        &format!("2:9 the program `none` {cannot} No such file or directory (os error 2)"),
    );
    in_check("\"exec:.\"", &format!("2:9 the program `.` {cannot} it is a directory"));
    in_check(
        "\"exec:example.com.zone\"",
        &format!("2:9 the program `example.com.zone` {cannot} it is not executable (see chmod)"),
    );
    in_check(
        "\"exec:/bin/sh -c true\"",
        &format!(
            "2:9 the program `/bin/sh ...` {cannot} No such file or directory (os error 2) | arguments belong in \
             `arguments`: {{ type = \"exec\", program = \"..\", arguments = [\"..\"] }}"
        ),
    );
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("program");
    let shown = program.display();
    for (content, reason) in [
        (
            "#!/bin/sh\r\n",
            "its lines end with CRLF, so the system looks for an interpreter named \"/bin/sh\\r\"; convert it, for \
             example with dos2unix",
        ),
        (
            "#!/nowhere/perl -w\n",
            "its interpreter \"/nowhere/perl\" does not exist; install it, or name another",
        ),
    ] {
        std::fs::write(&program, content).unwrap();
        std::fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        in_check(&format!("\"exec:{shown}\""), &format!("2:9 the program `{shown}` {cannot} {reason}"));
    }
}

/// Keys that only some kinds of check have: the key, a value, and the kinds.
const OF_SOME: [(&str, &str, &str); 19] = [
    ("host", "\"a.example\"", "http, https and grpc"),
    ("path", "\"/\"", "http and https"),
    ("method", "\"GET\"", "http and https"),
    ("headers", "{ a = \"b\" }", "http, https and grpc"),
    ("http_version", "\"1.1\"", "http and https"),
    ("status", "[200]", "http and https"),
    ("drain_status", "[503]", "http and https"),
    ("body", "{ contains = \"a\" }", "http and https"),
    ("body_limit", "\"1KiB\"", "http and https"),
    ("weight_header", "\"x-load\"", "http and https"),
    ("tls", "{ verify = false }", "https, tls and grpc"),
    ("send", "\"a\"", "tcp and tls"),
    ("expect", "\"a\"", "tcp and tls"),
    ("send_hex", "\"00 ff\"", "tcp and tls"),
    ("expect_hex", "\"00:ff\"", "tcp and tls"),
    ("proxy_protocol", "\"v2\"", "http, https, tcp, tls and grpc"),
    ("service", "\"a\"", "grpc"),
    ("program", "\"/bin/sh\"", "exec"),
    ("arguments", "[]", "exec"),
];

/// A check of each kind with only the required keys.
const TYPES: [(&str, &str, &str); 6] = [
    ("http", "an http check", "type = \"http\""),
    ("https", "an https check", "type = \"https\", tls.verify = false"),
    ("tcp", "a tcp check", "type = \"tcp\", port = 1"),
    ("tls", "a tls check", "type = \"tls\", port = 1, tls.verify = false"),
    ("grpc", "a grpc check", "type = \"grpc\", port = 1"),
    ("exec", "an exec check", "type = \"exec\", program = \"/bin/sh\""),
];

#[test]
fn a_key_fits_some_types_or_is_refused_where_it_is_set() {
    for (kind, shown, base) in TYPES {
        for (key, value, fits) in OF_SOME {
            if base.contains(&format!("{key}.")) || base.contains(&format!("{key} =")) {
                continue;
            }
            let fits_kind = fits.replace(" and ", ", ").split(", ").any(|fit| fit == kind);
            let text = format!("check = {{ {base}, {key} = {value} }}\nbackends = [\"192.0.2.1\"]");
            if fits_kind {
                assert!(errors(&load_with_rest(&format!("[pools.x]\n{text}\n"))).is_empty(), "{text}");
            } else {
                // `tls` is reported at its name, other keys at their value.
                let column =
                    if key == "tls" { 13 } else { 16 } + base.len() + usize::from(key != "tls") * key.len();
                let message = format!("`{key}` belongs to {fits} checks, and this is {shown}");
                in_pool(&text, &format!("2:{column} {message}"));
            }
            // As a default, it is ignored by checks without this key.
            if key != "program" {
                let text = format!(
                    "[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {{ {base} }}\n[defaults.check]\n{key} = {value}\n"
                );
                assert!(errors(&load_with_rest(&text)).is_empty(), "{text}");
            }
        }
    }
}

#[test]
fn what_is_one_checks_alone_has_no_default() {
    for (key, value) in
        [("name", "\"a\""), ("critical", "true"), ("observe_only", "true"), ("program", "\"/bin/sh\"")]
    {
        one_error(
            &format!("[defaults.check]\n{key} = {value}\n"),
            &format!("2:1 `{key}` cannot have a default | set it in the check that is meant"),
        );
    }
}

#[test]
fn programs() {
    in_check(
        "{ type = \"exec\" }",
        "2:9 an exec check needs a `program` | for example \"exec:/usr/local/bin/check\"",
    );
    let exec = |keys: &str, expected: &str| {
        in_check(&format!("{{ type = \"exec\", program = \"/bin/sh\", {keys} }}"), &format!("2:{expected}"));
    };
    exec(
        "arguments = \"-c\"",
        "59 `arguments` must be a list of arguments, such as [\"--fast\"]; this is a string | did you mean [\"-c\"]?",
    );
    exec("arguments = [1]", "60 each element of `arguments` must be an argument; this is an integer");
    exec(
        "arguments = [\"a\\u0000\"]",
        "60 each element of `arguments` must be at most 4096 bytes, none of them zero",
    );
    let many = vec!["\"\""; 65].join(", ");
    exec(
        &format!("arguments = [{many}]"),
        "59 `arguments` must be a list of at most 64 arguments; these are 65",
    );
    in_check(
        "{ type = \"exec\", program = \"none\" }",
        "2:36 the program `none` of the check cannot be run: No such file or directory (os error 2)",
    );
}

#[test]
fn certificates() {
    in_check(
        "{ type = \"https\", host = \"a.example\", tls = { min_days_left = 3651 } }",
        "2:71 `min_days_left` must be an integer from 0 to 3650",
    );
    in_check(
        "{ type = \"grpc\", port = 1, tls = {} }",
        "2:9 a grpc check must know which name the certificate has to have | set `host` or `tls.name`, or a `host` for each backend, or \
         `tls.verify = false` to accept any certificate",
    );
    // A default for the host is for checks that send one.
    let text = "[defaults.check]\nhost = \"d.example\"\n[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = \"tls://:443\"\n";
    let found = errors(&load_with_rest(text));
    assert!(found.len() == 1 && found[0].contains("a tls check must know which name"), "{found:#?}");
    in_check("{ type = \"tls\", port = 1, tls = 1 }", "2:41 `tls` must be a table; this is an integer");
}

#[test]
fn contradictions() {
    for (keys, expected) in [
        ("timeout = \"5s\"", "2:36 `timeout` (5s) must be below `interval` (5s)"),
        (
            "timeout = \"2s\", interval_down = \"2s\"",
            "2:36 `timeout` (2s) must be below `interval_down` (2s)",
        ),
        ("recheck = \"6s\"", "2:36 `recheck` (6s) must not be above `interval` (5s)"),
        (
            "recheck = \"2s\", interval_down = \"1s\"",
            "2:36 `recheck` (2s) must not be above `interval_down` (1s)",
        ),
        ("interval_down = \"99ms\"", "2:42 `interval_down` must be from 100ms to 1h"),
        (
            "damping = \"on\"",
            "2:36 `damping` must be true or false; this is a string | drop the quotes: damping = true",
        ),
        (
            "critical = true, observe_only = true",
            "2:58 a check that is `observe_only` decides nothing, and one that is `critical` does",
        ),
        ("method = \"HEAD\", body = { contains = \"a\" }", "2:50 a response to HEAD has no body to search"),
        (
            "body = { contains = \"abc\" }, body_limit = \"2B\"",
            "2:33 the text of `body` has 3 bytes, and `body_limit` lets 2 be read: it would never be found",
        ),
        (
            "status = [200, \"300-302\"], drain_status = [\"300-400\", 200]",
            "2:68 every accepted `status` is in `drain_status`, which goes first: nobody would be healthy",
        ),
        (
            "drain_status = [\"100-599\"]",
            "2:41 every accepted `status` is in `drain_status`, which goes first: nobody would be healthy",
        ),
    ] {
        in_check(&format!("{{ type = \"http\", {keys} }}"), expected);
    }
    let tls = |tls: &str, expected: &str| {
        in_check(&format!("{{ type = \"https\", host = \"a.example\", tls = {{ {tls} }} }}"), expected);
    };
    let authority = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let text = "[pools.x]\nbackends = [\"192.0.2.1\"]\n[pools.x.check]\ntype = \"https\"\n\
                tls = { verify = false, ca_file = \"ca.pem\" }\n";
    let result = super::load_files(&format!("{text}{}", super::REST), &[("ca.pem", &authority)]);
    assert_eq!(
        errors(&result),
        ["steerd.toml:5:35 `ca_file` says whom to trust, but `verify = false` trusts everyone"]
    );
    tls("name = \"\"", "2:62 `name` must be a host name or an address; this is ``");
}

/// Contradictions are reported even if the check has other faults. A faulty key leads to no further
/// faults.
#[test]
fn contradictions_between_sound_keys_are_always_told() {
    let timeout = "`timeout` (2s) must be below `interval` (1s)";
    let recheck = "`recheck` (2s) must not be above `interval` (1s)";
    let both = "interval = \"1s\", timeout = \"2s\"";
    for (keys, expected) in [
        (
            format!("type = \"http\", {both}, path = \"x\""),
            vec![timeout, "the path of a check begins with a slash; this is `x`"],
        ),
        (format!("type = \"htp\", {both}"), vec!["`type` must be", timeout]),
        (both.into(), vec!["the check has no `type`", timeout]),
        (format!("typ = \"http\", {both}"), vec!["unknown key `typ`", timeout]),
        (
            "type = \"http\", interval = \"1s\", timeout = 2, recheck = \"2s\"".into(),
            vec!["`timeout` must be a duration", recheck],
        ),
        // The interval is wrong, so it contradicts nothing. The built-in 5s does not count either, because
        // it may not be meant.
        ("type = \"http\", interval = 20, timeout = \"9s\"".into(), vec!["`interval` must be a duration"]),
        ("type = \"http\", intervall = \"20s\", timeout = \"9s\"".into(), vec!["unknown key `intervall`"]),
        (
            "type = \"http\", body_limt = \"9KiB\", body = 1".into(),
            vec!["unknown key `body_limt`", "`body` must be"],
        ),
        ("type = \"tcp\", prot = 1".into(), vec!["unknown key `prot`"]),
        ("type = \"https\", hots = \"a\"".into(), vec!["unknown key `hots`"]),
    ] {
        let text = format!("[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {{ {keys} }}\n");
        let found = errors(&load_with_rest(&text));
        assert_eq!(found.len(), expected.len(), "{keys}: {found:#?}");
        for expected in expected {
            assert!(found.iter().any(|fault| fault.contains(expected)), "{expected}: {found:#?}");
        }
    }
    // A wrong key is not replaced by its default, which would fit.
    let text = "[defaults.check]\ninterval = \"1s\"\n[pools.x]\nbackends = [\"192.0.2.1\"]\n\
                check = { type = \"http\", interval = 20, timeout = \"9s\" }\n";
    assert_eq!(errors(&load_with_rest(text)).len(), 1);
}

#[test]
fn several_checks() {
    let backends = "backends = [\"192.0.2.1\"]";
    let checks = |checks: &str, expected: &str| in_pool(&format!("{backends}\n{checks}"), expected);
    checks("check = \"tcp://:1\"\nchecks = [\"tcp://:2\"]", "4:10 a pool has `check` or `checks`, not both");
    let url = "a URL such as \"http://:8080/healthz\", or a table";
    checks(
        "checks = [\"tcp://:1\", 2]",
        &format!("3:23 each element of `checks` must be {url}; this is an integer"),
    );
    checks("checks = 2", &format!("3:10 `checks` must be {url}; this is an integer"));
    let many = vec!["\"tcp://:1\""; 33].join(", ");
    checks(&format!("checks = [{many}]"), "3:10 a pool has at most 32 checks; these are 33");
    let named = "{ type = \"tcp\", port = 1, name = \"a\" }";
    checks(&format!("checks = [{named}, {named}]"), "3:84 a check `a` is in this pool already");
    checks(
        "check = { type = \"tcp\", port = 1, name = \"a b\" }",
        "3:42 ' ' is not allowed in the name of a check | letters, digits, dots, dashes and underscores can",
    );
    let two = "\nchecks = [\"tcp://:1\", \"tcp://:2\"]";
    let what = "`require` must be \"all\", \"any\" or a number of checks";
    checks(&format!("require = 0{two}"), "3:11 `require` must be an integer from 1 to 32");
    checks(&format!("require = \"al\"{two}"), &format!("3:11 {what} | did you mean \"all\"?"));
    checks(
        &format!("require = true{two}"),
        "3:11 `require` must be \"all\", \"any\" or a number of checks; this is a boolean",
    );
    checks(
        &format!("require = 3{two}"),
        "3:11 `require` is 3, but pool `x` has 2 checks that decide: it would never be usable",
    );
    checks(
        "require = 2\nchecks = [\"tcp://:1\", { type = \"tcp\", port = 2, observe_only = true }]",
        "3:11 `require` is 2, but pool `x` has one check that decides: it would never be usable",
    );
    checks(
        "require = 2",
        "3:11 `require` is 2, but pool `x` has no check that decides: it would never be usable",
    );
    one_error(
        &format!("[defaults.pool]\nrequire = 2\n[pools.x]\n{backends}\ncheck = \"tcp://:1\"\n"),
        "3:8 `require` is 2, but pool `x` has one check that decides: it would never be usable",
    );
    // A wrong check hides no faults of the others, and `require` is not compared with the remaining ones.
    let text = format!(
        "[pools.x]\n{backends}\nrequire = 2\nchecks = [\"tcp\", {{ type = \"http\", timeout = \"9s\" }}]\n"
    );
    let found = errors(&load_with_rest(&text));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[1].contains("`timeout` (9s) must be below"), "{found:#?}");
}

#[test]
fn pools_and_backends() {
    let pool = |line: &str, expected: &str| in_pool(&format!("backends = [\"192.0.2.1\"]\n{line}"), expected);
    pool("slow_start = \"2h\"", "3:14 `slow_start` must be from 0s to 1h");
    let what = "`suspect_self` must be a share of the addresses from \"1%\" to \"100%\", or \"off\"";
    for (wrong, hint) in [("0%", ""), ("101%", ""), ("90", " | did you mean \"90%\"?"), ("of", "")] {
        pool(&format!("suspect_self = \"{wrong}\""), &format!("3:16 {what}; this is `{wrong}`{hint}"));
    }
    pool("suspect_self = false", &format!("3:16 {what}; this is a boolean | did you mean \"off\"?"));
    let backend = |key: &str, expected: &str| {
        in_pool(&format!("backends = [{{ address = \"192.0.2.1\", {key} }}]"), &format!("2:{expected}"));
    };
    backend("port = 0", "45 `port` must be an integer from 1 to 65535");
    backend("site = \"\"", "45 the name of a site has 1 to 64 characters; this has 0");
    backend(
        "site = \"a b\"",
        "45 ' ' is not allowed in the name of a site | letters, digits, dots, dashes and underscores can",
    );
    backend("check_address = \"ff02::1\"", "54 `ff02::1` is a multicast address: no probe can be sent there");
    backend(
        "check_address = \"probe.example\"",
        "54 `check_address` must be an IP address, such as \"192.0.2.11\" or \"2001:db8::11\" | names are not looked \
         up: write the addresses of the backend",
    );
}

#[test]
fn bytes_and_client_certificates() {
    let tcp = |keys: &str, expected: &str| {
        in_check(&format!("{{ type = \"tcp\", port = 1, {keys} }}"), &format!("2:{expected}"));
    };
    let what = "must be bytes in hexadecimal, such as \"16 03 01\": pairs of digits for 1 to 4096 bytes";
    tcp("send_hex = \"0\"", &format!("46 `send_hex` {what}"));
    tcp("expect_hex = \"zz\"", &format!("48 `expect_hex` {what}"));
    tcp("send = \"a\", send_hex = \"00\"", "58 a check has `send` or `send_hex`, not both");
    let https = |keys: &str, expected: &str| {
        let check = format!("{{ type = \"https\", host = \"a.example\", tls = {{ {keys} }} }}");
        in_check(&check, &format!("2:{expected}"));
    };
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let key = || rcgen::KeyPair::generate().unwrap();
    let signing = key();
    let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let write = |name: &str, text: &str| {
        std::fs::write(path(name), text).unwrap();
        std::fs::set_permissions(path(name), Permissions::from_mode(0o600)).unwrap();
    };
    write("certificate", &params.self_signed(&signing).unwrap().pem());
    write("key", &signing.serialize_pem());
    write("other", &key().serialize_pem());
    let (certificate, right, other) = (path("certificate"), path("key"), path("other"));
    https(
        &format!("client_key = \"{right}\""),
        "68 `client_key` is the key of a `client_certificate`, which is missing",
    );
    https(
        &format!("client_certificate = \"{certificate}\", client_key = \"{other}\""),
        &format!("{} {other} cannot be used: its key is not that of the certificate", 93 + certificate.len()),
    );
    https(
        &format!("client_certificate = \"{certificate}\""),
        &format!(
            "76 {certificate} cannot be used: it holds a certificate and no private key (BEGIN PRIVATE KEY); name the \
             file of the key in `client_key`"
        ),
    );
    let der = path("der");
    std::fs::write(&der, signing.serialize_der()).unwrap();
    std::fs::set_permissions(&der, Permissions::from_mode(0o600)).unwrap();
    https(
        &format!("client_certificate = \"{certificate}\", client_key = \"{der}\""),
        &format!(
            "{} `client_key` `{der}`: it is a private key in DER form; convert it with `openssl pkey -inform DER -in FILE \
             -out NEW.pem`",
            93 + certificate.len()
        ),
    );
    https(
        &format!("ca_file = \"{right}\""),
        &format!(
            "65 `ca_file` `{right}`: it holds a private key; a certificate is expected (BEGIN CERTIFICATE)"
        ),
    );
    // If every backend has a host, the check needs no name.
    let backends = "backends = [{ address = \"192.0.2.1\", host = \"a.example\" }]";
    let pool = format!("[pools.x]\ncheck = {{ type = \"https\" }}\n{backends}\n");
    assert!(errors(&load_with_rest(&pool)).is_empty());
    in_pool("backends = [{ address = \"192.0.2.1\", host = \"a b\" }]", "2:45 `a b` is not a host name");
}
