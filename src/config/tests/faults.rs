//! A fault of a configuration is reported once, at its place.

use super::{REST, errors, in_pool, in_service, load_files, load_with_rest, one_error};

#[test]
fn the_rest_alone_is_sound() {
    let setup = load_with_rest("").unwrap();
    assert!(setup.warnings.is_empty(), "{}", setup.warnings);
}

#[test]
fn keys() {
    one_error("[server]\nlistne = []\n", "2:1 unknown key `listne` | did you mean `listen`?");
    one_error(
        "[server]\ndiscovery = \"a\"\n",
        "2:1 unknown key `discovery` | known here: `listen`, `workers`, `steering`, `udp_payload`, `nsid`, `chaos`, `cookies`, `cookie_secret_file`, `client_subnet`, `tcp_connections`, `tcp_idle`, `rate_limit`, `query_log`, `dnstap`, `state_dir`, `start_with_last_good`, `watch`, `startup_wait`",
    );
    one_error(
        "[admin]\ndiscovery = \"a\"\n",
        "2:1 unknown key `discovery` | known here: `listen`, `token_file`, `tokens`, `public_reads`, `tls`, `socket`",
    );
    one_error("[servre]\n", "1:2 unknown key `servre` | did you mean `server`?");
    one_error("[defaults.checks]\n", "1:11 unknown key `checks` | did you mean `check`?");
    in_pool(
        "backends = [{ addres = \"192.0.2.1\", address = \"192.0.2.2\" }]",
        "2:15 unknown key `addres` | did you mean `address`?",
    );
    in_pool(
        "backends = [\"192.0.2.1\"]\ndiscover = \"5s\"",
        "3:1 unknown key `discover` | known here: `backends`, `check`, `checks`, `require`, `min_healthy`, \
         `slow_start`, `suspect_self`",
    );
    one_error("server = 5\n", "1:10 `server` must be a table; this is an integer");
    let twice = "this key or table is defined twice";
    one_error("[server]\n[server]\n", &format!("2:2 {twice}"));
    one_error("[server]\nworkers = 1\nworkers = 1\n", &format!("3:1 {twice}"));
    // The message shows the first one: the nearest above, without lists and tables that have ended.
    for (text, first) in [
        ("[server]\nworkers = 1\n[server]\n", 1),
        ("[pools.x]\nbackends = [\"192.0.2.1\"]\n[pools.\"x\"]\n", 1),
        ("[keys.a]\nalgorithm = 1\n[keys.b]\nalgorithm = 1\nalgorithm = 1\n", 4),
        ("[pools.x]\nname = 1\nbackends = [{ name = 'a' }, { name = 'b' }]\nname = 2\n", 2),
        ("[pools.x]\ncheck = { port = 1,\nport = 2 }\n", 2),
        ("[[pools.x.checks]]\nport = 1\n[[pools.x.checks]]\nport = 1\nport = 2\n", 4),
    ] {
        let faults = load_with_rest(text).unwrap_err();
        let fault = faults.errors().find(|fault| fault.message == twice).unwrap();
        let (location, _) = fault.related.as_ref().unwrap();
        assert_eq!(location.line, first, "{text}");
    }
}

#[test]
fn keys_and_transfers() {
    let zone = |lines: &str| format!("[zones.\"example.com\"]\nfile = \"example.com.zone\"\n{lines}\n");
    for (lines, expected) in [
        (
            "transfer = {}",
            "3:1 `transfer` needs `networks` or `keys`: without them nobody may transfer the zone",
        ),
        ("transfer = { keys = [\"a\"] }", "3:22 there is no key `a`"),
        ("transfer = { network = [] }", "3:14 unknown key `network` | did you mean `networks`?"),
        ("secondaries = [{ address = \"192.0.2.1\", key = \"a\" }]", "there is no key `a`"),
        ("secondaries = [{ key = \"a\" }]", "a secondary has no `address`"),
        ("secondaries = [\"192.0.2.1:0\"]", "the port of a secondary must not be 0"),
        ("secondaries = [\"0.0.0.0\"]", "no notification can be sent there"),
    ] {
        let found = errors(&load_files(&zone(lines), &[]));
        assert!(found.iter().any(|fault| fault.ends_with(expected)), "{lines}: {found:?}");
    }
    for (file, algorithm, expected) in [
        ("not base64", "hmac-sha256", "it must hold the secret in base64, and nothing else"),
        ("c2hvcnQ=", "hmac-sha256", "the secret has 5 bytes; at least 16 are needed"),
        ("c3RlZXJkLXRyYW5zZmVyLXRlc3Qta2V5LTMyLWJ5dGU=", "hmac-md5", "is not a TSIG algorithm"),
    ] {
        let text =
            format!("{}[keys.\"k.test\"]\nalgorithm = \"{algorithm}\"\nsecret_file = \"key\"\n", zone(""));
        let found = errors(&load_files(&text, &[("key", file)]));
        assert!(found.iter().any(|fault| fault.contains(expected)), "{file} {algorithm}: {found:?}");
    }
}

