//! A line of candidates in one random order, and the points on it that hit candidates.

use super::chance::Chance;
use super::fraction::Fraction;
use super::inclusion::{Frame, Part, WeightedCandidate};

/// The candidates of a [`Frame`] in one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    segments: Box<[Segment]>,
    /// The candidates, as indices.
    pub(super) order: Box<[u32]>,
    /// The running sums of their lengths within each segment.
    ends: Box<[u64]>,
}

/// A part of the frame on the line.
///
/// A candidate of weight `w` has the length `length x w / weight`, in lowest terms `scale x w / fine`. If `fine` is 1,
/// `ends` has this length. Otherwise the boundaries are not integers, so `ends` has the length `w`; an offset is then
/// multiplied by `fine`, a uniform number below `fine` is added, and the sum is divided by `scale`. All hits of one
/// segment use the same number, so they are systematic on the finer line too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Segment {
    start: u64,
    end: u64,
    /// The index of its first candidate on the line, and the index after its last one.
    first: usize,
    after: usize,
    fine: u64,
    scale: u64,
}

impl Line {
    /// Lays out the candidates in a random order. Parts stay together, and so do the groups in them.
    pub(super) fn random(frame: &Frame, chance: &mut impl Chance) -> Self {
        let mut parts: Vec<&Part> = frame.parts.iter().collect();
        chance.shuffle(&mut parts);
        let mut members: Vec<WeightedCandidate> = Vec::with_capacity(frame.members.len());
        for part in &parts {
            let mut groups: Vec<&[WeightedCandidate]> = frame.groups_of(part).collect();
            chance.shuffle(&mut groups);
            for group in groups {
                let begin = members.len();
                members.extend(group);
                chance.shuffle(members.get_mut(begin..).unwrap_or_default());
            }
        }
        Self::in_order(frame, &parts, &members)
    }

    /// Lays out the parts in this order, each with as many of the members as it has.
    pub(super) fn in_order(frame: &Frame, parts: &[&Part], members: &[WeightedCandidate]) -> Self {
        let mut ends = Vec::with_capacity(members.len());
        let mut segments: Vec<Segment> = Vec::with_capacity(parts.len());
        for part in parts {
            let first = ends.len();
            let after = first + frame.groups_of(part).map(<[_]>::len).sum::<usize>();
            let start = segments.last().map_or(0, |segment| segment.end);
            let ratio = Fraction::new(part.weight, part.length);
            let [fine, scale] =
                [ratio.numerator, ratio.denominator].map(|number| u64::try_from(number).unwrap_or(u64::MAX));
            let unit = if fine == 1 { scale } else { 1 };
            let mut end = 0;
            ends.extend(members.iter().take(after).skip(first).map(|member| {
                end += unit * u64::from(member.weight);
                end
            }));
            segments.push(Segment { start, end: start + part.length, first, after, fine, scale });
        }
        Self {
            segments: segments.into(),
            order: members.iter().map(|member| member.index).collect(),
            ends: ends.into(),
        }
    }

    /// The candidates at the points `start`, `start + step` and so on.
    pub(super) fn hits(
        &self,
        start: u64,
        step: u64,
        count: u64,
        chance: &mut impl Chance,
        mut hit: impl FnMut(u32),
    ) {
        let points = (0..count).scan(start, |next, _| Some(std::mem::replace(next, *next + step)));
        if let [Segment { fine: 1, .. }] = &*self.segments {
            // Walking from hit to hit costs less than bisecting if the line is short.
            let is_short = self.ends.len() <= 16;
            let mut index = 0;
            for point in points {
                if is_short {
                    index += self.ends.iter().skip(index).take_while(|end| **end <= point).count();
                } else {
                    index = self.ends.partition_point(|end| *end <= point);
                }
                if let Some(&candidate) = self.order.get(index) {
                    hit(candidate);
                }
            }
            return;
        }
        let mut segment: Option<&Segment> = None;
        let mut refinement = 0;
        for point in points {
            if segment.is_none_or(|segment| segment.end <= point) {
                segment = self.segments.get(self.segments.partition_point(|segment| segment.end <= point));
                refinement = segment.map_or(0, |segment| chance.below(segment.fine));
            }
            let Some(segment) = segment else { return };
            let position = segment.position(point - segment.start, refinement);
            let ends = self.ends.get(segment.first..segment.after).unwrap_or_default();
            let index = segment.first + ends.partition_point(|&end| end <= position);
            if let Some(&candidate) = self.order.get(index) {
                hit(candidate);
            }
        }
    }

    /// Whether any start draws the candidates at positions `a` and `b` of the order together. Only for few candidates:
    /// the products of their weights must fit.
    pub(super) fn meet(&self, a: usize, b: usize, step: u64) -> bool {
        let unit: u128 = self.segments.iter().map(|segment| u128::from(segment.fine)).product();
        let [a, b] = [a, b].map(|place| self.stretch(place, unit));
        let (Some(a), Some(b)) = (a, b) else { return false };
        // The random numbers of two segments are independent, so whole points count.
        let [a, b] = if a.segment == b.segment { [a, b] } else { [a.widened(unit), b.widened(unit)] };
        let step = u128::from(step) * unit;
        let ahead = (b.start + step - a.start % step) % step;
        ahead < a.end - a.start || step - ahead < b.end - b.start
    }

    /// The stretch of the line that belongs to the candidate at a position of the order, in units of `1 / unit`.
    fn stretch(&self, place: usize, unit: u128) -> Option<Stretch> {
        let index = self.segments.partition_point(|segment| segment.after <= place);
        let segment = self.segments.get(index)?;
        let length = if segment.fine == 1 {
            unit
        } else {
            unit / u128::from(segment.fine) * u128::from(segment.scale)
        };
        let at = |end: u64| u128::from(segment.start) * unit + u128::from(end) * length;
        let before = if place == segment.first { 0 } else { *self.ends.get(place - 1)? };
        Some(Stretch { segment: index, start: at(before), end: at(*self.ends.get(place)?) })
    }
}

/// A stretch of the line.
#[derive(Clone, Copy, Debug)]
struct Stretch {
    segment: usize,
    start: u128,
    end: u128,
}

impl Stretch {
    /// The stretch, extended to whole points.
    fn widened(self, unit: u128) -> Self {
        Self { start: self.start / unit * unit, end: self.end.div_ceil(unit) * unit, ..self }
    }
}

impl Segment {
    /// Converts an offset on this segment to a position among the ends of its candidates.
    fn position(&self, offset: u64, refinement: u64) -> u64 {
        if self.fine == 1 {
            return offset;
        }
        let fine = u128::from(offset) * u128::from(self.fine) + u128::from(refinement);
        // It fits: the offset is below the length of the part, so the position is below its weight.
        u64::try_from(fine / u128::from(self.scale)).unwrap_or(u64::MAX)
    }
}
