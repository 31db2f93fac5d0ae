#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: tests/run.sh [OPTION…] [PYTEST ARGUMENT…]

Checks the code, then runs the tests. Installs what is missing first: Debian packages
(deploy/packages*.txt, and on Debian chromium), a virtual environment (.venv), and for the tests other versions of nft,
kustomize, promtool and Helm (tests/tools: nft_versions.sh, kustomize.sh, promtool.sh, helm.py).
Repeated runs find all that in place.

  tests/run.sh                           everything
  tests/run.sh tests/unit -k shape       checks, then these tests: pytest's arguments
  tests/run.sh --check-only              ruff, mypy --strict, import contracts; no tests
  tests/run.sh --tests-only …            no checks
  tests/run.sh --quick …                 checks and unit tests that enter no network namespace: no
                                         root, no kernel; two minutes on two processors
  tests/run.sh --doubles                 everything, and tests of what tests are made of: stand-ins,
                                         harnesses, benches; continuous integration does so nightly
  tests/run.sh --kernels [6.1] [6.12] …  on Debian's kernels, booted under QEMU: tests/kernels, which
                                         run nowhere else, and tests/packets (half an hour for each
                                         kernel), or what pytest's arguments name
  tests/run.sh --help

"Everything" includes a selection of that, beside the other tests, on machines of architecture amd64:
the DaemonSet on kernel 6.1, some of tests/packets on 6.12 (tests/kernels/selection.txt).

Tests run in network and mount namespaces of their own, so nothing they do reaches the
machine's ruleset or interfaces. Root can make these, and so can others where the kernel allows
unprivileged user namespaces. Only root can build the container image, which tests/kind and some of
tests/deploy run: others name the tests that they want.

Exits with 0 when every check and every test passed. No test found is a failure.

Environment:
  NFPROXY_TEST_WORKERS   processes that run tests at the same time   (default: one per
                         processor, and one more where tests need a kernel, 4 at most)
  NFPROXY_TEST_IMAGE     an image that tests/tools/image.sh has printed  (the working tree's)
  NFPROXY_TEST_CACHE     where what else is fetched is kept          (~/.cache/nfproxy-tests)
  NFPROXY_EXAMPLES       how many times the usual number of examples in tests/properties    (1)
  NFPROXY_COVERAGE       unit: print what of nfproxy tests/unit runs, and fail where it is too little
                         (the default where everything runs, and in continuous integration);
                         all: what all tests and their processes run, which takes longer
  NFPROXY_NEWEST         1: the newest Python packages, not those of deploy/requirements-test.txt
  NFPROXY_VENV, NFPROXY_PYTHON, NFPROXY_NO_INSTALL                   see deploy/prepare.sh
USAGE
}

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/prepare.sh
source "$HERE/../deploy/prepare.sh"

CHECKS=1 TESTS=1 PACKETS=1 KERNELS=''

parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit ;;
            --check-only) TESTS='' PACKETS='' ;;
            --tests-only) CHECKS='' ;;
            --quick) PACKETS='' ;;
            --kernels) KERNELS=only CHECKS='' TESTS='' ;;
            *) break ;;
        esac
        shift
    done
    PYTEST_ARGUMENTS=("$@")
    if [ $# = 0 ] && [ -n "$TESTS" ] && [ -n "$PACKETS" ]; then
        KERNELS=too
    fi
}

# Print the package of the browser that tests/servers/test_browser.py starts, where Debian has it.
# Ubuntu's is a snap, which containers cannot install.
browser_package() {
    if grep -qx 'ID=debian' /etc/os-release; then
        echo chromium
    elif ! command -v chromium >/dev/null; then
        say "no chromium here: tests/servers/test_browser.py is skipped"
    fi
}

prepare() {
    if [ -n "$PACKETS" ]; then
        prepare_packages "$REPOSITORY/deploy/packages-test.txt" <(browser_package)
    else
        prepare_packages <(echo openssl)
    fi
    prepare_venv test
}

# Fetch the programs of others that tests run, into NFPROXY_TEST_CACHE.
fetch_tools() {
    "$HERE/tools/nft_versions.sh"
    "$HERE/tools/kustomize.sh"
    "$HERE/tools/promtool.sh"
    "$VENV/bin/python" "$HERE/tools/helm.py"
}

