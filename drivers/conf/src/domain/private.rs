//! `<privateData>`: what devices of a running guest are to QEMU, as a status file says it.

use crate::element;

element! {
    /// `<privateData>` of a source.
    pub struct SourcePrivate {
        child nodenames: Option<NodeNames>;
        child reservations: Option<Manager>;
        child objects: Option<SourceObjects>;
    }

    /// `<nodenames>`: nodes of QEMU's.
    pub struct NodeNames {
        child nodename: Vec<NodeName>;
    }

    /// `<nodename>`: what a node does, and its name.
    pub struct NodeName {
        attr type_ "type": String;
        attr name: String;
    }

    /// `<reservations>`: the object that holds those of a source.
    pub struct Manager {
        attr mgralias: String;
    }

    /// `<objects>`: what QEMU has for a source beside its nodes.
    pub struct SourceObjects {
        child secret: Vec<SourceSecret>;
        child tls "TLSx509": Option<ObjectName>;
    }

    /// `<secret>`: what it is for, and the object.
    pub struct SourceSecret {
        attr type_ "type": String;
        attr alias: String;
    }

    /// An object of QEMU's by its name.
    pub struct ObjectName {
        attr alias: String;
    }

    /// `<privateData>` of a disk.
    pub struct DiskPrivate {
        child qom: Option<QomName>;
        child nodenames: Option<NodeNames>;
    }

    /// `<qom>`: QEMU's name of the guest's end of a disk.
    pub struct QomName {
        attr name: String;
    }
}
