#!/usr/bin/env bash
# Build the container image from deploy/Dockerfile, without Docker and without a container registry,
# and print the directory that holds it.
#
# usage: tests/tools/image.sh [--archive FILE | --find]
#
#   DIRECTORY/root          its files, as a container sees them
#   DIRECTORY/config.json   its configuration: the OCI image's, with entry point and labels
#   DIRECTORY/image.tar     all of it as an OCI archive, for `ctr images import` and the like
#   --archive FILE          copy the archive there, too
#   --find                  build nothing: fail where this working tree's image is not there
#
# buildah runs the Dockerfile as it is, in a chroot. Its base image is replaced by the root
# directory that trixie_root.sh makes, and pip finds the wheels that the machine's own pip has
# fetched, with their hashes checked again; so packages come from wherever the machine gets its
# packages. About a minute, and some seconds where only nfproxy's code has changed. An image appears
# in one step (rename), so an interrupted run leaves nothing half made; images that no run has asked
# for in two hours are removed.
#
# Needs root, buildah, and the virtual environment that tests/run.sh makes.
#
# Environment:
#   NFPROXY_TEST_CACHE    where it is kept    (default: ~/.cache/nfproxy-tests)
#   NFPROXY_TEST_MIRROR   see trixie_root.sh
#   NFPROXY_VENV          see deploy/prepare.sh
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/prepare.sh
source "$HERE/../../deploy/prepare.sh"

CACHE=${NFPROXY_TEST_CACHE:-${XDG_CACHE_HOME:-~/.cache}/nfproxy-tests}/image
REFERENCE=ghcr.io/nfproxy/nfproxy
PYTHON=3.13  # of Debian trixie
MOST_MB=3000 # of what is kept between builds

# Set BUILDAH to buildah with a storage of its own. By overlay mounts, the steps of the Dockerfile
# are kept between builds; where these are unavailable, as in a container, vfs copies whole trees.
choose_storage() {
    BUILDAH=(buildah --storage-driver overlay --root "$CACHE/storage")
    BUILDAH+=(--runroot "$CACHE/storage-run")
    LAYERS=(--layers)
    if [ -d "$CACHE/storage" ] && [ "$(du -sm "$CACHE/storage" | cut -f 1)" -gt "$MOST_MB" ]; then
        rm -rf "$CACHE"/storage{,-run}
    fi
    if ! "${BUILDAH[@]}" rm --all >/dev/null 2>&1; then # also shows whether overlay works
        rm -rf "$CACHE"/storage{,-run}
        BUILDAH=(buildah --storage-driver vfs --root "$WORK/storage" --runroot "$WORK/run")
        LAYERS=()
    fi
}

# Copy what the image is built from to $1: it is not to change while it is built.
copy_sources() {
    mkdir -p "$1/deploy"
    cp -- "$REPOSITORY"/{pyproject.toml,README.md,LICENSE} "$1"
    cp -- "$REPOSITORY"/deploy/{Dockerfile*,packages.txt,requirements{,-build}.txt} "$1/deploy"
    cp -r -- "$REPOSITORY"/{nfproxy,rulesets} "$1"
    find "$1" -name __pycache__ -prune -exec rm -rf {} +
}

# Print a name for what comes out of the sources in $1: it changes when something does.
fingerprint() {
    {
        cat -- "${BASH_SOURCE[0]}" "$HERE"/{trixie_root,debian_archive}.sh
        cd "$1" && find . -type f -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
    } | sha256sum | cut -c 1-16
}

# Fetch the wheels of the lists in $1 for an architecture into $2, the way this machine's pip gets
# its packages. One without a wheel that fits trixie is an error: there is no compiler in the build.
fetch_wheels() {
    local platforms=() minor
    for minor in {5..41}; do # of glibc; trixie has 2.41
        platforms+=(--platform "manylinux_2_${minor}_$(basename "$2")")
    done
    quietly "$VENV/bin/python" -m pip download --no-input --disable-pip-version-check \
        --require-hashes --only-binary :all: --python-version "$PYTHON" --implementation cp \
        --abi "cp${PYTHON/./}" --abi abi3 --abi none "${platforms[@]}" --dest "$2" \
        --requirement "$1/deploy/requirements.txt" \
        --requirement "$1/deploy/requirements-build.txt"
}

