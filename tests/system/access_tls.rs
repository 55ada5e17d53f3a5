//! TLS of the admin server: commands verify its certificate, a reload changes it, and slow handshakes hold nothing up.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{PATIENCE, Process, STEERD, ZONE, wait_for};
use crate::support::{TOKEN, address_in};

/// A server that speaks TLS, with a token.
struct Secure {
    process: Process,
    admin: SocketAddr,
    directory: TempDir,
}

/// Writes a certificate of its own for these names, and its key.
fn certify(directory: &Path, names: &[&str]) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let certificate = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    std::fs::write(directory.join("cert.pem"), certificate.pem()).unwrap();
    std::fs::write(directory.join("key.pem"), key.serialize_pem()).unwrap();
}

fn config(directory: &Path, admin: &str) {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nstartup_wait = \"0s\"\n\
         [admin]\nlisten = \"{admin}\"\ntoken_file = \"token\"\n\
         tls = {{ certificate = \"cert.pem\", key = \"key.pem\" }}\n\
         [zones.\"lb.example.test\"]\nfile = \"zone\"\n\
         [pools.web]\nbackends = [{{ name = \"one\", address = \"192.0.2.1\" }}, \"192.0.2.2\", \"192.0.2.3\"]\n"
    );
    std::fs::write(directory.join("steerd.toml"), text).unwrap();
}

fn start(names: &[&str]) -> Secure {
    let directory = TempDir::new().unwrap();
    for (name, text) in [("zone", ZONE), ("token", TOKEN)] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    certify(directory.path(), names);
    config(directory.path(), "127.0.0.1:0");
    let mut command = Command::new(STEERD);
    command.arg("serve").arg("-c").arg(directory.path().join("steerd.toml")).args(["--log-format", "json"]);
    let mut process = Process::start(&mut command);
    wait_for("DNS is answered", || {
        assert!(process.is_running(), "steerd ended: {:?}", process.said(""));
        process.said("DNS is answered").pop()
    });
    let admin = address_in(&process, "admin server listens").unwrap();
    // Commands find the port in the file.
    config(directory.path(), &admin.to_string());
    Secure { process, admin, directory }
}

