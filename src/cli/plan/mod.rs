//! `steerd plan`: figures for choosing TTL, answers and intervals, for a service of a configuration or for arguments.
//!
//! The arithmetic is in `crate::plan`. No server is asked and nothing is probed.

mod checks;
mod figures;
mod page;

use std::net::{IpAddr, Ipv4Addr};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::check::{FLIPS, INTERVALS, TIMEOUTS, Timing};
use crate::cli::{ConfigFile, complain, load, print, print_json};
use crate::config::{DEFAULT_INTERVAL, Setup, built_in_timing, parse_duration};
use crate::name::Name;
use crate::plan::ClientMix;
use crate::pool::{Backend, Family, Pool};
use crate::selection::{MAX_ANSWERS, Spread};
use crate::service::{Answers, DEFAULT_TTL, Policy};
use crate::table::{Drawing, PoolView, Standing};
use crate::zone::Zone;

use checks::Checks;
use figures::Figures;

/// The most backends of an invented pool.
const MAX_BACKENDS: i64 = 100_000;

#[derive(Debug, Args)]
pub(super) struct Planning {
    /// A service of the configuration; without it, the arguments describe one
    #[arg(value_name = "SERVICE")]
    service: Option<String>,
    /// How many backends of equal weight
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=MAX_BACKENDS), conflicts_with = "service")]
    backends: u32,
    /// Over how many sites they are spread evenly
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=MAX_BACKENDS), conflicts_with = "service")]
    sites: u32,
    /// How answers spread over sites; defaults to that of the service, else `shares`
    #[arg(long, value_name = "SPREAD")]
    spread: Option<SpreadWord>,
    /// Addresses in an answer; defaults to those of the service, else 2
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=MAX_ANSWERS as i64))]
    answers: Option<u16>,
    /// TTL of the answers; defaults to the longest of the service, else 20s
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl)]
    ttl: Option<Duration>,
    /// Time between two probes; defaults to that of each check of the first pool, else 5s
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    interval: Option<Duration>,
    /// Time limit of a probe
    #[arg(long, value_name = "DURATION", value_parser = parse_timeout)]
    timeout: Option<Duration>,
    /// Time from an outcome that contradicts the state to the next probe
    #[arg(long, value_name = "DURATION", value_parser = parse_interval)]
    recheck: Option<Duration>,
    /// Failed probes that make a backend unhealthy
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(flips()))]
    fall: Option<u16>,
    /// Passed probes that make it healthy again
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(flips()))]
    rise: Option<u16>,
    /// How many backends fail at once; may be given more than once
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=MAX_BACKENDS))]
    lose: Vec<u32>,
    /// The clients: as measured in 2014, mostly browsers, or mostly services
    #[arg(long, value_name = "MIX", default_value = "measured")]
    mix: MixWord,
    /// How many clients look the name up, each once a minute
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000)]
    clients: u32,
    /// Through how many resolvers
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    resolvers: u32,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    config: ConfigFile,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SpreadWord {
    Shares,
    Always,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum MixWord {
    Measured,
    Browsers,
    Services,
}

impl MixWord {
    fn mix(self) -> ClientMix {
        match self {
            Self::Measured => ClientMix::FITTED,
            Self::Browsers => ClientMix::BROWSERS,
            Self::Services => ClientMix::SERVICES,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured in 2014",
            Self::Browsers => "mostly browsers",
            Self::Services => "mostly services",
        }
    }
}

/// A service to plan for: how it answers from its first pool, while all backends are healthy.
struct PlannedService {
    /// The service, if it is one of a configuration.
    name: Option<String>,
    pool: Pool,
    drawing: Drawing,
    ttl: Duration,
    /// A family for which the pool has no address, if there is one.
    nodata: Option<NoData>,
    checks: Checks,
}

/// How long a reply without addresses is kept.
struct NoData {
    /// The negative TTL of the zone.
    of_zone: Duration,
    /// Whether another tier has addresses of the family: then the TTL of the answers is a limit too.
    is_in_another_tier: bool,
}

pub(super) fn run(planning: &Planning) -> ExitCode {
    let plan = match &planning.service {
        None => Ok(planning.invented()),
        Some(service) => match load(&planning.config.path()) {
            Ok(setup) => planning.configured(&setup, service),
            Err(code) => return code,
        },
    };
    let figures = plan.and_then(|plan| Figures::of(&planning.changed(plan)?, planning));
    match figures {
        Ok(figures) => {
            if planning.json {
                print_json(&format!("{:#}", figures.as_json()));
            } else {
                print(&page::render(&figures));
            }
            ExitCode::SUCCESS
        }
        Err(reason) => {
            complain(&format!("error: {reason}"));
            ExitCode::FAILURE
        }
    }
}

impl Planning {
    /// A pool of equal backends with addresses of both families, with the values of a configuration that sets nothing else.
    fn invented(&self) -> PlannedService {
        let backend = |number: u32| {
            let address = IpAddr::V4(Ipv4Addr::from(0x0a00_0001 + number));
            let site = (self.sites > 1).then(|| format!("site {}", number % self.sites + 1));
            Backend { site, ..Backend::new(format!("b{number}"), vec![address]) }
        };
        PlannedService {
            name: None,
            pool: Pool::new("plan", (0..self.backends).map(backend).collect()),
            drawing: Drawing {
                answers: Answers::DEFAULT,
                policy: Policy::Weighted,
                spread: Spread::default(),
            },
            ttl: Duration::from_secs(DEFAULT_TTL.into()),
            nodata: None,
            checks: Checks::one(built_in_timing(DEFAULT_INTERVAL, DEFAULT_INTERVAL)),
        }
    }

    /// A service of a configuration, with its route for clients that no rule matches.
    fn configured(&self, setup: &Setup, service: &str) -> Result<PlannedService, String> {
        let name = Name::parse(service).map_err(|error| format!("`{service}` is no name: {error}"))?;
        let services = &setup.served.services;
        let Some(service) = services.iter().find(|known| known.name == name) else {
            let known: Vec<String> = services.iter().take(5).map(|known| known.name.to_plain()).collect();
            let path = self.config.path();
            return Err(format!(
                "{} has no service {}; it has {}",
                path.display(),
                name.to_plain(),
                known.join(", ")
            ));
        };
        let route = &service.default;
        let pool = route.tiers.first().and_then(|id| setup.served.pools.get(id.index()));
        let pool = pool.ok_or_else(|| format!("{} has no pool", name.to_plain()))?;
        let has = |pool: &Pool, family: Family| {
            pool.backends
                .iter()
                .flat_map(|backend| &backend.addresses)
                .any(|address| Family::of(*address) == family)
        };
        let missing = Family::ALL.into_iter().find(|family| !has(&pool.pool, *family));
        let zone = setup.served.catalog.find(name.wire(), false).and_then(Zone::negative_soa);
        let nodata = missing.zip(zone).map(|(family, (_, seconds))| {
            let mut tiers = route.tiers.iter().filter_map(|id| setup.served.pools.get(id.index()));
            NoData {
                of_zone: Duration::from_secs(seconds.into()),
                is_in_another_tier: tiers.any(|tier| has(&tier.pool, family)),
            }
        });
        Ok(PlannedService {
            name: Some(name.to_plain()),
            pool: pool.pool.clone(),
            drawing: Drawing::of(service, route),
            ttl: Duration::from_secs(route.ttl.max.into()),
            nodata,
            checks: Checks::of(pool),
        })
    }

    /// The plan with the values that the arguments set.
    fn changed(&self, mut plan: PlannedService) -> Result<PlannedService, String> {
        if let Some(answers) = self.answers {
            plan.drawing.answers = Answers::AtMost(answers);
        }
        if let Some(spread) = self.spread {
            plan.drawing.spread = match spread {
                SpreadWord::Shares => Spread::Shares,
                SpreadWord::Always => Spread::Always,
                SpreadWord::Off => Spread::Off,
            };
        }
        plan.ttl = self.ttl.unwrap_or(plan.ttl);
        for check in &mut plan.checks.checks {
            self.change(&mut check.timing)?;
        }
        Ok(plan)
    }

    fn change(&self, timing: &mut Timing) -> Result<(), String> {
        if let Some(interval) = self.interval {
            let built_in = built_in_timing(interval, interval);
            (timing.interval, timing.interval_down) = (interval, interval);
            timing.timeout = timing.timeout.min(built_in.timeout);
            timing.recheck = timing.recheck.min(built_in.recheck);
        }
        timing.timeout = self.timeout.unwrap_or(timing.timeout);
        timing.recheck = self.recheck.unwrap_or(timing.recheck);
        timing.fall = self.fall.unwrap_or(timing.fall);
        timing.rise = self.rise.unwrap_or(timing.rise);
        if timing.timeout >= timing.interval {
            return Err("--timeout must be below the interval".into());
        }
        if timing.recheck > timing.interval {
            return Err("--recheck must not be above the interval".into());
        }
        Ok(())
    }
}

impl PlannedService {
    /// The pool while all backends are healthy.
    fn view(&self) -> PoolView {
        PoolView::build(&self.pool, None, |_, _| Standing::Healthy.into())
    }

    /// How long a reply without addresses is kept; `None` if the pool has addresses of both families.
    fn nodata_ttl(&self) -> Option<Duration> {
        self.nodata.as_ref().map(
            |NoData { of_zone, is_in_another_tier }| {
                if *is_in_another_tier { self.ttl.min(*of_zone) } else { *of_zone }
            },
        )
    }
}

/// The family with addresses: IPv4 if the pool has any.
fn family_of(view: &PoolView) -> Family {
    let has_addresses = |family: &Family| !view.family(*family).eligible.members.is_empty();
    Family::ALL.into_iter().find(has_addresses).unwrap_or(Family::Ipv4)
}

fn flips() -> std::ops::RangeInclusive<i64> {
    i64::from(*FLIPS.start())..=i64::from(*FLIPS.end())
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration with a unit, such as 2s, from 100ms to 1h".to_owned();
    parse_duration(text).filter(|time| INTERVALS.contains(time)).ok_or_else(expected)
}

fn parse_timeout(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration with a unit, such as 500ms, from 10ms to 1h".to_owned();
    parse_duration(text).filter(|time| TIMEOUTS.contains(time)).ok_or_else(expected)
}

fn parse_ttl(text: &str) -> Result<Duration, String> {
    let expected = || "expected whole seconds with a unit, such as 20s, up to 7d".to_owned();
    let longest = Duration::from_secs(7 * 86_400);
    parse_duration(text).filter(|time| *time <= longest && time.subsec_nanos() == 0).ok_or_else(expected)
}

#[cfg(test)]
mod tests;
