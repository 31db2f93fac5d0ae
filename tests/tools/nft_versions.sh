#!/usr/bin/env bash
# Make several versions of nft available for tests, beside the machine's own.
#
# usage: tests/tools/nft_versions.sh [--list]
#
#   without arguments   fetch what is missing; prints nothing when all is there
#   --list              the same, then print "SUITE PATH VERSION" for each
#
# From each Debian suite below, nftables and the libraries it needs, libc included, are
# fetched as packages and unpacked (not installed) into a directory of their own, where a
# small script "nft" runs that nft with those libraries. That needs no root and no chroot, so
# it works in any network namespace, and sees the files of its caller.
#
#   bookworm   nft 1.0.6, the oldest that nfproxy works with
#   trixie     nft 1.1.3, the one in the container image
#   forky      the newest that Debian's testing has (1.1.7 when this was written)
#
# About 5 MB and a few seconds for each suite. A suite appears in one step (rename), so an
# interrupted run leaves nothing half made. How packages are fetched, and what of it the
# environment decides: debian_packages.sh beside this file.
set -euo pipefail

# shellcheck source=tests/tools/debian_packages.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/debian_packages.sh"

SUITES=(bookworm trixie forky)
CACHE=$TEST_CACHE/nft

# Write the script that runs the unpacked nft, from wherever its directory is.
write_launcher() {
    cat >"$1/nft" <<'LAUNCHER'
#!/bin/sh
# Run the nft unpacked here, with the libraries unpacked here.
root=${0%/*}/root
loader= libraries=
for directory in "$root"/lib/*-linux-gnu* "$root"/usr/lib/*-linux-gnu*; do
    libraries=$libraries:$directory
    # Not the one in lib64: that may be an absolute link, to the machine's own loader.
    for file in "$directory"/ld-linux*.so.*; do
        [ -x "$file" ] && loader=$file
    done
done
exec "$loader" --library-path "${libraries#:}" "$root/usr/sbin/nft" "$@"
LAUNCHER
    chmod +x "$1/nft"
}

# Make $CACHE/$1 in a temporary directory beside it, then rename.
prepare() {
    local suite=$1 work package
    printf '==> fetching nft of Debian %s\n' "$suite" >&2
    work=$(mktemp -d "$CACHE/.$suite.XXXXXX")
    TEMPORARY=$work
    fetch_with_dependencies "$suite" "$work/packages" nftables
    mkdir "$work/done" "$work/done/root"
    for package in "$work"/packages/*.deb; do
        dpkg-deb --extract "$package" "$work/done/root"
    done
    write_launcher "$work/done"
    "$work/done/nft" --version >"$work/done/version" ||
        fail "the nft unpacked from Debian $suite does not start on this machine."
    rm -rf "${CACHE:?}/$suite" # a part of it was deleted
    mv --no-target-directory "$work/done" "$CACHE/$suite"
    rm -rf "$work"
}

main() {
    local suite
    case ${1:-} in
        "" | --list) ;;
        *) fail "unknown argument: $1. usage: tests/tools/nft_versions.sh [--list]" ;;
    esac
    mkdir -p "$CACHE"
    TEMPORARY=
    trap 'rm -rf "${TEMPORARY:-/nonexistent}"' EXIT
    {
        flock 9 # the tests of two checkouts may start at once
        for suite in "${SUITES[@]}"; do
            rm -rf "$CACHE/.$suite".?????? # left by a run that was killed
            [ -x "$CACHE/$suite/nft" ] && continue
            prepare "$suite"
        done
    } 9>"$CACHE/.lock"
    [ "${1:-}" = --list ] || return 0
    for suite in "${SUITES[@]}"; do
        printf '%s %s %s\n' "$suite" "$CACHE/$suite/nft" "$(cut -d' ' -f2 "$CACHE/$suite/version")"
    done
}

main "$@"
