//! Clients of a service with five backends: one refuses, one is silent, and three fail every fourth
//! request.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::namespace;
use crate::scene::{Client, DEAD, SILENT, Silent, Steerd, answering, example, python};
use crate::support::{Process, directory_of, program, wait_for};

const URL: &str = "http://www.lb.example.com:8080/";
/// How many requests must be answered: enough for each case.
const REQUESTS: usize = 10;
/// How long a client keeps a connection, seconds. Answers are valid for one second.
const TTL: &str = "3";

/// Runs a client in the namespace `test`: every request is answered, and the client switches backends.
fn holds(test: &str, command: impl FnOnce() -> Command) {
    namespace::run(&format!("walk::{test}"), || {
        let [one, two, three] = [13, 14, 15].map(|last| Ipv4Addr::new(127, 0, 0, last));
        let _steerd = Steerd::start(
            "www.lb.example.com",
            &[
                ("dead", DEAD, 1000),
                ("silent", SILENT, 1000),
                ("one", one, 1),
                ("two", two, 1),
                ("three", three, 1),
            ],
        );
        let _silent = Silent::start();
        // One of them leaves the answers, and nginx tries each address once, so two must remain.
        answering(&[("one", one), ("two", two), ("three", three)]);
        let mut client = Client::start(&mut command());
        client.replies(REQUESTS);
        client.follows();
    });
}

/// A client with the usual arguments: the URL, the TTL, and an unlimited number of requests.
fn with_arguments(mut command: Command) -> Command {
    command.args([URL, TTL, "1000000"]);
    command
}

/// A proxy, and a client that sends requests through it with curl.
fn through_a_proxy(proxy: &mut Command) -> (Process, Command) {
    let process = Process::start(proxy);
    let here = SocketAddr::from(([127, 0, 0, 1], 8000));
    wait_for("the proxy listens", || TcpStream::connect(here).ok());
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "while :; do curl -s -m 20 -w ' %{http_code}\\n' http://127.0.0.1:8000/ | \
         sed -E 's/(.*) ([0-9]+)$/\\2 \\1/'; sleep 0.1; done",
    ]);
    (process, command)
}

fn curl_client() -> Command {
    Command::new(example("curl.sh"))
}

fn python_client(name: &str) -> Command {
    let mut command = Command::new(python());
    command.arg(example(name));
    command
}

/// Builds the client.
fn go_client() -> Command {
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    let client = built.join("client");
    let output = Command::new(program("go"))
        .args(["build", "-o"])
        .arg(&client)
        .arg(example("client.go"))
        .env("GOCACHE", built.join("cache"))
        .env("GOFLAGS", "")
        .env("CGO_ENABLED", "0")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Command::new(client)
}

fn node_client() -> Command {
    let mut command = Command::new(program("node"));
    command.arg(example("client.mjs"));
    command
}

fn java_client() -> Command {
    let jars = ["httpclient5", "httpcore5", "httpcore5-h2", "slf4j-api"]
        .map(|jar| format!("/usr/share/java/{jar}.jar"));
    let mut command = Command::new(program("java"));
    command.arg("-cp").arg(jars.join(":")).arg(example("Client.java"));
    command
}

#[test]
fn curl() {
    holds("curl", || with_arguments(curl_client()));
}

#[test]
fn requests() {
    holds("requests", || with_arguments(python_client("with_requests.py")));
}

#[test]
fn go() {
    holds("go", || with_arguments(go_client()));
}

#[test]
fn node() {
    holds("node", || with_arguments(node_client()));
}

#[test]
fn java() {
    holds("java", || with_arguments(java_client()));
}

#[test]
fn without_good_arguments_each_client_prints_its_usage() {
    let clients: [&dyn Fn() -> Command; 6] = [
        &curl_client,
        &|| python_client("with_requests.py"),
        &|| python_client("with_boto3.py"),
        &go_client,
        &node_client,
        &java_client,
    ];
    for client in clients {
        for arguments in [&[][..], &[URL, "soon"], &[URL, TTL, "many"], &[URL, TTL, "1", "more"]] {
            let output = client().args(arguments).output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{client:?} {arguments:?}: {said}", client = client());
            assert!(said.contains("usage: ") && said.contains("URL [TTL [REQUESTS]]"), "{said}");
        }
    }
}

#[test]
fn nginx() {
    let mut process = None;
    holds("nginx", || {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("nginx.conf");
        let here = directory_of(&directory);
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {here}/{kind}; "))
            .concat();
        let config = format!(
            "daemon off; master_process off; pid {here}/pid; error_log stderr warn;\n\
             events {{ worker_connections 64; }}\nhttp {{ access_log off; {temporary}\n include {}; }}\n",
            example("nginx.conf").display()
        );
        std::fs::write(&path, config).unwrap();
        let mut nginx = Command::new(program("nginx"));
        nginx.arg("-p").arg(directory.path()).arg("-c").arg(&path).args(["-e", "stderr"]);
        let (nginx, command) = through_a_proxy(&mut nginx);
        process = Some((nginx, directory));
        command
    });
}

#[test]
fn haproxy() {
    let mut process = None;
    holds("haproxy", || {
        let mut haproxy = Command::new(program("haproxy"));
        haproxy.arg("-db").arg("-f").arg(example("haproxy.cfg"));
        let (haproxy, command) = through_a_proxy(&mut haproxy);
        process = Some(haproxy);
        wait_for("HAProxy has an answer", || {
            let status = Command::new("curl")
                .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:8000/"])
                .output()
                .unwrap();
            (status.stdout == b"200").then_some(())
        });
        command
    });
    drop(process);
}
