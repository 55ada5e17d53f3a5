//! Warnings: few, with figures, and only about unusual settings.

use std::time::Duration;

use super::{load_files, load_with_rest, told};
use crate::check::Timing;
use crate::config::advice::detection;

/// The warnings for `text`, followed by the usual sections.
fn warnings(text: &str) -> Vec<String> {
    let setup = load_with_rest(text).unwrap_or_else(|faults| panic!("{text}\n{faults}"));
    setup.warnings.iter().map(|fault| told(fault).replace("steerd.toml:", "")).collect()
}

/// The usual sections, changed so that `steerd check` has no warnings about them.
fn rest_without_warnings() -> String {
    super::REST.replace("[services", "checks = []\n[services")
}

/// `steerd check` warns; a server that starts gets the error of the system instead.
#[test]
fn addresses_that_this_machine_does_not_have() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    std::fs::write(directory.path().join("example.com.zone"), super::ZONE).unwrap();
    let text = "[server]\nlisten = [\"127.0.0.1:5300\", \"192.0.2.53:5300\"]\n[admin]\nlisten = \"127.0.0.1:8053\"\n";
    std::fs::write(&path, format!("{text}{}", rest_without_warnings())).unwrap();
    let told: Vec<_> = crate::config::check(&path).unwrap().warnings.iter().map(told).collect();
    assert_eq!(
        told,
        [
            "steerd.toml:2:29 this machine does not have the address `192.0.2.53` | steerd does not start where no \
          interface has the address; if it runs on another machine, look there"
        ]
    );
    assert!(crate::config::load(&path).unwrap().warnings.is_empty());
}

/// A client certificate whose time ends this many days from now.
fn ends_in(days: i64) -> (tempfile::NamedTempFile, String) {
    use std::io::Write;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days + 1);
    let day = end.strftime("%Y-%m-%d").to_string();
    let parts: Vec<i64> = day.split('-').map(|part| part.parse().unwrap()).collect();
    // The day begins at midnight, so the certificate ends up to a day before `end`.
    params.not_after = rcgen::date_time_ymd(
        parts[0].try_into().unwrap(),
        parts[1].try_into().unwrap(),
        parts[2].try_into().unwrap(),
    );
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let certificate = params.self_signed(&key).unwrap().pem();
    file.write_all((certificate + &key.serialize_pem()).as_bytes()).unwrap();
    (file, day)
}

#[test]
fn a_client_certificate_that_ends_soon_is_told() {
    let told = |days| {
        let (file, day) = ends_in(days);
        let path = file.path().display().to_string();
        let check = format!(
            "{{ type = \"https\", host = \"a.example\", tls = {{ client_certificate = \"{path}\" }} }}"
        );
        let mut told = checked(&format!("backends = [\"192.0.2.1\"]\ncheck = {check}"));
        told.retain(|warning| warning.contains("client certificate"));
        (told.join("\n").replace(&path, "FILE"), day)
    };
    assert_eq!(told(16).0, "");
    let (soon, day) = told(10);
    assert!(soon.contains(&format!("the client certificate FILE expires on {day}: backends that")), "{soon}");
    let (past, day) = told(-3);
    assert!(
        past.contains(&format!("the client certificate FILE has expired on {day}: backends that")),
        "{past}"
    );
    assert!(past.contains("| put a new one into the same file"), "{past}");
}

/// The warnings of `steerd check` for a pool `x` with these lines, from line 2.
fn checked(lines: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("steerd.toml");
    std::fs::write(directory.path().join("example.com.zone"), super::ZONE).unwrap();
    let text = format!(
        "[pools.x]\n{lines}\n[services.\"x.example.com\"]\npools = [\"x\"]\n{}",
        rest_without_warnings()
    );
    std::fs::write(&path, format!("{text}[server]\nlisten = [\"127.0.0.1:5300\"]\n")).unwrap();
    let setup = crate::config::check(&path).unwrap_or_else(|faults| panic!("{text}\n{faults}"));
    setup.warnings.iter().map(|fault| told(fault).replace("steerd.toml:", "")).collect()
}

#[test]
fn pools_without_a_check() {
    let backends = "backends = [\"192.0.2.1\"]";
    assert_eq!(
        checked(backends),
        [
            "1:8 pool `x` has no check: its backends are always answered | give it a `check`, such as \"tcp://:443\"; \
             `checks = []` says that none is meant"
        ]
    );
    for meant in ["checks = []", "check = \"tcp://:443\""] {
        assert_eq!(checked(&format!("{backends}\n{meant}")), [""; 0]);
    }
    assert_eq!(warnings(&format!("[pools.x]\n{backends}\n")).len(), 1, "only `check` says so");
}

