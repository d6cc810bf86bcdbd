//! `<secret>`: what a secret is for, never its value.

use uuid::Uuid;

use crate::{YesNo, element, keywords};

keywords! {
    /// What a secret is for.
    pub enum SecretUsageType { Volume = "volume", Ceph = "ceph", Iscsi = "iscsi", Tls = "tls", Vtpm = "vtpm" }
}

element! {
    /// `<secret>`.
    pub struct Secret {
        attr_default ephemeral: YesNo => SECRET.xml_error "invalid value of 'ephemeral'";
        attr_default private: YesNo => SECRET.xml_error "invalid value of 'private'";
        leaf uuid: Option<Uuid> => SECRET.internal_error "malformed uuid element";
        leaf description: Option<String>;
        child usage: Option<SecretUsage>;
    }

    /// `<usage>`: which kind, and of what.
    pub struct SecretUsage {
        attr type_ "type": SecretUsageType;
        leaf volume: Option<String>;
        leaf name: Option<String>;
        leaf target: Option<String>;
    }
}

impl SecretUsageType {
    /// `VIR_SECRET_USAGE_TYPE_…`
    pub const fn number(self) -> i32 {
        match self {
            Self::Volume => 1,
            Self::Ceph => 2,
            Self::Iscsi => 3,
            Self::Tls => 4,
            Self::Vtpm => 5,
        }
    }

    /// The kind of a number; 0 is none.
    pub fn from_number(number: i32) -> Option<Self> {
        let all = [Self::Volume, Self::Ceph, Self::Iscsi, Self::Tls, Self::Vtpm];
        all.into_iter().find(|kind| kind.number() == number)
    }
}

impl SecretUsage {
    /// The volume, name or target that the secret is for.
    pub fn id(&self) -> Option<&str> {
        self.volume.as_deref().or(self.name.as_deref()).or(self.target.as_deref())
    }
}
