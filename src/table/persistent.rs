//! A persistent vector: a changed clone shares everything with the original except the paths to the
//! changes.
//!
//! It is a tree. Nodes have up to [`WIDTH`] entries, and the leaves contain the elements. Cloning
//! copies one pointer. The first change of an element copies the node at each level above it, at
//! most [`WIDTH`] entries each; further changes below a copied node write in place. A read visits
//! the same nodes:
//!
//! ```text
//! elements           levels   entries copied by a change, at most
//! up to 64           1        64
//! up to 4,096        2        128
//! up to 262,144      3        192
//! ```
//!
//! The leaves contain the elements themselves. Libraries for persistent vectors keep a pointer to
//! each element, which would cost each query another memory access.

use std::sync::Arc;

/// The bits of an index that select an entry of a node.
const BITS: u32 = 6;
/// The most entries of a node.
const WIDTH: usize = 1 << BITS;

/// A vector of a fixed length.
#[derive(Clone, Debug)]
pub struct PersistentVec<T> {
    root: TrieNode<T>,
    length: usize,
    /// The number of low bits of an index that do not select an entry of the root.
    shift: u32,
}

#[derive(Clone, Debug)]
enum TrieNode<T> {
    Branch(Arc<[Self]>),
    Leaf(Arc<[T]>),
}

impl<T> PersistentVec<T> {
    /// The number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The element at this index.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        let (mut node, mut shift, mut rest) = (&self.root, self.shift, index);
        loop {
            match node {
                TrieNode::Branch(nodes) => node = nodes.get(rest >> shift)?,
                TrieNode::Leaf(elements) => return elements.get(rest),
            }
            rest &= (1 << shift) - 1;
            shift = shift.saturating_sub(BITS);
        }
    }

    /// The elements in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> + Clone {
        (0..self.length).filter_map(|index| self.get(index))
    }
}

impl<T: Clone> PersistentVec<T> {
    /// A mutable element. Copies the nodes above it that are shared with another vector.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        if index >= self.length {
            return None;
        }
        let (mut node, mut shift, mut rest) = (&mut self.root, self.shift, index);
        loop {
            match node {
                TrieNode::Branch(nodes) => node = Arc::make_mut(nodes).get_mut(rest >> shift)?,
                TrieNode::Leaf(elements) => return Arc::make_mut(elements).get_mut(rest),
            }
            rest &= (1 << shift) - 1;
            shift = shift.saturating_sub(BITS);
        }
    }
}

impl<T> FromIterator<T> for PersistentVec<T> {
    fn from_iter<I: IntoIterator<Item = T>>(elements: I) -> Self {
        let mut length = 0;
        let counted = elements.into_iter().inspect(|_| length += 1);
        let mut nodes: Vec<TrieNode<T>> = chunks(counted).map(TrieNode::Leaf).collect();
        let mut shift = 0;
        while nodes.len() > 1 {
            nodes = chunks(nodes.into_iter()).map(TrieNode::Branch).collect();
            shift += BITS;
        }
        Self { root: nodes.pop().unwrap_or_else(|| TrieNode::Leaf(Arc::new([]))), length, shift }
    }
}

/// Splits the entries into arrays of [`WIDTH`]; the last one may be shorter.
fn chunks<E>(mut entries: impl Iterator<Item = E>) -> impl Iterator<Item = Arc<[E]>> {
    std::iter::from_fn(move || {
        let chunk: Arc<[E]> = entries.by_ref().take(WIDTH).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::ptr::from_ref;

    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    /// Sizes at which the number of levels changes, and their neighbours.
    const SIZES: [usize; 9] = [0, 1, 2, 63, 64, 65, 4096, 4097, 20_000];

    impl<T> PersistentVec<T> {
        /// The number of entries of each node, by the address of the node.
        fn nodes(&self) -> HashSet<(*const (), usize)> {
            fn add<T>(node: &TrieNode<T>, nodes: &mut HashSet<(*const (), usize)>) {
                match node {
                    TrieNode::Branch(below) => {
                        nodes.insert((from_ref(&**below).cast(), below.len()));
                        below.iter().for_each(|node| add(node, nodes));
                    }
                    TrieNode::Leaf(elements) => {
                        nodes.insert((from_ref(&**elements).cast(), elements.len()));
                    }
                }
            }
            let mut nodes = HashSet::new();
            add(&self.root, &mut nodes);
            nodes
        }
    }

    #[test]
    fn each_version_keeps_its_elements() {
        for size in SIZES {
            let mut rng = SmallRng::seed_from_u64(size as u64);
            let mut model: Vec<usize> = (0..size).collect();
            let mut vector: PersistentVec<usize> = model.iter().copied().collect();
            let mut versions = vec![(vector.clone(), model.clone())];
            for _ in 0..5 {
                for _ in 0..rng.random_range(0..20) {
                    let index = rng.random_range(0..size + 2);
                    let value = rng.random_range(size..usize::MAX);
                    let element = vector.get_mut(index);
                    assert_eq!(element.is_some(), index < size, "{index} of {size}");
                    if let Some(element) = element {
                        *element = value;
                        model[index] = value;
                    }
                }
                versions.push((vector.clone(), model.clone()));
            }
            for (vector, model) in versions {
                assert!(vector.iter().eq(&model), "{size}");
                assert_eq!((vector.len(), vector.is_empty()), (size, size == 0));
                for beyond in [size, size + 1, size + 64, size * 64 + 1, usize::MAX] {
                    assert_eq!(vector.get(beyond), None, "{beyond} of {size}");
                }
            }
        }
    }

    #[test]
    fn a_change_copies_one_node_of_each_level() {
        for (size, most) in [(1, 64), (64, 64), (65, 128), (4096, 128), (4097, 192), (20_000, 192)] {
            let before: PersistentVec<usize> = (0..size).collect();
            for index in [0, size / 2, size - 1] {
                let mut after = before.clone();
                assert_eq!(after.nodes(), before.nodes(), "a clone copies none");
                *after.get_mut(index).unwrap() += 1;
                let copied: usize = after.nodes().difference(&before.nodes()).map(|node| node.1).sum();
                assert!((1..=most).contains(&copied), "{index} of {size}: {copied} entries are copied");
                let nodes = after.nodes();
                *after.get_mut(index).unwrap() += 1;
                assert_eq!(after.nodes(), nodes, "what is copied is written in place");
            }
        }
    }
}
