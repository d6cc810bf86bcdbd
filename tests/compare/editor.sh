#!/bin/sh
# What `virsh edit` runs in the sessions: it gives the guest a third processor.
exec sed -i 's|>2</vcpu>|>3</vcpu>|' "$1"