#[test]
fn servers_of_commands() {
    for (admin, expected) in [
        ("\"http://a:1\"", "must be a list of URLs of admin servers"),
        ("[\"a:1\"]", "2:10 `a:1` is not the URL of an admin server: did you mean http://a:1?"),
        ("[\"http://a:1\", \"http://a:1/\"]", "the server http://a:1 is defined twice"),
    ] {
        let text = format!("[client]\nadmin = {admin}\n");
        let told = errors(&load_with_rest(&text));
        assert!(told.len() == 1 && told[0].contains(expected), "{text}: {told:?}");
    }
}

#[test]
fn server_and_admin() {
    let port = "an address with a port, such as \"192.0.2.1:53\" or \"[2001:db8::1]:53\"";
    for (text, expected) in [
        (
            "listen = \"192.0.2.1:53\"",
            "2:10 `listen` must be a list of addresses with ports, such as [\"0.0.0.0:53\", \"[::]:53\"]; this is \
             a string | did you mean [\"192.0.2.1:53\"]?"
                .to_owned(),
        ),
        (
            "listen = [\"192.0.2.1\"]",
            format!(
                "2:11 each element of `listen` must be {port}; this is `192.0.2.1` | did you mean \"192.0.2.1:53\"?"
            ),
        ),
        (
            "listen = [\"local:53\"]",
            format!(
                "2:11 each element of `listen` must be {port}; this is `local:53` | names are not looked up: write \
                 an address of this machine"
            ),
        ),
        (
            "listen = [\"192.0.2.1:53\", \"192.0.2.1:53\"]",
            "2:27 `192.0.2.1:53` is in this list already".to_owned(),
        ),
        (
            "listen = [\"[::ffff:192.0.2.1]:53\"]",
            "2:11 `[::ffff:192.0.2.1]:53` is an IPv4 address written as an IPv6 one | did you mean \"192.0.2.1:53\"?"
                .to_owned(),
        ),
        (
            "listen = []",
            "2:10 `listen` must be a list of addresses with ports, such as [\"0.0.0.0:53\", \"[::]:53\"] with at \
             least one element"
                .to_owned(),
        ),
        ("workers = -1", "2:11 `workers` must be an integer from 0 to 1024".to_owned()),
        ("workers = 1025", "2:11 `workers` must be an integer from 0 to 1024".to_owned()),
        (
            "steering = \"core\"",
            "2:12 `steering` must be \"hash\" or \"cpu\"".to_owned(),
        ),
        (
            "workers = 1.5",
            "2:11 `workers` must be an integer from 0 to 1024; this is a number with a fraction".to_owned(),
        ),
        ("nsid = \"\"", "2:8 `nsid` must be a text of 1 to 128 bytes".to_owned()),
        (
            "chaos = \"versoin\"",
            "2:9 `chaos` must be \"refuse\" or \"version\" | did you mean \"version\"?".to_owned(),
        ),
        ("cookies = 1", "2:11 `cookies` must be true or false; this is an integer".to_owned()),
        (
            "client_subnet = [\"192.0.2.1/24\"]",
            "2:18 `192.0.2.1/24` has address bits beyond its prefix: write `192.0.2.0/24` for the network, or `192.0.2.1` for the one address".to_owned(),
        ),
        ("tcp_connections = 0", "2:19 `tcp_connections` must be an integer from 1 to 1000000".to_owned()),
        ("tcp_idle = \"5m\"", "2:12 `tcp_idle` must be from 100ms to 2m".to_owned()),
        ("udp_payload = 511", "2:15 `udp_payload` must be an integer from 512 to 4096".to_owned()),
        ("udp_payload = 4097", "2:15 `udp_payload` must be an integer from 512 to 4096".to_owned()),
        ("startup_wait = \"6m\"", "2:16 `startup_wait` must be from 0s to 5m".to_owned()),
    ] {
        one_error(&format!("[server]\n{text}\n"), &expected);
    }
    let token = "write a token to a file, as with `openssl rand -hex 32`, and name the file; or use a loopback \
                 address such as \"127.0.0.1:8053\"";
    one_error(
        "[admin]\nlisten = \"0.0.0.0:8053\"\npublic_reads = true\n",
        &format!(
            "2:10 `0.0.0.0:8053` can be reached from other machines, so `token_file` or [admin.tokens.NAME] is needed beside it | {token}"
        ),
    );
    one_error(
        "[admin]\nlisten = \"0.0.0.0:8053\"\ntoken_file = \"none\"\n",
        "3:14 `token_file` `none`: No such file or directory (os error 2)",
    );
    one_error(
        "[server]\nstate_dir = \"none\"\n",
        "2:13 `state_dir` `none`: No such file or directory (os error 2) | create the directory, and let the user \
         that runs steerd write to it",
    );
    one_error(
        "[server]\nstate_dir = \"steerd.toml\"\n",
        "2:13 `state_dir` `steerd.toml`: this is not a directory | create the directory, and let the user that \
         runs steerd write to it",
    );
    one_error(
        "[server]\nlisten = [\"127.0.0.1:53\"]\n[admin]\nlisten = \"127.0.0.1:53\"\n",
        "4:10 DNS is answered on `127.0.0.1:53`; choose another port",
    );
}

