"""
Which addresses and ports Services must not take: nfproxy's own, as far as the configuration says.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from nfproxy.config.addresses import cidr_list, split_address_port
from nfproxy.config.kubeproxy import KubeProxyConfiguration
from nfproxy.model.addresses import parse_address, parse_prefix
from nfproxy.model.node import Node
from nfproxy.model.nodeconfig import KeptAddresses, Listener


def kept_addresses(config: KubeProxyConfiguration, node: Node | None) -> KeptAddresses:
    """
    Return what follows from the configuration and the Node.

    The node's interfaces, and the API server, are not known here: :func:`with_host` adds them.
    """
    pods = [parse_prefix(text) for text in cidr_list(config.cluster_cidr)]
    pods += node.pod_cidrs if node else ()
    addresses = frozenset(node.addresses if node else ())
    return KeptAddresses(
        node_addresses=addresses,
        own_addresses=addresses,
        listeners=tuple(own_listeners(config)),
        # A range of length 0 says nothing about pods.
        pod_prefixes=tuple(prefix for prefix in dict.fromkeys(pods) if prefix.length),
    )


def own_listeners(config: KubeProxyConfiguration) -> Iterator[Listener]:
    """Yield where nfproxy itself serves pages."""
    for what, text in (
        ("its health page", config.healthz_bind_address),
        ("its metrics", config.metrics_bind_address),
    ):
        place = split_address_port(text)
        if place is not None and place[1].isdigit() and int(place[1]):
            address = parse_address(place[0])
            yield Listener(address if any(address) else b"", int(place[1]), what)


def with_host(
    kept: KeptAddresses,
    own_addresses: frozenset[bytes] = frozenset(),
    api_servers: frozenset[tuple[bytes, int]] = frozenset(),
) -> KeptAddresses:
    """Return the same with the addresses of the host's interfaces, and of the API servers."""
    return msgspec.structs.replace(
        kept,
        own_addresses=kept.own_addresses | own_addresses,
        api_servers=kept.api_servers | api_servers,
    )
