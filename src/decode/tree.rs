//! The configured paths of a stream as one tree, built once, which the reader walks beside each
//! JSON document.
//!
//! A node stands for one place in the document. Its targets are the uses of a scalar there; its
//! children are the places below it. A place may be several things at once (the series key may also
//! be a reading). A key that is a plain decimal number, such as the `0` of `readings.0.value`, is
//! an object's key as well as an array's index.

use crate::record::RejectReason;
use crate::record::format::{KeyFrom, RecordFormat, TimeFrom};

/// What a scalar at a node is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// The reading with this index in the row.
    Reading(usize),
    /// The state with this index in the row.
    State(usize),
    /// The series key.
    Key,
    /// The event time.
    Time,
}

/// One place in the document.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Node {
    /// Number of the node in the tree; the root is 0.
    pub(super) id: usize,
    /// How details name it.
    pub(super) label: String,
    /// What a scalar here is for.
    pub(super) targets: Vec<Target>,
    /// The places below, in the order of the configuration.
    children: Vec<(Box<str>, Node)>,
    /// Indices of `children`, sorted by their key.
    by_key: Vec<usize>,
    /// Of the children, those that are also an array's elements: index in the array and in
    /// `children`, ascending.
    elements: Vec<(usize, usize)>,
}

impl Node {
    /// The tree of all paths of `format`, and how many nodes it has.
    pub(super) fn of(format: &RecordFormat) -> (Self, usize) {
        let mut root = Self::default();
        let mut nodes = 1;
        if let KeyFrom::Field(path) = &format.key {
            root.insert(
                path,
                Target::Key,
                format!("series key `{}`", path.join(".")),
                &mut nodes,
            );
        }
        if let TimeFrom::Field(path) = &format.time {
            root.insert(
                path,
                Target::Time,
                format!("event time `{}`", path.join(".")),
                &mut nodes,
            );
        }
        for (index, field) in format.fields.iter().enumerate() {
            let path = field.path.join(".");
            let label = if path == field.name {
                format!("field `{path}`")
            } else {
                format!("field `{}` (at `{path}`)", field.name)
            };
            let target = match field.states {
                Some(_) => Target::State(index),
                None => Target::Reading(index),
            };
            root.insert(&field.path, target, label, &mut nodes);
        }
        root.seal();
        (root, nodes)
    }

    /// The child at `key` of an object and its index, if a path leads through it. The index
    /// `expected` is tried first.
    #[inline]
    pub(super) fn child(&self, key: &str, expected: usize) -> Option<(usize, &Self)> {
        match self.children.get(expected) {
            Some((name, child)) if name.as_ref() == key => Some((expected, child)),
            _ => self.search(key),
        }
    }

    fn search(&self, key: &str) -> Option<(usize, &Self)> {
        let name = |at: usize| self.children.get(at).map(|(name, _)| name.as_ref());
        let found = self
            .by_key
            .binary_search_by(|&at| name(at).cmp(&Some(key)))
            .ok()?;
        let at = *self.by_key.get(found)?;
        self.children.get(at).map(|(_, child)| (at, child))
    }

    /// The children that are elements of an array, with their indices, ascending.
    pub(super) fn elements(&self) -> impl Iterator<Item = (usize, &Self)> {
        self.elements
            .iter()
            .filter_map(|&(index, at)| self.children.get(at).map(|(_, child)| (index, child)))
    }

    /// The children with their keys.
    pub(super) fn children(&self) -> impl Iterator<Item = (&str, &Self)> {
        self.children
            .iter()
            .map(|(key, child)| (key.as_ref(), child))
    }

    /// Whether no path leads further down.
    pub(super) fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// Whether a value here is a reading or a state, and nothing else.
    pub(super) fn is_reading(&self) -> bool {
        let reading = |target: &Target| matches!(target, Target::Reading(_) | Target::State(_));
        self.is_leaf() && !self.targets.is_empty() && self.targets.iter().all(reading)
    }

    /// Calls `of` with the index of each reading and state here and below.
    pub(super) fn each_reading(&self, of: &mut dyn FnMut(usize)) {
        for target in &self.targets {
            if let Target::Reading(index) | Target::State(index) = target {
                of(*index);
            }
        }
        self.children
            .iter()
            .for_each(|(_, child)| child.each_reading(of));
    }

    /// What the first target here or below is for.
    pub(super) fn first_target(&self) -> Option<Target> {
        self.targets.first().copied().or_else(|| {
            self.children
                .iter()
                .find_map(|(_, child)| child.first_target())
        })
    }

    /// Why a record is rejected whose value here cannot be what it is for.
    pub(super) fn misfit(&self) -> RejectReason {
        match self.first_target() {
            Some(Target::Reading(_) | Target::State(_)) => RejectReason::WrongType,
            Some(Target::Key) => RejectReason::BadKey,
            Some(Target::Time) => RejectReason::BadTime,
            None => RejectReason::NotObject,
        }
    }

