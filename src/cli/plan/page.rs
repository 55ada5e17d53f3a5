//! The figures of a plan as text.

use std::fmt::Write;
use std::time::Duration;

use super::checks::Found;
use super::figures::{Figures, Loss, PARTS};
use crate::cli::columns::{Cell, render as columns};
use crate::duration::Shown;
use crate::plan::Delay;
use crate::pool::{Family, Require};

/// The most sites in a line.
const SHOWN: usize = 4;

pub(super) fn render(figures: &Figures) -> String {
    let mut text = head(figures);
    let mut rows = vec![cells(["FOUND", "EARLIEST", "TYPICALLY", "LATEST"])];
    let mut row = |what: &str, Delay { least, typical, most }: Delay| {
        rows.push(cells([what, &shown(least), &shown(typical), &shown(most)]));
    };
    match &figures.found {
        Some(Found { refuses, silent, recovered, slowest }) => {
            row("a backend that refuses", *refuses);
            row("a backend that is silent", *silent);
            row("a backend that works again", *recovered);
            if let Some(slowest) = slowest {
                row("a fault that only the slowest check sees", *slowest);
            }
            let _ = write!(
                text,
                "\n\n{}\njitter, which is left out, delays a probe by up to {}",
                columns(&rows, false),
                Shown(figures.jitter)
            );
        }
        None => text.push_str("\n\nno check decides: a failed backend is never found"),
    }
    let _ = write!(text, "\n\n{}", moved(figures));
    let _ = write!(
        text,
        "\n\n{} clients behind {} resolvers, each client with a look-up a minute: {} queries a second for A and AAAA",
        figures.clients,
        figures.resolvers,
        significant(figures.queries),
    );
    if let Some(ttl) = figures.nodata_ttl {
        let other = if figures.family == Family::Ipv4 { "AAAA" } else { "A" };
        let _ = write!(text, "; {other} has no address, and resolvers keep that for {}", Shown(ttl));
    }
    text.push_str("\n\nanswers with dead addresses only, until the failure is found:");
    // Sites of one size are lost alike.
    let mut alike: Vec<(&Loss, Vec<&str>)> = Vec::new();
    for loss in &figures.losses {
        let same = |(known, _): &&mut (&Loss, Vec<&str>)| {
            known.site.is_some() && loss.site.is_some() && of_loss(known, "", 0) == of_loss(loss, "", 0)
        };
        let site = loss.site.as_deref().unwrap_or_default();
        match alike.iter_mut().find(same) {
            Some((_, sites)) => sites.push(site),
            None => alike.push((loss, vec![site])),
        }
    }
    for (loss, sites) in alike {
        let shown = sites.iter().take(SHOWN).copied().collect::<Vec<_>>().join(" or ");
        let more = if sites.len() > SHOWN { " or another" } else { "" };
        let _ = write!(text, "\n  {}", of_loss(loss, &format!("{shown}{more}"), figures.backends));
    }
    text
}

fn head(figures: &Figures) -> String {
    let Figures { backends, sites, answers, ttl, .. } = figures;
    let mut text = figures.name.as_ref().map_or_else(String::new, |name| format!("{name}: "));
    let _ = write!(text, "{}", counted(*backends, "backend"));
    if *sites > 0 {
        let _ = write!(text, " in {}, spread {}", counted(*sites, "site"), figures.spread.as_str());
    }
    let _ = write!(text, "; {answers} in an answer, TTL {}", Shown(*ttl));
    if figures.timings.len() > 1 {
        let required = match figures.require {
            Require::All => "all must pass".to_owned(),
            Require::AtLeast(least) => format!("{least} must pass"),
        };
        let _ = write!(text, "\n{} decide, {required}", counted(figures.timings.len(), "check"));
    }
    for timing in &figures.timings {
        let _ = write!(
            text,
            "\nchecks every {}, timeout {}, recheck {}, fall {}, rise {}",
            Shown(timing.interval),
            Shown(timing.timeout),
            Shown(timing.recheck),
            timing.fall,
            timing.rise,
        );
    }
    text
}

/// The times until clients have moved, after the change and after the failure.
fn moved(figures: &Figures) -> String {
    let head = PARTS.map(|part| format!("{part} %"));
    let mut rows = vec![cells([&format!("CLIENTS MOVED ({})", figures.mix), &head[0], &head[1], &head[2]])];
    let mut row = |what: &str, after: Duration| {
        let [half, most, nearly] = figures.moved.map(|time| shown(after + time));
        rows.push(cells([what, &half, &most, &nearly]));
    };
    row("after the answers have changed", Duration::ZERO);
    if let Some(Found { refuses, silent, .. }) = &figures.found {
        row("after a backend refuses, typically", refuses.typical);
        row("after a backend is silent, typically", silent.typical);
    }
    columns(&rows, false)
}

fn of_loss(loss: &Loss, sites: &str, backends: usize) -> String {
    let at_most = if loss.is_exact { "" } else { "at most " };
    let part = percent(loss.part);
    let dead = format!("{} of {}", loss.dead, counted(backends, "backend"));
    match loss.site {
        Some(_) => format!("{sites} is lost, {dead}: {at_most}{part}"),
        None => format!("any {dead} fail: {at_most}{part}"),
    }
}

fn cells(texts: [&str; 4]) -> Vec<Cell> {
    texts.map(Cell::plain).into()
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// A time to a tenth of a second, or above a minute to the second.
fn shown(time: Duration) -> String {
    let unit = if time < Duration::from_secs(60) { 100 } else { 1000 };
    let rounded = (time.as_millis() + unit / 2) / unit * unit;
    Shown(Duration::from_millis(u64::try_from(rounded).unwrap_or(u64::MAX))).to_string()
}

/// A number with two significant digits, or whole above 10.
fn significant(number: f64) -> String {
    let mut digits = 0;
    let mut scaled = number;
    while scaled > 0.0 && scaled < 10.0 && digits < 12 {
        scaled *= 10.0;
        digits += 1;
    }
    let text = format!("{number:.digits$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn percent(part: f64) -> String {
    if part == 0.0 {
        return "none".to_owned();
    }
    format!("{} %", significant(part * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_two_significant_digits() {
        for (number, text) in [
            (33.333, "33"),
            (9.0909, "9.1"),
            (0.9091, "0.91"),
            (0.0045, "0.0045"),
            (10.0, "10"),
            (1.0, "1"),
            (0.0, "0"),
            (1234.5, "1234"),
        ] {
            assert_eq!(significant(number), text, "{number}");
        }
        assert_eq!(percent(0.0), "none");
        assert_eq!(percent(0.01), "1 %");
    }

    #[test]
    fn times_are_rounded() {
        for (millis, text) in
            [(4500, "4.5s"), (13_333, "13.3s"), (60_333, "1m"), (901_600, "15m2s"), (0, "0s")]
        {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
