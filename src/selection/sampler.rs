//! The prepared data for draws from given candidates.

use std::sync::Arc;

use rand::Rng;

use super::chance::Chance;
use super::inclusion::{Candidate, Frame, Spread};
use super::partners::{can_vary, order_count, orders};
use super::picked::Picked;
use super::systematic::Line;
use super::wide::{MANY, WideLines};

/// A prepared draw of a number of candidates. Two are equal if they draw with equal probabilities,
/// even with different orders.
#[derive(Clone, Debug, Default)]
pub struct Sampler {
    frame: Arc<Frame>,
    /// The orders, unless they are in `wide`.
    pub(super) lines: Vec<Arc<Line>>,
    /// How many of the first lines always stay.
    kept: usize,
    /// The index of the line to replace next.
    oldest: usize,
    /// The orders of many candidates.
    pub(super) wide: Option<WideLines>,
}

impl PartialEq for Sampler {
    fn eq(&self, other: &Self) -> bool {
        self.frame == other.frame
    }
}

impl Eq for Sampler {}

impl Sampler {
    /// Prepares to draw `answers` of the candidates, at most `MAX_ANSWERS`, or all of positive
    /// weight if there are fewer.
    #[must_use]
    pub fn new(candidates: &[Candidate], answers: usize, spread: Spread, rng: &mut impl Rng) -> Self {
        let frame = Frame::new(candidates, answers, spread);
        if is_wide(&frame) {
            let by_site = spread != Spread::Off;
            let wide = WideLines::new(&frame, candidates, by_site, order_count(&frame), rng);
            return Self { frame: Arc::new(frame), lines: Vec::new(), kept: 0, oldest: 0, wide: Some(wide) };
        }
        let (lines, kept) = orders(&frame, rng);
        Self { frame: Arc::new(frame), lines, kept, oldest: kept, wide: None }
    }

    /// Prepares to draw from the same candidates with some weights changed. Sites and settings of the
    /// draw must be the same. If there are many candidates, their orders stay, so the time is that of
    /// a few passes over the candidates.
    #[must_use]
    pub fn updated(
        &self,
        candidates: &[Candidate],
        answers: usize,
        spread: Spread,
        rng: &mut impl Rng,
    ) -> Self {
        if let Some(wide) = &self.wide {
            let frame = Frame::new(candidates, answers, spread);
            if is_wide(&frame) && wide.suits(candidates.len(), order_count(&frame)) {
                let wide = Some(wide.updated(&frame));
                return Self { frame: Arc::new(frame), lines: Vec::new(), kept: 0, oldest: 0, wide };
            }
        }
        Self::new(candidates, answers, spread, rng)
    }

    /// Whether other orders can change which candidates are drawn together.
    #[must_use]
    pub fn can_renew(&self) -> bool {
        can_vary(&self.frame)
    }

    /// Replaces the oldest order with a new random one. If there are few candidates, the orders that
    /// draw all their pairs stay. The time is proportional to the number of candidates.
    pub fn renew(&mut self, rng: &mut impl Rng) {
        if let Some(wide) = &mut self.wide {
            wide.renew(rng);
        } else if let Some(line) = self.lines.get_mut(self.oldest) {
            *line = Arc::new(Line::random(&self.frame, rng));
            self.oldest = if self.oldest + 1 < self.lines.len() { self.oldest + 1 } else { self.kept };
        }
    }

    /// The number of candidates in each answer.
    #[must_use]
    #[inline]
    pub fn answers(&self) -> usize {
        self.frame.certain.len() + usize::try_from(self.frame.sampled).unwrap_or(usize::MAX)
    }

    /// Draws an answer. Allocates nothing. The time is proportional to the answers and to the
    /// logarithm of the candidates.
    pub fn draw(&self, rng: &mut impl Rng, picked: &mut Picked) {
        self.draw_by(rng, picked);
    }

    /// Draws with the choices of `chance`.
    pub(super) fn draw_by(&self, chance: &mut impl Chance, picked: &mut Picked) {
        picked.clear();
        for &index in &self.frame.certain {
            picked.push(index);
        }
        if let Some(wide) = &self.wide {
            if let Some(line) = wide.lines.get(chance.index(wide.lines.len())) {
                let start = chance.below(self.frame.step);
                line.hits(start, self.frame.step, self.frame.sampled, |index| picked.push(index));
            }
        } else if let Some(line) = self.lines.get(chance.index(self.lines.len())) {
            let start = chance.below(self.frame.step);
            line.hits(start, self.frame.step, self.frame.sampled, chance, |index| picked.push(index));
        }
        arrange(&self.frame, chance, picked.indices_mut());
    }
}

/// Whether orders stay when weights change: there are many candidates, and all have the same length
/// per weight.
fn is_wide(frame: &Frame) -> bool {
    frame.members.len() >= MANY && matches!(&*frame.parts, [part] if part.weight == frame.step)
}

/// Puts the drawn candidates in the order of the answer. At first, the certain ones precede the
/// others.
fn arrange(frame: &Frame, chance: &mut impl Chance, picked: &mut [u32]) {
    if picked.len() < 2 {
        return;
    }
    if frame.certain.is_empty() {
        chance.shuffle(picked);
    } else {
        picked.swap(0, first(frame, chance));
        chance.shuffle(picked.get_mut(1..).unwrap_or_default());
    }
}

/// The index of the candidate that moves to the front. The certain ones precede the others.
pub(super) fn first(frame: &Frame, chance: &mut impl Chance) -> usize {
    let place = if frame.certain.is_empty() { 0 } else { chance.below(frame.places) };
    let certain = frame.ends.partition_point(|&end| end <= place);
    if certain < frame.certain.len() {
        certain
    } else {
        frame.certain.len() + usize::try_from(chance.below(frame.sampled)).unwrap_or(0)
    }
}
