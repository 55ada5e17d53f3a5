//! Prepares the orders of a draw: several random ones, so that all pairs of few candidates are
//! drawn together.

use std::sync::Arc;

use super::chance::{Chance, Every};
use super::inclusion::Frame;
use super::systematic::Line;

/// The number of orders from which a draw chooses. Each order draws other pairs together. It is at
/// least the number of pairs of 6 candidates, because each pair must occur.
pub const ORDERS: usize = 16;

/// For up to this many candidates on the line, every pair that any order can draw together is drawn
/// together by a prepared one. With more candidates, pairs change as orders are renewed.
pub(super) const FEW: usize = 6;

/// How many random orders are tried before all orders are enumerated. They nearly always include
/// all pairs of equal weights.
const TRIED: usize = 48;

/// The number of orders for a frame. If an answer has at most one sampled candidate, a second order
/// would change nothing.
pub(super) fn order_count(frame: &Frame) -> usize {
    match frame.sampled {
        0 => 0,
        1 => 1,
        _ => ORDERS,
    }
}

/// The orders for a frame.
pub(super) fn orders(frame: &Frame, chance: &mut impl Chance) -> Vec<Arc<Line>> {
    let count = order_count(frame);
    let mut lines = if count > 1 && frame.members.len() <= FEW { meeting(frame, chance) } else { Vec::new() };
    while lines.len() < count {
        lines.push(Line::random(frame, chance));
    }
    lines.into_iter().map(Arc::new).collect()
}

/// Orders that together draw all possible pairs; each one draws a pair that the earlier ones do
/// not.
fn meeting(frame: &Frame, chance: &mut impl Chance) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut drawn = 0;
    let mut look = |line: Line| {
        let pairs = pairs(frame, &line);
        if pairs & !drawn != 0 {
            drawn |= pairs;
            lines.push(line);
        }
        drawn.count_ones() as usize == frame.members.len() * (frame.members.len() - 1) / 2
    };
    let all_meet = (0..TRIED).any(|_| look(Line::random(frame, chance)));
    if !all_meet {
        Every::run(
            |every| Line::random(frame, every),
            |line, _| {
                look(line);
            },
        );
    }
    lines
}

/// The pairs that an order draws together, as a bit set.
fn pairs(frame: &Frame, line: &Line) -> u64 {
    let mut pairs = 0;
    let member = |candidate: u32| frame.members.iter().position(|member| member.index == candidate);
    for (a, &candidate) in line.order.iter().enumerate() {
        for (b, &partner) in line.order.iter().enumerate().skip(a + 1) {
            if let (Some(one), Some(other)) = (member(candidate), member(partner))
                && line.meet(a, b, frame.step)
            {
                pairs |= 1 << (one.min(other) * FEW + one.max(other));
            }
        }
    }
    pairs
}
