"""
Which local addresses accept node ports: what ``nodePortAddresses`` means on this node.

Source: kube-proxy 1.37, which accepts CIDRs and the words `primary`, `localhost` and `all` in any
mix. One difference: where `primary` stands for no address, kube-proxy accepts node ports on every
address. That would open them where the operator asked for one address, so nfproxy accepts none.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

import msgspec

from nfproxy.config.addresses import ALL, LOCALHOST, LOOPBACK, PRIMARY, is_loopback
from nfproxy.model.addresses import (
    FAMILIES,
    Family,
    Prefix,
    collapse,
    format_address,
    parse_prefix,
)

#: So many addresses a message names.
_MOST = 3
_LINK_LOCAL = {
    Family.IPV4: parse_prefix("169.254.0.0/16"),
    Family.IPV6: parse_prefix("fe80::/10"),
}


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


class NodePortGap(NamedTuple):
    """That node ports of a family are served nowhere on this host, and what to do about it."""

    what: str
    remedy: str


def node_port_gap(
    family: Family, prefixes: tuple[Prefix, ...] | None, local: Collection[bytes]
) -> NodePortGap | None:
    """
    Return what is wrong if no local address accepts node ports although the configuration says so.

    `prefixes` are those of a family in NodeConfig, `local` the addresses on this host's interfaces.
    Behind a 1:1 NAT the Node object has an address that is on no interface, and packets arrive with
    another one. None, too, where the configuration selects no address.
    """
    if not prefixes or any(address in prefix for prefix in prefixes for address in local):
        return None
    missing = _listing(_shown(prefix) for prefix in prefixes)
    return NodePortGap(
        f"nodePortAddresses: no interface of this host has an address in {missing}, so "
        f"{family.label} node ports and health check node ports are served nowhere",
        f"set nodePortAddresses to addresses of this host, such as {_usable(family, local)}; "
        "behind a 1:1 NAT, the kubelet's --node-ip should be one of them",
    )


def _usable(family: Family, local: Iterable[bytes]) -> str:
    usable = [a for a in sorted(local) if not is_loopback(a) and a not in _LINK_LOCAL[family]]
    return _listing(f"{format_address(a)}/{family.size * 8}" for a in usable) or "all"


def _shown(prefix: Prefix) -> str:
    is_address = prefix.length == prefix.family.size * 8
    return format_address(prefix.network) if is_address else str(prefix)


def _listing(texts: Iterable[str]) -> str:
    every = list(texts)
    return ", ".join([*every[:_MOST], *(["…"] if len(every) > _MOST else [])])