#[test]
fn addresses_that_exclude_each_other() {
    let (v4, v6) = (
        "0.0.0.0 stands for every IPv4 address of the machine",
        "[::] stands for every IPv6 address of the machine",
    );
    for (listen, column, one, other, reason) in [
        ("\"0.0.0.0:5300\", \"127.0.0.1:5300\"", 27, "127.0.0.1:5300", "0.0.0.0:5300", v4),
        ("\"192.0.2.1:5300\", \"0.0.0.0:5300\"", 29, "0.0.0.0:5300", "192.0.2.1:5300", v4),
        ("\"[::1]:5300\", \"[::]:5300\"", 25, "[::]:5300", "[::1]:5300", v6),
    ] {
        one_error(
            &format!("[server]\nlisten = [{listen}]\n"),
            &format!(
                "2:{column} one server cannot listen on `{one}` and on `{other}`: {reason}; leave one of them out"
            ),
        );
    }
    let admin = |listen: &str, admin: &str| format!("[server]\n{listen}\n[admin]\nlisten = \"{admin}\"\n");
    one_error(
        &admin("listen = [\"0.0.0.0:5300\"]", "127.0.0.1:5300"),
        &format!("4:10 DNS is answered on `0.0.0.0:5300`, and {v4}; choose another port"),
    );
    one_error(
        &admin("", "[::1]:53"),
        &format!(
            "4:10 DNS is answered on `[::]:53`, as without `listen` under [server], and {v6}; choose another port"
        ),
    );
    for listen in [
        "\"0.0.0.0:5300\", \"[::]:5300\"",
        "\"127.0.0.1:5300\", \"127.0.0.2:5300\", \"0.0.0.0:5301\"",
        "\"0.0.0.0:0\", \"127.0.0.1:0\", \"127.0.0.1:0\"",
    ] {
        let text = admin(&format!("listen = [{listen}]"), "127.0.0.1:8053");
        assert_eq!(errors(&load_with_rest(&text)), [""; 0], "{listen}");
    }
}

#[test]
fn durations() {
    let what =
        "`startup_wait` must be a duration with a unit, such as \"250ms\", \"5s\", \"1m30s\" or \"2d\"";
    for (value, rest) in [
        ("5", "; this is an integer | did you mean \"5s\"?"),
        ("\"5\"", " | did you mean \"5s\"?"),
        ("0.5", "; this is a number with a fraction"),
        ("\"\"", ""),
        ("\"soon\"", ""),
        ("\"-5s\"", ""),
        ("\"5 parsecs\"", ""),
    ] {
        one_error(&format!("[server]\nstartup_wait = {value}\n"), &format!("2:16 {what}{rest}"));
    }
}

