//! The images of a disk as a list, the one that is written to first: easier to change than one inside the other.

use virtwire_conf::domain::disk::{
    BackingFormat, BackingStore, Disk, DiskSource, MetadataCache, Mirror, StorageType,
};

use crate::argv::storage::{Image, chain};

/// An image of a disk, wherever in its chain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Layer {
    pub(crate) type_: StorageType,
    pub(crate) format: String,
    pub(crate) cache: Option<MetadataCache>,
    pub(crate) source: DiskSource,
    /// Its number in a run.
    pub(crate) index: Option<u32>,
}

impl Layer {
    /// The file or device that it is.
    pub(crate) fn path(&self) -> Option<&str> {
        self.source.file.as_deref().or(self.source.dev.as_deref())
    }
}

/// The images of a disk, and whether its definition says where the chain ends.
pub(crate) fn layers(disk: &Disk) -> (Vec<Layer>, bool) {
    let Some(source) = &disk.source else { return (Vec::new(), false) };
    let driver = disk.driver.as_ref();
    let mut all = vec![Layer {
        type_: disk.type_,
        format: driver.and_then(|driver| driver.type_.clone()).unwrap_or_else(|| "raw".to_owned()),
        cache: driver.and_then(|driver| driver.metadata_cache.clone()),
        source: DiskSource { index: None, ..source.clone() },
        index: source.index,
    }];
    let mut below = disk.backing_store.as_deref();
    while let Some(store) = below {
        let Some(source) = &store.source else { return (all, true) };
        let format = store.format.as_ref();
        all.push(Layer {
            type_: store.type_.unwrap_or_default(),
            format: format.map_or_else(|| "raw".to_owned(), |format| format.type_.clone()),
            cache: format.and_then(|format| format.metadata_cache.clone()),
            source: DiskSource { index: None, ..source.clone() },
            index: store.index.or(source.index),
        });
        below = store.backing_store.as_deref();
    }
    (all, false)
}

/// Gives a disk other images.
pub(crate) fn put(disk: &mut Disk, layers: Vec<Layer>, ended: bool) {
    let mut layers = layers.into_iter();
    let Some(top) = layers.next() else { return };
    disk.backing_store = backing(layers.collect(), ended);
    disk.type_ = top.type_;
    disk.source = Some(DiskSource { index: top.index, ..top.source });
    let driver = disk.driver.get_or_insert_default();
    driver.type_ = Some(top.format);
    driver.metadata_cache = top.cache;
}

/// Images below another, one inside the other.
fn backing(layers: Vec<Layer>, ended: bool) -> Option<Box<BackingStore>> {
    let end = ended.then(Box::<BackingStore>::default);
    layers.into_iter().rev().fold(end, |backing_store, layer| {
        let format = BackingFormat { type_: layer.format, metadata_cache: layer.cache };
        Some(Box::new(BackingStore {
            type_: Some(layer.type_),
            index: layer.index,
            format: Some(format),
            source: Some(layer.source),
            backing_store,
        }))
    })
}

/// A disk like this one with only one image, and nothing below.
pub(super) fn alone(disk: &Disk, layer: &Layer) -> Disk {
    let mut alone = Disk { mirror: None, ..disk.clone() };
    put(&mut alone, vec![layer.clone()], true);
    alone
}

/// QEMU's name of an image, and the names of all of its nodes, the uppermost first.
pub(crate) fn nodes(disk: &Disk, layer: &Layer) -> (String, Vec<String>) {
    let alone = alone(disk, layer);
    let image = chain(&alone).into_iter().next();
    let mut all = image.as_ref().map(Image::nodes).unwrap_or_default();
    all.reverse();
    (image.as_ref().map(Image::node).unwrap_or_default(), all)
}

/// The image that a job's other side is.
pub(super) fn other_side(disk: &Disk) -> Option<Layer> {
    let mirror = disk.mirror.as_ref()?;
    let source = mirror.source.as_ref()?;
    Some(Layer {
        type_: mirror.type_.unwrap_or_default(),
        format: mirror.format.as_ref().map_or_else(|| "raw".to_owned(), |format| format.type_.clone()),
        cache: None,
        source: DiskSource { index: None, ..source.clone() },
        index: source.index,
    })
}

/// The other side of a job of this kind, as a definition shows it.
pub(super) fn mirror(image: &Layer, job: &str) -> Mirror {
    Mirror {
        type_: Some(image.type_),
        job: Some(job.to_owned()),
        format: Some(BackingFormat { type_: image.format.clone(), ..BackingFormat::default() }),
        source: Some(DiskSource { index: image.index, ..image.source.clone() }),
        ..Mirror::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(path: &str, index: u32) -> Layer {
        let source = DiskSource { file: Some(path.to_owned()), ..DiskSource::default() };
        Layer { format: "qcow2".to_owned(), source, index: Some(index), ..Layer::default() }
    }

    #[test]
    fn a_disk_gets_the_images_that_it_has() {
        for ended in [true, false] {
            let images = vec![layer("/c", 1), layer("/b", 2), layer("/a", 3)];
            let mut disk = Disk::default();
            put(&mut disk, images.clone(), ended);
            assert_eq!(layers(&disk), (images, ended));
        }
    }

    #[test]
    fn raw_images_have_one_node() {
        let raw = Layer { format: "raw".to_owned(), ..layer("/a", 7) };
        let both = ["libvirt-1-format", "libvirt-1-storage"].map(str::to_owned).to_vec();
        assert_eq!(nodes(&Disk::default(), &layer("/b", 1)), ("libvirt-1-format".to_owned(), both));
        let one = "libvirt-7-storage".to_owned();
        assert_eq!(nodes(&Disk::default(), &raw), (one.clone(), vec![one]));
    }
}
