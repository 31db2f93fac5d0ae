#!/usr/bin/env bash
# Make promtool available for the tests of alerts and dashboards.
#
# usage: tests/tools/promtool.sh [--path]
#
#   without arguments   fetch it if it is missing; prints nothing when it is there
#   --path              the same, then print its path
#
# It is the one of Debian bookworm, of Prometheus 2.42, so that what it takes works with every
# Prometheus since; unpacked from package prometheus, not installed: 19 MB, three seconds.
# How packages are fetched, and what of it the environment decides: debian_packages.sh beside
# this file.
set -euo pipefail

# shellcheck source=tests/tools/debian_packages.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/debian_packages.sh"

SUITE=bookworm VERSION=2.42.0

provide_program promtool prometheus "$SUITE" "$VERSION" --version "$@"
