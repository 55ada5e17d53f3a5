//! Rankings of many clients.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::statistics::critical;
use crate::network::Network;
use crate::selection::chance::Chance;
use crate::selection::inclusion::{Candidate, MAX_ANSWERS, Spread};
use crate::selection::logarithm::negative_log2;
use crate::selection::persistent::{CandidateKey, ClientKey, Ranking};
use crate::selection::picked::Picked;
use crate::selection::ranked::{Bound, Ranked};

const SEED: u64 = 20_260_102;
const CLIENTS: u32 = 100_000;
const BACKENDS: u32 = 50;

fn client(address: impl Into<IpAddr>) -> ClientKey {
    ClientKey::new(Network::around(address.into(), 24, 56))
}

/// Adjacent networks, half of them IPv4.
fn clients() -> impl Iterator<Item = ClientKey> {
    (0..CLIENTS).map(|number| {
        if number % 2 == 0 {
            client(Ipv4Addr::from(0x0a00_0000 + (number << 7)))
        } else {
            client(Ipv6Addr::from((0x2001_0db8_0000_0000 + (u128::from(number) << 8)) << 64))
        }
    })
}

/// Candidates with these names and weights, each at the site that is the first character of its name.
fn named(backends: &[(String, u32)]) -> Vec<(CandidateKey, Candidate)> {
    let site = |name: &str| u32::from(name.as_bytes()[0]);
    let keyed = |(name, weight): &(String, u32)| {
        (CandidateKey::new(name, 0), Candidate { weight: *weight, site: site(name) })
    };
    backends.iter().map(keyed).collect()
}

/// Fifty backends with weights from 1 to 5 at five sites.
fn fifty() -> Vec<(String, u32)> {
    let name = |number: u32| format!("{}-{number}", ["a", "b", "c", "d", "e"][(number / 3 % 5) as usize]);
    (0..BACKENDS).map(|number| (name(number), number % 5 + 1)).collect()
}

/// The answer of each client.
fn answers(backends: &[(String, u32)], answers: usize, spread: Spread) -> Vec<Vec<u32>> {
    let ranking = Ranking::new(named(backends), answers, spread);
    let mut picked = Picked::default();
    clients()
        .map(|client| {
            ranking.pick(client, &mut picked);
            picked.indices().to_vec()
        })
        .collect()
}

/// Figures of an independent implementation, in Python, of the documented formula.
#[test]
fn other_programs_compute_the_same() {
    let backends = [("web1", 3), ("web2", 2), ("web3", 1)];
    let keyed = backends.map(|(name, weight)| (CandidateKey::new(name, 0), Candidate { weight, site: 0 }));
    let ranking = Ranking::new(keyed, 1, Spread::Shares);
    for (prefix, expected) in [
        (
            "192.0.2.0/24",
            [(0, 76_955_282_134_196_117), (2, 34_843_162_590_702_668), (1, 100_010_037_729_431_450)],
        ),
        (
            "198.51.100.0/24",
            [(2, 13_659_843_621_216_210), (0, 216_180_171_761_586_161), (1, 328_293_786_702_863_432)],
        ),
        (
            "203.0.113.0/24",
            [(1, 75_457_534_063_883_918), (2, 65_016_261_784_441_081), (0, 488_821_188_625_770_908)],
        ),
        (
            "2001:db8:0:100::/56",
            [(2, 111_092_992_878_893_614), (1, 261_766_245_105_607_552), (0, 545_686_402_675_117_704)],
        ),
    ] {
        let ranked = ranking.of_client(ClientKey::new(prefix.parse().unwrap()));
        let figures: Vec<(u32, u64)> = ranked.iter().map(|ranked| (ranked.index, ranked.logarithm)).collect();
        assert_eq!(figures, expected, "{prefix}");
    }
}

#[test]
fn a_lost_candidate_moves_only_its_own_clients_and_takes_only_them_back() {
    let backends = fifty();
    let lost = 17;
    let mut rest = backends.clone();
    rest[lost as usize].1 = 0;
    let before = answers(&backends, 4, Spread::Off);
    let without = answers(&rest, 4, Spread::Off);
    let mut moved = 0;
    for (before, without) in before.iter().zip(&without) {
        let kept: Vec<u32> = before.iter().copied().filter(|index| *index != lost).collect();
        assert_eq!(kept, without[..kept.len()], "the others keep their order");
        assert!(!without.contains(&lost));
        moved += u32::from(before[0] != without[0]);
        assert_eq!(before[0] == lost, before[0] != without[0]);
    }
    assert!(moved > 0);
    assert!(answers(&backends, 4, Spread::Off) == before, "after its return");

    // Absent from the list is the same as weight 0, apart from the indices.
    let mut absent = backends.clone();
    absent.remove(lost as usize);
    let shifted = |index: &u32| if *index < lost { *index } else { index + 1 };
    for (absent, without) in answers(&absent, 4, Spread::Off).iter().zip(&without) {
        assert!(absent.iter().map(shifted).eq(without.iter().copied()));
    }
}

