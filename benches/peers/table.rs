//! The table: medians over the rounds, with their confidence intervals.

use crate::cases::Case;
use crate::load::Measurement;
use crate::measure::{float, quantile};
use crate::servers::Software;

/// All measurements of a server in a case, one per round, and the lengths of its answers.
pub(crate) struct Row {
    pub(crate) case: Case,
    pub(crate) software: Software,
    pub(crate) lengths: (usize, usize),
    pub(crate) rounds: Vec<Measurement>,
}

impl Row {
    fn median(&self, value: impl Fn(&Measurement) -> f64) -> f64 {
        quantile(&mut self.rounds.iter().map(value).collect::<Vec<f64>>(), 0.5)
    }

    fn costs(&self) -> Vec<f64> {
        self.rounds.iter().map(|measured| measured.cost).collect()
    }

    /// The ratios of the costs to another server's, round by round, so that load on a whole round cancels out.
    fn ratios(&self, other: &Self) -> Vec<f64> {
        self.rounds.iter().zip(&other.rounds).map(|(own, other)| own.cost / other.cost).collect()
    }
}

/// Prints all rows, which are in the order of the cases.
pub(crate) fn print(rows: &[Row]) {
    let rounds = rows.iter().map(|row| row.rounds.len()).min().unwrap_or_default();
    if rounds > 0 {
        println!(
            "Median of {rounds} rounds [{}]. us: CPU time of all processes of the server",
            trust(rounds)
        );
        println!("per right answer. lost: queries without a right answer.");
        println!();
    }
    println!("| case | server | queries/s | lost | us per query | x echo | x best peer | answer, bytes |");
    println!("|---|---|---|---|---|---|---|---|");
    for row in rows {
        let of_case = || rows.iter().filter(|other| other.case == row.case);
        let echo = of_case().find(|other| other.software == Software::Echo);
        let best = of_case()
            .filter(|other| other.software.is_peer())
            .min_by(|one, other| one.median(|round| round.cost).total_cmp(&other.median(|round| round.cost)));
        let ratio = |other: Option<&Row>| other.map_or("-".into(), |other| shown(row.ratios(other)));
        let (least, most) = row.lengths;
        println!(
            "| {} | {} | {:.0} | {:.2} % | {} | {} | {} | {} |",
            row.case.name,
            row.software.name(),
            row.median(|round| round.rate),
            row.median(|round| round.lost) * 100.0,
            shown(row.costs()),
            ratio(echo),
            ratio(best),
            if least == most { least.to_string() } else { format!("{least} to {most}") },
        );
    }
}

/// A median with its interval.
fn shown(mut values: Vec<f64>) -> String {
    let median = quantile(&mut values, 0.5);
    let outside = outside(values.len());
    match (values.get(outside), values.iter().rev().nth(outside)) {
        (Some(least), Some(most)) => format!("{median:.2} [{least:.2}, {most:.2}]"),
        _ => "-".into(),
    }
}

/// How many of the sorted values to leave out at each end, so that the true median lies between the others with a
/// probability of at least 95 %. Whatever the distribution, each value is above or below it with equal probability.
/// Fewer than 6 values cannot reach 95 %, and none is left out.
fn outside(count: usize) -> usize {
    (1..count.div_ceil(2)).take_while(|&outside| beyond(count, outside) <= 0.05).last().unwrap_or(0)
}

/// The probability that the median lies outside the other values when this many are left out at each end.
fn beyond(count: usize, outside: usize) -> f64 {
    let count = float(count as u64);
    let mut probability = 0.5_f64.powf(count);
    let mut sum = 0.0;
    for heads in 0..=outside {
        let heads = float(heads as u64);
        sum += probability;
        probability *= (count - heads) / (heads + 1.0);
    }
    2.0 * sum
}

/// The meaning of the interval.
fn trust(rounds: usize) -> String {
    let inside = 1.0 - beyond(rounds, outside(rounds));
    format!("interval that holds the median with {:.0} %", (inside * 100.0).floor())
}
