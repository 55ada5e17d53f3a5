//! Counters, gauges and histograms, and their Prometheus text.
//!
//! What queries count is one addition to a row of the counting thread; what probes count goes
//! through the library's vectors. Counts of services and pools live with them in the table, and
//! what only the owner of health knows is an argument of [`Metrics::render`]. Labels come from
//! the configuration only, never from a query.

pub mod operation;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::core::Collector;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts, TextEncoder};

use crate::answer::{DropReason, Transport, Verdict};
use crate::counters::Counters;
use crate::health::Outcome;
use crate::pool::Family;
use crate::table::{ServiceView, Standing, Table};
use crate::wire::rcode;

/// What a query row counts; the order is that of the columns.
const QUERIES: [(&str, &str); 4] = [("udp", "ipv4"), ("udp", "ipv6"), ("tcp", "ipv4"), ("tcp", "ipv6")];
/// One more column, `other`, follows these.
const RCODES: [(&str, u16); 10] = [
    ("NOERROR", rcode::NOERROR),
    ("FORMERR", rcode::FORMERR),
    ("SERVFAIL", rcode::SERVFAIL),
    ("NXDOMAIN", rcode::NXDOMAIN),
    ("NOTIMP", rcode::NOTIMP),
    ("REFUSED", rcode::REFUSED),
    ("YXDOMAIN", rcode::YXDOMAIN),
    ("NOTAUTH", rcode::NOTAUTH),
    ("BADVERS", rcode::BADVERS),
    ("BADCOOKIE", rcode::BADCOOKIE),
];
const DROPS: [&str; 5] = ["short", "response", "port_zero", "long", "limited"];
const EVENTS: [(&str, &str); 11] = [
    ("truncated_total", "Replies with TC set."),
    ("slipped_total", "Replies over the rate limit that were sent as empty truncated ones."),
    ("panics_total", "Batches of datagrams lost to a fault of steerd; please report the log line."),
    ("receive_errors_total", "Failed attempts to receive datagrams."),
    ("send_errors_total", "Replies over UDP that the system refused to send."),
    ("tcp_accepted_total", "TCP connections accepted."),
    ("tcp_closed_total", "TCP connections closed again, by either side."),
    ("tcp_accept_errors_total", "TCP connections that the system could not hand over."),
    ("tcp_evicted_total", "TCP connections closed, being the idlest, to make room for new ones."),
    ("zone_transfers_total", "Zone transfers begun."),
    ("tcp_timeouts_total", "TCP connections closed because the client was too slow or idle for too long."),
];
const FIRST_RCODE: usize = QUERIES.len();
const FIRST_DROP: usize = FIRST_RCODE + RCODES.len() + 1;
const FIRST_EVENT: usize = FIRST_DROP + DROPS.len();
const COLUMNS: usize = FIRST_EVENT + EVENTS.len();

/// Something that happens at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reply had TC set.
    Truncated,
    /// A reply over the rate limit was sent as an empty truncated one.
    Slipped,
    /// Answering a batch of datagrams panicked: a fault of steerd.
    Panicked,
    /// Receiving failed.
    ReceiveError,
    /// A reply could not be sent.
    SendError,
    /// A connection was accepted.
    Accepted,
    /// An accepted connection was closed, by whomever.
    Closed,
    /// A connection could not be accepted.
    AcceptError,
    /// A connection was closed for a new one.
    Evicted,
    /// A zone transfer was begun.
    Transfer,
    /// A connection was closed by a time limit.
    TimedOut,
}

/// Why a message was dropped, beyond what the answering says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// By the answering.
    Unanswerable(DropReason),
    /// Longer than a query may be.
    Long,
    /// By response rate limiting.
    Limited,
}

/// All counts that are not in the table.
#[derive(Debug)]
pub struct Metrics {
    /// Of the server's own files.
    pub operation: operation::Operation,
    traffic: Counters,
    probes: IntCounterVec,
    probe_duration: HistogramVec,
    probe_lag: Histogram,
    probes_in_flight: IntGauge,
    transitions: IntCounterVec,
    publish: Histogram,
    /// When the last probe of each pool ended. Written a few times a second at most for each pool
    /// and never from a query, so a lock is no burden.
    last_probe: Mutex<HashMap<String, Instant>>,
}

