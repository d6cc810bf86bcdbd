#!/usr/bin/env bash
# What virt-top prints of the hypervisor at the URI in the first argument, twice; the time of day and shares of
# processor time are left out.
set -euo pipefail
export LC_ALL=C TERM=dumb
virt-top --connect "$1" --script --stream --init-file none -n 2 -d 1 |
    sed -E 's/^virt-top time +[0-9:]+/virt-top time/; s/[0-9]+\.[0-9]+%?/SHARE/g'
echo done
