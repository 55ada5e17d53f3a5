//! Figures about processes, and statistics. Measurements do not belong here.
#![allow(dead_code, reason = "each bench uses only a part of this")]

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Set in the environment of a bench that runs in its own network namespace.
const ALONE: &str = "STEERD_BENCH_ALONE";

/// Runs this bench again in its own network namespace, where no other program opens connections or
/// takes ports, and returns its exit code. Returns `None` if it is already in one, or if
/// unprivileged namespaces are not available; then counts include connections of other programs.
pub(crate) fn run_alone() -> Option<ExitCode> {
    if std::env::var_os(ALONE).is_some() {
        return None;
    }
    let unshare = |command: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--net", "sh", "-c", command]);
        unshare
    };
    let possible = unshare("PATH=$PATH:/usr/sbin:/sbin ip link set lo up").stderr(Stdio::null()).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!(
            "no network namespace is available (unshare, ip): connections of other programs are counted too"
        );
        return None;
    }
    let status = unshare("PATH=$PATH:/usr/sbin:/sbin ip link set lo up && exec \"$0\" \"$@\"")
        .arg(std::env::current_exe().ok()?)
        .args(std::env::args().skip(1))
        .env(ALONE, "1")
        .status()
        .ok()?;
    Some(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Number of TCP connections opened in this network namespace.
pub(crate) fn connections_begun() -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").expect("Linux has it");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, counts) = (lines.next().expect("names"), lines.next().expect("counts"));
    let mut named = names.split(' ').zip(counts.split(' '));
    named.find_map(|(name, count)| (name == "ActiveOpens").then(|| count.parse().ok())?).expect("a count")
}

/// CPU time of the threads of a process, as the scheduler counts it in nanoseconds, including the
/// kernel's work for them. On loopback this covers both ends of the network up to the peer's
/// socket. Threads that have ended are not counted.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let of_thread = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(|entry| of_thread(entry.path())).sum())
}

/// Resident memory of a process, bytes.
pub(crate) fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Converts a count for a division.
#[allow(clippy::cast_precision_loss, reason = "counts of things in a bench are far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The value below which this share of the values lies; 0 if there are no values.
pub(crate) fn quantile<T: Copy + Default + PartialOrd>(values: &mut [T], share: f64) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).expect("comparable"));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
    let index = (float(values.len() as u64) * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Formats a duration in microseconds, milliseconds or seconds.
pub(crate) fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.001 {
        format!("{:.0} us", seconds * 1e6)
    } else if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}
