//! A real Prometheus with the rules of `examples/monitoring`, and its tool.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Process, free_port, program, wait_for};
use crate::{file, read};

pub(crate) struct Prometheus {
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

impl Prometheus {
    /// Starts Prometheus, which scrapes `target` and evaluates the rules each second. An alert fires after a second
    /// instead of its own time.
    pub(crate) fn start(target: SocketAddr) -> Self {
        let directory = TempDir::new().unwrap();
        let rules = read("examples/monitoring/rules.yml");
        let rules: Vec<&str> = rules
            .lines()
            .map(|line| if line.trim_start().starts_with("for: ") { "        for: 1s" } else { line })
            .collect();
        std::fs::write(directory.path().join("rules.yml"), rules.join("\n")).unwrap();
        let config = read("examples/monitoring/prometheus.yml")
            .replace("interval: 15s", "interval: 1s")
            .replace("- 192.0.2.53:8053", &format!("- {target}"))
            .replace("          - 198.51.100.53:8053\n", "");
        std::fs::write(directory.path().join("prometheus.yml"), config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")));
        let process = Process::start(
            Command::new(program("prometheus"))
                .arg("--config.file=prometheus.yml")
                .arg("--storage.tsdb.path=data")
                .arg(format!("--web.listen-address={address}"))
                .current_dir(directory.path()),
        );
        let prometheus = Self { _process: process, address, _directory: directory };
        wait_for("Prometheus has scraped steerd", || {
            let up = prometheus.try_get("query", Some("up == 1"))?;
            up["result"].as_array().is_some_and(|result| !result.is_empty()).then_some(())
        });
        prometheus
    }

    /// The data of a reply of its API.
    pub(crate) fn get(&self, path: &str) -> Value {
        self.try_get(path, None).unwrap_or_else(|| panic!("Prometheus does not answer {path}"))
    }

    /// The result of a query.
    pub(crate) fn query(&self, query: &str) -> Value {
        self.try_get("query", Some(query)).unwrap_or_else(|| panic!("Prometheus refuses {query}"))
    }

    fn try_get(&self, path: &str, query: Option<&str>) -> Option<Value> {
        let mut curl = Command::new(program("curl"));
        curl.args(["-s", "-G"]).arg(format!("http://{}/api/v1/{path}", self.address));
        if let Some(query) = query {
            curl.arg("--data-urlencode").arg(format!("query={query}"));
        }
        let reply: Value = serde_json::from_slice(&curl.output().unwrap().stdout).ok()?;
        (reply["status"] == "success").then(|| reply["data"].clone())
    }

    /// The alert rules of the file, as Prometheus read them.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let groups = self.get("rules")["groups"].as_array().unwrap().clone();
        groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
    }

    /// The names of the alerts that fire.
    pub(crate) fn firing(&self) -> Vec<String> {
        let alerts = self.get("alerts")["alerts"].as_array().unwrap().clone();
        let firing = alerts.iter().filter(|alert| alert["state"] == "firing");
        firing.map(|alert| alert["labels"]["alertname"].as_str().unwrap().to_owned()).collect()
    }
}

/// Runs promtool in `examples/monitoring`, and returns its output.
pub(crate) fn promtool(arguments: &[&str]) -> String {
    let output = Command::new(program("promtool"))
        .args(arguments)
        .current_dir(file("examples/monitoring"))
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}
