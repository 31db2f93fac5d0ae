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
DIRECTORY=$TEST_CACHE/promtool-$VERSION

# Make $DIRECTORY in a temporary directory beside it, then rename.
prepare() {
    printf '==> fetching promtool of Debian %s\n' "$SUITE" >&2
    TEMPORARY=$(mktemp -d "$TEST_CACHE/.promtool.XXXXXX")
    fetch_packages "$SUITE" "$TEMPORARY/packages" prometheus
    set -- "$TEMPORARY"/packages/prometheus_*.deb
    case $1 in
        */prometheus_"$VERSION"+*) ;;
        *) fail "Debian $SUITE has ${1##*/}, the tests are for $VERSION: see VERSION in $0." ;;
    esac
    mkdir "$TEMPORARY/bin"
    dpkg-deb --fsys-tarfile "$1" | tar -C "$TEMPORARY/bin" --strip-components=3 -x ./usr/bin/promtool
    "$TEMPORARY/bin/promtool" --version >/dev/null ||
        fail "the promtool of Debian $SUITE does not start on this machine."
    rm -rf "${DIRECTORY:?}" # somebody deleted a part of it
    mv --no-target-directory "$TEMPORARY/bin" "$DIRECTORY"
    rm -rf "$TEMPORARY"
}

main() {
    case ${1:-} in
        "" | --path) ;;
        *) fail "unknown argument: $1. usage: tests/tools/promtool.sh [--path]" ;;
    esac
    mkdir -p "$TEST_CACHE"
    TEMPORARY=
    trap 'rm -rf "${TEMPORARY:-/nonexistent}"' EXIT
    {
        flock 9 # the tests of two checkouts may start at once
        rm -rf "$TEST_CACHE"/.promtool.?????? # left by a run that was killed
        [ -x "$DIRECTORY/promtool" ] || prepare
    } 9>"$TEST_CACHE/.promtool-lock"
    [ "${1:-}" = --path ] || return 0
    printf '%s\n' "$DIRECTORY/promtool"
}

main "$@"
