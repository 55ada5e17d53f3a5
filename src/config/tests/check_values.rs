//! Valid values of every key of checks and pools.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{REST, load_files, loaded};
use crate::check::{
    Check, ClientFiles, ExecProbe, Expected, GrpcProbe, HttpProbe, PoolSetup, Probe, ProxyProtocol, Talk,
    TcpProbe, TlsProbe, TlsSettings, Version,
};
use crate::config::load;
use crate::pool::{Backend, Require};

/// Pool `x` with these lines, with `defaults` in front.
fn pool_with(lines: &str, defaults: &str) -> PoolSetup {
    let text = format!("{defaults}\n[pools.x]\nbackends = [\"192.0.2.1\"]\n{lines}\n{REST}");
    loaded(&text).served.pools.into_iter().find(|pool| pool.pool.name == "x").unwrap()
}

fn pool(lines: &str) -> PoolSetup {
    pool_with(lines, "")
}

fn check(value: &str) -> Check {
    let mut checks = pool(&format!("check = {value}")).checks;
    assert_eq!(checks.len(), 1);
    checks.remove(0)
}

fn probe(value: &str) -> Probe {
    check(value).probe
}

fn http(value: &str) -> HttpProbe {
    match probe(value) {
        Probe::Http(http) => http,
        other => panic!("an HTTP probe was expected, not {other:?}"),
    }
}

fn pattern(text: &str) -> Expected {
    Expected::Pattern(crate::check::Pattern::new(text).unwrap())
}

fn named(name: &str) -> TlsSettings {
    TlsSettings { name: Some(name.into()), ..TlsSettings::default() }
}

#[test]
fn http_with_every_key() {
    let text = r#"{ type = "http", port = 8080, host = "a.example:8080", path = "/p?q", method = "POST",
        headers = { X-B = "2", "user-agent" = "mine", Accept = "" }, http_version = "2", status = [200, "301-302"],
        drain_status = ["429", 503], body = { contains = "all is well" }, body_limit = "4KiB",
        weight_header = "X-Load", proxy_protocol = "v2" }"#;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let expected = HttpProbe {
        port: 8080,
        tls: None,
        version: Version::Http2,
        method: "POST".into(),
        host: Some("a.example:8080".into()),
        path: "/p?q".into(),
        headers: vec![header("accept", ""), header("user-agent", "mine"), header("x-b", "2")],
        status: vec![200..=200, 301..=302],
        drain_status: vec![429..=429, 503..=503],
        body: Some(Expected::Text(b"all is well".to_vec())),
        body_without: false,
        body_limit: 4096,
        proxy: Some(ProxyProtocol::V2),
        weight_header: Some("x-load".into()),
    };
    assert_eq!(http(&text.replace('\n', " ")), expected);
    assert_eq!(http("{ type = \"http\" }"), HttpProbe::get(80, "/"), "nothing set");
    let version =
        |version: &str| http(&format!("{{ type = \"http\", http_version = \"{version}\" }}")).version;
    assert_eq!((version("1.1"), version("2")), (Version::Http1, Version::Http2));
    for (size, bytes) in [("1B", 1), ("1KiB", 1024), ("1MiB", 1_048_576), ("1048576B", 1_048_576)] {
        assert_eq!(
            http(&format!("{{ type = \"http\", body_limit = \"{size}\" }}")).body_limit,
            bytes,
            "{size}"
        );
    }
    let body = http("{ type = \"http\", body = { matches = '^ok\\s' } }").body;
    assert_eq!(body, Some(pattern(r"^ok\s")));
    // Methods may be custom.
    assert_eq!(http("{ type = \"http\", method = \"PURGE\" }").method, "PURGE");
}

/// A code in both lists drains, so a range may include it.
#[test]
fn drain_status_goes_first() {
    let probe = http("{ type = \"http\", drain_status = [203] }");
    assert_eq!((probe.status, probe.drain_status), (vec![200..=299], vec![203..=203]));
    assert_eq!(http("{ type = \"http\", drain_status = [] }").drain_status, []);
}

#[test]
fn https_judges_the_certificate() {
    let tls =
        |tls: &str| http(&format!("{{ type = \"https\", host = \"a.example:7\", tls = {{ {tls} }} }}")).tls;
    assert_eq!(tls(""), Some(named("a.example")));
    assert_eq!(tls("name = \"b.example\""), Some(named("b.example")));
    let days = |days| Some(TlsSettings { min_days_left: days, ..named("a.example") });
    assert_eq!((tls("min_days_left = 14"), tls("min_days_left = 0")), (days(Some(14)), days(None)));
    assert_eq!(tls("verify = false"), Some(TlsSettings { insecure: true, ..named("a.example") }));
}

