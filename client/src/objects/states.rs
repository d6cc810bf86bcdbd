//! States by their names.

use std::fmt;

macro_rules! states {
    ($($(#[$doc:meta])* $name:ident { $($number:literal => $state:ident $text:literal;)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = concat!($text, ", ", $number)]
            $state,)*
            /// What later versions of libvirt have, by number.
            Other(i32),
        }

        impl From<i32> for $name {
            fn from(number: i32) -> Self {
                match number {
                    $($number => Self::$state,)*
                    other => Self::Other(other),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$state => f.pad($text),)*
                    Self::Other(number) => f.pad(&format!("state {number}")),
                }
            }
        })*
    };
}

states! {
    /// `virDomainState`
    DomainState {
        0 => NoState "no state";
        1 => Running "running";
        2 => Blocked "idle";
        3 => Paused "paused";
        4 => ShuttingDown "in shutdown";
        5 => ShutOff "shut off";
        6 => Crashed "crashed";
        7 => Suspended "pmsuspended";
    }

    /// `virStoragePoolState`
    PoolState {
        0 => Inactive "inactive";
        1 => Building "building";
        2 => Running "running";
        3 => Degraded "degraded";
        4 => Inaccessible "inaccessible";
    }

    /// `virStorageVolType`
    VolumeKind {
        0 => File "file";
        1 => Block "block";
        2 => Directory "dir";
        3 => Network "network";
        4 => NetworkDirectory "netdir";
        5 => Ploop "ploop";
    }

    /// `virDomainBlockJobType`
    BlockJobKind {
        0 => Unknown "unknown";
        1 => Pull "pull";
        2 => Copy "copy";
        3 => Commit "commit";
        4 => ActiveCommit "active commit";
        5 => Backup "backup";
    }
}