#[test]
fn backends() {
    let list = "a list of backends, such as [\"192.0.2.11\", \"192.0.2.12\"]";
    let address = "must be an IP address, such as \"192.0.2.11\" or \"2001:db8::11\"";
    in_pool("", "1:8 pool `x` has no `backends`");
    in_pool("backends = []", &format!("2:12 `backends` must be {list} with at least one element"));
    in_pool(
        "backends = [\"192.0.2.1:80\"]",
        &format!(
            "2:13 each element of `backends` {address} | write the address alone; a port is `port` of \
             the check, or of the backend as a table"
        ),
    );
    in_pool(
        "backends = [\"192.0.2.0/24\"]",
        &format!(
            "2:13 each element of `backends` {address} | this is a network: write each address of it that is meant"
        ),
    );
    in_pool(
        "backends = [{ address = \"192.0.2.1\", weight = 0.5 }]",
        "2:47 `weight` must be an integer from 0 to 1000000; this is a number with a fraction | only the proportions \
         count: 0.5 and 1 are the same as 1 and 2",
    );
    in_pool(
        "backends = [\"web1.example.com\"]",
        &format!(
            "2:13 each element of `backends` {address} | names are not looked up: write the addresses of the backend"
        ),
    );
    in_pool(
        "backends = [\"192.0.2.1\", 7]",
        "2:26 each element of `backends` must be an address, or a table such as { name = \"a\", address = \
         \"192.0.2.11\" }; this is an integer",
    );
    for (bad, reason) in [
        ("0.0.0.0", "an unspecified address: no client can be sent there"),
        ("::", "an unspecified address: no client can be sent there"),
        ("224.0.0.1", "a multicast address: no client can be sent there"),
        ("ff02::1", "a multicast address: no client can be sent there"),
        ("255.255.255.255", "the broadcast address: no client can be sent there"),
        ("fe80::1", "valid on one link only: no client can be sent there"),
        ("::ffff:192.0.2.9", "an IPv4 address written as an IPv6 one | did you mean \"192.0.2.9\"?"),
    ] {
        in_pool(&format!("backends = [\"{bad}\"]"), &format!("2:13 `{bad}` is {reason}"));
        in_service(
            &format!("pools = [\"web\"]\nwhen_down = [\"{bad}\"]"),
            &format!("3:14 `{bad}` is {reason}"),
        );
    }
    in_pool("backends = [\"192.0.2.1\", \"192.0.2.1\"]", "2:26 `192.0.2.1` is in this pool already");
    in_pool(
        "backends = [\"2001:db8::1\", { address = \"2001:DB8:0::1\" }]",
        "2:40 `2001:db8::1` is in this pool already",
    );
    in_pool(
        "backends = [{ addresses = [\"192.0.2.1\", \"192.0.2.1\"] }]",
        "2:41 `192.0.2.1` is in this pool already",
    );
    in_pool(
        "backends = [{ name = \"a\", address = \"192.0.2.1\" }, { name = \"a\", address = \"192.0.2.2\" }]",
        "2:61 a backend `a` is in this pool already",
    );
    in_pool(
        "backends = [\"192.0.2.1\", { name = \"192.0.2.1\", address = \"192.0.2.2\" }]",
        "2:35 a backend `192.0.2.1` is in this pool already",
    );
    in_pool("backends = [{ name = \"a\" }]", "2:13 the backend has no `address`");
    in_pool(
        "backends = [{ address = \"192.0.2.1\", addresses = [\"192.0.2.2\"] }]",
        "2:38 a backend has `address` or `addresses`, not both",
    );
    in_pool(
        "backends = [{ address = [\"192.0.2.1\"] }]",
        "2:25 `address` must be an IP address; this is a list | several addresses belong in `addresses`",
    );
    in_pool(
        "backends = [{ address = \"192.0.2.1\", weight = 1_000_001 }]",
        "2:47 `weight` must be an integer from 0 to 1000000",
    );
    in_pool(
        "backends = [{ address = \"192.0.2.1\", enabled = \"no\" }]",
        "2:48 `enabled` must be true or false; this is a string | drop the quotes: enabled = false",
    );
    in_pool(
        "backends = [{ address = \"192.0.2.1\", name = \"a/b\" }]",
        "2:45 '/' is not allowed in the name of a backend | letters, digits, dots, dashes and underscores can",
    );
}