#[test]
fn tcp_and_tls_talk() {
    let talk = Talk { send: Some(b"PING\r\n".to_vec()), expect: Some(pattern(r"^\+PONG")) };
    let words = r#"send = "PING\r\n", expect = '^\+PONG'"#;
    let tcp = probe(&format!("{{ type = \"tcp\", port = 6379, {words} }}"));
    assert_eq!(tcp, Probe::Tcp(TcpProbe { talk: talk.clone(), ..TcpProbe::connect(6379) }));
    let tls = probe(&format!("{{ type = \"tls\", port = 6380, tls.name = \"a.example\", {words} }}"));
    assert_eq!(tls, Probe::Tls(TlsProbe { talk, ..TlsProbe::handshake(6380, named("a.example")) }));
    let silent = |port, name: &str| Probe::Tls(TlsProbe::handshake(port, named(name)));
    assert_eq!(probe("\"tls://a.example:443\""), silent(443, "a.example"));
    assert_eq!(probe("\"tls://[2001:db8::1]:443\""), silent(443, "2001:db8::1"));
    let Probe::Tls(any) = probe("{ type = \"tls\", port = 1, tls.verify = false }") else {
        panic!("a tls probe")
    };
    assert_eq!(any.tls, TlsSettings { insecure: true, ..TlsSettings::default() });
}

#[test]
fn bytes_are_written_in_hexadecimal() {
    let tcp = |keys: &str| probe(&format!("{{ type = \"tcp\", port = 1, {keys} }}"));
    let of = |send: Option<&[u8]>, expect: Option<&[u8]>| {
        let expect = expect.map(|bytes| Expected::Text(bytes.to_vec()));
        let talk = Talk { send: send.map(<[u8]>::to_vec), expect };
        Probe::Tcp(TcpProbe { talk, ..TcpProbe::connect(1) })
    };
    let both = tcp("send_hex = \"00ff 0A\", expect_hex = \"fe:01\"");
    assert_eq!(both, of(Some(&[0, 0xff, 10]), Some(&[0xfe, 1])));
    // The key of the check replaces the default.
    let defaults = "[defaults.check]\nsend = \"PING\"";
    let check = "check = { type = \"tcp\", port = 1, send_hex = \"00\" }";
    assert_eq!(pool_with(check, defaults).checks.remove(0).probe, of(Some(&[0]), None));
}

#[test]
fn a_proxy_header_and_metadata() {
    let table = |keys: &str| probe(&format!("{{ type = \"grpc\", port = 50051, {keys} }}"));
    let Probe::Grpc(grpc) = table("proxy_protocol = \"v1\", headers = { Authorization = \"Bearer a\" }")
    else {
        panic!("a grpc probe")
    };
    assert_eq!(grpc.proxy, Some(ProxyProtocol::V1));
    assert_eq!(grpc.headers, [("authorization".to_owned(), "Bearer a".to_owned())]);
    // A default for a header that the call itself sets is for checks of another kind.
    let defaults = "[defaults.check]\nheaders = { Content-Type = \"text/plain\", X-A = \"b\" }";
    let Probe::Grpc(grpc) = pool_with("check = \"grpc://:1\"", defaults).checks.remove(0).probe else {
        panic!("a grpc probe")
    };
    assert_eq!(grpc.headers, [("x-a".to_owned(), "b".to_owned())]);
    for (key, proxy) in [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)] {
        let http = http(&format!("{{ type = \"http\", proxy_protocol = \"{key}\" }}"));
        assert_eq!(http.proxy, Some(proxy));
    }
}

#[test]
fn a_body_may_have_to_be_without_something() {
    let body = |body: &str| {
        let http = http(&format!("{{ type = \"http\", body = {body} }}"));
        (http.body, http.body_without)
    };
    assert_eq!(body("{ not_contains = \"a\" }"), (Some(Expected::Text(b"a".to_vec())), true));
    assert_eq!(body("{ not_matches = \"a.\" }"), (Some(pattern("a.")), true));
    assert_eq!(body("{ contains = \"a\" }"), (Some(Expected::Text(b"a".to_vec())), false));
}

