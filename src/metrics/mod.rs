//! Counters, gauges and histograms, and their Prometheus text.
//!
//! Queries are counted in a [`Batch`] of their thread, and counting a probe adds one to the
//! [`PoolSeries`] of its pool. The counters of services and answers are in the table. Reading any
//! of them needs no other thread, so metrics can be shown even when the rest of the server is
//! stuck. Labels come only from the configuration, never from a query. Decisions do not belong here.

mod alerts;
mod answers;
mod batch;
mod continued;
mod histogram;
mod limits;
pub mod operation;
mod pools;
mod process;
mod taps;
mod text;
mod workers;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use tokio::time::Instant;

use crate::answer::DropReason;
use crate::counters::{CounterRow, Counters};
use crate::table::Table;
use crate::wire::rcode;

use continued::{Continued, EarlierCounts};
use histogram::Histogram;
use text::TextEncoder;
use workers::WorkerTurns;

pub use alerts::{AlertCounts, AlertSeries};
pub use batch::Batch;
pub use limits::{Evicting, LimitKind, LimitedReply};
pub use operation::Notified;
pub use pools::PoolSeries;
pub use taps::{TapCounts, TapSeries};
pub use workers::WorkerTurn;

/// The columns of a row of queries, in order.
const QUERIES: [(&str, &str); 4] = [("udp", "ipv4"), ("udp", "ipv6"), ("tcp", "ipv4"), ("tcp", "ipv6")];
const DROPS: [&str; 5] = ["short", "response", "port_zero", "long", "limited"];
const EVENTS: [(&str, &str); 13] = [
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
    (
        "kernel_drops_total",
        "Datagrams that the kernel dropped because a UDP worker did not read fast enough.",
    ),
];
/// Buckets of times that should be far below a second, seconds.
const FINE: [f64; 14] =
    [0.000_01, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
const FIRST_RCODE: usize = QUERIES.len();
/// After the response codes follows one more column, `other`.
const FIRST_DROP: usize = FIRST_RCODE + rcode::NAMES.len() + 1;
const FIRST_EVENT: usize = FIRST_DROP + DROPS.len();
/// The counts of limits on clients.
const FIRST_LIMIT: usize = FIRST_EVENT + EVENTS.len();
const COLUMNS: usize = FIRST_LIMIT + limits::COLUMNS;

/// An event at a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
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
    /// A zone transfer was started.
    Transfer,
    /// A connection was closed by a time limit.
    TimedOut,
    /// An admin connection was closed to make room for another.
    AdminEvicted,
    /// The kernel dropped a datagram before it was received.
    KernelDropped,
}

/// Why a message was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// The answering code produced no reply.
    Unanswerable(DropReason),
    /// Longer than the longest query.
    Long,
    /// Dropped by response rate limiting.
    Limited,
}

/// All counters that are not in the table.
#[derive(Debug)]
pub struct Metrics {
    /// The origin of the times stored here.
    began: Instant,
    /// Counters of reloads, state files and notifications.
    pub operation: operation::Operation,
    /// Messages of alerts.
    pub alerts: AlertCounts,
    /// Samples of the query log and of dnstap.
    pub taps: TapCounts,
    traffic: Counters,
    last_networks: limits::LastNetworks,
    probe_lag: Histogram,
    probes_in_flight: AtomicUsize,
    probes_waiting: AtomicUsize,
    publish: Histogram,
    /// In configuration order. Only a reload changes it, and no query reads it, so a lock is cheap
    /// enough.
    pools: Mutex<Arc<[Arc<PoolSeries>]>>,
    /// Whether this machine is suspected, and not all pools together.
    all_suspected: AtomicBool,
    /// How often that has begun.
    all_suspicions: AtomicU64,
    /// When the checker's last turn ended, nanoseconds since `began`.
    turned: AtomicU64,
    worker_turns: WorkerTurns,
    /// The counts of the process that this one has replaced.
    earlier: OnceLock<EarlierCounts>,
}