#[test]
fn an_address_as_the_host_of_a_check() {
    let told = |host: &str, kind: &str| {
        pool("\"192.0.2.1\", \"2001:db8::1\"", &format!("check = \"{kind}://{host}:8080/\""), "answers = 1")
    };
    assert_eq!(
        told("192.0.2.9", "http"),
        [
            "3:9 the host `192.0.2.9:8080` of check `http` is not an address of a backend of pool `x`: it is only sent \
             as the host of the request, and each backend is probed at its own address | leave the address out, as in \
             \"http://:8080/\""
        ]
    );
    assert_eq!(told("[2001:db8::9]", "http").len(), 1);
    assert_eq!(told("192.0.2.9", "grpc").len(), 1);
    for host in ["192.0.2.1", "[2001:db8::1]", "www.example.com", ""] {
        assert_eq!(told(host, "http"), [""; 0], "{host}");
    }
}

/// A pool `x` with these backends and a service `x.example.com` for it, from line 1 and line 4.
fn pool(backends: &str, pool: &str, service: &str) -> Vec<String> {
    warnings(&format!(
        "[pools.x]\nbackends = [{backends}]\n{pool}\n[services.\"x.example.com\"]\npools = [\"x\"]\n{service}\n"
    ))
}

fn weights(weights: &[u32]) -> String {
    let backend = |(weight, last): (&u32, usize)| {
        format!("{{ name = \"b{last}\", address = \"192.0.2.{last}\", weight = {weight} }}")
    };
    weights.iter().zip(1..).map(backend).collect::<Vec<_>>().join(", ")
}

#[test]
fn weights_that_answers_cannot_keep() {
    assert_eq!(pool(&weights(&[4, 2, 2]), "", ""), [""; 0], "2 x 4 is just what there is");
    assert_eq!(
        pool(&weights(&[9, 2, 2]), "", ""),
        [
            "4:11 with 2 answers the weights of pool `x` hold for the first address only: backend `b1` weighs 9 of 13, \
             and 2 x 9 is more than 13, so it is in every answer, and first in 69.2 % of them | set `answers` of `x.example.com.` to at most 1, or that weight to at most 4"
        ]
    );
    assert_eq!(pool(&weights(&[9, 2, 2]), "", "answers = 1"), [""; 0]);
    assert_eq!(pool(&weights(&[9, 2, 2]), "", "policy = \"all\""), [""; 0], "weights say nothing there");
    assert_eq!(pool(&weights(&[9, 2, 2]), "", "spread = \"always\""), [""; 0], "sites win, as wanted");
    assert_eq!(pool(&weights(&[4, 4, 4, 4, 9]), "", "answers = 3").len(), 1);
    assert_eq!(pool(&weights(&[4, 4, 4, 4, 8]), "", "answers = 3"), [""; 0]);
}

#[test]
fn sites_over_which_answers_cannot_spread() {
    let sited = |backends: &[(u32, &str)]| {
        let backend = |((weight, site), last): (&(u32, &str), usize)| {
            let site = if site.is_empty() { String::new() } else { format!(", site = \"{site}\"") };
            format!("{{ name = \"b{last}\", address = \"192.0.2.{last}\", weight = {weight}{site} }}")
        };
        backends.iter().zip(1..).map(backend).collect::<Vec<_>>().join(", ")
    };
    let heavy = sited(&[(3, "ams"), (3, "ams"), (2, "fra")]);
    assert_eq!(
        pool(&heavy, "", ""),
        [
            "4:11 answers of `x.example.com.` cannot spread over the 2 sites of pool `x` as its weights are: of 2 answers, 1.50 \
          are in site `ams` on average, so some answers have several backends there | set `spread = \"always\"` if sites \
          matter more than weights, or `answers` of `x.example.com.` to 1"
        ]
    );
    assert_eq!(pool(&heavy, "", "spread = \"always\""), [""; 0]);
    assert_eq!(pool(&heavy, "", "spread = \"off\""), [""; 0]);
    assert_eq!(pool(&heavy, "", "answers = 1"), [""; 0]);
    let few = sited(&[(1, "ams"), (1, "ams"), (1, "fra"), (1, "fra")]);
    assert_eq!(pool(&few, "", ""), [""; 0]);
    assert!(
        pool(&few, "", "answers = 3\nspread = \"always\"")[0].ends_with("to at most 2, the number of sites")
    );
    assert_eq!(pool(&sited(&[(1, "ams"), (1, "ams"), (1, "ams")]), "", ""), [""; 0], "one site");
    assert_eq!(
        pool(&sited(&[(1, "ams"), (1, ""), (1, "")]), "", ""),
        [""; 0],
        "each without a site is its own"
    );
}

