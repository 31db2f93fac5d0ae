#!/usr/bin/env bash
# Make kustomize available for the tests of the manifests.
#
# usage: tests/tools/kustomize.sh [--path]
#
#   without arguments   fetch it if it is missing; prints nothing when it is there
#   --path              the same, then print its path
#
# It is the one of Debian trixie, 5.6.0, which kubectl 1.33 has in it, too; unpacked, not
# installed: 6 MB, three seconds.
# How packages are fetched, and what of it the environment decides: debian_packages.sh beside
# this file.
set -euo pipefail

# shellcheck source=tests/tools/debian_packages.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/debian_packages.sh"

SUITE=trixie VERSION=5.6.0

provide_program kustomize kustomize "$SUITE" "$VERSION" version "$@"
