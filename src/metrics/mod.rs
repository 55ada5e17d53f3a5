//! Counters, gauges and histograms, and their Prometheus text.
//!
//! Counting a query adds one to the row of the thread, and counting a probe adds one to the
//! [`PoolSeries`] of its pool. The counters of services and answers are in the table. Reading any
//! of them needs no other thread, so metrics can be shown even when the rest of the server is
//! stuck. Labels come only from the configuration, never from a query.

pub mod operation;
mod pools;
mod text;

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntGauge, Opts, TextEncoder};
use tokio::time::Instant;

use crate::answer::{DropReason, Transport, Verdict};
use crate::counters::Counters;
use crate::pool::Family;
use crate::table::{Decision, ServiceView, Table};
use crate::wire::rcode;

use text::{Kind, Text, flag};

pub use operation::Notified;
pub use pools::PoolSeries;

/// The columns of a row of queries, in order.
const QUERIES: [(&str, &str); 4] = [("udp", "ipv4"), ("udp", "ipv6"), ("tcp", "ipv4"), ("tcp", "ipv6")];
/// One more column, `other`, follows.
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
const EVENTS: [(&str, &str); 12] = [
    ("truncated_total", "Replies with TC set."),
    ("slipped_total", "Rate-limited replies that were sent empty and truncated."),
    ("panics_total", "Queries lost to a bug in steerd; please report the log line."),
    ("receive_errors_total", "Failed attempts to receive datagrams."),
    ("send_errors_total", "Replies over UDP that the system refused to send."),
    ("tcp_accepted_total", "TCP connections accepted."),
    ("tcp_closed_total", "TCP connections closed, by either side."),
    ("tcp_accept_errors_total", "Failed attempts to accept a TCP connection."),
    ("tcp_evicted_total", "Idle TCP connections closed to make room for new ones."),
    ("zone_transfers_total", "Zone transfers started."),
    ("tcp_timeouts_total", "TCP connections closed because the client was too slow or idle for too long."),
    ("admin_evicted_total", "Idle admin connections closed to make room for others."),
];
const FIRST_RCODE: usize = QUERIES.len();
const FIRST_DROP: usize = FIRST_RCODE + RCODES.len() + 1;
const FIRST_EVENT: usize = FIRST_DROP + DROPS.len();
const COLUMNS: usize = FIRST_EVENT + EVENTS.len();

/// An event at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A reply had TC set.
    Truncated,
    /// A rate-limited reply was sent empty and truncated.
    Slipped,
    /// Answering a query panicked, which is a bug in steerd.
    Panicked,
    /// Receiving failed.
    ReceiveError,
    /// A reply could not be sent.
    SendError,
    /// A connection was accepted.
    Accepted,
    /// An accepted connection was closed, by either side.
    Closed,
    /// A connection could not be accepted.
    AcceptError,
    /// A connection was closed to make room for a new one.
    Evicted,
    /// A zone transfer was begun.
    Transfer,
    /// A connection was closed by a time limit.
    TimedOut,
    /// An admin connection was closed to make room for another.
    AdminEvicted,
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The answering code gave no reply.
    Unanswerable(DropReason),
    /// Longer than the longest query.
    Long,
    /// By response rate limiting.
    Limited,
}

/// All counters that are not in the table.
#[derive(Debug)]
pub struct Metrics {
    /// The origin of the times stored here.
    began: Instant,
    /// Counters of reloads, state files and notifications.
    pub operation: operation::Operation,
    traffic: Counters,
    probe_duration: HistogramVec,
    probe_lag: Histogram,
    probes_in_flight: IntGauge,
    probes_waiting: IntGauge,
    publish: Histogram,
    /// In the order of the configuration. Only a reload changes it, and no query reads it, so a
    /// lock is cheap enough.
    pools: Mutex<Arc<[Arc<PoolSeries>]>>,
    /// Whether this machine is suspected, instead of all pools at once.
    all_suspected: AtomicBool,
    /// When the checker's last turn ended, nanoseconds since `began`.
    turned: AtomicU64,
}

