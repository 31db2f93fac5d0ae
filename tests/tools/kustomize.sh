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
DIRECTORY=$TEST_CACHE/kustomize-$VERSION

# Make $DIRECTORY in a temporary directory beside it, then rename.
prepare() {
    printf '==> fetching kustomize of Debian %s\n' "$SUITE" >&2
    TEMPORARY=$(mktemp -d "$TEST_CACHE/.kustomize.XXXXXX")
    fetch_packages "$SUITE" "$TEMPORARY/packages" kustomize
    set -- "$TEMPORARY"/packages/kustomize_*.deb
    case $1 in
        */kustomize_"$VERSION"+*) ;;
        *) fail "Debian $SUITE has ${1##*/}, the tests are for $VERSION: see VERSION in $0." ;;
    esac
    dpkg-deb --extract "$1" "$TEMPORARY/root"
    "$TEMPORARY/root/usr/bin/kustomize" version >/dev/null ||
        fail "the kustomize of Debian $SUITE does not start on this machine."
    rm -rf "${DIRECTORY:?}" # somebody deleted a part of it
    mv --no-target-directory "$TEMPORARY/root/usr/bin" "$DIRECTORY"
    rm -rf "$TEMPORARY"
}

main() {
    case ${1:-} in
        "" | --path) ;;
        *) fail "unknown argument: $1. usage: tests/tools/kustomize.sh [--path]" ;;
    esac
    mkdir -p "$TEST_CACHE"
    TEMPORARY=
    trap 'rm -rf "${TEMPORARY:-/nonexistent}"' EXIT
    {
        flock 9 # the tests of two checkouts may start at once
        rm -rf "$TEST_CACHE"/.kustomize.?????? # left by a run that was killed
        [ -x "$DIRECTORY/kustomize" ] || prepare
    } 9>"$TEST_CACHE/.kustomize-lock"
    [ "${1:-}" = --path ] || return 0
    printf '%s\n' "$DIRECTORY/kustomize"
}

main "$@"
