//! The expiry of certificates: a metric, a field of the status, and one line in the log.

use super::*;
use crate::check::{TlsProbe, TlsSettings};

const DAY: Duration = Duration::from_secs(86_400);

fn tls(timing: Timing) -> Check {
    Check::new(Probe::Tls(TlsProbe::handshake(443, TlsSettings::default())), timing)
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_certificate_is_shown_and_told_once() {
    let (log, _guard) = CapturedLog::listen();
    let (metrics, script) = (Arc::new(Metrics::new(1)), Script::default());
    // The time of day of a script is in 2023, on November 14.
    let now = script.wall();
    script.certificate("192.0.2.1", now + DAY * 100);
    script.certificate("192.0.2.2", now + DAY * 20);
    let mut web = pool_of("web", tls(DEFAULTS), &["192.0.2.1", "192.0.2.2", "192.0.2.3"]);
    web.checks.push(check(DEFAULTS));
    let handle = start_with(setup(vec![web.clone()], vec![]), CAPACITY, Arc::clone(&metrics), script.clone());
    ready(&handle).await;
    tokio::time::sleep(SECOND * 60).await;
    let seconds = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let line = |address: &str, at: SystemTime| {
        format!(
            "steerd_certificate_expiry_timestamp_seconds{{pool=\"web\",backend=\"{address}\",address=\"{address}\",\
             check=\"tls\"}} {}\n",
            seconds(at)
        )
    };
    let shown = || metrics.render(&handle.published.load());
    let text = shown();
    assert!(text.contains(&line("192.0.2.1", now + DAY * 100)), "{text}");
    assert!(text.contains(&line("192.0.2.2", now + DAY * 20)), "{text}");
    assert_eq!(text.matches("steerd_certificate_expiry_timestamp_seconds{").count(), 2, "{text}");
    let told = pool_told(&handle, 0).await;
    let expires =
        |backend: usize, check: usize| told.backends[backend].addresses[0].checks[check].certificate_expires;
    assert_eq!(expires(0, 0), Some(now + DAY * 100));
    assert_eq!((expires(0, 1), expires(2, 0)), (None, None), "a check without TLS, and one that saw none");
    let lines = log.take("certificate expires on");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in ["WARN", "on 2023-12-04", "pool=\"web\"", "192.0.2.2", "check=\"tls\""] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    // One is renewed, and another has expired.
    script.certificate("192.0.2.2", now + DAY * 200);
    script.certificate("192.0.2.1", now - DAY);
    tokio::time::sleep(SECOND * 60).await;
    assert!(shown().contains(&line("192.0.2.2", now + DAY * 200)), "{}", shown());
    let lines = log.take("certificate expire");
    assert!(lines.len() == 1 && lines[0].contains("expired on 2023-11-13"), "{lines:?}");
}
