//! A real Alertmanager: an alert fires, is kept alive, and is resolved.

use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use crate::scene::Scene;
use crate::support::{Process, free_port, http_get, program, wait_for};

struct Alertmanager {
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

impl Alertmanager {
    fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let config = "route: { receiver: nobody }\nreceivers: [{ name: nobody }]\n";
        std::fs::write(directory.path().join("alertmanager.yml"), config).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port("127.0.0.1")));
        let process = Process::start(
            Command::new(program("prometheus-alertmanager"))
                .arg("--config.file=alertmanager.yml")
                .arg("--storage.path=data")
                .arg("--cluster.listen-address=")
                .arg(format!("--web.listen-address={address}"))
                .current_dir(directory.path()),
        );
        wait_for("Alertmanager is ready", || {
            let _ = std::net::TcpStream::connect(address).ok()?;
            (http_get(address, "/-/ready").0 == 200).then_some(())
        });
        Self { _process: process, address, _directory: directory }
    }

    /// The alerts that it regards as active, by name.
    fn active(&self) -> Vec<(String, Value)> {
        let (_, body) = http_get(self.address, "/api/v2/alerts?active=true");
        // Large bodies come in chunks, whose sizes are lines of their own.
        let start = body.find('[').unwrap_or(0);
        let end = body.rfind(']').map_or(body.len(), |end| end + 1);
        let joined: String =
            body[start..end].split("\r\n").filter(|line| usize::from_str_radix(line, 16).is_err()).collect();
        let alerts: Vec<Value> =
            serde_json::from_str(&joined).unwrap_or_else(|error| panic!("{error}: {body}"));
        let mut alerts: Vec<(String, Value)> = alerts
            .into_iter()
            .map(|alert| (alert["labels"]["alertname"].as_str().unwrap().to_owned(), alert))
            .collect();
        alerts.sort_by(|one, other| one.0.cmp(&other.0));
        alerts
    }

    fn names(&self) -> Vec<String> {
        self.active().into_iter().map(|(name, _)| name).collect()
    }
}

#[test]
fn alertmanager_sees_an_alert_fire_and_end() {
    let alertmanager = Alertmanager::start();
    let alerts = format!(
        "[[alerts]]\nurl = \"http://{}/api/v2/alerts\"\ntemplate = \"alertmanager\"\ndelay = \"0s\"\ngroup = \"1s\"\n",
        alertmanager.address
    );
    let mut scene = Scene::start(73, &alerts);
    let said = scene.command(&["alerts", "test"]);
    assert!(said.contains("alertmanager: delivered in ") && said.contains("HTTP 200 OK"), "{said}");
    assert_eq!(alertmanager.names(), ["SteerdTest"]);

    scene.web_dies();
    let firing = wait_for("the alerts fire", || {
        let active = alertmanager.active();
        (active.len() == 4).then_some(active)
    });
    let names: Vec<&str> = firing.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["SteerdFailOpen", "SteerdLaterTier", "SteerdPoolUnusable", "SteerdTest"]);
    let (_, down) = &firing[0];
    assert_eq!(down["labels"]["service"], "api.lb.example.test");
    assert_eq!(down["labels"]["severity"], "critical");
    assert_eq!(down["annotations"]["summary"], "service api.lb.example.test fails open");
    assert_eq!(down["generatorURL"], format!("http://{}/", scene.server.admin));

    scene.web_returns();
    wait_for("the alerts end", || (alertmanager.names() == ["SteerdTest"]).then_some(()));
}
