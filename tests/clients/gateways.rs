//! boto3 with three S3 gateways in front of one store; each gateway is an nginx.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use crate::namespace;
use crate::scene::{Client, DEAD, PORT, SILENT, Steerd, example, fill, python};
use crate::support::{Process, directory_of, program, wait_for};

/// An nginx in front of the store, which adds its name to each reply.
struct Gateway {
    process: Process,
    _directory: TempDir,
}

impl Gateway {
    fn start(name: &str, address: Ipv4Addr) -> Self {
        let directory = TempDir::new().unwrap();
        let here = directory_of(&directory);
        let mut config = format!(
            "daemon off; master_process off; pid {here}/pid; error_log stderr warn;\n\
             events {{ worker_connections 64; }}\nhttp {{ access_log off; "
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            write!(config, "{kind}_temp_path {here}/{kind}; ").unwrap();
        }
        // A backlog of one, so that it is soon full once nginx no longer accepts.
        write!(
            config,
            "server {{ listen {address}:{PORT} backlog=1; location / {{ proxy_pass http://127.0.0.1:5000; \
             proxy_set_header Host $http_host; add_header X-Gateway {name} always; }} }} }}"
        )
        .unwrap();
        let path = directory.path().join("nginx.conf");
        std::fs::write(&path, config).unwrap();
        let mut nginx = Command::new(program("nginx"));
        nginx.arg("-p").arg(directory.path()).arg("-c").arg(&path).args(["-e", "stderr"]);
        let process = Process::start(&mut nginx);
        listens(address.into(), PORT);
        Self { process, _directory: directory }
    }
}

fn listens(address: IpAddr, port: u16) {
    wait_for("it listens", || TcpStream::connect((address, port)).ok());
}

#[test]
fn boto3() {
    namespace::run("gateways::boto3", || {
        let good = Ipv4Addr::new(127, 0, 0, 13);
        let _steerd = Steerd::start(
            "s3.lb.example.com",
            &[("one", DEAD, 1000), ("two", SILENT, 1000), ("three", good, 1)],
        );
        let _store = Process::start(
            Command::new(python())
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", "5000"])
                // Otherwise it takes the first label of the service's name for a bucket.
                .env("S3_IGNORE_SUBDOMAIN_BUCKETNAME", "true"),
        );
        listens(Ipv4Addr::LOCALHOST.into(), 5000);
        let (one, two) = (Gateway::start("one", DEAD), Gateway::start("two", SILENT));
        let _three = Gateway::start("three", good);
        let mut client = Client::start(
            Command::new(python())
                .arg(example("with_boto3.py"))
                .args(["http://s3.lb.example.com:8080", "3", "1000000"])
                .envs([("AWS_ACCESS_KEY_ID", "examples"), ("AWS_SECRET_ACCESS_KEY", "examples")])
                .env("AWS_DEFAULT_REGION", "us-east-1"),
        );
        client.replies(3);
        // One gateway ends, and another no longer accepts: no operation fails.
        drop(one);
        two.process.signal("STOP");
        let _backlog = fill(SocketAddr::from((SILENT, PORT)));
        let before = client.replies(3).len();
        let replies = client.replies(before + 10);
        // One round may have been in progress.
        assert!(replies[before + 1..].iter().all(|gateway| gateway == "three"), "{replies:?}");
        // The first gateway is back, and the third leaves the answers, although it would continue
        // to answer.
        let _one = Gateway::start("one", DEAD);
        client.follows();
    });
}
