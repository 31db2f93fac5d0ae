#!/usr/bin/env bash
# Say in a sentence which kernel features are missing that nfproxy and its tests need.
#
# usage: tests/tools/kernel_check.sh     (in a network namespace of its own, as its root)
#
# Tries each with the installed nft and ip. Prints nothing and exits 0 when all are there.
set -uo pipefail

for tool in nft ip; do
    command -v "$tool" >/dev/null || {
        printf 'error: %s is not installed; deploy/packages*.txt name the packages.\n' "$tool" >&2
        exit 1
    }
done

missing=()

# feature NAME CONFIG COMMAND…: a failing command means that the kernel lacks the feature.
feature() {
    local name=$1 config=$2 output
    shift 2
    output=$("$@" 2>&1 </dev/null) && return
    missing+=("$name ($config)")
    printf 'kernel check: %s: %s\n' "$name" "$(head -n 1 <<<"$output")" >&2
}

# rule NAME CONFIG RULE [HOOK]: can a nat chain hold this rule?
rule() {
    local hook=${4:-prerouting}
    feature "$1" "$2" nft "table ip kernel-check {
        chain $hook { type nat hook $hook priority 0; $3; }
    }"
}

feature "nf_tables" CONFIG_NF_TABLES_IPV4 nft "add table ip kernel-check"
if [ ${#missing[@]} = 0 ]; then
    feature "nf_tables for IPv6" CONFIG_NF_TABLES_IPV6 nft "add table ip6 kernel-check"
    rule "nat" CONFIG_NFT_NAT "dnat to 192.0.2.1"
    rule "masquerade" CONFIG_NFT_MASQ "masquerade" postrouting
    rule "reject in nat chains" "CONFIG_NFT_REJECT, Linux 5.9" "reject"
    rule "numgen" CONFIG_NFT_NUMGEN "meta mark set numgen random mod 2"
    rule "jhash" CONFIG_NFT_HASH "meta mark set jhash ip saddr mod 2"
    rule "fib" CONFIG_NFT_FIB_IPV4 "fib daddr type local accept"
    rule "connection tracking" CONFIG_NFT_CT "ct status dnat accept"
    rule "limit" CONFIG_NFT_LIMIT "limit rate 1/second accept"
    nft "delete table ip kernel-check" 2>/dev/null
    nft "delete table ip6 kernel-check" 2>/dev/null
fi
feature "veth devices" CONFIG_VETH ip link add kcheck0 type veth peer name kcheck1
feature "bridges" CONFIG_BRIDGE ip link add kcheck2 type bridge
ip link delete kcheck0 2>/dev/null
ip link delete kcheck2 2>/dev/null

[ ${#missing[@]} = 0 ] && exit 0
printf 'error: Linux %s here lacks what the tests need: %s\n' "$(uname -r)" \
    "$(printf '%s; ' "${missing[@]}" | sed 's/; $//')." >&2
printf 'Load the modules (modprobe nf_tables nft_nat veth bridge …), or use another kernel.\n' >&2
exit 1
