"""
Who else translates Service addresses on this node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from nfproxy.nft.schema import TABLE
from nfproxy.tools.preflight.facts import HostFiles, Leftovers, Link, Listing, Port, Ruleset
from nfproxy.tools.preflight.findings import Verdict, fail, ok, warn

_SWITCH = (
    "to switch over: start nfproxy, keep kube-proxy off this node, then `nfproxy cleanup "
    "--kube-proxy` (with --dry-run first)"
)


def kube_proxy(running: str, leftovers: Leftovers | None, ports: Iterable[Port]) -> list[Verdict]:
    """
    kube-proxy is what nfproxy replaces: fine before, not for long after.

    `running` says where it runs, "" if it is not seen; `leftovers` is None where nothing could be
    looked at. In a container nobody sees its process, but it answers at its ports.
    """
    answers = (f"it answers at {p.address}" for p in ports if p.holder.startswith("kube-proxy"))
    running = running or next(answers, "")
    found: dict[str, list[str]] = {}
    for where, what in leftovers.found if leftovers else ():
        found.setdefault(where, []).append(what)
    traces = "; ".join(f"{where}: {', '.join(parts)}" for where, parts in found.items())
    verdicts = []
    if running:
        there = f"kube-proxy runs here ({running})"
        verdicts.append(warn(f"{there}; {traces}" if traces else there, _SWITCH))
    elif traces:
        verdicts.append(
            warn(
                f"kube-proxy has been here: {traces}",
                "`nfproxy cleanup --kube-proxy` removes it (with --dry-run it shows what)",
            )
        )
    if leftovers is None:
        text = "what kube-proxy may have left could not be looked at"
        verdicts.append(warn(text, "give this process the capability NET_ADMIN"))
    else:
        verdicts += [warn(text, "look there on the node") for text in leftovers.unknown]
    return verdicts or [ok("no kube-proxy, and nothing that one has left")]


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
