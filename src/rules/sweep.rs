//! Compiles rules into ranges: goes through the address space once, and notes where another rule becomes the first
//! that applies.

use std::collections::HashMap;

use super::ranges::{AddressNumber, NO_RULE, RuleRanges, RuleRangesBuilder};
use super::{Conditions, GeoLayer, GeoRecord};

/// A set of rules.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RuleSet(Box<[u64]>);

impl RuleSet {
    /// A set for `count` rules, with none in it.
    pub(super) fn none(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)].into())
    }

    fn of(count: usize, is_member: impl Fn(usize) -> bool) -> Self {
        let mut set = Self::none(count);
        for rule in (0..count).filter(|rule| is_member(*rule)) {
            set.put(rule, true);
        }
        set
    }

    pub(super) fn put(&mut self, rule: usize, is_member: bool) {
        if let Some(word) = self.0.get_mut(rule / 64) {
            let bit = 1 << (rule % 64);
            *word = if is_member { *word | bit } else { *word & !bit };
        }
    }

    pub(super) fn has(&self, rule: usize) -> bool {
        self.0.get(rule / 64).is_some_and(|word| word >> (rule % 64) & 1 == 1)
    }

    /// The first rule that is in both sets, or [`NO_RULE`].
    fn first_common(&self, other: &Self) -> u16 {
        let words = self.0.iter().zip(&other.0).map(|(one, other)| one & other);
        let found = words.zip(0_u32..).find(|(word, _)| *word != 0);
        found
            .and_then(|(word, index)| u16::try_from(index * 64 + word.trailing_zeros()).ok())
            .unwrap_or(NO_RULE)
    }
}

/// Compiles the rules for one family, and adds the rules that apply anywhere to `used`.
pub(super) fn sweep<A: AddressNumber>(
    rules: &[Conditions],
    layers: &[GeoLayer],
    used: &mut RuleSet,
) -> RuleRanges<A> {
    let mut near =
        RuleSet::of(rules.len(), |rule| rules.get(rule).is_some_and(|rule| rule.networks.is_none()));
    let mut changes = changes::<A>(rules).into_iter().peekable();
    let geography = Geography::<A>::new(rules, layers);
    let mut classes = geography.cuts.into_iter().peekable();
    let mut accepted = RuleSet::none(rules.len());
    let mut ranges = RuleRangesBuilder::new();
    let starts = |change: Option<A>, class: Option<A>| match (change, class) {
        (Some(change), Some(class)) => Some(change.min(class)),
        (change, class) => change.or(class),
    };
    while let Some(start) =
        starts(changes.peek().map(|change| change.at), classes.peek().map(|(start, _)| *start))
    {
        while let Some(change) = changes.next_if(|change| change.at == start) {
            near.put(change.rule.into(), change.begins);
        }
        if let Some((_, class)) = classes.next_if(|(at, _)| *at == start)
            && let Some(set) = geography.sets.get(class)
        {
            accepted.clone_from(set);
        }
        let rule = near.first_common(&accepted);
        if rule != NO_RULE {
            used.put(rule.into(), true);
        }
        ranges.begin(start, rule);
    }
    ranges.finish()
}

/// An address from which the networks of a rule contain the client, or no longer do.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct NetworkEdge<A> {
    at: A,
    rule: u16,
    begins: bool,
}

/// The changes of all rules, in ascending order. Each rule alternates: its networks are united first.
fn changes<A: AddressNumber>(rules: &[Conditions]) -> Vec<NetworkEdge<A>> {
    let mut changes = Vec::new();
    for (conditions, rule) in rules.iter().zip(0..) {
        let networks = conditions.networks.iter().flatten();
        let mut spans: Vec<(A, A)> =
            networks.filter_map(|network| Some((A::of(network.first())?, A::of(network.last())?))).collect();
        spans.sort_unstable();
        // The address after the networks so far. The end of the family has none, and ends the list.
        let mut spans = spans.into_iter().peekable();
        while let Some((first, mut last)) = spans.next() {
            changes.push(NetworkEdge { at: first, rule, begins: true });
            let after = loop {
                let after = last.next();
                let Some((_, further)) =
                    spans.next_if(|(start, _)| after.is_none_or(|after| *start <= after))
                else {
                    break after;
                };
                last = last.max(further);
            };
            changes.extend(after.map(|at| NetworkEdge { at, rule, begins: false }));
        }
    }
    changes.sort_unstable();
    changes
}

/// The address space, cut where other rules accept the geography of addresses.
struct Geography<A> {
    /// Indices into `sets`, each from the address where it begins; the first at the start of the family.
    cuts: Vec<(A, usize)>,
    /// Without duplicates.
    sets: Vec<RuleSet>,
}

impl<A: AddressNumber> Geography<A> {
    fn new(rules: &[Conditions], layers: &[GeoLayer]) -> Self {
        let mut classes =
            Classes { rules, of_record: HashMap::new(), of_set: HashMap::new(), sets: Vec::new() };
        let mut cuts = vec![(A::FIRST, classes.of(GeoRecord::default()))];
        let mut layers: Vec<_> =
            layers.iter().map(|layer| (layer, A::cuts(layer).peekable(), GeoRecord::default())).collect();
        while let Some(start) = layers.iter_mut().filter_map(|(_, cuts, _)| Some(cuts.peek()?.0)).min() {
            let mut whole = GeoRecord::default();
            for (layer, layer_cuts, record) in &mut layers {
                while let Some((_, index)) = layer_cuts.next_if(|(at, _)| *at <= start) {
                    *record = layer.record(index);
                }
                whole = whole.or(record);
            }
            let class = classes.of(whole);
            match cuts.last_mut() {
                Some((at, last)) if *at == start => *last = class,
                Some((_, last)) if *last == class => {}
                _ => cuts.push((start, class)),
            }
        }
        Self { cuts, sets: classes.sets }
    }
}

/// The sets of rules that accept a record, each with a number.
struct Classes<'r> {
    rules: &'r [Conditions],
    of_record: HashMap<GeoRecord, usize>,
    of_set: HashMap<RuleSet, usize>,
    sets: Vec<RuleSet>,
}

impl Classes<'_> {
    fn of(&mut self, record: GeoRecord) -> usize {
        let Self { rules, of_record, of_set, sets } = self;
        *of_record.entry(record).or_insert_with(|| {
            let set =
                RuleSet::of(rules.len(), |rule| rules.get(rule).is_some_and(|rule| rule.accepts(&record)));
            *of_set.entry(set.clone()).or_insert_with(|| {
                sets.push(set);
                sets.len() - 1
            })
        })
    }
}
