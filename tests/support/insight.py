"""What the engine of ``nfproxy explain`` sees, from objects as the API writes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import yaml

from nfproxy.config.flags import Flags
from nfproxy.config.load import load
from nfproxy.config.nodeconfig import node_config
from nfproxy.insight.explain import explain
from nfproxy.insight.explanation import Explanation
from nfproxy.insight.question import parse_question
from nfproxy.insight.sight import Sight
from nfproxy.kube.cache import ObjectCache
from nfproxy.kube.details import ObjectDetails
from nfproxy.kube.identity import Kind
from nfproxy.plan.planner import Planner
from nfproxy.tools.lab import Namespace

SHOP = Path(__file__).parents[1] / "golden/explain/shop.yaml"
_KINDS = {kind.word: kind for kind in Kind}


def shop() -> list[dict[str, Any]]:
    """Return the objects of a cluster with a Service for each common mistake."""
    return list(yaml.safe_load_all(SHOP.read_text("utf-8")))


def sight(
    *objects: dict[str, Any],
    node: str = "node-1",
    is_complete: bool = True,
    **flags: str,
) -> Sight:
    """Return what the engine sees of objects, planned for a node."""
    cache, details = ObjectCache(node), ObjectDetails()
    for one in objects:
        kind, data = _KINDS[one["kind"]], msgspec.json.encode(one)
        cache.put(kind, data)
        details.add(kind, data)
    changes = cache.take()
    flags.setdefault("cluster_cidr", "10.244.0.0/16,fd00:10:244::/48")
    config, _ = node_config(load(Flags.of(**flags)).config, node, changes.node)
    planner = Planner(config)
    planner.apply(changes)
    return Sight(planner, details, cache.problems, is_complete, changes.node is not None)


def give_node_routes(namespace: Namespace) -> None:
    """Give a namespace what a node has: loopback, its address, forwarding, routes to pods."""
    for words in (
        "link set lo up",
        "link add pods type veth peer name far",
        "link set pods up",
        "link set far up",
        "address add 192.168.77.11/24 dev pods",
        "route add 10.244.0.0/16 dev pods",
    ):
        namespace.run(["ip", *words.split()])
    namespace.set_sysctls({"ipv4/ip_forward": "1"})


def explained(what: str, seen: Sight) -> Explanation:
    """Return the answer to a question in the namespace ``default``."""
    return explain(seen, parse_question(what))


def codes(explanation: Explanation) -> list[str]:
    """Return what it found, the worst first: ``fail NoSlices``."""
    return [f"{one.level.value} {one.code.value}" for one in explanation.findings]


def changed(objects: Iterable[dict[str, Any]], name: str, **spec: Any) -> list[dict[str, Any]]:
    """Return objects, the Service `name` with other fields in its spec."""
    return [
        one | {"spec": one["spec"] | spec}
        if one["kind"] == "Service" and one["metadata"]["name"] == name
        else one
        for one in objects
    ]
