#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: tests/kind/run.sh [OPTION…] [PYTEST ARGUMENT…]

Runs the integration suite (tests/kind) against a kind cluster made for it: three nodes, both
address families, no kube-proxy. Builds the container image, loads it, installs nfproxy by
deploy/kustomize/overlays/kind, runs pytest, and deletes the cluster.

  --kubernetes MINOR   1.36, 1.35 or 1.34                      (default: 1.36)
  --image REFERENCE    another node image, kindest/node:…
  --logs DIRECTORY     where logs go when something fails      (default: a new one below /tmp)
  --keep               leave the cluster; "kind delete cluster" and
                       "docker rm --force nfproxy-outside" remove it
  --dry-run            print the commands, and do nothing
  --help

Needs Docker, kind 0.32 or newer and kubectl. The cluster is called "kind", as the overlay has it;
if there is one of that name, nothing is done.

Environment:
  E2E_TEST   Kubernetes' e2e.test of the same version, if its conformance tests of Services are
             to run, too: a path, or a command
  NFPROXY_VENV, NFPROXY_PYTHON, NFPROXY_NO_INSTALL            see deploy/prepare.sh
USAGE
}

HERE=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=deploy/prepare.sh
source "$HERE/../../deploy/prepare.sh"

CLUSTER=kind
NODE=$CLUSTER-control-plane
OUTSIDE=nfproxy-outside # a host on the nodes' network that is no node: see existing.py
# Those that kind 0.32.0 was released with.
declare -A IMAGES=(
    [1.36]=kindest/node:v1.36.1@sha256:3489c7674813ba5d8b1a9977baea8a6e553784dab7b84759d1014dbd78f7ebd5
    [1.35]=kindest/node:v1.35.5@sha256:ce977ae6d65918d0b58a5f8b5e940429c2ce42fa3a5619ec2bbc60b949c0ac95
    [1.34]=kindest/node:v1.34.8@sha256:02722c2dedddcfc00febf5d27fbeb9b7b2c14294c82109ff4a85d89ac9ba3256
)
NODE_IMAGE=${IMAGES[1.36]} LOGS='' KEEP='' DRY_RUN='' CREATED=''

parse_options() {
    while [ $# -gt 0 ]; do
        case $1 in
            -h | --help) usage && exit ;;
            --kubernetes)
                NODE_IMAGE=${IMAGES[${2:-none}]:-}
                [ -n "$NODE_IMAGE" ] ||
                    fail "--kubernetes takes one of: ${!IMAGES[*]}; for others there is --image"
                shift
                ;;
            --image) NODE_IMAGE=${2:?--image needs a reference} && shift ;;
            --logs) LOGS=${2:?--logs needs a directory} && shift ;;
            --keep) KEEP=1 ;;
            --dry-run) DRY_RUN=1 ;;
            *) break ;;
        esac
        shift
    done
    PYTEST_ARGUMENTS=("$@")
}

# Run a command, after it has been printed; only print it where nothing is to be done.
run() {
    printf '+ %s\n' "${*@Q}" >&2
    [ -n "$DRY_RUN" ] || "$@"
}

kubectl_() { run kubectl --context "kind-$CLUSTER" "$@"; }

check_machine() {
    local tool
    [ -z "$DRY_RUN" ] || return 0
    for tool in docker kind kubectl; do
        command -v "$tool" >/dev/null || fail "$tool is not here: see tests/kind/run.sh --help"
    done
    docker info >/dev/null 2>&1 || fail "no Docker engine answers: is it running, and are you allowed?"
    ! kind get clusters 2>/dev/null | grep -qx "$CLUSTER" ||
        fail "there is a cluster called \"$CLUSTER\". If it is not needed: kind delete cluster"
}

# The image's name, as the manifests have it.
image() {
    local version
    version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$REPOSITORY/nfproxy/__init__.py")
    printf 'ghcr.io/nfproxy/nfproxy:%s\n' "$version"
}

create_cluster() {
    CREATED=1
    run kind create cluster --name "$CLUSTER" --image "$NODE_IMAGE" --config "$HERE/cluster.yaml"
}

install_nfproxy() {
    local image
    image=$(image)
    run docker build --tag "$image" --file "$REPOSITORY/deploy/Dockerfile" "$REPOSITORY"
    run kind load docker-image "$image" --name "$CLUSTER"
    kubectl_ apply --kustomize "$REPOSITORY/deploy/kustomize/overlays/kind"
    kubectl_ --namespace kube-system rollout status daemonset nfproxy --timeout 180s
    kubectl_ wait node --all --for condition=Ready --timeout 180s
    kubectl_ --namespace kube-system rollout status deployment coredns --timeout 180s
}

# A host outside that knows the way to cluster IPs, external IPs and load-balancer IPs: one node.
add_outside_host() {
    local family address format destination
    run docker run --detach --name "$OUTSIDE" --network kind --cap-add NET_ADMIN \
        --entrypoint sleep "$NODE_IMAGE" infinity
    for family in 4 6; do
        format='{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}'
        [ "$family" = 4 ] ||
            format='{{range .NetworkSettings.Networks}}{{.GlobalIPv6Address}}{{end}}'
        address=$(run docker inspect --format "$format" "$NODE")
        for destination in $(destinations "$family"); do
            run docker exec "$OUTSIDE" ip "-$family" route add "$destination" \
                via "${address:-ADDRESS}"
        done
    done
}

destinations() {
    case $1 in
        4) echo 10.96.0.0/16 198.51.100.0/24 ;;
        6) echo fd00:10:96::/112 2001:db8:1::/64 ;;
    esac
}

collect_logs() {
    [ -n "$LOGS" ] || LOGS=$(mktemp -d "${TMPDIR:-/tmp}/nfproxy-kind.XXXXXX")
    say "collecting logs in $LOGS"
    run kind export logs --name "$CLUSTER" "$LOGS" || true
    kubectl_ get all,endpointslices --all-namespaces --output wide >"$LOGS/objects" 2>&1 || true
    kubectl_ describe nodes >"$LOGS/nodes" 2>&1 || true
    for node in $(kind get nodes --name "$CLUSTER" 2>/dev/null); do
        run docker exec "$node" nft list ruleset >"$LOGS/$node-ruleset" 2>&1 || true
    done
}

# Whatever happened; what failed first decides the exit code.
finish() {
    local status=$?
    trap - EXIT
    [ -n "$CREATED" ] || exit "$status"
    [ "$status" = 0 ] || [ -n "$DRY_RUN" ] || collect_logs
    if [ -z "$KEEP" ]; then
        run docker rm --force "$OUTSIDE" >/dev/null || true
        run kind delete cluster --name "$CLUSTER" || true
    fi
    exit "$status"
}

main() {
    parse_options "$@"
    cd "$REPOSITORY"
    check_machine
    [ -n "$DRY_RUN" ] || prepare_venv test
    export KUBECONFIG=${KUBECONFIG:-$HOME/.kube/config} # e2e.test looks nowhere else
    trap finish EXIT
    create_cluster
    install_nfproxy
    add_outside_host
    run "$VENV/bin/python" -m pytest --cluster=kind tests/kind "${PYTEST_ARGUMENTS[@]}"
}

main "$@"
