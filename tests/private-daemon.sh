#!/usr/bin/env bash
# private-daemon.sh DIR COMMAND [ARGUMENT...]
#
# Runs a daemon, the real libvirtd or virtwired, that shares nothing with the machine's own: it has namespaces of its
# own for mounts, network and processes, and finds DIR/{run,etc,lib,cache,log} where libvirt has its folders. Its
# sockets are reached from outside as DIR/run/libvirt-sock and so on.
#
# Ends when the daemon ends, or when standard input is closed, as it is when the caller dies; every guest and helper
# that the daemon started ends with it. Needs root.
#
# Its guests' control groups are below groups that have the name of DIR, in every hierarchy; who made DIR removes them.
set -euo pipefail
dir=$1
shift
mkdir -p "$dir"/{run,lib/images,cache,log}
if [ ! -d "$dir/etc" ]; then
    # Configuration as the packages ship it, without objects that were defined on this machine.
    if [ -d /etc/libvirt ]; then cp -a /etc/libvirt "$dir/etc"; else mkdir "$dir/etc"; fi
    rm -rf "$dir"/etc/{storage,secrets,nwfilter-binding,qemu/autostart,qemu/networks/autostart}
    rm -f "$dir"/etc/qemu/*.xml "$dir"/etc/qemu/networks/*.xml
    # Guests write their logs themselves, there is no virtlogd here.
    mkdir -p "$dir/etc/qemu"
    printf 'stdio_handler = "file"\n' >>"$dir/etc/qemu.conf"
fi
chmod 755 "$dir" "$dir"/*/

# The first process of a PID namespace must reap orphans, so it is a shell and not the daemon.
exec unshare --mount --net --pid --fork --kill-child --mount-proc sh -euc '
    dir=$1
    shift
    mount --make-rprivate /
    for pair in run:/run lib:/var/lib cache:/var/cache log:/var/log etc:/etc; do
        mkdir -p "${pair#*:}/libvirt"
        mount --bind "$dir/${pair%%:*}" "${pair#*:}/libvirt"
    done
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        own=$hierarchy/${dir##*/}
        if [ ! -e "$hierarchy/cgroup.procs" ] || ! mkdir -p "$own" 2>/dev/null; then continue; fi
        for file in cpuset.cpus cpuset.mems; do
            if [ -e "$hierarchy/tasks" ] && [ -e "$own/$file" ]; then cat "$hierarchy/$file" >"$own/$file"; fi
        done
        mount --bind "$own" "$hierarchy"
    done
    ip link set lo up || true
    ulimit -n 16384
    exec 3<&0
    "$@" 3<&- </dev/null &
    daemon=$!
    { cat >/dev/null; kill "$daemon"; } <&3 3<&- &
    exec 3<&- </dev/null
    trap "kill $daemon" TERM INT
    wait "$daemon"
' sh "$dir" "$@"