/// What only the owner of health knows.
#[derive(Clone, Debug, Default)]
pub struct HealthGauges {
    /// For each pool.
    pub pools: Vec<PoolGauge>,
    /// For each backend address.
    pub addresses: Vec<AddressGauge>,
    /// For each service.
    pub services: Vec<ServiceGauge>,
}

/// A pool's gauges.
#[derive(Clone, Debug)]
pub struct PoolGauge {
    /// Its name.
    pub pool: String,
    /// Whether it is usable.
    pub usable: bool,
    /// Configured weight of the healthy addresses.
    pub healthy_weight: u64,
}

/// The gauges of a backend address.
#[derive(Clone, Debug)]
pub struct AddressGauge {
    /// Its pool.
    pub pool: String,
    /// Its backend.
    pub backend: String,
    /// The address.
    pub address: IpAddr,
    /// Whether it is healthy.
    pub healthy: bool,
    /// Whether it is eligible.
    pub eligible: bool,
}

/// A service's gauges.
#[derive(Clone, Debug)]
pub struct ServiceGauge {
    /// Its name.
    pub service: String,
    /// Whether it fails open.
    pub fail_open: bool,
}

impl Metrics {
    /// `rows` threads may count queries.
    ///
    /// # Panics
    /// Never: the names of the metrics are constants, and a test makes them all.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let fine =
            vec![0.000_01, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0];
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            HistogramOpts::new(format!("steerd_{name}"), help).buckets(buckets.to_vec())
        };
        let opts = |name: &str, help: &str| Opts::new(format!("steerd_{name}"), help);
        Self {
            operation: operation::Operation::new(),
            traffic: Counters::new(rows, COLUMNS),
            probes: made(IntCounterVec::new(
                opts(
                    "probes_total",
                    "Probes by what they brought: passed, failed, void (a fault of this machine).",
                ),
                &["pool", "backend", "outcome"],
            )),
            probe_duration: made(HistogramVec::new(
                histogram("probe_duration_seconds", "How long probes took that brought a verdict.", &buckets),
                &["pool"],
            )),
            probe_lag: made(Histogram::with_opts(histogram(
                "probe_lag_seconds",
                "How much later than due probes started.",
                &fine,
            ))),
            probes_in_flight: made(IntGauge::with_opts(opts("probes_in_flight", "Probes that run now."))),
            transitions: made(IntCounterVec::new(
                opts("backend_transitions_total", "Changes of state of backend addresses, by the new state."),
                &["pool", "backend", "address", "to"],
            )),
            publish: made(Histogram::with_opts(histogram(
                "table_publish_seconds",
                "How long it took to build and publish an answer table.",
                &fine,
            ))),
            last_probe: Mutex::new(HashMap::new()),
        }
    }

    /// A message has come; it is a query until shown otherwise.
    pub fn received(&self, row: usize, transport: Transport, client: IpAddr) {
        let transport = if transport == Transport::Udp { 0 } else { 2 };
        self.traffic.add(row, transport + Family::of(client).index(), 1);
    }

    /// A message got a reply, or none by the word of the answering.
    pub fn answered(&self, row: usize, verdict: &Verdict<'_>) {
        match verdict {
            Verdict::Drop(reason) => self.dropped(row, Dropped::Unanswerable(*reason)),
            Verdict::Reply(reply) => {
                self.replied(row, reply.rcode);
                if reply.truncated {
                    self.happened(row, Event::Truncated, 1);
                }
            }
        }
    }

    /// A message got a reply with this code.
    pub fn replied(&self, row: usize, rcode: u16) {
        let known = RCODES.iter().position(|(_, code)| *code == rcode);
        self.traffic.add(row, FIRST_RCODE + known.unwrap_or(RCODES.len()), 1);
    }

    /// A message got no reply.
    pub fn dropped(&self, row: usize, why: Dropped) {
        let reason = match why {
            Dropped::Unanswerable(DropReason::Short) => 0,
            Dropped::Unanswerable(DropReason::Response) => 1,
            Dropped::Unanswerable(DropReason::PortZero) => 2,
            Dropped::Long => 3,
            Dropped::Limited => 4,
        };
        self.traffic.add(row, FIRST_DROP + reason, 1);
    }

    /// Something happened at a listener, so many times.
    pub fn happened(&self, row: usize, event: Event, times: usize) {
        self.traffic.add(row, FIRST_EVENT + event as usize, times as u64);
    }

    /// A probe of a backend has ended. Void probes have no duration worth keeping.
    pub fn probe_finished(&self, pool: &str, backend: &str, outcome: Outcome, duration: Duration) {
        let word = match outcome {
            Outcome::Passed => "passed",
            Outcome::Draining => "draining",
            Outcome::Failed => "failed",
            Outcome::Void => "void",
        };
        self.probes.with_label_values(&[pool, backend, word]).inc();
        if outcome != Outcome::Void {
            self.probe_duration.with_label_values(&[pool]).observe(duration.as_secs_f64());
        }
    }

    /// A probe has started, this much later than it was due.
    pub fn probe_started(&self, lag: Duration) {
        self.probe_lag.observe(lag.as_secs_f64());
    }

    /// How many probes are in flight now.
    pub fn probes_in_flight(&self, count: usize) {
        self.probes_in_flight.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// A backend address has changed its standing.
    pub fn transition(&self, pool: &str, backend: &str, address: IpAddr, to: Standing) {
        self.transitions.with_label_values(&[pool, backend, &address.to_string(), to.as_str()]).inc();
    }

    /// A table was published, which took this long.
    pub fn published(&self, took: Duration) {
        self.publish.observe(took.as_secs_f64());
    }

    /// A probe of this pool has ended just now.
    pub fn last_probe(&self, pool: &str) {
        let mut last = self.last_probe.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(moment) = last.get_mut(pool) {
            *moment = Instant::now();
        } else {
            last.insert(pool.into(), Instant::now());
        }
    }

    /// Everything in the Prometheus text format.
    #[must_use]
    pub fn render(&self, table: &Table, health: &HealthGauges) -> String {
        let mut families = self.traffic_families();
        families.extend(table_families(table));
        families.extend(health_families(health));
        families.push(self.probe_age_family());
        families.extend(self.probes.collect());
        families.extend(self.probe_duration.collect());
        families.extend(self.probe_lag.collect());
        families.extend(self.probes_in_flight.collect());
        families.extend(self.transitions.collect());
        families.extend(self.publish.collect());
        families.extend(self.operation.families());
        families.retain(|family| !family.get_metric().is_empty());
        // The only error is a metric of the wrong type for its family, which the tests rule out.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    fn traffic_families(&self) -> Vec<MetricFamily> {
        let sum = |column| self.traffic.sum(column);
        let queries = QUERIES.iter().enumerate().map(|(column, (transport, family))| {
            counter(&[("transport", transport), ("family", family)], sum(column))
        });
        let rcodes = RCODES.iter().map(|(name, _)| *name).chain(["other"]);
        let responses =
            (FIRST_RCODE..).zip(rcodes).map(|(column, name)| counter(&[("rcode", name)], sum(column)));
        let drops =
            (FIRST_DROP..).zip(DROPS).map(|(column, reason)| counter(&[("reason", reason)], sum(column)));
        let mut families = vec![
            family("queries_total", "DNS messages received, answered or not.", MetricType::COUNTER, queries),
            family("responses_total", "Replies, by response code.", MetricType::COUNTER, responses),
            family("dropped_total", "DNS messages that got no reply, by reason.", MetricType::COUNTER, drops),
        ];
        for (column, (name, help)) in (FIRST_EVENT..).zip(EVENTS) {
            families.push(family(name, help, MetricType::COUNTER, [counter(&[], sum(column))]));
        }
        // Counted, not set: of two threads that set a gauge, the one with the older number may be
        // the last. Read in this order, a connection in between is never missing from `accepted`.
        let closed = sum(FIRST_EVENT + Event::Closed as usize);
        let open = sum(FIRST_EVENT + Event::Accepted as usize).saturating_sub(closed);
        families.push(family(
            "tcp_connections",
            "TCP connections open now.",
            MetricType::GAUGE,
            [gauge(&[], as_float(open))],
        ));
        families
    }

    fn probe_age_family(&self) -> MetricFamily {
        let last = self.last_probe.lock().unwrap_or_else(PoisonError::into_inner);
        let ages = last.iter().map(|(pool, moment)| gauge(&[("pool", pool)], moment.elapsed().as_secs_f64()));
        family(
            "last_probe_age_seconds",
            "Time since a probe of the pool ended; it grows when probing stalls.",
            MetricType::GAUGE,
            ages,
        )
    }
}