#[test]
fn servers_that_rank_differently() {
    let persistent = "policy = \"persistent\"";
    assert_eq!(pool(&weights(&[9, 2, 2]), "", persistent), [""; 0]);
    assert_eq!(
        pool(&weights(&[1, 1]), "slow_start = \"30s\"", persistent),
        [
            "6:10 `x.example.com.` is persistent, and pool `x` has a `slow_start` of 30s: servers that see a backend \
             recover at different times give it different weights, and send some of its clients to different backends \
             meanwhile | set `slow_start` of this pool to \"0s\""
        ]
    );
    let header = "check = { type = \"http\", path = \"/\", port = 80, weight_header = \"X-Load\" }";
    assert_eq!(
        pool(&weights(&[1, 1]), header, persistent),
        [
            "6:10 `x.example.com.` is persistent, and check `http` of pool `x` takes weights from the header `x-load`: \
             servers probe at different times, and send clients to different backends while their weights differ | leave \
             out `weight_header` of this check"
        ]
    );
    assert_eq!(pool(&weights(&[1, 1]), header, "answers = 1"), [""; 0]);
    let many: Vec<String> =
        (0..2100).map(|number| format!("\"10.0.{}.{}\"", number / 256, number % 256)).collect();
    let told = pool(&many.join(", "), "", persistent);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("ranks up to 2100 addresses of pool `x` for each query: about"), "{told:?}");
}

#[test]
fn answers_that_hold_everything() {
    assert_eq!(
        pool(&weights(&[1, 1]), "", "answers = 2"),
        [
            "6:11 `answers` of `x.example.com.` is 2, and pool `x` has 2 IPv4 addresses: every answer holds all of \
             them, so weights decide only which comes first | set `answers` below 2, or `policy = \"all\"` if that is \
             meant"
        ]
    );
    assert_eq!(pool(&weights(&[1, 1, 0]), "", "").len(), 1, "what weighs nothing is not counted");
    assert_eq!(pool(&weights(&[1]), "", ""), [""; 0], "there is nothing to choose");
    assert_eq!(pool(&weights(&[1, 1]), "", "answers = \"all\""), [""; 0], "asked for");
}

#[test]
fn a_ttl_that_outlives_detection() {
    let fast = "check = { type = \"http\", interval = \"500ms\", timeout = \"200ms\", recheck = \"200ms\" }";
    // 500 + 200 + 2 x (200 + 200) = 1500 ms.
    assert_eq!(pool(&weights(&[1, 1, 1]), fast, "ttl = \"3s\""), [""; 0]);
    assert_eq!(
        pool(&weights(&[1, 1, 1]), fast, "ttl = \"4s\""),
        [
            "6:7 clients keep an answer of `x.example.com.` for 4s, but a silent backend of pool `x` is found after \
             1.5s at most: the TTL is most of an outage | set `ttl` to \"3s\" or less"
        ]
    );
    // Twice 400 ms is less than any TTL but 0.
    let faster = "check = { type = \"http\", interval = \"200ms\", timeout = \"100ms\", recheck = \"100ms\", fall = 1 }";
    assert_eq!(pool(&weights(&[1, 1, 1]), faster, "ttl = \"1s\""), [""; 0]);
    assert!(pool(&weights(&[1, 1, 1]), faster, "ttl = \"2s\"")[0].ends_with("set `ttl` to \"1s\" or less"));
    assert_eq!(pool(&weights(&[1, 1, 1]), "check = \"tcp://:1\"", ""), [""; 0], "the defaults fit together");
    assert_eq!(pool(&weights(&[1, 1, 1]), "", "ttl = \"1h\""), [""; 0], "without a check nothing is found");
    assert_eq!(
        pool(&weights(&[1, 1, 1]), "", "ttl = \"0s\""),
        ["6:7 `ttl` of `x.example.com.` is 0: every connection of every client becomes a query here"]
    );
}

#[test]
fn detection_is_that_of_the_promise() {
    let timing = Timing {
        interval: Duration::from_secs(5),
        timeout: Duration::from_secs(2),
        rise: 2,
        fall: 3,
        recheck: Duration::from_secs(1),
        interval_down: Duration::from_secs(5),
        damping: true,
    };
    assert_eq!(detection(&timing), Duration::from_secs(13));
    assert_eq!(detection(&Timing { fall: 1, ..timing }), Duration::from_secs(7));
}

