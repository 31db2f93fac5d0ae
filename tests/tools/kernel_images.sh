#!/usr/bin/env bash
# Make the disk images and kernels that tests/run.sh --kernels boots under QEMU.
#
# usage: tests/tools/kernel_images.sh [KERNEL…]
#
# Fetches and makes what is missing, and prints a line for the guest, and one for each kernel:
#
#   guest DIRECTORY   DIRECTORY/root.img is the disk that all kernels boot from, DIRECTORY/root
#                     what is on it, and DIRECTORY/python runs the Python of it on this machine
#   6.1 DIRECTORY     DIRECTORY/vmlinuz is the kernel, DIRECTORY/modules.img a file system with
#                     its modules, DIRECTORY/release what uname -r says
#
# Kernels are Debian's for virtual machines (linux-image-cloud-amd64), as users have them, with all
# their modules: 6.1 of bookworm, 6.12 of trixie. These have NVMe and ext4 built in, so no initial
# RAM disk is needed. The guest is a Debian trixie, like the container image, of the packages that
# deploy/packages.txt and tests/kernels/packages.txt name, and the Python packages of
# deploy/requirements.txt and tests/kernels/requirements.txt. All of it is unpacked, not installed:
# that needs no root. The guest is made again when one of these files changes.
#
# 100 MB to fetch, 800 MB on the disk, 40 seconds. Each directory appears in one step (rename), so
# an interrupted run leaves nothing half made. How packages are fetched, and what of it the
# environment decides: debian_packages.sh beside this file.
set -euo pipefail

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/tools/debian_packages.sh
source "$HERE/debian_packages.sh"
REPOSITORY=$HERE/../..

declare -A SUITES=([6.1]=bookworm [6.12]=trixie)
GUEST_SUITE=trixie
CACHE=$TEST_CACHE/kernels
PACKAGE_LISTS=("$REPOSITORY/deploy/packages.txt" "$REPOSITORY/tests/kernels/packages.txt")
REQUIREMENTS=("$REPOSITORY/deploy/requirements.txt" "$REPOSITORY/tests/kernels/requirements.txt")

# The kernel finds its root by this, whatever order it finds the disks in.
DISK_ID=6e667078
MIB=1048576

# A new directory in the cache, $1 in its name. It is removed when the script ends.
temporary() {
    TEMPORARY=$(mktemp -d "$CACHE/.$1.XXXXXX")
}

# Make $1, a file system image named $2 with the content of directory $3, and $4 MiB before it.
# No journal: nothing writes to it.
make_file_system() {
    local image=$1 label=$2 content=$3 offset=${4:-0} size
    size=$(($(du --summarize --block-size=1M --apparent-size "$content" | cut -f1) * 13 / 10 + 16))
    truncate --size="$((offset + size))M" "$image"
    /sbin/mke2fs -q -t ext4 -O ^has_journal -m 0 -L "$label" -E "offset=$((offset * MIB))" \
        -d "$content" "$image" "${size}M"
}

