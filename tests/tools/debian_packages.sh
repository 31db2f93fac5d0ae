# Sourced by the scripts beside it: fetches packages of any Debian suite, without installing them.
#
#   fetch_packages SUITE DIRECTORY PACKAGE…        these packages, as DIRECTORY/*.deb
#   fetch_with_dependencies SUITE DIRECTORY …      these and all they depend on, libc included
#   provide_program NAME PACKAGE SUITE VERSION COMMAND [--path]
#                                                  one program of a package, in the cache; COMMAND
#                                                  shows that it starts, --path prints where it is
#
# apt verifies the packages with Debian's keys, and gets them the way the machine is configured
# to get packages; nothing of the machine's own package lists or installed packages is touched.
# A failure ends the script with exit code 1 and a sentence that says what to do next.
#
# Environment:
#   NFPROXY_TEST_CACHE   where what is fetched is kept   (default: ~/.cache/nfproxy-tests)
#   NFPROXY_TEST_MIRROR  see debian_archive.sh beside this file
# shellcheck shell=bash

# shellcheck disable=SC2034 # for the scripts that source this
TEST_CACHE=${NFPROXY_TEST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/nfproxy-tests}

# shellcheck source=tests/tools/debian_archive.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/debian_archive.sh"

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

# Make an apt at $2 that knows only the main archive of suite $1, and fetch its lists.
prepare_apt() {
    local suite=$1 at=$2
    command -v apt-get >/dev/null || fail "fetching packages of Debian $suite needs apt-get."
    [ -r "$DEBIAN_KEYRING" ] ||
        fail "no $DEBIAN_KEYRING. Run: apt-get install debian-archive-keyring"
    MIRROR=$(debian_mirror)
    [ -n "$MIRROR" ] || fail "no Debian mirror is known: set NFPROXY_TEST_MIRROR to the URL of one."
    mkdir -p "$at/state/lists/partial" "$at/cache/archives/partial"
    : >"$at/state/status" # nothing is installed, so every dependency is fetched
    printf 'deb [arch=%s signed-by=%s] %s %s main\n' \
        "$(dpkg --print-architecture)" "$DEBIAN_KEYRING" "$MIRROR" "$suite" >"$at/sources.list"
    private_apt "$at" update || not_fetched "$suite" "its package lists"
}

not_fetched() {
    fail "could not fetch $2 of Debian $1 from $MIRROR. Is the mirror reachable?" \
        "On a signature error: apt-get install debian-archive-keyring, a recent one."
}

fetch_packages() {
    local suite=$1 to=$2 work
    shift 2
    mkdir -p "$to"
    work=$to/.apt
    prepare_apt "$suite" "$work"
    (cd "$to" && private_apt "$work" download "$@") || not_fetched "$suite" "$*"
    rm -rf "$work"
}

fetch_with_dependencies() {
    local suite=$1 to=$2 work
    shift 2
    mkdir -p "$to"
    work=$to/.apt
    prepare_apt "$suite" "$work"
    private_apt "$work" install --download-only --no-install-recommends "$@" ||
        not_fetched "$suite" "$*"
    mv "$work"/cache/archives/*.deb "$to"
    rm -rf "$work"
}

# Make the directory $1 with program $2 of package $3, suite $4, version $5: in a temporary
# directory beside it, then by a rename. $6 is the argument that shows that it starts.
unpack_program() {
    local directory=$1 name=$2 package=$3 suite=$4 version=$5 command=$6
    printf '==> fetching %s of Debian %s\n' "$name" "$suite" >&2
    TEMPORARY=$(mktemp -d "$TEST_CACHE/.$name.XXXXXX")
    fetch_packages "$suite" "$TEMPORARY/packages" "$package"
    set -- "$TEMPORARY/packages/$package"_*.deb
    case $1 in
        */"$package"_"$version"+*) ;;
        *) fail "Debian $suite has ${1##*/}, the tests are for $version: see VERSION in $0." ;;
    esac
    mkdir "$TEMPORARY/bin"
    dpkg-deb --fsys-tarfile "$1" | tar -C "$TEMPORARY/bin" --strip-components=3 -x "./usr/bin/$name"
    "$TEMPORARY/bin/$name" "$command" >/dev/null ||
        fail "the $name of Debian $suite does not start on this machine."
    rm -rf "${directory:?}" # a part of it was deleted
    mv --no-target-directory "$TEMPORARY/bin" "$directory"
    rm -rf "$TEMPORARY"
}

provide_program() {
    local name=$1 directory=$TEST_CACHE/$1-$4
    case ${6:-} in
        "" | --path) ;;
        *) fail "unknown argument: $6. usage: tests/tools/${0##*/} [--path]" ;;
    esac
    mkdir -p "$TEST_CACHE"
    TEMPORARY=
    trap 'rm -rf "${TEMPORARY:-/nonexistent}"' EXIT
    {
        flock 9 # the tests of two checkouts may start at once
        rm -rf "$TEST_CACHE/.$name".?????? # left by a run that was killed
        [ -x "$directory/$name" ] || unpack_program "$directory" "${@:1:5}"
    } 9>"$TEST_CACHE/.$name-lock"
    [ "${6:-}" = --path ] || return 0
    printf '%s\n' "$directory/$name"
}
