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
# it works in any network namespace, and sees the files of whoever calls it.
#
#   bookworm   nft 1.0.6, the oldest that nfproxy works with
#   trixie     nft 1.1.3, the one in the container image
#   forky      the newest that Debian's testing has (1.1.7 when this was written)
#
# apt verifies the packages with Debian's keys, and gets them the way the machine is configured
# to get packages; nothing of the machine's own package lists or installed packages is touched.
# About 5 MB and a few seconds for each suite. A suite appears in one step (rename), so an
# interrupted run leaves nothing half made.
#
# Environment:
#   NFPROXY_TEST_CACHE   where they are kept   (default: ~/.cache/nfproxy-tests)
#   NFPROXY_TEST_MIRROR  the Debian mirror     (default: the machine's own, from its apt sources)
set -euo pipefail

SUITES=(bookworm trixie forky)
CACHE=${NFPROXY_TEST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/nfproxy-tests}/nft
MIRROR=${NFPROXY_TEST_MIRROR:-}
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# apt-get with everything it reads and writes below $1, except the machine's apt.conf.
# Lists past their date will do (a mirror may be frozen); their signatures are checked.
private_apt() {
    local at=$1
    shift
    apt-get --quiet --quiet --yes \
        -o Dir::State="$at/state" -o Dir::State::status="$at/state/status" \
        -o Dir::Cache="$at/cache" -o Dir::Etc::sourcelist="$at/sources.list" \
        -o Dir::Etc::sourceparts=/dev/null -o Dir::Etc::preferences=/dev/null \
        -o Dir::Etc::preferencesparts=/dev/null -o Acquire::Languages=none \
        -o Acquire::Retries=3 -o Acquire::Check-Valid-Until=false -o APT::Sandbox::User= \
        -o Debug::NoLocking=1 "$@"
}

# Print the Debian mirror of the machine's own apt sources, nothing where it has none.
own_mirror() {
    # shellcheck disable=SC2016 # apt-get fills in the name
    apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 2>/dev/null |
        { grep '/debian/*$' || true; } | sort -u | sed -n 1p
}

# Download nftables of suite $1 and all it depends on into $2/cache/archives.
download() {
    local suite=$1 at=$2
    mkdir -p "$at/state/lists/partial" "$at/cache/archives/partial"
    : >"$at/state/status" # nothing is installed, so every dependency is fetched
    printf 'deb [arch=%s signed-by=%s] %s %s main\n' \
        "$(dpkg --print-architecture)" "$KEYRING" "$MIRROR" "$suite" >"$at/sources.list"
    private_apt "$at" update &&
        private_apt "$at" install --download-only --no-install-recommends nftables
}

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
    MIRROR=${MIRROR:-$(own_mirror)}
    [ -n "$MIRROR" ] || fail "no Debian mirror is known: set NFPROXY_TEST_MIRROR to the URL of one."
    work=$(mktemp -d "$CACHE/.$suite.XXXXXX")
    TEMPORARY=$work
    download "$suite" "$work/apt" ||
        fail "could not fetch nftables of Debian $suite from $MIRROR. Is the mirror reachable?" \
            "On a signature error: apt-get install debian-archive-keyring, a recent one."
    mkdir "$work/done" "$work/done/root"
    for package in "$work"/apt/cache/archives/*.deb; do
        dpkg-deb --extract "$package" "$work/done/root"
    done
    write_launcher "$work/done"
    "$work/done/nft" --version >"$work/done/version" ||
        fail "the nft unpacked from Debian $suite does not start on this machine."
    rm -rf "${CACHE:?}/$suite" # somebody deleted a part of it
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
            command -v apt-get >/dev/null || fail "fetching nft of Debian $suite needs apt-get."
            [ -r "$KEYRING" ] ||
                fail "no $KEYRING. Run: apt-get install debian-archive-keyring"
            prepare "$suite"
        done
    } 9>"$CACHE/.lock"
    [ "${1:-}" = --list ] || return 0
    for suite in "${SUITES[@]}"; do
        printf '%s %s %s\n' "$suite" "$CACHE/$suite/nft" "$(cut -d' ' -f2 "$CACHE/$suite/version")"
    done
}

main "$@"
