"""What else translates Service addresses on this node: kube-proxy, network plugins, DNS caches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nfproxy.host.kubeproxy import proxies_running
from nfproxy.host.paths import HostRoot
from nfproxy.model.addresses import FAMILIES
from nfproxy.nft.schema import OUR_TABLES
from nfproxy.tools.preflight.examine import RUNNING_HERE, Check, FactSource, IfKnown
from nfproxy.tools.preflight.findings import Finding, fail, ok, or_ok, warn
from nfproxy.tools.preflight.network import LINKS, Link
from nfproxy.tools.preflight.nft import LISTING, TableListing
from nfproxy.tools.preflight.ports import PORTS, Port
from nfproxy.tools.preflight.ruleset import RULESET, Ruleset
from nfproxy.tools.takeover.leftovers import items
from nfproxy.tools.takeover.removal import KubeProxyRemoval

_SWITCH = (
    "to switch over: start nfproxy, keep kube-proxy off this node, then `nfproxy cleanup "
    "--kube-proxy` (with --dry-run first)"
)
_PINS = ("/sys/fs/bpf/cilium", "/sys/fs/bpf/tc/globals")
_LEFTOVERS_S = 13.0


class Traces(NamedTuple):
    """
    What kube-proxy left, as (place, "2 chains").

    `unknown` says what could not be looked at.
    """

    found: tuple[tuple[str, str], ...] = ()
    unknown: tuple[str, ...] = ()


def read_traces() -> Traces:
    """Return what ``nfproxy cleanup --kube-proxy`` would remove. Raises NfproxyError."""
    with KubeProxyRemoval(lambda _: None) as removal:
        found = removal.find()
    counts: Counter[tuple[str, str]] = Counter()
    for item in items(found):
        counts[item.where, item.kind] += item.count
    return Traces(
        tuple((where, f"{n} {kind}{'s' * (n > 1)}") for (where, kind), n in counts.items()),
        found.unknown,
    )


def read_pins(root: HostRoot) -> tuple[str, ...]:
    """Return the names of the BPF objects that network plugins have pinned."""
    return tuple(name for directory in _PINS for name in _pins(root, directory))


def _pins(root: HostRoot, directory: str) -> Iterator[str]:
    for name in root.names(directory):
        if directory.endswith("cilium"):
            yield f"cilium/{name}"
        elif name.startswith(("cilium_", "cali_")):
            yield name


RUNNING = FactSource("kube-proxy", lambda subject: proxies_running(subject.host_proc).kube_proxy)
TRACES = FactSource("kube-proxy's leftovers", lambda _: read_traces(), limit_s=_LEFTOVERS_S)
# A container sees these, too: /sys shows the same objects there.
PINS = FactSource("BPF objects", lambda subject: read_pins(HostRoot(subject.root)))


def judge_own_tables(ruleset: Ruleset, running: str) -> Finding:
    """nfproxy takes its own tables over, whichever version made them; `running` has them."""
    known = {f"{family.table} {table}" for family in FAMILIES for table in OUR_TABLES}
    ours = [name for name in ruleset.tables if name in known]
    names = f"tables {', '.join(ours)}" if ours else ""
    if running:
        held = f"{names} and its listen addresses" if names else "its listen addresses"
        return ok(f"nfproxy runs here already ({running}), and has {held}")
    return ok(
        f"{names} are here already, and will be taken over" if ours else "no tables of nfproxy yet"
    )


@or_ok("no kube-proxy, and nothing left of one")
def judge_kube_proxy(
    running: str, traces: Traces | None, ports: Iterable[Port]
) -> Iterator[Finding]:
    """
    nfproxy replaces kube-proxy: both may run for a while, and not for long.

    `running` says where kube-proxy runs, "" where no process is visible. In a container none is,
    but kube-proxy answers at its ports. `traces` is None where nothing could be looked at.
    """
    answers = (f"it answers at {p.address}" for p in ports if p.holder.startswith("kube-proxy"))
    running = running or next(answers, "")
    places: dict[str, list[str]] = {}
    for where, what in traces.found if traces else ():
        places.setdefault(where, []).append(what)
    left = "; ".join(f"{where}: {', '.join(parts)}" for where, parts in places.items())
    if running:
        there = f"kube-proxy runs here ({running})"
        yield warn(f"{there}; {left}" if left else there, _SWITCH)
    elif left:
        yield warn(
            f"kube-proxy has been here: {left}",
            "`nfproxy cleanup --kube-proxy` removes it (with --dry-run it shows what)",
        )
    if traces is None:
        text = "what kube-proxy may have left could not be looked at"
        yield warn(text, "give this process the capability NET_ADMIN")
    for text in traces.unknown if traces else ():
        yield warn(text, "look there on the node")


#: By the beginning of an interface's name: a proxy that serves Services, and what to do.
_OTHERS = (
    (
        "bpfin.cali",
        fail(
            "Calico's eBPF dataplane is here, which serves Services itself",
            'calicoctl patch felixconfiguration default -p \'{"spec": {"bpfEnabled": false}}\'',
        ),
    ),
    (
        "kube-dummy-if",
        fail(
            "kube-router's service proxy is here (interface kube-dummy-if)",
            "run kube-router with --run-service-proxy=false, then kube-router --cleanup-config",
        ),
    ),
    (
        "ovn-k8s-mp",
        fail(
            "OVN-Kubernetes is here, which serves Services itself",
            "leave Services to it: nfproxy has no use beside it",
        ),
    ),
    (
        "antrea-gw0",
        warn(
            "Antrea is here; its AntreaProxy serves Services for pods, by default with proxyAll "
            "off for all else",
            "set featureGates.AntreaProxy to false, or leave Services to Antrea",
        ),
    ),
)


def judge_others(links: Iterable[Link], pins: Sequence[str]) -> list[Finding]:
    """No network plugin serves Services itself, which leaves nothing for nfproxy to do."""
    names = [link.name for link in links]
    found = [what for start, what in _OTHERS if any(name.startswith(start) for name in names)]
    if "cilium_host" in names or any("cilium" in pin for pin in pins):
        found.insert(0, _cilium(pins))
    return found or [
        ok("no other service proxy (Cilium, Calico eBPF, kube-router, OVN-Kubernetes, Antrea)")
    ]


def _cilium(pins: Sequence[str]) -> Finding:
    if any("socketlb" in pin or pin.startswith("cilium_lb4_reverse_sk") for pin in pins):
        return fail(
            "Cilium replaces kube-proxy here: its socket load balancer is attached",
            "set kubeProxyReplacement=false in Cilium, or leave Services to Cilium",
        )
    return warn(
        "Cilium is here; the node does not show whether it replaces kube-proxy",
        "`cilium-dbg status | grep KubeProxyReplacement` has to say False",
    )


def judge_node_local_dns(links: Iterable[Link], listing: TableListing | None) -> Finding:
    """
    The packets of NodeLocal DNSCache are left untracked.

    nat chains see no packet of an untracked connection. So the packets that the cache takes at the
    cluster IP of kube-dns go to the cache and not to a DNS pod.
    """
    cache = next((link for link in links if link.name == "nodelocaldns"), None)
    if cache is None:
        return ok("no NodeLocal DNSCache")
    untracked = listing.untracked if listing else ()
    addresses = [a for a in cache.addresses if not a.startswith(("169.254.", "fe80:"))]
    bypassing = [a for a in addresses if not any(a in line for line in untracked)]
    if not bypassing:
        return ok(f"NodeLocal DNSCache at {', '.join(cache.addresses) or 'no address'}")
    return warn(
        f"NodeLocal DNSCache has {', '.join(bypassing)}, and no rule is visible that leaves its "
        "connections untracked: nfproxy would send them to the DNS pods, past the cache",
        "run node-local-dns with -setupiptables (the default), or give pods its link-local "
        "address as nameserver (the kubelet's clusterDNS)",
    )


CHECKS = (
    Check("own-tables", judge_own_tables, (RULESET, RUNNING_HERE)),
    Check("kube-proxy", judge_kube_proxy, (RUNNING, IfKnown(TRACES), PORTS)),
    Check("other-proxies", judge_others, (LINKS, PINS)),
    Check("node-local-dns", judge_node_local_dns, (LINKS, IfKnown(LISTING))),
)