# Make $1, a disk with a partition table, and one partition with the content of directory $2.
make_disk() {
    make_file_system "$1" root "$2" 1
    local sectors=$((($(stat --format=%s "$1") - MIB) / 512))
    {
        little_endian $((16#$DISK_ID))
        printf '\0\0'
        printf '\0\xfe\xff\xff\x83\xfe\xff\xff' # Linux, addressed by sectors
        little_endian $((MIB / 512))
        little_endian "$sectors"
    } | dd of="$1" bs=1 seek=440 conv=notrunc status=none
    printf '\x55\xaa' | dd of="$1" bs=1 seek=510 conv=notrunc status=none
}

# Print a number of 32 bits, lowest byte first.
little_endian() {
    local byte
    for byte in $(($1 & 255)) $(($1 >> 8 & 255)) $(($1 >> 16 & 255)) $(($1 >> 24 & 255)); do
        # shellcheck disable=SC2059 # the format is the byte
        printf "\\x$(printf '%02x' "$byte")"
    done
}

# Write $1/launch, which runs a program of the root directory beside it with the libraries there:
# launch NAME PROGRAM ARGUMENT…, NAME being what the program shall think it is called.
write_launchers() {
    cat >"$1/launch" <<'LAUNCHER'
#!/bin/sh
root=${0%/*}/root
libraries=$root/usr/lib/x86_64-linux-gnu
name=$1 program=$root$2
shift 2
exec "$libraries/ld-linux-x86-64.so.2" --argv0 "$name" --library-path "$libraries" "$program" "$@"
LAUNCHER
    cat >"$1/python" <<'LAUNCHER'
#!/bin/sh
PYTHONHOME=${0%/*}/root/usr exec "${0%/*}/launch" python3 /usr/bin/python3 "$@"
LAUNCHER
    chmod +x "$1/launch" "$1/python"
}

# The names in package lists.
package_names() { sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@"; }

# Install the Python packages of the lists into the guest at $1, and compile all there is, as the
# guest cannot: its disk is read-only.
install_python_packages() {
    local to=$1/root/usr/local/lib/python3.13/dist-packages list pip
    pip=$(echo "$1"/root/usr/share/python-wheels/pip-*.whl)
    for list in "${REQUIREMENTS[@]}"; do
        "$1/python" "$pip/pip" --quiet --no-input --disable-pip-version-check install \
            --root-user-action=ignore --only-binary=:all: --no-compile --require-hashes \
            --target "$to" -r "$list" >"$TEMPORARY/log" 2>&1 || {
            tail -n 25 "$TEMPORARY/log" >&2
            fail "pip could not install $list for the guests of the kernel tests; see above."
        }
    done
    "$1/python" -m compileall -q -s "$1/root" -p / "$to" "$1/root/usr/lib/python3.13" >&2 ||
        fail "could not compile the guests' Python packages."
}

# What is made by the scripts of packages when they are installed, and the guest's first process.
finish_root() {
    cp "$REPOSITORY/tests/kernels/init" "$1/nfproxy-init"
    printf 'root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534::/:/bin/false\n' >"$1/etc/passwd"
    printf 'root:x:0:\nnogroup:x:65534:\n' >"$1/etc/group"
    ln -s iptables-nft "$1/usr/sbin/iptables"
    ln -s ip6tables-nft "$1/usr/sbin/ip6tables"
    mkdir "$1/nfproxy" "$1/image" # where the guest mounts these
    mkdir -p "$1/usr/lib/modules"
}

# What the guest is made of: when it changes, a new one is made.
guest_fingerprint() {
    cat -- "${BASH_SOURCE[0]}" "$REPOSITORY/tests/kernels/init" "${PACKAGE_LISTS[@]}" "${REQUIREMENTS[@]}" |
        sha256sum | cut -c 1-16
}

make_guest() {
    local package
    printf '==> making the disk of guests of Debian %s\n' "$GUEST_SUITE" >&2
    temporary guest
    # shellcheck disable=SC2046 # one word per package
    fetch_with_dependencies "$GUEST_SUITE" "$TEMPORARY/packages" $(package_names "${PACKAGE_LISTS[@]}")
    mkdir "$TEMPORARY/done" "$TEMPORARY/done/root"
    for package in "$TEMPORARY"/packages/*.deb; do
        dpkg-deb --extract "$package" "$TEMPORARY/done/root"
    done
    rm -rf "$TEMPORARY"/done/root/usr/share/{doc,man,locale,info}
    write_launchers "$TEMPORARY/done"
    install_python_packages "$TEMPORARY/done"
    finish_root "$TEMPORARY/done/root"
    make_disk "$TEMPORARY/done/root.img" "$TEMPORARY/done/root"
    rm -rf "$CACHE"/guest-* # of an earlier state
    mv --no-target-directory "$TEMPORARY/done" "$1"
    rm -rf "$TEMPORARY"
}

# Fetch the newest kernel of suite $1 into directory $2, without the tools it depends on.
fetch_kernel() {
    local name
    mkdir -p "$2"
    prepare_apt "$1" "$2/.apt"
    name=$(private_apt "$2/.apt" --simulate install linux-image-cloud-amd64 |
        sed -n 's/^Inst \(linux-image-[0-9][^ ]*\) .*/\1/p')
    [ -n "$name" ] || fail "Debian $1 has no kernel in linux-image-cloud-amd64."
    fetch_packages "$1" "$2" "$name"
}

# Make $1 for kernel $2, with tools of the guest at $3.
make_kernel() {
    local kernel=$2 guest=$3 at release
    printf '==> fetching kernel %s of Debian %s\n' "$kernel" "${SUITES[$kernel]}" >&2
    temporary "$kernel"
    at=$TEMPORARY/done
    fetch_kernel "${SUITES[$kernel]}" "$TEMPORARY/packages"
    dpkg-deb --extract "$TEMPORARY"/packages/*.deb "$TEMPORARY/package"
    mkdir -p "$at" "$TEMPORARY/base/usr/lib"
    ln -s usr/lib "$TEMPORARY/base/lib"
    mv "$TEMPORARY"/package/{,usr/}lib/modules "$TEMPORARY/base/usr/lib/" 2>/dev/null || true
    release=$(ls "$TEMPORARY/base/usr/lib/modules")
    case $release in
        "$kernel".*) ;;
        *) fail "Debian ${SUITES[$kernel]} has Linux $release, not $kernel: see SUITES in $0." ;;
    esac
    "$guest/launch" depmod /usr/bin/kmod -b "$TEMPORARY/base" "$release"
    mv "$TEMPORARY/package/boot/vmlinuz-$release" "$at/vmlinuz"
    make_file_system "$at/modules.img" modules "$TEMPORARY/base/usr/lib/modules"
    printf '%s\n' "$release" >"$at/release"
    rm -rf "${1:?}" # a part of it was deleted
    mv --no-target-directory "$at" "$1"
    rm -rf "$TEMPORARY"
}

main() {
    local kernel guest
    [ $# != 0 ] || set -- "${!SUITES[@]}"
    for kernel in "$@"; do
        [ -n "${SUITES[$kernel]:-}" ] || fail "no such kernel: $kernel. There are: ${!SUITES[*]}"
    done
    [ "$(dpkg --print-architecture)" = amd64 ] ||
        fail "the kernel tests are for machines of architecture amd64."
    mkdir -p "$CACHE"
    TEMPORARY=
    trap 'rm -rf "${TEMPORARY:-/nonexistent}"' EXIT
    guest=$CACHE/guest-$(guest_fingerprint)
    {
        flock 9 # the tests of two checkouts may start at once
        rm -rf "$CACHE"/.*.?????? # left by a run that was killed
        [ -e "$guest/root.img" ] || make_guest "$guest"
        for kernel in "$@"; do
            [ -e "$CACHE/$kernel/release" ] || make_kernel "$CACHE/$kernel" "$kernel" "$guest"
        done
    } 9>"$CACHE/.lock"
    printf 'guest %s\n' "$guest"
    for kernel in "$@"; do
        printf '%s %s\n' "$kernel" "$CACHE/$kernel"
    done
}

main "$@"
