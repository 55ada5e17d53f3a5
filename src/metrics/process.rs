//! The resources of this process, read from the system for each reply.

use std::fmt;
use std::fs;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::metrics::text::TextEncoder;

/// Writes what the system tells; a figure that it does not tell is left out.
pub(super) fn write(text: &mut TextEncoder<'_>) -> fmt::Result {
    let used = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
    let help = "Processor time of this process.";
    text.counter("process_cpu_seconds_total", help)?.series(&[], used.as_secs_f64())?;
    let mut resident = text.gauge("process_resident_memory_bytes", "Resident memory of this process.")?;
    if let Some(bytes) = fs::read_to_string("/proc/self/status").ok().as_deref().and_then(resident_bytes) {
        resident.series(&[], bytes)?;
    }
    let mut open = text.gauge("process_open_descriptors", "Open descriptors of this process.")?;
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        // One of them is that of the directory itself.
        open.series(&[], entries.count().saturating_sub(1) as u64)?;
    }
    let help = "The most descriptors that this process may open.";
    let mut most = text.gauge("process_max_descriptors", help)?;
    if let Some(limit) = fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(descriptor_limit) {
        most.series(&[], limit)?;
    }
    Ok(())
}

/// The resident memory in `/proc/self/status`.
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// The soft limit of descriptors in `/proc/self/limits`.
fn descriptor_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_the_texts_of_the_system() {
        assert_eq!(resident_bytes("Name:\tsteerd\nVmRSS:\t   34876 kB\nRssAnon: 1 kB\n"), Some(34876 * 1024));
        assert_eq!(resident_bytes("VmRSS:\t99999999999999999999 kB\n"), None);
        assert_eq!(resident_bytes(""), None);
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            65536                524288               files     \n";
        assert_eq!(descriptor_limit(limits), Some(65536));
        assert_eq!(descriptor_limit("Max open files            unlimited  unlimited  files"), None);
    }
}
