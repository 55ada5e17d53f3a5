//! Counts that go on where an earlier process ended.
//!
//! They are added to the text, series by series, so that no counter needs to know of it. A series that the earlier
//! process did not have is written as it is. Gauges show the present, and are never changed.

use std::collections::HashMap;
use std::io::{self, Write};

use siphasher::sip::SipHasher24;

/// The kinds of families with counts.
const WITH_COUNTS: [&str; 2] = [" counter", " histogram"];

/// The counts of an earlier process, by the hash of the name and labels of a series.
///
/// Two of a million series have equal hashes with a probability of 3e-8.
#[derive(Debug, Default)]
pub(super) struct EarlierCounts(HashMap<u64, f64>);

impl EarlierCounts {
    /// Reads the counters and histograms of the earlier process in the text format.
    pub(super) fn of(text: &str) -> Self {
        let mut counted = HashMap::new();
        let mut has_counts = false;
        for line in text.lines() {
            if let Some((series, value)) = series(line, &mut has_counts)
                && value != 0.0
            {
                counted.insert(hash(series), value);
            }
        }
        Self(counted)
    }
}

fn hash(series: &str) -> u64 {
    SipHasher24::new().hash(series.as_bytes())
}

/// The series and the value of a line, if it is a count. `has_counts` says whether the family has counts.
fn series<'l>(line: &'l str, has_counts: &mut bool) -> Option<(&'l str, f64)> {
    if line.starts_with('#') {
        if line.starts_with("# TYPE ") {
            *has_counts = WITH_COUNTS.iter().any(|kind| line.ends_with(kind));
        }
        return None;
    }
    let (series, value) = line.rsplit_once(' ').filter(|_| *has_counts)?;
    Some((series, value.parse().ok()?))
}

/// Adds the earlier counts to the text that is written through it.
pub(super) struct Continued<'a> {
    sink: &'a mut dyn Write,
    earlier: &'a EarlierCounts,
    /// The beginning of a line.
    line: Vec<u8>,
    has_counts: bool,
}

impl<'a> Continued<'a> {
    pub(super) fn new(sink: &'a mut dyn Write, earlier: &'a EarlierCounts) -> Self {
        Self { sink, earlier, line: Vec::new(), has_counts: false }
    }

    fn end_line(&mut self) -> io::Result<()> {
        let line = std::str::from_utf8(&self.line).unwrap_or_default();
        let counted = series(line, &mut self.has_counts)
            .and_then(|(series, value)| Some((series, value + self.earlier.0.get(&hash(series))?)));
        match counted {
            Some((series, sum)) => writeln!(self.sink, "{series} {sum}")?,
            None => {
                self.line.push(b'\n');
                self.sink.write_all(&self.line)?;
            }
        }
        self.line.clear();
        Ok(())
    }
}

/// Takes text of whole lines; each is written when it is complete.
impl Write for Continued<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut parts = bytes.split(|byte| *byte == b'\n');
        // `split` gives at least one part; it has no line end before it.
        self.line.extend_from_slice(parts.next().unwrap_or_default());
        for part in parts {
            self.end_line()?;
            self.line.extend_from_slice(part);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EARLIER: &str = "\
# HELP steerd_answers_total Answers \\ of \"web\".
# TYPE steerd_answers_total counter
steerd_answers_total{pool=\"a b\",backend=\"c\"} 9007199254740000
steerd_answers_total{pool=\"gone\"} 7
# TYPE steerd_open gauge
steerd_open 5
# TYPE steerd_lag_seconds histogram
steerd_lag_seconds_bucket{le=\"0.5\"} 2
steerd_lag_seconds_bucket{le=\"+Inf\"} 3
steerd_lag_seconds_sum 1.5
steerd_lag_seconds_count 3
";

    #[test]
    fn counts_go_on_and_gauges_do_not() {
        let now = EARLIER
            .replace("9007199254740000", "92")
            .replace("gone", "new")
            .replace("_sum 1.5", "_sum 0.25")
            .replace("steerd_open 5", "steerd_open 1");
        let earlier = EarlierCounts::of(EARLIER);
        let expected = now
            .replace(" 92\n", " 9007199254740092\n")
            .replace("0.5\"} 2", "0.5\"} 4")
            .replace("Inf\"} 3", "Inf\"} 6")
            .replace("_sum 0.25", "_sum 1.75")
            .replace("_count 3", "_count 6");
        // In pieces of any length.
        for length in [1, 2, 7, 64, now.len()] {
            let mut written = Vec::new();
            let mut continued = Continued::new(&mut written, &earlier);
            for piece in now.as_bytes().chunks(length) {
                continued.write_all(piece).unwrap();
            }
            assert_eq!(String::from_utf8(written).unwrap(), expected, "{length}");
        }
    }
}