/// The TTL is compared with the slowest deciding check.
#[test]
fn detection_by_several_checks() {
    let fast = "{ type = \"http\", interval = \"500ms\", timeout = \"200ms\", recheck = \"200ms\" }";
    let slow = "type = \"tcp\", port = 1, interval = \"1m\"";
    let told = |checks: &str| pool(&weights(&[1, 1, 1]), &format!("checks = [{checks}]"), "ttl = \"10s\"");
    assert!(told(fast)[0].contains("found after 1.5s at most"));
    assert_eq!(told(&format!("{fast}, {{ {slow} }}")), [""; 0]);
    assert_eq!(told(&format!("{{ {slow} }}, {fast}")), [""; 0]);
    assert!(told(&format!("{{ {slow}, observe_only = true }}, {fast}"))[0].contains("found after 1.5s"));
}

#[test]
fn checks_that_decide_nothing() {
    let told = |lines: &str| pool(&weights(&[1, 1, 1]), lines, "");
    let observed = "{ type = \"tcp\", port = 1, observe_only = true }";
    let nobody = "1:8 every check of pool `x` is `observe_only`: none decides, so it is always healthy";
    assert_eq!(told(&format!("check = {observed}")), [nobody]);
    assert_eq!(told(&format!("checks = [{observed}, {observed}]")), [nobody]);
    assert_eq!(told(&format!("checks = [{observed}, \"tcp://:2\"]")), [""; 0]);
    assert_eq!(told("checks = []"), [""; 0], "asked for");
    let critical = "{ type = \"tcp\", port = 1, critical = true }";
    assert_eq!(
        told(&format!("check = {critical}")),
        ["3:46 `critical` changes nothing for check `tcp` of pool `x`: no other check decides"]
    );
    assert_eq!(told(&format!("checks = [{critical}, {observed}]")).len(), 1);
    assert_eq!(
        told(&format!("checks = [{critical}, \"tcp://:2\"]")),
        [
            "3:48 `critical` changes nothing for check `tcp` of pool `x`: with `require = \"all\"` each failure is \
             enough"
        ]
    );
    assert_eq!(told(&format!("require = \"any\"\nchecks = [{critical}, \"tcp://:2\"]")), [""; 0]);
}

#[test]
fn certificates_of_anyone() {
    let told = |check: &str| pool(&weights(&[1, 1, 1]), &format!("check = {check}"), "");
    let expected = "with `verify = false` any server that answers at a backend's address passes for the backend | \
                    to trust an authority of your own, name it in `tls.ca_file`";
    assert_eq!(told("{ type = \"https\", tls = { verify = false } }"), [format!("3:44 {expected}")]);
    let defaults = "[defaults.check.tls]\nverify = false\n";
    let told = |pools: &str| warnings(&format!("{defaults}{pools}"));
    let pools = |kind: &str| {
        let pool = |name: &str| {
            format!(
                "[pools.{name}]\nbackends = [\"192.0.2.1\"]\ncheck = {{ type = \"{kind}\", port = 1 }}\n\
                 [services.\"{name}.example.com\"]\npools = [\"{name}\"]\n"
            )
        };
        format!("{}{}", pool("x"), pool("y"))
    };
    assert_eq!(told(&pools("https")), [format!("2:10 {expected}")], "a default is told once");
    assert_eq!(told(&pools("http")), [""; 0]);
    assert_eq!(told(&pools("grpc")), [""; 0], "it speaks no TLS");
}

#[test]
fn programs_started_all_the_time() {
    let told = |keys: &str| {
        let check = format!("check = {{ type = \"exec\", program = \"/bin/sh\", {keys} }}");
        pool(&weights(&[1, 1, 1]), &check, "ttl = \"1s\"")
    };
    let expected = |interval: &str| {
        format!(
            "3:9 check `exec` of pool `x` starts a program every {interval} for each of 3 addresses | set its \
             intervals to \"1s\" or more"
        )
    };
    assert_eq!(told("interval = \"999ms\""), [expected("999ms")]);
    assert_eq!(told("interval_down = \"500ms\""), [expected("500ms")]);
    assert_eq!(told("interval = \"1s\""), [""; 0]);
}

