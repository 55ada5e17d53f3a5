//! Prepares the orders of a draw: several random ones, so that all pairs of few candidates are
//! drawn together.

use std::sync::Arc;

use super::chance::Chance;
use super::inclusion::{Frame, Part, WeightedCandidate};
use super::systematic::Line;

/// The number of orders from which a draw chooses. Each order draws other pairs together. It is at
/// least the number of pairs of 6 candidates, because each pair must occur.
pub const ORDERS: usize = 16;

/// For up to this many candidates on the line, every pair that any order can draw together is drawn
/// together by a prepared one. With more candidates, pairs change as orders are renewed.
const FEW: usize = 6;

/// The number of orders for a frame. If an answer has at most one sampled candidate, a second order
/// would change nothing.
pub(super) fn order_count(frame: &Frame) -> usize {
    match frame.sampled {
        0 => 0,
        1 => 1,
        _ => ORDERS,
    }
}

/// Whether a random order can change which candidates are drawn together. If one candidate is drawn
/// from the line, or all but one, no order can.
pub(super) fn can_vary(frame: &Frame) -> bool {
    frame.sampled > 1 && frame.sampled + 1 < frame.members.len() as u64
}

/// The orders for a frame. Those before the returned index must stay: they draw all pairs of few
/// candidates.
pub(super) fn orders(frame: &Frame, chance: &mut impl Chance) -> (Vec<Arc<Line>>, usize) {
    let count = order_count(frame);
    let mut lines = if count > 1 && frame.members.len() <= FEW { meeting(frame, chance) } else { Vec::new() };
    let kept = lines.len();
    while lines.len() < count {
        lines.push(Line::random(frame, chance));
    }
    (lines.into_iter().map(Arc::new).collect(), kept)
}

/// Orders that together draw all possible pairs; each one draws a pair that the earlier ones do
/// not. For a missing pair, one random order is laid out, and if it does not draw the pair, at most
/// 16 others are. So the work is limited even if some pairs are impossible.
fn meeting(frame: &Frame, chance: &mut impl Chance) -> Vec<Line> {
    let (mut lines, mut drawn) = (Vec::new(), 0);
    let mut candidates = grouped(frame);
    for (one, other) in (0..candidates.len()).flat_map(|other| (0..other).map(move |one| (one, other))) {
        if drawn & pair(one, other) != 0 {
            continue;
        }
        let random = Line::random(frame, chance);
        candidates
            .sort_by_key(|member| random.order.iter().position(|index| *index == member.weighted.index));
        let mut add = |line: Line| {
            let pairs = pairs(frame, &line);
            if pairs & !drawn != 0 {
                drawn |= pairs;
                lines.push(line);
            }
            drawn & pair(one, other) != 0
        };
        if !add(random) {
            together(frame, &candidates, one, other).map(add);
        }
    }
    lines
}

/// A candidate on the line, with its index in [`Frame::members`] and those of its group and part.
#[derive(Clone, Copy)]
struct GroupedCandidate {
    weighted: WeightedCandidate,
    index: usize,
    group: usize,
    part: usize,
}

fn grouped(frame: &Frame) -> Vec<GroupedCandidate> {
    let mut candidates = Vec::with_capacity(frame.members.len());
    for (part, Part { groups, .. }) in frame.parts.iter().enumerate() {
        for group in groups.clone() {
            for index in frame.groups.get(group).cloned().unwrap_or_default() {
                let weighted = frame.members.get(index).copied();
                candidates.extend(weighted.map(|weighted| GroupedCandidate { weighted, index, group, part }));
            }
        }
    }
    candidates
}

/// An order that draws two candidates together, if there is one. Only the set of candidates between
/// them decides that, because the points are on a circle, and an order draws the same pairs as its
/// reverse. So each set is tried once.
fn together(frame: &Frame, candidates: &[GroupedCandidate], one: usize, other: usize) -> Option<Line> {
    let find = |index| candidates.iter().find(|member| member.index == index);
    let (a, b) = (find(one)?, find(other)?);
    let both = 1 << one | 1 << other;
    (0_u32..1 << candidates.len()).filter(|between| between & both == 0).find_map(|between| {
        let mut order = candidates.to_vec();
        order.sort_by_key(|member| {
            let [inside, outside] = match member {
                _ if member.index == one => [3; 2],
                _ if member.index == other => [9; 2],
                _ if member.group == a.group => [4, 2],
                _ if member.group == b.group => [8, 10],
                _ if member.part == a.part => [5, 1],
                _ if member.part == b.part => [7, 11],
                _ => [6, 12],
            };
            if between & 1 << member.index != 0 { inside } else { outside }
        });
        let line = lay(frame, &order)?;
        let position = |wanted| order.iter().position(|member| member.index == wanted);
        line.meet(position(one)?, position(other)?, frame.step).then_some(line)
    })
}

/// The line with this order, if its parts and groups stay together.
fn lay(frame: &Frame, order: &[GroupedCandidate]) -> Option<Line> {
    let parts: Vec<&Part> = order
        .chunk_by(|a, b| a.part == b.part)
        .filter_map(|part| frame.parts.get(part.first()?.part))
        .collect();
    let groups = order.chunk_by(|a, b| a.group == b.group).count();
    if parts.len() != frame.parts.len() || groups != frame.groups.len() {
        return None;
    }
    let members: Vec<WeightedCandidate> = order.iter().map(|member| member.weighted).collect();
    Some(Line::in_order(frame, &parts, &members))
}

/// The bit of a pair in a bit set, by indices into [`Frame::members`].
fn pair(one: usize, other: usize) -> u64 {
    1 << (one.min(other) * FEW + one.max(other))
}

/// The pairs that an order draws together, as a bit set.
pub(super) fn pairs(frame: &Frame, line: &Line) -> u64 {
    let mut pairs = 0;
    let member = |candidate: u32| frame.members.iter().position(|member| member.index == candidate);
    for (a, &candidate) in line.order.iter().enumerate() {
        for (b, &partner) in line.order.iter().enumerate().skip(a + 1) {
            if let (Some(one), Some(other)) = (member(candidate), member(partner))
                && line.meet(a, b, frame.step)
            {
                pairs |= pair(one, other);
            }
        }
    }
    pairs
}
