//! Inclusions of rankings: formulas against many clients.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::float;
use super::statistics::FAIR;
use crate::network::Network;
use crate::selection::inclusion::{Candidate, Spread};
use crate::selection::persistent::{CandidateKey, ClientKey, Ranking};
use crate::selection::picked::Picked;
use crate::selection::race::ranked_probabilities;

const CLIENTS: u32 = 10_000;

/// The largest deviation of an inclusion or a first place from its probability, in standard deviations.
fn deviation(candidates: &[Candidate], answers: usize, spread: Spread, seed: u32) -> f64 {
    let keyed =
        (0..).map(|number| CandidateKey::new(&format!("race{seed}"), number)).zip(candidates.iter().copied());
    let ranking = Ranking::new(keyed, answers, spread);
    let (mut included, mut first) = (vec![0_u32; candidates.len()], vec![0_u32; candidates.len()]);
    let mut picked = Picked::default();
    for number in 0..CLIENTS {
        let prefix = Network::around(std::net::Ipv4Addr::from(number << 8).into(), 24, 56);
        ranking.pick(ClientKey::new(prefix), &mut picked);
        for index in picked.indices() {
            included[*index as usize] += 1;
        }
        if let Some(index) = picked.indices().first() {
            first[*index as usize] += 1;
        }
    }
    let clients = f64::from(CLIENTS);
    let sigmas = |count: u32, chance: f64| {
        (f64::from(count) - clients * chance).abs() / (clients * chance * (1.0 - chance)).sqrt().max(0.5)
    };
    let probabilities = ranked_probabilities(candidates, answers, spread);
    let each =
        probabilities.iter().zip(included.iter().zip(&first)).flat_map(|(probability, (included, first))| {
            [sigmas(*included, float(probability.included)), sigmas(*first, float(probability.first))]
        });
    each.fold(0.0, f64::max)
}

#[test]
fn inclusions_are_those_of_many_clients() {
    let mut rng = SmallRng::seed_from_u64(20_260_103);
    for round in 0..60_u32 {
        let count = rng.random_range(1..12);
        let sites = rng.random_range(1..=count);
        let heaviest = [2, 5, 1000, 1_000_000][(round % 4) as usize];
        let candidates: Vec<Candidate> = (0..count)
            .map(|_| Candidate { weight: rng.random_range(0..heaviest), site: rng.random_range(0..sites) })
            .collect();
        let spread = [Spread::Off, Spread::Shares][(round / 4 % 2) as usize];
        let answers = rng.random_range(1..=count as usize);
        let deviation = deviation(&candidates, answers, spread, round);
        assert!(deviation < FAIR, "{deviation} standard deviations: {answers} of {candidates:?}, {spread:?}");
    }
}

/// The sum of all inclusions is the number of answers, also for many candidates, many answers and far apart weights.
#[test]
fn inclusions_add_up() {
    let of = |weights: &[u32], sites: u32| {
        let site = |index: usize| u32::try_from(index).unwrap() % sites;
        (weights.iter().enumerate())
            .map(|(index, weight)| Candidate { weight: *weight, site: site(index) })
            .collect::<Vec<_>>()
    };
    let many: Vec<u32> = (1..=200).collect();
    for (weights, sites, answers) in [
        (&[1, 1_000_000, 100_000_000][..], 3, 2),
        (&[100_000_000, 1, 1, 1, 1, 1, 1], 2, 4),
        (&[7; 250], 1, 100),
        (&many, 200, 4),
        (&many, 50, 8),
        (&many, 1, 16),
        (&many[..40], 3, 5),
    ] {
        let candidates = of(weights, sites);
        let probabilities = ranked_probabilities(&candidates, answers, Spread::Shares);
        let sum: f64 = probabilities.iter().map(|probability| float(probability.included)).sum();
        let expected = f64::from(u32::try_from(answers).unwrap());
        assert!(
            (sum / expected - 1.0).abs() < 1e-4,
            "{sum} of {answers}, {} at {sites} sites",
            weights.len()
        );
        let first: f64 = probabilities.iter().map(|probability| float(probability.first)).sum();
        assert!((first - 1.0).abs() < 1e-9, "{first}");
    }
}

/// Without a bound, this would take minutes.
#[test]
fn many_different_weights_and_answers_take_bounded_work() {
    let candidates: Vec<Candidate> =
        (0..1000).map(|index| Candidate { weight: 1 + index * 7919 % 100_003, site: index % 3 }).collect();
    let probabilities = ranked_probabilities(&candidates, 16, Spread::Shares);
    let included: f64 = probabilities.iter().map(|probability| probability.included.as_float()).sum();
    assert!((included - 16.0).abs() < 0.2, "{included}");
    let first: f64 = probabilities.iter().map(|probability| probability.first.as_float()).sum();
    assert!((first - 1.0).abs() < 1e-9, "{first}");
}
