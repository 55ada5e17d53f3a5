//! Figures of processes, and figures of many figures. Measurements do not belong here.
#![allow(dead_code, reason = "each bench needs a part of this only")]

use std::fs;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Set in the environment of a bench that has the loopback network for itself.
const ALONE: &str = "STEERD_BENCH_ALONE";

/// Runs this bench again in a network of its own, where no other program opens connections or takes
/// ports, and answers its exit code. None when it is there already, or when the machine has no such
/// networks for users: counts of connections then include those of others.
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
            "this machine gives no network apart (unshare, ip): connections of other programs count as well"
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

/// How many TCP connections have been begun in this network.
pub(crate) fn connections_begun() -> u64 {
    let text = fs::read_to_string("/proc/net/snmp").expect("Linux has it");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, counts) = (lines.next().expect("names"), lines.next().expect("counts"));
    let mut named = names.split(' ').zip(counts.split(' '));
    named.find_map(|(name, count)| (name == "ActiveOpens").then(|| count.parse().ok())?).expect("a count")
}

/// The CPU time that the threads of a process have had, as the scheduler counts it: to the
/// nanosecond, with all that the kernel did on their behalf. On loopback that is both ends of the
/// network too, up to the socket of the peer. Threads that have ended are not counted.
pub(crate) fn cpu_time(process: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let of_thread = |path: std::path::PathBuf| {
        let text = fs::read_to_string(path.join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<u64>().ok()
    };
    Duration::from_nanos(threads.flatten().filter_map(|entry| of_thread(entry.path())).sum())
}

/// The bytes of memory that a process holds.
pub(crate) fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// A number of things for a division.
#[allow(clippy::cast_precision_loss, reason = "counts of things in a bench are far below 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The value below which this share of the values lies; 0 without any.
pub(crate) fn quantile<T: Copy + Default + PartialOrd>(values: &mut [T], share: f64) -> T {
    values.sort_by(|one, other| one.partial_cmp(other).expect("comparable"));
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
    let index = (float(values.len() as u64) * share) as usize;
    values.get(index.min(values.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// Microseconds, milliseconds or seconds, whichever reads well.
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
