"""
Who else translates Service addresses on this node.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from nfproxy.nft.schema import KUBE_PROXY_TABLE, TABLE
from nfproxy.preflight.facts import HostFiles, Link, Listing, Port, Processes, Ruleset
from nfproxy.preflight.findings import Verdict, fail, ok, warn

_KUBE_PROXY_CHAIN = re.compile(r"KUBE-(SERVICES|SVC-|SEP-|NODEPORTS|MARK-MASQ)")
_SWITCH = (
    "to switch over: start nfproxy, keep kube-proxy off this node, then `nfproxy cleanup "
    "--kube-proxy` (with --dry-run first)"
)


def kube_proxy(
    ruleset: Ruleset | None, links: Sequence[Link], processes: Processes, ports: Sequence[Port]
) -> list[Verdict]:
    """
    kube-proxy is what nfproxy replaces: fine before, not for long after.

    A `ruleset` that could not be read is None.
    """
    unread = ruleset is None
    ruleset = ruleset or Ruleset()
    traces = list(_traces(ruleset, links))
    running = [f"process {n}" for n, name in processes.names.items() if name == "kube-proxy"]
    running += [f"it answers at {p.address}" for p in ports if p.holder.startswith("kube-proxy")]
    verdicts = []
    if running:
        where = f" ({'; '.join(traces)})" if traces else ""
        verdicts.append(warn(f"kube-proxy runs here: {', '.join(running)}{where}", _SWITCH))
    elif traces:
        verdicts.append(
            warn(
                f"kube-proxy has been here: {'; '.join(traces)}",
                "`nfproxy cleanup --kube-proxy` removes it (with --dry-run it shows what)",
            )
        )
    if ruleset.legacy and ruleset.legacy_text is None:
        verdicts.append(
            warn(
                f"iptables-legacy has tables here ({', '.join(ruleset.legacy)}), which cannot be "
                "looked into: iptables-legacy-save is missing, or the capability NET_RAW",
                "run `iptables-legacy-save | grep KUBE-` on the node",
            )
        )
    if unread:
        verdicts.append(
            warn("the ruleset could not be read", "give this process the capability NET_ADMIN")
        )
    return verdicts or [ok("no kube-proxy, and nothing that one has left")]


def _traces(ruleset: Ruleset, links: Iterable[Link]) -> Iterator[str]:
    theirs = [name for name in ruleset.tables if name.split()[-1] == KUBE_PROXY_TABLE]
    if theirs:
        yield f"tables {', '.join(theirs)}: nftables mode"
    chains = [c for c in ruleset.chains if _KUBE_PROXY_CHAIN.match(c.name)]
    if chains:
        yield f"{len(chains)} chains KUBE-… (iptables-nft): iptables or IPVS mode"
    legacy = re.findall(r"^:(KUBE-\S+)", ruleset.legacy_text or "", re.MULTILINE)
    legacy = [name for name in legacy if _KUBE_PROXY_CHAIN.match(name)]
    if legacy:
        yield f"{len(legacy)} chains KUBE-… (iptables-legacy): iptables or IPVS mode"
    if any(link.name == "kube-ipvs0" for link in links):
        yield "the interface kube-ipvs0: IPVS mode"


def own(ruleset: Ruleset) -> Verdict:
    """Our own tables are taken over, whoever made them."""
    ours = [name for name in ruleset.tables if name in (f"ip {TABLE}", f"ip6 {TABLE}")]
    return ok(
        f"tables {', '.join(ours)} are here already, and will be taken over"
        if ours
        else "no tables of nfproxy yet"
    )


def others(links: Sequence[Link], files: HostFiles) -> list[Verdict]:
    """Network plugins that translate Services themselves leave nothing for nfproxy to do."""
    return list(_others({link.name for link in links}, files)) or [
        ok("no other service proxy (Cilium, Calico eBPF, kube-router, OVN-Kubernetes, Antrea)")
    ]


def _others(names: set[str], files: HostFiles) -> Iterator[Verdict]:
    if "cilium_host" in names or any("cilium" in pin for pin in files.pins):
        if any("socketlb" in pin or pin.startswith("cilium_lb4_reverse_sk") for pin in files.pins):
            yield fail(
                "Cilium replaces kube-proxy here: its socket load balancer is attached",
                "set kubeProxyReplacement=false in Cilium, or leave Services to Cilium",
            )
        else:
            yield warn(
                "Cilium is here; whether it replaces kube-proxy cannot be told from the node",
                "`cilium-dbg status | grep KubeProxyReplacement` has to say False",
            )
    if any(name.startswith("bpfin.cali") for name in names):
        yield fail(
            "Calico's eBPF dataplane is here, which serves Services itself",
            'calicoctl patch felixconfiguration default -p \'{"spec": {"bpfEnabled": false}}\'',
        )
    if "kube-dummy-if" in names:
        yield fail(
            "kube-router's service proxy is here (interface kube-dummy-if)",
            "run kube-router with --run-service-proxy=false, then kube-router --cleanup-config",
        )
    if any(name.startswith("ovn-k8s-mp") for name in names):
        yield fail(
            "OVN-Kubernetes is here, which serves Services itself",
            "leave Services to it: nfproxy has no use beside it",
        )
    if "antrea-gw0" in names:
        yield warn(
            "Antrea is here; its AntreaProxy serves Services for pods, by default with proxyAll "
            "off for all else",
            "set featureGates.AntreaProxy to false, or leave Services to Antrea",
        )


def node_local_dns(links: Iterable[Link], listing: Listing) -> Verdict:
    """
    NodeLocal DNSCache works beside nfproxy if its packets are left untracked.

    nat chains see no packet of an untracked connection, so what it takes at the cluster IP of
    kube-dns goes to it and not to a DNS pod.
    """
    cache = next((link for link in links if link.name == "nodelocaldns"), None)
    if cache is None:
        return ok("no NodeLocal DNSCache")
    addresses = [a for a in cache.addresses if not a.startswith(("169.254.", "fe80:"))]
    bypassing = [a for a in addresses if not any(a in line for line in listing.notracked)]
    if not bypassing:
        return ok(f"NodeLocal DNSCache at {', '.join(cache.addresses) or 'no address'}")
    return warn(
        f"NodeLocal DNSCache has {', '.join(bypassing)}, and no rule is seen that leaves its "
        "connections untracked: nfproxy would send them to the DNS pods, past the cache",
        "run node-local-dns with -setupiptables (the default), or give pods its link-local "
        "address as nameserver (the kubelet's clusterDNS)",
    )