#[test]
fn pools() {
    one_error(
        "[pools.\"a/b\"]\nbackends = [\"192.0.2.1\"]\n",
        "1:8 '/' is not allowed in the name of a pool | letters, digits, dots, dashes and underscores can",
    );
    one_error(
        &format!("[pools.{}]\nbackends = [\"192.0.2.1\"]\n", "a".repeat(65)),
        "1:8 the name of a pool has 1 to 64 characters; this has 65",
    );
    let what = "a count from 1, or a share of the weight from \"1%\" to \"100%\"";
    for (value, message) in [
        ("0", "`min_healthy` must be an integer from 1 to 4294967295".to_owned()),
        ("\"0%\"", format!("`min_healthy` must be {what}; this is `0%`")),
        ("\"101%\"", format!("`min_healthy` must be {what}; this is `101%`")),
        ("\"x\"", format!("`min_healthy` must be {what}; this is `x`")),
        ("true", format!("`min_healthy` must be {what}; this is a boolean")),
        ("3", "`min_healthy` is 3, but pool `x` has 2 addresses: it would never be usable".to_owned()),
    ] {
        in_pool(
            &format!("backends = [\"192.0.2.1\", \"192.0.2.2\"]\nmin_healthy = {value}"),
            &format!("3:15 {message}"),
        );
    }
    one_error(
        "[defaults.pool]\nmin_healthy = 4\n",
        "6:8 `min_healthy` is 4, but pool `web` has 3 addresses: it would never be usable",
    );
}

#[test]
fn services() {
    in_service("", "1:11 service `x.example.com` has no `pools`");
    in_service("pools = [\"wbe\"]", "2:10 there is no pool `wbe` | did you mean `web`?");
    in_service("pools = [\"storage\"]", "2:10 there is no pool `storage`");
    in_service("pools = [\"web\", \"web\"]", "2:17 pool `web` is a tier already");
    in_service(
        "pools = \"web\"",
        "2:9 `pools` must be a list of pools, such as [\"web\"]; this is a string | did you mean [\"web\"]?",
    );
    let cases = [
        ("answers = 0", "3:11 `answers` must be an integer from 1 to 256"),
        ("answers = 257", "3:11 `answers` must be an integer from 1 to 256"),
        ("answers = \"many\"", "3:11 `answers` must be a number from 1 to 256, or \"all\"; this is `many`"),
        ("ttl = \"1500ms\"", "3:7 `ttl` must be whole seconds: DNS has no smaller unit"),
        ("ttl = { min = \"9s\" }", "3:7 this `ttl` has no `max`"),
        (
            "ttl = { min = \"9s\", max = \"9s\" }",
            "3:15 `min` must be below `max` | write `ttl = \"9s\"` for a TTL that is always the same",
        ),
        ("ttl = \"2147483648s\"", "3:7 `ttl` must be from 0s to 596523h14m7s"),
        (
            "policy = \"wieghted\"",
            "3:10 `policy` must be \"weighted\", \"all\" or \"persistent\" | did you mean \"weighted\"?",
        ),
        (
            "when_down = \"failopen\"",
            "3:13 `when_down` must be \"fail-open\", \"nodata\", \"servfail\" or a list of addresses | did you mean \
             \"fail-open\"?",
        ),
        (
            "policy = \"persistent\"\npersistence = { ipv4 = 33 }",
            "4:24 `ipv4` must be an integer from 1 to 32",
        ),
        (
            "policy = \"persistent\"\npersistence = { ipv4 = 24, ipv6 = 0 }",
            "4:35 `ipv6` must be an integer from 1 to 128",
        ),
        (
            "policy = \"persistent\"\npersistence = { ipv5 = 24 }",
            "4:17 unknown key `ipv5` | did you mean `ipv4`?",
        ),
        (
            "policy = \"persistent\"\npersistence = 24",
            "4:15 `persistence` must be a table; this is an integer | write `persistence = { ipv4 = 24, ipv6 = 56 }`",
        ),
        (
            "persistence = { ipv4 = 24 }",
            "3:15 `persistence` of `x.example.com` has no effect, because its policy is not \"persistent\" | set \
             `policy = \"persistent\"`, or leave `persistence` out",
        ),
        (
            "failback = \"never\"",
            "3:12 `failback` must be \"auto\", \"manual\" or a duration such as \"10m\"",
        ),
        (
            "failback = \"manuel\"",
            "3:12 `failback` must be \"auto\", \"manual\" or a duration such as \"10m\" | did you mean \
             \"manual\"?",
        ),
        ("failback = \"999ms\"", "3:12 `failback` must be from 1s to 720h"),
        (
            "failback = 600",
            "3:12 `failback` must be a duration with a unit, such as \"250ms\", \"5s\", \"1m30s\" or \"2d\"; this is an \
             integer | did you mean \"600s\"?",
        ),
        ("when_down = []", "3:13 `when_down` must be a list of addresses with at least one element"),
        ("when_down = [\"192.0.2.1\", \"192.0.2.1\"]", "3:27 `192.0.2.1` is in this list already"),
    ];
    for (line, expected) in cases {
        in_service(&format!("pools = [\"web\"]\n{line}"), expected);
    }
    one_error(
        "[defaults.service]\npools = [\"nowhere\"]\n[services.\"a.example.com\"]\n[services.\"b.example.com\"]\n",
        "2:10 there is no pool `nowhere`",
    );
}

