"""
Which local addresses accept node ports: what ``nodePortAddresses`` means on this node.

Source: kube-proxy 1.37, which accepts CIDRs and the words `primary`, `localhost` and `all` in any
mix. One difference: where `primary` stands for no address, kube-proxy accepts node ports on every
address. That would open them where the operator asked for one address, so nfproxy accepts none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nfproxy.config.addresses import ALL, LOCALHOST, LOOPBACK, PRIMARY, is_loopback
from nfproxy.model.addresses import FAMILIES, Family, Prefix, collapse, parse_prefix


class NodePortAddresses(msgspec.Struct, frozen=True):
    """
    The addresses that ``nodePortAddresses`` selects.

    `prefixes` are those of :class:`~nfproxy.model.nodeconfig.NodeConfig`. `loopback` are the
    families with an entry of their own for loopback addresses: `all` and 0.0.0.0/0 are none.
    """

    prefixes: dict[Family, tuple[Prefix, ...] | None]
    loopback: frozenset[Family]


def node_port_addresses(
    entries: Iterable[str],
    node_ips: Mapping[Family, bytes],
    warnings: list[str],
    *,
    serves_loopback: bool,
) -> NodePortAddresses:
    """
    Return what valid `entries` select on a node with these node IPs.

    A family that no entry mentions accepts node ports on every local address, as in kube-proxy;
    `warnings` says so, and where loopback entries have no effect (not `serves_loopback`).
    """
    words = [text.strip() for text in entries]
    prefixes = {family: _prefixes(words, family, node_ips) for family in FAMILIES}
    for family, own in prefixes.items():
        warnings += (
            f"nodePortAddresses: {prefix} is skipped; loopback addresses accept node ports only "
            "with the feature gate KubeProxyNFTablesLocalhostNodePorts"
            for prefix in own
            if _only_loopback(prefix) and not serves_loopback
        )
        if not own and PRIMARY not in words:
            warnings.append(
                f"nodePortAddresses: no {family.label} CIDR; {family.label} node ports are "
                "accepted on every local address"
            )
    has_primary = PRIMARY in words
    return NodePortAddresses(
        prefixes={f: _accepted(own, unmentioned=not has_primary) for f, own in prefixes.items()},
        loopback=frozenset(f for f, own in prefixes.items() if any(map(_only_loopback, own))),
    )


def _prefixes(
    words: Iterable[str], family: Family, node_ips: Mapping[Family, bytes]
) -> list[Prefix]:
    """Return the prefixes of a family that the entries stand for, in their order."""
    found = []
    for word in words:
        if word == PRIMARY:
            if family in node_ips:
                found.append(Prefix(node_ips[family], family.size * 8))
        elif word == LOCALHOST:
            found.append(LOOPBACK[family])
        elif word == ALL:
            found.append(Prefix(bytes(family.size), 0))
        elif (prefix := parse_prefix(word)).family is family:
            found.append(prefix)
    return found


def _accepted(own: list[Prefix], *, unmentioned: bool) -> tuple[Prefix, ...] | None:
    """Return disjoint prefixes without loopback; None for every local address."""
    if not own:
        return None if unmentioned else ()
    disjoint = tuple(collapse([prefix for prefix in own if not _only_loopback(prefix)]))
    return None if any(prefix.length == 0 for prefix in disjoint) else disjoint


def _only_loopback(prefix: Prefix) -> bool:
    return is_loopback(prefix.network)
