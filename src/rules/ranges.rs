//! The address space of one family, cut into ranges with one rule each: the look-up of an address, and the widest
//! prefix that lies within a range.

use std::net::IpAddr;

use super::{GeoLayer, RuleMatch};

/// Stands for "no rule".
pub(super) const NO_RULE: u16 = u16::MAX;
/// The index has at most 2^16 places, of 4 bytes.
const MAX_INDEX_BITS: u32 = 16;
/// The index has one place for about 2^3 ranges, so it is small beside them.
const RANGE_BITS: u32 = 3;

/// An address as a number: a whole one, or the first half of an IPv6 address.
pub(super) trait AddressNumber: Copy + Ord {
    /// The first address of the family.
    const FIRST: Self;
    /// From an address; `None` if it belongs to the other family.
    fn of(address: IpAddr) -> Option<Self>;
    /// The address after this one; `None` after the last.
    fn next(self) -> Option<Self>;
    /// The address before this one; the last one before the first.
    fn previous(self) -> Self;
    /// How many leading bits two addresses have in common.
    fn common_bits(self, other: Self) -> u32;
    /// The distance from `low`, in units of 2^`shift`, and at most `most`; `None` if this is less than `low`.
    fn distance(self, low: Self, shift: u32, most: u32) -> Option<u32>;
    /// The number of significant bits of the distance from `low`.
    fn distance_bits(self, low: Self) -> u32;
    /// Where the records of a geographic database change.
    fn cuts(layer: &GeoLayer) -> impl Iterator<Item = (Self, u32)>;
}

macro_rules! address {
    ($number:ty, $of:expr, $cuts:expr) => {
        impl AddressNumber for $number {
            const FIRST: Self = 0;

            fn of(address: IpAddr) -> Option<Self> {
                $of(address)
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }

            fn previous(self) -> Self {
                self.wrapping_sub(1)
            }

            #[inline]
            fn common_bits(self, other: Self) -> u32 {
                (self ^ other).leading_zeros()
            }

            #[inline]
            fn distance(self, low: Self, shift: u32, most: u32) -> Option<u32> {
                let units = self.checked_sub(low)?.checked_shr(shift).unwrap_or(0);
                Some(u32::try_from(units).map_or(most, |units| units.min(most)))
            }

            fn distance_bits(self, low: Self) -> u32 {
                Self::BITS - self.saturating_sub(low).leading_zeros()
            }

            fn cuts(layer: &GeoLayer) -> impl Iterator<Item = (Self, u32)> {
                $cuts(layer)
            }
        }
    };
}

address!(u32, ipv4_bits, GeoLayer::ipv4);
address!(u64, |address| ipv6_bits(address).map(first_half), ipv6_halves);
address!(u128, ipv6_bits, GeoLayer::ipv6);

fn ipv4_bits(address: IpAddr) -> Option<u32> {
    match address {
        IpAddr::V4(address) => Some(address.to_bits()),
        IpAddr::V6(_) => None,
    }
}

fn ipv6_bits(address: IpAddr) -> Option<u128> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => Some(address.to_bits()),
    }
}

fn ipv6_halves(layer: &GeoLayer) -> impl Iterator<Item = (u64, u32)> {
    layer.ipv6().map(|(start, record)| (first_half(start), record))
}

/// The first half of an IPv6 address.
#[inline]
#[allow(clippy::cast_possible_truncation, reason = "64 bits are left")]
pub(super) fn first_half(bits: u128) -> u64 {
    (bits >> 64) as u64
}

/// Ranges of addresses. A range ends where the next one starts, and neighbours have different rules.
#[derive(PartialEq, Eq)]
pub(super) struct RuleRanges<A> {
    /// The first address of each range, in ascending order; the first is that of the family.
    starts: Vec<A>,
    /// The rule of each range, or [`NO_RULE`].
    rules: Vec<u16>,
    index: Index<A>,
}