#[test]
fn names() {
    let service = |name: &str, expected: &str| {
        one_error(&format!("[services.\"{name}\"]\npools = [\"web\"]\n"), expected);
    };
    service(
        "a..b",
        "1:11 `a..b` is not a domain name: the name has an empty label (two dots in a row, or a dot at its start)",
    );
    service("WWW.example.COM.", "8:11 service `www.example.com.` is defined twice");
    service(
        "www.exmaple.com",
        "1:11 service `www.exmaple.com.` is in no zone of this configuration | did you mean `www.example.com`?",
    );
    service(
        "www.elsewhere.org",
        "1:11 service `www.elsewhere.org.` is in no zone of this configuration | its name must be in one of the [zones]",
    );
    service(
        "fixed.example.com",
        "1:11 service `fixed.example.com.`: the name belongs to a service, so the zone must not hold A, AAAA or CNAME \
         records for it | delete those records from the zone file, or the service from here",
    );
    service(
        "bound.example.com",
        "1:11 service `bound.example.com.`: its SVCB and HTTPS records must not hold ipv4hint or ipv6hint: they would \
         outlive the backends | delete ipv4hint and ipv6hint there: clients ask for A and AAAA instead",
    );
    service(
        "a.sub.example.com",
        "1:11 service `a.sub.example.com.`: its zone delegates this name or has a DNAME above it, so the service \
         would never be answered | delete the NS or DNAME records above it from the zone file",
    );
    one_error(
        "[zones.\"Example.COM.\"]\nfile = \"example.com.zone\"\n",
        "4:8 zone `example.com.` is defined twice",
    );
    one_error("[zones.\"other.example\"]\n", "1:8 zone `other.example` has no `file`");
    one_error(
        "[zones.\"other.example\"]\nfile = \"none.zone\"\n",
        "2:8 cannot open the zone file `none.zone`: No such file or directory (os error 2)",
    );
}

#[test]
fn a_wildcard_can_be_a_service() {
    load_with_rest("[services.\"*.apps.example.com\"]\npools = [\"web\"]\n").unwrap();
}

#[test]
fn a_zone_file_with_faults_is_shown_as_the_configuration_is() {
    let text = format!(
        "[zones.\"other.example\"]\nfile = \"other.zone\"\n{REST}[services.\"x.other.example\"]\npools = [\"web\"]\n"
    );
    let result = load_files(
        &text,
        &[("other.zone", "$TTL 60\n@ SOA ns.elsewhere. host 1 2 3 4 5\n@ NS ns.elsewhere.\nx A 192.0.2\n")],
    );
    let faults = result.unwrap_err();
    let fault = faults.errors().next().unwrap();
    assert_eq!((fault.location.line, fault.location.text.as_str()), (4, "x A 192.0.2"));
    assert_eq!(faults.errors().count(), 1, "the service in that zone is not blamed:\n{faults}");
    assert!(faults.render(false).contains("other.zone:4:"), "{faults}");
}