impl Secure {
    /// The exit code of a command, and what it says.
    fn steerd(&self, arguments: &[&str]) -> (i32, String) {
        let output =
            Command::new(STEERD).args(arguments).current_dir(self.directory.path()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    fn url(&self) -> String {
        format!("https://{}", self.admin)
    }

    /// A connection whose certificate was verified.
    fn connect(&self) -> std::io::Result<StreamOwned<ClientConnection, TcpStream>> {
        let certificate = CertificateDer::from_pem_file(self.directory.path().join("cert.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(self.admin)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut stream = StreamOwned::new(connection, stream);
        stream.conn.complete_io(&mut stream.sock)?;
        Ok(stream)
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = self.connect()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    }
}

#[test]
fn commands_verify_the_certificate() {
    let server = start(&["lb1.example.test", "127.0.0.1"]);
    let url = server.url();
    for arguments in [
        // The server of the file may have any certificate.
        &["status", "-c", "steerd.toml"][..],
        &["drain", "web/one", "-c", "steerd.toml"],
        &["healthcheck", "-c", "steerd.toml"],
        &["healthcheck", "--admin", &url, "--ca-file", "cert.pem"],
        &["status", "--admin", &url, "--ca-file", "cert.pem"],
        &["drain", "web/192.0.2.2", "--admin", &url, "--ca-file", "cert.pem", "--token-file", "token"],
    ] {
        let (code, said) = server.steerd(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }
    let plain = format!("http://{}", server.admin);
    for (arguments, expected) in [
        (&["status", "--admin", &url][..], "the certificate of https://"),
        (&["status", "--admin", &plain], "give it as https://"),
        (&["drain", "web/one", "--admin", &url, "--ca-file", "cert.pem"], "the right `override`"),
    ] {
        let (code, said) = server.steerd(arguments);
        assert!(code == 1 && said.contains(expected), "{arguments:?}: {said}");
    }
}

#[test]
fn a_certificate_for_another_name_is_refused() {
    let server = start(&["lb1.example.test"]);
    let (code, said) = server.steerd(&["status", "--admin", &server.url(), "--ca-file", "cert.pem"]);
    assert!(code == 1 && said.contains("lb1.example.test"), "{said}");
    // Another server took the port: it knows no token of this file.
    std::fs::write(server.directory.path().join("token"), "another-token-than-before").unwrap();
    let (code, said) = server.steerd(&["drain", "web/one", "-c", "steerd.toml"]);
    assert!(code == 1 && said.contains("the token was not sent"), "{said}");
}

/// Until the reload, the server has another certificate than the file, or speaks TLS and the file says otherwise.
#[test]
fn the_server_of_the_file_is_found_while_its_certificate_changes() {
    let server = start(&["127.0.0.1"]);
    let check = &["healthcheck", "-c", "steerd.toml"][..];
    certify(server.directory.path(), &["127.0.0.1"]);
    let (code, said) = server.steerd(&["healthcheck", "--admin", &server.url(), "--ca-file", "cert.pem"]);
    assert!(code == 1 && said.contains("was not accepted"), "--ca-file is verified: {said}");
    for arguments in [check, &["reload", "-c", "steerd.toml"]] {
        let (code, said) = server.steerd(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }
    assert!(server.get("/readyz").unwrap().starts_with("HTTP/1.1 200 "), "the new certificate is in force");

    let path = server.directory.path().join("steerd.toml");
    let with_tls = std::fs::read_to_string(&path).unwrap();
    let without = with_tls.replace("tls = {", "# tls = {");
    std::fs::write(&path, without).unwrap();
    let (code, said) = server.steerd(check);
    assert_eq!(code, 0, "it still speaks TLS: {said}");
    server.process.signal("HUP");
    wait_for("the server speaks plain HTTP", || server.connect().is_err().then_some(()));
    std::fs::write(&path, with_tls).unwrap();
    for arguments in [check, &["reload", "-c", "steerd.toml"]] {
        let (code, said) = server.steerd(arguments);
        assert_eq!(code, 0, "{arguments:?}: {said}");
    }
    assert!(server.get("/readyz").unwrap().starts_with("HTTP/1.1 200 "), "it speaks TLS again");
}

#[test]
fn a_reload_changes_the_certificate_and_refuses_a_broken_one() {
    let server = start(&["127.0.0.1"]);
    assert!(server.get("/readyz").unwrap().starts_with("HTTP/1.1 200 "));
    let mut kept = server.connect().unwrap();
    let old = std::fs::read_to_string(server.directory.path().join("cert.pem")).unwrap();
    certify(server.directory.path(), &["127.0.0.1"]);
    assert!(server.get("/readyz").is_err(), "the file is newer than the server");
    server.process.signal("HUP");
    wait_for("the new certificate is in force", || server.get("/readyz").ok());
    wait_for("the reload is told", || server.process.said("another certificate or key").pop());
    // A connection outlives the certificate that it began with.
    write!(kept, "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    kept.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");

    let new = std::fs::read_to_string(server.directory.path().join("cert.pem")).unwrap();
    std::fs::write(server.directory.path().join("cert.pem"), &old).unwrap();
    let (code, said) = server.steerd(&["check", "-c", "steerd.toml"]);
    assert!(code == 1 && said.contains("its key is not that of the certificate"), "{said}");
    server.process.signal("HUP");
    wait_for("the reload is refused", || server.process.said("its key is not that").pop());
    std::fs::write(server.directory.path().join("cert.pem"), &new).unwrap();
    assert!(server.get("/readyz").unwrap().starts_with("HTTP/1.1 200 "), "the old one stays");
}

/// Each handshake has a place and a time limit, like a head without TLS.
#[test]
fn slow_handshakes_hold_nothing_up() {
    let server = start(&["127.0.0.1"]);
    let mut silent: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = TcpStream::connect(server.admin).unwrap();
            // The beginning of a handshake, of something else, or nothing.
            let _ = stream.write_all([&b"\x16\x03\x01\x02\x00\x01"[..], b"GET / HTTP/1.1", b""][number % 3]);
            stream
        })
        .collect();
    let began = Instant::now();
    for _ in 0..5 {
        assert!(server.get("/healthz").unwrap().starts_with("HTTP/1.1 200 "));
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    for stream in &mut silent {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The end, an alert and the end, or a reset.
        if let Err(error) = stream.read_to_end(&mut Vec::new()) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "each of them is closed");
        }
    }
}

/// A web page of the server itself may change something; one that came without TLS is another place.
#[test]
fn pages_of_the_server_itself_have_its_scheme() {
    let server = start(&["127.0.0.1"]);
    let text = std::fs::read_to_string(server.directory.path().join("steerd.toml")).unwrap();
    std::fs::write(server.directory.path().join("steerd.toml"), text.replace("token_file = \"token\"\n", ""))
        .unwrap();
    server.process.signal("HUP");
    wait_for("no token is needed", || server.process.said("no token is required any more").pop());
    let post = |origin: &str| {
        let mut stream = server.connect().unwrap();
        let admin = server.admin;
        write!(
            stream,
            "POST /api/v1/reload?dry_run=true HTTP/1.1\r\nHost: {admin}\r\nOrigin: {origin}://{admin}\r\n\
             Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        .unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        let _: Value = serde_json::from_str(body).unwrap();
        head.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(post("https"), "200");
    assert_eq!(post("http"), "403");
}
