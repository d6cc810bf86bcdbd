#!/usr/bin/env bash
# virt-install, virt-xml and virt-clone at the URI in the first argument, and what they left there.
set -euo pipefail
export LC_ALL=C XDG_CACHE_HOME=${TMPDIR:-/tmp}
uri=$1
on="virsh -q -c $uri"

set -x
virt-install --version
virt-install --connect "$uri" --name made --memory 64 --vcpus 2,maxvcpus=4 --osinfo detect=off,require=off \
    --import --disk pool=default-pool,size=0.01,bus=virtio --network network=default --graphics vnc --noautoconsole
$on domstate made --reason
$on dumpxml made
$on vol-list default-pool
virt-install --connect "$uri" --name printed --memory 32 --osinfo detect=off,require=off --disk none --boot hd --print-xml
virt-xml --connect "$uri" made --edit --vcpus 3 --print-diff --confirm </dev/null || true
virt-xml --connect "$uri" made --edit --metadata title='a title'
virt-xml --connect "$uri" made --add-device --disk none --print-xml || true
virt-xml --connect "$uri" made --add-device --input tablet,bus=usb
virt-xml --connect "$uri" made --remove-device --graphics all
$on dumpxml made --inactive
virt-clone --connect "$uri" --original made --name refused --auto-clone || true
$on destroy made
virt-clone --connect "$uri" --original made --name cloned --auto-clone
$on dumpxml cloned
$on vol-list default-pool
$on undefine cloned
$on undefine made
echo done
