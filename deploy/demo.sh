#!/usr/bin/env bash
# See nfproxy at work on this machine, without a cluster: installs what is missing, then runs
# "nfproxy demo" with the arguments given (--help lists them; --keep leaves the demo running).
#
# usage: deploy/demo.sh [ARGUMENT…]
#
# The demo's nodes and pods are network namespaces: nothing of it touches the machine's own
# interfaces or rules. Root is not needed where the kernel allows unprivileged user namespaces
# and the packages of deploy/packages.txt and packages-host.txt are installed. Environment: see
# deploy/prepare.sh.
set -euo pipefail

# shellcheck source=deploy/prepare.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/prepare.sh"

if [ "$(id -u)" != 0 ] && ! unshare --user --map-root-user --net --mount true 2>/dev/null; then
    fail "the demo makes network namespaces, which this machine reserves for root." \
        "Run it as root: sudo $0 $*"
fi
prepare_packages
prepare_venv ""
export PATH=$PATH:/usr/sbin:/sbin # where nft and ip are, for users other than root
exec "$VENV/bin/nfproxy" demo "$@"
