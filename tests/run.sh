#!/usr/bin/env bash
# Runs every test of the workspace, after installing the Debian packages that they use (tests/setup.sh).
# Arguments take the place of --workspace, as in: tests/run.sh -p virtwire-tests -- virsh.
set -euo pipefail
cd "$(dirname "$0")/.."
tests/setup.sh
[ $# -gt 0 ] || set -- --workspace
exec cargo test --no-fail-fast "$@"
