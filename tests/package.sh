#!/usr/bin/env bash
# Makes the Debian package, and tries it in a Debian of its own: install over libvirt, whose guests are still there, virsh and
# virt-admin, removal, purge.
# Needs root, and a few minutes; no part of tests/run.sh.
#
# Brings cargo-deb and debootstrap where they are missing. What it unpacks and mounts is below the build folder, and gone
# at its end.
#
#   tests/package.sh [SUITE]            Debian's release, bookworm unless given
#   CARGO_FLAGS="--config profile.release.lto=false"      for the build
#   VIRTWIRE_NO_BUILD=1                                   the programs are in the build folder's release already
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${1:-bookworm}
target=${CARGO_TARGET_DIR:-target}
root=$(realpath -m "$target/package/root")

say() { printf 'package: %s\n' "$*"; }
clean=(chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C DEBIAN_FRONTEND=noninteractive)
within() { "${clean[@]}" "$@"; }
daemon=
end() {
    [ -z "$daemon" ] || { kill "$daemon" && wait "$daemon"; } 2>/dev/null || true
    for place in proc dev run; do umount "$root/$place" 2>/dev/null || true; done
    rm -rf --one-file-system "$root"
}

command -v cargo-deb >/dev/null || cargo install --locked cargo-deb
command -v debootstrap >/dev/null || apt-get install -y -qq debootstrap

# shellcheck disable=SC2086
[ -n "${VIRTWIRE_NO_BUILD:-}" ] || cargo build --release -p virtwired ${CARGO_FLAGS:-}
for program in virtwired virtwired-passwd; do "$target/release/$program" --manual "$target/manual"; done
cargo deb --no-build --quiet -p virtwired --output "$target/package/virtwired.deb"
say "made $(dpkg-deb --field "$target/package/virtwired.deb" Package Version Architecture | paste -sd' ')"

trap end EXIT
end
debootstrap --variant=minbase "$suite" "$root" >"$target/package/debootstrap.log"
# The same sources of packages as this machine's.
rm -f "$root/etc/apt/sources.list"
cp -a /etc/apt/. "$root/etc/apt/"
mount --bind /proc "$root/proc"
mount --bind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cp "$target/package/virtwired.deb" "$root/opt/"
within apt-get update -qq >"$target/package/apt.log" 2>&1
# libvirt as it is there, with a guest as it keeps one.
within apt-get install -y -qq --no-install-recommends libvirt-daemon-system libvirt-clients >>"$target/package/apt.log" 2>&1
cat >"$root/etc/libvirt/qemu/old.xml" <<'END'
<domain type='kvm'>
  <name>old</name>
  <uuid>5a1f8a52-3f6c-4f3b-9c0e-0b1b6b7a9d11</uuid>
  <memory unit='KiB'>65536</memory>
  <vcpu placement='static'>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
  </devices>
</domain>
END
# What somebody has set stays; libvirt's file as it came would be replaced.
echo 'max_clients = 4321' >>"$root/etc/libvirt/libvirtd.conf"
before=$(md5sum "$root/etc/libvirt/libvirtd.conf")
within apt-get install -y -qq --no-install-recommends -o Dpkg::Options::=--force-confold /opt/virtwired.deb \
    >>"$target/package/apt.log" 2>&1

say "does it take libvirt's place?"
installed() { [ "$(within dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
for package in libvirt-daemon libvirt-daemon-system; do
    ! installed "$package" || { say "$package is installed still"; exit 1; }
done
installed libvirt-clients || { say "virsh has gone"; exit 1; }
[ "$before" = "$(md5sum "$root/etc/libvirt/libvirtd.conf")" ] || { say "libvirtd.conf has changed"; exit 1; }

say "is the package whole?"
within dpkg --verify virtwired
for path in /usr/sbin/virtwired /usr/share/man/man8/virtwired.8.gz /usr/share/polkit-1/actions/org.libvirt.api.policy \
    /lib/systemd/system/virtwired.socket /usr/share/bash-completion/completions/virtwired; do
    within test -e "$path" || within test -e "/usr$path" || { say "no $path"; exit 1; }
done
within virtwired --check-config -f /etc/libvirt/libvirtd.conf
within getent group libvirt >/dev/null || within systemd-sysusers virtwired.conf

say "does virsh find it where it looks by itself?"
within mkdir -p /run/libvirt
"${clean[@]}" virtwired &
daemon=$!
for _ in $(seq 100); do [ -S "$root/run/libvirt/libvirt-admin-sock" ] && break; sleep 0.1; done
said=$(within virsh -q -c test+unix:///default list --name)
[ "$said" = test ] || { say "virsh said: $said"; exit 1; }
said=$(within virsh -q -c qemu:///system list --all --name)
[ "$said" = old ] || { say "of libvirt's guests virsh said: $said"; exit 1; }
said=$(within virt-admin -q server-list)
[[ $said == *libvirtd* ]] || { say "virt-admin said: $said"; exit 1; }
kill "$daemon"
wait "$daemon" || true
daemon=

say "does it go again?"
within apt-get remove -y -qq virtwired >>"$target/package/apt.log" 2>&1
within test ! -e /usr/sbin/virtwired
within test -e /etc/libvirt/libvirtd.conf
within test -e /etc/libvirt/qemu/old.xml
within apt-get purge -y -qq virtwired >>"$target/package/apt.log" 2>&1
within test ! -e /etc/libvirt/libvirtd.conf
say "does libvirt come back?"
within apt-get install -y -qq --no-install-recommends libvirt-daemon-system >>"$target/package/apt.log" 2>&1
within test -e /etc/libvirt/libvirtd.conf
within test -e /etc/libvirt/qemu/old.xml
say "1 passed, 0 failed"
