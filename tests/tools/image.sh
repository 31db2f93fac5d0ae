#!/usr/bin/env bash
# Build the container image from deploy/Dockerfile, without Docker and without a container registry,
# and print the directory that holds it.
#
# usage: tests/tools/image.sh [--archive FILE]
#
#   DIRECTORY/root          its files, as a container sees them
#   DIRECTORY/config.json   its configuration: the OCI image's, with entry point and labels
#   DIRECTORY/image.tar     all of it as an OCI archive: `ctr images import`, `kind load image-archive`
#   --archive FILE          copy the archive there, too
#
# buildah runs the Dockerfile as it is, in a chroot. Its base image is replaced by the root directory
# that trixie_root.sh makes, and pip finds the wheels that the machine's own pip has fetched, with
# their hashes checked again; so packages come from wherever the machine gets its packages. Half a
# minute, and some seconds more to fetch packages; made anew when something changes that goes into it. Appears in one step (rename), so an
# interrupted run leaves nothing half made. Images that nobody has asked for in two hours are removed.
#
# Needs buildah and the virtual environment that tests/run.sh makes, and root or a range of
# subordinate user ids (/etc/subuid).
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
PYTHON=3.13 # of Debian trixie

# buildah with everything it keeps below $WORK. vfs copies whole trees, and works on any file system.
private_buildah() {
    buildah --root "$WORK/storage" --runroot "$WORK/run" --storage-driver vfs "$@"
}

# Copy what the image is built from to $1: it is not to change while it is built.
copy_sources() {
    mkdir -p "$1/deploy"
    cp -- "$REPOSITORY"/{pyproject.toml,README.md,LICENSE} "$1"
    cp -- "$REPOSITORY"/deploy/{Dockerfile*,packages.txt,requirements*.txt} "$1/deploy"
    cp -r -- "$REPOSITORY"/{nfproxy,rulesets} "$1"
    find "$1" -name __pycache__ -prune -exec rm -rf {} +
}

# Print a name for what comes out of the sources in $1: it changes when something does.
fingerprint() {
    {
        cat -- "${BASH_SOURCE[0]}"
        basename -- "$BASE"
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
    lists=$(cat -- "$1"/deploy/requirements*.txt | sha256sum | cut -c 1-16)
    for architecture in x86_64 aarch64; do
        if [ ! -e "$CACHE/wheels-$lists/$architecture" ]; then
            mkdir -p "$WORK/wheels" "$CACHE/wheels-$lists"
            fetch_wheels "$1" "$WORK/wheels/$architecture" ||
                fail "could not fetch the Python packages of deploy/requirements*.txt for" \
                    "$architecture; see above."
            mv "$WORK/wheels/$architecture" "$CACHE/wheels-$lists"
        fi
    done
    touch "$CACHE/wheels-$lists"
    printf '%s\n' "$CACHE/wheels-$lists/$(uname -m)"
}

# Make an image of the archive $1, to stand for Debian's.
import_base() {
    local container
    container=$(private_buildah from scratch)
    private_buildah add --quiet "$container" "$1" /
    private_buildah commit --quiet --disable-compression --rm "$container" "$2"
}

# Build the image from $1 with the wheels and pip's configuration in $2, root's home directory.
build() {
    quietly private_buildah bud --isolation chroot --pull-never --volume "$2:/root:ro" \
        --build-arg "DEBIAN=localhost/trixie" --tag "$REFERENCE" \
        --file "$1/deploy/Dockerfile" --ignorefile "$1/deploy/Dockerfile.dockerignore" "$1"
}

# Write the files of the container $1 to standard output, as a tar archive.
pack_root() {
    # shellcheck disable=SC2016 # the inner shell fills them in
    local script='tar -C "$(buildah --root "$1" --runroot "$2" --storage-driver vfs mount "$3")" -cf - .'
    if [ "$(id -u)" = 0 ]; then
        bash -c "$script" pack "$WORK/storage" "$WORK/run" "$1"
    else
        buildah unshare bash -c "$script" pack "$WORK/storage" "$WORK/run" "$1"
    fi
}

# Make $CACHE/$1 from the sources in $WORK/context.
prepare() {
    local container version wheels home=$WORK/home done=$WORK/done
    say "building the container image"
    mkdir -p "$home/.config/pip" "$done/root"
    wheels=$(wheels "$WORK/context")
    cp -r -- "$wheels" "$home/wheels"
    printf '[global]\nno-index = true\nfind-links = /root/wheels\n' >"$home/.config/pip/pip.conf"
    quietly import_base "$BASE" localhost/trixie || fail "could not import the base image; see above."
    build "$WORK/context" "$home" || fail "could not build deploy/Dockerfile; see above."
    container=$(private_buildah from --pull-never "$REFERENCE")
    pack_root "$container" | tar -C "$done/root" -xpf -
    private_buildah inspect --format '{{.Config}}' "$container" >"$done/config.json"
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$WORK/context/nfproxy/__init__.py")
    private_buildah push --quiet "$REFERENCE" "oci-archive:$done/image.tar:$REFERENCE:$version"
    mv --no-target-directory "$done" "$CACHE/$1"
}

main() {
    local archive='' name
    case ${1:-} in
        "") ;;
        --archive) archive=${2:?usage: tests/tools/image.sh [--archive FILE]} ;;
        *) fail "unknown argument: $1. usage: tests/tools/image.sh [--archive FILE]" ;;
    esac
    command -v buildah >/dev/null || fail "no buildah. Run: apt-get install buildah"
    BASE=$("$HERE/trixie_root.sh")
    mkdir -p "$CACHE"
    {
        flock 9 # the tests of two checkouts may start at once
        rm -rf "$CACHE"/.work.?????? # left by a run that was killed
        find "$CACHE" -mindepth 1 -maxdepth 1 -type d -mmin +120 -exec rm -rf {} +
        WORK=$(mktemp -d "$CACHE/.work.XXXXXX")
        trap 'rm -rf "$WORK"' EXIT
        copy_sources "$WORK/context"
        name=$(fingerprint "$WORK/context")
        [ -e "$CACHE/$name" ] || prepare "$name" 9>&-
        touch "$CACHE/$name"
    } 9>"$CACHE/.lock"
    [ -z "$archive" ] || cp -- "$CACHE/$name/image.tar" "$archive"
    printf '%s\n' "$CACHE/$name"
}

main "$@"
