//! One store for every kind of object: found by name or UUID, listed in the order of definition.

use std::collections::{BTreeMap, HashMap};

/// A UUID as the wire carries it.
pub(crate) type Uuid = [u8; 16];

/// What a [`Registry`] holds.
pub(crate) trait Object {
    /// The name, unique within its kind.
    fn name(&self) -> &str;

    /// The UUID, unique within its kind; none for kinds that have none.
    fn uuid(&self) -> Option<Uuid> {
        None
    }

    /// Whether it runs.
    fn is_active(&self) -> bool;
}

/// Objects of one kind.
#[derive(Clone, Debug)]
pub(crate) struct Registry<T> {
    items: BTreeMap<u64, T>,
    by_name: HashMap<String, u64>,
    by_uuid: HashMap<Uuid, u64>,
    next: u64,
}

impl<T> Default for Registry<T> {
    fn default() -> Self {
        Self { items: BTreeMap::new(), by_name: HashMap::new(), by_uuid: HashMap::new(), next: 0 }
    }
}

impl<T: Object> Registry<T> {
    /// Adds an object; one of the same name or UUID gives way and is returned.
    pub(crate) fn insert(&mut self, item: T) -> Option<T> {
        let old = match item.uuid().and_then(|uuid| self.by_uuid.get(&uuid)) {
            Some(_) => item.uuid().and_then(|uuid| self.remove_uuid(&uuid)),
            None => self.remove(item.name()),
        };
        self.by_name.insert(item.name().to_owned(), self.next);
        if let Some(uuid) = item.uuid() {
            self.by_uuid.insert(uuid, self.next);
        }
        self.items.insert(self.next, item);
        self.next += 1;
        old
    }

    /// The object of that name.
    pub(crate) fn by_name(&self, name: &str) -> Option<&T> {
        self.items.get(self.by_name.get(name)?)
    }

    /// The object of that name, to be changed; its name and UUID must stay (see [`Registry::rename`]).
    pub(crate) fn by_name_mut(&mut self, name: &str) -> Option<&mut T> {
        self.items.get_mut(self.by_name.get(name)?)
    }

    /// The object of that UUID.
    pub(crate) fn by_uuid(&self, uuid: &Uuid) -> Option<&T> {
        self.items.get(self.by_uuid.get(uuid)?)
    }

    /// The object of that UUID, to be changed; its name and UUID must stay (see [`Registry::rename`]).
    pub(crate) fn by_uuid_mut(&mut self, uuid: &Uuid) -> Option<&mut T> {
        self.items.get_mut(self.by_uuid.get(uuid)?)
    }

    /// Takes the object of that name out.
    pub(crate) fn remove(&mut self, name: &str) -> Option<T> {
        let item = self.items.remove(&self.by_name.remove(name)?)?;
        if let Some(uuid) = item.uuid() {
            self.by_uuid.remove(&uuid);
        }
        Some(item)
    }

    /// Takes the object of that UUID out.
    pub(crate) fn remove_uuid(&mut self, uuid: &Uuid) -> Option<T> {
        let item = self.items.remove(&self.by_uuid.remove(uuid)?)?;
        self.by_name.remove(item.name());
        Some(item)
    }

    /// Gives the object of that UUID another name; `set` writes it into the object. It keeps its place in lists.
    pub(crate) fn rename(&mut self, uuid: &Uuid, name: &str, set: impl FnOnce(&mut T)) {
        if let Some((key, item)) =
            self.by_uuid.get(uuid).and_then(|key| Some((*key, self.items.get_mut(key)?)))
        {
            self.by_name.remove(item.name());
            set(item);
            self.by_name.insert(name.to_owned(), key);
        }
    }

    /// All objects, in the order of definition.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.values()
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }

    /// All objects that run, or all that don't.
    pub(crate) fn of_state(&self, active: bool) -> impl Iterator<Item = &T> {
        self.iter().filter(move |item| item.is_active() == active)
    }

    /// How many run, or don't. The wire counts in `int`.
    pub(crate) fn count(&self, active: bool) -> i32 {
        i32::try_from(self.of_state(active).count()).unwrap_or(i32::MAX)
    }

    /// At most `max` names of those that run, or don't.
    pub(crate) fn names(&self, active: bool, max: i32) -> impl Iterator<Item = &str> {
        self.of_state(active).map(Object::name).take(usize::try_from(max).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq)]
    struct Thing(String, Uuid, bool);

    impl Object for Thing {
        fn name(&self) -> &str {
            &self.0
        }

        fn uuid(&self) -> Option<Uuid> {
            Some(self.1)
        }

        fn is_active(&self) -> bool {
            self.2
        }
    }

    fn three() -> Registry<Thing> {
        let mut all = Registry::default();
        for (n, name) in ["c", "a", "b"].into_iter().enumerate() {
            assert!(all.insert(Thing(name.into(), [n as u8; 16], n == 1)).is_none());
        }
        all
    }

    fn names(all: &Registry<Thing>) -> Vec<&str> {
        all.iter().map(Object::name).collect()
    }

    #[test]
    fn lists_keep_the_order_of_definition() {
        let all = three();
        assert_eq!(names(&all), ["c", "a", "b"]);
        assert_eq!(all.names(false, 1).collect::<Vec<_>>(), ["c"]);
        assert_eq!(all.names(false, -1).count(), 0);
        assert_eq!((all.count(true), all.count(false)), (1, 2));
    }

    #[test]
    fn found_by_name_and_uuid_until_removed() {
        let mut all = three();
        assert_eq!(all.by_uuid(&[1; 16]).map(Object::name), Some("a"));
        assert_eq!(all.remove("a").map(|t| t.1), Some([1; 16]));
        assert!(all.by_uuid(&[1; 16]).is_none() && all.by_name("a").is_none());
        assert_eq!(all.remove_uuid(&[0; 16]).map(|t| t.0), Some("c".into()));
        assert_eq!(names(&all), ["b"]);
    }

    #[test]
    fn a_new_definition_replaces_the_old() {
        let mut all = three();
        assert_eq!(all.insert(Thing("z".into(), [0; 16], true)).map(|t| t.0), Some("c".into()));
        assert!(all.by_name("c").is_none());
        assert_eq!(names(&all), ["a", "b", "z"]);
    }

    #[test]
    fn renaming_keeps_the_place() {
        let mut all = three();
        all.rename(&[0; 16], "q", |t| t.0 = "q".into());
        assert_eq!(names(&all), ["q", "a", "b"]);
        assert!(all.by_name("c").is_none());
        assert_eq!(all.by_name("q").map(|t| t.1), Some([0; 16]));
    }
}