    fn insert(&mut self, path: &[String], target: Target, label: String, nodes: &mut usize) {
        let mut node = self;
        for (depth, key) in path.iter().enumerate() {
            let at = match node
                .children
                .iter()
                .position(|(name, _)| name.as_ref() == key)
            {
                Some(at) => at,
                None => {
                    let walked = path.get(..=depth).unwrap_or_default().join(".");
                    let child = Self {
                        id: *nodes,
                        label: format!("field `{walked}`"),
                        ..Self::default()
                    };
                    *nodes += 1;
                    node.children.push((key.as_str().into(), child));
                    node.children.len() - 1
                }
            };
            let Some((_, child)) = node.children.get_mut(at) else {
                return;
            };
            node = child;
        }
        // The first of several targets names the place.
        if node.targets.is_empty() {
            node.label = label;
        }
        node.targets.push(target);
    }

    /// Builds the indices that [`Node::child`] and [`Node::elements`] rely on.
    fn seal(&mut self) {
        self.by_key = (0..self.children.len()).collect();
        self.by_key
            .sort_by_key(|&at| self.children.get(at).map(|(name, _)| name.as_ref()));
        self.elements = (self.children.iter().enumerate())
            .filter_map(|(at, (key, _))| array_index(key).map(|index| (index, at)))
            .collect();
        self.elements.sort_unstable();
        for (_, child) in &mut self.children {
            child.seal();
        }
    }
}

/// The array index that `key` is: decimal digits without leading zeros.
fn array_index(key: &str) -> Option<usize> {
    let canonical =
        key == "0" || (!key.starts_with('0') && key.bytes().all(|byte| byte.is_ascii_digit()));
    canonical.then(|| key.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fixtures::{field, format};

    #[test]
    fn paths_share_their_common_places() {
        let mut format = format(&[
            ("a.b", "x"),
            ("a.c", "a.c"),
            ("a.10", "ten"),
            ("a.9", "nine"),
            ("a.09", "text"),
        ]);
        format.key = KeyFrom::Field(vec!["a".into(), "b".into()]);
        let (root, nodes) = Node::of(&format);
        assert_eq!(nodes, 7, "the root, `a` and five below it");
        let child = |node: &Node, key: &str| node.child(key, 0).map(|(_, child)| child.clone());
        let a = child(&root, "a").expect("a");
        assert!(child(&root, "b").is_none() && !a.is_leaf());
        assert_eq!(a.label, "field `a`");
        let b = child(&a, "b").expect("a.b");
        assert_eq!(b.targets, [Target::Key, Target::Reading(0)]);
        assert_eq!(b.label, "series key `a.b`");
        assert_eq!(
            child(&a, "10").expect("a.10").label,
            "field `ten` (at `a.10`)"
        );
        let elements: Vec<_> = a
            .elements()
            .map(|(index, node)| (index, node.targets.clone()))
            .collect();
        assert_eq!(
            elements,
            [
                (9, vec![Target::Reading(3)]),
                (10, vec![Target::Reading(2)])
            ]
        );
    }

    #[test]
    fn a_key_is_found_at_one_index_whatever_was_expected() {
        let (root, _) = Node::of(&format(&[("z", "z"), ("a", "a"), ("m", "m")]));
        for expected in 0..5 {
            for (index, key) in ["z", "a", "m"].into_iter().enumerate() {
                assert_eq!(
                    root.child(key, expected).map(|(at, _)| at),
                    Some(index),
                    "{key}, {expected} expected"
                );
            }
            assert!(root.child("q", expected).is_none());
        }
    }

    #[test]
    fn the_reason_of_a_misfit_is_that_of_what_stands_below() {
        let mut format = format(&[]);
        format.fields = vec![field("v", &["d", "v"])];
        format.key = KeyFrom::Field(vec!["id".into(), "name".into()]);
        format.time = TimeFrom::Field(vec!["ts".into()]);
        let (root, _) = Node::of(&format);
        for (key, reason) in [
            ("d", RejectReason::WrongType),
            ("id", RejectReason::BadKey),
            ("ts", RejectReason::BadTime),
        ] {
            assert_eq!(
                root.child(key, 0).map(|(_, child)| child.misfit()),
                Some(reason),
                "{key}"
            );
        }
    }

    #[test]
    fn only_canonical_numbers_are_array_indices() {
        for (key, index) in [
            ("0", Some(0)),
            ("17", Some(17)),
            ("01", None),
            ("", None),
            ("-1", None),
            ("1a", None),
        ] {
            assert_eq!(array_index(key), index, "{key}");
        }
        assert_eq!(array_index("99999999999999999999999"), None);
    }
}