#[test]
fn a_new_weight_moves_only_the_difference() {
    let mut backends = fifty();
    for (_, weight) in &mut backends {
        *weight *= 10;
    }
    let before = answers(&backends, 1, Spread::Shares);
    for (changed, weight) in [(20, 11), (20, 9), (24, 55), (24, 45)] {
        let mut other = backends.clone();
        other[changed as usize].1 = weight;
        let after = answers(&other, 1, Spread::Shares);
        let has = |answers: &[Vec<u32>]| answers.iter().filter(|answer| answer[0] == changed).count();
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
        let difference = has(&after).abs_diff(has(&before));
        assert_eq!(moved, difference, "{changed} with {weight}");
        let total =
            |backends: &[(String, u32)]| f64::from(backends.iter().map(|(_, weight)| weight).sum::<u32>());
        let share = |backends: &[(String, u32)]| f64::from(backends[changed as usize].1) / total(backends);
        let expected = (share(&other) - share(&backends)).abs() * f64::from(CLIENTS);
        let difference = f64::from(u32::try_from(difference).unwrap());
        assert!((difference - expected).abs() < 5.5 * expected.sqrt(), "{difference} instead of {expected}");
    }
}

/// Checks that the counts are in proportion to the weights.
fn assert_in_proportion(counts: &[u32], weights: &[u32]) {
    let (total, weight) = (f64::from(counts.iter().sum::<u32>()), f64::from(weights.iter().sum::<u32>()));
    let squares = counts.iter().zip(weights).map(|(count, own)| {
        let expected = total * f64::from(*own) / weight;
        if expected == 0.0 {
            assert_eq!(*count, 0);
            return 0.0;
        }
        (f64::from(*count) - expected).powi(2) / expected
    });
    let degrees = weights.iter().filter(|weight| **weight > 0).count() - 1;
    let chi_square: f64 = squares.sum();
    assert!(chi_square < critical(degrees), "{chi_square} with {degrees} degrees, of {total}");
}

#[test]
fn first_places_are_in_proportion_to_the_weights() {
    let counted = |backends: &[(String, u32)], place: usize, of: Option<u32>| {
        let mut counts = vec![0; backends.len()];
        for answer in answers(backends, 2, Spread::Off) {
            if of.is_none_or(|first| answer[0] == first) {
                counts[answer[place] as usize] += 1;
            }
        }
        counts
    };
    let backends = fifty();
    let mut weights: Vec<u32> = backends.iter().map(|(_, weight)| *weight).collect();
    assert_in_proportion(&counted(&backends, 0, None), &weights);
    // The clients of one candidate have the others as their next ones, in proportion too.
    let second = counted(&backends, 1, Some(49));
    weights[49] = 0;
    assert_in_proportion(&second, &weights);

    let uneven: Vec<(String, u32)> =
        [1_000_000, 1, 500_000, 3, 20_000, 7].iter().map(|weight| (format!("x{weight}"), *weight)).collect();
    let weights: Vec<u32> = uneven.iter().map(|(_, weight)| *weight).collect();
    let [first, _, second, _, third, _] = counted(&uneven, 0, None)[..] else { panic!("six of them") };
    assert_in_proportion(&[first, second, third], &[weights[0], weights[2], weights[4]]);

    let many: Vec<(String, u32)> = (0..1000).map(|number| (format!("m{number}"), number % 7 + 1)).collect();
    assert_in_proportion(
        &counted(&many, 0, None),
        &many.iter().map(|(_, weight)| *weight).collect::<Vec<_>>(),
    );
}