impl Metrics {
    /// `threads` is the number of threads that count queries with counters of their own.
    #[must_use]
    pub fn new(threads: usize) -> Self {
        Self {
            began: Instant::now(),
            operation: operation::Operation::new(),
            alerts: AlertCounts::default(),
            taps: TapCounts::default(),
            traffic: Counters::new(threads, COLUMNS),
            last_networks: limits::LastNetworks::default(),
            probe_lag: Histogram::new(&FINE),
            probes_in_flight: AtomicUsize::new(0),
            probes_waiting: AtomicUsize::new(0),
            publish: Histogram::new(&FINE),
            pools: Mutex::new(Arc::new([])),
            all_suspected: AtomicBool::new(false),
            all_suspicions: AtomicU64::new(0),
            turned: AtomicU64::new(0),
            worker_turns: WorkerTurns::default(),
            earlier: OnceLock::new(),
        }
    }

    /// Starts a batch of counts of a thread. At most one batch at a time may have a row of its own.
    #[must_use]
    pub fn batch(&self, row: CounterRow) -> Batch<'_> {
        Batch::new(self, row)
    }

    /// Counts an event at a listener, `times` times. Any thread may call this.
    pub fn happened(&self, event: Counted, times: usize) {
        self.traffic.add(CounterRow::Shared, FIRST_EVENT + event as usize, times as u64);
    }

    /// Counts a probe that started this much later than it was due.
    pub fn probe_started(&self, lag: Duration) {
        self.probe_lag.observe(lag);
    }

    /// Sets the number of probes in flight and the number waiting for a slot.
    pub fn probes_now(&self, in_flight: usize, waiting: usize) {
        self.probes_in_flight.store(in_flight, Ordering::Relaxed);
        self.probes_waiting.store(waiting, Ordering::Relaxed);
    }

    /// Counts a published table, which took this long to build.
    pub fn published(&self, took: Duration) {
        self.publish.observe(took);
    }

    /// Records that the checker has finished a turn.
    pub fn turned(&self) {
        self.turned.store(self.elapsed(), Ordering::Relaxed);
    }

    /// The time since the checker's last turn.
    #[must_use]
    pub fn turn_age(&self) -> Duration {
        Duration::from_nanos(self.elapsed().saturating_sub(self.turned.load(Ordering::Relaxed)))
    }

    /// Sets whether this machine is suspected, and not all pools together, and counts the beginning of a suspicion.
    pub fn all_suspected(&self, suspected: bool) {
        pools::note_suspicion(&self.all_suspected, &self.all_suspicions, suspected);
    }

    /// The series of all pools, in configuration order.
    #[must_use]
    pub fn pools(&self) -> Arc<[Arc<PoolSeries>]> {
        Arc::clone(&self.pools.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the pools whose series are shown. Removed pools disappear from the output.
    pub fn show(&self, pools: &Arc<[Arc<PoolSeries>]>) {
        *self.pools.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(pools);
    }

    /// The number of DNS messages received.
    #[must_use]
    pub fn queries(&self) -> u64 {
        (0..QUERIES.len()).map(|column| self.traffic.sum(column)).sum()
    }

    /// Nanoseconds since `began`; 584 years fit.
    fn elapsed(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Writes everything in the Prometheus text format, in pieces.
    ///
    /// # Errors
    /// Returns the first error of the sink.
    pub fn write(self: &Arc<Self>, table: &Arc<Table>, sink: &mut dyn io::Write) -> io::Result<()> {
        let page = Page { metrics: Arc::clone(self), table: Arc::clone(table) };
        match self.earlier.get() {
            None => text::write(page, sink),
            Some(earlier) => text::write(page, &mut Continued::new(sink, earlier)),
        }
    }

    /// Lets all counts go on from the text that an earlier process has written. Only the first call has an effect.
    pub fn go_on_from(&self, text: &str) {
        let _ = self.earlier.set(EarlierCounts::of(text));
    }

    /// All metrics as one string.
    #[cfg(test)]
    pub(crate) fn render(self: &Arc<Self>, table: &Arc<Table>) -> String {
        let mut text = Vec::new();
        self.write(table, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn write_traffic(&self, text: &mut TextEncoder<'_>) -> fmt::Result {
        let sum = |column| self.traffic.sum(column);
        let mut queries = text.counter("queries_total", "DNS messages received, answered or not.")?;
        for (column, (transport, family)) in QUERIES.iter().enumerate() {
            queries.series(&[("transport", transport), ("family", family)], sum(column))?;
        }
        let mut responses = text.counter("responses_total", "Replies, by response code.")?;
        for (column, name) in (FIRST_RCODE..).zip(rcode::NAMES.iter().map(|(name, _)| *name).chain(["other"]))
        {
            responses.series(&[("rcode", name)], sum(column))?;
        }
        let mut dropped = text.counter("dropped_total", "DNS messages that got no reply, by reason.")?;
        for (column, reason) in (FIRST_DROP..).zip(DROPS) {
            dropped.series(&[("reason", reason)], sum(column))?;
        }
        for (column, (name, help)) in (FIRST_EVENT..).zip(EVENTS) {
            text.counter(name, help)?.series(&[], sum(column))?;
        }
        // It is computed from two counters: if threads set a gauge, an older value could overwrite a
        // newer one. `closed` is read first, so a connection opened and closed in between cannot
        // make the result negative.
        let closed = sum(FIRST_EVENT + Counted::Closed as usize);
        let open = sum(FIRST_EVENT + Counted::Accepted as usize).saturating_sub(closed);
        text.gauge("tcp_connections", "TCP connections open now.")?.series(&[], open)
    }

    fn write_checker(&self, text: &mut TextEncoder<'_>) -> fmt::Result {
        let help = "Time since the last turn of the health checker; beyond a few seconds it is stuck.";
        text.gauge("checker_turn_age_seconds", help)?.series(&[], self.turn_age().as_secs_f64())?;
        let help = "Duration of probes that gave a verdict.";
        let mut durations = text.histogram("probe_duration_seconds", help)?;
        for pool in self.pools().iter() {
            durations.series(&[("pool", pool.name())], pool.duration())?;
        }
        let help = "Delay of the start of a probe after it was due.";
        text.histogram("probe_lag_seconds", help)?.series(&[], &self.probe_lag)?;
        let in_flight = self.probes_in_flight.load(Ordering::Relaxed);
        text.gauge("probes_in_flight", "Probes in flight now.")?.series(&[], in_flight)?;
        let waiting = self.probes_waiting.load(Ordering::Relaxed);
        text.gauge("probes_waiting", "Probes that are due and wait for a slot.")?.series(&[], waiting)?;
        let help = "Time to build and publish an answer table.";
        text.histogram("table_publish_seconds", help)?.series(&[], &self.publish)
    }
}

/// The data for one reply.
#[derive(Debug)]
struct Page {
    metrics: Arc<Metrics>,
    table: Arc<Table>,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut text = TextEncoder::new(encoder);
        self.metrics.write_traffic(&mut text)?;
        self.metrics.write_limits(&mut text)?;
        answers::write(&mut text, &self.table)?;
        pools::write(&mut text, &self.metrics, &self.table)?;
        self.metrics.write_checker(&mut text)?;
        self.metrics.operation.write(&mut text)?;
        self.metrics.alerts.write(&mut text)?;
        self.metrics.taps.write(&mut text)?;
        process::write(&mut text)
    }
}

#[cfg(test)]
#[allow(clippy::float_cmp, reason = "counts and whole seconds, which floats hold exactly")]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::net::{IpAddr, Ipv4Addr};
    use std::sync::Arc;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;
    use crate::answer::{CookieProof, Disposition, Reply, ResponseKind, Transport};
    use crate::health::Outcome;
    use crate::name::Name;
    use crate::pool::{Backend, Override, OverrideKind, OverrideValue, Pool, PoolId};
    use crate::probe::Cause;
    use crate::service::Service;
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
        let metrics = Arc::new(Metrics::new(2));
        let client = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let backend = Backend { weight: 5, ..Backend::new("b\"1\\", vec![client]) };
        let pool = Pool::new("web", vec![backend]);
        let series = Arc::new(PoolSeries::new(&metrics, &pool, Some(Duration::from_secs(17)), None));
        metrics.show(&[Arc::clone(&series)].into());
        let service = Service::new(Name::parse("www.example").unwrap(), vec![PoolId(0)]);
        let view = PoolView::build(&pool, None, |_, _| Standing::Healthy.into());
        let services = Services::new([service]);
        let catalog = Arc::new(Catalog::new(Vec::new()));
        let table = Arc::new(Table::new(
            7,
            Arc::default(),
            catalog,
            Arc::new(services),
            [Arc::new(view)],
            SmallRng::seed_from_u64(1),
        ));
        let batches = [CounterRow::Own(0), CounterRow::Own(1)].map(|row| metrics.batch(row));
        for (row, code) in [(0, rcode::NOERROR), (1, rcode::NOERROR), (1, rcode::BADCOOKIE), (0, 4000)] {
            batches[row].received(Transport::Udp, client);
            let reply = Reply {
                length: 0,
                rcode: code,
                truncated: code == 4000,
                kind: ResponseKind::Error(code),
                cookie: CookieProof::None,
                signed: false,
                limit: 512,
                service: None,
            };
            batches[row].answered(&Disposition::Reply(reply));
        }
        batches[0].received(Transport::Tcp, "::1".parse().unwrap());
        batches[0].answered(&Disposition::Drop(DropReason::Response));
        batches[1].happened(Counted::Accepted, 1);
        drop(batches);
        metrics.happened(Counted::Accepted, 1);
        metrics.happened(Counted::Closed, 1);
        metrics.happened(Counted::TimedOut, 3);
        metrics.probe_started(Duration::from_millis(1));
        metrics.published(Duration::from_micros(50));
        for outcome in [Outcome::Failed, Outcome::Void] {
            series.probe_ended(0, outcome, Some(Cause::Tls), Duration::from_millis(3));
        }
        series.changed(0, 0, Standing::Unhealthy);
        series.changed(0, 0, Standing::Healthy);
        series.overridden(0, OverrideKind::State, Some(OverrideValue::State(Override::Down)));
        series.overridden(0, OverrideKind::Weight, Some(OverrideValue::Weight(30)));
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
            ("backend_weight_override_ratio{pool=\"web\",backend=\"b\\\"1\\\\\"}", 0.3),
            ("self_suspected{pool=\"web\"}", 1.0),
            ("self_suspected{pool=\"\"}", 0.0),
            ("pool_usable{pool=\"web\"}", 1.0),
            ("pool_healthy_weight{pool=\"web\"}", 5.0),
            ("backend_healthy{pool=\"web\",backend=\"b\\\"1\\\\\",address=\"127.0.0.1\"}", 1.0),
            ("backend_eligible{pool=\"web\",backend=\"b\\\"1\\\\\",address=\"127.0.0.1\"}", 1.0),
            ("service_fail_open{service=\"www.example\"}", 0.0),
            ("service_tier{service=\"www.example\",rule=\"\",family=\"ipv4\"}", 1.0),
            ("backend_share{pool=\"web\",backend=\"b\\\"1\\\\\",family=\"ipv4\",draw=\"weights\"}", 1.0),
            ("table_generation", 7.0),
            ("table_publish_seconds_count", 1.0),
        ] {
            assert_eq!(series.get(&format!("steerd_{name}")), Some(&value), "{name} in {series:#?}");
        }
        assert!(series.contains_key("steerd_last_probe_age_seconds{pool=\"web\"}"));
        for process in ["cpu_seconds_total", "resident_memory_bytes", "open_descriptors", "max_descriptors"] {
            assert!(series[&format!("steerd_process_{process}")] > 0.0, "{process}");
        }
        let disabled = Some(OverrideValue::State(Override::Disabled));
        metrics.pools()[0].overridden(0, OverrideKind::State, disabled);
        let disabled = parsed(&metrics.render(&table));
        assert_eq!(disabled["steerd_pool_healthy_weight{pool=\"web\"}"], 0.0, "it is in no total");
    }

    #[test]
    fn suspicions_are_counted_and_overrides_and_disabled_backends_are_shown() {
        let metrics = Arc::new(Metrics::new(1));
        let backend = |name: &str| Backend::new(name, vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        let off = Backend { enabled: false, ..backend("off") };
        let pool = Pool::new("web", vec![backend("b"), off]);
        let series = PoolSeries::new(&metrics, &pool, None, None);
        for (kind, value, end) in [
            (OverrideKind::State, OverrideValue::State(Override::Down), None),
            (OverrideKind::Weight, OverrideValue::Weight(30), Some(Duration::from_secs(2_000_000_000))),
        ] {
            series.overridden(0, kind, Some(value));
            series.override_ends(0, kind, end);
        }
        for suspected in [true, true, false, true] {
            series.suspected(suspected);
            metrics.all_suspected(suspected);
        }
        // A reload keeps the counts and the ends.
        let series = PoolSeries::new(&metrics, &pool, None, Some(&series));
        metrics.show(&[Arc::new(series)].into());
        let catalog = Arc::new(Catalog::new(Vec::new()));
        let random = SmallRng::seed_from_u64(1);
        let shown = parsed(&metrics.render(&Arc::new(Table::new(
            1,
            Arc::default(),
            catalog,
            Arc::default(),
            [],
            random,
        ))));
        let end = "backend_override_end_timestamp_seconds{pool=\"web\",backend=\"b\",kind=";
        for (name, value) in [
            ("self_suspicions_total{pool=\"web\"}", 2.0),
            ("self_suspicions_total{pool=\"\"}", 2.0),
            (&format!("{end}\"state\"}}"), 0.0),
            (&format!("{end}\"weight\"}}"), 2e9),
            ("backend_disabled{pool=\"web\",backend=\"off\"}", 1.0),
        ] {
            assert_eq!(shown.get(&format!("steerd_{name}")), Some(&value), "{name} in {shown:#?}");
        }
        let disabled = shown.keys().filter(|name| name.starts_with("steerd_backend_disabled"));
        assert_eq!(disabled.count(), 1, "the other backend is enabled");
    }

    #[test]
    fn a_large_fleet_shows_rare_counters_from_their_first_event() {
        let metrics = Arc::new(Metrics::new(1));
        let shown = |backends: u32| {
            let backend = |number: u32| {
                Backend::new(format!("b{number}"), vec![IpAddr::V4(Ipv4Addr::from(0xC000_0200 + number))])
            };
            let pool = Pool::new("web", (0..backends).map(backend).collect());
            let series = Arc::new(PoolSeries::new(&metrics, &pool, None, None));
            series.probe_ended(0, Outcome::Failed, Some(Cause::Refused), Duration::from_millis(1));
            metrics.show(&[series].into());
            let catalog = Arc::new(Catalog::new(Vec::new()));
            let random = SmallRng::seed_from_u64(1);
            let table = Arc::new(Table::new(1, Arc::default(), catalog, Arc::default(), [], random));
            parsed(&metrics.render(&table))
        };
        let (small, large) = (shown(1000), shown(1001));
        let rare = |series: &HashMap<String, f64>| {
            series.keys().filter(|name| name.starts_with("steerd_probe_failures_total")).count()
        };
        assert_eq!((rare(&small), rare(&large)), (10_000, 1));
        for from_zero in [
            "probes_total{pool=\"web\",backend=\"b1\",outcome=\"void\"}",
            "probe_failures_total{pool=\"web\",backend=\"b0\",cause=\"tls\"}",
            "backend_transitions_total{pool=\"web\",backend=\"b1\",address=\"192.0.2.1\",to=\"draining\"}",
        ] {
            assert_eq!(small.get(&format!("steerd_{from_zero}")), Some(&0.0), "{from_zero}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn ages_grow_by_themselves_and_what_is_gone_is_not_shown() {
        let metrics = Arc::new(Metrics::new(1));
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
        let catalog = Arc::new(Catalog::new(Vec::new()));
        let table =
            Arc::new(Table::new(1, Arc::default(), catalog, Arc::default(), [], SmallRng::seed_from_u64(1)));
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
