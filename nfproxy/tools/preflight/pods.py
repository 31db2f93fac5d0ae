"""The way to pods: ports of their bridge, and the size of packets."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nfproxy.host.routes import pod_links, read_links
from nfproxy.insight.nodefacts import NodeLink
from nfproxy.text import plural
from nfproxy.tools.preflight.examine import Check, FactSource
from nfproxy.tools.preflight.findings import Finding, or_ok, warn
from nfproxy.tools.preflight.network import ROUTES

_TUNNELS = frozenset({"vxlan", "geneve", "wireguard", "ipip", "ip6tnl", "sit", "gre", "ip6gre"})

NODE_LINKS = FactSource("interfaces of pods", lambda _: read_links())


@or_ok("each bridge port of a pod sends packets back to it, where there are any")
def judge_hairpin(links: Collection[NodeLink]) -> Iterator[Finding]:
    """
    A pod that a Service leads to itself gets its own packet back through its bridge port.

    A bridge in promiscuous mode gives all packets to the node, which sends them back as well.
    """
    pods = pod_links(links)
    for bridge in links:
        ports = [one for one in pods if one.master == bridge.index and one.hairpin is not None]
        lacking = sorted(one.name for one in ports if not one.hairpin)
        if lacking and not bridge.is_promiscuous:
            yield warn(
                f"bridge {bridge.name}: {len(lacking)} of {plural(len(ports), 'port')} of pods "
                f"without hairpin mode ({lacking[0]}, for one): a pod that a Service leads to "
                "itself gets no answer",
                "hairpinMode in the configuration of the CNI plug-in; for a pod that runs: "
                f"ip link set dev {lacking[0]} type bridge_slave hairpin on",
            )


@or_ok("pods send no larger packets than the way to other nodes takes")
def judge_packet_size(links: Collection[NodeLink], uplinks: Collection[str]) -> Iterator[Finding]:
    """
    No packet of a pod is too large for the way to other nodes: a tunnel, or the default route.

    What is too large is lost where packets say that they must not be divided, as TCP's do.
    """
    most = max((one.mtu for one in pod_links(links)), default=0)
    tunnels = [one for one in links if one.kind in _TUNNELS and one.mtu]
    for one in tunnels or [one for one in links if one.name in uplinks and one.mtu]:
        if most > one.mtu:
            yield warn(
                f"pods send packets of up to {most} bytes, and {one.name} takes {one.mtu}: "
                "connections over it may open and then stand still",
                f"let the CNI plug-in give pods an MTU of {one.mtu} or less",
            )


CHECKS = (
    Check("hairpin", judge_hairpin, (NODE_LINKS,)),
    Check("packet-size", judge_packet_size, (NODE_LINKS, ROUTES)),
)