#[test]
fn an_empty_file_is_no_configuration() {
    let expected = "steerd.toml:0:0 no [zones] are configured: there is no name to answer for";
    assert_eq!(errors(&load_files("", &[])), [expected]);
    assert_eq!(errors(&load_files("[server]\n", &[])), [expected]);
    let only = "steerd.toml:0:0 this file names only servers ([client]); give the configuration of an instance with -c FILE";
    assert_eq!(errors(&load_files("[client]\nadmin = [\"http://192.0.2.1:8053\"]\n", &[])), [only]);
}

#[test]
fn what_is_not_toml_is_shown_with_the_rest_of_it() {
    let text = "[server]\nworkers =\nudp payload = 3\n[pools\nx = 1\n";
    let result = load_files(text, &[]);
    let told = errors(&result);
    let lines: Vec<_> = told.iter().map(|told| told.split(':').nth(1).unwrap()).collect();
    assert_eq!(lines, ["2", "3", "4"], "{told:#?}");
    assert!(told.iter().all(|told| told.contains("this is not TOML: ")), "{told:#?}");
}

#[test]
fn a_list_that_is_not_closed_is_one_message() {
    let result = load_with_rest("[server]\nlisten = [\"192.0.2.1:53\"\nworkers = 1\n");
    let told = errors(&result);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(told[0].starts_with("steerd.toml:3:1 this is not TOML: missing comma"), "{told:#?}");
    assert!(told[0].ends_with(" | perhaps the list or table before this is not closed"), "{told:#?}");
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_too() {
    let faults = super::load(std::path::Path::new("/nonexistent/steerd.toml")).unwrap_err();
    assert_eq!(
        faults.render(false),
        "error: cannot read the configuration: No such file or directory (os error 2)\n--> /nonexistent/steerd.toml"
    );
}

#[test]
fn bytes_that_are_not_utf_8_have_a_place() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    std::fs::write(&path, b"[server]\n# caf\xe9\n").unwrap();
    let faults = super::load(&path).unwrap_err();
    let told: Vec<_> = faults.errors().map(super::told).collect();
    assert_eq!(told, ["steerd.toml:2:6 the file is not UTF-8 from here on"]);
}

/// One file with one fault of each sort: a single run finds all of them, each at its place.
#[test]
fn ten_faults_are_ten_messages() {
    let text = "\
[server]
listen = [\"192.0.2.1\"]
udp_payload = \"big\"
wrokers = 3
[zones.\"example.com\"]
file = \"missing.zone\"
[pools.web]
backends = [\"192.0.2.11\", \"192.0.2.300\", { address = \"192.0.2.12\", weight = -1 }]
check = { type = \"http\", interval = \"1s\", timeout = 2 }
[pools.db]
check = \"tcp://:5432/path\"
[services.\"www.example.com\"]
pools = [\"wbe\"]
answers = 1000
";
    let result = load_files(text, &[]);
    let told = errors(&result);
    let places: Vec<&str> = told.iter().map(|told| told.split(' ').next().unwrap()).collect();
    let expected = ["2:11", "3:15", "4:1", "6:8", "8:27", "8:77", "9:53", "10:8", "11:9", "13:10", "14:11"];
    assert_eq!(places, expected.map(|location| format!("steerd.toml:{location}")), "{told:#?}");
    let shown = result.unwrap_err().render(false);
    assert_eq!(shown.matches("error: ").count(), expected.len());
    assert_eq!(
        shown.lines().filter(|line| line.trim_start_matches(['|', ' ']).starts_with('^')).count(),
        expected.len()
    );
}

#[test]
fn colours_only_where_asked_for() {
    let faults = load_with_rest("[server]\nworkers = -1\n").unwrap_err();
    assert!(faults.render(true).contains("\u{1b}["));
    assert!(!faults.render(false).contains("\u{1b}["));
}