impl Metrics {
    /// `rows` is the number of threads that may count queries.
    ///
    /// # Panics
    /// Never: metric names are constants, and the tests create every metric.
    #[must_use]
    pub fn new(rows: usize) -> Self {
        let buckets = vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
        let fine = vec![
            0.000_01, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
        ];
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            HistogramOpts::new(format!("steerd_{name}"), help).buckets(buckets.to_vec())
        };
        let opts = |name: &str, help: &str| Opts::new(format!("steerd_{name}"), help);
        Self {
            began: Instant::now(),
            operation: operation::Operation::new(),
            traffic: Counters::new(rows, COLUMNS),
            probe_duration: made(HistogramVec::new(
                histogram("probe_duration_seconds", "Duration of probes that gave a verdict.", &buckets),
                &["pool"],
            )),
            probe_lag: made(Histogram::with_opts(histogram(
                "probe_lag_seconds",
                "Delay of the start of a probe after it was due.",
                &fine,
            ))),
            probes_in_flight: made(IntGauge::with_opts(opts("probes_in_flight", "Probes in flight now."))),
            probes_waiting: made(IntGauge::with_opts(opts(
                "probes_waiting",
                "Probes that are due and wait for a slot.",
            ))),
            publish: made(Histogram::with_opts(histogram(
                "table_publish_seconds",
                "Time to build and publish an answer table.",
                &fine,
            ))),
            pools: Mutex::new(Arc::new([])),
            all_suspected: AtomicBool::new(false),
            turned: AtomicU64::new(0),
        }
    }

    /// Counts a received message as a query.
    pub fn received(&self, row: usize, transport: Transport, client: IpAddr) {
        let transport = if transport == Transport::Udp { 0 } else { 2 };
        self.traffic.add(row, transport + Family::of(client).index(), 1);
    }

    /// Counts the reply to a message, or the drop.
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

    /// Counts a reply with this code.
    pub fn replied(&self, row: usize, rcode: u16) {
        let known = RCODES.iter().position(|(_, code)| *code == rcode);
        self.traffic.add(row, FIRST_RCODE + known.unwrap_or(RCODES.len()), 1);
    }

    /// Counts a message without a reply.
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

    /// Counts an event at a listener, `times` times.
    pub fn happened(&self, row: usize, event: Event, times: usize) {
        self.traffic.add(row, FIRST_EVENT + event as usize, times as u64);
    }

    /// Counts a probe that started this much later than it was due.
    pub fn probe_started(&self, lag: Duration) {
        self.probe_lag.observe(lag.as_secs_f64());
    }

    /// Sets the number of probes in flight and the number waiting for a slot.
    pub fn probes_now(&self, in_flight: usize, waiting: usize) {
        self.probes_in_flight.set(i64::try_from(in_flight).unwrap_or(i64::MAX));
        self.probes_waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
    }

    /// Counts a published table, which took this long to build.
    pub fn published(&self, took: Duration) {
        self.publish.observe(took.as_secs_f64());
    }

    /// Records that the checker has finished a turn.
    pub fn turned(&self) {
        self.turned.store(self.elapsed(), Ordering::Relaxed);
    }

    /// Time since the checker's last turn.
    #[must_use]
    pub fn turn_age(&self) -> Duration {
        Duration::from_nanos(self.elapsed().saturating_sub(self.turned.load(Ordering::Relaxed)))
    }

    /// Sets whether this machine is suspected, instead of all pools at once.
    pub fn all_suspected(&self, suspected: bool) {
        self.all_suspected.store(suspected, Ordering::Relaxed);
    }

    /// The series of all pools, in the order of the configuration.
    #[must_use]
    pub fn pools(&self) -> Arc<[Arc<PoolSeries>]> {
        Arc::clone(&self.pools.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the pools that are shown. Pools that are gone disappear from the output.
    pub fn show(&self, pools: &Arc<[Arc<PoolSeries>]>) {
        let before = std::mem::replace(
            &mut *self.pools.lock().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(pools),
        );
        let kept: HashSet<&str> = pools.iter().map(|pool| &**pool.name()).collect();
        for gone in before.iter().filter(|pool| !kept.contains(&**pool.name())) {
            // It fails only if there is no such label, which is fine.
            let _ = self.probe_duration.remove_label_values(&[gone.name()]);
        }
    }

    /// Nanoseconds since `began`; 584 years fit.
    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes everything in the Prometheus text format.
    ///
    /// # Errors
    /// Returns the errors of the sink.
    pub fn write(&self, table: &Table, sink: &mut dyn io::Write) -> io::Result<()> {
        let mut text = Text::new(sink);
        self.write_traffic(&mut text);
        write_table(&mut text, table);
        pools::write(&mut text, self, table);
        let help = "Time since the last turn of the health checker; beyond a few seconds it is stuck.";
        text.single("checker_turn_age_seconds", help, Kind::Gauge, self.turn_age().as_secs_f64());
        text.finish()?;
        let mut families = self.probe_duration.collect();
        families.extend(self.probe_lag.collect());
        families.extend(self.probes_in_flight.collect());
        families.extend(self.probes_waiting.collect());
        families.extend(self.publish.collect());
        families.extend(self.operation.families());
        families.retain(|family| !family.get_metric().is_empty());
        // Encoding fails only for a metric of the wrong type, which the tests rule out.
        let collected = TextEncoder::new().encode_to_string(&families).unwrap_or_default();
        sink.write_all(collected.as_bytes())
    }

    /// All metrics as one string.
    #[cfg(test)]
    pub(crate) fn render(&self, table: &Table) -> String {
        let mut text = Vec::new();
        self.write(table, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn write_traffic(&self, text: &mut Text<'_>) {
        let sum = |column| self.traffic.sum(column);
        text.family("queries_total", "DNS messages received, answered or not.", Kind::Counter);
        for (column, (transport, family)) in QUERIES.iter().enumerate() {
            text.series(&[("transport", transport), ("family", family)], sum(column));
        }
        text.family("responses_total", "Replies, by response code.", Kind::Counter);
        for (column, name) in (FIRST_RCODE..).zip(RCODES.iter().map(|(name, _)| *name).chain(["other"])) {
            text.series(&[("rcode", name)], sum(column));
        }
        text.family("dropped_total", "DNS messages that got no reply, by reason.", Kind::Counter);
        for (column, reason) in (FIRST_DROP..).zip(DROPS) {
            text.series(&[("reason", reason)], sum(column));
        }
        for (column, (name, help)) in (FIRST_EVENT..).zip(EVENTS) {
            text.single(name, help, Kind::Counter, sum(column));
        }
        // Computed from two counters: if threads set a gauge, an older value could overwrite a
        // newer one. `closed` is read first, so a connection opened and closed in between cannot
        // make the result negative.
        let closed = sum(FIRST_EVENT + Event::Closed as usize);
        let open = sum(FIRST_EVENT + Event::Accepted as usize).saturating_sub(closed);
        text.single("tcp_connections", "TCP connections open now.", Kind::Gauge, open);
    }
}

fn write_table(text: &mut Text<'_>, table: &Table) {
    text.family("build_info", "Always 1; the version is a label.", Kind::Gauge);
    text.series(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.single("table_generation", "Number of the published answer table.", Kind::Gauge, table.generation);
    let help = "Answers for a service, by pool; an empty pool label is the all-down answer.";
    text.family("service_answers_total", help, Kind::Counter);
    for view in table.services().iter() {
        write_answers(text, view, table);
    }
    text.family(
        "service_fail_open",
        "1 while no pool is usable and all backends of the first tier answer.",
        Kind::Gauge,
    );
    for view in table.services().iter() {
        let decisions = Family::ALL.map(|family| table.decision(view, family));
        let fails_open = decisions.iter().any(|decision| matches!(decision, Decision::FailOpen { .. }));
        text.series(&[("service", &view.service.name.to_plain())], flag(fails_open));
    }
    text.family("backend_answers_total", "Answers that contained the backend.", Kind::Counter);
    for pool in table.pools().iter() {
        for (column, backend) in pool.backends.iter().enumerate() {
            text.series(&[("pool", &pool.name), ("backend", backend)], pool.answers.sum(column));
        }
    }
}

fn write_answers(text: &mut Text<'_>, view: &ServiceView, table: &Table) {
    let service = view.service.name.to_plain();
    let tiers = view.service.tiers.iter().map(|tier| table.pool(*tier).map_or("", |pool| &*pool.name));
    for (column, pool) in tiers.chain([""]).enumerate() {
        text.series(&[("service", &service), ("pool", pool)], view.answers.sum(column));
    }
}

/// Unwraps a result that is an error only for an invalid name or label, and these are constants.
#[allow(
    clippy::expect_used,
    reason = "the arguments are constants, and every test that makes a Metrics checks them"
)]
fn made<T>(metric: prometheus::Result<T>) -> T {
    metric.expect("metric names and labels are constants")
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "counts and whole seconds, which floats hold exactly")]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::answer::{Reply, ResponseKind};
    use crate::health::Outcome;
    use crate::name::Name;
    use crate::pool::{Backend, Override, Pool, PoolId};
    use crate::probe::Cause;
    use crate::service::{Answers, Policy, Service, WhenDown};
    use crate::table::{PoolView, Services, Standing};
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
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let backend = Backend { weight: 5, ..Backend::new("b\"1\\", vec![client]) };
        let pool = Pool::new("web", vec![backend]);
        let series = Arc::new(PoolSeries::new(&metrics, &pool, Some(Duration::from_secs(17)), None));
        metrics.show(&[Arc::clone(&series)].into());
        let service = Service {
            name: Name::parse("www.example").unwrap(),
            tiers: vec![PoolId(0)],
            answers: Answers::All,
            ttl: 20,
            policy: Policy::All,
            when_down: WhenDown::FailOpen,
        };
        let view =
            PoolView::build(&pool, None, PoolView::counters(&pool, 1), |_, _| Standing::Healthy.into());
        let services = Services::new([(service, Counters::new(1, 2))]);
        let catalog = Arc::new(Catalog::new(Vec::new()));
        let table = Table::new(7, Arc::default(), catalog, Arc::new(services), [Arc::new(view)]);
        for (row, code) in [(0, rcode::NOERROR), (1, rcode::NOERROR), (1, rcode::BADCOOKIE), (0, 4000)] {
            metrics.received(row, Transport::Udp, client);
            let reply = Reply {
                length: 0,
                rcode: code,
                truncated: code == 4000,
                kind: ResponseKind::Error(code),
                proven: false,
                signed: false,
                limit: 512,
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
        metrics.probe_started(Duration::from_millis(1));
        metrics.published(Duration::from_micros(50));
        for outcome in [Outcome::Failed, Outcome::Void] {
            series.probe_ended(0, outcome, Some(Cause::Tls), Duration::from_millis(3));
        }
        series.changed(0, 0, Standing::Unhealthy);
        series.changed(0, 0, Standing::Healthy);
        series.overridden(0, Some(Override::Down));
        series.suspected(true);
        let series = parsed(&metrics.render(&table));
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
            ("probes_total{pool=\"web\",backend=\"b\\\"1\\\\\",outcome=\"failed\"}", 1.0),
            ("probes_total{pool=\"web\",backend=\"b\\\"1\\\\\",outcome=\"void\"}", 1.0),
            ("probes_total{pool=\"web\",backend=\"b\\\"1\\\\\",outcome=\"passed\"}", 0.0),
            ("probe_failures_total{pool=\"web\",backend=\"b\\\"1\\\\\",cause=\"tls\"}", 2.0),
            ("probe_duration_seconds_count{pool=\"web\"}", 1.0),
            ("probe_lag_seconds_count", 1.0),
            (
                "backend_transitions_total{pool=\"web\",backend=\"b\\\"1\\\\\",address=\"127.0.0.1\",\
                 to=\"unhealthy\"}",
                1.0,
            ),
            ("backend_overridden{pool=\"web\",backend=\"b\\\"1\\\\\",state=\"down\"}", 1.0),
            ("self_suspected{pool=\"web\"}", 1.0),
            ("self_suspected{pool=\"\"}", 0.0),
            ("pool_usable{pool=\"web\"}", 1.0),
            ("pool_healthy_weight{pool=\"web\"}", 5.0),
            ("backend_healthy{pool=\"web\",backend=\"b\\\"1\\\\\",address=\"127.0.0.1\"}", 1.0),
            ("backend_eligible{pool=\"web\",backend=\"b\\\"1\\\\\",address=\"127.0.0.1\"}", 1.0),
            ("service_fail_open{service=\"www.example\"}", 0.0),
            ("table_generation", 7.0),
            ("table_publish_seconds_count", 1.0),
        ] {
            assert_eq!(series.get(&format!("steerd_{name}")), Some(&value), "{name} in {series:#?}");
        }
        assert!(series.contains_key("steerd_last_probe_age_seconds{pool=\"web\"}"));
        metrics.pools()[0].overridden(0, Some(Override::Disabled));
        let disabled = parsed(&metrics.render(&table));
        assert_eq!(disabled["steerd_pool_healthy_weight{pool=\"web\"}"], 0.0, "it is in no total");
    }

    #[tokio::test(start_paused = true)]
    async fn ages_grow_by_themselves_and_what_is_gone_is_not_shown() {
        let metrics = Metrics::new(1);
        let probed = Some(Duration::from_secs(17));
        let pools: Vec<Pool> = ["a", "b"]
            .map(|name| Pool::new(name, vec![Backend::new("x", vec!["192.0.2.1".parse().unwrap()])]))
            .into();
        let series = |previous: &[Arc<PoolSeries>], pools: &[&Pool]| -> Arc<[Arc<PoolSeries>]> {
            let old = |pool: &Pool| previous.iter().find(|old| **old.name() == *pool.name).map(|old| &**old);
            pools.iter().map(|pool| Arc::new(PoolSeries::new(&metrics, pool, probed, old(pool)))).collect()
        };
        metrics.show(&series(&[], &[&pools[0], &pools[1]]));
        for pool in metrics.pools().iter() {
            pool.probe_ended(0, Outcome::Passed, None, Duration::from_millis(1));
        }
        let table = Table::new(1, Arc::default(), Arc::new(Catalog::new(Vec::new())), Arc::default(), []);
        tokio::time::advance(Duration::from_secs(30)).await;
        metrics.turned();
        metrics.pools()[1].probed(&metrics);
        tokio::time::advance(Duration::from_secs(12)).await;
        let shown = parsed(&metrics.render(&table));
        assert_eq!(
            shown["steerd_last_probe_age_seconds{pool=\"a\"}"], 42.0,
            "never probed: counts from the start"
        );
        assert_eq!(shown["steerd_last_probe_age_seconds{pool=\"b\"}"], 12.0);
        assert_eq!(shown["steerd_checker_turn_age_seconds"], 12.0);

        metrics.show(&series(&metrics.pools(), &[&pools[1]]));
        let shown = parsed(&metrics.render(&table));
        assert!(!shown.keys().any(|series| series.contains("pool=\"a\"")), "{shown:#?}");
        assert_eq!(shown["steerd_probes_total{pool=\"b\",backend=\"x\",outcome=\"passed\"}"], 1.0);
        assert_eq!(shown["steerd_last_probe_age_seconds{pool=\"b\"}"], 12.0, "the age is kept");
    }
}