/// Where to search for an address. The places divide the span from the second range to the last one evenly: networks
/// are often close together, so places over the whole family would be of little use.
#[derive(PartialEq, Eq)]
struct Index<A> {
    /// The start of the second range.
    low: A,
    /// A place has 2^`shift` addresses.
    shift: u32,
    /// The number of the last place.
    most: u32,
    /// For each place, how many ranges start before it; at the end, how many there are. The first range, before
    /// `low`, does not belong to a place.
    counts: Vec<u32>,
}

impl<A: AddressNumber> Index<A> {
    fn new(starts: &[A]) -> Self {
        let (Some(low), Some(high)) = (starts.get(1).copied(), starts.last()) else {
            return Self { low: A::FIRST, shift: 0, most: 0, counts: Vec::new() };
        };
        let bits = starts.len().ilog2().saturating_sub(RANGE_BITS).min(MAX_INDEX_BITS);
        let shift = high.distance_bits(low).saturating_sub(bits);
        let most = high.distance(low, shift, u32::MAX).unwrap_or(0);
        let mut counts = vec![0; most as usize + 2];
        for start in starts {
            let after = start.distance(low, shift, most).map_or(0, |place| place as usize + 1);
            if let Some(count) = counts.get_mut(after) {
                *count += 1;
            }
        }
        let mut before = 0;
        for count in &mut counts {
            before += *count;
            *count = before;
        }
        Self { low, shift, most, counts }
    }

    /// The last range that starts before the place of an address, and the number of ranges that start before the
    /// next place: the range of the address is one of these.
    #[inline]
    fn search(&self, address: A) -> (usize, usize) {
        let Some(place) = address.distance(self.low, self.shift, self.most) else { return (0, 1) };
        let count = |place: usize| self.counts.get(place).map_or(1, |count| *count as usize);
        (count(place as usize) - 1, count(place as usize + 1))
    }
}

impl<A: AddressNumber> RuleRanges<A> {
    /// The rule of an address, and the widest prefix around it within its range.
    #[inline]
    pub(super) fn find(&self, address: A) -> RuleMatch {
        let (first, end) = self.index.search(address);
        let later = self.starts.get(first + 1..end).unwrap_or(&[]);
        let range = first + later.partition_point(|start| *start <= address);
        // The prefix must be longer than all that the address has in common with an address outside the range.
        let mut scope = 0;
        if range > 0
            && let Some(start) = self.starts.get(range)
        {
            scope = address.common_bits(start.previous()) + 1;
        }
        if let Some(after) = self.starts.get(range + 1) {
            scope = scope.max(address.common_bits(*after) + 1);
        }
        let rule = self.rules.get(range).copied().filter(|rule| *rule != NO_RULE);
        #[allow(clippy::cast_possible_truncation, reason = "an address has at most 128 bits")]
        RuleMatch { rule, scope: scope as u8 }
    }

    pub(super) fn count(&self) -> usize {
        self.starts.len()
    }

    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.starts) + size_of_val(&*self.rules) + size_of_val(&*self.index.counts)
    }
}

/// Collects ranges in ascending order.
pub(super) struct RuleRangesBuilder<A> {
    starts: Vec<A>,
    rules: Vec<u16>,
}

impl<A: AddressNumber> RuleRangesBuilder<A> {
    pub(super) fn new() -> Self {
        Self { starts: Vec::new(), rules: Vec::new() }
    }

    /// Begins a range, unless it has the rule of the one before it.
    pub(super) fn begin(&mut self, start: A, rule: u16) {
        if self.rules.last() != Some(&rule) {
            self.starts.push(start);
            self.rules.push(rule);
        }
    }

    pub(super) fn finish(self) -> RuleRanges<A> {
        let Self { mut starts, mut rules } = self;
        starts.shrink_to_fit();
        rules.shrink_to_fit();
        let index = Index::new(&starts);
        RuleRanges { starts, rules, index }
    }
}
