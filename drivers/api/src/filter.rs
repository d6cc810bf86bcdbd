//! What the list procedures of several drivers have in common: the flags of `virConnectListAll…` that choose objects.

/// A filter made of two flags, such as "active" and "inactive": neither or both let everything pass.
pub fn passes(flags: u32, yes: u32, no: u32, is: bool) -> bool {
    let asked = flags & (yes | no);
    asked == 0 || asked & (if is { yes } else { no }) != 0
}

/// The kinds of storage pools in the order of their bits in `virConnectListAllStoragePoolsFlags`, from the seventh on.
pub const POOL_KINDS: [&str; 14] = [
    "dir",
    "fs",
    "netfs",
    "logical",
    "disk",
    "iscsi",
    "scsi",
    "mpath",
    "rbd",
    "sheepdog",
    "gluster",
    "zfs",
    "vstorage",
    "iscsi-direct",
];

/// The bit of the first kind; those below are pairs.
const FIRST_POOL_KIND: u32 = 6;

/// All flags of `virConnectListAllStoragePoolsFlags`.
pub const POOL_FLAGS: u32 = (1 << (FIRST_POOL_KIND as usize + POOL_KINDS.len())) - 1;

/// A filter made of one flag for each kind of pool: none lets everything pass.
pub fn pool_kind_passes(flags: u32, kind: &str) -> bool {
    let kinds = flags >> FIRST_POOL_KIND;
    let kind = POOL_KINDS.iter().position(|known| *known == kind);
    kinds == 0 || kind.is_some_and(|kind| kinds >> kind & 1 == 1)
}

/// What devices of the host are, in the order of the bits of `virConnectListAllNodeDeviceFlags`.
const NODE_DEVICE_KINDS: [&str; 21] = [
    "system",
    "pci",
    "usb_device",
    "usb",
    "net",
    "scsi_host",
    "scsi_target",
    "scsi",
    "storage",
    "fc_host",
    "vports",
    "scsi_generic",
    "drm",
    "mdev_types",
    "mdev",
    "ccw",
    "css",
    "vdpa",
    "ap_card",
    "ap_queue",
    "ap_matrix",
];
/// The bits of kinds, those among them that nothing here is of.
const NODE_DEVICE_KINDS_MASK: u32 = (1 << 24) - 1;

/// All flags of `virConnectListAllNodeDeviceFlags`: kinds, then at the far end persistent, transient, inactive, active.
pub const NODE_DEVICE_FLAGS: u32 = !(0xf << 24);

/// Whether `virConnectListAllNodeDevices` shows a device that is of some kinds, and is persistent and active or not.
pub fn node_device_passes(flags: u32, own: &[&str], (persistent, active): (bool, bool)) -> bool {
    let kinds = flags & NODE_DEVICE_KINDS_MASK;
    let is_kind =
        NODE_DEVICE_KINDS.iter().enumerate().any(|(n, kind)| kinds >> n & 1 == 1 && own.contains(kind));
    (kinds == 0 || is_kind)
        && passes(flags, 1 << 28, 1 << 29, persistent)
        && passes(flags, 1 << 31, 1 << 30, active)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_chosen_by_kind_and_by_state() {
        let passes = |flags, own: &[&str]| node_device_passes(flags, own, (true, true));
        assert!(passes(0, &[]) && passes(1 << 1 | 1 << 4, &["net"]) && !passes(1 << 1, &["net"]));
        assert!(passes(1 << 28 | 1 << 31, &[]) && !passes(1 << 29, &[]) && !passes(1 << 30, &[]));
    }

    #[test]
    fn a_pair_of_flags_lets_all_pass_if_it_says_nothing() {
        let both = |flags| (passes(flags, 1, 2, true), passes(flags, 1, 2, false));
        assert_eq!([0, 1, 2, 3].map(both), [(true, true), (true, false), (false, true), (true, true)]);
    }

    #[test]
    fn kinds_of_pools_have_a_flag_each() {
        assert_eq!(POOL_FLAGS, 0xf_ffff);
        assert!(pool_kind_passes(0, "unheard-of") && pool_kind_passes(63, "dir"));
        assert!(pool_kind_passes(1 << 6, "dir") && !pool_kind_passes(1 << 6, "fs"));
        assert!(pool_kind_passes(1 << 19, "iscsi-direct") && !pool_kind_passes(1 << 19, "unheard-of"));
    }
}