# Run all checks, whatever the earlier ones said.
check() {
    local failed=()
    say "ruff, mypy, import contracts"
    ruff check --quiet . || failed+=("ruff check")
    ruff format --quiet --check . || failed+=("ruff format (to repair: ruff format .)")
    mypy --strict --no-error-summary || failed+=("mypy")
    quietly lint-imports || failed+=("lint-imports")
    [ ${#failed[@]} = 0 ] || {
        printf 'FAILED check: %s\n' "${failed[@]}"
        return 1
    }
}

# Print the command that gives another one namespaces of its own, with loopback up.
isolation() {
    local candidate
    for candidate in "unshare --net --mount" "unshare --user --map-root-user --net --mount"; do
        if $candidate true 2>/dev/null; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "the tests need network namespaces of their own: run as root (in a container:" \
        "--privileged), or allow unprivileged user namespaces:" \
        "sysctl -w user.max_user_namespaces=10000 kernel.unprivileged_userns_clone=1" \
        "kernel.apparmor_restrict_unprivileged_userns=0 (those that exist)." \
        "Without: tests/run.sh --quick"
}

# Do the tests that were asked for run containers?
image_is_needed() {
    [ -z "${NFPROXY_TEST_IMAGE:-}" ] || return 1
    case " ${PYTEST_ARGUMENTS[*]} " in
        *" tests/deploy"* | *" tests/kind"* | *" tests "* | *" tests/ "*) ;;
        *" tests/"*) return 1 ;;
    esac
}

# Build the container image beside what follows; end_image waits for it.
start_image() {
    IMAGE=''
    if image_is_needed; then
        exec {IMAGE}< <("$HERE/tools/image.sh")
    fi
}

end_image() {
    [ -n "$IMAGE" ] || return 0
    read -r NFPROXY_TEST_IMAGE <&"$IMAGE" || fail "there is no container image to test; see above."
    exec {IMAGE}<&-
    export NFPROXY_TEST_IMAGE
}

run_tests() {
    local isolate=() workers=() command count
    if [ -n "$PACKETS" ]; then
        command=$(isolation) || return
        read -ra isolate <<<"$command"
        "${isolate[@]}" "$HERE/tools/kernel_check.sh" || return
        isolate+=(sh -c 'ip link set lo up && exec "$@"' isolated)
    else
        [ ${#PYTEST_ARGUMENTS[@]} != 0 ] || PYTEST_ARGUMENTS=(tests/unit)
        PYTEST_ARGUMENTS=(-m "not namespaces" "${PYTEST_ARGUMENTS[@]}")
    fi
    # Tests that use a kernel wait for daemons and deadlines half of the time: one worker more.
    count=${NFPROXY_TEST_WORKERS:-$(($(nproc) + (${#isolate[@]} > 0)))}
    [ -n "${NFPROXY_TEST_WORKERS:-}" ] || [ "$count" -le 4 ] || count=4
    if [ "$count" -gt 1 ]; then
        workers=(-n "$count" --dist worksteal) # neighbours share the fixtures of their module
    fi
    if [ "$KERNELS" = too ]; then
        export NFPROXY_COVERAGE=${NFPROXY_COVERAGE:-unit}
    fi
    say "pytest ${PYTEST_ARGUMENTS[*]}"
    "${isolate[@]}" python -m pytest "${workers[@]}" "${PYTEST_ARGUMENTS[@]}"
}

# Start the tests on other kernels beside what follows; their output is shown by end_kernels.
start_kernels() {
    KERNELS_PID=''
    if [ "$(uname -m)" != x86_64 ]; then
        say "no tests on Debian's kernels: these are for machines of architecture amd64"
        return
    fi
    KERNELS_LOG=$(mktemp)
    nice -n 5 python "$HERE/tools/kernel_tests.py" --selection >"$KERNELS_LOG" 2>&1 &
    KERNELS_PID=$!
    trap 'kill "$KERNELS_PID" 2>/dev/null || true; rm -f "$KERNELS_LOG"' EXIT
}

end_kernels() {
    local status=0
    [ -n "$KERNELS_PID" ] || return 0
    say "tests on Debian's kernels"
    wait "$KERNELS_PID" || status=$?
    cat "$KERNELS_LOG"
    return "$status"
}

main() {
    local status=0
    parse_options "$@"
    exec </dev/null
    cd "$REPOSITORY"
    prepare
    PATH=$VENV/bin:/usr/local/sbin:/usr/sbin:/sbin:$PATH
    export VIRTUAL_ENV=$VENV PATH
    if [ "$KERNELS" = only ]; then
        exec python "$HERE/tools/kernel_tests.py" "${PYTEST_ARGUMENTS[@]}"
    fi
    if [ -n "$PACKETS" ]; then
        start_image
        fetch_tools
    fi
    if [ -n "$CHECKS" ]; then
        check || status=1
    fi
    if [ -n "$PACKETS" ]; then
        end_image
    fi
    if [ "$KERNELS" = too ]; then # not earlier: all tests wait for the image
        start_kernels
    fi
    if [ -n "$TESTS" ]; then
        run_tests || status=$?
    fi
    if [ "$KERNELS" = too ]; then
        end_kernels || status=1
    fi
    exit "$status"
}

main "$@"
