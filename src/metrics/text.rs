//! The Prometheus text format, written to a sink family by family and series by series.
//!
//! `prometheus-client` encodes everything. Nothing is registered with it: 100,000 backends have hundreds
//! of thousands of series, and an object for each would take more memory than its text. Instead, one
//! collector encodes all figures directly from the counters, and the memory it needs does not depend on
//! their number.

use std::fmt;
use std::io;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, MetricEncoder, NoLabelSet, prometheus_text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::metrics::histogram::Histogram;

/// The prefix of every metric.
const PREFIX: &str = "steerd";
/// The suffix of every counter; the encoder adds it.
const COUNTER_SUFFIX: &str = "_total";

/// The name and value of a label. The encoder escapes the value.
pub(super) type Label<'a> = (&'a str, &'a str);

/// Writes everything that a collector encodes.
///
/// # Errors
/// The error of the sink. Nothing is written to it afterwards.
pub(super) fn write(collector: impl Collector, sink: &mut dyn io::Write) -> io::Result<()> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(collector));
    let mut sink = Sink { sink, written: Ok(()) };
    match prometheus_text::encode(&mut sink, &registry) {
        Ok(()) => Ok(()),
        Err(fmt::Error) => sink.written.and(Err(io::ErrorKind::Other.into())),
    }
}

/// Keeps the error that `fmt::Write` cannot pass on.
struct Sink<'a> {
    sink: &'a mut dyn io::Write,
    written: io::Result<()>,
}

impl fmt::Write for Sink<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.written = self.sink.write_all(text.as_bytes());
        self.written.as_ref().map_or(Err(fmt::Error), |()| Ok(()))
    }
}

/// Starts families. The header of a family is written even if no series follows.
pub(super) struct TextEncoder<'a>(DescriptorEncoder<'a>);

impl<'a> TextEncoder<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self(encoder)
    }

    /// Starts a family of counters. The name is complete, with the suffix for counters.
    pub(super) fn counter(&mut self, name: &'static str, help: &str) -> Result<Counter<'_>, fmt::Error> {
        let stem = name.strip_suffix(COUNTER_SUFFIX).unwrap_or(name);
        self.0.encode_descriptor(stem, help, None, MetricType::Counter).map(Counter)
    }

    pub(super) fn gauge(&mut self, name: &'static str, help: &str) -> Result<Gauge<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge).map(Gauge)
    }

    pub(super) fn histogram(&mut self, name: &'static str, help: &str) -> Result<Buckets<'_>, fmt::Error> {
        self.0.encode_descriptor(name, help, None, MetricType::Histogram).map(Buckets)
    }
}

/// A family of counters.
pub(super) struct Counter<'a>(MetricEncoder<'a>);

impl Counter<'_> {
    pub(super) fn series(
        &mut self,
        labels: &[Label<'_>],
        count: impl EncodeCounterValue + Copy,
    ) -> fmt::Result {
        self.0.encode_family(&labels)?.encode_counter::<NoLabelSet, _, f64>(&count, None)
    }
}

/// A family of gauges.
pub(super) struct Gauge<'a>(MetricEncoder<'a>);

impl Gauge<'_> {
    pub(super) fn series(
        &mut self,
        labels: &[Label<'_>],
        value: impl EncodeGaugeValue + Copy,
    ) -> fmt::Result {
        self.0.encode_family(&labels)?.encode_gauge(&value)
    }
}

/// A family of histograms.
pub(super) struct Buckets<'a>(MetricEncoder<'a>);

impl Buckets<'_> {
    pub(super) fn series(&mut self, labels: &[Label<'_>], histogram: &Histogram) -> fmt::Result {
        let buckets = histogram.buckets();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = histogram.sum().as_secs_f64();
        self.0.encode_family(&labels)?.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

/// 1 or 0.
pub(super) fn flag(value: bool) -> u32 {
    value.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const BOUNDS: [f64; 3] = [0.0001, 0.25, 1.0];

    #[derive(Debug)]
    struct Example;

    impl Collector for Example {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            let mut text = TextEncoder::new(encoder);
            let mut counter =
                text.counter("answers_total", "A backslash \\, a \"quote\" and\na second line.")?;
            counter.series(&[("pool", "a\\b"), ("backend", "say \"x\"\nand y")], u64::MAX)?;
            counter.series(&[("pool", ""), ("backend", "höhle\r\\n")], 0_u64)?;
            text.gauge("empty", "No series.")?;
            text.gauge("age_seconds", "Without labels.")?.series(&[], 1.5)?;
            let histogram = Histogram::new(&BOUNDS);
            for milliseconds in [1, 250, 900, 1500] {
                histogram.observe(Duration::from_millis(milliseconds));
            }
            text.histogram("lag_seconds", "Delay.")?.series(&[("pool", "\"")], &histogram)
        }
    }

    /// As the format requires: in label values backslash, double quote and newline are escaped, in HELP
    /// backslash and newline (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
    #[test]
    fn the_text_is_that_of_the_format() {
        let mut written = Vec::new();
        write(Example, &mut written).unwrap();
        let expected = r#"# HELP steerd_answers_total A backslash \\, a "quote" and\na second line.
# TYPE steerd_answers_total counter
steerd_answers_total{pool="a\\b",backend="say \"x\"\nand y"} 18446744073709551615
steerd_answers_total{pool="",backend="höhle?\\n"} 0
# HELP steerd_empty No series.
# TYPE steerd_empty gauge
# HELP steerd_age_seconds Without labels.
# TYPE steerd_age_seconds gauge
steerd_age_seconds 1.5
# HELP steerd_lag_seconds Delay.
# TYPE steerd_lag_seconds histogram
steerd_lag_seconds_bucket{pool="\"",le="0.0001"} 0
steerd_lag_seconds_bucket{pool="\"",le="0.25"} 2
steerd_lag_seconds_bucket{pool="\"",le="1"} 3
steerd_lag_seconds_bucket{pool="\"",le="+Inf"} 4
steerd_lag_seconds_sum{pool="\""} 2.651
steerd_lag_seconds_count{pool="\""} 4
"#;
        assert_eq!(String::from_utf8(written).unwrap(), expected.replace('?', "\r"));
    }

    #[test]
    fn nothing_is_written_after_an_error() {
        struct Full(usize);
        impl io::Write for Full {
            fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
                self.0 += 1;
                Err(io::ErrorKind::StorageFull.into())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        #[derive(Debug)]
        struct Endless;
        impl Collector for Endless {
            fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
                let mut text = TextEncoder::new(encoder);
                let mut gauge = text.gauge("endless", "Ends only with the sink.")?;
                loop {
                    gauge.series(&[("pool", "web")], 1)?;
                }
            }
        }

        let mut sink = Full(0);
        assert_eq!(write(Endless, &mut sink).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(sink.0, 1);
    }
}
