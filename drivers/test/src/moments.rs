//! Snapshots and checkpoints: named moments of a guest, each with at most one parent.

/// A snapshot or a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Moment<T> {
    /// Unique within its guest.
    pub(crate) name: String,
    /// The moment it follows.
    pub(crate) parent: Option<String>,
    /// What is remembered.
    pub(crate) data: T,
}

/// The moments of one guest. Parents are always members, and come before their children.
#[derive(Clone, Debug)]
pub(crate) struct Moments<T> {
    all: Vec<Moment<T>>,
    /// The moment that the next one will follow.
    pub(crate) current: Option<String>,
}

impl<T> Default for Moments<T> {
    fn default() -> Self {
        Self { all: Vec::new(), current: None }
    }
}

/// What goes when a moment is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delete {
    /// The moment; its children move up to its parent.
    One,
    /// The moment and everything below it.
    WithChildren,
    /// Everything below the moment.
    OnlyChildren,
}

impl Delete {
    /// `VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN` (1) and `..._CHILDREN_ONLY` (4); the same bits for checkpoints.
    pub(crate) fn from_flags(flags: u32) -> Self {
        match flags & (CHILDREN | CHILDREN_ONLY) {
            0 => Self::One,
            CHILDREN => Self::WithChildren,
            _ => Self::OnlyChildren,
        }
    }
}

const CHILDREN: u32 = 1;
const CHILDREN_ONLY: u32 = 4;

impl<T> Moments<T> {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All, parents before children.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Moment<T>> {
        self.all.iter()
    }

    /// The moment of that name.
    pub(crate) fn get(&self, name: &str) -> Option<&Moment<T>> {
        self.all.iter().find(|m| m.name == name)
    }

    /// The moment that the guest stands at.
    pub(crate) fn current(&self) -> Option<&Moment<T>> {
        self.get(self.current.as_deref()?)
    }

    /// Adds a moment, or replaces the data of the one with the same name.
    pub(crate) fn insert(&mut self, moment: Moment<T>) {
        match self.all.iter_mut().find(|m| m.name == moment.name) {
            Some(old) => *old = moment,
            None => self.all.push(moment),
        }
    }

    /// The moments directly below `parent` (`None`: those without a parent), youngest first.
    pub(crate) fn children<'m>(&'m self, parent: Option<&'m str>) -> impl Iterator<Item = &'m Moment<T>> {
        self.all.iter().rev().filter(move |m| m.parent.as_deref() == parent)
    }

    /// Everything below `parent`, each moment before its children.
    pub(crate) fn descendants<'m>(&'m self, parent: Option<&'m str>) -> Vec<&'m Moment<T>> {
        let mut stack: Vec<_> = self.children(parent).collect();
        stack.reverse();
        let mut found = Vec::new();
        while let Some(moment) = stack.pop() {
            found.push(moment);
            let at = stack.len();
            stack.extend(self.children(Some(&moment.name)));
            stack[at..].reverse();
        }
        found
    }

    /// Deletes at a moment that exists. Whoever stood at a deleted moment then stands at the nearest one left.
    pub(crate) fn delete(&mut self, name: &str, what: Delete) {
        let parent = self.get(name).and_then(|m| m.parent.clone());
        let mut gone: Vec<String> = match what {
            Delete::One => Vec::new(),
            Delete::WithChildren | Delete::OnlyChildren => {
                self.descendants(Some(name)).iter().map(|m| m.name.clone()).collect()
            }
        };
        let left = if what == Delete::OnlyChildren {
            Some(name.to_owned())
        } else {
            gone.push(name.to_owned());
            parent
        };
        if self.current.as_ref().is_some_and(|current| gone.contains(current)) {
            self.current.clone_from(&left);
        }
        self.all.retain(|m| !gone.contains(&m.name));
        for moment in &mut self.all {
            if moment.parent.as_ref().is_some_and(|p| gone.contains(p)) {
                moment.parent.clone_from(&left);
            }
        }
    }

    /// Whether making `parent` the parent of `name` would close a circle.
    pub(crate) fn would_circle(&self, name: &str, parent: &str) -> bool {
        std::iter::successors(Some(parent), |at| self.get(at)?.parent.as_deref()).any(|at| at == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// a ─ b ─ c, and a ─ d.
    fn tree() -> Moments<()> {
        let mut all = Moments::default();
        for (name, parent) in [("a", None), ("b", Some("a")), ("c", Some("b")), ("d", Some("a"))] {
            all.insert(Moment { name: name.into(), parent: parent.map(str::to_owned), data: () });
            all.current = Some(name.into());
        }
        all
    }

    fn names(list: Vec<&Moment<()>>) -> Vec<&str> {
        list.iter().map(|m| m.name.as_str()).collect()
    }

    #[test]
    fn parents_come_first_and_young_siblings_before_old() {
        assert_eq!(names(tree().descendants(None)), ["a", "d", "b", "c"]);
        assert_eq!(names(tree().descendants(Some("a"))), ["d", "b", "c"]);
        assert_eq!(names(tree().children(Some("a")).collect()), ["d", "b"]);
    }

    #[test]
    fn children_of_a_deleted_moment_move_up() {
        let mut all = tree();
        all.current = Some("b".into());
        all.delete("b", Delete::One);
        assert_eq!(all.get("c").and_then(|m| m.parent.as_deref()), Some("a"));
        assert_eq!(all.current.as_deref(), Some("a"));
    }

    #[test]
    fn deleting_with_children_and_only_children() {
        let mut all = tree();
        all.current = Some("c".into());
        all.delete("b", Delete::OnlyChildren);
        assert_eq!((names(all.descendants(None)), all.current.as_deref()), (vec!["a", "d", "b"], Some("b")));
        all.delete("a", Delete::WithChildren);
        assert!(all.is_empty() && all.current.is_none());
    }

    #[test]
    fn circles_are_seen() {
        let all = tree();
        assert!(all.would_circle("a", "c") && all.would_circle("a", "a"));
        assert!(!all.would_circle("c", "a") && !all.would_circle("x", "c"));
    }
}
