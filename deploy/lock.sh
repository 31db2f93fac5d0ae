#!/usr/bin/env bash
# Renew the lists of Python packages that the container image holds, to the newest that fit.
#
# usage: deploy/lock.sh
#
#   requirements.txt         what pyproject.toml depends on, and what that depends on
#   requirements-build.txt   what builds nfproxy's wheel; not in the image
#
# Each package has one version and the hashes of its files, so that the same image comes out, or
# none. Resolved for the Python of the image's Debian, once for each of its architectures: they
# have to agree, and each package has to offer a wheel for both, since there is no compiler.
# Needs a package index (PyPI), and nothing installed but Python: uv is fetched for the occasion.
set -euo pipefail

cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

UV=uv==0.13.9
PYTHON=3.13             # Debian trixie's
PLATFORM=manylinux_2_40 # trixie has glibc 2.41
ARCHITECTURES=(x86_64 aarch64)

WORK=$(mktemp -d)
trap 'rm -rf "$WORK"' EXIT

# resolve OUTPUT ARGUMENT…: write a list for each architecture, and keep one if they agree.
resolve() {
    local output=$1 architecture
    shift
    for architecture in "${ARCHITECTURES[@]}"; do
        "$WORK/venv/bin/uv" --quiet --no-config pip compile --upgrade --generate-hashes \
            --only-binary :all: --python-version "$PYTHON" \
            --python-platform "$architecture-$PLATFORM" \
            --custom-compile-command deploy/lock.sh \
            --output-file "$WORK/$architecture.txt" "$@" >/dev/null
    done
    cmp "$WORK/${ARCHITECTURES[0]}.txt" "$WORK/${ARCHITECTURES[1]}.txt"
    cp "$WORK/${ARCHITECTURES[0]}.txt" "$output"
}

# Print what pyproject.toml says is needed to build.
build_requirements() {
    "$WORK/venv/bin/python" -c 'import tomllib
print(*tomllib.load(open("../pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")'
}

python3 -m venv "$WORK/venv"
"$WORK/venv/bin/pip" install --quiet --disable-pip-version-check "$UV"
resolve requirements.txt ../pyproject.toml
build_requirements >"$WORK/build.in"
resolve requirements-build.txt --no-annotate "$WORK/build.in"
