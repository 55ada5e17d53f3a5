//! The expected hits of each site, if every answer must spread over sites.

/// A site that has candidates of positive weight.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// The sum of their weights.
    pub(super) weight: u64,
    /// The number of its candidates.
    pub(super) count: u64,
}

/// How many answers a site gets on average.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clip {
    Least,
    Proportional,
    Most,
}

/// The expected hits of each site, in units of one over the returned denominator. Their sum is
/// `answers`, which is at least 1 and at most the number of candidates.
///
/// A site expects `c x weight` hits. This is clipped to at most 1 if there is a site for each
/// answer, otherwise to the range from 1 to its number of candidates. The sum grows with `c`, and
/// bends where a site reaches a limit. It is linear between two bends, so `c` is exact: the hits
/// that remain after the clipped sites, divided by the weight of the others.
pub(super) fn expected_hits(sites: &[Site], answers: u64) -> (Vec<u64>, u64) {
    let least = u64::from(answers > sites.len() as u64);
    let most = |site: &Site| if least == 0 { 1 } else { site.count };
    // A bend is the value of `c` at which a site reaches a limit: the limit divided by the weight.
    let mut bends: Vec<(u64, u64)> =
        sites.iter().flat_map(|site| [(least, site.weight), (most(site), site.weight)]).collect();
    let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
    bends.sort_unstable_by(|a, b| product(a.0, b.1).cmp(&product(b.0, a.1)));

    // How each site is clipped between the previous bend and this one.
    let clip = |site: &Site, bend: (u64, u64)| {
        let reaches = product(bend.0, site.weight);
        if reaches <= product(least, bend.1) {
            Clip::Least
        } else if reaches > product(most(site), bend.1) {
            Clip::Most
        } else {
            Clip::Proportional
        }
    };
    // The hits of the clipped sites, and the weight of the others.
    let split = |bend: (u64, u64)| {
        sites.iter().fold((0, 0), |(hits, weight), site| match clip(site, bend) {
            Clip::Least => (hits + least, weight),
            Clip::Most => (hits + most(site), weight),
            Clip::Proportional => (hits, weight + site.weight),
        })
    };
    let too_small = |bend: &(u64, u64)| {
        let (hits, weight) = split(*bend);
        product(hits, bend.1) + product(bend.0, weight) < product(answers, bend.1)
    };
    let Some(&bend) = bends.get(bends.partition_point(too_small)) else { return (vec![0; sites.len()], 1) };
    let (hits, weight) = split(bend);
    let expected = |site: &Site| match clip(site, bend) {
        Clip::Least => least * weight,
        Clip::Most => most(site) * weight,
        Clip::Proportional => (answers - hits) * site.weight,
    };
    (sites.iter().map(expected).collect(), weight)
}
