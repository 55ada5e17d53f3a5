//! `steerd demo`: a running example in one command, with nothing to set up and no file written.

mod backends;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;

use crate::checker::{self, Check, PoolSetup};
use crate::cli::demo::backends::{BACKENDS, BackendError};
use crate::cli::serve::{Failure, until_stopped};
use crate::cli::{Log, LogFormat, block_on, complain, print};
use crate::config::fault::Faults;
use crate::config::{Access, AdminSettings, ServerSettings, Setup};
use crate::health::Timing;
use crate::listener::Limits;
use crate::name::Name;
use crate::pool::{Backend, Pool, PoolId, Require};
use crate::probe::Probe;
use crate::probe::http::HttpProbe;
use crate::server::{Running, StartError};
use crate::service::{Answers, Policy, Service, ServiceId, WhenDown};
use crate::settings::Settings;
use crate::zone::reader::{self, Fault};
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

/// Faster than any real service needs, so that a person need not wait.
const TIMING: Timing = Timing {
    interval: Duration::from_secs(1),
    timeout: Duration::from_millis(500),
    rise: 2,
    fall: 2,
    recheck: Duration::from_millis(500),
    interval_down: Duration::from_secs(1),
    // Whoever tries it breaks the same backend again and again.
    damping: false,
};
/// Seconds.
const TTL: u32 = 2;
const ANSWERS: u16 = 2;

/// Ports of the demo; 0 takes a free one.
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

/// Why there is no demo.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Backend(#[from] BackendError),
    #[error("{0}{hint}", hint = port_hint(.0))]
    Server(#[from] Failure),
    /// None of these can come from the constants above; a test holds that.
    #[error("the demo's own data is wrong: {0}")]
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
    // Of the log only the transitions, and what is wrong.
    let _lines = Log { format: LogFormat::Text, level: "warn,steerd::checker=info".into() }.start();
    let outcome = block_on(async {
        let backend_port = backends::start(ports.backend_port).await?;
        let setup = setup(ports, backend_port).map_err(DemoError::Data)?;
        until_stopped(setup, None, |running| print(&introduction(running, backend_port))).await?;
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

/// What a configuration file would say.
fn setup(ports: Ports, backend_port: u16) -> Result<Setup, String> {
    let service = Name::parse(SERVICE_NAME).map_err(|error| error.to_string())?;
    let backends =
        BACKENDS.iter().map(|&(name, address)| Backend::new(name, vec![IpAddr::V4(address)])).collect();
    let probe = Probe::Http(HttpProbe::get(backend_port, "/healthz"));
    let here = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    Ok(Setup {
        server: ServerSettings {
            listen: vec![here(ports.port)],
            workers: 1,
            limits: Limits::default(),
            state_dir: None,
        },
        admin: AdminSettings { listen: Some(here(ports.admin_port)), access: Access::default() },
        checker: checker::Setup {
            settings: Settings::default(),
            catalog: Catalog::new(vec![zone(&service)?]),
            services: vec![Service {
                name: service,
                tiers: vec![PoolId(0)],
                answers: Answers::AtMost(ANSWERS),
                ttl: TTL,
                policy: Policy::Weighted,
                when_down: WhenDown::FailOpen,
            }],
            pools: vec![PoolSetup {
                pool: Pool::new("web", backends),
                checks: vec![Check::new(probe, TIMING)],
                require: Require::All,
            }],
            startup_wait: Duration::from_secs(3),
            memory: checker::Memory::default(),
        },
        warnings: Faults::default(),
    })
}

/// The zone, with the name of the service bound.
fn zone(service: &Name) -> Result<Zone, String> {
    let texts =
        |faults: Vec<Fault>| faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ");
    let apex = Name::parse(ZONE_NAME).map_err(|error| error.to_string())?;
    let mut zone =
        reader::read(Path::new("demo.test.zone"), &apex, &mut |_| Ok(ZONE.into())).map_err(texts)?;
    zone.builder().bind_service(service.wire(), ServiceId(0)).map_err(|error| error.to_string())?;
    zone.finish().map_err(texts)
}

/// What a newcomer can try.
fn introduction(running: &Running, backend_port: u16) -> String {
    let dns = running.dns.first().map_or(0, SocketAddr::port);
    let admin = running.admin.map_or(0, |address| address.port());
    let [(_, first), (second_name, second), (_, third)] = BACKENDS;
    let service = SERVICE_NAME.trim_end_matches('.');
    format!(
        "\
steerd is running a demo: three HTTP backends ({first}, {second} and {third}, port {backend_port}),
and a service {service} that answers with {ANSWERS} of those that are healthy.

Ask a few times, and see the addresses change:
  dig @127.0.0.1 -p {dns} {service} A +short

Break backend `{second_name}`. Two seconds later no answer holds {second}:
  curl -X POST http://{second}:{backend_port}/break
  curl -X POST http://{second}:{backend_port}/fix
Or open http://{second}:{backend_port}/ in a browser. Break all three, and all are answered again:
that is the default when nothing is healthy, and the log says so.

See what steerd thinks of each backend, and its metrics:
  curl http://127.0.0.1:{admin}/api/v1/status
  curl http://127.0.0.1:{admin}/metrics

Ctrl-C ends the demo. Each change is one line from here on:"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_s_own_data_is_right() {
        let setup = setup(Ports { port: 0, admin_port: 0, backend_port: 0 }, 8080).unwrap();
        let service = Name::parse(SERVICE_NAME).unwrap();
        let zone = setup.checker.catalog.find(service.wire(), false).expect("the zone");
        let node = zone.node(service.wire()).expect("the name");
        assert_eq!(node.service(), Some(ServiceId(0)));
        assert!(TIMING.timeout < TIMING.interval && TIMING.recheck <= TIMING.interval);
    }
}
