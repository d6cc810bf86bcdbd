#!/bin/sh
# What `virsh edit` runs in the sessions: it gives the guest three processors.
exec sed -i 's|>[0-9]*</vcpu>|>3</vcpu>|' "$1"
