//! Built-in defaults, `[defaults]` that replace them, and own keys that replace both, key by key.

use std::path::Path;
use std::time::Duration;

use super::{REST, ZONE, errors, load_files, load_with_rest, loaded};
use crate::check::{Check, HttpProbe, Probe, TcpProbe, Timing, TlsSettings};
use crate::config::{Access, AdminRight, AdminSettings, Setup, SocketRights};
use crate::cookie::CookieSecrets;
use crate::listener::rate_limit::RateLimit;
use crate::listener::{Steering, TcpLimits};
use crate::network::Network;
use crate::pool::{Backend, MinHealthy};
use crate::service::{Answers, Failback, Persistence, Policy, Route, WhenDown};
use crate::settings::{Chaos, Settings};
use crate::tap::SampleRate;
use crate::visibility::VisibilitySettings;

/// The check of pool `x`, set by `check`, with `defaults` under `[defaults.check]`.
fn check(check: &str, defaults: &str) -> Check {
    let text = format!(
        "[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {check}\n[defaults.check]\n{defaults}\n{REST}"
    );
    let setup = loaded(&text);
    setup.served.pools.iter().find(|pool| pool.pool.name == "x").unwrap().checks[0].clone()
}

fn http(probe: Check) -> HttpProbe {
    match probe.probe {
        Probe::Http(http) => http,
        other => panic!("an HTTP probe was expected, not {other:?}"),
    }
}

