//! `steerd demo`: a running example in one command. It needs no setup and writes no files.

mod backends;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::check::{Check, HttpProbe, PoolSetup, Probe, Timing};
use crate::cli::called::program;
use crate::cli::demo::backends::{BACKENDS, BackendError};
use crate::cli::serve::{Failure, until_stopped};
use crate::cli::{Log, LogFormat, block_on, complain, print};
use crate::config::fault::ConfigFaults;
use crate::config::{AdminListen, AdminSettings, ServerSettings, SetOrigin, Setup};
use crate::file::FileRecord;
use crate::listener::{Limits, Steering};
use crate::name::Name;
use crate::pool::{Backend, Pool, PoolId, Require};
use crate::served::Served;
use crate::server::{Server, StartError};
use crate::service::{Answers, Route, Service, ServiceId, Ttl};
use crate::settings::Settings;
use crate::visibility::VisibilitySettings;
use crate::zone::reader::{self, ZoneFault};
use crate::zone::{Catalog, Zone};

/// The zone, as a master file.
const ZONE: &str = "\
$ORIGIN demo.test.
$TTL 60
@   IN SOA ns hostmaster 1 3600 600 86400 2
@   IN NS  ns
ns  IN A   127.0.0.1
";
const ZONE_NAME: &str = "demo.test.";
const SERVICE_NAME: &str = "www.demo.test.";
const POOL: &str = "web";

/// Faster than a real service needs, so that users do not have to wait.
const TIMING: Timing = Timing {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    rise: 2,
    fall: 2,
    recheck: Duration::from_millis(500),
    interval_down: Duration::from_secs(1),
    // Users of the demo break the same backend repeatedly.
    damping: false,
};
/// In seconds.
const TTL: u32 = 2;
const ANSWERS: u16 = 2;

/// Ports of the demo; 0 means any free port.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Ports {
    /// Port for DNS on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 5300)]
    port: u16,
    /// Port for the admin server on 127.0.0.1
    #[arg(long, value_name = "PORT", default_value_t = 8053)]
    admin_port: u16,
    /// Port of the backends on 127.0.0.11, 127.0.0.12 and 127.0.0.13
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    backend_port: u16,
}

/// Why the demo cannot run.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("{0}{hint}", hint = port_hint(.0))]
    Server(#[from] Failure),
    /// The constants above cannot cause this; a test checks it.
    #[error("the demo's own data is invalid: {0}")]
    Data(String),
}

fn port_hint(failure: &Failure) -> &'static str {
    match failure {
        Failure::Start(StartError::Dns(_)) => {
            "\nFor the demo, choose another port with `steerd demo --port PORT`."
        }
        Failure::Start(StartError::Admin(_)) => {
            "\nFor the demo, choose another port with `steerd demo --admin-port PORT`."
        }
        _ => "",
    }
}

pub(super) fn run(ports: Ports) -> ExitCode {
    // Only transitions and warnings are logged.
    let lines =
        Log { format: LogFormat::Text, level: "warn,steerd::checker=info,steerd::fleet=info".into() }.start();
    let outcome = block_on(async {
        let backend_port = backends::start(ports.backend_port).await?;
        let setup = setup(ports, backend_port).map_err(DemoError::Data)?;
        let welcome = |running: &Server| {
            // Log lines from the start come first, so that the welcome text is last on the terminal.
            if let Ok(lines) = &lines {
                lines.wait();
            }
            print(&Welcome::new(running, backend_port).to_string());
        };
        until_stopped(setup, None, None, welcome).await?;
        Ok::<_, DemoError>(())
    });
    match outcome {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            complain(&format!("error: {error}"));
            ExitCode::FAILURE
        }
        None => ExitCode::FAILURE,
    }
}