#[test]
fn a_client_certificate_may_stand_with_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let certificate = certificate.self_signed(&key).unwrap().pem();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("certificate"), &certificate).unwrap();
    std::fs::write(path("key"), key.serialize_pem()).unwrap();
    std::fs::write(path("both"), certificate + &key.serialize_pem()).unwrap();
    let client = |keys: &str| {
        let keys = format!("{{ type = \"https\", host = \"a.example\", tls = {{ {keys} }} }}");
        http(&keys).tls.unwrap().client
    };
    let (certificate, key, both) = (path("certificate"), path("key"), path("both"));
    let pair = client(&format!(
        "client_certificate = \"{}\", client_key = \"{}\"",
        certificate.display(),
        key.display()
    ));
    assert_eq!(pair, Some(ClientFiles { certificate, key }));
    let one = client(&format!("client_certificate = \"{}\"", both.display()));
    assert_eq!(one, Some(ClientFiles { certificate: both.clone(), key: both }));
}

#[test]
fn grpc_speaks_tls_where_it_says_so() {
    let grpc = |tls, host: Option<&str>, service: &str| {
        Probe::Grpc(GrpcProbe {
            tls,
            host: host.map(str::to_owned),
            service: service.into(),
            ..GrpcProbe::of_server(50051)
        })
    };
    assert_eq!(probe("\"grpc://:50051\""), grpc(None, None, ""));
    assert_eq!(probe("\"grpc://:50051/\""), grpc(None, None, ""));
    assert_eq!(probe("\"grpc://:50051/my.pkg.Service\""), grpc(None, None, "my.pkg.Service"));
    assert_eq!(probe("\"grpc://a.example:50051\""), grpc(None, Some("a.example:50051"), ""));
    let table = |keys: &str| probe(&format!("{{ type = \"grpc\", port = 50051, {keys} }}"));
    assert_eq!(table("service = \"s\""), grpc(None, None, "s"));
    assert_eq!(
        table("host = \"a.example:1\", tls = {}"),
        grpc(Some(named("a.example")), Some("a.example:1"), "")
    );
    // A default completes an existing table, but does not create one.
    let defaults = "[defaults.check]\ntls = { name = \"d.example\" }";
    let of = |check: &str| pool_with(&format!("check = {check}"), defaults).checks.remove(0).probe;
    assert_eq!(of("\"grpc://:50051\""), grpc(None, None, ""));
    assert_eq!(of("{ type = \"grpc\", port = 50051, tls = {} }"), grpc(Some(named("d.example")), None, ""));
}

#[test]
fn programs_with_their_arguments() {
    let exec = |port, arguments: &[&str]| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Probe::Exec(ExecProbe { program: "/bin/sh".into(), arguments, port })
    };
    assert_eq!(probe("\"exec:/bin/sh\""), exec(None, &[]));
    let table = probe("{ type = \"exec\", program = \"/bin/sh\", arguments = [\"-c\", \"\"], port = 7 }");
    assert_eq!(table, exec(Some(7), &["-c", ""]));
}