fn table_families(table: &Table) -> Vec<MetricFamily> {
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    let pools = table.pools.iter().flat_map(|pool| {
        pool.backends.iter().enumerate().map(move |(column, backend)| {
            counter(&[("pool", &pool.name), ("backend", backend)], pool.answers.sum(column))
        })
    });
    vec![
        family("build_info", "Always 1; the version is a label.", MetricType::GAUGE, [gauge(&version, 1.0)]),
        family(
            "table_generation",
            "Number of the published answer table.",
            MetricType::GAUGE,
            [gauge(&[], as_float(table.generation))],
        ),
        family(
            "service_answers_total",
            "Answers for a service by the pool that gave them; an empty pool is the all-down answer.",
            MetricType::COUNTER,
            table.services.iter().flat_map(|view| service_answers(view, table)),
        ),
        family("backend_answers_total", "Appearances in answers.", MetricType::COUNTER, pools),
    ]
}

fn service_answers(view: &ServiceView, table: &Table) -> Vec<Metric> {
    let service = view.service.name.to_plain();
    let tiers = view.service.tiers.iter().map(|tier| table.pool(*tier).map_or("", |pool| &*pool.name));
    let columns = tiers.chain([""]).enumerate();
    columns
        .map(|(column, pool)| counter(&[("service", &service), ("pool", pool)], view.answers.sum(column)))
        .collect()
}