fn milliseconds(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const BUILT_IN: Timing = Timing {
    interval: Duration::from_secs(5),
    timeout: Duration::from_secs(2),
    rise: 2,
    fall: 3,
    recheck: Duration::from_secs(1),
    interval_down: Duration::from_secs(5),
    damping: true,
};

#[test]
fn built_in() {
    let Setup { server, admin, served, rule_files, alerts, warnings, files: _, origin: _ } =
        load_with_rest("").unwrap();
    assert_eq!(alerts, []);
    assert_eq!(rule_files, crate::geo::RuleFiles::default());
    assert!(served.rule_tables.is_empty());
    let listen = vec!["0.0.0.0:53".parse().unwrap(), "[::]:53".parse().unwrap()];
    assert_eq!((server.listen, server.workers, server.steering), (listen, 0, Steering::Hash));
    assert_eq!((server.limits.tcp, server.limits.rate), (TcpLimits::default(), None));
    let cookies = served.settings.cookies.clone();
    assert!(cookies.as_ref().is_some_and(|cookies| !cookies.required));
    assert_eq!(served.settings, Settings { cookies, ..Settings::default() });
    assert_eq!((admin, served.startup_wait), (AdminSettings::default(), milliseconds(3000)));
    assert_eq!((server.state_dir, server.visibility), (None, VisibilitySettings::default()));
    assert!(!server.start_with_last_good && !server.watch);
    assert!(warnings.is_empty());
    assert_eq!(served.pools[0].checks, []);
    assert_eq!(served.pools[0].pool.min_healthy, MinHealthy::Count(1));
    let backend = |address: &str| Backend::new(address, vec![address.parse().unwrap()]);
    assert_eq!(served.pools[0].pool.backends, ["192.0.2.11", "192.0.2.12", "192.0.2.13"].map(backend));
    let service = &served.services[0];
    assert_eq!(
        (service.default.answers, service.default.ttl.max, service.policy, &service.default.when_down),
        (Answers::AtMost(2), 20, Policy::Weighted, &WhenDown::FailOpen)
    );
    assert_eq!(service.failback, Failback::Auto);
    assert_eq!(check("\"tcp://:5432\"", ""), Check::new(Probe::Tcp(TcpProbe::connect(5432)), BUILT_IN));
    let plain = HttpProbe::get(80, "/");
    assert_eq!(check("{ type = \"http\" }", ""), Check::new(Probe::Http(plain), BUILT_IN));
    assert_eq!(http(check("\"https://a.example\"", "")).port, 443);
}

#[test]
fn everything_set() {
    let text = "[server]
listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]
workers = 4
steering = \"cpu\"
udp_payload = 4096
startup_wait = \"1m30s\"
nsid = \"here\"
chaos = \"version\"
cookies = \"required\"
cookie_secret_file = \"secrets\"
client_subnet = [\"192.0.2.0/24\"]
tcp_connections = 20
tcp_idle = \"2s\"
rate_limit = { responses_per_second = 50, all_responses_per_second = 400, slip = 3, networks_exempt = [\"192.0.2.0/24\"] }
state_dir = \".\"
query_log = { file = \"q.jsonl\", sample = \"0.5%\", anonymize = true }
dnstap = { socket = \"/run/tap.sock\", identity = \"lb1\" }
[admin]
listen = \"[::1]:8053\"
token_file = \"token\"
public_reads = true
[zones.\"example.com\"]
file = \"example.com.zone\"
[pools.b]
min_healthy = \"40%\"
backends = [
  { name = \"one\", addresses = [\"192.0.2.1\", \"2001:db8::1\"], weight = 0x10, enabled = false },
  { address = \"192.0.2.2\", weight = 1_000_000 },
  \"192.0.2.3\",
]
[pools.a]
backends = [\"192.0.2.9\"]
[services.\"S3.example.com.\"]
pools = [\"b\", \"a\"]
answers = \"all\"
ttl = \"1m\"
policy = \"all\"
when_down = [\"192.0.2.80\", \"2001:db8::80\"]
";
    let secrets = format!("{}\n\n{}\n", "ab".repeat(16), "CD".repeat(16));
    let setup = load_files(text, &[("secrets", &secrets), ("token", "0123456789abcdef\n")]).unwrap();
    assert_eq!(setup.server.listen.len(), 2);
    assert_eq!(setup.server.steering, Steering::Cpu);
    assert_eq!((setup.server.workers, setup.served.settings.udp_payload), (4, 4096));
    let settings = &setup.served.settings;
    assert_eq!(
        (settings.nsid.as_deref(), settings.chaos, settings.tcp_idle),
        (Some(&b"here"[..]), Chaos::Version, 20)
    );
    let cookies = settings.cookies.as_ref().unwrap();
    assert_eq!(cookies.secrets, CookieSecrets::new(vec![[0xab; 16], [0xcd; 16]]).unwrap());
    assert!(cookies.required);
    assert!(settings.client_subnet.contains("192.0.2.9".parse().unwrap()));
    assert_eq!(setup.server.limits.tcp, TcpLimits { connections: 20, idle: Duration::from_secs(2) });
    let networks_exempt = ["192.0.2.0/24".parse::<Network>().unwrap()].into_iter().collect();
    let rate =
        RateLimit { responses_per_second: 50, all_responses_per_second: Some(400), slip: 3, networks_exempt };
    assert_eq!(setup.server.limits.rate, Some(rate));
    assert_eq!(setup.admin.listen, ["[::1]:8053".parse().unwrap()]);
    let Access { tokens, public_reads, tls } = setup.admin.access;
    assert!(tls.is_none());
    assert!(tokens[0].secret.is_shown_by(b"0123456789abcdef") && public_reads);
    assert_eq!((tokens.len(), &*tokens[0].name, &*tokens[0].rights), (1, "token_file", &AdminRight::ALL[..]));
    assert!(setup.server.state_dir.unwrap().is_absolute());
    let VisibilitySettings { query_log, dnstap } = setup.server.visibility;
    let log = query_log.unwrap();
    assert!(log.anonymize && log.file.is_absolute() && log.sample == "0.5%".parse().unwrap());
    let dnstap = dnstap.unwrap();
    assert_eq!((dnstap.sample, &*dnstap.identity), (SampleRate::ALL, "lb1"));
    assert_eq!(dnstap.socket, Path::new("/run/tap.sock"));
    assert_eq!(setup.served.startup_wait, Duration::from_secs(90));
    let names: Vec<&str> = setup.served.pools.iter().map(|pool| pool.pool.name.as_str()).collect();
    assert_eq!(names, ["b", "a"], "ids are in the order of the file");
    let pool = &setup.served.pools[0].pool;
    assert_eq!(pool.min_healthy, MinHealthy::Percent(40));
    let backends: Vec<_> =
        pool.backends.iter().map(|b| (b.name.as_str(), b.addresses.len(), b.weight, b.enabled)).collect();
    assert_eq!(
        backends,
        [("one", 2, 16, false), ("192.0.2.2", 1, 1_000_000, true), ("192.0.2.3", 1, 1, true)]
    );
    let service = &setup.served.services[0];
    assert_eq!(service.name.to_string(), "s3.example.com.");
    let tiers: Vec<u32> = service.default.tiers.iter().map(|tier| tier.0).collect();
    assert_eq!(
        (tiers, service.default.answers, service.default.ttl.max, service.policy),
        (vec![0, 1], Answers::All, 60, Policy::All)
    );
    let ipv4 = vec!["192.0.2.80".parse().unwrap()];
    let ipv6 = vec!["2001:db8::80".parse().unwrap()];
    assert_eq!(service.default.when_down, WhenDown::Addresses { ipv4, ipv6 });
    let zone = &setup.served.catalog.zones()[0];
    let bound = zone.node(service.name.wire()).and_then(crate::zone::NodeRef::service).unwrap();
    assert_eq!(bound.0, 0);
    assert_eq!(zone.records(), ZONE.lines().count() - 1, "all but the line of $TTL");
}

#[test]
fn cookies_without_a_file_have_one_secret_however_often_the_file_is_read() {
    let cookies = || load_with_rest("").unwrap().served.settings.cookies;
    assert_eq!(cookies(), cookies());
}

#[test]
fn an_admin_server_on_a_unix_socket() {
    let admin = |admin: &str| load_with_rest(&format!("[admin]\n{admin}\n")).unwrap().admin;
    let both = admin(
        "listen = [\"unix:/run/a.sock\", \"127.0.0.1:8053\"]\nsocket = { mode = \"600\", group = \"root\" }",
    );
    assert_eq!(both.listen, ["unix:/run/a.sock", "127.0.0.1:8053"].map(|place| place.parse().unwrap()));
    assert_eq!(both.socket, SocketRights { mode: 0o600, group: Some(0) });
    let one = admin("listen = \"unix:/run/a.sock\"\nsocket = { group = \"70\" }");
    assert_eq!((one.listen.len(), one.socket), (1, SocketRights { mode: 0o660, group: Some(70) }));
}

#[test]
fn an_admin_server_for_other_machines_needs_a_token() {
    let text = format!("[admin]\nlisten = \"0.0.0.0:8053\"\ntoken_file = \"token\"\n{REST}");
    let setup = load_files(&text, &[("token", "0123456789abcdef")]).unwrap();
    assert!(setup.admin.access.tokens.len() == 1 && !setup.admin.access.public_reads);
}

#[test]
fn check_urls() {
    let probe = |url: &str| http(check(&format!("\"{url}\""), ""));
    let tls = |name: &str| Some(TlsSettings { name: Some(name.into()), ..TlsSettings::default() });
    let plain = probe("http://:8080/healthz?deep=1");
    assert_eq!((plain.port, plain.host, plain.path.as_str()), (8080, None, "/healthz?deep=1"));
    let secure = probe("https://s3.example.com:7070/health");
    assert_eq!((secure.port, secure.host.as_deref()), (7070, Some("s3.example.com:7070")));
    assert_eq!(secure.tls, tls("s3.example.com"));
    let literal = probe("https://[2001:db8::1]:8443/");
    assert_eq!((literal.port, literal.host.as_deref()), (8443, Some("[2001:db8::1]:8443")));
    assert_eq!(literal.tls, tls("2001:db8::1"));
    let bare = probe("http://[2001:db8::1]");
    assert_eq!((bare.port, bare.host.as_deref(), bare.path.as_str()), (80, Some("[2001:db8::1]"), "/"));
}

#[test]
fn tls_settings() {
    let tls = |check_table: &str, defaults: &str| http(check(check_table, defaults)).tls.unwrap();
    let named = tls("{ type = \"https\", host = \"a.example:7\", tls = { name = \"b.example\" } }", "");
    assert_eq!((named.name.as_deref(), named.insecure), (Some("b.example"), false));
    let host = tls("{ type = \"https\", host = \"a.example:7\" }", "");
    assert_eq!(host.name.as_deref(), Some("a.example"));
    let any = tls("{ type = \"https\", tls = { verify = false } }", "");
    assert_eq!((any.name, any.insecure), (None, true));
    let merged = tls(
        "{ type = \"https\", tls = { verify = true } }",
        "tls = { verify = false, name = \"c.example\" }",
    );
    assert_eq!((merged.name.as_deref(), merged.insecure), (Some("c.example"), false), "key by key");
}

#[test]
fn authorities_are_read_and_their_path_is_relative_to_the_file() {
    let authority = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let main = format!("include = [\"sub/*.toml\"]\n{REST}");
    let pool = "[pools.x]\nbackends = [\"192.0.2.1\"]\n\
                check = { type = \"https\", host = \"a.example\", tls = { ca_file = \"ca.pem\" } }\n";
    let setup = load_files(&main, &[("sub/x.toml", pool), ("sub/ca.pem", &authority)]).unwrap();
    let probe = http(setup.served.pools[1].checks[0].clone());
    assert!(probe.tls.unwrap().ca_file.unwrap().ends_with("sub/ca.pem"));
}

/// Every key of a check that can have a default: a kind of check that has it, a default, and another
/// value.
const KEYS: [(&str, &str, &str, &str); 33] = [
    ("", "type", "\"https\"", "\"http\""),
    ("https", "port", "1111", "2222"),
    ("https", "host", "\"default.example\"", "\"own.example\""),
    ("https", "path", "\"/default\"", "\"/own\""),
    ("https", "method", "\"POST\"", "\"HEAD\""),
    ("https", "headers", "{ a = \"default\" }", "{ a = \"own\" }"),
    ("https", "http_version", "\"1.1\"", "\"2\""),
    ("https", "status", "[201]", "[\"202-204\", 404]"),
    ("https", "drain_status", "[503]", "[]"),
    ("https", "body", "{ contains = \"default\" }", "{ matches = \"own\" }"),
    ("https", "body_limit", "\"1KiB\"", "\"64KiB\""),
    ("https", "weight_header", "\"x-default\"", "\"x-own\""),
    ("https", "interval", "\"20s\"", "\"30s\""),
    ("https", "interval_down", "\"21s\"", "\"31s\""),
    ("https", "timeout", "\"3s\"", "\"4s\""),
    ("https", "rise", "11", "12"),
    ("https", "fall", "13", "14"),
    ("https", "recheck", "\"2500ms\"", "\"3500ms\""),
    ("https", "damping", "false", "true"),
    ("https", "tls.verify", "false", "true"),
    ("https", "tls.name", "\"default.example\"", "\"own.example\""),
    ("https", "tls.min_days_left", "7", "14"),
    ("tls", "tls.min_days_left", "7", "0"),
    ("tcp", "send", "\"default\"", "\"own\""),
    ("tls", "expect", "\"default\"", "\"own\""),
    ("tcp", "send_hex", "\"00\"", "\"01\""),
    ("tls", "expect_hex", "\"00\"", "\"01\""),
    ("https", "proxy_protocol", "\"v1\"", "\"v2\""),
    ("grpc", "headers", "{ a = \"default\" }", "{ a = \"own\" }"),
    ("grpc", "service", "\"default\"", "\"\""),
    ("grpc", "host", "\"default.example\"", "\"own.example\""),
    ("exec", "arguments", "[\"default\"]", "[]"),
    ("exec", "port", "1111", "2222"),
];

/// The default applies exactly where the check sets no value.
#[test]
fn each_key_of_a_check_by_itself() {
    for (kind, key, default, own) in KEYS {
        let base = match kind {
            "https" => "type = \"https\", host = \"base.example\", interval = \"10s\", tls.verify = true",
            "tls" => "type = \"tls\", port = 1, tls.name = \"base.example\", tls.verify = true",
            "exec" => "type = \"exec\", program = \"/bin/sh\"",
            "grpc" => "type = \"grpc\", port = 1",
            "tcp" => "type = \"tcp\", port = 1",
            // Only keys that every kind of check has.
            _ => "host = \"base.example\"",
        };
        let rest: Vec<&str> = base.split(", ").filter(|line| !line.starts_with(&format!("{key} "))).collect();
        let without = format!("{{ {} }}", rest.join(", "));
        let with = |value: &str| format!("{{ {}, {key} = {value} }}", rest.join(", "));
        let (from_own, from_default) = (check(&with(own), ""), check(&with(default), ""));
        assert_ne!(from_own, from_default, "{key}: the two values must tell each other apart");
        let defaults = format!("{key} = {default}");
        assert_eq!(check(&without, &defaults), from_default, "{key}: the default is taken");
        assert_eq!(check(&with(own), &defaults), from_own, "{key}: the nearer one wins");
    }
}

/// A table is merged key by key, everything else as a whole.
#[test]
fn headers_are_taken_one_by_one() {
    let headers = |own: &str, default: &str| {
        http(check(&format!("{{ type = \"http\", headers = {own} }}"), &format!("headers = {default}")))
            .headers
    };
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        headers("{ B = \"own\", c = \"own\" }", "{ a = \"default\", b = \"default\" }"),
        [pair("a", "default"), pair("b", "own"), pair("c", "own")]
    );
    assert_eq!(headers("{}", "{ a = \"default\" }"), [pair("a", "default")]);
    assert_eq!(
        http(check("{ type = \"http\", status = [404] }", "status = [200]")).status,
        [404..=404],
        "a list is one value"
    );
}

/// A default that contradicts a key of the check is ignored, or the check can replace it.
#[test]
fn a_default_gives_way_or_can_be_overruled() {
    let body = "body = { contains = \"a\" }";
    assert_eq!(http(check("{ type = \"http\", method = \"HEAD\" }", body)).body, None);
    assert!(http(check("{ type = \"http\" }", body)).body.is_some());
    let faults = |check: &str, defaults: &str| {
        let text = format!(
            "[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {check}\n[defaults.check]\n{defaults}\n{REST}"
        );
        errors(&load_files(&text, &[]))
    };
    assert_eq!(
        faults("{ type = \"http\", body = { contains = \"a\" } }", "method = \"HEAD\""),
        ["steerd.toml:3:33 a response to HEAD has no body to search"]
    );
    assert_eq!(
        faults("{ type = \"http\", interval_down = \"1s\" }", "recheck = \"2s\""),
        ["steerd.toml:3:42 `recheck` (2s) must not be above `interval_down` (1s)"]
    );
    assert_eq!(
        faults("{ type = \"http\", body_limit = \"1B\" }", "body = { contains = \"ab\" }"),
        [
            "steerd.toml:3:39 the text of `body` has 2 bytes, and `body_limit` lets 1 be read: it would never be \
             found"
        ]
    );
    assert_eq!(
        faults("{ type = \"http\", status = [503] }", "drain_status = [503]"),
        ["steerd.toml:3:35 every accepted `status` is in `drain_status`, which goes first: nobody would be \
             healthy"]
    );
    let authority = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap().cert.pem();
    let tls = |own: &str, default: &str| {
        let text = format!(
            "[pools.x]\nbackends = [\"192.0.2.1\"]\n\
             check = {{ type = \"https\", host = \"a.example\", tls = {{ {own} }} }}\n\
             [defaults.check]\ntls = {{ {default} }}\n{REST}"
        );
        load_files(&text, &[("ca.pem", &authority)])
    };
    let setup = tls("verify = false", "ca_file = \"ca.pem\"").unwrap();
    let settings = http(setup.served.pools[0].checks[0].clone()).tls.unwrap();
    assert_eq!((settings.insecure, settings.ca_file), (true, None));
    assert_eq!(
        errors(&tls("ca_file = \"ca.pem\"", "verify = false")),
        ["steerd.toml:3:65 `ca_file` says whom to trust, but `verify = false` trusts everyone"]
    );
}

#[test]
fn a_url_is_completed_by_the_defaults() {
    let defaults = "port = 9000\nhost = \"d.example\"\npath = \"/d\"\ninterval = \"10s\"\nstatus = [204]";
    let completed = check("\"http://\"", defaults);
    assert_eq!(completed.timing.interval, Duration::from_secs(10));
    let probe = http(completed);
    assert_eq!((probe.port, probe.host.as_deref(), probe.path.as_str()), (9000, Some("d.example"), "/d"));
    assert_eq!(probe.status, [204..=204]);
    let probe = http(check("\"http://own:80/own\"", defaults));
    assert_eq!((probe.port, probe.host.as_deref(), probe.path.as_str()), (80, Some("own:80"), "/own"));
    // Defaults that a tcp check cannot have are ignored.
    assert_eq!(check("\"tcp://\"", defaults).probe, Probe::Tcp(TcpProbe::connect(9000)));
}

#[test]
fn timeout_and_recheck_follow_a_short_interval() {
    let timing = |keys: &str, defaults: &str| check(&format!("{{ type = \"http\"{keys} }}"), defaults).timing;
    let short = timing(", interval = \"1s\"", "");
    assert_eq!((short.timeout, short.recheck), (milliseconds(800), milliseconds(1000)));
    let shorter = timing("", "interval = \"100ms\"");
    assert_eq!((shorter.timeout, shorter.recheck), (milliseconds(80), milliseconds(100)));
    let long = timing(", interval = \"1h\"", "");
    assert_eq!((long.timeout, long.recheck), (BUILT_IN.timeout, BUILT_IN.recheck));
}

/// A default that contradicts the check's own key is reported at that key, with the default as related
/// place.
#[test]
fn contradictions_across_defaults() {
    let text = format!(
        "[pools.x]\nbackends = [\"192.0.2.1\"]\ncheck = {{ type = \"http\", interval = \"1s\" }}\n\
         [defaults.check]\ntimeout = \"2s\"\n{REST}"
    );
    let result = load_files(&text, &[]);
    assert_eq!(errors(&result), ["steerd.toml:3:37 `timeout` (2s) must be below `interval` (1s)"]);
    let faults = result.unwrap_err();
    let (location, _) = faults.errors().next().unwrap().related.clone().unwrap();
    assert_eq!((location.line, location.column), (5, 11));
}

/// `check` and `checks` are one setting: the pool's own one wins under either name.
#[test]
fn each_key_of_a_pool_by_itself() {
    let pool = |own: &str, defaults: &str| {
        let text =
            format!("[defaults.pool]\n{defaults}\n[pools.x]\nbackends = [\"192.0.2.1\"]\n{own}\n{REST}");
        loaded(&text).served.pools.swap_remove(0)
    };
    for (key, default, own) in [
        ("check", "check = \"tcp://:1\"", "checks = [\"tcp://:2\", \"tcp://:3\"]"),
        ("checks", "checks = [\"tcp://:1\", \"tcp://:2\"]", "check = \"tcp://:3\""),
        ("no checks", "checks = [\"tcp://:1\", \"tcp://:2\"]", "checks = []"),
        ("require", "require = 1", "require = \"all\""),
        ("min_healthy", "min_healthy = \"50%\"", "min_healthy = 1"),
        ("slow_start", "slow_start = \"10s\"", "slow_start = \"0s\""),
        ("suspect_self", "suspect_self = \"off\"", "suspect_self = \"90%\""),
    ] {
        let (from_own, from_default) = (pool(own, ""), pool(default, ""));
        assert_ne!(from_own, from_default, "{key}: the two values must tell each other apart");
        assert_eq!(pool("", default), from_default, "{key}: the default is taken");
        assert_eq!(pool(own, default), from_own, "{key}: the nearer one wins");
    }
    // A default about several checks has no effect in a pool without checks.
    assert!(pool("checks = []", "require = 2").checks.is_empty());
}

#[test]
fn defaults_of_pools_and_services() {
    let defaults = "[defaults.pool]\ncheck = \"tcp://:1\"\nmin_healthy = 2\n[defaults.service]\npools = [\"web\"]\n\
                    answers = 3\nttl = \"7s\"\npolicy = \"all\"\nwhen_down = \"nodata\"\nfailback = \"10m\"\n";
    let own = "[pools.own]\ncheck = \"tcp://:2\"\nmin_healthy = 1\nbackends = [\"192.0.2.1\"]\n\
               [services.\"own.example.com\"]\npools = [\"own\"]\nanswers = 1\nttl = \"8s\"\npolicy = \"weighted\"\n\
               when_down = \"servfail\"\nfailback = \"manual\"\n[services.\"bare.example.com\"]\n";
    let served = loaded(&format!("{defaults}{own}{REST}")).served;
    let pool = |name: &str| {
        let setup = served.pools.iter().find(|pool| pool.pool.name == name).unwrap();
        (setup.checks.first().map(|check| check.probe.clone()), setup.pool.min_healthy)
    };
    let tcp = |port| Some(Probe::Tcp(TcpProbe::connect(port)));
    assert_eq!(pool("web"), (tcp(1), MinHealthy::Count(2)));
    assert_eq!(pool("own"), (tcp(2), MinHealthy::Count(1)));
    let service = |name: &str| {
        let service = served.services.iter().find(|service| service.name.to_string() == name).unwrap();
        let Route { tiers, answers, ttl, when_down } = &service.default;
        let tier = &served.pools[tiers[0].index()].pool.name;
        (tier.as_str(), *answers, ttl.max, service.policy, when_down.clone(), service.failback)
    };
    let ten_minutes = Failback::After(Duration::from_secs(600));
    assert_eq!(
        service("bare.example.com."),
        ("web", Answers::AtMost(3), 7, Policy::All, WhenDown::NoData, ten_minutes)
    );
    assert_eq!(
        service("own.example.com."),
        ("own", Answers::AtMost(1), 8, Policy::Weighted, WhenDown::ServFail, Failback::Manual)
    );
}

#[test]
fn persistent_services() {
    let policy = |defaults: &str, keys: &str| {
        let text = format!(
            "[defaults.service]\n{defaults}\n[services.\"x.example.com\"]\npools = [\"web\"]\n{keys}\n"
        );
        let service =
            &load_with_rest(&text).unwrap_or_else(|faults| panic!("{text}\n{faults}")).served.services;
        let service = service.iter().find(|service| service.name.to_string() == "x.example.com.").unwrap();
        (service.policy, service.default.answers)
    };
    let persistent = |ipv4, ipv6| Policy::Persistent(Persistence { ipv4, ipv6 });
    let own = "policy = \"persistent\"";
    assert_eq!(policy("", own), (persistent(24, 56), Answers::AtMost(1)));
    let all = format!("{own}\nanswers = 3\npersistence = {{ ipv4 = 32, ipv6 = 128 }}");
    assert_eq!(policy("", &all), (persistent(32, 128), Answers::AtMost(3)));
    assert_eq!(
        policy("", &format!("{own}\npersistence.ipv6 = 48")),
        (persistent(24, 48), Answers::AtMost(1))
    );
    let defaults = "answers = 4\npersistence = { ipv4 = 20 }";
    assert_eq!(policy(defaults, own), (persistent(20, 56), Answers::AtMost(4)));
    // A default for persistent services does not concern the others.
    assert_eq!(policy(defaults, ""), (Policy::Weighted, Answers::AtMost(4)));
    assert_eq!(policy(own, "persistence = { ipv4 = 8 }"), (persistent(8, 56), Answers::AtMost(1)));
}