#[test]
fn backends_that_are_probed_at_one_place() {
    let told = |first: &str, second: &str, lines: &str| {
        let backend = |number: u8, keys: &str| format!("{{ address = \"192.0.2.{number}\", {keys} }}");
        let three = format!("{}, {}, {}", backend(1, first), backend(2, second), backend(3, second));
        pool(&three, lines, "")
    };
    let (gateway, check) = ("check_address = \"192.0.2.99\"", "check = \"tcp://:1\"");
    assert_eq!(
        told(gateway, gateway, check),
        ["1:8 all 3 backends of pool `x` are probed at 192.0.2.99: they are healthy and unhealthy together"]
    );
    assert_eq!(told(gateway, gateway, ""), [""; 0], "nobody is probed");
    assert_eq!(told(gateway, "weight = 1", check), [""; 0]);
    assert_eq!(told(&format!("{gateway}, port = 5"), gateway, check), [""; 0], "the ports tell them apart");
}

#[test]
fn pools_that_never_answer() {
    assert_eq!(
        warnings("[pools.x]\nbackends = [\"192.0.2.1\"]\n"),
        ["1:8 no service uses pool `x` | its backends are probed, but never answered"]
    );
    assert_eq!(
        pool(&weights(&[0, 0]), "", ""),
        ["1:8 all weights of pool `x` are 0: it is never usable | give at least one backend a weight of 1"]
    );
    assert_eq!(
        pool("{ address = \"192.0.2.1\", enabled = false }", "", ""),
        ["1:8 no backend of pool `x` is enabled: it is never usable"]
    );
    assert_eq!(
        pool("\"192.0.2.1\", \"192.0.2.2\", \"192.0.2.3\", \"2001:db8::1\"", "min_healthy = 2", ""),
        [
            "1:8 `min_healthy` of pool `x` is 2, and it has 1 IPv6 address with a weight: it is never usable for AAAA \
             queries"
        ]
    );
}

#[test]
fn a_standby_without_a_family() {
    let text = "[pools.both]\nbackends = [\"192.0.2.1\", \"2001:db8::1\"]\n[services.\"x.example.com\"]\n\
                answers = 1\npools = [\"both\", \"web\"]\n";
    assert_eq!(
        warnings(text),
        [
            "3:11 pool `both` of service `x.example.com.` has IPv6 addresses, and its later tier `web` has none: when \
             that answers, AAAA queries get no address"
        ]
    );
    assert_eq!(warnings(&text.replace("\"both\", \"web\"", "\"web\", \"both\"")), [""; 0]);
}

#[test]
fn one_name_server() {
    let text = "[zones.\"one.example\"]\nfile = \"one.zone\"\n";
    let zone = "$TTL 60\n@ SOA ns.elsewhere. host 1 2 3 4 5\n@ NS ns.elsewhere.\n";
    let setup = load_files(text, &[("one.zone", zone)]).unwrap();
    let told: Vec<_> = setup.warnings.iter().map(told).collect();
    assert_eq!(
        told,
        [
            "steerd.toml:1:8 zone `one.example.` has one NS record only: when that server is gone, so is the zone | run \
             a second instance and name it in the zone file"
        ]
    );
}

#[test]
fn warnings_come_with_errors() {
    let text = "[server]\nworkers = -1\n[services.\"x.example.com\"]\npools = [\"web\"]\nttl = \"0s\"\n";
    let faults = load_with_rest(text).unwrap_err();
    assert_eq!((faults.errors().count(), faults.warnings().count()), (1, 1), "{faults}");
}

/// Only checks of a protocol with hosts send and verify one.
#[test]
fn the_host_of_a_backend_is_for_checks_that_use_it() {
    let pool = |check: &str| {
        let text = format!(
            "[pools.x]\nbackends = [{{ name = \"a\", address = \"192.0.2.1\", host = \"a.example\" }}, \
             {{ name = \"b\", address = \"192.0.2.2\" }}]\ncheck = {check}\n"
        );
        load_with_rest(&text)
    };
    let told = |check: &str| {
        let setup = pool(check).unwrap_or_else(|faults| panic!("{check}: {faults}"));
        let told: Vec<_> = setup.warnings.iter().map(|fault| fault.message.clone()).collect();
        told.iter().any(|told| told == "no check of pool `x` uses the `host` of backend `a`")
    };
    assert!(told("\"tcp://:80\""));
    assert!(!told("\"http://:80/\"") && !told("{ type = \"grpc\", port = 1 }"));
    let faults = pool("\"https://:443/\"").unwrap_err();
    let told = faults.errors().next().unwrap();
    assert!(told.message.ends_with("has to have: backend `b` has no `host` of its own"), "{faults}");
    assert!(told.hint.as_ref().unwrap().contains("a `host` for each backend"), "{faults}");
}