fn health_families(health: &HealthGauges) -> Vec<MetricFamily> {
    let pools = &health.pools;
    let usable = pools.iter().map(|pool| gauge(&[("pool", &pool.pool)], f64::from(u8::from(pool.usable))));
    let weight = pools.iter().map(|pool| gauge(&[("pool", &pool.pool)], as_float(pool.healthy_weight)));
    let of_address = |value: fn(&AddressGauge) -> bool| {
        health.addresses.iter().map(move |address| {
            let shown = address.address.to_string();
            let labels = [("pool", &*address.pool), ("backend", &*address.backend), ("address", &*shown)];
            gauge(&labels, f64::from(u8::from(value(address))))
        })
    };
    let fail_open = health
        .services
        .iter()
        .map(|service| gauge(&[("service", &service.service)], f64::from(u8::from(service.fail_open))));
    vec![
        family("pool_usable", "1 if the pool may answer in every family it has.", MetricType::GAUGE, usable),
        family(
            "pool_healthy_weight",
            "Configured weight of the healthy addresses.",
            MetricType::GAUGE,
            weight,
        ),
        family(
            "backend_healthy",
            "1 if the checks say so.",
            MetricType::GAUGE,
            of_address(|address| address.healthy),
        ),
        family(
            "backend_eligible",
            "1 if the address may appear in an answer now.",
            MetricType::GAUGE,
            of_address(|address| address.eligible),
        ),
        family(
            "service_fail_open",
            "1 while nothing is usable and all answer.",
            MetricType::GAUGE,
            fail_open,
        ),
    ]
}

/// Unwraps what fails only for a bad name or bad labels, which are constants here.
#[allow(
    clippy::expect_used,
    reason = "the arguments are constants, and every test that makes a Metrics shows them good"
)]
fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("metric names and labels are constants")
}

fn family(
    name: &str,
    help: &str,
    kind: MetricType,
    metrics: impl IntoIterator<Item = Metric>,
) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(format!("steerd_{name}"));
    family.set_help(help.into());
    family.set_field_type(kind);
    family.set_metric(metrics.into_iter().collect());
    family
}

fn counter(labels: &[(&str, &str)], value: u64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(as_float(value));
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: &[(&str, &str)], value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn labelled(labels: &[(&str, &str)]) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).into());
        pair.set_value((*value).into());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

