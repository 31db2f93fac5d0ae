# Sourced by demo.sh and tests/run.sh: installs what a machine lacks, and says what it does.
#
#   prepare_packages [FILE…] install the Debian packages of packages.txt, packages-host.txt and of
#                            the lists given
#   prepare_venv [test]      make the virtual environment VENV with nfproxy in it, editable, and
#                            the packages of requirements.txt; test: those of requirements-test.txt
#
# Both are idempotent, and quick when there is nothing to do. A failure ends the script with
# exit code 1 and a sentence that says what to do next.
#
# Environment:
#   NFPROXY_VENV         where the virtual environment is      (default: .venv in the repository)
#   NFPROXY_PYTHON       the Python to make it from            (default: the first suitable on PATH)
#   NFPROXY_NEWEST       1: the newest Python packages that pyproject.toml allows, not the listed
#   NFPROXY_NO_INSTALL   1: trust that the system packages are there (other distributions)
# shellcheck shell=bash

REPOSITORY=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${NFPROXY_VENV:-$REPOSITORY/.venv}

say() { printf '==> %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

# Run a command silently; when it fails, show the end of what it printed. Ctrl-C ends the script.
quietly() {
    local log status=0
    log=$(mktemp)
    "$@" >"$log" 2>&1 </dev/null || status=$?
    [ "$status" != 130 ] || { rm -f "$log" && exit 130; }
    [ "$status" = 0 ] || tail -n 25 "$log" >&2
    rm -f "$log"
    return "$status"
}

# The names in package lists.
package_names() { sed -e 's/#.*//' -e 's/[[:space:]]//g' -e '/^$/d' "$@"; }

# Of the package names on standard input, those that are not installed.
missing_packages() {
    local name
    while read -r name; do
        case $(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null) in
            installed) ;;
            *) printf '%s\n' "$name" ;;
        esac
    done
}

# Can this Python run nfproxy (3.11), and make a virtual environment with pip in it?
python_is_recent() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
python_is_suitable() { python_is_recent "$1" && "$1" -c 'import ensurepip, venv' 2>/dev/null; }

# Print the first suitable Python on PATH.
find_python() {
    local python
    for python in ${NFPROXY_PYTHON:-python3 /usr/bin/python3 python3.13 python3.12 python3.11}; do
        if python_is_suitable "$python"; then
            command -v "$python"
            return
        fi
    done
    return 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo --non-interactive "$@"
    fi
}

apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive \
        apt-get --quiet --yes -o DPkg::Lock::Timeout=120 "$@"
}

# Refresh the lists once. A third-party source that does not answer is no reason to stop.
apt_update() {
    [ -z "${APT_UPDATED:-}" ] || return 0
    APT_UPDATED=1
    say "apt-get update"
    quietly apt_get update || say "apt-get update had errors; going on with the lists there are"
}

# Install packages, or end with what a person has to type.
install_packages() {
    local remedy="apt-get install --no-install-recommends $*"
    if ! command -v apt-get >/dev/null; then
        fail "this script installs packages with apt-get, which is not here." \
            "Install by hand what Debian calls: $*; then run again with NFPROXY_NO_INSTALL=1."
    fi
    if [ "$(id -u)" != 0 ] && ! sudo --non-interactive true 2>/dev/null; then
        fail "packages are missing, and installing them needs root. Run: sudo $remedy"
    fi
    apt_update
    say "installing packages: $*"
    quietly apt_get install --no-install-recommends "$@" ||
        fail "could not install these packages. See above; by hand: $remedy"
}

prepare_packages() {
    local missing
    [ -z "${NFPROXY_NO_INSTALL:-}" ] || return 0
    missing=$(package_names "$REPOSITORY"/deploy/packages{,-host}.txt "$@" | missing_packages)
    # Any Python will do that runs nfproxy, a pyenv one for instance.
    if find_python >/dev/null; then
        missing=$(grep -v '^python3' <<<"$missing" || true)
    fi
    # shellcheck disable=SC2086  # one word per package
    [ -z "$missing" ] || install_packages $missing
    find_python >/dev/null || install_newer_python
}