# Print the directory with the wheels of the lists in $1. They are fetched for both architectures:
# that the other one has them all is all that can be said here about building its image.
wheels() {
    local lists architecture
    lists=$(cat -- "$1"/deploy/requirements{,-build}.txt | sha256sum | cut -c 1-16)
    for architecture in x86_64 aarch64; do
        if [ ! -e "$CACHE/wheels-$lists/$architecture" ]; then
            mkdir -p "$WORK/wheels" "$CACHE/wheels-$lists"
            fetch_wheels "$1" "$WORK/wheels/$architecture" ||
                fail "could not fetch the Python packages of deploy/requirements{,-build}.txt for" \
                    "$architecture; see above."
            mv "$WORK/wheels/$architecture" "$CACHE/wheels-$lists"
        fi
    done
    touch "$CACHE/wheels-$lists"
    printf '%s\n' "$CACHE/wheels-$lists/$(uname -m)"
}

# Make an image of the base image's files, named $1, unless it is there from another build.
import_base() {
    local container
    ! "${BUILDAH[@]}" inspect --type image "$1" >/dev/null 2>&1 || return 0
    container=$("${BUILDAH[@]}" from scratch)
    "${BUILDAH[@]}" add --quiet "$container" "$BASE" /
    "${BUILDAH[@]}" commit --quiet --disable-compression --rm "$container" "$1"
}

# Build the image from $1 on $2, with $3 as root's home directory: wheels and pip's configuration.
build() {
    quietly "${BUILDAH[@]}" bud "${LAYERS[@]}" --isolation chroot --pull-never \
        --volume "$3:/root:ro" --build-arg "DEBIAN=$2" --tag "$REFERENCE" \
        --file "$1/deploy/Dockerfile" --ignorefile "$1/deploy/Dockerfile.dockerignore" "$1"
}

# Copy the image's files to the directory $1.
unpack() {
    local container
    container=$("${BUILDAH[@]}" from --pull-never "$REFERENCE")
    cp -a "$("${BUILDAH[@]}" mount "$container")" "$1"
    "${BUILDAH[@]}" rm "$container" >/dev/null
}

# Make $CACHE/$1 from the sources in $WORK/context.
prepare() {
    local base version wheels home=$WORK/home done=$WORK/done
    say "building the container image"
    mkdir -p "$home/.config/pip" "$done"
    wheels=$(wheels "$WORK/context")
    cp -r -- "$wheels" "$home/wheels"
    printf '[global]\nno-index = true\nfind-links = /root/wheels\n' >"$home/.config/pip/pip.conf"
    choose_storage
    base=localhost/trixie:$(basename "$BASE" .tar)
    quietly import_base "$base" || fail "could not import the base image; see above."
    build "$WORK/context" "$base" "$home" || fail "could not build deploy/Dockerfile; see above."
    unpack "$done/root"
    "${BUILDAH[@]}" inspect --type image --format '{{.Config}}' "$REFERENCE" >"$done/config.json"
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$WORK/context/nfproxy/__init__.py")
    "${BUILDAH[@]}" push --quiet "$REFERENCE" "oci-archive:$done/image.tar:$REFERENCE:$version"
    mv --no-target-directory "$done" "$CACHE/$1"
}

main() {
    local archive='' find='' name usage="usage: tests/tools/image.sh [--archive FILE | --find]"
    case ${1:-} in
        "") ;;
        --archive) archive=${2:?$usage} ;;
        --find) find=1 ;;
        *) fail "unknown argument: $1. $usage" ;;
    esac
    mkdir -p "$CACHE"
    {
        flock 9 # the tests of two checkouts may start at once
        rm -rf "$CACHE"/.work.?????? # left by a run that was killed
        find "$CACHE" -mindepth 1 -maxdepth 1 -type d -mmin +120 -not -name 'storage*' \
            -exec rm -rf {} +
        WORK=$(mktemp -d "$CACHE/.work.XXXXXX")
        trap 'rm -rf "$WORK"' EXIT
        copy_sources "$WORK/context"
        name=$(fingerprint "$WORK/context")
        if [ ! -e "$CACHE/$name" ]; then
            [ -z "$find" ] || fail "this working tree's container image is not built." \
                "Run tests/tools/image.sh, where packages can be fetched."
            [ "$(id -u)" = 0 ] || fail "building the container image needs root."
            command -v buildah >/dev/null || fail "no buildah. Run: apt-get install buildah"
            BASE=$("$HERE/trixie_root.sh")
            prepare "$name" 9>&-
        fi
        touch "$CACHE/$name"
    } 9>"$CACHE/.lock"
    [ -z "$archive" ] || cp -- "$CACHE/$name/image.tar" "$archive"
    printf '%s\n' "$CACHE/$name"
}

main "$@"