#[test]
fn the_order_of_the_list_does_not_matter() {
    let backends = fifty();
    let mut shuffled: Vec<(u32, (String, u32))> = (0..).zip(backends.clone()).collect();
    SmallRng::seed_from_u64(SEED).shuffle(&mut shuffled);
    let (numbers, other): (Vec<u32>, Vec<(String, u32)>) = shuffled.into_iter().unzip();
    for spread in [Spread::Off, Spread::Always] {
        let renamed = answers(&other, 7, spread);
        for (answer, renamed) in answers(&backends, 7, spread).iter().zip(renamed) {
            assert!(renamed.iter().map(|index| numbers[*index as usize]).eq(answer.iter().copied()));
        }
    }
}

#[test]
fn a_common_factor_of_the_weights_changes_nothing() {
    let backends = fifty();
    for factor in [3, 100, 20_000_000] {
        let scaled: Vec<(String, u32)> =
            backends.iter().map(|(name, weight)| (name.clone(), weight * factor)).collect();
        assert!(
            answers(&scaled, 3, Spread::Shares) == answers(&backends, 3, Spread::Shares),
            "times {factor}"
        );
    }
}

/// An answer as documented, made from the scores alone.
fn reference(all: &[Ranked], sites: &[u32], answers: usize, spread: Spread) -> Vec<u32> {
    let mut left: Vec<&Ranked> = all.iter().collect();
    left.sort_by(|a, b| {
        let product = |one: &Ranked, other: &Ranked| u128::from(one.logarithm) * u128::from(other.weight);
        product(a, b).cmp(&product(b, a))
    });
    let (mut answer, mut seen) = (Vec::new(), HashSet::new());
    while answer.len() < answers && !left.is_empty() {
        let is_new =
            |ranked: &&Ranked| spread != Spread::Off && !seen.contains(&sites[ranked.index as usize]);
        let next = left.remove(left.iter().position(is_new).unwrap_or(0));
        seen.insert(sites[next.index as usize]);
        answer.push(next.index);
    }
    answer
}

#[test]
fn answers_are_the_beginning_of_the_ranking_with_new_sites_first() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let mut picked = Picked::default();
    for round in 0..4000_u32 {
        let count = rng.random_range(0..if round % 100 == 0 { 400 } else { 20 });
        let sites = rng.random_range(1..=count.max(1));
        let candidates: Vec<(CandidateKey, Candidate)> = (0..count)
            .map(|number| {
                let candidate =
                    Candidate { weight: rng.random_range(0..4), site: rng.random_range(0..sites) };
                (CandidateKey::new("web", number), candidate)
            })
            .collect();
        let of_site: Vec<u32> = candidates.iter().map(|(_, candidate)| candidate.site).collect();
        let spread = [Spread::Shares, Spread::Always, Spread::Off][(round % 3) as usize];
        let limit = rng.random_range(0..=count as usize + 2);
        let client = client(Ipv4Addr::from(round << 8));
        let ranking = Ranking::new(candidates.iter().copied(), limit, spread);
        ranking.pick(client, &mut picked);
        let all = ranking.of_client(client);
        assert_eq!(all.len(), candidates.iter().filter(|(_, candidate)| candidate.weight > 0).count());
        let indices: Vec<u32> = all.iter().map(|ranked| ranked.index).collect();
        assert_eq!(picked.indices().len(), ranking.answers());
        assert_eq!(picked.indices(), &indices[..ranking.answers()]);
        if ranking.answers() > 1 {
            assert_eq!(picked.indices(), reference(&all, &of_site, limit.min(MAX_ANSWERS), spread));
        }
    }
}

/// The bound that spares most logarithms never hides a candidate.
#[test]
fn a_candidate_that_is_surely_behind_is_behind() {
    let mut rng = SmallRng::seed_from_u64(SEED);
    let (mut surely, mut behind) = (0, 0);
    for round in 0..300_000_u32 {
        let mut random = || {
            let weight = (rng.random_range(1..=100_000_000_u32) >> (round % 27)).max(1);
            // Hashes near 2^64 have the lowest scores.
            let hash = (u64::MAX - (rng.random::<u64>() >> rng.random_range(0..64))) | 1;
            (hash, Ranked { weight, logarithm: negative_log2(hash), ..Ranked::default() })
        };
        let ((_, first), (hash, second)) = (random(), random());
        let is_surely = Bound::of(Some(&first)).rules_out(hash, second.weight);
        assert!(!is_surely || first.is_before(&second), "{first:?} {second:?}");
        surely += u32::from(is_surely);
        behind += u32::from(first.is_before(&second));
    }
    assert!(surely > behind / 2, "{surely} of {behind}");
}
