#!/usr/bin/env bash
# Make the root directory of a minimal Debian trixie, as a tar archive, and print its path.
#
# usage: tests/tools/trixie_root.sh
#
# It stands for the image debian:trixie-slim where no container registry is reachable: the essential
# packages and apt, without documentation, manual pages and translations, and dpkg set to leave
# these out of what is installed later, too. apt's sources and settings in it are the machine's own,
# so packages are fetched from inside as they are from outside. About 80 MB, half a minute; made
# once, and again when this script or the machine's apt sources change. Appears in one step
# (rename), so an interrupted run leaves nothing half made.
#
# Needs root and mmdebstrap.
#
# Environment:
#   NFPROXY_TEST_CACHE   where it is kept    (default: ~/.cache/nfproxy-tests)
#   NFPROXY_TEST_MIRROR  the Debian mirror   (default: the machine's own, from its apt sources)
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/tools/debian_archive.sh
source "$HERE/debian_archive.sh"

SUITE=trixie
CACHE=${NFPROXY_TEST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/nfproxy-tests}/$SUITE-root

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# What the slim images leave out, as dpkg's options; licenses stay.
write_exclusions() {
    local place
    for place in doc groff info linda lintian locale man; do
        printf 'path-exclude=/usr/share/%s/*\n' "$place"
    done
    printf 'path-include=/usr/share/doc/*/copyright\npath-include=/usr/share/locale/locale.alias\n'
    printf 'force-unsafe-io\n'
}

# Make $1, a tar archive; $2 is a directory for files used on the way.
make_root() {
    local archive=$1 work=$2
    write_exclusions >"$work/dpkg.cfg"
    own_apt_settings >"$work/apt.conf"
    # policy-rc.d: what is installed in a container must not start services.
    # shellcheck disable=SC2016 # mmdebstrap's shell fills in $1
    mmdebstrap --quiet --variant=minbase --keyring="$DEBIAN_KEYRING" --skip=output/dev \
        --dpkgopt="$work/dpkg.cfg" --aptopt="$work/apt.conf" \
        --customize-hook='printf "#!/bin/sh\nexit 101\n" >"$1/usr/sbin/policy-rc.d"' \
        --customize-hook='chmod 755 "$1/usr/sbin/policy-rc.d"' \
        --customize-hook='rm -f "$1/etc/hostname" "$1/etc/resolv.conf"' \
        --format=tar "$SUITE" "$archive" "$work/sources.list" >&2
}

main() {
    local work name
    [ $# = 0 ] || fail "unexpected argument: $1. usage: tests/tools/trixie_root.sh"
    command -v mmdebstrap >/dev/null || fail "no mmdebstrap. Run: apt-get install mmdebstrap"
    [ -r "$DEBIAN_KEYRING" ] ||
        fail "no $DEBIAN_KEYRING. Run: apt-get install debian-archive-keyring"
    mkdir -p "$CACHE"
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # its value now
    trap "rm -rf '$work'" EXIT
    debian_sources "$SUITE" >"$work/sources.list" ||
        fail "no Debian mirror is known: set NFPROXY_TEST_MIRROR to the URL of one."
    name=$(cat "${BASH_SOURCE[0]}" "$HERE/debian_archive.sh" "$work/sources.list" \
        <(own_apt_settings) | sha256sum | cut -c 1-16)-$(dpkg --print-architecture).tar
    {
        flock 9 # the tests of two checkouts may start at once
        if [ ! -e "$CACHE/$name" ]; then
            printf '==> making a root directory of Debian %s\n' "$SUITE" >&2
            rm -f "$CACHE"/*.tar "$CACHE"/.*.part # of an earlier state, or left by a run killed
            make_root "$CACHE/.$name.part" "$work" ||
                fail "could not make a root directory of Debian $SUITE; see above."
            mv "$CACHE/.$name.part" "$CACHE/$name"
        fi
    } 9>"$CACHE/.lock"
    printf '%s\n' "$CACHE/$name"
}

main "$@"