# The distribution's python3 is too old, as on Ubuntu 22.04; it may offer a newer one beside it.
install_newer_python() {
    local version
    [ -z "${NFPROXY_PYTHON:-}" ] ||
        fail "NFPROXY_PYTHON=$NFPROXY_PYTHON is not a Python 3.11 or newer with ensurepip."
    for version in 3.13 3.12 3.11; do
        if apt-cache show "python$version-venv" >/dev/null 2>&1; then
            install_packages "python$version" "python$version-venv"
            find_python >/dev/null && return
        fi
    done
    fail "nfproxy needs Python 3.11 or newer, with ensurepip; found $(python3 --version 2>&1)" \
        "and no newer package. Install one and name it: NFPROXY_PYTHON=/path/to/python3.11"
}

# Make VENV if it is absent, too old or broken (its Python was removed, the directory moved).
make_venv() {
    local python
    python_is_recent "$VENV/bin/python" && [ -x "$VENV/bin/pip" ] &&
        "$VENV/bin/python" -m pip --version >/dev/null 2>&1 && return
    if [ -e "$VENV" ] && [ ! -e "$VENV/pyvenv.cfg" ] && [ -n "$(ls -A "$VENV")" ]; then
        fail "$VENV exists and is not a virtual environment." \
            "Remove it, or set NFPROXY_VENV to another place."
    fi
    python=$(find_python) ||
        fail "no Python 3.11 or newer that has ensurepip. Run: apt-get install python3 python3-venv"
    say "making a virtual environment in $VENV with $("$python" --version)"
    quietly "$python" -m venv --clear "$VENV" || fail "could not make it; see above."
}

# Print the lists of Python packages to install: for "test", or "" for nfproxy alone. The one for
# tests holds what builds nfproxy, too.
python_lists() {
    local deploy=$REPOSITORY/deploy
    if [ "$1" = test ]; then
        printf '%s\n' "$deploy/requirements-test.txt"
    else
        printf '%s\n' "$deploy"/requirements{,-build}.txt
    fi
}

# What the installed packages depend on: when it changes, pip runs again.
venv_fingerprint() {
    local lists
    mapfile -t lists < <(python_lists "$1")
    {
        "$VENV/bin/python" --version
        printf '%s\n' "$REPOSITORY" "${NFPROXY_NEWEST:-}"
        cat -- "$REPOSITORY/pyproject.toml" "$REPOSITORY/nfproxy/__init__.py" "${lists[@]}"
    } | sha256sum
}

# Is what $1 needs installed? What the tests need includes nfproxy itself.
venv_has() {
    local kind
    for kind in "$1" test; do
        grep --quiet --no-messages --fixed-strings "$(venv_fingerprint "$kind")" \
            "$VENV/.nfproxy-installed-${kind:-base}" && return
    done
    return 1
}

pip_install() {
    quietly "$VENV/bin/python" -m pip install --quiet --no-input --disable-pip-version-check "$@" ||
        fail "pip could not install; see above. It needs a package index (PyPI)."
}

# Install the listed packages, their hashes checked, then nfproxy with the listed setuptools.
install_listed() {
    local list lists=()
    while read -r list; do
        lists+=(--requirement "$list")
    done < <(python_lists "$1")
    pip_install --require-hashes "${lists[@]}"
    pip_install --no-index --no-deps --no-build-isolation --editable "$REPOSITORY"
}

install_newest() {
    pip_install --upgrade --upgrade-strategy eager --editable "$REPOSITORY${1:+[$1]}"
}

prepare_venv() {
    local kind=${1:-} stamp
    stamp=$VENV/.nfproxy-installed-${kind:-base}
    # One at a time: the demo may start while the tests prepare.
    {
        flock 9
        make_venv
        if ! venv_has "$kind"; then
            say "installing nfproxy${kind:+ and what its ${kind}s need} in $VENV"
            if [ -n "${NFPROXY_NEWEST:-}" ]; then
                install_newest "$kind"
            else
                install_listed "$kind"
            fi
            venv_fingerprint "$kind" >"$stamp"
        fi
    } 9<"$REPOSITORY/pyproject.toml"
}
