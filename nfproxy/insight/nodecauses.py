"""What is wrong with the node's configuration, as far as Services suffer from it."""

from __future__ import annotations

from collections.abc import Iterator

from nfproxy.insight.diagnosis import Code, Diagnosis, ObjectField, Severity
from nfproxy.insight.sight import Sight
from nfproxy.model.addresses import Family, Prefix, format_address
from nfproxy.model.service import Service
from nfproxy.text import shown_name

_RESTART = "clusterCIDR, or detectLocalMode, of the configuration; then restart nfproxy"


def node_causes(sight: Sight, service: Service) -> Iterator[Diagnosis]:
    """Yield what is wrong with this node's configuration in the families of a Service."""
    if not sight.has_node and (service.internal_local or service.external_local):
        yield Diagnosis(
            Severity.NOTE,
            Code.UNKNOWN_NODE,
            f"the objects hold no Node {shown_name(sight.config.node_name)}: its zone, addresses "
            "and podCIDRs are unknown, and so is which endpoints are local",
            look=("kubectl get nodes", "name the node: --node NAME"),
            brief="the Node is not known",
        )
    for family in service.families if sight.has_config else ():
        yield from _pod_ranges(sight, family)


def _pod_ranges(sight: Sight, family: Family) -> Iterator[Diagnosis]:
    """Yield how the rules mistake clients for pods, or pods for other clients."""
    pods = sight.config.local_pods
    if not pods.exists(family):
        yield Diagnosis(
            Severity.NOTE,
            Code.NO_CLUSTER_CIDR,
            f"nfproxy does not know the {family.label} range of pods: connections to a cluster IP "
            "keep their source, and outside clients of a cluster IP may get no answer",
            look=(_RESTART,),
            family=family.label,
            brief="clusterCIDR is empty",
        )
        return
    prefix = pods.prefixes.get(family)
    if prefix is None:
        return
    for own in (pods.own or {}).get(family, ()):
        if not _holds(prefix, own):
            yield Diagnosis(
                Severity.WARN,
                Code.CLUSTER_CIDR_MISSES_PODS,
                f"clusterCIDR {prefix} does not hold this node's podCIDR {own}: its pods count as "
                "outside clients, and endpoints see the node's address instead of theirs",
                look=(_RESTART,),
                about=ObjectField("Node", "", sight.config.node_name, "spec.podCIDRs"),
                family=family.label,
                brief="clusterCIDR misses this node's pods",
            )
    held = [address for address in sorted(sight.config.kept.node_addresses) if address in prefix]
    if held:
        yield Diagnosis(
            Severity.WARN,
            Code.CLUSTER_CIDR_HOLDS_NODE,
            f"the range of pods {prefix} holds this node's address {format_address(held[0])}: "
            "nodes count as pods, get no source NAT, and answers to them may get lost",
            look=(_RESTART,),
            about=ObjectField("Node", "", sight.config.node_name, "status.addresses"),
            family=family.label,
            brief="clusterCIDR holds this node",
        )


def _holds(outer: Prefix, inner: Prefix) -> bool:
    return inner.network in outer and inner.last in outer
