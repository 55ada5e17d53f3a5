//! The search tree of a database in the format of MaxMind: how many networks it leads to.
//!
//! The tree is a list of nodes with two records each. A damaged or hostile file may have circles, or nodes that many
//! others share, so that a small file leads to more networks than can ever be visited. This counts them without
//! visiting them.

/// A search tree: `count` nodes of `node` bytes each.
#[derive(Clone, Copy, Debug)]
pub(super) struct SearchTree<'d> {
    bytes: &'d [u8],
    count: u32,
    /// The length of a record in bits: 24, 28 or 32.
    record: u16,
}

/// Why a tree cannot be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// The file ends within the tree, or the records have an unknown length.
    #[error("its search tree is cut short")]
    Short,
    /// A node leads back to itself.
    #[error("its search tree has a circle")]
    Circle,
}

/// The progress of counting, for each node.
const NOT_VISITED: u32 = u32::MAX;
const OPEN: u32 = u32::MAX - 1;
/// Counts stop here.
const MANY: u32 = u32::MAX - 2;

impl<'d> SearchTree<'d> {
    pub(super) fn new(bytes: &'d [u8], count: u32, record: u16) -> Self {
        Self { bytes, count, record }
    }

    /// The record of a node for a bit: the number of the next node, or something else from `count` on.
    fn record(&self, node: u32, bit: usize) -> Option<u32> {
        let length = usize::from(self.record) / 4;
        let start = usize::try_from(node).ok()?.checked_mul(length)?;
        match (self.bytes.get(start..start + length)?, bit) {
            ([a, b, c, _, _, _], 0) | ([_, _, _, a, b, c], 1) => Some(u32::from_be_bytes([0, *a, *b, *c])),
            ([a, b, c, shared, _, _, _], 0) => Some(u32::from_be_bytes([shared >> 4, *a, *b, *c])),
            ([_, _, _, shared, a, b, c], 1) => Some(u32::from_be_bytes([shared & 0xf, *a, *b, *c])),
            ([a, b, c, d, _, _, _, _], 0) | ([_, _, _, _, a, b, c, d], 1) => {
                Some(u32::from_be_bytes([*a, *b, *c, *d]))
            }
            _ => None,
        }
    }

    /// The number of networks that the tree leads to, with and without data.
    pub(super) fn networks(&self) -> Result<u32, TreeError> {
        let mut counts = vec![NOT_VISITED; self.count as usize];
        let mut stack = vec![0_u32];
        while let Some(node) = stack.last().copied() {
            let progress = counts.get(node as usize).copied().ok_or(TreeError::Short)?;
            // Several nodes may lead to it.
            if progress <= MANY {
                stack.pop();
                continue;
            }
            let mut total = 0_u32;
            for bit in [0, 1] {
                let next = self.record(node, bit).ok_or(TreeError::Short)?;
                match counts.get(next as usize).copied() {
                    None => total = total.saturating_add(1),
                    Some(OPEN) => return Err(TreeError::Circle),
                    Some(NOT_VISITED) => stack.push(next),
                    Some(count) => total = total.saturating_add(count),
                }
            }
            if let Some(count) = counts.get_mut(node as usize) {
                *count = if progress == OPEN { total.min(MANY) } else { OPEN };
            }
        }
        Ok(counts.first().copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of nodes with these records, of each record length.
    fn networks(nodes: &[[u32; 2]]) -> Result<u32, TreeError> {
        let count = u32::try_from(nodes.len()).unwrap();
        let found = [24, 28, 32].map(|record| {
            let node = |[left, right]: &[u32; 2]| -> Vec<u8> {
                let [left, right] = [left, right].map(|record| record.to_be_bytes());
                let shared = [left[0] << 4 | right[0]];
                let [start, end]: [&[u8]; 2] = match record {
                    24 => [&left[1..], &right[1..]],
                    28 => return [&left[1..], &shared, &right[1..]].concat(),
                    _ => [&left, &right],
                };
                [start, end].concat()
            };
            let bytes: Vec<u8> = nodes.iter().flat_map(node).collect();
            SearchTree::new(&bytes, count, record).networks()
        });
        assert_eq!(found[0], found[1]);
        assert_eq!(found[0], found[2]);
        found[0]
    }

    #[test]
    fn networks_are_counted_without_visiting_them() {
        assert_eq!(networks(&[[1, 1]]), Ok(2), "no other node");
        assert_eq!(networks(&[[1, 2], [3, 4], [9, 8]]), Ok(4));
        let shared: Vec<[u32; 2]> = (1..=127).map(|next| [next, next]).collect();
        assert_eq!(networks(&shared), Ok(MANY), "2^127");
        assert_eq!(networks(&shared[..20]), Ok(1 << 20));
    }

    #[test]
    fn circles_are_found() {
        assert_eq!(networks(&[[0, 5]]), Err(TreeError::Circle));
        assert_eq!(networks(&[[1, 9], [9, 2], [3, 0], [9, 9]]), Err(TreeError::Circle));
    }

    #[test]
    fn a_tree_that_is_cut_short_is_refused() {
        for (record, length) in [(24, 6), (28, 7), (32, 8)] {
            let whole = vec![0xff; length];
            assert_eq!(SearchTree::new(&whole, 1, record).networks(), Ok(2));
            assert_eq!(SearchTree::new(&whole[1..], 1, record).networks(), Err(TreeError::Short));
        }
        assert_eq!(SearchTree::new(&[0; 64], 2, 12).networks(), Err(TreeError::Short));
        assert_eq!(SearchTree::new(&[], 0, 24).networks(), Err(TreeError::Short));
    }
}
