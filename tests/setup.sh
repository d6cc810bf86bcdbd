#!/usr/bin/env bash
# Installs the Debian packages that the tests use: the real libvirt daemon and clients, QEMU, a C compiler; and unpacks an
# older virsh (2 MB) below the build folder. Of the clients, Go is 81 MB to download (464 MB unpacked), virtinst 4.4 MB,
# the others 0.6 MB together; virt-top is installed only where the release has it.
# Says what it installs, starts no service, and does nothing when everything is there. Only installing needs root.
#
#   VIRTWIRE_NO_INSTALL=1   install nothing; the cases that miss something are then reported as skipped
set -euo pipefail

packages=(
    libvirt-clients libvirt-daemon libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-dev python3-libvirt
    qemu-system-x86 qemu-utils
    libsasl2-modules sasl2-bin dbus-daemon openssh-client openssh-server netcat-openbsd
    virtinst libsys-virt-perl gir1.2-libvirt-glib-1.0 python3-gi golang-go
    golang-github-digitalocean-go-libvirt-dev
    gcc libc6-dev iproute2 iptables openssl
)
old=${CARGO_TARGET_DIR:-$(dirname "$0")/../target}/peers/virsh-9.0

say() { printf 'setup: %s\n' "$*"; }

[ -z "${VIRTWIRE_NO_INSTALL:-}" ] || { say "VIRTWIRE_NO_INSTALL is set, nothing is installed"; exit 0; }
command -v apt-get >/dev/null && command -v dpkg-query >/dev/null || {
    say "not a Debian system; for all cases to run, install what these packages hold: ${packages[*]}"
    exit 0
}

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
if command -v virt-top >/dev/null; then :
elif [ -n "$(apt-cache madison virt-top 2>/dev/null)" ]; then missing+=(virt-top)
fi

# Unpacks libvirt 9.0 where a release has it beside a newer one; the folder says that this was done.
unpack_old() {
    [ ! -d "$old" ] || return 0
    local version work
    version=$(apt-cache madison libvirt-clients | awk '$3 ~ /^9\.0\./ { print $3; exit }')
    mkdir -p "$old"
    [ -n "$version" ] || { say "no virsh 9.0 in this release"; return 0; }
    say "unpacking virsh $version below $old"
    work=$(mktemp -d)
    if (cd "$work" && chmod 755 . && apt-get -q download "libvirt-clients=$version" "libvirt0=$version" libyajl2) >"$work/log" 2>&1; then
        for package in "$work"/*.deb; do dpkg-deb -x "$package" "$old"; done
        rm -rf "$work"
    else
        cat "$work/log"
        rm -rf "$work" "$old"
        return 1
    fi
}
[ ${#missing[@]} -gt 0 ] || { unpack_old; exit 0; }

say "packages needed by the tests and not installed: ${missing[*]}"
[ "$(id -u)" = 0 ] || {
    say "installing them needs root: run 'sudo $0' once, or set VIRTWIRE_NO_INSTALL=1 to test without them"
    exit 1
}

work=$(mktemp -d)
policy=/usr/sbin/policy-rc.d
restore() {
    rm -f "$policy"
    [ ! -e "$work/policy-rc.d" ] || cp -p "$work/policy-rc.d" "$policy"
    rm -rf "$work"
}
trap restore EXIT
trap 'exit 1' HUP INT TERM

# No maintainer script may start a service meanwhile.
[ ! -e "$policy" ] || cp -p "$policy" "$work/policy-rc.d"
printf '#!/bin/sh\nexit 101\n' >"$policy"
chmod 755 "$policy"

sources() { find /etc/apt -maxdepth 2 -path '/etc/apt/sources.list*' -type f -name "$1" -exec cat {} +; }

# Debian's own entries for release $1, said again for release $2; both formats of sources files.
entries_for() {
    sources '*.sources' | awk -v from="$1" -v to="$2" '
        BEGIN { RS = ""; FS = "\n" }
        !/(^|\n)Suites:/ || /(^|\n)Enabled: *no/ { next }
        {
            hit = 0; text = ""
            for (i = 1; i <= NF; i++) {
                line = $i
                if (line ~ /^#/) continue
                if (line ~ /^Suites:/) {
                    n = split(line, word, /[ \t]+/)
                    for (k = 2; k <= n; k++) if (word[k] == from) hit = 1
                    line = "Suites: " to
                }
                text = text line "\n"
            }
            if (hit) print text
        }' >"$work/sources.list.d/$2.sources"
    sources '*.list' | awk -v from="$1" -v to="$2" '
        $1 == "deb" { for (i = 2; i < NF; i++) if ($i == from) { $i = to; print; next } }' >"$work/sources.list.d/$2.list"
}

options=(-q -y -o DPkg::Lock::Timeout=300)
release=()
# Where qemu-utils comes from the backports, the rest of QEMU must match it to the letter, and libvirt should.
case $(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null || true) in
*~bpo*)
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    backports=$codename-backports
    say "qemu-utils is from $backports, so QEMU and libvirt are taken from there"
    release=(-t "$backports")
    if ! apt-get indextargets --format '$(RELEASE)' | grep -qx "$backports"; then
        # For this run only: the machine's own sources and that one.
        mkdir "$work/sources.list.d"
        cp -a /etc/apt/sources.list.d/. "$work/sources.list.d/"
        entries_for "$codename" "$backports"
        options+=(-o "Dir::Etc::SourceParts=$work/sources.list.d")
        chmod -R go+rX "$work"
    fi
    ;;
esac

export DEBIAN_FRONTEND=noninteractive
say "apt-get update"
apt-get "${options[@]}" update >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
say "apt-get install --no-install-recommends ${release[*]} ${missing[*]}"
apt-get "${options[@]}" install --no-install-recommends "${release[@]}" "${missing[@]}" >"$work/log" 2>&1 ||
    { cat "$work/log"; exit 1; }
say "installed $(grep -c '^Setting up ' "$work/log" || true) packages; no service was started"
unpack_old
