//! Reloads of a large zone, or of one weight among many backends, during probing.

use std::fmt::Write as _;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::is_full;
use crate::support::{Steerd, http_get, wait_for};

/// Number of backends that are probed twice a second.
const PROBED: u32 = 40;
/// Number of backends in each of the other pools.
const BACKENDS: u32 = 10;
/// Maximum delay of a probe, seconds: a bucket bound of the histogram.
const BAR: &str = "0.1";
/// Time after a reload in which delayed probes become visible.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Versions differ only in the last record, so that comparing them takes as long as possible.
fn zone(version: u32, records: u32) -> String {
    let mut zone = String::from(
        "$TTL 60\n@ SOA ns1 host 1 3600 600 604800 30\n@ NS ns1\n@ NS ns2\nns1 A 192.0.2.1\nns2 A 192.0.2.2\n",
    );
    for index in 0..records {
        writeln!(zone, "host-{index} A 192.0.{}.{}", index / 256 % 256, index % 256).unwrap();
    }
    writeln!(zone, "last A 198.51.100.{version}").unwrap();
    zone
}

/// The watched pool, and `others` unprobed backends in pools of ten; the first one has this weight.
fn config(port: u16, others: u32, weight: u32) -> String {
    let mut config = format!(
        "[zones.\"lb.example.test\"]\nfile = \"zone\"\n[pools.watched]\nsuspect_self = \"off\"\n\
         check = {{ type = \"tcp\", port = {port}, interval = \"500ms\", timeout = \"400ms\" }}\nbackends = ["
    );
    for index in 1..=PROBED {
        write!(config, "\"127.0.0.{index}\", ").unwrap();
    }
    config.push_str("]\n");
    for pool in 0..others.div_ceil(BACKENDS) {
        write!(config, "[pools.p{pool}]\ncheck = {{ type = \"tcp\", port = {port}, interval = \"1h\", interval_down = \"1h\" }}\nbackends = [").unwrap();
        for index in 0..BACKENDS {
            let (number, weight) =
                (pool * BACKENDS + index, if index == 0 && pool == 0 { weight } else { 1 });
            write!(
                config,
                "{{ name = \"b{index}\", address = \"127.{}.{}.{}\", weight = {weight} }}, ",
                1 + (number >> 16),
                number >> 8 & 255,
                number & 255
            )
            .unwrap();
        }
        config.push_str("]\n");
    }
    config.push_str("[services.\"www.lb.example.test\"]\npools = [\"watched\"]\n");
    config
}

/// A server with a watched pool that is probed, and the listener for all its probes.
fn start(others: u32, records: u32) -> (Steerd, TcpListener) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepting = listener.try_clone().unwrap();
    std::thread::spawn(move || accepting.incoming().for_each(drop));
    let server = Steerd::start(&config(port, others, 1), &[("zone", &zone(1, records))]);
    wait_for("all backends have been probed", || {
        let started = server.metric("steerd_probe_lag_seconds_count")?;
        (started >= f64::from(others + 2 * PROBED)).then_some(())
    });
    (server, listener)
}

/// The number of probes started, and of those that started later than the bar.
fn probes(server: &Steerd) -> (f64, f64) {
    // Both values must come from the same moment.
    let (_, text) = http_get(server.admin, "/metrics");
    let value = |series: &str| -> f64 {
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).expect("a histogram")
    };
    let all = value("steerd_probe_lag_seconds_count");
    (all, all - value(&format!("steerd_probe_lag_seconds_bucket{{le=\"{BAR}\"}}")))
}

/// Reloads. Returns how long this took, how many probes started meanwhile, and how many of them
/// were late.
fn reload(server: &Steerd) -> (Duration, f64, f64) {
    let (started, late) = probes(server);
    let began = Instant::now();
    let (status, report) = server.request("POST", "/api/v1/reload", "");
    let took = began.elapsed();
    assert_eq!(status, 200, "{report:#}");
    assert_eq!(report["changed"], true, "{report:#}");
    std::thread::sleep(AFTERWARDS);
    let (all, all_late) = probes(server);
    (took, all - started, all_late - late)
}

/// How many reloads are tried. Most of them must delay no probe; a few may, because other programs
/// on this machine cause lag too.
const ATTEMPTS: u32 = 5;
const ON_TIME: u32 = 3;

/// Asserts that most of several reloads delay no probe.
fn mostly_on_time(server: &Steerd, what: &str, mut change: impl FnMut(u32)) {
    let mut on_time = 0;
    for attempt in 0..ATTEMPTS {
        change(attempt);
        let (took, started, late) = reload(server);
        println!("{what}: {took:?}, {started} probes started, {late} of them later than {BAR} s");
        assert!(started > 0.0);
        on_time += u32::from(late == 0.0);
        if on_time == ON_TIME {
            return;
        }
    }
    panic!("{what}: {on_time} of {ATTEMPTS} reloads delayed no probe beyond {BAR} s, and {ON_TIME} should");
}

#[test]
fn a_large_zone_delays_no_probe() {
    let records = if is_full() { 1_000_000 } else { 100_000 };
    let (server, _listener) = start(0, records);
    mostly_on_time(&server, &format!("{records} records"), |attempt| {
        let path = server.directory.path().join("zone");
        std::fs::write(path, zone(attempt + 2, records)).unwrap();
    });
}

#[test]
fn one_weight_among_many_backends_delays_no_probe() {
    let others = if is_full() { 100_000 } else { 20_000 };
    let (server, listener) = start(others, 1);
    let port = listener.local_addr().unwrap().port();
    mostly_on_time(&server, &format!("{others} backends"), |attempt| {
        server.configure(&config(port, others, attempt + 2), "");
    });
}
