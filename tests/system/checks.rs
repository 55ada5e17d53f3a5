//! Every kind of check against real peers: nginx with TLS and HTTP/2, programs, and plain sockets.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use crate::harness::{Nginx, Server, free_port, http_get, wait_for};

const NAME: &str = "s3.example.test";

/// A certificate authority and a certificate that it has issued for [`NAME`], as files.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let server = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        let server = server.signed_by(&key, &authority).unwrap();
        for (file, text) in
            [("ca.pem", authority.pem()), ("cert.pem", server.pem()), ("key.pem", key.serialize_pem())]
        {
            std::fs::write(directory.path().join(file), text).unwrap();
        }
        Self(directory)
    }

    fn path(&self, file: &str) -> String {
        self.0.path().join(file).to_str().unwrap().to_owned()
    }
}

/// The state of a pool's only backend, and the detail of the last outcome of its first check.
fn state(server: &Server, pool: &str) -> Option<(String, String)> {
    let (_, body) = http_get(server.admin, &format!("/api/v1/pools/{pool}"));
    let pool: serde_json::Value = serde_json::from_str(&body).ok()?;
    let address = pool.pointer("/backends/0/addresses/0")?;
    let detail = address.pointer("/checks/0/last/detail")?.as_str()?;
    Some((address.get("state")?.as_str()?.to_owned(), detail.to_owned()))
}

/// Waits until a pool's backend is in a state, with a detail that contains these words.
fn wait_until(server: &Server, pool: &str, wanted: &str, words: &str) {
    let mut last = None;
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait_for(&format!("{pool} is {wanted}: {words}"), || {
            last = state(server, pool);
            last.as_ref()
                .is_some_and(|(state, detail)| state == wanted && detail.contains(words))
                .then_some(())
        });
    }));
    assert!(found.is_ok(), "{pool} should be {wanted} with {words:?}, but is {last:?}");
}

fn pools(checks: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (name, check) in checks {
        let timing = "interval = \"500ms\", timeout = \"400ms\", recheck = \"100ms\"";
        writeln!(
            text,
            "[pools.{name}]\ncheck = {{ {check}, {timing} }}\nbackends = [\"127.0.0.1\"]\n\
             [services.\"{name}.lb.example.test\"]\npools = [\"{name}\"]"
        )
        .unwrap();
    }
    text
}

#[test]
fn nginx_over_tls_by_http_1_and_http_2() {
    let certificates = Certificates::new();
    let (tls, plain) = (free_port("127.0.0.1"), free_port("127.0.0.1"));
    let _nginx = Nginx::start_with(
        "127.0.0.1",
        tls,
        &format!(
            "server {{ listen 127.0.0.1:{tls} ssl http2; server_name {NAME}; ssl_certificate {}; \
             ssl_certificate_key {}; location /version {{ return 200 \"$server_protocol $ssl_session_reused\"; }} \
             location /host {{ return 200 $host; }} location /drain {{ return 429 slow; }} \
             location /load {{ add_header X-Load 40; return 200 ok; }} location / {{ return 404; }} }} \
             server {{ listen 127.0.0.1:{plain} http2; location / {{ return 200 \"$server_protocol\"; }} }}",
            certificates.path("cert.pem"),
            certificates.path("key.pem")
        ),
    );
    let https = |rest: &str| {
        let ca_file = certificates.path("ca.pem");
        format!(
            "type = \"https\", port = {tls}, host = \"{NAME}\", tls = {{ ca_file = \"{ca_file}\" }}, {rest}"
        )
    };
    let (cert_name, insecure) = (certificates.path("ca.pem"), "tls = { verify = false }");
    let server = Server::start(&pools(&[
        ("one", https("path = \"/version\", http_version = \"1.1\", body = { contains = \"HTTP/1.1\" }")),
        ("two", https("path = \"/version\", http_version = \"2\", body = { matches = \"^HTTP/2\" }")),
        ("host", https("path = \"/host\", body = { contains = \"s3.example.test\" }")),
        ("drain", https("path = \"/drain\", drain_status = [429]")),
        ("missing", https("path = \"/missing\"")),
        (
            "resumed",
            https("path = \"/version\", http_version = \"1.1\", body = { contains = \"HTTP/1.1 r\" }"),
        ),
        ("prior", format!("type = \"http\", port = {plain}, http_version = \"2\"")),
        (
            "wrong",
            format!(
                "type = \"https\", port = {tls}, host = \"other.test\", tls = {{ ca_file = \"{cert_name}\" }}"
            ),
        ),
        (
            "days",
            format!(
                "type = \"tls\", port = {tls}, tls = {{ ca_file = \"{cert_name}\", name = \"{NAME}\", min_days_left = 30 }}"
            ),
        ),
        ("unknown", format!("type = \"tls\", port = {tls}, tls = {{ name = \"{NAME}\" }}")),
        ("any", format!("type = \"tls\", port = {tls}, {insecure}")),
        ("garbage", format!("type = \"tls\", port = {plain}, {insecure}")),
    ]));
    for pool in ["one", "two", "host", "resumed", "prior", "days", "any"] {
        wait_until(&server, pool, "healthy", "");
    }
    wait_until(&server, "drain", "draining", "429");
    wait_until(&server, "missing", "unhealthy", "status 404");
    wait_until(&server, "wrong", "unhealthy", "not valid for other.test");
    wait_until(&server, "unknown", "unhealthy", "not trusted");
    wait_until(&server, "garbage", "unhealthy", "TLS");
}

#[test]
fn programs_judge() {
    let directory = TempDir::new().unwrap();
    let script = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let children = directory.path().join("children");
    let server = Server::start(&pools(&[
        (
            "good",
            format!(
                "type = \"exec\", port = 7070, program = \"{}\", arguments = [\"a b\"]",
                script("good", "echo \"$STEERD_ADDRESS $STEERD_PORT $1\"")
            ),
        ),
        ("bad", format!("type = \"exec\", program = \"{}\"", script("bad", "echo 'disk full' >&2; exit 3"))),
        (
            "slow",
            format!(
                "type = \"exec\", program = \"{}\"",
                script("slow", &format!("sleep 20 & echo $! >> {}; wait", children.display()))
            ),
        ),
    ]));
    wait_until(&server, "good", "healthy", "127.0.0.1 7070 a b");
    wait_until(&server, "bad", "unhealthy", "disk full");
    wait_until(&server, "slow", "unhealthy", "");
    // Processes that a program leaves behind end with it, except those of a run in progress.
    let left = |process: &str| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(process).join("stat")).unwrap_or_default();
        // A process that has ended may still wait to be reaped.
        stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
    };
    wait_for("the children of programs are ended", || {
        let started = std::fs::read_to_string(&children).ok()?;
        let started: Vec<&str> = started.lines().collect();
        (started.len() > 2 && started.iter().filter(|process| left(process)).count() <= 1).then_some(())
    });
}

#[test]
fn a_connection_that_has_to_answer() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut line = String::new();
                let _ = BufReader::new(&stream).read_line(&mut line);
                let _ = write!(stream, "{}", if line == "PING\r\n" { "+PONG\r\n" } else { "-ERR\r\n" });
            });
        }
    });
    let server = Server::start(&pools(&[
        ("pong", format!("type = \"tcp\", port = {port}, send = \"PING\\r\\n\", expect = \"^\\\\+PONG\"")),
        ("other", format!("type = \"tcp\", port = {port}, send = \"HELLO\\r\\n\", expect = \"^\\\\+PONG\"")),
    ]));
    wait_until(&server, "pong", "healthy", "");
    wait_until(&server, "other", "unhealthy", "-ERR");
}
