//! If this machine is at fault, no backend changes its state, and steerd reports it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::harness::{Nginx, Server, free_port, http_get, wait_for};

const BACKENDS: u8 = 12;
/// Longer than `fall` failures of any backend would take.
const LONG_ENOUGH: Duration = Duration::from_secs(4);

/// A pool of backends on loopback, each of which is detected as dead within two seconds.
fn pool(port: u16) -> String {
    let backends: Vec<String> = (1..=BACKENDS).map(|host| format!("\"127.0.31.{host}\"")).collect();
    format!(
        "[pools.web]\ncheck = {{ type = \"http\", port = {port}, path = \"/healthz\", interval = \"500ms\", \
         timeout = \"300ms\", recheck = \"100ms\", rise = 2, fall = 2 }}\nbackends = [{}]\n\
         [services.\"www.lb.example.test\"]\npools = [\"web\"]\n",
        backends.join(", ")
    )
}

fn healthy(status: &str) -> usize {
    let status: serde_json::Value = serde_json::from_str(status).unwrap();
    let backends = status.pointer("/pools/0/backends").unwrap().as_array().unwrap();
    backends.iter().filter(|backend| backend.pointer("/addresses/0/state").unwrap() == "healthy").count()
}

/// From now on, lets the server open only descriptors below this number.
fn limit_descriptors(server: &Server, limit: usize) {
    // The hard limit stays, because raising it again would need a privilege.
    let (process, limit) = (server.process.id().to_string(), format!("--nofile={limit}:"));
    let status = Command::new("prlimit").args(["--pid", &process, &limit]).status().unwrap();
    assert!(status.success(), "prlimit ended with {status}");
}

/// A connection to the admin server that stays open, because a new one would need a descriptor.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn open(server: &Server) -> Self {
        let mut connection = Self(BufReader::new(TcpStream::connect(server.admin).unwrap()));
        connection.get("/healthz");
        connection
    }

    fn get(&mut self, path: &str) -> String {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }
}

#[test]
fn without_descriptors_nobody_is_judged_and_the_alarm_shows() {
    let port = free_port("127.0.31.1");
    let servers = format!("server {{ listen {port}; location /healthz {{ return 200 ok; }} }}");
    let _nginx = Nginx::start_with("127.0.31.1", port, &servers);
    let server = Server::start(&pool(port));
    let all = usize::from(BACKENDS);
    wait_for("all are healthy", || {
        (healthy(&http_get(server.admin, "/api/v1/status").1) == all).then_some(())
    });
    let alarm = |text: &str| text.contains("steerd_self_suspected{pool=\"\"} 1");

    let mut connection = Connection::open(&server);
    limit_descriptors(&server, 3);
    wait_for("the alarm shows in the metrics", || alarm(&connection.get("/metrics")).then_some(()));
    let until = Instant::now() + LONG_ENOUGH;
    while Instant::now() < until {
        assert_eq!(healthy(&connection.get("/api/v1/status")), all);
        assert_eq!(server.dig(&["www.lb.example.test", "A"]).len(), 2);
    }
    assert!(alarm(&connection.get("/metrics")), "it lasts as long as its cause");
    assert!(!server.process.said("probes cannot be made").is_empty(), "the log says it");
    assert_eq!(server.process.said("backend is unhealthy"), Vec::<String>::new());

    limit_descriptors(&server, 1024);
    wait_for("the alarm ends", || (!alarm(&connection.get("/metrics"))).then_some(()));
    assert_eq!(server.process.said("backend is unhealthy"), Vec::<String>::new());
    assert_eq!(server.dig(&["www.lb.example.test", "A"]).len(), 2);
}