/// The setup that a configuration file would result in.
fn setup(ports: Ports, backend_port: u16) -> Result<Setup, String> {
    let service = Name::parse(SERVICE_NAME).map_err(|error| error.to_string())?;
    let backends =
        BACKENDS.iter().map(|&(name, address)| Backend::new(name, vec![IpAddr::V4(address)])).collect();
    let probe = Probe::Http(HttpProbe::get(backend_port, "/healthz"));
    let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let catalog = Catalog::new(vec![zone(&service)?]);
    let answered = Service::new(service, vec![PoolId(0)]);
    let (answers, ttl) = (Answers::AtMost(ANSWERS), Ttl::fixed(TTL));
    let default = Route { answers, ttl, ..answered.default };
    Ok(Setup {
        server: ServerSettings {
            listen: vec![here(ports.port)],
            workers: 1,
            steering: Steering::Hash,
            limits: Limits::default(),
            state_dir: None,
            visibility: VisibilitySettings::default(),
            start_with_last_good: false,
            watch: false,
        },
        admin: AdminSettings {
            listen: vec![AdminListen::Tcp(here(ports.admin_port))],
            ..AdminSettings::default()
        },
        served: Served {
            settings: Settings::default(),
            catalog,
            services: vec![Service { default, ..answered }],
            rule_tables: Vec::new(),
            pools: vec![PoolSetup {
                pool: Pool::new(POOL, backends),
                checks: vec![Check::new(probe, TIMING)],
                require: Require::All,
            }],
            startup_wait: Duration::from_secs(3),
        },
        rule_files: crate::geo::RuleFiles::default(),
        alerts: Vec::new(),
        warnings: ConfigFaults::default(),
        files: FileRecord::default(),
        origin: SetOrigin::Files,
    })
}

/// The zone, with the service bound to its name.
fn zone(service: &Name) -> Result<Zone, String> {
    let texts =
        |faults: Vec<ZoneFault>| faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ");
    let apex = Name::parse(ZONE_NAME).map_err(|error| error.to_string())?;
    let mut zone =
        reader::read(Path::new("demo.test.zone"), &apex, &mut |_| Ok(ZONE.into())).map_err(texts)?;
    zone.builder().bind_service(service.wire(), ServiceId(0)).map_err(|error| error.to_string())?;
    zone.finish().map_err(texts)
}

/// The welcome text, with commands to try. It fits on a terminal with 80 by 24 characters; a test checks
/// this.
struct Welcome {
    /// The name under which this program was called, so that the commands can be pasted.
    program: String,
    dns: u16,
    admin: u16,
    backend: u16,
}

impl Welcome {
    fn new(running: &Server, backend: u16) -> Self {
        Self {
            program: program(),
            dns: running.dns.first().map_or(0, SocketAddr::port),
            admin: running.admin.map_or(0, |address| address.port()),
            backend,
        }
    }
}

impl fmt::Display for Welcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, dns, admin, backend } = self;
        let [(_, first), (_, second), (last_name, last)] = BACKENDS;
        let service = SERVICE_NAME.trim_end_matches('.');
        write!(
            f,
            "\n\
The demo is running: three HTTP backends, {first} to {last}, port {backend},
and a service, {service}, that answers with {ANSWERS} of the healthy ones.

Ask a few times; the addresses change:
  dig @127.0.0.1 -p {dns} {service} A +short

Break a backend. Two seconds later no answer contains {second}:
  curl -X POST http://{second}:{backend}/break
  curl -X POST http://{second}:{backend}/fix

Drain a backend before you stop it. Then let its checks decide again:
  {program} drain {POOL}/{last_name} --admin http://127.0.0.1:{admin}
  {program} auto {POOL}/{last_name} --admin http://127.0.0.1:{admin}

See the state of each backend, and the metrics:
  {program} status --admin http://127.0.0.1:{admin}
  curl http://127.0.0.1:{admin}/metrics

Break all three, and answers are drawn from all three: the default.
Ctrl-C ends the demo. From now on each change is one log line."
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_s_own_data_is_right() {
        let setup = setup(Ports { port: 0, admin_port: 0, backend_port: 0 }, 8080).unwrap();
        let service = Name::parse(SERVICE_NAME).unwrap();
        let zone = setup.served.catalog.find(service.wire(), false).expect("the zone");
        let node = zone.node(service.wire()).expect("the name");
        assert_eq!(node.service(), Some(ServiceId(0)));
        assert!(TIMING.timeout < TIMING.interval && TIMING.recheck <= TIMING.interval);
    }

    #[test]
    fn the_welcome_fits_a_terminal_of_80_by_24() {
        let program = "x".repeat(crate::cli::called::LONGEST_PROGRAM);
        let welcome = Welcome { program, dns: u16::MAX, admin: u16::MAX, backend: u16::MAX };
        let shown = welcome.to_string();
        // The cursor is on the last line.
        assert!(shown.lines().count() < 24, "{} lines:\n{shown}", shown.lines().count());
        // A terminal of 80 columns may wrap a line of exactly 80.
        for line in shown.lines() {
            assert!(line.chars().count() < 80, "{} columns: {line}", line.chars().count());
        }
    }
}
