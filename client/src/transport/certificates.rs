//! Where libvirt's clients have their certificates.

use std::path::{Path, PathBuf};

use crate::uri::{Target, home, is_root};

/// The files that a TLS connection takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Files {
    /// Certificates of those who are trusted to sign.
    pub(super) authority: PathBuf,
    /// Withdrawn certificates; the file need not exist.
    pub(super) revoked: PathBuf,
    /// The client's own certificate.
    pub(super) certificate: PathBuf,
    /// The private key to it.
    pub(super) key: PathBuf,
}

impl Files {
    /// Those of `pkipath`, else the user's own in `~/.pki/libvirt`, else the host's in `/etc/pki`.
    pub(super) fn find(target: &Target) -> Self {
        if let Some(dir) = &target.parameters.pkipath {
            return Self::in_one(dir);
        }
        let user = home().filter(|_| !is_root()).map(|home| home.join(".pki/libvirt"));
        Self::of(user.as_deref(), Path::new("/etc/pki"))
    }

    fn in_one(dir: &Path) -> Self {
        Self {
            authority: dir.join("cacert.pem"),
            revoked: dir.join("cacrl.pem"),
            certificate: dir.join("clientcert.pem"),
            key: dir.join("clientkey.pem"),
        }
    }

    /// CA and certificate are looked up apart; certificate and key are taken from one place.
    fn of(user: Option<&Path>, host: &Path) -> Self {
        let mut this = Self {
            authority: host.join("CA/cacert.pem"),
            revoked: host.join("CA/cacrl.pem"),
            certificate: host.join("libvirt/clientcert.pem"),
            key: host.join("libvirt/private/clientkey.pem"),
        };
        if let Some(own) = user.map(Self::in_one) {
            if own.authority.exists() {
                (this.authority, this.revoked) = (own.authority, own.revoked);
            }
            if own.certificate.exists() && own.key.exists() {
                (this.certificate, this.key) = (own.certificate, own.key);
            }
        }
        this
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_has_comes_first_and_pairs_are_not_split() {
        let dir = std::env::temp_dir().join(format!("virtwire-pki-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let host = Path::new("/etc/pki");
        let put = |name: &str| std::fs::write(dir.join(name), "").unwrap();
        let names = |files: Files| (files.authority, files.certificate, files.key);

        let theirs = names(Files::of(None, host));
        assert_eq!(names(Files::of(Some(&dir), host)), theirs);
        put("cacert.pem");
        put("clientcert.pem");
        let got = Files::of(Some(&dir), host);
        assert_eq!(got.authority, dir.join("cacert.pem"));
        assert_eq!((got.certificate, got.key), (theirs.1, theirs.2));
        put("clientkey.pem");
        assert_eq!(Files::of(Some(&dir), host).key, dir.join("clientkey.pem"));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn pkipath_is_the_only_place_if_it_is_given() {
        let target = Target::parse("qemu+tls://far/system?pkipath=/p").unwrap();
        assert_eq!(Files::find(&target), Files::in_one(Path::new("/p")));
    }
}
