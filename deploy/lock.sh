#!/usr/bin/env bash
# Renew the lists of Python packages that are installed, to the newest versions that fit.
#
# usage: deploy/lock.sh [--keep]
#
#   requirements.txt               what pyproject.toml depends on, and what that depends on: the
#                                  image, the demo
#   requirements-build.txt         what builds nfproxy's wheel; not in the image
#   requirements-test.txt          all of that, and what the tests need
#   tests/kernels/requirements.txt what the guests of tests/kernels need beside the image's packages
#
#   --keep   change no version that is listed and still fits: after a change of pyproject.toml
#
# Each package has one version and the hashes of its files, so that the same packages are installed
# today and next year, or none. The lists hold for each Python in PYTHONS and each architecture in
# ARCHITECTURES: the script ends with an error where a package has no wheel for one of them, since
# neither the image nor a test machine has a compiler.
# Needs a package index (PyPI), and nothing installed but Python: uv is fetched for the occasion.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

UV=uv==0.13.9
PYTHONS=(3.11 3.12 3.13) # the lowest comes first; the image has Debian trixie's, 3.13
PLATFORM=manylinux_2_36  # Debian bookworm's glibc
ARCHITECTURES=(x86_64 aarch64)

UPGRADE=(--upgrade)
case ${1:-} in
    "") ;;
    --keep) UPGRADE=() ;;
    *)
        printf 'usage: deploy/lock.sh [--keep]\n' >&2
        exit 1
        ;;
esac

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

compile() {
    "$WORK/venv/bin/uv" --quiet --no-config pip compile "$@" >/dev/null
}

# resolve OUTPUT ARGUMENT…: write a list, and check that every machine finds wheels for it.
resolve() {
    local output=$1 python architecture
    shift
    compile --universal --python-version "${PYTHONS[0]}" --generate-hashes "${UPGRADE[@]}" \
        --custom-compile-command deploy/lock.sh --output-file "$output" "$@"
    for python in "${PYTHONS[@]}"; do
        for architecture in "${ARCHITECTURES[@]}"; do
            compile --only-binary :all: --python-version "$python" \
                --python-platform "$architecture-$PLATFORM" --constraint "$output" "$@"
        done
    done
}

# Print what pyproject.toml says is needed to build.
build_requirements() {
    "$WORK/venv/bin/python" -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
}

"${NFPROXY_PYTHON:-python3}" -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet --disable-pip-version-check "$UV"
build_requirements >"$WORK/build.in"
resolve deploy/requirements.txt pyproject.toml
resolve deploy/requirements-build.txt --no-annotate "$WORK/build.in"
# Tests run with the versions of the image.
resolve deploy/requirements-test.txt --extra test --constraint deploy/requirements.txt \
    --constraint deploy/requirements-build.txt pyproject.toml
resolve tests/kernels/requirements.txt --constraint deploy/requirements-test.txt \
    tests/kernels/requirements.in
