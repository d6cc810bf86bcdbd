//! Snapshots and checkpoints: named moments of a guest, each with at most one parent.

use virtwire_protocol::{ErrorDomain, VirtError};

/// `VIR_DOMAIN_SNAPSHOT_LIST_…` and `VIR_DOMAIN_CHECKPOINT_LIST_…`, which are the same as far as both have them.
pub mod list {
    /// Without parent, of a guest's list; with all descendants, of a moment's list.
    pub const ROOTS_OR_DESCENDANTS: u32 = 1 << 0;
    /// Those whose description is kept.
    pub const METADATA: u32 = 1 << 1;
    /// Those that nothing follows.
    pub const LEAVES: u32 = 1 << 2;
    /// Those that something follows.
    pub const NO_LEAVES: u32 = 1 << 3;
    /// Those whose description is not kept.
    pub const NO_METADATA: u32 = 1 << 4;
    /// Taken while the guest was off.
    pub const INACTIVE: u32 = 1 << 5;
    /// Taken with the guest's memory.
    pub const ACTIVE: u32 = 1 << 6;
    /// Taken of disks alone while the guest ran.
    pub const DISK_ONLY: u32 = 1 << 7;
    /// Kept within the images.
    pub const INTERNAL: u32 = 1 << 8;
    /// Kept in files of their own.
    pub const EXTERNAL: u32 = 1 << 9;
    /// Parents before children, as all lists are.
    pub const TOPOLOGICAL: u32 = 1 << 10;
    /// All of these.
    pub const KNOWN: u32 = (1 << 11) - 1;

    /// Flags of one group: none of them, or all, lets everything pass.
    pub(super) const GROUPS: [u32; 4] =
        [METADATA | NO_METADATA, LEAVES | NO_LEAVES, INACTIVE | ACTIVE | DISK_ONLY, INTERNAL | EXTERNAL];
}

/// A snapshot or a checkpoint.
#[derive(Clone, Debug)]
pub struct Moment<T> {
    /// Unique within its guest.
    pub name: String,
    /// The moment it follows.
    pub parent: Option<String>,
    /// What is remembered.
    pub data: T,
}

/// The moments of one guest. Parents are always members, and come before their children.
#[derive(Clone, Debug)]
pub struct Moments<T> {
    all: Vec<Moment<T>>,
    /// The moment that the next one will follow.
    pub current: Option<String>,
}

impl<T> Default for Moments<T> {
    fn default() -> Self {
        Self { all: Vec::new(), current: None }
    }
}

/// What goes when a moment is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delete {
    /// The moment; its children move up to its parent.
    One,
    /// The moment and everything below it.
    WithChildren,
    /// Everything below the moment.
    OnlyChildren,
}

impl Delete {
    /// `VIR_DOMAIN_SNAPSHOT_DELETE_CHILDREN` (1) and `..._CHILDREN_ONLY` (4); the same bits for checkpoints.
    pub fn from_flags(flags: u32) -> Self {
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
    /// Moments in any order; one whose parent is lost has none.
    pub fn from_unsorted(mut waiting: Vec<Moment<T>>) -> Self {
        let mut moments = Self::default();
        while !waiting.is_empty() {
            let known = |moment: &Moment<T>| {
                moment.parent.as_ref().is_none_or(|parent| moments.get(parent).is_some())
            };
            let ready = waiting.iter().position(known);
            let mut moment = waiting.remove(ready.unwrap_or_default());
            if ready.is_none() {
                moment.parent = None;
            }
            moments.insert(moment);
        }
        moments
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All, parents before children.
    pub fn iter(&self) -> impl Iterator<Item = &Moment<T>> {
        self.all.iter()
    }

    /// The moment of that name.
    pub fn get(&self, name: &str) -> Option<&Moment<T>> {
        self.all.iter().find(|m| m.name == name)
    }

    /// The moment of that name, to be changed; its name and parent stay.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Moment<T>> {
        self.all.iter_mut().find(|m| m.name == name)
    }

    /// The moment that the guest stands at.
    pub fn current(&self) -> Option<&Moment<T>> {
        self.get(self.current.as_deref()?)
    }

    /// Adds a moment, or replaces the data of the one with the same name.
    pub fn insert(&mut self, moment: Moment<T>) {
        match self.all.iter_mut().find(|m| m.name == moment.name) {
            Some(old) => *old = moment,
            None => self.all.push(moment),
        }
    }

    /// The moments directly below `parent` (`None`: those without a parent), youngest first.
    pub fn children<'m>(&'m self, parent: Option<&'m str>) -> impl Iterator<Item = &'m Moment<T>> {
        self.all.iter().rev().filter(move |m| m.parent.as_deref() == parent)
    }

    /// Everything below `parent`, each moment before its children.
    pub fn descendants<'m>(&'m self, parent: Option<&'m str>) -> Vec<&'m Moment<T>> {
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

    /// The moments of a list: below `from`, or of the guest. `kind` says which of [`list`]'s flags a moment has by
    /// what it is, of the last two groups.
    pub fn list<'m>(
        &'m self,
        from: Option<&'m str>,
        flags: u32,
        kind: impl Fn(&T) -> u32,
    ) -> Vec<&'m Moment<T>> {
        let deep = (flags & list::ROOTS_OR_DESCENDANTS != 0) == from.is_some();
        let mut found = if deep { self.descendants(from) } else { self.children(from).collect() };
        found.retain(|moment| {
            let leaf = self.children(Some(&moment.name)).next().is_none();
            let leaf = if leaf { list::LEAVES } else { list::NO_LEAVES };
            let is = kind(&moment.data) | list::METADATA | leaf;
            list::GROUPS.iter().all(|group| flags & group == 0 || flags & group & is != 0)
        });
        found
    }

    /// Checks the parent that a redefined moment names.
    ///
    /// # Errors
    /// There is none of that name, or it comes after this one.
    pub fn check_parent(&self, name: &str, parent: Option<&str>) -> Result<(), VirtError> {
        let Some(parent) = parent else { return Ok(()) };
        let wrong = if parent == name {
            format!("cannot set moment {name} as its own parent")
        } else if self.get(parent).is_none() {
            format!("parent {parent} for moment {name} not found")
        } else if self.would_circle(name, parent) {
            format!("parent {parent} would create cycle to {name}")
        } else {
            return Ok(());
        };
        Err(ErrorDomain::DOMAIN.invalid_arg(wrong))
    }

    /// What would go.
    pub fn affected(&self, name: &str, what: Delete) -> Vec<String> {
        let mut gone: Vec<String> = match what {
            Delete::One => Vec::new(),
            Delete::WithChildren | Delete::OnlyChildren => {
                self.descendants(Some(name)).iter().map(|m| m.name.clone()).collect()
            }
        };
        if what != Delete::OnlyChildren {
            gone.push(name.to_owned());
        }
        gone
    }

    /// Deletes at a moment that exists. Whoever stood at a deleted moment then stands at the nearest one left.
    pub fn delete(&mut self, name: &str, what: Delete) {
        let parent = self.get(name).and_then(|m| m.parent.clone());
        let gone = self.affected(name, what);
        let left = if what == Delete::OnlyChildren { Some(name.to_owned()) } else { parent };
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
    pub fn would_circle(&self, name: &str, parent: &str) -> bool {
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