/// A relative path would be searched for in `PATH`, or depend on the working directory.
#[test]
fn a_program_is_found_beside_the_file_that_names_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::create_dir(path("sub")).unwrap();
    std::fs::write(path("sub/probe.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(path("sub/probe.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    std::fs::write(path("example.com.zone"), super::ZONE).unwrap();
    let pool = "[pools.x]\nbackends = [\"192.0.2.1\"]\nchecks = [\"exec:probe.sh\", { type = \"exec\", program = \
                \"probe.sh\" }]\n";
    std::fs::write(path("sub/x.toml"), pool).unwrap();
    std::fs::write(path("steerd.toml"), format!("include = [\"sub/*.toml\"]\n{REST}")).unwrap();
    let setup = load(&path("steerd.toml")).unwrap_or_else(|faults| panic!("{faults}"));
    let programs: Vec<PathBuf> =
        setup.served.pools.iter().flat_map(|pool| &pool.checks).map(program).collect();
    assert_eq!(programs, [path("sub/probe.sh"), path("sub/probe.sh")]);
}

fn program(check: &Check) -> PathBuf {
    match &check.probe {
        Probe::Exec(exec) => exec.program.clone(),
        other => panic!("a program was expected, not {other:?}"),
    }
}

#[test]
fn timing() {
    let timing = |keys: &str| check(&format!("{{ type = \"http\", {keys} }}")).timing;
    let seconds = Duration::from_secs;
    let set = timing(
        "interval = \"8s\", interval_down = \"20s\", timeout = \"7s\", recheck = \"3s\", rise = 4, fall = 5, \
         damping = false",
    );
    assert_eq!((set.interval, set.interval_down, set.timeout), (seconds(8), seconds(20), seconds(7)));
    assert_eq!((set.recheck, set.rise, set.fall, set.damping), (seconds(3), 4, 5, false));
    assert_eq!(timing("interval = \"9s\"").interval_down, seconds(9), "as long as the interval");
    let short = timing("interval_down = \"500ms\"");
    assert_eq!((short.timeout, short.recheck), (Duration::from_millis(400), Duration::from_millis(500)));
    assert!(short.damping);
    // A recheck may be this long, a timeout may not.
    assert_eq!(timing("recheck = \"5s\", interval_down = \"5s\"").recheck, seconds(5));
}

#[test]
fn several_checks_and_their_names() {
    let names = |checks: &str| -> Vec<String> {
        pool(&format!("checks = [{checks}]")).checks.into_iter().map(|check| check.name).collect()
    };
    assert_eq!(
        names("\"http://:1\", \"tcp://:1\", \"http://:2\", \"http://:3\""),
        ["http", "tcp", "http-2", "http-3"]
    );
    let named = |name: &str| format!("{{ type = \"http\", name = \"{name}\" }}");
    assert_eq!(
        names(&format!("\"http://:1\", {}, {}, \"http://:2\"", named("http"), named("http-3"))),
        ["http-2", "http", "http-3", "http-4"],
        "a chosen name is not taken, wherever it stands"
    );
    assert_eq!(names(""), [""; 0]);
    for one in
        ["check = \"tcp://:1\"", "checks = \"tcp://:1\"", "check = [\"tcp://:1\"]", "checks = [\"tcp://:1\"]"]
    {
        assert_eq!(pool(one).checks.len(), 1, "{one}");
    }
    let roles = |keys: &str| {
        let check = check(&format!("{{ type = \"http\"{keys} }}"));
        (check.critical, check.observe_only)
    };
    assert_eq!(roles(""), (false, false));
    assert_eq!(roles(", critical = true, observe_only = false"), (true, false));
    assert_eq!(roles(", critical = false, observe_only = true"), (false, true));
}

#[test]
fn keys_of_a_pool() {
    let require =
        |value: &str| pool(&format!("require = {value}\nchecks = [\"tcp://:1\", \"tcp://:2\"]")).require;
    assert_eq!((require("\"all\""), require("\"any\"")), (Require::All, Require::AtLeast(1)));
    assert_eq!((require("1"), require("2")), (Require::AtLeast(1), Require::AtLeast(2)));
    assert_eq!(pool("require = \"any\"").require, Require::AtLeast(1), "without checks it says nothing");
    let built_in = pool("");
    assert_eq!((built_in.require, built_in.pool.slow_start), (Require::All, Duration::ZERO));
    assert_eq!(built_in.pool.suspect_self, Some(90));
    assert_eq!(pool("slow_start = \"1h\"").pool.slow_start, Duration::from_secs(3600));
    let suspect = |value: &str| pool(&format!("suspect_self = \"{value}\"")).pool.suspect_self;
    assert_eq!((suspect("1%"), suspect("100%"), suspect("off")), (Some(1), Some(100), None));
}

#[test]
fn keys_of_a_backend() {
    let text = "[pools.x]\nbackends = [\n\
                { address = \"192.0.2.1\", site = \"rack-1.a\", port = 65535, check_address = \"2001:db8::9\" },\n\
                { address = \"192.0.2.2\", check_address = \"2001:db8::9\" }, \"192.0.2.3\"]\n";
    let setup = load_files(&format!("{text}{REST}"), &[]).unwrap();
    let backend = |address: &str| Backend::new(address, vec![address.parse().unwrap()]);
    let check_address = Some("2001:db8::9".parse().unwrap());
    assert_eq!(
        setup.served.pools[0].pool.backends,
        [
            Backend {
                site: Some("rack-1.a".into()),
                port: Some(65535),
                check_address,
                ..backend("192.0.2.1")
            },
            Backend { check_address, ..backend("192.0.2.2") },
            backend("192.0.2.3"),
        ]
    );
}
