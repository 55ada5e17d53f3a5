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

/// CPU time of a process, as the scheduler counts it in nanoseconds, including the kernel's work for it and the threads
/// that have ended. On loopback this covers both ends of the network up to the peer's socket.
#[allow(unsafe_code, reason = "no safe wrapper offers the clock of another process")]
pub(crate) fn cpu_time(process: u32) -> Duration {
    let process = process.try_into().expect("a process");
    let mut clock = 0;
    // SAFETY: `clock` is a valid location for the result.
    let error = unsafe { libc::clock_getcpuclockid(process, &raw mut clock) };
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid location for the result.
    let failed = unsafe { libc::clock_gettime(clock, &raw mut time) };
    assert_eq!((error, failed), (0, 0), "the process runs");
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.try_into().expect("below a second"))
}

/// A process and all that descend from it.
pub(crate) fn tree(root: u32) -> Vec<u32> {
    let parent = |process: u32| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse::<u32>().ok())
    };
    let processes = fs::read_dir("/proc").expect("Linux has it").flatten();
    let processes = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut others: Vec<(u32, u32)> =
        processes.filter_map(|process| Some((process, parent(process)?))).collect();
    let mut tree = vec![root];
    let mut at = 0;
    while let Some(&process) = tree.get(at) {
        tree.extend(others.extract_if(.., |(_, parent)| *parent == process).map(|(child, _)| child));
        at += 1;
    }
    tree
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