/// The format has floating-point values only; counts are exact up to 2^53.
#[allow(clippy::cast_precision_loss, reason = "the format's own limit")]
fn as_float(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::answer::{Reply, ResponseKind};
    use crate::zone::Catalog;

    fn parsed(text: &str) -> HashMap<String, f64> {
        let mut typed = HashSet::new();
        let mut helped = HashSet::new();
        let mut series = HashMap::new();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                helped.insert(rest.split(' ').next().unwrap());
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                assert!(typed.insert(rest.split(' ').next().unwrap()), "two families: {line}");
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let bare = name.split('{').next().unwrap();
                let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end));
                assert!(typed.contains(bare) || histogram.is_some_and(|name| typed.contains(name)), "{line}");
                assert!(bare.starts_with("steerd_"));
                assert!(series.insert(name.to_owned(), value.parse().unwrap()).is_none(), "twice: {line}");
            }
        }
        assert_eq!(typed, helped);
        series
    }

    #[test]
    fn every_count_is_shown_under_its_name() {
        let metrics = Metrics::new(2);
        let table = Table {
            generation: 7,
            settings: Arc::default(),
            catalog: Arc::new(Catalog::new(Vec::new())),
            services: Arc::new([]),
            pools: Box::new([]),
        };
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for (row, code) in [(0, rcode::NOERROR), (1, rcode::NOERROR), (1, rcode::BADCOOKIE), (0, 4000)] {
            metrics.received(row, Transport::Udp, client);
            let reply = Reply {
                length: 0,
                rcode: code,
                truncated: code == 4000,
                kind: ResponseKind::Error(code),
                proven: false,
                signed: false,
                service: None,
            };
            metrics.answered(row, &Verdict::Reply(reply));
        }
        metrics.received(0, Transport::Tcp, "::1".parse().unwrap());
        metrics.answered(0, &Verdict::Drop(DropReason::Response));
        for (index, event) in [Event::Accepted, Event::Accepted, Event::Closed].into_iter().enumerate() {
            metrics.happened(index % 2, event, 1);
        }
        metrics.happened(1, Event::TimedOut, 3);
        metrics.probe_finished("web", "b1", Outcome::Failed, Duration::from_millis(3));
        metrics.probe_finished("web", "b1", Outcome::Void, Duration::from_millis(3));
        metrics.probe_started(Duration::from_millis(1));
        metrics.transition("web", "b1", client, Standing::Unhealthy);
        metrics.published(Duration::from_micros(50));
        metrics.last_probe("web");
        let health = HealthGauges {
            pools: vec![PoolGauge { pool: "web".into(), usable: true, healthy_weight: 5 }],
            addresses: vec![AddressGauge {
                pool: "web".into(),
                backend: "b\"1\\".into(),
                address: client,
                healthy: true,
                eligible: false,
            }],
            services: vec![ServiceGauge { service: "www.example".into(), fail_open: true }],
        };
        let series = parsed(&metrics.render(&table, &health));
        for (name, value) in [
            ("queries_total{transport=\"udp\",family=\"ipv4\"}", 4.0),
            ("queries_total{transport=\"tcp\",family=\"ipv6\"}", 1.0),
            ("responses_total{rcode=\"NOERROR\"}", 2.0),
            ("responses_total{rcode=\"BADCOOKIE\"}", 1.0),
            ("responses_total{rcode=\"other\"}", 1.0),
            ("dropped_total{reason=\"response\"}", 1.0),
            ("truncated_total", 1.0),
            ("tcp_timeouts_total", 3.0),
            ("tcp_accepted_total", 2.0),
            ("tcp_connections", 1.0),
            ("probes_total{backend=\"b1\",outcome=\"failed\",pool=\"web\"}", 1.0),
            ("probes_total{backend=\"b1\",outcome=\"void\",pool=\"web\"}", 1.0),
            ("probe_duration_seconds_count{pool=\"web\"}", 1.0),
            ("probe_lag_seconds_count", 1.0),
            (
                "backend_transitions_total{address=\"127.0.0.1\",backend=\"b1\",pool=\"web\",to=\"unhealthy\"}",
                1.0,
            ),
            ("pool_usable{pool=\"web\"}", 1.0),
            ("pool_healthy_weight{pool=\"web\"}", 5.0),
            ("backend_healthy{pool=\"web\",backend=\"b\\\"1\\\\\",address=\"127.0.0.1\"}", 1.0),
            ("backend_eligible{pool=\"web\",backend=\"b\\\"1\\\\\",address=\"127.0.0.1\"}", 0.0),
            ("service_fail_open{service=\"www.example\"}", 1.0),
            ("table_generation", 7.0),
            ("table_publish_seconds_count", 1.0),
        ] {
            assert_eq!(series.get(&format!("steerd_{name}")), Some(&value), "{name} in {series:#?}");
        }
        assert!(series.contains_key("steerd_last_probe_age_seconds{pool=\"web\"}"));
    }
}
